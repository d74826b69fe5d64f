//! A store of its own for each test, and tokens to spend in it.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use getrandom::SysRng;
use rand_core::UnwrapErr;
use sqlx::Connection;
use tocyn_protocol::issuance::{AmortizedBatchTokenRequest, Issuer};
use tocyn_protocol::log::note::{LogKey, VerifierKey};
use tocyn_protocol::pairing::Pairing;
use tocyn_protocol::redemption::{Authorization, Redeemed, Redeemer};
use tocyn_protocol::token::Token;
use tocyn_relay::config::Config;
use tocyn_relay::log::Log;
use tocyn_relay::messages::Messages;
use tocyn_relay::seal::remove_dropped;
use tocyn_relay::store::{LogRange, Message, SpendOutcome, Store, StoreError};
use tocyn_service::database::Database;
use tocyn_test_postgres::Postgres;

/// The databases that keep the store's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    Sqlite,
    Postgres,
}

/// Makes a test for each database out of a function that takes a fixture, or several: each test
/// of the contract runs on both.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test] async fn $test() { super::$test($crate::fixture::On::Sqlite).await })*
        }
        mod on_postgres {
            $(#[tokio::test] async fn $test() { super::$test($crate::fixture::On::Postgres).await })*
        }
    };
}
pub(crate) use on_both;

pub(crate) struct Fixture {
    /// Of the database file, if it is one.
    dir: tempfile::TempDir,
    pub(crate) database: Database,
    pub(crate) cell_bytes: usize,
    pub(crate) pairing: Pairing,
    pub(crate) store: Store,
    pub(crate) log_key: String,
}

pub(crate) fn pairing() -> Pairing {
    Pairing::generate("issuer", "relay", 0, 100, &mut UnwrapErr(SysRng)).unwrap()
}

/// The key of a log that nobody else signs.
pub(crate) fn log_key() -> LogKey {
    LogKey::generate("relay", &mut UnwrapErr(SysRng))
}

/// As `tocyn-issuer pairing renew` makes it: one that replaces another begins later.
pub(crate) fn renewed(pairing: &Pairing) -> Pairing {
    pairing.successor(pairing.schedule().genesis + 1, &mut UnwrapErr(SysRng)).unwrap()
}

impl Fixture {
    pub(crate) async fn new(on: On) -> Self {
        Self::with_cells_of(on, 64).await
    }

    pub(crate) async fn with_cells_of(on: On, cell_bytes: usize) -> Self {
        Self::with_key(on, cell_bytes, log_key()).await
    }

    pub(crate) async fn with_key(on: On, cell_bytes: usize, log_key: LogKey) -> Self {
        let (dir, pairing) = (tempfile::tempdir().unwrap(), pairing());
        let url = match on {
            On::Sqlite => String::new(),
            On::Postgres => Postgres::shared().new_url(),
        };
        let database = Database::parse(&url, dir.path().join("relay.sqlite")).unwrap();
        let store =
            Store::open(&database, &pairing, &log_key.verifier(), cell_bytes).await.unwrap();
        let log_key = log_key.to_secret_text().to_string();
        Self { dir, database, cell_bytes, pairing, store, log_key }
    }

    /// The database file.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("relay.sqlite")
    }

    /// The key that its log is signed with.
    pub(crate) fn key(&self) -> VerifierKey {
        LogKey::from_secret_text(&self.log_key).unwrap().verifier()
    }

    /// The same database, without anything that the first store has in memory.
    pub(crate) async fn second_store(&self) -> Store {
        Store::open(&self.database, &self.pairing, &self.key(), self.cell_bytes).await.unwrap()
    }

    /// The tree over the store's messages, signed with the fixture's key.
    pub(crate) async fn log(&self) -> Log {
        self.log_of(&self.store).await.unwrap()
    }

    /// Where messages are sealed.
    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// The store's messages, wherever they lie.
    pub(crate) async fn messages(&self) -> Messages {
        self.messages_in(&self.store, Some(&self.folder())).await.unwrap()
    }

    pub(crate) async fn messages_in(
        &self,
        store: &Store,
        folder: Option<&Path>,
    ) -> Result<Messages, StoreError> {
        Messages::open(store.clone(), folder, &self.key(), self.cell_bytes).await
    }

    pub(crate) async fn log_of(&self, store: &Store) -> Result<Log, StoreError> {
        self.log_at(store, self.pairing.schedule().genesis).await
    }

    /// As a relay opens it that is started at this time.
    pub(crate) async fn log_at(&self, store: &Store, now: u64) -> Result<Log, StoreError> {
        let key = LogKey::from_secret_text(&self.log_key).unwrap();
        let config = Config { cell_bytes: self.cell_bytes, ..Config::default() };
        Log::open(store.clone(), key, &self.pairing, &config, now).await
    }

    /// Runs a statement on the database, beside the store.
    pub(crate) async fn sql(&self, statement: &'static str) {
        match &self.database {
            Database::Sqlite(path) => {
                let mut db = open_file(path).await;
                sqlx::raw_sql(statement).execute(&mut db).await.unwrap();
            }
            Database::Postgres(server) => {
                let mut db = sqlx::PgConnection::connect_with(server).await.unwrap();
                sqlx::raw_sql(statement).execute(&mut db).await.unwrap();
            }
        }
    }

    /// A column of whole numbers, beside the store.
    pub(crate) async fn numbers(&self, query: &'static str) -> Vec<i64> {
        let query =
            sqlx::AssertSqlSafe(format!("SELECT CAST(n AS bigint) FROM ({query}) AS t (n)"));
        match &self.database {
            Database::Sqlite(path) => {
                let mut db = open_file(path).await;
                // SQLite names no columns of a subquery.
                let query = query.0.replace(" AS t (n)", "").replace("CAST(n AS bigint)", "*");
                sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_all(&mut db).await.unwrap()
            }
            Database::Postgres(server) => {
                let mut db = sqlx::PgConnection::connect_with(server).await.unwrap();
                sqlx::query_scalar(query).fetch_all(&mut db).await.unwrap()
            }
        }
    }

    /// A copy of the database as it is now, with a new pairing, as after a restore.
    pub(crate) async fn backup(&self) -> Self {
        let (dir, pairing) = (tempfile::tempdir().unwrap(), renewed(&self.pairing));
        let database = match &self.database {
            Database::Sqlite(path) => {
                let copy = dir.path().join("relay.sqlite");
                let mut db = open_file(path).await;
                let vacuum = sqlx::AssertSqlSafe(format!("VACUUM INTO '{}'", copy.display()));
                sqlx::raw_sql(vacuum).execute(&mut db).await.unwrap();
                Database::Sqlite(copy)
            }
            Database::Postgres(server) => {
                let url = Postgres::shared().copy_of(server.get_database().unwrap());
                Database::parse(&url, Default::default()).unwrap()
            }
        };
        let store = Store::open(&database, &pairing, &self.key(), self.cell_bytes).await.unwrap();
        let log_key = self.log_key.clone();
        Self { dir, database, cell_bytes: self.cell_bytes, pairing, store, log_key }
    }

    pub(crate) async fn reopen(&mut self) {
        self.store.close().await;
        self.store = self.second_store().await;
    }

    pub(crate) fn tokens(&self, epoch: u64, count: usize) -> Vec<Token> {
        let rng = &mut UnwrapErr(SysRng);
        let key = self.pairing.key_pair(epoch);
        let (request, pending) =
            AmortizedBatchTokenRequest::new(key.public(), &self.pairing.challenge(), count, rng)
                .unwrap();
        pending.finalize(&Issuer::new(key).evaluate_batch(&request, rng)).unwrap()
    }

    pub(crate) fn token(&self, epoch: u64) -> Token {
        self.tokens(epoch, 1).remove(0)
    }

    pub(crate) fn message(&self, text: &str) -> Message {
        let mut cell = text.as_bytes().to_vec();
        cell.resize(self.cell_bytes, 0);
        Message::new(Bytes::from(cell))
    }

    pub(crate) fn pay(&self, token: &Token, epoch: u64, text: &str) -> (Redeemed, Message) {
        let message = self.message(text);
        let redeemed = Redeemer::new(&self.pairing, &[epoch])
            .redeem(&Authorization::Bearer(token.clone()), &message.id())
            .unwrap();
        (redeemed, message)
    }

    /// A batch of new messages, each with a token of epoch 0 of its own.
    pub(crate) fn posts(&self, texts: impl Iterator<Item = usize>) -> Vec<(Redeemed, Message)> {
        texts.map(|text| self.pay(&self.token(0), 0, &format!("message {text}"))).collect()
    }

    pub(crate) async fn spend(&self, batch: &[(Redeemed, Message)], now: u64) -> Vec<SpendOutcome> {
        self.store.spend_and_append(batch, now).await.unwrap()
    }

    pub(crate) async fn range(&self) -> (u64, u64) {
        let LogRange { oldest, head } = self.store.range().await.unwrap();
        (oldest, head)
    }
}

async fn open_file(path: &std::path::Path) -> sqlx::SqliteConnection {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    sqlx::SqliteConnection::connect_with(&options).await.unwrap()
}

pub(crate) fn seq(outcome: &SpendOutcome) -> Option<u64> {
    outcome.stored_seq()
}

/// What retention does: deletes the oldest messages, then the files of bundles; gives how many.
pub(crate) async fn drop_old(
    messages: &Messages,
    keep_from: u64,
    received_from: u64,
) -> Result<u64, StoreError> {
    let dropped = messages.store().trim(keep_from, received_from).await?;
    remove_dropped(messages, &|_| ()).await?;
    Ok(dropped)
}
