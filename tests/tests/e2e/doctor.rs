//! `doctor`: a pair that is well, and everything that can be wrong, one after the other.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use tocyn_e2e::bearer::{bound, buy, cell, http_client, post};
use tocyn_e2e::programs::program;
use tocyn_e2e::service::Service;
use tocyn_e2e::world::{World, output, succeed};
use tocyn_test_postgres::Postgres;

/// What one check found.
#[derive(Debug, serde::Deserialize)]
struct Finding {
    check: String,
    level: String,
    text: String,
}

/// A pair that serves, and its doctors.
struct Pair {
    world: World,
    issuer: Service,
    relay: Service,
}

impl Pair {
    fn new() -> Self {
        let world = World::default();
        let (issuer, relay) = (world.start_issuer(), world.start_relay());
        Self { world, issuer, relay }
    }

    /// The doctor of the relay, who asks the issuer too.
    fn of_relay(&self) -> Command {
        let command = Command::new(program("tocyn-relay"));
        of_relay(command, &self.world.relay_data(), self.relay.address(), self.issuer.url())
    }

    /// The doctor of the issuer, who asks the relay too.
    fn of_issuer(&self) -> Command {
        let mut command = Command::new(program("tocyn-issuer"));
        command.arg("--data").arg(self.world.issuer_data());
        command.env("TOCYN_ISSUER__LISTEN", self.issuer.address());
        command.args(["doctor", "--json", "--relay", self.relay.url()]);
        command
    }
}

fn of_relay(mut command: Command, data: &Path, listen: &str, issuer: &str) -> Command {
    command.arg("--data").arg(data).env("TOCYN_RELAY__LISTEN", listen);
    command.args(["doctor", "--json", "--issuer", issuer]);
    command
}

/// What a doctor says. Its status is 1 exactly if something is bad.
fn findings(command: &mut Command) -> Vec<Finding> {
    let output = output(command.stdin(Stdio::null()));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let found: Vec<Finding> = serde_json::from_slice(&output.stdout).expect(&said);
    let is_bad = found.iter().any(|finding| finding.level == "bad");
    assert_eq!(output.status.code(), Some(i32::from(is_bad)), "{found:?}: {said}");
    found
}

/// There is a finding of this check at this level that says so; nothing else is bad.
fn names(command: &mut Command, level: &str, check: &str, text: &str) {
    let found = findings(command);
    let is = |f: &&Finding| f.check == check && f.level == level && f.text.contains(text);
    assert!(found.iter().any(|finding| is(&finding)), "{check}, {text}: {found:#?}");
    let others = found.iter().filter(|f| f.level == "bad" && (f.check != check || level != "bad"));
    assert_eq!(others.count(), 0, "{found:#?}");
}

fn all_is_well(command: &mut Command) {
    let found = findings(command);
    assert!(found.len() > 7 && found.iter().all(|f| f.level == "good"), "{found:#?}");
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Changes a file, and gives what puts it back.
fn with<T>(path: &Path, change: impl FnOnce(String) -> String, then: impl FnOnce() -> T) -> T {
    let good = std::fs::read(path).unwrap();
    std::fs::write(path, change(String::from_utf8(good.clone()).unwrap())).unwrap();
    let done = then();
    std::fs::write(path, good).unwrap();
    done
}

#[test]
fn a_pair_that_is_well_passes_and_readable_secrets_are_named() {
    let pair = Pair::new();
    all_is_well(&mut pair.of_relay());
    all_is_well(&mut pair.of_issuer());
    // The same for people.
    let text = succeed(
        Command::new(program("tocyn-relay"))
            .arg("--data")
            .arg(pair.world.relay_data())
            .arg("doctor")
            .env("TOCYN_RELAY__LISTEN", pair.relay.address()),
    );
    assert!(text.lines().all(|line| line.starts_with("ok  ")), "{text}");

    let (relay, issuer) = (pair.world.relay_data(), pair.world.issuer_data());
    for (path, open, closed) in [
        (relay.clone(), 0o755, 0o700),
        (relay.join("pairing.toml"), 0o640, 0o600),
        (relay.join("log.key"), 0o604, 0o600),
        (relay.join("relay.sqlite"), 0o644, 0o600),
        (relay.join("relay.sqlite-wal"), 0o644, 0o600),
    ] {
        set_mode(&path, open);
        let command = format!("chmod {closed:o} {}", path.display());
        names(&mut pair.of_relay(), "bad", "permissions", &command);
        set_mode(&path, closed);
    }
    for file in ["pairing.toml", "issuer.sqlite", "admin.credential"] {
        set_mode(&issuer.join(file), 0o644);
        names(&mut pair.of_issuer(), "bad", "permissions", &format!("{file}: others can read"));
        set_mode(&issuer.join(file), 0o600);
    }
    all_is_well(&mut pair.of_relay());
    all_is_well(&mut pair.of_issuer());
}

#[test]
fn settings_keys_and_databases_that_cannot_be_used_are_named() {
    let pair = Pair::new();
    let (relay, issuer) = (pair.world.relay_data(), pair.world.issuer_data());
    for (data, doctor) in
        [(&relay, Pair::of_relay as fn(&Pair) -> Command), (&issuer, Pair::of_issuer)]
    {
        with(
            &data.join("config.toml"),
            |text| format!("colour = 1\n{text}"),
            || names(&mut doctor(&pair), "bad", "settings", "line 1, colour"),
        );
        let damaged = |text: String| text.replace("version = 1", "version = 7");
        with(&data.join("pairing.toml"), damaged, || {
            names(&mut doctor(&pair), "bad", "pairing", "version is 7");
        });
    }
    let key = relay.join("log.key");
    let other = std::fs::read_to_string(World::default().relay_data().join("log.key")).unwrap();
    for (text, said) in
        [("no key at all", "whichever is wrong"), (&other, "signed with another key")]
    {
        with(&key, |_| text.to_owned(), || names(&mut pair.of_relay(), "bad", "log key", said));
    }
    std::fs::rename(&key, relay.join("aside")).unwrap();
    names(&mut pair.of_relay(), "bad", "log key", "put it back from a backup");
    std::fs::rename(relay.join("aside"), &key).unwrap();
    // A password that others can read, of a database that nobody serves.
    let url = "'postgres://me:hunter2@127.0.0.1:1/x'";
    let config = relay.join("config.toml");
    set_mode(&config, 0o644);
    with(
        &config,
        |text| text.replace("\nurl = \"\"", &format!("\nurl = {url}")),
        || {
            let found = findings(&mut pair.of_relay());
            let bad = |check: &str, part: &str| {
                let is =
                    |f: &&Finding| f.check == check && f.level == "bad" && f.text.contains(part);
                assert!(found.iter().any(|f| is(&f)), "{check}: {found:#?}");
            };
            bad("permissions", "config.toml: others can read this secret");
            bad("database", "is PostgreSQL running there?");
            assert!(!format!("{found:?}").contains("hunter2"));
        },
    );
    assert_eq!((pair.relay.stop().code(), pair.issuer.stop().code()), (Some(0), Some(0)));
    for (name, data) in [("relay", &relay), ("issuer", &issuer)] {
        let doctor = || {
            let mut command = Command::new(program(&format!("tocyn-{name}")));
            command.arg("--data").arg(data).args(["doctor", "--json"]);
            command
        };
        names(&mut doctor(), "warning", "service", "if it should run, start it");
        let file = data.join(format!("{name}.sqlite"));
        let good = std::fs::read(&file).unwrap();
        std::fs::write(&file, "no database at all, but a text of some length").unwrap();
        names(&mut doctor(), "bad", "database", &format!("{name}.sqlite"));
        std::fs::remove_file(&file).unwrap();
        names(&mut doctor(), "warning", "database", "`serve` makes its tables");
        std::fs::write(&file, good).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_another_version_are_named_and_left_as_they_are() {
    let pair = Pair::new();
    for (file, doctor) in [
        (pair.world.relay_data().join("relay.sqlite"), Pair::of_relay as fn(&Pair) -> Command),
        (pair.world.issuer_data().join("issuer.sqlite"), Pair::of_issuer),
    ] {
        let mut database = SqliteConnectOptions::new().filename(&file).connect().await.unwrap();
        let newest = "SELECT max(version) FROM _sqlx_migrations";
        let newest: i64 = sqlx::query_scalar(newest).fetch_one(&mut database).await.unwrap();
        let set = "UPDATE _sqlx_migrations SET version = ?1 WHERE version = ?2";
        for (version, text) in [(-1, "db migrate"), (999, "made by a newer tocyn-")] {
            let set = |from: i64, to: i64| sqlx::query(set).bind(to).bind(from);
            set(newest, version).execute(&mut database).await.unwrap();
            names(&mut doctor(&pair), "bad", "database", text);
            let back = set(version, newest).execute(&mut database).await.unwrap();
            assert_eq!(back.rows_affected(), 1, "it changes nothing");
        }
    }
}

#[test]
fn pairings_that_do_not_go_together_are_named() {
    let (pair, other) = (Pair::new(), World::default());
    let (relay, issuer) = (pair.world.relay_data(), pair.world.issuer_data());
    let old = pair.world.path().join("old.toml");
    std::fs::copy(relay.join("pairing.toml"), &old).unwrap();
    let foreign = std::fs::read_to_string(other.pairing_file()).unwrap();
    with(
        &relay.join("pairing.toml"),
        |_| foreign.clone(),
        || {
            let found = findings(&mut pair.of_relay());
            let has = |check: &str, level: &str, part: &str| {
                let is =
                    |f: &&Finding| f.check == check && f.level == level && f.text.contains(part);
                assert!(found.iter().any(|f| is(&f)), "{check}: {found:#?}");
            };
            has("pairing", "bad", "the database is tied to another one");
            has("service", "bad", "what runs there has another pairing");
            has("peer", "bad", "both sides need the same pairing.toml");
        },
    );
    with(
        &issuer.join("pairing.toml"),
        |_| foreign,
        || {
            let found = findings(&mut pair.of_issuer());
            let bad = found.iter().filter(|f| f.level == "bad").map(|f| f.check.as_str());
            assert_eq!(bad.collect::<Vec<_>>(), ["pairing", "service", "peer"], "{found:#?}");
        },
    );
    // Another service at the address; and nobody.
    let at = |listen: &str, issuer: &str| {
        of_relay(Command::new(program("tocyn-relay")), &relay, listen, issuer)
    };
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let (own, peer) = (pair.relay.address(), pair.issuer.url());
    names(&mut at(pair.issuer.address(), peer), "bad", "service", "is no relay");
    names(&mut at(own, pair.relay.url()), "bad", "peer", "does not say its keys");
    names(&mut at(own, &gone), "bad", "peer", "is it running");
    names(&mut at(own, "https://issuer.example"), "bad", "peer", "http://HOST:PORT");
    let mut proxied = at(own, peer);
    names(
        proxied.env("TOCYN_RELAY__PROXY_PROTOCOL", "true"),
        "bad",
        "service",
        "another proxy_protocol",
    );
    // A pairing that was replaced.
    assert_eq!((pair.relay.stop().code(), pair.issuer.stop().code()), (Some(0), Some(0)));
    pair.world.issuer_command(&["pairing", "renew"]);
    pair.world.relay_command(&["pairing", "install", pair.world.pairing_file().to_str().unwrap()]);
    drop((pair.world.start_relay(), pair.world.start_issuer()));
    std::fs::copy(&old, pair.world.relay_data().join("pairing.toml")).unwrap();
    std::fs::copy(&old, pair.world.pairing_file()).unwrap();
    for (name, data) in [("tocyn-relay", &relay), ("tocyn-issuer", &issuer)] {
        let mut command = Command::new(program(name));
        command.arg("--data").arg(data).args(["doctor", "--json"]);
        names(&mut command, "bad", "pairing", "it was replaced before");
    }
}

#[test]
fn clocks_that_are_wrong_are_named() {
    let pair = Pair::new();
    let (clock, relay) = (pair.world.path().join("clock"), pair.world.relay_data());
    let clocked = |offset: i64| {
        std::fs::write(&clock, offset.to_string()).unwrap();
        let mut command = Command::new(program("clocked"));
        command.arg("relay").env("TOCYN_TEST_CLOCK", &clock);
        command
    };
    let (listen, issuer) = (pair.relay.address(), pair.issuer.url());
    let doctor = |offset| of_relay(clocked(offset), &relay, listen, issuer);
    names(&mut doctor(3600), "bad", "clocks", "behind this machine's");
    names(&mut doctor(30), "good", "clocks", "s apart");
    let found = findings(&mut doctor(-86_400));
    let bad: Vec<_> = found.iter().filter(|f| f.level == "bad").collect();
    assert_eq!(bad.len(), 2, "{found:#?}");
    assert!(bad[0].text.contains("before the pairing's genesis"), "{bad:?}");
    assert!(bad[1].text.contains("ahead of this machine's"), "{bad:?}");
    // And against the database's.
    let url = Postgres::shared().new_url();
    let (other, world) = (World::default(), World::default());
    for (world, role) in [(&other, "relay"), (&world, "issuer")] {
        let (data, name) = (world.path().join(role), format!("tocyn-{role}"));
        let url = if role == "relay" { url.clone() } else { Postgres::shared().new_url() };
        let mut serve = tocyn_e2e::service::serve(&name, &data, "127.0.0.1:0");
        let service = Service::run(serve.args(["--database", &url]), &data);
        let doctor = |offset: i64| {
            let mut command = clocked(offset);
            if role == "issuer" {
                command = Command::new(program("clocked"));
                command.arg("issuer").env("TOCYN_TEST_CLOCK", &clock);
            }
            let listen = format!("TOCYN_{}__LISTEN", role.to_uppercase());
            command.env(listen, service.address()).args(["--database", &url]);
            command.arg("--data").arg(&data).args(["doctor", "--json"]);
            command
        };
        names(&mut doctor(3600), "bad", "clocks", "off the database's");
        names(&mut doctor(0), "good", "clocks", "the database's agree");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_file_that_is_missing_is_named_and_so_is_a_folder_that_is_gone() {
    let (pair, http) = (Pair::new(), http_client());
    let tokens = buy(&http, pair.issuer.url(), &pair.world.voucher(256), 256).await;
    for (n, token) in tokens.iter().enumerate() {
        let cell = cell(&format!("message {n}"));
        let answer = post(&http, pair.relay.url(), &bound(token, &cell), &cell).await.unwrap();
        assert_eq!(answer.status().as_u16(), 201);
    }
    let (log, since) = (pair.world.relay_data().join("log"), Instant::now());
    let sealed = log.join("tile/entries/000");
    while !pair.world.relay_command(&["db", "stats"]).contains("1 bundles of 256") {
        assert!(since.elapsed() < Duration::from_secs(20), "nothing is sealed");
        std::thread::sleep(Duration::from_millis(50));
    }
    names(&mut pair.of_relay(), "good", "sealed", "all 1 files");
    let aside = pair.world.path().join("aside");
    std::fs::rename(&sealed, &aside).unwrap();
    names(&mut pair.of_relay(), "bad", "sealed", sealed.to_str().unwrap());
    std::fs::write(&sealed, "some of it").unwrap();
    names(&mut pair.of_relay(), "bad", "sealed", "1 of 1 files");
    std::fs::rename(&aside, &sealed).unwrap();
    std::fs::write(log.join("key"), "other.example+00000000+x\n").unwrap();
    names(&mut pair.of_relay(), "bad", "sealed", "the messages of another log");
    std::fs::rename(&log, &aside).unwrap();
    names(&mut pair.of_relay(), "bad", "sealed", "is it mounted");
}

#[test]
fn a_disk_that_is_nearly_full_is_named() {
    let world = World::default();
    let disk = world.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    // In a namespace of its own, where it may mount; what it mounts goes with it.
    let mut doctor = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        doctor.args(["--user", "--map-root-user"]);
    }
    let script = "mount -t tmpfs -o size=8m,mode=700 tmpfs \"$1\" && cp -a \"$2/.\" \"$1\" && \
        exec \"$3\" --data \"$1\" doctor --json";
    doctor.args(["--mount", "sh", "-c", script, "sh"]);
    doctor.arg(&disk).arg(world.relay_data()).arg(program("tocyn-relay"));
    names(&mut doctor, "warning", "space", "make room before posts are refused");
}
