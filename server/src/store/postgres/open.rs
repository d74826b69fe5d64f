//! Opens the database and ties it to a pairing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, Row};
use tokio::sync::Mutex;

use super::{Inner, PostgresStore, StoreError, epochs, in_time};
use crate::store::owner::{BOUND, Bound, Change, Owner};
use crate::store::page::SEQUENCE_BYTES;
use crate::store::tail::Tail;
use crate::store::{NOT_UP_TO_DATE, NOTHING_YET, Purpose};
use tocyn_service::database::Database;

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("./migrations/postgres");

/// The oldest server that is tested.
const MIN_VERSION: i32 = 150_000;
/// Connections for readers.
const CONNECTIONS: u32 = 6;
/// Connections for the tree.
const LOG_CONNECTIONS: u32 = 2;
/// How long to wait for one of them. While the server is down, the pool tries again until then.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

impl PostgresStore {
    pub(in crate::store) async fn open(
        server: &PgConnectOptions,
        purpose: Purpose<'_>,
    ) -> Result<Self, StoreError> {
        let refuse = |reason: String| refusal(server, reason);
        let mut connection = connect(server).await?;
        check_server(&mut connection).await.map_err(refuse)?;
        match purpose {
            Purpose::Serve(..) => drop(migrate(&mut connection).await.map_err(refuse)?),
            Purpose::Look | Purpose::Move => match state(&mut connection).await.map_err(refuse)? {
                Tables::Missing => return Err(refuse(NOTHING_YET.to_owned())),
                Tables::Old => return Err(refuse(NOT_UP_TO_DATE.to_owned())),
                Tables::Current => {}
            },
        }
        let (pairing_id, cell_bytes) = match purpose {
            Purpose::Serve(owner) => {
                if let Some(why) = in_time(bind(&mut connection, &owner)).await? {
                    return Err(refuse(why));
                }
                (owner.pairing.id().0, owner.cell_bytes)
            }
            Purpose::Look | Purpose::Move => {
                let stored =
                    sqlx::query_as::<_, ([u8; 32], i32)>("SELECT pairing_id, cell_bytes FROM log");
                let stored = in_time(stored.fetch_optional(&mut connection)).await?;
                let (id, bytes) = stored.ok_or_else(|| refuse(NOTHING_YET.to_owned()))?;
                (id, bytes as usize)
            }
        };
        let pool = |connections| {
            PgPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .connect_lazy_with(server.clone())
        };
        let store = Self(Arc::new(Inner {
            server: server.clone(),
            writers: std::sync::Mutex::new(vec![connection]),
            pool: pool(CONNECTIONS),
            log_pool: pool(LOG_CONNECTIONS),
            tail: Tail::new(SEQUENCE_BYTES + cell_bytes),
            filling: Mutex::default(),
            seen_head: 0.into(),
            statements: 0.into(),
            last_spent: Default::default(),
            went_back: false.into(),
            pairing_id,
            keys_root: Default::default(),
            cell_bytes,
        }));
        store.range().await?; // from now on it must not go back
        Ok(store)
    }
}

impl PostgresStore {
    pub(in crate::store) async fn migrate(server: &PgConnectOptions) -> Result<bool, StoreError> {
        let refuse = |reason: String| refusal(server, reason);
        let mut connection = connect(server).await?;
        check_server(&mut connection).await.map_err(refuse)?;
        migrate(&mut connection).await.map_err(refuse)
    }
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
                "{name} is off: a crash of the server would lose messages that were \
                 acknowledged; set {name} = on in postgresql.conf"
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
enum Tables {
    Missing,
    Old,
    Current,
}

async fn state(connection: &mut PgConnection) -> Result<Tables, String> {
    let failed = |error: sqlx::Error| said(&error);
    let others: bool = sqlx::query_scalar("SELECT to_regclass('vouchers') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    if others {
        return Err(
            "this database holds the tables of an issuer; give the relay one of its own".to_owned()
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
        return Err("the tables were made by a newer tocyn-relay; update this one".to_owned());
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

/// Ties the database to a relay and its pairing. A reason not to, if there is one: then nothing was
/// changed.
async fn bind(
    connection: &mut PgConnection,
    owner: &Owner<'_>,
) -> Result<Option<String>, StoreError> {
    let id = owner.pairing.id().0;
    sqlx::query(
        "INSERT INTO log (id, head, cell_bytes, pairing_id, closed_below, verifier_key)
         VALUES (1, 0, $1, $2, 0, $3) ON CONFLICT DO NOTHING",
    )
    .bind(owner.cell_bytes as i32)
    .bind(id)
    .bind(owner.key.to_string())
    .execute(&mut *connection)
    .await?;
    let bound: Bound = sqlx::query_as(BOUND).bind(id).fetch_one(&mut *connection).await?;
    match owner.claim(&bound) {
        Ok(Change::None) => Ok(None),
        Ok(_) => rebind(connection, owner).await,
        Err(why) => Ok(Some(why)),
    }
}

/// Ties the log to another pairing, under locks that other relays wait for.
async fn rebind(
    connection: &mut PgConnection,
    owner: &Owner<'_>,
) -> Result<Option<String>, StoreError> {
    let id = owner.pairing.id().0;
    let mut tx = connection.begin_with(epochs::BEGIN).await?;
    // The set before the log, as posts lock them.
    sqlx::raw_sql("LOCK TABLE spent IN ACCESS EXCLUSIVE MODE").execute(&mut *tx).await?;
    sqlx::query("SELECT 1 FROM log FOR NO KEY UPDATE").execute(&mut *tx).await?;
    let bound: Bound = sqlx::query_as(BOUND).bind(id).fetch_one(&mut *tx).await?;
    let change = match owner.claim(&bound) {
        Ok(Change::None) => return Ok(None), // another relay has just done it
        Ok(change) => change,
        Err(why) => return Ok(Some(why)),
    };
    if change == Change::Pairing {
        sqlx::query("INSERT INTO retired_pairings (pairing_id) SELECT pairing_id FROM log")
            .execute(&mut *tx)
            .await?;
        epochs::clear(&mut tx).await?;
        sqlx::query("UPDATE log SET went_back = false").execute(&mut *tx).await?;
    }
    let update = sqlx::query("UPDATE log SET pairing_id = $1, verifier_key = $2");
    update.bind(id).bind(owner.key.to_string()).execute(&mut *tx).await?;
    tx.commit().await?;
    if change == Change::Pairing {
        tracing::info!("the pairing is new: the spent set of the old one was dropped");
    }
    Ok(None)
}
