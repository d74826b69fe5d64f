//! What the services answer is what their `/openapi.json` describes: each success, and each problem
//! that docs/PROTOCOL.md says they send.

mod document;
mod issuer;
mod operator;
mod relay;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use sqlx::Connection;
use tocyn_e2e::programs::program;
use tocyn_e2e::raw_http::{Answer, exchange, request};
use tocyn_e2e::service::Service;
use tocyn_e2e::world::{World, output};
use tocyn_protocol::problem::{Problem, ProblemType};

use document::Document;

/// Problems of a service by the table in docs/PROTOCOL.md.
fn listed(service: &str) -> BTreeSet<String> {
    let table = include_str!("../../../docs/PROTOCOL.md").split("\n## Problems\n").nth(1).unwrap();
    let rows = table.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let sent = rows.filter(|cells| cells.len() > 4 && [service, "both"].contains(&cells[3]));
    sent.map(|cells| cells[1].to_owned()).collect()
}

/// Every success that is described and every listed problem was seen, but for what only a fault of our own brings about.
fn saw_all(mut document: Document, service: &str) {
    let problem = Problem::new(ProblemType::Internal, "a thread has died");
    let internal = Answer {
        status: problem.status,
        headers: vec![("content-type".into(), "application/problem+json".into())],
        body: serde_json::to_string(&problem).unwrap(),
    };
    document.check_at("/components/responses/Internal", &internal);
    let listed = listed(service);
    assert!(listed.len() > 15, "{listed:?}");
    assert_eq!(document.problems(), listed, "docs/PROTOCOL.md and openapi.json");
    assert_eq!(document.seen_problems(), listed, "what was sent");
    assert_eq!(document.unseen_successes(), Vec::<String>::new());
}

/// Each path takes the methods that are described, and no other.
fn takes_the_methods(document: &mut Document, address: &str, has_problems: bool) {
    for (path, methods) in document.methods() {
        let target = path.replace("{path}", "0/000.p/1");
        let answer = exchange(address, &request("DELETE", &target, &[], b""));
        assert_eq!(answer.status, 405, "{path}");
        let allowed = answer.header("allow").expect("it says which").split(',');
        let allowed = allowed.map(|method| method.trim().to_owned()).collect();
        assert_eq!(methods, allowed, "{path}");
        if has_problems {
            document.check_at("/components/responses/MethodNotAllowed", &answer);
        }
    }
}

/// Everything else is not there.
fn has_no_other_path(document: &mut Document, address: &str) {
    let answer = exchange(address, &request("GET", "/v2", &[], b""));
    assert_eq!(answer.status, 404);
    document.check_at("/components/responses/NotFound", &answer);
}

/// A service with settings from the environment.
fn serve(name: &str, data: &Path, settings: &[(&str, &str)]) -> Service {
    let mut command = tocyn_e2e::service::serve(name, data, "127.0.0.1:0");
    command.envs(settings.iter().copied());
    Service::run(&mut command, data)
}

/// The text that begins each connection behind Tor, and a request.
fn of_a_client(bytes: Vec<u8>) -> Vec<u8> {
    [&b"PROXY TCP6 fc00:dead:beef:4dad::1:2 ::1 65535 42\r\n"[..], &bytes].concat()
}

/// Tells a service to stop, and waits until it says so itself.
fn leaves(service: &Service, mut ready: impl FnMut() -> u16) {
    service.signal_stop();
    while ready() != 503 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Takes a table away from under a service.
async fn without_table(database: &Path, table: &str) {
    let url = format!("sqlite://{}", database.display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let rename = format!("ALTER TABLE {table} RENAME TO taken_away");
    sqlx::query(sqlx::AssertSqlSafe(rename)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// A service whose data folder is a disk of its own.
fn on_small_disk(world: &World, name: &str, data: &Path) -> Service {
    let disk = world.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let script = "mount -t tmpfs -o size=4m,mode=700 tmpfs \"$1\" && cp -a \"$2/.\" \"$1\" && \
        exec \"$3\" --data \"$1\" serve --listen 127.0.0.1:0";
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(&disk).arg(data).arg(program(name));
    Service::run(command.stdin(Stdio::null()), world.path())
}

/// Leaves no room on the disk of a service that [`on_small_disk`] started.
fn fill_disk(world: &World, service: &Service) {
    let mut command = Command::new("nsenter");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--preserve-credentials"]);
    }
    command.args(["--mount", "--target", &service.id().to_string()]);
    command.args(["sh", "-c", "cat /dev/zero > \"$1/filler\"", "sh"]);
    let filled = output(command.arg(world.path().join("disk")));
    let said = String::from_utf8(filled.stderr).unwrap();
    assert!(said.contains("No space left"), "{said}");
}

/// A clock before the pairing's start is its operator's fault, and passes.
#[test]
fn a_wrong_clock_is_answered_503_until_it_is_right() {
    let world = World::default();
    let clock = world.path().join("clock");
    for (role, data, path) in [
        ("issuer", world.issuer_data(), "/.well-known/private-token-issuer-directory"),
        ("relay", world.relay_data(), "/v1/info"),
    ] {
        std::fs::write(&clock, "-1000000").unwrap();
        let mut command = Command::new(program("clocked"));
        command.arg(role).arg("--data").arg(&data).args(["serve", "--listen", "127.0.0.1:0"]);
        command.env("TOCYN_TEST_CLOCK", &clock).stdin(Stdio::null());
        let service = Service::run(&mut command, &data);
        let mut document = Document::of(service.address());
        for path in [path, "/readyz"] {
            let answer = document.ask(service.address(), ("GET", path), path, &[], b"");
            assert_eq!(answer.status, 503, "{answer:?}");
            let problem = answer.problem();
            assert_eq!(problem.problem_type(), Some(ProblemType::Busy));
            assert!(problem.detail.contains("clock is wrong"), "{problem:?}");
        }
        std::fs::write(&clock, "0").unwrap();
        for path in [path, "/readyz"] {
            let answer = document.ask(service.address(), ("GET", path), path, &[], b"");
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }
}
