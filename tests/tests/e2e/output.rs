//! Output that cannot be written: a reader that has had enough, as `head` has, and a full disk. No
//! command panics, none does half of its work, and codes that nobody has seen are worth nothing.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sqlx::{AssertSqlSafe, Connection};
use tocyn_e2e::programs::program;
use tocyn_e2e::service::{Service, serve};
use tocyn_e2e::unix_http;
use tocyn_e2e::world::{ISSUER_NAME, RELAY_NAME, World, output, succeed};

const UNWRITTEN: &str = "cannot write to standard output: No space left on device";

/// Standard outputs that cannot be written.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Broken {
    ClosedPipe,
    FullDisk,
}

impl Broken {
    const ALL: [Self; 2] = [Self::ClosedPipe, Self::FullDisk];

    fn stdout(self) -> Stdio {
        match self {
            Self::ClosedPipe => std::io::pipe().unwrap().1.into(),
            Self::FullDisk => full().into(),
        }
    }

    /// A command that succeeds otherwise: says nothing of a closed pipe, and fails in plain words
    /// on a full disk. Returns its stderr.
    fn check(self, command: &mut Command) -> String {
        let output = output(command.stdin(Stdio::null()).stdout(self.stdout()));
        let said = String::from_utf8(output.stderr).unwrap();
        let (code, is_named) = match self {
            Self::ClosedPipe => (0, !said.contains("standard output") && !said.contains("pipe")),
            Self::FullDisk => (1, said.contains(UNWRITTEN)),
        };
        assert!(!said.contains("panicked"), "{command:?}, {self:?}: {said}");
        assert_eq!(output.status.code(), Some(code), "{command:?}, {self:?}: {said}");
        assert!(is_named, "{command:?}, {self:?}: {said}");
        said
    }
}

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

fn service(name: &str, data: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program(name));
    command.arg("--data").arg(data).args(args);
    command
}

#[test]
fn no_command_of_the_client_panics() {
    let world = World::default();
    let (issuer, relay) = (world.start_issuer(), world.start_relay());
    let (issuer, relay) = (issuer.url(), relay.url());
    let tocyn = |args: &[&str]| world.tocyn(args);
    let found =
        |group: &str| tocyn(&["group", "create", group, "--relay", relay, "--issuer", issuer]);
    succeed(&mut found("friends"));
    let invite = succeed(&mut tocyn(&["group", "invite", "friends"]));
    let message = world.path().join("message");
    std::fs::write(&message, "hello").unwrap();
    let (message, mirror) = (message.to_str().unwrap(), world.path().join("mirror"));
    for broken in Broken::ALL {
        let voucher = world.voucher(16);
        let group = format!("{broken:?}");
        for mut command in [
            tocyn(&["request", "--group", "friends", "--voucher", &voucher, "--count", "16"]),
            tocyn(&["balance"]),
            tocyn(&["balance", "--json"]),
            tocyn(&["info", relay]),
            tocyn(&["info", relay, "--json"]),
            tocyn(&["relay", "list"]),
            tocyn(&["relay", "list", "--json"]),
            tocyn(&["relay", "look", relay]),
            tocyn(&["post", "--relay", relay, message]),
            tocyn(&["post", "--relay", relay, message, "--json"]),
            tocyn(&["read", "--relay", relay]),
            tocyn(&["read", "--relay", relay, "--json"]),
            tocyn(&["read", "--relay", relay, "--raw"]),
            tocyn(&["send", "friends", "hello", "--cost", "--json"]),
            tocyn(&["send", "friends", "hello"]),
            tocyn(&["send", "friends", "hello", "--json"]),
            tocyn(&["send", "friends", "--resume"]),
            tocyn(&["sync"]),
            tocyn(&["sync", "--json"]),
            tocyn(&["show", "friends"]),
            tocyn(&["show", "friends", "--json"]),
            tocyn(&["check"]),
            tocyn(&["check", "--json"]),
            tocyn(&["check", "--accept"]),
            tocyn(&["mirror", mirror.to_str().unwrap(), "--relay", relay]),
            tocyn(&["mirror", mirror.to_str().unwrap(), "--relay", relay, "--json"]),
            found(&group),
            tocyn(&["group", "invite", &group]),
            tocyn(&["group", "invite", &group, "--json"]),
            tocyn(&["group", "list"]),
            tocyn(&["group", "list", "--json"]),
            tocyn(&["group", "leave", &group]),
            world.tocyn_of(&group, &["group", "join", invite.trim()]),
            tocyn(&["bench", "exhaustion", "--cores", "1"]),
            tocyn(&["bench", "exhaustion", "--cores", "1", "--json"]),
            tocyn(&["relay", "forget", RELAY_NAME]),
        ] {
            broken.check(&mut command);
        }
    }
}

#[test]
fn no_command_of_the_services_panics() {
    let world = World::default();
    world.issuer_command(&["voucher", "create", "--tokens", "16", "--label", "some"]);
    let (issuer, relay) = (world.start_issuer(), world.start_relay());
    for broken in Broken::ALL {
        for (name, data, variable, service_url) in [
            ("tocyn-issuer", world.issuer_data(), "TOCYN_ISSUER__LISTEN", issuer.address()),
            ("tocyn-relay", world.relay_data(), "TOCYN_RELAY__LISTEN", relay.address()),
        ] {
            broken.check(service(name, &data, &["doctor"]).env(variable, service_url));
            broken.check(service(name, &data, &["doctor", "--json"]).env(variable, service_url));
        }
    }
    assert!(issuer.stop().success() && relay.stop().success());

    let pairing = world.pairing_file();
    let pairing = pairing.to_str().unwrap();
    for broken in Broken::ALL {
        let place = |what: &str| world.path().join(format!("{what}-{broken:?}"));
        let text = |what: &str| place(what).to_str().unwrap().to_owned();
        let both: [&[&str]; 10] = [
            &["config", "init", "--to", "-"],
            &["config", "init", "--to"],
            &["config", "validate"],
            &["config", "show"],
            &["config", "show", "--json"],
            &["db", "migrate"],
            &["db", "check"],
            &["db", "stats"],
            &["db", "stats", "--json"],
            &["backup"],
        ];
        let issuers: [&[&str]; 12] = [
            &["voucher", "list"],
            &["voucher", "list", "--json"],
            &["voucher", "labels"],
            &["voucher", "labels", "--json"],
            &["voucher", "revoke", "--label", "some"],
            &["ledger", "show"],
            &["ledger", "show", "--json"],
            &["ledger", "report", "--epoch", "0", "--redeemed", "0"],
            &["key", "list"],
            &["key", "list", "--json"],
            &["pairing", "show"],
            &["pairing", "show", "--json"],
        ];
        let relays: [&[&str]; 2] =
            [&["db", "drop", "--before", "1"], &["pairing", "install", pairing]];
        for (name, data, own) in [
            ("tocyn-issuer", world.issuer_data(), &issuers[..]),
            ("tocyn-relay", world.relay_data(), &relays[..]),
        ] {
            for args in both.iter().chain(own) {
                let mut command = service(name, &data, args);
                if matches!(args, &&["config", "init", "--to"] | &&["backup"]) {
                    command.arg(text(&format!("{name}-{}", args[0])));
                }
                broken.check(&mut command);
            }
            let restored = place(&format!("{name}-restored"));
            let backup = text(&format!("{name}-backup"));
            broken.check(&mut service(name, &restored, &["restore", &backup]));
        }
        let names = ["--issuer-name", ISSUER_NAME, "--origin-name", RELAY_NAME];
        let init = [&["init"][..], &names].concat();
        broken.check(&mut service("tocyn-issuer", &place("issuer"), &init));
        let init = ["init", "--pairing", pairing];
        broken.check(&mut service("tocyn-relay", &place("relay"), &init));
        let renew = ["pairing", "renew", "--planned"];
        broken.check(&mut service("tocyn-issuer", &place("issuer"), &renew));
        broken.check(&mut service("tocyn-issuer", &place("issuer"), &renew[..2]));
    }
}

fn create(world: &World, args: &[&str]) -> Command {
    let create = ["voucher", "create", "--tokens", "16"];
    service("tocyn-issuer", &world.issuer_data(), &[&create[..], args].concat())
}

/// How many vouchers there are.
fn made(world: &World) -> usize {
    let text = world.issuer_command(&["voucher", "list", "--json"]);
    serde_json::from_str::<Vec<serde_json::Value>>(&text).unwrap().len()
}

#[test]
fn vouchers_whose_codes_were_not_read_to_the_end_are_not_made() {
    let world = World::default();
    let mut create = create(&world, &["--count", "5000"]);
    let mut child = create.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let codes = [lines.next().unwrap().unwrap(), lines.next().unwrap().unwrap()];
    assert!(codes.iter().all(|code| code.starts_with("tv1-")), "{codes:?}");
    drop(lines);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(made(&world), 0, "{said}");
    // The two that were read are worth nothing, so this is no success.
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("codes that were printed are not valid"), "{said}");
}

#[test]
fn vouchers_whose_codes_cannot_be_printed_are_not_made() {
    let world = World::default();
    let sheet = world.path().join("sheet.html");
    let forms: [&[&str]; 6] = [
        &[],
        &["--json"],
        &["--csv"],
        &["--allowance"],
        &["--label", "some"],
        &["--sheet", sheet.to_str().unwrap()],
    ];
    for args in forms {
        let said = Broken::FullDisk.check(&mut create(&world, args));
        assert!(said.contains("no voucher was made"), "{said}");
        assert_eq!(made(&world), 0, "{args:?}");
        assert!(!sheet.exists(), "a sheet of codes that are not valid");
    }
    assert!(!world.issuer_command(&["voucher", "labels"]).contains("some"));
}

#[tokio::test]
async fn the_error_says_whether_codes_that_were_printed_are_valid() {
    let world = World::default();
    world.voucher(16);
    let url = format!("sqlite://{}", world.issuer_data().join("issuer.sqlite").display());
    let mut database = sqlx::SqliteConnection::connect(&url).await.unwrap();
    for (table, valid, vouchers) in [
        ("labels", "the vouchers were made, and their codes are valid, but not all have", 3),
        ("vouchers", "no voucher was made, and codes that were printed are not valid", 3),
    ] {
        let refuse = format!(
            "CREATE TRIGGER {table}_fail BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, ''); END"
        );
        sqlx::raw_sql(AssertSqlSafe(refuse)).execute(&mut database).await.unwrap();
        let output = output(&mut create(&world, &["--count", "2", "--label", "some"]));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 2);
        assert!(said.contains(valid), "{said}");
        assert_eq!(made(&world), vouchers);
    }
}

#[test]
fn tokens_that_were_bought_are_in_the_wallet_though_nobody_can_be_told() {
    let world = World::default();
    let (issuer, relay) = (world.start_issuer(), world.start_relay());
    let voucher = world.voucher(16);
    let urls = ["request", "--issuer", issuer.url(), "--relay", relay.url()];
    let args = [&urls[..], &["--voucher", &voucher, "--count", "16"]].concat();
    let said = Broken::FullDisk.check(&mut world.tocyn(&args));
    assert!(said.contains("in the wallet: nothing needs to be bought again"), "{said}");
    assert_eq!(world.balance()["unspent"], 16);
    assert_eq!(world.vouchers_left(), 0);
}

#[test]
fn commands_whose_stderr_is_a_full_disk_do_their_work() {
    let world = World::default();
    let (issuer, relay) = (world.start_issuer(), world.start_relay());
    let quiet = |mut command: Command| output(command.stdin(Stdio::null()).stderr(full()));
    let issuer_command = |args: &[&str]| service("tocyn-issuer", &world.issuer_data(), args);
    let made = quiet(issuer_command(&["voucher", "create", "--tokens", "17"]));
    assert_eq!(made.status.code(), Some(0), "a note says that one token is too many");
    let voucher = String::from_utf8(made.stdout).unwrap();
    let urls = ["request", "--issuer", issuer.url(), "--relay", relay.url()];
    let args = [&urls[..], &["--voucher", voucher.trim(), "--count", "1"]].concat();
    assert_eq!(quiet(world.tocyn(&args)).status.code(), Some(0), "it says that it rounds up");
    assert_eq!(quiet(world.tocyn(&["show", "nobody"])).status.code(), Some(1));
    assert_eq!(quiet(issuer_command(&["voucher", "revoke", "tv1-"])).status.code(), Some(1));
    assert_eq!(quiet(issuer_command(&["voucher"])).status.code(), Some(2));
}

#[test]
fn a_service_whose_log_is_on_a_full_disk_serves() {
    let world = World::default();
    for (name, data) in [("tocyn-issuer", world.issuer_data()), ("tocyn-relay", world.relay_data())]
    {
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$0\" \"$@\" 2>/dev/full"]).arg(program(name));
        shell.arg("--data").arg(&data).args(["serve", "--listen", "127.0.0.1:0"]);
        let service = Service::run(shell.env("RUST_LOG", "debug"), &data);
        for _ in 0..3 {
            unix_http::get(&data.join("admin.sock"), "/metrics");
        }
        assert_eq!(service.stop().code(), Some(0), "{name}");
    }
}

/// Dropping it kills it.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As of a script that has read the first line and ended.
#[test]
fn a_service_whose_stdout_is_closed_serves() {
    let world = World::default();
    for (name, data) in [("tocyn-issuer", world.issuer_data()), ("tocyn-relay", world.relay_data())]
    {
        let mut command = serve(name, &data, "127.0.0.1:0");
        command.stdout(Broken::ClosedPipe.stdout()).stderr(Stdio::null());
        let mut service = Killed(command.spawn().unwrap());
        let socket = data.join("admin.sock");
        while UnixStream::connect(&socket).is_err() {
            assert!(service.0.try_wait().unwrap().is_none(), "{name} does not serve");
            std::thread::sleep(Duration::from_millis(20));
        }
        unix_http::get(&socket, "/metrics");
        kill_process(Pid::from_child(&service.0), Signal::TERM).unwrap();
        assert_eq!(service.0.wait().unwrap().code(), Some(0), "{name}");
    }
}
