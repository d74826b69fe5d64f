//! `tocyn-issuer db`.

use std::io::Write;

use super::own::check_there;
use super::{CliResult, Settings};
use crate::data_dir::DataDir;
use crate::store::{Copying, Stats, Store, StoreError};
use tocyn_service::database::Database;
use tocyn_service::output::{print, stdout};

#[derive(clap::Subcommand)]
pub(super) enum DbCommand {
    /// Make or update the tables, as `serve` does when it starts.
    Migrate,
    /// Look for damage: reads all of the database. Beside a running issuer it takes time from it.
    Check,
    /// Show how much is in the database.
    Stats {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Move the vouchers of this stopped issuer from SQLite to an empty PostgreSQL database.
    Copy {
        /// Where to: postgres://USER@HOST/DATABASE.
        #[arg(long, value_name = "URL")]
        to: String,
    },
}

impl DbCommand {
    pub(super) async fn run(self, data: &DataDir, settings: Settings, now: u64) -> CliResult {
        let database = &settings.database;
        // A file has one owner; a server is looked at beside the issuers that it serves.
        let _lock = match self {
            Self::Migrate | Self::Copy { .. } if !database.is_shared() => Some(data.lock()?),
            _ => None,
        };
        check_there(data, database)?;
        match self {
            Self::Migrate => migrate(database).await,
            Self::Check => check(Store::open(database).await?, database).await,
            Self::Stats { json } => stats(Store::open(database).await?, json).await,
            Self::Copy { to } => copy(database, &to, now).await,
        }
    }
}

async fn migrate(database: &Database) -> CliResult {
    Store::open(database).await?.close().await;
    Ok(print(format_args!("{database}: the tables are up to date"))?)
}

async fn check(store: Store, database: &Database) -> CliResult {
    let faults = store.check().await?;
    store.close().await;
    if faults.is_empty() {
        return Ok(print(format_args!("{database}: no fault found"))?);
    }
    print(faults.join("\n"))?;
    Err(format!(
        "{database}: see above. Where the tables are damaged, restore them from a backup and renew \
         the pairing, or start with a new database"
    )
    .into())
}

async fn stats(store: Store, json: bool) -> CliResult {
    let stats = store.stats().await?;
    store.close().await;
    if json {
        return Ok(print(serde_json::to_string(&stats)?)?);
    }
    let Stats { vouchers, granted, left, charges, closed_below, bytes, wal_bytes } = stats;
    let mut out = stdout();
    writeln!(out, "vouchers      {vouchers}")?;
    writeln!(out, "tokens        {granted} granted, {left} left")?;
    writeln!(out, "charges       {charges}")?;
    writeln!(out, "closed below  epoch {closed_below}")?;
    writeln!(out, "on disk       {bytes} bytes of tables")?;
    writeln!(out, "              {wal_bytes} bytes of write-ahead log")?;
    Ok(())
}

async fn copy(from: &Database, to: &str, now: u64) -> CliResult {
    let Database::Sqlite(path) = from else {
        return Err(format!("{from} is not SQLite; moves go from SQLite to PostgreSQL").into());
    };
    let target = Database::parse(to, Default::default())?;
    let Database::Postgres(server) = &target else {
        return Err("--to: give postgres://USER@HOST/DATABASE".into());
    };
    let store = Store::open_to_move(path).await?;
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
                "{from} was moved to {target} before, and its vouchers were used there since\n\
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
        "{} vouchers and {} charges are now in {target}\n\
         SHA-256 of all of them, the same on both sides: {}\n\
         now set database.url in config.toml; {from} is not served any more",
        copied.vouchers, copied.charges, copied.digest
    ))?;
    Ok(())
}
