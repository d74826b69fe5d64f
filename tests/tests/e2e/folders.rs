//! Data folders: who may read them, who may open them, and what damaged files lead to.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tocyn_e2e::programs::program;
use tocyn_e2e::service::serve;
use tocyn_e2e::world::{World, output};

/// The command fails with status 1; gives what it says.
fn fails(command: &mut Command) -> String {
    let output = output(command.stdin(Stdio::null()));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{command:?}: {stderr}");
    stderr
}

fn fails_to_serve(program_name: &str, data: &Path) -> String {
    fails(&mut serve(program_name, data, "127.0.0.1:0"))
}

/// What `serve` says when `file` holds `text`; the file is put back.
fn with_text(program_name: &str, file: &Path, text: &str) -> String {
    let good = fs::read(file).unwrap();
    fs::write(file, text).unwrap();
    let stderr = fails_to_serve(program_name, file.parent().unwrap());
    fs::write(file, good).unwrap();
    assert!(stderr.contains(file.to_str().unwrap()), "{stderr} does not name the file");
    stderr
}

#[test]
fn secrets_and_databases_are_for_their_owner_only() {
    let world = World::default();
    let _running = (world.start_issuer(), world.start_relay());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for folder in [world.issuer_data(), world.relay_data()] {
        assert_eq!(mode(&folder), 0o700);
        for file in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            let expected = if file.is_dir() { 0o700 } else { 0o600 };
            if !file.ends_with("stderr") {
                assert_eq!(mode(&file), expected, "{}", file.display());
            }
        }
    }
    assert!(world.issuer_data().join("issuer.sqlite").exists());
    assert!(world.relay_data().join("relay.sqlite").exists());
}

#[test]
fn a_folder_is_served_by_one_process() {
    let world = World::default();
    let (mut issuer, mut relay) = (world.start_issuer(), world.start_relay());
    for (name, data) in [("tocyn-issuer", world.issuer_data()), ("tocyn-relay", world.relay_data())]
    {
        let stderr = fails_to_serve(name, &data);
        assert!(stderr.contains("in use by another"), "{stderr}");
        assert!(stderr.contains(data.to_str().unwrap()), "{stderr}");
    }
    let install = ["pairing", "install", world.pairing_file().to_str().unwrap()].map(str::to_owned);
    let mut install_command = Command::new(program("tocyn-relay"));
    install_command.arg("--data").arg(world.relay_data()).args(install);
    assert!(fails(&mut install_command).contains("in use by another"));
    assert!(issuer.is_alive() && relay.is_alive());
    // Vouchers can be made beside a running issuer.
    assert!(world.voucher(16).starts_with("tv1-"));
}

#[test]
fn an_address_in_use_is_named() {
    let (world, other) = (World::default(), World::default());
    let relay = world.start_relay();
    let stderr = fails(&mut serve("tocyn-relay", &other.relay_data(), relay.address()));
    assert!(stderr.contains("cannot listen on") && stderr.contains(relay.address()), "{stderr}");
}

#[test]
fn a_wrong_config_is_refused_with_file_line_and_key() {
    let world = World::default();
    for (name, data) in [("tocyn-issuer", world.issuer_data()), ("tocyn-relay", world.relay_data())]
    {
        let file = data.join("config.toml");
        let good = fs::read_to_string(&file).unwrap();

        let stderr = with_text(name, &file, &format!("colour = \"red\"\n{good}"));
        assert!(stderr.contains("line 1") && stderr.contains("colour"), "{stderr}");

        let wrong_type = good.replace("max_connections = 1024", "max_connections = \"many\"");
        assert_ne!(wrong_type, good);
        let line = 1 + good.lines().position(|line| line.starts_with("max_connections")).unwrap();
        let stderr = with_text(name, &file, &wrong_type);
        assert!(stderr.contains(&format!("line {line}")), "{stderr}");
        assert!(stderr.contains("max_connections"), "{stderr}");

        let stderr =
            with_text(name, &file, &good.replace("max_connections = 1024", "max_connections 1024"));
        assert!(stderr.contains(&format!("line {line}")), "{stderr}");
    }
}

#[test]
fn settings_that_serve_would_refuse_are_refused_before() {
    let world = World::default();
    for (name, data, setting, value, said) in [
        ("tocyn-issuer", world.issuer_data(), "ISSUER__DATABASE__URL", "mysql://x", "database"),
        ("tocyn-issuer", world.issuer_data(), "ISSUER__DATABASE__URL", "env:NO_SUCH", "NO_SUCH"),
        ("tocyn-issuer", world.issuer_data(), "ISSUER__ADMIN__CREDENTIAL", "short", "at least 32"),
        ("tocyn-relay", world.relay_data(), "RELAY__DATABASE__URL", "file:/no/such", "/no/such"),
    ] {
        let validate = |value: Option<&str>| {
            let mut command = Command::new(program(name));
            command.envs(value.map(|value| (format!("TOCYN_{setting}"), value)));
            output(command.arg("--data").arg(&data).args(["config", "validate"]))
        };
        assert_eq!(validate(None).status.code(), Some(0));
        let refused = validate(Some(value));
        let stderr = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{setting}={value}");
        assert!(stderr.contains(said), "{stderr}");
    }
}

#[test]
fn a_damaged_pairing_is_refused_without_showing_its_secret() {
    let world = World::default();
    for (name, data) in [("tocyn-issuer", world.issuer_data()), ("tocyn-relay", world.relay_data())]
    {
        let file = data.join("pairing.toml");
        let good = fs::read_to_string(&file).unwrap();
        let secret_line = good.lines().find(|line| line.starts_with("secret")).unwrap();
        let secret = secret_line.split('"').nth(1).unwrap();
        let number = |key: &str| 1 + good.lines().position(|line| line.starts_with(key)).unwrap();

        for (text, expected) in [
            (good.replace(secret, &secret[..62]), "secret"),
            (good.replace(secret, &secret.replace(&secret[..1], "x")), "secret"),
            (good.replace(secret_line, &format!("{secret_line} x")), "line"),
            (format!("{good}colour = 1\n"), "colour"),
            (good.replace(secret_line, ""), "secret"),
            (good.replace("version = 1", "version = 2"), "version"),
            (good.replace("epoch_seconds = 604800", "epoch_seconds = 0"), "epoch_seconds"),
        ] {
            assert_ne!(text, good);
            let stderr = with_text(name, &file, &text);
            assert!(stderr.contains(expected), "{stderr} does not say {expected}");
            assert!(!stderr.contains(&secret[1..20]), "the secret is shown");
        }
        let stderr = with_text(name, &file, &good.replace(secret, "abc"));
        assert!(stderr.contains(&format!("line {}", number("secret"))), "{stderr}");
    }
}

#[test]
fn damaged_databases_and_missing_folders_are_named() {
    let world = World::default();
    for (name, data, file) in [
        ("tocyn-issuer", world.issuer_data(), "issuer.sqlite"),
        ("tocyn-relay", world.relay_data(), "relay.sqlite"),
    ] {
        fs::write(data.join(file), "this is no database, it is a text of some length").unwrap();
        assert!(fails_to_serve(name, &data).contains(file));
        let stderr = fails_to_serve(name, &world.path().join("nowhere"));
        assert!(stderr.contains("nowhere") && stderr.contains("init"), "{stderr}");
    }
}

/// Names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// Folders that are no service's, and one of the other service.
fn wrong_folders(world: &World, other: &Path) -> [(PathBuf, &'static str); 4] {
    let (nowhere, empty) = (world.path().join("typo"), world.path().join("empty"));
    let locked = world.path().join("locked");
    for folder in [&empty, &locked] {
        fs::create_dir(folder).unwrap();
    }
    fs::write(locked.join("lock"), "").unwrap();
    [
        (nowhere, "no data folder"),
        (empty, "no data folder"),
        (locked, "no data folder"),
        (other.to_owned(), "is the data folder of a"),
    ]
}

#[test]
fn in_a_wrong_folder_commands_make_nothing() {
    let world = World::default();
    let metrics = world.path().join("metrics");
    fs::write(&metrics, "").unwrap();
    let (metrics, pairing) = (metrics.to_str().unwrap(), world.pairing_file());
    let (copy, to) = (world.path().join("pairing.toml"), world.path().join("backup"));
    fs::copy(&pairing, &copy).unwrap();
    let (copy, to) = (copy.to_str().unwrap(), to.to_str().unwrap());
    let issuers: &[&[&str]] = &[
        &["serve", "--listen", "127.0.0.1:0"],
        &["voucher", "create", "--tokens", "16"],
        &["voucher", "list"],
        &["voucher", "labels"],
        &["voucher", "revoke", "0123456789abcdef"],
        &["ledger", "show"],
        &["ledger", "read", metrics],
        &["db", "migrate"],
        &["db", "check"],
        &["db", "stats"],
        &["db", "copy", "--to", "postgres://nobody@127.0.0.1:1/none"],
        &["doctor"],
        &["pairing", "show"],
        &["pairing", "renew"],
        &["key", "list"],
        &["backup", to],
    ];
    let relays: &[&[&str]] = &[
        &["serve", "--listen", "127.0.0.1:0"],
        &["db", "migrate"],
        &["db", "check"],
        &["db", "stats"],
        &["db", "drop", "--before", "1"],
        &["db", "copy", "--to", "postgres://nobody@127.0.0.1:1/none"],
        &["doctor"],
        &["pairing", "install", copy],
        &["backup", to],
    ];
    for (name, commands, other) in [
        ("tocyn-issuer", issuers, world.relay_data()),
        ("tocyn-relay", relays, world.issuer_data()),
    ] {
        let folders = wrong_folders(&world, &other);
        for ((folder, said), command) in
            folders.iter().flat_map(|folder| commands.iter().map(move |command| (folder, command)))
        {
            let before = folder.exists().then(|| names(folder));
            let output =
                output(Command::new(program(name)).arg("--data").arg(folder).args(*command));
            let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            let what = format!("{name} --data {} {command:?}: {text}", folder.display());
            assert_eq!(output.status.code(), Some(1), "{what}");
            assert!(text.contains(said) && text.contains(folder.to_str().unwrap()), "{what}");
            assert!(text.contains("--data"), "{what}");
            assert_eq!(folder.exists().then(|| names(folder)), before, "{what}");
        }
        for (folder, _) in &folders[1..3] {
            fs::remove_dir_all(folder).unwrap();
        }
    }
}

#[test]
fn a_folder_with_settings_alone_takes_no_pairing() {
    let world = World::default();
    let folder = world.path().join("half");
    fs::create_dir(&folder).unwrap();
    fs::copy(world.relay_data().join("config.toml"), folder.join("config.toml")).unwrap();
    let install = |with: Option<&str>| {
        if let Some(file) = with {
            fs::copy(world.relay_data().join(file), folder.join(file)).unwrap();
        }
        let mut install = Command::new(program("tocyn-relay"));
        install.arg("--data").arg(&folder).args(["pairing", "install"]).arg(world.pairing_file());
        output(&mut install)
    };
    let refused = install(None);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("init") && said.contains("restore again"), "{said}");
    assert_eq!(names(&folder), ["config.toml"]);
    assert_eq!(install(Some("log.key")).status.code(), Some(0));
}

#[test]
fn a_wallet_is_made_by_what_puts_something_in_it() {
    let world = World::default();
    let (typo, none) = (world.path().join("wallet"), "there is no wallet in");
    let relay = "http://127.0.0.1:1";
    for command in [
        &["balance"][..],
        &["sync"],
        &["show", "friends"],
        &["check", "--offline"],
        &["send", "friends", "hello"],
        &["post", "--relay", relay, "--resume"],
        &["request", "--resume", "--issuer", relay, "--relay", relay],
        &["group", "list"],
        &["group", "invite", "friends"],
        &["group", "leave", "friends"],
        &["relay", "list"],
        &["relay", "forget", "relay.example"],
    ] {
        let stderr = fails(&mut world.tocyn(command));
        assert!(stderr.contains(none) && stderr.contains(typo.to_str().unwrap()), "{stderr}");
        assert!(stderr.contains("tocyn request"), "{stderr}");
        assert!(!typo.exists(), "{command:?}");
    }
}

#[test]
fn init_overwrites_nothing() {
    let world = World::default();
    let before = fs::read_to_string(world.pairing_file()).unwrap();
    let mut init = Command::new(program("tocyn-issuer"));
    init.arg("--data").arg(world.issuer_data());
    init.args(["init", "--issuer-name", "a", "--origin-name", "b"]);
    assert!(fails(&mut init).contains("not overwritten"));
    assert_eq!(fs::read_to_string(world.pairing_file()).unwrap(), before);

    let mut init = Command::new(program("tocyn-relay"));
    init.arg("--data")
        .arg(world.relay_data())
        .arg("init")
        .arg("--pairing")
        .arg(world.pairing_file());
    assert!(fails(&mut init).contains("not overwritten"));
}

#[test]
fn several_commands_may_be_the_first_to_open_the_issuers_database() {
    let world = World::default();
    let create = || {
        let mut create = Command::new(program("tocyn-issuer"));
        create.arg("--data").arg(world.issuer_data()).args(["voucher", "create", "--tokens", "16"]);
        create.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let all: Vec<_> = (0..8).map(|_| create()).collect();
    for one in all {
        let output = one.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{stderr}");
        assert!(output.stdout.starts_with(b"tv1-"));
    }
}
