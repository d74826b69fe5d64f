//! What may happen to a PostgreSQL server, and which servers are refused.

use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use tocyn_relay::store::{SpendOutcome, Store, StoreError};
use tocyn_service::database::Database;
use tocyn_test_postgres::Postgres;

use crate::fixture::{Fixture, On, log_key, pairing, seq};

fn parse(url: &str) -> Database {
    Database::parse(url, Default::default()).unwrap()
}

async fn refusal(database: &Database) -> String {
    let refused = Store::open(database, &pairing(), &log_key().verifier(), 64).await;
    let Err(StoreError::Open { database, reason }) = refused else { panic!("it was opened") };
    assert!(database.starts_with("PostgreSQL database "), "{database}");
    reason
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_nothing_that_was_acknowledged_and_is_found_again() {
    // Its owner has asked for fast commits, which would be lost: the relay waits all the same.
    let server = Postgres::start(&["wal_writer_delay=10s"]);
    let name = server.new_database();
    server.sql("postgres", &format!("ALTER DATABASE {name} SET synchronous_commit = off"));
    let mut f = Fixture::new(On::Postgres).await;
    f.database = parse(&server.url(&name));
    f.store = f.second_store().await;
    let posts = f.posts(0..60);
    let mut receipts = Vec::new();
    for (n, post) in posts.iter().enumerate() {
        if n % 20 == 10 {
            server.kill();
            // Fails, or is answered by a child that has not noticed yet: then it counts.
            let _ = f.store.spend_and_append(std::slice::from_ref(post), 1).await;
            server.restart();
        }
        let since = Instant::now();
        let outcome = loop {
            match f.store.spend_and_append(std::slice::from_ref(post), 1).await {
                Ok(outcome) => break outcome[0],
                Err(error) => assert!(since.elapsed() < Duration::from_secs(20), "{error:?}"),
            }
        };
        let (SpendOutcome::Stored(receipt) | SpendOutcome::StoredBefore(receipt)) = outcome else {
            panic!("{outcome:?}")
        };
        receipts.push(receipt);
    }
    assert_eq!(f.range().await, (1, 60));
    let again = f.spend(&posts, 2).await;
    let before: Vec<_> = receipts.into_iter().map(SpendOutcome::StoredBefore).collect();
    assert_eq!(again, before);
}

#[tokio::test]
async fn the_spent_set_is_searched_by_its_key_however_fast_it_grows() {
    // The planner takes a partition for as small as it was when it last looked: never, here.
    let f = Fixture::new(On::Postgres).await;
    let tokens: Vec<_> = (0..20).flat_map(|_| f.tokens(0, 100)).collect();
    for tokens in tokens.chunks(50) {
        let posts: Vec<_> = tokens.iter().map(|token| f.pay(token, 0, "a message")).collect();
        f.spend(&posts, 1).await;
        f.spend(&posts, 1).await;
    }
    f.store.close().await;
    // What a session has read is known once it has ended.
    let rows =
        "SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname LIKE 'spent_%')
             + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname LIKE 'spent_%')";
    let sessions = "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'tocyn'";
    while f.numbers(sessions).await[0] > 1 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let read = f.numbers(rows).await[0];
    assert!((2000..6000).contains(&read), "{read} rows were read for 2000 tokens, each found once");
}

#[tokio::test]
async fn a_server_that_would_lose_what_is_acknowledged_is_refused() {
    let careless = Postgres::start(&["fsync=off"]);
    let reason = refusal(&parse(&careless.new_url())).await;
    assert!(reason.contains("fsync = on"), "{reason}");
}

#[tokio::test]
async fn databases_that_cannot_be_used_are_named_with_what_to_do() {
    let server = Postgres::shared();
    let missing = refusal(&parse(&server.url("no_such_database"))).await;
    assert!(missing.contains("no_such_database"), "{missing}");
    let nobody = refusal(&parse("postgres://me:secret@127.0.0.1:1/tocyn")).await;
    assert!(nobody.contains("refused") && !nobody.contains("secret"), "{nobody}");

    let newer = server.new_database();
    Store::open(&parse(&server.url(&newer)), &pairing(), &log_key().verifier(), 64)
        .await
        .unwrap()
        .close()
        .await;
    server.sql(&newer, "INSERT INTO _sqlx_migrations SELECT 9999, 'newer', now(), true, '', 0");
    let reason = refusal(&parse(&server.url(&newer))).await;
    assert!(reason.contains("newer tocyn-relay"), "{reason}");

    let read_only = server.new_database();
    server.sql(
        "postgres",
        &format!("ALTER DATABASE {read_only} SET default_transaction_read_only = on"),
    );
    let reason = refusal(&parse(&server.url(&read_only))).await;
    assert!(reason.contains("read-only"), "{reason}");

    let isolated = server.new_database();
    let set = "SET default_transaction_isolation = 'repeatable read'";
    server.sql("postgres", &format!("ALTER DATABASE {isolated} {set}"));
    let reason = refusal(&parse(&server.url(&isolated))).await;
    assert!(reason.contains("read committed"), "{reason}");

    let hasty = server.new_database();
    server.sql("postgres", &format!("ALTER DATABASE {hasty} SET statement_timeout = '30s'"));
    let reason = refusal(&parse(&server.url(&hasty))).await;
    assert!(reason.contains("statement_timeout"), "{reason}");
}

#[tokio::test]
async fn who_has_another_clock_than_the_database_deletes_nothing() {
    let f = Fixture::new(On::Postgres).await;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let now = since.as_secs();
    f.store.check_clock(now).await.unwrap();
    for (wrong, off) in [(now + 90 * 86_400, 90 * 86_400), (now - 100, -100)] {
        let refused = f.store.check_clock(wrong).await;
        let Err(StoreError::Clock { seconds }) = refused else { panic!("{refused:?}") };
        assert!((off - 5..=off + 5).contains(&seconds), "{seconds}");
    }
}

#[tokio::test]
async fn relays_that_start_together_on_an_empty_database_make_its_tables_once() {
    let (database, pairing) = (parse(&Postgres::shared().new_url()), pairing());
    let key = log_key().verifier();
    let open = || Store::open(&database, &pairing, &key, 64);
    let (a, b, c) = tokio::join!(open(), open(), open());
    for store in [a, b, c] {
        store.unwrap().close().await;
    }
}

#[tokio::test]
async fn the_server_is_reached_over_tls_and_its_certificate_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let authority = |name: &str, subject: &str| {
        let mut openssl = Command::new("openssl");
        openssl
            .args(["req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "2", "-subj", subject]);
        openssl.args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        openssl.args([
            "-keyout",
            &path(&format!("{name}.key")),
            "-out",
            &path(&format!("{name}.crt")),
        ]);
        let output = openssl.output().expect("this test needs openssl; install it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    authority("server", "/CN=localhost");
    authority("other", "/CN=other");
    let server = Postgres::start(&[]);
    server.give_certificate(&dir.path().join("server.crt"), &dir.path().join("server.key"));
    let name = server.new_database();
    let url = |root: &str| {
        let address = server.address().replace("127.0.0.1", "localhost");
        parse(&format!(
            "postgres://tocyn@{address}/{name}?sslmode=verify-full&sslrootcert={}",
            path(root)
        ))
    };
    let mut f = Fixture::new(On::Postgres).await;
    f.database = url("server.crt");
    f.store = f.second_store().await;
    assert_eq!(seq(&f.spend(&f.posts(0..1), 1).await[0]), Some(1));
    let encrypted = "SELECT count(*) FROM pg_stat_ssl WHERE ssl AND pid <> pg_backend_pid()";
    assert!(server.sql(&name, encrypted).parse::<u32>().unwrap() >= 1);
    let reason = refusal(&url("other.crt")).await;
    assert!(reason.contains("certificate") || reason.contains("UnknownIssuer"), "{reason}");
}
