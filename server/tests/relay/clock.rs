//! A clock that jumps ahead, for a while or for good: what retention deletes by it.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tocyn_protocol::pairing::Pairing;
use tocyn_protocol::redemption::BoundToken;
use tocyn_protocol::token::Token;
use tocyn_relay::config::Config;
use tocyn_relay::relay::{PostError, Posted, Relay};
use tocyn_relay::retention::{Removed, run_once};
use tocyn_relay::seal::seal;

use crate::fixture::{Fixture, On, on_both};

on_both! {
    a_jump_of_the_clock_deletes_nothing,
    a_restart_while_the_clock_is_ahead_deletes_nothing,
    a_clock_that_stays_ahead_is_believed,
    without_patience_a_jump_is_believed_at_once,
    posts_of_a_clock_that_was_ahead_close_no_epoch,
    posts_of_a_clock_that_was_ahead_do_not_stop_retention,
    messages_of_unknown_age_go_with_those_around_them,
    sealed_messages_of_unknown_age_go_with_those_around_them,
}

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;
const GENESIS: u64 = 1_700_000_000;
/// In the middle of epoch 20.
const NOW: u64 = GENESIS + 20 * WEEK + 3 * DAY;

/// A relay with the default retention of 90 days, under a clock that the test sets. With
/// PostgreSQL the server's clock is wrong in the same way: another one is refused.
struct Scene {
    f: Fixture,
    relay: Relay,
    clock: Arc<AtomicU64>,
    config: Config,
    start: Instant,
}

/// Puts a clock in the place of the server's.
const CLOCK_OF_TEST: &str = "CREATE TABLE test_clock (at bigint);
    INSERT INTO test_clock VALUES (0);
    CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql
        AS 'SELECT to_timestamp(at) FROM test_clock';
    DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog',
        current_database()); END $$";

impl Scene {
    async fn new(on: On) -> Self {
        Self::with(on, Config { cell_bytes: 64, ..Config::default() }).await
    }

    async fn with(on: On, config: Config) -> Self {
        let pairing = Pairing::generate("issuer", "relay", GENESIS, WEEK, &mut UnwrapErr(SysRng));
        let mut f = Fixture::with_pairing(on, config.cell_bytes, pairing.unwrap()).await;
        if on == On::Postgres {
            f.sql(CLOCK_OF_TEST).await;
            f.reopen().await;
        }
        let clock = Arc::new(AtomicU64::new(NOW));
        let relay = relay(&f, &config, &clock).await;
        let scene = Self { f, relay, clock, config, start: Instant::now() };
        scene.set_clock(NOW).await;
        scene
    }

    /// A relay on this database after a restart: nothing is left in memory.
    async fn restart(&mut self) {
        self.f.reopen().await;
        self.relay = relay(&self.f, &self.config, &self.clock).await;
    }

    async fn set_clock(&self, now: u64) {
        self.clock.store(now, Ordering::SeqCst);
        if self.f.path().exists() {
            return;
        }
        self.f.sql(format!("UPDATE test_clock SET at = {now}")).await;
    }

    /// A round of retention so many seconds after the start, by a clock that is so many ahead.
    async fn round(&self, passed: u64, ahead: u64) -> Removed {
        self.set_clock(NOW + passed + ahead).await;
        let at = self.start + Duration::from_secs(passed);
        run_once(&self.relay, NOW + passed + ahead, at).await.unwrap()
    }

    async fn post(&self, token: &Token, text: &str) -> Result<Posted, PostError> {
        let message = self.f.message(text);
        let header = BoundToken::new(token, "relay", &message.id()).header_value();
        let mut cell = text.as_bytes().to_vec();
        cell.resize(self.config.cell_bytes, 0);
        self.relay.post(self.relay.admit(&header)?, cell.into()).await
    }

    async fn store(&self, token: &Token, text: &str) {
        let posted = self.post(token, text).await;
        assert!(matches!(posted, Ok(Posted::New(_))), "{text}: {posted:?}");
    }

    /// Nothing is lost: a spent token is refused and has its receipt, and another one is good.
    async fn assert_all_there(&self, spent: &Token, unspent: &Token, messages: u64) {
        assert_eq!(self.f.range().await, (1, messages));
        assert!(matches!(self.post(spent, "first").await, Ok(Posted::Before(_))));
        assert!(matches!(self.post(spent, "another").await, Err(PostError::Spent)));
        self.store(unspent, "good").await;
    }
}

async fn relay(f: &Fixture, config: &Config, clock: &Arc<AtomicU64>) -> Relay {
    let (messages, log) = (f.messages().await, f.log_at(&f.store, NOW).await.unwrap());
    let clock = clock.clone();
    let clock = Arc::new(move || clock.load(Ordering::SeqCst));
    Relay::new(config, f.pairing.clone(), messages, log, clock)
}

async fn a_jump_of_the_clock_deletes_nothing(on: On) {
    let scene = Scene::new(on).await;
    let (tokens, last) = (scene.f.tokens(20, 3), scene.f.token(19));
    scene.round(0, 0).await;
    scene.store(&tokens[0], "first").await;
    for passed in [30, 60, 90] {
        assert_eq!(scene.round(passed, 91 * DAY).await, Removed::default());
    }
    assert_eq!(scene.round(120, 0).await, Removed::default());
    scene.assert_all_there(&tokens[0], &tokens[1], 1).await;
    scene.store(&last, "a token of the epoch before").await;
    // Another jump, after more than an hour in all.
    scene.round(2 * HOUR, 365 * DAY).await;
    scene.round(2 * HOUR + 30, 0).await;
    scene.assert_all_there(&tokens[0], &tokens[2], 3).await;
}

async fn a_restart_while_the_clock_is_ahead_deletes_nothing(on: On) {
    let mut scene = Scene::new(on).await;
    let tokens = scene.f.tokens(20, 2);
    scene.round(0, 0).await;
    scene.store(&tokens[0], "first").await;
    for passed in [30, 60, 90] {
        scene.set_clock(NOW + passed + 91 * DAY).await;
        scene.restart().await;
        assert_eq!(scene.round(passed, 91 * DAY).await, Removed::default());
    }
    scene.restart().await;
    scene.round(120, 0).await;
    scene.assert_all_there(&tokens[0], &tokens[1], 1).await;
}

async fn a_clock_that_stays_ahead_is_believed(on: On) {
    let scene = Scene::new(on).await;
    let token = scene.f.token(20);
    scene.round(0, 0).await;
    scene.store(&token, "first").await;
    for passed in [30, 1800, HOUR + 29] {
        assert_eq!(scene.round(passed, 91 * DAY).await, Removed::default());
    }
    let removed = scene.round(HOUR + 30, 91 * DAY).await;
    assert_eq!((removed.messages, removed.epochs.contains(&20)), (1, true));
    // Even if the clock goes back: the epoch is closed.
    scene.round(HOUR + 60, 0).await;
    assert!(matches!(scene.post(&token, "first").await, Err(PostError::Redeem(_))));
}

async fn without_patience_a_jump_is_believed_at_once(on: On) {
    let config = Config { cell_bytes: 64, clock_patience: Duration::ZERO, ..Config::default() };
    let scene = Scene::with(on, config).await;
    scene.round(0, 0).await;
    scene.store(&scene.f.token(20), "first").await;
    assert_eq!(scene.round(30, 91 * DAY).await.messages, 1);
}

async fn posts_of_a_clock_that_was_ahead_close_no_epoch(on: On) {
    let scene = Scene::new(on).await;
    let (tokens, last) = (scene.f.tokens(20, 2), scene.f.tokens(19, 2));
    scene.round(0, 0).await;
    scene.store(&tokens[0], "first").await;
    scene.store(&last[0], "of the epoch before").await;
    // The issuer is on the same machine: it hands out tokens of that time, of an epoch that has the
    // turn of this one.
    scene.round(30, 12 * WEEK).await;
    scene.store(&scene.f.token(32), "ahead").await;
    scene.round(60, 0).await;
    scene.assert_all_there(&tokens[0], &tokens[1], 3).await;
    scene.store(&last[1], "of the epoch before").await;
    for week in 1..=3 {
        scene.round(week * WEEK, 0).await;
        scene.store(&scene.f.token(20 + week), "later").await;
    }
}

async fn posts_of_a_clock_that_was_ahead_do_not_stop_retention(on: On) {
    let scene = Scene::new(on).await;
    scene.round(0, 0).await;
    scene.store(&scene.f.token(20), "before").await;
    // The issuer is on the same machine: it hands out tokens of that time.
    let ahead = 365 * DAY;
    scene.set_clock(NOW + 30 + ahead).await;
    scene.store(&scene.f.token((NOW + 30 + ahead - GENESIS) / WEEK), "ahead").await;
    scene.set_clock(NOW + 60).await;
    scene.store(&scene.f.token(20), "after").await;
    for day in 1..=89 {
        assert_eq!(scene.round(day * DAY, 0).await.messages, 0, "day {day}");
    }
    assert_eq!(scene.round(91 * DAY, 0).await.messages, 3);
}

/// Received before these: old; after these: by a clock that was ahead.
const YOUNG: RangeInclusive<u64> = 100..=200;

/// Messages that were received at these times, each in a block of its own.
async fn received(f: &Fixture, times: &[u64]) {
    for (number, time) in times.iter().enumerate() {
        f.spend(&[f.pay(&f.token(0), 0, &format!("message {number}"))], *time).await;
    }
}

async fn messages_of_unknown_age_go_with_those_around_them(on: On) {
    for (times, deleted) in [
        (&[10, 999, 20, 100][..], 3),
        (&[999, 999, 20, 200], 3),
        (&[10, 999, 100, 10], 1),
        (&[999, 100, 10], 0),
        (&[999, 999], 0),
        (&[10, 20, 999], 2),
        (&[10, 20], 2),
        // The clock was behind.
        (&[100, 0, 10], 0),
        (&[0, 10, 100], 2),
    ] {
        let f = Fixture::new(on).await;
        received(&f, times).await;
        assert_eq!(f.store.trim(0, YOUNG).await.unwrap(), deleted, "{times:?}");
        assert_eq!(f.store.trim(0, YOUNG).await.unwrap(), 0, "{times:?}");
        // The other bound knows no ages.
        let head = times.len() as u64;
        assert_eq!(f.store.trim(head + 1, YOUNG).await.unwrap(), head - deleted, "{times:?}");
    }
}

async fn sealed_messages_of_unknown_age_go_with_those_around_them(on: On) {
    let f = Fixture::new(on).await;
    // Four bundles, whose newest messages are old, unknown, old and young, and some blocks.
    for (first, time) in [(0, 10), (256, 999), (512, 20), (768, 100), (1024, 10)] {
        f.spend(&f.posts(first..first + 256.min(1034 - first)), time).await;
    }
    f.log().await.put_away().await.unwrap();
    let messages = f.messages().await;
    assert_eq!(seal(&messages, &|_| ()).await.unwrap(), 4);
    assert_eq!(f.store.trim(0, YOUNG).await.unwrap(), 768);
    assert_eq!(f.range().await, (769, 1034));
    assert_eq!(f.store.trim(0, 30..=40).await.unwrap(), 266);
}
