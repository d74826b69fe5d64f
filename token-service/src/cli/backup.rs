//! `tocyn-issuer backup` and `restore`.

use std::path::{Path, PathBuf};

use tocyn_durable::names;
use tocyn_service::backup::{
    Backup, DatabaseKind, Manifest, NewBackup, copy_sqlite, is_unused, make_empty, pairing_id,
    refuse_leftovers,
};
use tocyn_service::config::Places;
use tocyn_service::database::Database;
use tocyn_service::folder::{create, pairing_text, replace};
use tocyn_service::output::print;

use super::pairing::renewed;
use super::{CREDENTIAL, CliResult, Settings};
use crate::Clock;
use crate::data_dir::DataDir;
use crate::store::Store;

/// Its name in a backup, whatever the settings call it.
const DATABASE: &str = "issuer.sqlite";
/// Names in a backup and in a data folder.
const CONFIG: &str = "config.toml";
const PAIRING: &str = "pairing.toml";

/// Where a backup goes to.
const EMPTY_HINT: &str = "; give --data a folder that is not there or empty";

/// Writes a complete copy into a new folder, beside a running issuer.
pub(super) async fn backup(data: &DataDir, settings: Settings, to: &Path, now: u64) -> CliResult {
    let pairing = data.pairing()?;
    let database = &settings.database;
    let source = Store::look_at(database).await?;
    let mut backup = NewBackup::create(to, Manifest::new("issuer", &pairing, kind(database), now))?;
    if data.config_path().exists() {
        backup.copy(&data.config_path())?;
    }
    let mut vouchers = None;
    if let (Some(source), Database::Sqlite(path)) = (&source, database) {
        copy_sqlite(path, &backup.file(DATABASE)).await?;
        vouchers = Some(check(&backup.file(DATABASE)).await?);
        backup.add(DATABASE)?;
        source.close().await;
    }
    if data.file(CREDENTIAL).exists() {
        backup.copy(&data.file(CREDENTIAL))?;
    }
    backup.copy(&data.secret_file(PAIRING))?;
    let bytes = backup.finish(&data.pairing()?, None)?;
    match vouchers {
        Some(vouchers) => print(format_args!("{}: {vouchers} vouchers, checked", to.display()))?,
        None => print(format_args!("{}: settings and pairing", to.display()))?,
    }
    print(format_args!("{bytes} bytes"))?;
    if database.is_shared() {
        print(format_args!(
            "{database} is not in it: take it with pg_basebackup, or pg_dump from a standby"
        ))?;
    }
    print("it holds secrets, and is on this disk: copy it, encrypted, to another place")?;
    Ok(())
}

fn kind(database: &Database) -> DatabaseKind {
    if database.is_shared() { DatabaseKind::Postgres } else { DatabaseKind::Sqlite }
}

/// Reads all of a copy; gives the vouchers in it.
async fn check(file: &Path) -> Result<u64, Box<dyn std::error::Error>> {
    let store = Store::look_at(&Database::Sqlite(file.to_owned())).await?;
    let store = store.ok_or_else(|| format!("{}: it is empty", file.display()))?;
    let (faults, stats) = (store.check().await, store.stats().await);
    store.close().await;
    match faults? {
        faults if faults.is_empty() => Ok(stats?.vouchers),
        faults => {
            let text = format!("{}: it is damaged:\n{}", file.display(), faults.join("\n"));
            Err(text.into())
        }
    }
}

/// Makes a data folder of a backup, with a new pairing: vouchers have the balance of then, and what
/// was bought with them since must not be worth anything.
pub(super) async fn restore(
    data: &DataDir,
    explicit: Option<PathBuf>,
    database: Option<&str>,
    from: &Path,
    keep_pairing: bool,
    clock: &Clock,
) -> CliResult {
    let backup = Backup::open(from, "issuer")?;
    if !is_unused(data.path())? {
        return Err(format!(
            "{}: it is not empty{EMPTY_HINT}. What a restore that failed has left may be removed",
            data.path().display()
        )
        .into());
    }
    let manifest = backup.manifest();
    // As they will be: config.toml comes out of the backup.
    let settings = Settings::read(data, &Places::new("issuer", explicit, from), database)?;
    if kind(&settings.database) != manifest.database {
        return Err(format!(
            "the database of the backup is not where the settings say ({}): set database.url as it \
             was; vouchers move from SQLite to PostgreSQL with `db copy` after the restore",
            settings.database
        )
        .into());
    }
    if let Database::Sqlite(path) = &settings.database {
        refuse_leftovers(path)?;
    }
    make_empty(data, EMPTY_HINT)?;
    create(&data.restoring_path(), b"")?;
    let _lock = data.lock()?;
    for name in [CONFIG, CREDENTIAL] {
        if backup.has(name) {
            backup.copy_out(name, &data.file(name))?;
        }
    }
    if let (Database::Sqlite(path), true) = (&settings.database, backup.has(DATABASE)) {
        backup.copy_out_whole(DATABASE, path)?;
        check(path).await?;
    }
    let keep = keep_pairing || settings.database.is_shared();
    let kept = match keep {
        true => data.file("pairing.toml.restoring"),
        false => data.file(&format!("{PAIRING}.old-{}", clock())),
    };
    backup.copy_out(PAIRING, &kept)?;
    let old = data.pairing_at(&kept)?;
    if pairing_id(&old) != manifest.pairing_id {
        return Err(
            format!("{}: this is not the pairing that backup.toml names", from.display()).into()
        );
    }
    if keep {
        names::rename(&kept, &data.pairing_path())?;
    } else {
        let pairing = renewed(&old, clock)?.0;
        // Whichever file another place still hands to `serve`: the database takes the new one only.
        let store = Store::open(&settings.database).await?;
        store.bind(&old).await?;
        store.bind(&pairing).await?;
        store.close().await;
        replace(&data.pairing_path(), pairing_text(&pairing).as_bytes())?;
    }
    names::remove_file(&data.restoring_path())?; // until here it is of no use

    print(format_args!("{}: as of {}", data.path().display(), manifest.made))?;
    let pairing = data.pairing_path();
    match (settings.database.is_shared(), keep) {
        (true, _) => print(format_args!(
            "{} is as you left it; only files were restored. If it was restored too, or a standby \
             took over, run `tocyn-issuer pairing renew` before anything is served",
            settings.database
        ))?,
        (false, true) => print(
            "the pairing is as it was. If an issuer has served since the backup, that is wrong: run \
             `tocyn-issuer pairing renew` before anything is served",
        )?,
        (false, false) => print(format_args!(
            "the pairing is a new one, the old one is {}: now bring {} to the relay's machine, run \
             `tocyn-relay pairing install FILE` there, and start both. Tokens handed out so far are \
             void; vouchers have the balance of then",
            kept.display(),
            pairing.display()
        ))?,
    }
    Ok(())
}
