//! Deletion by time: the charges of closed epochs, old secrets and the ids of old grants.

use std::time::{Duration, Instant};

use crate::http::AppState;
use crate::store::StoreError;

const INTERVAL: Duration = Duration::from_secs(60);

/// Forgets once a minute.
pub(crate) async fn run_forever(state: AppState) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        run_once(&state, state.now(), Instant::now()).await;
    }
}

/// One round at `now` (unix seconds), read at `at`. What fails is tried again in the next one, and
/// keeps nothing else from its turn.
pub(crate) async fn run_once(state: &AppState, now: u64, at: Instant) {
    let settled = match settle(state, now, at).await {
        Ok(Some(settled)) => settled,
        Ok(None) => return,
        Err(error) => {
            tracing::warn!(%error, "cannot forget the charges of closed epochs and old secrets");
            return;
        }
    };
    match prune(state, settled).await {
        Ok(0) => {}
        Ok(charges) => tracing::info!(charges, "forgot the charges of closed epochs"),
        Err(error) => tracing::warn!(%error, "cannot forget the charges of closed epochs"),
    }
    if let Err(error) = state.secrets.wipe(settled).await {
        tracing::warn!(%error, "cannot wipe secrets that have served their time");
    }
}

/// The time by which things may be forgotten, in unix seconds; None by a clock that is before the
/// pairing's start.
async fn settle(state: &AppState, now: u64, at: Instant) -> Result<Option<u64>, StoreError> {
    // A machine that starts in 1970 will be set right soon, which is no jump.
    if state.keyring.pairing().schedule().epoch_at(now).is_err() {
        return Ok(None);
    }
    state.store.check_clock(now).await?;
    let settled = state.settled.settle(now, at, state.store.settled_at().await?);
    if let Some(to_note) = settled.to_note
        && let Err(error) = state.store.note_settled(to_note).await
    {
        // The next start waits for longer; a full disk gets its room all the same.
        tracing::warn!(%error, "cannot note how far the clock is believed");
    }
    Ok(Some(settled.time))
}

/// Forgets the charges of closed epochs; returns how many.
async fn prune(state: &AppState, settled: u64) -> Result<u64, StoreError> {
    match state.keyring.oldest_at(settled) {
        Ok(oldest) => state.store.prune(oldest).await,
        Err(_) => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Arc;

    use getrandom::SysRng;
    use rand_core::UnwrapErr;
    use sqlx::{Connection, PgConnection};
    use tocyn_protocol::pairing::Pairing;
    use tocyn_service::database::Database;
    use tocyn_test_postgres::Postgres;
    use tokio::sync::watch;

    use crate::attester::{Attester, Budgets};
    use crate::config::Config;
    use crate::keyring::Keyring;
    use crate::secrets::{DAY_SECONDS, Purpose};
    use crate::store::{Charge, Rules, Store};

    const HOUR: u64 = 3600;
    const WEEK: u64 = 7 * DAY_SECONDS;
    const GENESIS: u64 = 20_000 * DAY_SECONDS;
    /// In the middle of epoch 20.
    const NOW: u64 = GENESIS + 20 * WEEK + 3 * DAY_SECONDS;
    const YEAR: u64 = 366 * DAY_SECONDS;

    /// Puts a clock in the place of the server's.
    const CLOCK_OF_TEST: &str = "CREATE TABLE test_clock (at bigint);
        INSERT INTO test_clock VALUES (0);
        CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql
            AS 'SELECT to_timestamp(at) FROM test_clock';
        DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog',
            current_database()); END $$";

    /// An issuer under a clock that the test sets. With PostgreSQL the server's clock is wrong in
    /// the same way: another one is refused.
    struct Scene {
        database: Database,
        pairing: Pairing,
        state: AppState,
        start: Instant,
        _dir: tempfile::TempDir,
    }

    async fn state(database: &Database, pairing: &Pairing) -> AppState {
        let store = Store::open(database).await.unwrap();
        store.bind(pairing).await.unwrap();
        let (_, leaving) = watch::channel(false);
        let (config, keyring) = (Config::default(), Keyring::new(pairing.clone()));
        AppState::new(&config, keyring, store, Arc::new(|| NOW), leaving)
    }

    async fn sql(database: &Database, statement: String) {
        if let Database::Postgres(server) = database {
            let mut db = PgConnection::connect_with(server).await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut db).await.unwrap();
        }
    }

    impl Scene {
        /// On a database of each kind, with a request that was charged, a code that was granted, and
        /// a secret for challenges.
        async fn on_both() -> [Self; 2] {
            let server = Postgres::shared().new_url();
            [Self::new("").await, Self::new(&server).await]
        }

        async fn new(url: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let database = Database::parse(url, dir.path().join("issuer.sqlite")).unwrap();
            sql(&database, CLOCK_OF_TEST.to_owned()).await;
            let rng = &mut UnwrapErr(SysRng);
            let pairing = Pairing::generate("issuer", "relay", GENESIS, WEEK, rng).unwrap();
            let state = state(&database, &pairing).await;
            let scene = Self { database, pairing, state, start: Instant::now(), _dir: dir };
            let vouchers = [[1; 32]];
            let expires = NOW + 2 * YEAR;
            let store = &scene.state.store;
            store.create_vouchers(&vouchers, Attester::Voucher, 100, expires).await.unwrap();
            scene.round(0, 0).await;
            assert!(!scene.is_charged().await);
            let rules = Rules {
                max_replays: 16,
                replay_window_seconds: HOUR,
                oldest_epoch: 19,
                budgets: Budgets::UNBOUNDED,
            };
            let charge =
                Charge { code_hash: [1; 32], body_hash: [2; 32], tokens: 1, epoch: Some(20) };
            let charged = scene.state.store.charge_batch(&[charge], rules, NOW).await.unwrap();
            assert_eq!(charged, [Ok(20)]);
            scene.state.secrets.get(Purpose::Work, NOW / DAY_SECONDS).await.unwrap();
            scene.state.secrets.grant(b"order", NOW).await.unwrap().expect("it is new");
            scene
        }

        async fn restart(&mut self) {
            self.state.store.close().await;
            self.state = state(&self.database, &self.pairing).await;
        }

        /// A round so many seconds after the start, by a clock that is so many ahead.
        async fn round(&self, passed: u64, ahead: u64) {
            let now = NOW + passed + ahead;
            sql(&self.database, format!("UPDATE test_clock SET at = {now}")).await;
            run_once(&self.state, now, self.start + Duration::from_secs(passed)).await;
        }

        async fn is_charged(&self) -> bool {
            self.state.store.was_charged(&[1; 32], &[2; 32]).await.unwrap()
        }

        /// Whether the secrets of today are there, in a process that has not read them yet.
        async fn has_secrets(&self) -> [bool; 2] {
            let secret = async |purpose| {
                let found = self.state.store.find_secret(purpose, NOW / DAY_SECONDS).await;
                found.unwrap().is_some()
            };
            [secret(Purpose::GrantCodes).await, secret(Purpose::Work).await]
        }

        /// Whether a code was granted for the id, as far as the issuer knows.
        async fn knows_grant(&self) -> bool {
            let ids = self.state.secrets.get(Purpose::GrantIds, 0).await.unwrap().unwrap();
            let noted = self.state.store.note_grant(&ids.id_hash(b"order"), 7, NOW).await;
            noted.unwrap() == NOW / DAY_SECONDS
        }
    }

    #[tokio::test]
    async fn a_jump_of_the_clock_destroys_nothing() {
        for mut scene in Scene::on_both().await {
            for restarts in [false, true] {
                for passed in [60, 120, 180] {
                    scene.round(passed, YEAR).await;
                    if restarts {
                        scene.restart().await;
                    }
                }
                assert!(scene.is_charged().await);
                assert_eq!(scene.has_secrets().await, [true; 2]);
                scene.round(240, 0).await;
            }
            assert!(scene.knows_grant().await);
            let code = scene.state.secrets.grant(b"order", NOW).await.unwrap();
            assert!(code.is_some(), "it can be asked for again");
        }
    }

    #[tokio::test]
    async fn a_clock_that_stays_ahead_is_believed() {
        for scene in Scene::on_both().await {
            scene.round(60, YEAR).await;
            scene.round(60 + HOUR - 1, YEAR).await;
            assert!(scene.is_charged().await);
            scene.round(60 + HOUR, YEAR).await;
            assert!(!scene.is_charged().await);
            assert_eq!(scene.has_secrets().await, [false; 2]);
            assert!(!scene.knows_grant().await);
        }
    }
}
