//! `tocyn-relay backup` and `restore`.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tocyn_durable::names::Batch;
use tocyn_service::backup::{
    Backup, DatabaseKind, LogPart, Manifest, NewBackup, copy_sqlite, is_unused, link_or_copy,
    make_empty, pairing_id, refuse_leftovers,
};
use tocyn_service::config::Places;
use tocyn_service::database::Database;
use tocyn_service::output::print;

use super::{CliResult, Settings};
use crate::Clock;
use crate::bundles::{self, Folder};
use crate::data_dir::{DataDir, read_pairing};
use crate::restored::Restored;
use crate::store::{LogRange, Store, StoreError};

/// Names in a backup, whatever the settings call them.
const DATABASE: &str = "relay.sqlite";
const LOG: &str = "log";
/// Names in a backup and in a data folder.
const CONFIG: &str = "config.toml";
const PAIRING: &str = "pairing.toml";
const LOG_KEY: &str = "log.key";
/// Whose signature sealed files have, beside them.
const KEY: &str = "key";

/// Where a backup goes to.
const EMPTY_HINT: &str = "; give --data a folder that is not there or empty";

/// Writes a complete copy into a new folder, beside a running relay.
pub(super) async fn backup(data: &DataDir, settings: Settings, to: &Path, now: u64) -> CliResult {
    let pairing = data.pairing()?;
    let Settings { config, database } = &settings;
    let kind = kind(database);
    let source = Store::look_at(database).await?;
    let mut backup = NewBackup::create(to, Manifest::new("relay", &pairing, kind, now))?;
    if data.config_path().exists() {
        backup.copy(&data.config_path())?;
    }
    let from = settings.log_folder(data).map(|path| Folder::new(path, config.cell_bytes));
    let into = Folder::new(backup.file(LOG), config.cell_bytes);
    // Twice: what retention drops after the database was copied would be gone the second time, and
    // what is sealed before it was copied would not be there the first time.
    link(from.as_ref(), &into, source.sealed().await?)?;
    let copy = match database {
        Database::Sqlite(path) => {
            copy_sqlite(path, &backup.file(DATABASE)).await?;
            Store::look_at(&Database::Sqlite(backup.file(DATABASE))).await?
        }
        Database::Postgres(_) => source.clone(),
    };
    let sealed = copy.sealed().await?;
    link(from.as_ref(), &into, sealed.clone())?;
    if into.path().exists() {
        into.clean(sealed.start)?;
    }
    let LogRange { oldest, head } = copy.range().await?;
    let checked = match kind {
        DatabaseKind::Sqlite => check(&copy, (!sealed.is_empty()).then_some(&into)).await,
        DatabaseKind::Postgres => check_files(&source, &into, sealed.clone()).await,
    };
    copy.close().await;
    source.close().await;
    checked.map_err(|error| format!("{}: this is no backup: {error}", to.display()))?;
    if kind == DatabaseKind::Sqlite {
        backup.add(DATABASE)?;
    }
    backup.copy(&data.secret_file(PAIRING))?;
    backup.copy(&data.log_key_path())?;
    let log = LogPart {
        oldest,
        head,
        cell_bytes: config.cell_bytes as u64,
        sealed_from: sealed.start,
        sealed_to: sealed.end,
    };
    let bytes = backup.finish(&data.pairing()?, Some(log))?;
    print(format_args!(
        "{}: messages {oldest} to {head}, checked\n\
         {bytes} bytes, and {} files of sealed messages",
        to.display(),
        sealed.end - sealed.start
    ))?;
    if kind == DatabaseKind::Postgres {
        print(format_args!(
            "{database} is not in it: take it with pg_basebackup, or pg_dump from a standby, right \
             before this command, so that what is sealed meanwhile is in both"
        ))?;
    }
    print("it holds secrets, and is on this disk: copy it, encrypted, to another place")?;
    Ok(())
}

fn kind(database: &Database) -> DatabaseKind {
    if database.is_shared() { DatabaseKind::Postgres } else { DatabaseKind::Sqlite }
}

/// Gives the files of these bundles a second name, but for those that are gone.
fn link(from: Option<&Folder>, to: &Folder, sealed: Range<u64>) -> CliResult {
    let Some(from) = from.filter(|_| !sealed.is_empty()) else { return Ok(()) };
    let mut names = Batch::default();
    link_or_copy(&mut names, &from.path().join(KEY), &to.path().join(KEY))?;
    for bundle in sealed {
        link_or_copy(&mut names, &from.bundle_path(bundle), &to.bundle_path(bundle))?;
    }
    Ok(names.sync().map_err(|error| format!("{}: {error}", to.path().display()))?)
}

/// What is wrong with a copy: all of it is read.
async fn check(store: &Store, folder: Option<&Folder>) -> Result<(), StoreError> {
    let mut faults = store.check().await?;
    faults.extend(bundles::check(store, folder).await?);
    if faults.is_empty() {
        return Ok(());
    }
    let database = store.file().map_or_else(String::new, |file| file.display().to_string());
    Err(StoreError::Open { database, reason: format!("it is damaged:\n{}", faults.join("\n")) })
}

/// The same where the log goes on in a database that is not copied: whether files are missing that
/// were not dropped meanwhile.
async fn check_files(store: &Store, folder: &Folder, sealed: Range<u64>) -> Result<(), StoreError> {
    let mut missing = folder.missing(sealed)?;
    let now = store.sealed().await?;
    missing.retain(|bundle| now.contains(bundle));
    match missing.first() {
        None => Ok(()),
        Some(first) => Err(StoreError::Open {
            database: folder.bundle_path(*first).display().to_string(),
            reason: "it could not be copied; `tocyn-relay doctor` says what is missing".to_owned(),
        }),
    }
}

/// Makes a data folder of a backup.
pub(super) async fn restore(
    data: &DataDir,
    explicit: Option<PathBuf>,
    database: Option<&str>,
    from: &Path,
    clock: &Clock,
) -> CliResult {
    let backup = Backup::open(from, "relay")?;
    if !is_unused(data.path())? {
        return Err(format!(
            "{}: it is not empty{EMPTY_HINT}. What a restore that failed has left may be removed",
            data.path().display()
        )
        .into());
    }
    let manifest = backup.manifest();
    let log = manifest.log.ok_or("backup.toml does not say which messages there are")?;
    // As they will be: config.toml comes out of the backup.
    let settings = Settings::read(data, &Places::new("relay", explicit, from), database)?;
    if kind(&settings.database) != manifest.database {
        return Err(format!(
            "the database of the backup is not where the settings say ({}): set database.url as it \
             was; a log moves from SQLite to PostgreSQL with `db copy` after the restore",
            settings.database
        )
        .into());
    }
    let from_log = Folder::new(from.join(LOG), log.cell_bytes as usize);
    let to_log = settings.log_folder(data);
    let to_log = to_log.map(|path| Folder::new(path, log.cell_bytes as usize));
    let sealed = log.sealed_from..log.sealed_to;
    let to_log = match to_log.filter(|_| !sealed.is_empty()) {
        Some(folder) if is_unused(folder.path())? => Some(folder),
        // Files that other relays use: it is the database's restore that decides what must be there.
        Some(_) if settings.database.is_shared() => None,
        Some(folder) => {
            return Err(
                format!("{}: it is not empty; move it away", folder.path().display()).into()
            );
        }
        None => None,
    };
    if let Database::Sqlite(path) = &settings.database {
        refuse_leftovers(path)?;
    }
    if clock() < manifest.made_at {
        return Err(
            "this machine's clock is before the time of the backup; set it right first, or \
            pairings that the lost relay served with would be taken for new ones"
                .into(),
        );
    }
    let missing = from_log.missing(sealed.clone())?;
    if let (Some(first), true) = (missing.first(), to_log.is_some()) {
        return Err(format!(
            "{}: {} files of sealed messages are missing, this the first; use another backup",
            from_log.bundle_path(*first).display(),
            missing.len()
        )
        .into());
    }

    make_empty(data, EMPTY_HINT)?;
    let mut restored = Restored {
        pairing_id: manifest.pairing_id.clone(),
        restored_at: clock().max(manifest.made_at),
        backup_made: manifest.made.clone(),
        database: manifest.database,
        complete: false,
        allowed: None,
    };
    // Before anything else: a folder without it may be taken for a relay's, or for an empty one.
    restored.write(&data.restored_path())?;
    let _lock = data.lock()?;
    if backup.has(CONFIG) {
        backup.copy_out(CONFIG, &data.config_path())?;
    }
    backup.copy_out(LOG_KEY, &data.log_key_path())?;
    if let Some(to_log) = &to_log {
        link(Some(&from_log), to_log, sealed.clone())?;
    }
    if let Database::Sqlite(path) = &settings.database {
        backup.copy_out_whole(DATABASE, path)?;
        let store = Store::look_at(&settings.database).await?;
        let checked = check(&store, to_log.as_ref()).await;
        store.close().await;
        checked.map_err(|error| format!("use another backup: {error}"))?;
    }
    backup.copy_out(PAIRING, &data.pairing_path())?;
    let pairing = read_pairing(&data.pairing_path())?;
    if pairing_id(&pairing) != restored.pairing_id {
        return Err(
            format!("{}: this is not the pairing that backup.toml names", from.display()).into()
        );
    }
    // Pairings made from now on are told from earlier ones by the second.
    if clock() == restored.restored_at {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    restored.complete = true;
    restored.write(&data.restored_path())?;
    print(format_args!(
        "{}: messages {} to {}, as of {}",
        data.path().display(),
        log.oldest,
        log.head,
        manifest.made
    ))?;
    if manifest.database == DatabaseKind::Postgres {
        let database = &settings.database;
        print(format_args!("{database} is as you left it; only files were restored"))?;
        if to_log.is_none() && !sealed.is_empty() {
            print(format_args!(
                "sealed messages were left as they are; `tocyn-relay db check` says if files are \
                 missing, and {} has those of the backup",
                from_log.path().display()
            ))?;
        }
    }
    let refusal = restored.refusal(&pairing).unwrap_or_default();
    Ok(print(format_args!("it does not serve yet: {refusal}"))?)
}
