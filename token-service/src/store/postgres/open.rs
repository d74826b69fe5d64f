//! Opens the database and ties it to a pairing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, Row};

use super::{BEGIN, Inner, PostgresStore, StoreError, in_time};
use crate::store::NEW_PAIRING;
use crate::store::bound::{self, Bound, Change};
use tocyn_service::database::Database;

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("./migrations/postgres");

/// The oldest server that is tested.
const MIN_VERSION: i32 = 150_000;
/// Connections of one issuer: one that charges, and some that look vouchers up.
const CONNECTIONS: u32 = 6;
/// How long to wait for one of them. While the server is down, the pool tries again until then.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

impl PostgresStore {
    pub(in crate::store) async fn open(server: &PgConnectOptions) -> Result<Self, StoreError> {
        let refuse = |reason: String| refusal(server, reason);
        let mut connection = connect(server).await?;
        check_server(&mut connection).await.map_err(refuse)?;
        migrate(&mut connection).await.map_err(refuse)?;
        drop(connection);
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(server.clone());
        Ok(Self(Arc::new(Inner { pool, bound: Default::default() })))
    }

    /// How the tables are. Nothing is changed.
    pub(in crate::store) async fn tables(server: &PgConnectOptions) -> Result<Tables, StoreError> {
        let refuse = |reason: String| refusal(server, reason);
        let mut connection = connect(server).await?;
        check_server(&mut connection).await.map_err(refuse)?;
        state(&mut connection).await.map_err(refuse)
    }

    /// What it is bound to, and which ids of `asked` are retired.
    pub(in crate::store) async fn bound(
        &self,
        asked: &Bound,
    ) -> Result<(bound::Stored, Vec<Vec<u8>>), StoreError> {
        in_time(async {
            let mut lent = self.lend().await?;
            let stored = sqlx::query_as(bound::STORED).fetch_one(&mut *lent).await?;
            let retired = sqlx::query_scalar(bound::RETIRED);
            let retired = retired.bind(asked.pairing_id).bind(asked.keys_id);
            let retired = retired.fetch_all(&mut *lent).await?;
            lent.release();
            Ok((stored, retired))
        })
        .await
    }

    pub(in crate::store) async fn bind(&self, new: Bound) -> Result<(), StoreError> {
        in_time(async {
            let mut lent = self.lend().await?;
            if !new.is(&stored(&mut lent).await?) {
                let mut tx = lent.begin_with(BEGIN).await?;
                if let Some(why) = rebind(&mut tx, &new).await? {
                    return Err(refusal(&self.0.pool.connect_options(), why));
                }
                tx.commit().await?;
            }
            lent.release();
            Ok::<_, StoreError>(())
        })
        .await?;
        let _ = self.0.bound.set(new);
        Ok(())
    }
}

async fn stored(connection: &mut PgConnection) -> Result<bound::Stored, sqlx::Error> {
    sqlx::query_as(bound::STORED).fetch_one(connection).await
}

/// Puts a pairing in place of the one that was there. The locks wait for charges under the old
/// one, and hold back those to come. A reason not to, if there is one.
async fn rebind(tx: &mut PgConnection, new: &Bound) -> Result<Option<String>, StoreError> {
    sqlx::raw_sql("LOCK TABLE issuer, issued, charges IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *tx)
        .await?;
    let stored = stored(tx).await?;
    let retired = sqlx::query_scalar(bound::RETIRED).bind(new.pairing_id).bind(new.keys_id);
    let retired: Vec<Vec<u8>> = retired.fetch_all(&mut *tx).await?;
    let old = match new.claim(&stored, &retired) {
        Ok(Change::None) => return Ok(None), // another issuer has just done it
        Ok(Change::Keys(old)) => old,
        Ok(Change::Pairing(old)) => {
            if old.is_some() {
                tracing::warn!("{NEW_PAIRING}");
            }
            sqlx::raw_sql("TRUNCATE charges, issued, redeemed").execute(&mut *tx).await?;
            sqlx::query("UPDATE vouchers SET refilled_epoch = -1 WHERE refilled_epoch >= 0")
                .execute(&mut *tx)
                .await?;
            sqlx::query("UPDATE issuer SET closed_below = 0").execute(&mut *tx).await?;
            old
        }
        Err(why) => return Ok(Some(why)),
    };
    if let Some(old) = old {
        let retire = sqlx::query("INSERT INTO retired_pairings (pairing_id) VALUES ($1)");
        retire.bind(old).execute(&mut *tx).await?;
    }
    sqlx::query(
        "UPDATE issuer SET pairing_id = $1, keys_id = $2, issuer_name = $3, origin_name = $4",
    )
    .bind(new.pairing_id)
    .bind(new.keys_id)
    .bind(&new.issuer_name)
    .bind(&new.origin_name)
    .execute(&mut *tx)
    .await?;
    Ok(None)
}

pub(super) fn refusal(server: &PgConnectOptions, reason: String) -> StoreError {
    let database = Database::Postgres(Box::new(server.clone())).to_string();
    StoreError::Open { database, reason }
}

/// What the server said, or why it said nothing, and what to do. By SQLSTATE.
fn said(error: &sqlx::Error) -> String {
    let Some(database) = error.as_database_error() else {
        return match error {
            sqlx::Error::Io(error) => format!("{error}; is PostgreSQL running there?"),
            error => error.to_string(),
        };
    };
    let hint = match database.code().as_deref() {
        Some("42501") => "; this role must own the database",
        Some("28P01" | "28000") => "; give the role's password in ~/.pgpass or PGPASSWORD",
        Some("3D000") => "; make it with createdb",
        _ => "",
    };
    format!("{}{hint}", database.message())
}

/// Connects, or says why not.
pub(super) async fn connect(server: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    in_time(server.connect()).await.map_err(|error| refusal(server, said(&error)))
}

/// Refuses a server that would lose what was acknowledged, or cannot store anything.
pub(super) async fn check_server(connection: &mut PgConnection) -> Result<(), String> {
    let row = sqlx::query(
        "SELECT current_setting('server_version_num')::integer AS version,
             current_setting('server_version') AS version_text,
             current_setting('fsync') AS fsync,
             current_setting('full_page_writes') AS full_page_writes,
             pg_is_in_recovery() AS standby,
             current_setting('transaction_read_only') AS read_only,
             current_setting('transaction_isolation') AS isolation,
             current_setting('statement_timeout') AS statement_timeout",
    );
    let failed = |error: sqlx::Error| said(&error);
    let row = in_time(row.fetch_one(connection)).await.map_err(failed)?;
    let setting = |name: &str| row.try_get::<String, _>(name).map_err(failed);
    if row.try_get::<i32, _>("version").map_err(failed)? < MIN_VERSION {
        let version = setting("version_text")?;
        return Err(format!("PostgreSQL {version} is too old; use 15 or newer"));
    }
    for name in ["fsync", "full_page_writes"] {
        if setting(name)? != "on" {
            return Err(format!(
                "{name} is off: a crash of the server would lose charges of \
                 requests that were answered; set {name} = on in postgresql.conf"
            ));
        }
    }
    if row.try_get::<bool, _>("standby").map_err(failed)? {
        return Err("this server is a standby; name the primary".to_owned());
    }
    if setting("read_only")? != "off" {
        return Err("transactions are read-only there; let this role write".to_owned());
    }
    if setting("isolation")? != "read committed" {
        return Err("transactions are not `read committed` there, which they must be to wait for \
             each other; set default_transaction_isolation back for this role"
            .to_owned());
    }
    // Where a commit waits for a standby, the time-out would end the wait, and call it done.
    if setting("statement_timeout")? != "0" {
        return Err("statement_timeout is set there, and would answer before a standby has what \
             was committed; ALTER ROLE ... SET statement_timeout = 0 for this role"
            .to_owned());
    }
    Ok(())
}

/// How the tables are.
pub(in crate::store) enum Tables {
    Missing,
    Old,
    Current,
}

async fn state(connection: &mut PgConnection) -> Result<Tables, String> {
    let failed = |error: sqlx::Error| said(&error);
    let others: bool = sqlx::query_scalar("SELECT to_regclass('blocks') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    if others {
        return Err(
            "this database holds the tables of a relay; give the issuer one of its own".to_owned()
        );
    }
    let exists: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    let applied: HashMap<i64, Vec<u8>> = match exists {
        false => HashMap::new(),
        true => sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations WHERE success")
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?
            .into_iter()
            .collect(),
    };
    if applied.keys().any(|version| !MIGRATOR.version_exists(*version)) {
        return Err("the tables were made by a newer tocyn-issuer; update this one".to_owned());
    }
    let is_applied = |migration: &sqlx::migrate::Migration| {
        applied.get(&migration.version).is_some_and(|checksum| **checksum == *migration.checksum)
    };
    Ok(match MIGRATOR.iter().all(is_applied) {
        true => Tables::Current,
        false if applied.is_empty() => Tables::Missing,
        false => Tables::Old,
    })
}

/// Brings the tables up to date; says whether there was anything to do. Where there is not, it
/// takes no lock: one that outlives a transaction cannot be had behind a pooler.
pub(super) async fn migrate(connection: &mut PgConnection) -> Result<bool, String> {
    if let Tables::Current = state(connection).await? {
        return Ok(false);
    }
    MIGRATOR.run(connection).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => said(&error),
        error => error.to_string(),
    })?;
    Ok(true)
}
