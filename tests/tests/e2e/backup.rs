//! Backups beside the work, and what a restore does about tokens that the backup knows nothing of.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tocyn_e2e::bearer::{bound, buy, cell, http_client, post, read_all};
use tocyn_e2e::member::{Member, new_group};
use tocyn_e2e::programs::program;
use tocyn_e2e::service::{Service, serve};
use tocyn_e2e::world::{World, output, succeed};
use tocyn_protocol::relay::{PostReceipt, RelayInfo};
use tocyn_protocol::token::Token;
use tocyn_test_postgres::Postgres;

/// As many messages are sealed before the backup, in two bundles.
const SEALED: usize = 512;
/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

fn now() -> u64 {
    (tocyn_relay::system_clock())()
}

/// A command of a service on a folder.
fn command(name: &str, data: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program(name));
    command.arg("--data").arg(data).args(args).stdin(Stdio::null());
    command
}

/// A command that must fail with status 1; gives what it says.
fn refused(command: &mut Command) -> String {
    let output = output(command);
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
    said
}

fn refuses_to_serve(data: &Path) -> String {
    refused(&mut serve("tocyn-relay", data, "127.0.0.1:0"))
}

/// Nobody but the owner can read anything in this folder.
fn check_modes(folder: &Path) {
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder), 0o700, "{}", folder.display());
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        match path.is_dir() {
            true => check_modes(&path),
            false => assert_eq!(mode(&path), 0o600, "{}", path.display()),
        }
    }
}

/// Posts a text of its own; gives the status, and the problem or the receipt.
async fn send(http: &reqwest::Client, url: &str, token: &Token, text: &str) -> (u16, String) {
    let cell = cell(text);
    let answer = post(http, url, &bound(token, &cell), &cell).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn info(http: &reqwest::Client, url: &str) -> RelayInfo {
    http.get(format!("{url}/v1/info")).send().await.unwrap().json().await.unwrap()
}

/// The sequences of a backup.
fn head_of(backup: &Path) -> u64 {
    let text = std::fs::read_to_string(backup.join("backup.toml")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("head = ")).unwrap();
    line.parse().unwrap()
}

fn balance(issuer: &Path) -> u64 {
    let text = succeed(&mut command("tocyn-issuer", issuer, &["voucher", "list", "--json"]));
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    rows.iter().map(|row| row["balance"].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_is_restored_from_backups_that_were_made_beside_its_work() {
    let _turn = crate::heavy().await;
    let (world, http) = (World::default(), http_client());
    let (issuer, relay) = (world.start_issuer(), world.start_relay());
    let at_relay = relay.address().to_owned();
    let (relay_url, issuer_url) = (relay.url().to_owned(), issuer.url().to_owned());
    let voucher = world.voucher(16_384);
    let mut tokens = Vec::new();
    while tokens.len() < 4096 {
        tokens.extend(buy(&http, &issuer_url, &voucher, 512).await);
    }
    let (sealed, load) = tokens.split_at(SEALED);
    for (n, some) in sealed.chunks(64).enumerate() {
        let texts: Vec<_> = (0..some.len()).map(|m| format!("message {n} {m}")).collect();
        let posts = some.iter().zip(&texts);
        let posts = posts.map(|(token, text)| send(&http, &relay_url, token, text));
        assert!(join_all(posts).await.iter().all(|(status, _)| *status == 201));
    }
    let since = Instant::now();
    loop {
        let stats = world.relay_command(&["db", "stats", "--json"]);
        let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
        assert!(stats["wal_bytes"].as_u64().unwrap() > 0, "{stats}");
        if stats["sealed_bytes"] == 2 * 256 * (2 + 2048) {
            break;
        }
        assert!(since.elapsed() < PATIENCE, "nothing is sealed: {stats}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Ann knows the log up to here, Bob will know what comes after the backup.
    let invite = new_group("friends", &issuer_url, &relay_url).await;
    let ann = Member::join(world.path(), "ann", &invite, &relay_url).await;
    let bob = Member::join(world.path(), "bob", &invite, &relay_url).await;
    ann.sync(now()).await.unwrap();

    let (stop, head) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let posting = {
        let (stop, head, http) = (stop.clone(), head.clone(), http.clone());
        let (load, url) = (load.to_vec(), relay_url.clone());
        tokio::spawn(async move {
            for (n, token) in load.iter().enumerate() {
                if stop.load(Ordering::Relaxed) {
                    return n;
                }
                let (status, body) = send(&http, &url, token, &format!("under load {n}")).await;
                assert_eq!(status, 201, "{body}");
                let receipt: PostReceipt = serde_json::from_str(&body).unwrap();
                head.store(receipt.seq, Ordering::Relaxed);
            }
            panic!("there are too few tokens for this machine")
        })
    };
    let reached = async |seq: u64| {
        let since = Instant::now();
        while head.load(Ordering::Relaxed) < seq {
            assert!(since.elapsed() < PATIENCE, "nothing is posted any more");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    reached(SEALED as u64 + 20).await;
    let backups = ["relay", "issuer"].map(|name| world.path().join(format!("backup-{name}")));
    for (name, backup) in ["relay", "issuer"].iter().zip(&backups) {
        let (program, data) = (format!("tocyn-{name}"), world.path().join(name));
        let mut backup = command(&program, &data, &["backup", backup.to_str().unwrap()]);
        let said = tokio::task::spawn_blocking(move || succeed(&mut backup)).await.unwrap();
        assert!(said.contains("checked"), "{said}");
    }
    let [relay_backup, issuer_backup] = &backups;
    let kept = head_of(relay_backup);
    assert!(kept >= SEALED as u64 + 20);
    reached(kept + 20).await;
    stop.store(true, Ordering::Relaxed);
    let posted = posting.await.unwrap();
    let before = read_all(&http, &relay_url).await;
    assert_eq!(before.len(), SEALED + posted, "the backup has stopped nothing");
    let left = balance(&world.issuer_data());
    let bought_after = buy(&http, &issuer_url, &voucher, 16).await;
    bob.sync(now()).await.unwrap();
    let key = info(&http, &relay_url).await.log_key;
    relay.kill();
    issuer.kill();

    // The relay first: the issuer's restore makes the pairing that it needs.
    let (relay_data, issuer_data) = (world.path().join("relay-2"), world.path().join("issuer-2"));
    let restore = ["restore", relay_backup.to_str().unwrap()];
    let said = succeed(&mut command("tocyn-relay", &relay_data, &restore));
    assert!(said.contains("it does not serve yet"), "{said}");
    let said = refuses_to_serve(&relay_data);
    assert!(said.contains("pairing renew") && said.contains("spent since the backup"), "{said}");
    let install = |file: &Path| {
        command("tocyn-relay", &relay_data, &["pairing", "install", file.to_str().unwrap()])
    };
    let said = refused(&mut install(&world.pairing_file()));
    assert!(said.contains("its pairing is that of the backup"), "{said}");
    let restore = ["restore", issuer_backup.to_str().unwrap()];
    let said = succeed(&mut command("tocyn-issuer", &issuer_data, &restore));
    assert!(said.contains("tocyn-relay pairing install"), "{said}");
    let new_pairing = issuer_data.join("pairing.toml");
    succeed(&mut install(&new_pairing));
    for folder in [relay_backup, issuer_backup, &relay_data, &issuer_data] {
        check_modes(folder);
    }
    assert_eq!(balance(&issuer_data), left, "as it was at the backup");
    let credential = |data: &Path| std::fs::read(data.join("admin.credential")).unwrap();
    assert_eq!(credential(&issuer_data), credential(&world.issuer_data()));

    let issuer = Service::start("tocyn-issuer", &issuer_data);
    let relay = Service::start_at("tocyn-relay", &relay_data, &at_relay);
    assert_eq!(read_all(&http, relay.url()).await, before[..kept as usize]);
    assert_eq!(info(&http, relay.url()).await.log_key, key);
    let spent_after = &load[kept as usize - SEALED + 1];
    for token in [&sealed[0], &load[0], spent_after, &load[posted], &bought_after[0]] {
        let (status, body) = send(&http, relay.url(), token, "again").await;
        assert!(status == 401 && body.contains("unknown-key"), "{status} {body}");
    }
    let fresh = buy(&http, issuer.url(), &voucher, 16).await;
    let (status, body) = send(&http, relay.url(), &fresh[0], "after the restore").await;
    let receipt: PostReceipt = serde_json::from_str(&body).unwrap();
    assert_eq!((status, receipt.seq), (201, kept + 1), "{body}");
    let synced = ann.sync(now()).await.unwrap();
    assert!(synced.faults.is_empty(), "to her, the log only grew: {synced:?}");
    let said = format!("{:?}", bob.sync(now()).await);
    let faults: Vec<_> = bob.faults().await.into_iter().map(|fault| fault.what).collect();
    assert!(!faults.is_empty(), "he has seen what is lost: {said}");
    for (name, data) in [("tocyn-relay", &relay_data), ("tocyn-issuer", &issuer_data)] {
        assert!(succeed(&mut command(name, data, &["db", "check"])).contains("no fault found"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pairing_from_between_backup_and_restore_is_not_served() {
    let (world, data) = (World::default(), tempfile::tempdir().unwrap());
    drop(world.start_relay());
    let backup = world.path().join("backup");
    world.relay_command(&["backup", backup.to_str().unwrap()]);
    world.issuer_command(&["pairing", "renew"]);
    let between = world.path().join("between.toml");
    std::fs::copy(world.pairing_file(), &between).unwrap();
    let data = data.path().join("relay");
    succeed(&mut command("tocyn-relay", &data, &["restore", backup.to_str().unwrap()]));
    let install = |file: &Path| {
        command("tocyn-relay", &data, &["pairing", "install", file.to_str().unwrap()])
    };
    let said = refused(&mut install(&between));
    assert!(said.contains("made before the restore"), "{said}");
    // Nor where it is put there by hand.
    std::fs::copy(&between, data.join("pairing.toml")).unwrap();
    assert!(refuses_to_serve(&data).contains("made before the restore"));
    world.issuer_command(&["pairing", "renew"]);
    succeed(&mut install(&world.pairing_file()));
    let relay = Service::start("tocyn-relay", &data);
    assert_eq!(relay.stop().code(), Some(0));
    // For good.
    assert!(refused(&mut install(&between)).contains("made before the restore"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_pair_moves_to_other_folders_and_keeps_its_tokens() {
    let (world, http) = (World::default(), http_client());
    let (issuer, relay) = (world.start_issuer(), world.start_relay());
    let tokens = buy(&http, issuer.url(), &world.voucher(64), 16).await;
    assert_eq!(send(&http, relay.url(), &tokens[0], "before").await.0, 201);
    assert_eq!((issuer.stop().code(), relay.stop().code()), (Some(0), Some(0)));
    let [relay_backup, issuer_backup] = ["r", "i"].map(|name| world.path().join(name));
    world.relay_command(&["backup", relay_backup.to_str().unwrap()]);
    world.issuer_command(&["backup", issuer_backup.to_str().unwrap()]);
    let (relay_data, issuer_data) = (world.path().join("relay-2"), world.path().join("issuer-2"));
    let restore = ["restore", "--keep-pairing", issuer_backup.to_str().unwrap()];
    succeed(&mut command("tocyn-issuer", &issuer_data, &restore));
    succeed(&mut command("tocyn-relay", &relay_data, &["restore", relay_backup.to_str().unwrap()]));
    let pairing = issuer_data.join("pairing.toml");
    let install = ["pairing", "install", "--nothing-forgotten", pairing.to_str().unwrap()];
    succeed(&mut command("tocyn-relay", &relay_data, &install));
    let relay = Service::start("tocyn-relay", &relay_data);
    assert_eq!(send(&http, relay.url(), &tokens[0], "before").await.0, 200, "it is the same post");
    assert_eq!(send(&http, relay.url(), &tokens[0], "another").await.0, 409);
    assert_eq!(send(&http, relay.url(), &tokens[1], "after").await.0, 201);
    let issuer = Service::start("tocyn-issuer", &issuer_data);
    assert_eq!(balance(&issuer_data), 48);
    drop(issuer);
}

#[test]
fn a_backup_that_was_cut_short_or_damaged_is_refused() {
    let world = World::default();
    drop((world.start_relay(), world.start_issuer()));
    let data = world.relay_data();
    let backup = world.path().join("backup");
    let path = backup.to_str().unwrap();
    // The last file that is copied cannot be read to its end, so that the backup is held up there.
    let (key, aside) = (data.join("log.key"), world.path().join("log.key"));
    std::fs::rename(&key, &aside).unwrap();
    succeed(Command::new("mkfifo").arg(&key));
    let mut held = command("tocyn-relay", &data, &["backup", path]).spawn().unwrap();
    let since = Instant::now();
    while !backup.join("pairing.toml").exists() {
        assert!(since.elapsed() < PATIENCE, "it does not get as far");
        std::thread::sleep(Duration::from_millis(5));
    }
    held.kill().unwrap();
    held.wait().unwrap();
    std::fs::rename(&aside, &key).unwrap();
    assert!(backup.join("relay.sqlite").exists());
    let restored = world.path().join("restored");
    let restore = || command("tocyn-relay", &restored, &["restore", path]);
    let said = refused(&mut restore());
    assert!(said.contains("cut short") && !restored.exists(), "{said}");
    let again = || command("tocyn-relay", &data, &["backup", path]);
    assert!(refused(&mut again()).contains("a new folder for each backup"));

    std::fs::remove_dir_all(&backup).unwrap();
    succeed(&mut again());
    let said = refused(&mut command("tocyn-issuer", &restored, &["restore", path]));
    assert!(said.contains("a backup of tocyn-relay"), "{said}");
    assert!(refused(&mut command("tocyn-relay", &data, &["restore", path])).contains("not empty"));
    let file = backup.join("relay.sqlite");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let said = refused(&mut restore());
    assert!(said.contains("damaged") && said.contains("relay.sqlite"), "{said}");
    // What came of it is no data folder, and does not become one.
    assert!(!restored.join("relay.sqlite").exists());
    let pairing = world.pairing_file();
    for args in [
        &["pairing", "install", pairing.to_str().unwrap()][..],
        &["pairing", "install", "--nothing-forgotten", pairing.to_str().unwrap()],
    ] {
        let said = refused(&mut command("tocyn-relay", &restored, args));
        assert!(said.contains("cut short"), "{said}");
    }
    refuses_to_serve(&restored);
}

#[test]
fn an_issuers_restore_that_was_cut_short_leaves_no_issuer() {
    let world = World::default();
    drop(world.start_issuer());
    world.voucher(16);
    let backup = world.path().join("backup");
    let path = backup.to_str().unwrap();
    world.issuer_command(&["backup", path]);
    // The last file that is copied cannot be read to its end, so that the restore is held up there.
    let (pairing, aside) = (backup.join("pairing.toml"), world.path().join("pairing.toml"));
    std::fs::rename(&pairing, &aside).unwrap();
    succeed(Command::new("mkfifo").arg(&pairing));
    let restored = world.path().join("restored");
    let mut held = command("tocyn-issuer", &restored, &["restore", path]).spawn().unwrap();
    let since = Instant::now();
    while !restored.join("issuer.sqlite").exists() {
        assert!(since.elapsed() < PATIENCE, "it does not get as far");
        std::thread::sleep(Duration::from_millis(5));
    }
    held.kill().unwrap();
    held.wait().unwrap();
    // Also with a pairing: a supervisor may pass on the one from before.
    for _ in 0..2 {
        let mut commands = vec![serve("tocyn-issuer", &restored, "127.0.0.1:0")];
        for args in
            [&["voucher", "list"][..], &["voucher", "create", "--tokens", "16"], &["doctor"]]
        {
            commands.push(command("tocyn-issuer", &restored, args));
        }
        for command in &mut commands {
            let said = refused(command);
            assert!(said.contains("cut short") && said.contains("restore again"), "{said}");
        }
        std::fs::copy(&aside, restored.join("pairing.toml")).unwrap();
    }
    std::fs::remove_dir_all(&restored).unwrap();
    std::fs::rename(&aside, &pairing).unwrap();
    succeed(&mut command("tocyn-issuer", &restored, &["restore", path]));
    assert_eq!(balance(&restored), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_the_database_stays_where_it_is() {
    let (world, http) = (World::default(), http_client());
    let issuer = world.start_issuer();
    let tokens = buy(&http, issuer.url(), &world.voucher(16), 16).await;
    assert_eq!(issuer.stop().code(), Some(0));
    let (relay_url, issuer_url) = (Postgres::shared().new_url(), Postgres::shared().new_url());
    let relay_data = world.relay_data();
    let mut start = serve("tocyn-relay", &relay_data, "127.0.0.1:0");
    let relay = Service::run(start.args(["--database", &relay_url]), &relay_data);
    assert_eq!(send(&http, relay.url(), &tokens[0], "kept").await.0, 201);

    let new = world.path().join("relay-2");
    let backup = world.path().join("backup");
    let on = |data: &Path, args: &[&str]| {
        command("tocyn-relay", data, &[&["--database", &relay_url][..], args].concat())
    };
    let said = succeed(&mut on(&relay_data, &["backup", backup.to_str().unwrap()]));
    assert!(said.contains("is not in it") && said.contains("pg_dump"), "{said}");
    assert!(!backup.join("relay.sqlite").exists() && backup.join("log.key").exists());
    let elsewhere =
        refused(&mut command("tocyn-relay", &new, &["restore", backup.to_str().unwrap()]));
    assert!(elsewhere.contains("not where the settings say"), "{elsewhere}");
    succeed(&mut on(&new, &["restore", backup.to_str().unwrap()]));
    let said = refused(&mut on(&new, &["serve", "--listen", "127.0.0.1:0"]));
    assert!(said.contains("If the PostgreSQL database has lost nothing"), "{said}");
    let pairing = world.pairing_file();
    let install = ["pairing", "install", "--nothing-forgotten", pairing.to_str().unwrap()];
    succeed(&mut on(&new, &install));
    let second = Service::run(&mut on(&new, &["serve", "--listen", "127.0.0.1:0"]), &new);
    assert_eq!(read_all(&http, second.url()).await, [(1, cell("kept"))]);
    assert_eq!(send(&http, second.url(), &tokens[0], "another").await.0, 409);

    let issuer_backup = world.path().join("issuer-backup");
    let on = |data: &Path, args: &[&str]| {
        command("tocyn-issuer", data, &[&["--database", &issuer_url][..], args].concat())
    };
    let said = succeed(&mut on(
        &world.path().join("issuer-3"),
        &["init", "--issuer-name", "i", "--origin-name", "r"],
    ));
    assert!(said.contains("wrote"));
    let issuer_data = world.path().join("issuer-3");
    succeed(&mut on(&issuer_data, &["voucher", "create", "--tokens", "16"]));
    let said = succeed(&mut on(&issuer_data, &["backup", issuer_backup.to_str().unwrap()]));
    assert!(said.contains("is not in it"), "{said}");
    let new = world.path().join("issuer-4");
    let said = succeed(&mut on(&new, &["restore", issuer_backup.to_str().unwrap()]));
    assert!(said.contains("a standby took over"), "{said}");
    let read = |data: &Path| std::fs::read(data.join("pairing.toml")).unwrap();
    assert_eq!(read(&new), read(&issuer_data), "others may serve with it");
}
