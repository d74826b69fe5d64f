//! `tocyn-relay db`.

use std::io::Write;

use super::{CliResult, Settings};
use crate::alone::{self, Alone};
use crate::bundles::{self, Folder};
use crate::data_dir::DataDir;
use crate::restored::Restored;
use crate::store::{Copying, LogRange, NOTHING_YET, Stats, Store, StoreError};
use tocyn_service::database::Database;
use tocyn_service::output::{print, stdout};

#[derive(clap::Subcommand)]
pub(super) enum DbCommand {
    /// Make or update the tables, as `serve` does when it starts.
    Migrate,
    /// Look for damage: reads all of the database. Beside a running relay it takes time from it.
    Check,
    /// Show how much is in the database.
    Stats {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Delete the oldest messages by hand, from the database and from the sealed files.
    Drop {
        /// The first message to keep.
        #[arg(long, value_name = "SEQ")]
        before: u64,
    },
    /// Move the log of this stopped relay from SQLite to an empty PostgreSQL database.
    Copy {
        /// Where to: postgres://USER@HOST/DATABASE.
        #[arg(long, value_name = "URL")]
        to: String,
    },
}

impl DbCommand {
    pub(super) async fn run(self, data: &DataDir, settings: Settings, now: u64) -> CliResult {
        let database = &settings.database;
        let cell_bytes = settings.config.cell_bytes;
        let folder = settings.log_folder(data).map(|path| Folder::new(path, cell_bytes));
        // A file has one owner; a server is looked at beside the relays that it serves.
        let _lock = match self {
            Self::Migrate | Self::Copy { .. } | Self::Drop { .. } if !database.is_shared() => {
                Some(data.lock()?)
            }
            _ => None,
        };
        let _alone = match self {
            Self::Copy { .. } => check_own(data, database, true).await?,
            Self::Drop { .. } => check_own(data, database, false).await?,
            _ => None,
        };
        if let (Self::Copy { .. }, Some(restored)) = (&self, Restored::read(&data.restored_path())?)
            && let Some(refusal) = restored.refusal(&data.pairing()?)
        {
            return Err(refusal.into());
        }
        match self {
            Self::Migrate => migrate(database).await,
            Self::Check => check(Store::look_at(database).await?, folder.as_ref(), database).await,
            Self::Stats { json } => stats(Store::look_at(database).await?, json).await,
            Self::Drop { before } => {
                drop_before(Store::look_at(database).await?, before, folder).await
            }
            Self::Copy { to } => copy(database, &to, folder.as_ref(), now).await,
        }
    }
}

async fn migrate(database: &Database) -> CliResult {
    let done = if Store::migrate(database).await? { "are now" } else { "were" };
    Ok(print(format_args!("{database}: the tables {done} up to date"))?)
}

async fn check(store: Store, folder: Option<&Folder>, database: &Database) -> CliResult {
    let mut faults = store.check().await?;
    faults.extend(bundles::check(&store, folder).await?);
    store.close().await;
    if faults.is_empty() {
        return Ok(print(format_args!("{database}: no fault found"))?);
    }
    print(faults.join("\n"))?;
    Err(format!(
        "{database}: see above. Where the tables are damaged, restore them from a backup and renew \
         the pairing, or start with a new database. Sealed files that are damaged or missing can be \
         restored by themselves; or go on without them, with `tocyn-relay db drop`"
    )
    .into())
}

async fn stats(store: Store, json: bool) -> CliResult {
    let stats = store.stats().await?;
    store.close().await;
    if json {
        return Ok(print(serde_json::to_string(&stats)?)?);
    }
    let Stats { oldest, head, blocks, bundles, cell_bytes, closed_below, spent, .. } = stats;
    let (mut out, count) = (stdout(), head + 1 - oldest);
    writeln!(out, "messages      {count} of {cell_bytes} bytes, {oldest} to {head}")?;
    writeln!(out, "sealed        {bundles} bundles of 256 in files")?;
    writeln!(out, "blocks        {blocks}")?;
    writeln!(out, "closed below  epoch {closed_below}")?;
    for epoch in spent {
        writeln!(out, "spent         {} in epoch {}", epoch.tokens, epoch.epoch)?;
    }
    writeln!(out, "on disk       {} bytes of tables", stats.bytes)?;
    writeln!(out, "              {} bytes of write-ahead log", stats.wal_bytes)?;
    writeln!(out, "              {} bytes of sealed files", stats.sealed_bytes)?;
    Ok(())
}

/// Refuses a database that is not this relay's, and one whose relay runs with another data folder.
async fn check_own(
    data: &DataDir,
    database: &Database,
    is_moving: bool,
) -> CliResult<Option<Alone>> {
    let pairing = data.pairing()?;
    let alone = match database.is_shared() {
        true => None,
        false => Some(alone::take(&pairing)?),
    };
    let store = match is_moving && !database.is_shared() {
        true => Store::open_to_move(database).await,
        false => Store::look_at(database).await,
    };
    let store = match store {
        Ok(store) => store,
        Err(StoreError::Open { reason, .. }) if reason == NOTHING_YET => return Ok(alone),
        Err(error) => return Err(error.into()),
    };
    let signed = store.key().await;
    store.close().await;
    let own = match data.log_key_path().exists() {
        true => Some(data.log_key(pairing.origin_name())?.verifier().to_string()),
        false => None,
    };
    match signed? {
        Some(signed) if own.as_ref() != Some(&signed) => Err(format!(
            "{database}: its log is signed with the key {signed}, which is not log.key in {}; nothing \
             was changed. Give --data the data folder of this log, or set database.url right",
            data.path().display()
        )
        .into()),
        _ => Ok(alone),
    }
}

/// Rows first, files after that.
async fn drop_before(store: Store, before: u64, folder: Option<Folder>) -> CliResult {
    let dropped = store.trim(before, 0..=u64::MAX).await?;
    let LogRange { oldest, head } = store.range().await?;
    let (first, key) = (store.sealed().await?.start, store.key().await?);
    store.close().await;
    print(format_args!("{dropped} messages were deleted; {oldest} to {head} are kept"))?;
    if oldest < before {
        print(format_args!(
            "those before {before} share a block or a sealed file with one that stays"
        ))?;
    }
    match folder {
        // None: nothing was ever sealed there, or it is not mounted.
        Some(folder) if key.is_some() && folder.key()? == key => folder.clean(first)?,
        Some(folder) => print(format_args!(
            "no files were removed: {} is not the folder of this log, or not mounted; a relay that \
             starts with that removes them",
            folder.path().display()
        ))?,
        None if first > 0 => print(
            "if there are files of them, they remain until a relay starts with the log.folder that \
             they are in",
        )?,
        None => {}
    }
    Ok(())
}

async fn copy(from: &Database, to: &str, folder: Option<&Folder>, now: u64) -> CliResult {
    if from.is_shared() {
        return Err(format!("{from} is not SQLite; moves go from SQLite to PostgreSQL").into());
    }
    let target = Database::parse(to, Default::default())?;
    let Database::Postgres(server) = &target else {
        return Err("--to: give postgres://USER@HOST/DATABASE".into());
    };
    let store = Store::open_to_move(from).await?;
    let sealed = store.sealed().await?;
    if let Some(folder) = folder.filter(|_| !sealed.is_empty()) {
        let missing = folder.missing(sealed.clone())?;
        if let Some(first) = missing.first() {
            let path = folder.bundle_path(*first);
            let what = "this file of sealed messages is not there, or has another length";
            return Err(
                format!("{}: {what}; `tocyn-relay serve` says what to do", path.display()).into()
            );
        }
    }
    let again = |error| match error {
        StoreError::Open { .. } => error.to_string(),
        error => format!("{error}\nrun the same command again: it finds out how far it came"),
    };
    let copied = match store.move_to(server, now).await.map_err(again)? {
        Copying::Done(copied) => copied,
        Copying::DoneBefore(copied) => {
            print("an earlier copy was complete")?;
            copied
        }
        Copying::GoneOn => {
            print(format_args!(
                "{from} was moved to {target} before, and the log has gone on there\n\
                 set database.url in config.toml; {from} is not served any more"
            ))?;
            return Ok(());
        }
        Copying::Elsewhere(before) => {
            return Err(format!(
                "{from} was moved to {before} before, or the move was begun; give that one"
            )
            .into());
        }
        Copying::NotEmpty => {
            return Err(format!("{target} is not empty; give an empty database").into());
        }
        Copying::Differs => {
            let text = "what was written does not read back as it was; nothing was kept there";
            return Err(format!("{target}: {text}, and {from} may be served as before").into());
        }
    };
    store.close().await;
    print(format_args!(
        "{} messages and {} spent tokens are now in {target}\n\
         SHA-256 of all of them, the same on both sides: {}\n\
         now set database.url in config.toml; {from} is not served any more",
        copied.messages, copied.spent, copied.digest
    ))?;
    if let Some(folder) = folder.filter(|_| !sealed.is_empty()) {
        print(format_args!(
            "and set log.folder there, to where {} is or to a copy of it that all relays share: \
             the messages that are sealed stay in its files",
            folder.path().display()
        ))?;
    }
    Ok(())
}
