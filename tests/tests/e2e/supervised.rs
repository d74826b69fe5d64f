//! The services as systemd runs them: told that they are ready and that they live, with sockets and
//! the pairing passed on; and the units that say so.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tocyn_e2e::programs::program;
use tocyn_e2e::raw_http;
use tocyn_e2e::service::{Service, serve};
use tocyn_e2e::unix_http;
use tocyn_e2e::world::{World, output};

const SERVICES: [&str; 2] = ["tocyn-issuer", "tocyn-relay"];
/// The units' exposure, of 10, must stay below this.
const EXPOSURE: &str = "1.0";

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// In systemd's place: what a service tells it.
struct Supervisor {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Supervisor {
    fn new(folder: &Path) -> Self {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self { socket, path }
    }

    fn next(&self) -> String {
        let mut buffer = [0; 1024];
        let length = self.socket.recv(&mut buffer).expect("the service tells something");
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    }
}

fn data(world: &World, name: &str) -> PathBuf {
    if name == "tocyn-issuer" { world.issuer_data() } else { world.relay_data() }
}

#[test]
fn systemd_is_told_of_start_life_and_end() {
    let world = World::default();
    for name in SERVICES {
        let data = data(&world, name);
        let supervisor = Supervisor::new(&data);
        let mut command = serve(name, &data, "127.0.0.1:0");
        command.env("NOTIFY_SOCKET", &supervisor.path).env("WATCHDOG_USEC", "400000");
        let service = Service::run(&mut command, &data);
        // The two tasks that tell are not ordered, but both do.
        let told: Vec<String> = (0..5).map(|_| supervisor.next()).collect();
        assert_eq!(told.iter().filter(|told| *told == "READY=1").count(), 1, "{told:?}");
        assert_eq!(told.iter().filter(|told| *told == "WATCHDOG=1").count(), 4, "{told:?}");
        service.signal_stop();
        let end = (0..1000).map(|_| supervisor.next()).find(|told| told != "WATCHDOG=1");
        assert_eq!(end.as_deref(), Some("STOPPING=1"));
        assert_eq!(service.stop().code(), Some(0));
    }
}

#[test]
fn nobody_is_told_of_life_where_no_watchdog_runs() {
    let world = World::default();
    let data = world.relay_data();
    let supervisor = Supervisor::new(&data);
    let mut command = serve("tocyn-relay", &data, "127.0.0.1:0");
    let relay = Service::run(command.env("NOTIFY_SOCKET", &supervisor.path), &data);
    assert_eq!(supervisor.next(), "READY=1");
    relay.signal_stop();
    assert_eq!(supervisor.next(), "STOPPING=1");
}

/// A folder with the pairing in it, as the supervisor passes it on.
fn credentials(world: &World) -> PathBuf {
    let passed = world.path().join("credentials");
    std::fs::create_dir(&passed).unwrap();
    std::fs::copy(world.pairing_file(), passed.join("pairing.toml")).unwrap();
    passed
}

/// The program behind `systemd-socket-activate`, which listens for clients and for the operator, and
/// starts it when somebody connects.
#[test]
fn sockets_and_the_pairing_are_passed_on() {
    let world = World::default();
    let passed = credentials(&world);
    for name in SERVICES {
        // As `StateDirectory=` makes it: with nothing in it.
        let data = world.path().join(format!("state-{name}"));
        std::fs::create_dir(&data).unwrap();
        let [public, admin] = ["public.socket", "operator.socket"].map(|name| data.join(name));
        let mut command = Command::new("systemd-socket-activate");
        command.arg("--fdname=public:admin").arg("--listen").arg(&public);
        command.arg("--listen").arg(&admin);
        command.arg(format!("--setenv=CREDENTIALS_DIRECTORY={}", passed.display()));
        command.arg(program(name)).arg("--data").arg(&data).arg("serve");
        let (service, metrics) = std::thread::scope(|threads| {
            let metrics = threads.spawn(|| {
                let mut waits = 0;
                while !admin.exists() {
                    assert!(waits < 60_000 / 20, "{} does not appear", admin.display());
                    waits += 1;
                    std::thread::sleep(Duration::from_millis(20));
                }
                unix_http::get(&admin, "/metrics")
            });
            (Service::run(&mut command, &data), metrics.join().unwrap())
        });
        assert!(metrics.contains(&format!("{}_build_info", name.replace('-', "_"))), "{metrics}");
        assert_eq!(service.url(), format!("unix:{}", public.display()));
        assert!(unix_http::get(&public, "/readyz").len() < 64);
        assert!(!data.join("admin.sock").exists(), "the socket passed on is taken instead");
        assert!(!data.join("pairing.toml").exists(), "the pairing is nowhere but where it was");
        assert_eq!(service.stop().code(), Some(0));
        assert!(admin.exists(), "it is systemd's to remove");
    }
}

/// A TCP socket without a name, as descriptor 3; the operator's comes from the settings then.
#[test]
fn a_tcp_socket_is_passed_on() {
    let world = World::default();
    for name in SERVICES {
        let data = data(&world, name);
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let mut command = Command::new("sh");
        let script = "exec 3<&0 0</dev/null; export LISTEN_PID=$$; exec \"$@\"";
        command.args(["-c", script, "sh"]).arg(program(name));
        command.arg("--data").arg(&data).arg("serve").env("LISTEN_FDS", "1");
        let service = Service::run(command.stdin(OwnedFd::from(socket)), &data);
        assert_eq!(service.address(), address);
        let ready = raw_http::exchange(&address, &raw_http::request("GET", "/readyz", &[], b""));
        assert_eq!(ready.status, 200, "{ready:?}");
        assert!(unix_http::get(&data.join("admin.sock"), "/metrics").contains("build_info"));
        assert_eq!(service.stop().code(), Some(0));
    }
}

#[test]
fn a_credential_comes_before_the_file_in_the_folder() {
    let world = World::default();
    let passed = credentials(&world);
    std::fs::write(passed.join("pairing.toml"), "issuer_name = 3\n").unwrap();
    for name in SERVICES {
        let data = data(&world, name);
        let mut command = serve(name, &data, "127.0.0.1:0");
        let error = Service::try_run(command.env("CREDENTIALS_DIRECTORY", &passed), &data);
        let error = error.err().expect("a broken pairing is refused");
        assert!(error.contains("credentials/pairing.toml: line 1"), "{error}");
    }
}

/// Copies of the units whose programs are where they were built: `verify` looks for them.
fn units(folder: &Path) -> Vec<PathBuf> {
    let mut units = Vec::new();
    for entry in std::fs::read_dir(deploy().join("systemd")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut text = std::fs::read_to_string(&path).unwrap();
        if let Some(program_name) = name.strip_suffix(".service") {
            let installed = format!("ExecStart=/usr/bin/{program_name} ");
            assert!(text.contains(&installed), "{name}");
            let built = format!("ExecStart={} ", program(program_name).display());
            text = text.replace(&installed, &built);
        }
        std::fs::write(folder.join(&name), text).unwrap();
        units.push(folder.join(name));
    }
    assert_eq!(units.len(), 6);
    units
}

#[test]
fn the_units_are_valid_and_hardened() {
    let dir = tempfile::tempdir().unwrap();
    let units = units(dir.path());
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--recursive-errors=no"]).args(&units);
    let verified = output(&mut verify);
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success(), "{said}");
    // It is content with keys that it does not know.
    let ours = |line: &&str| line.contains("tocyn-");
    assert_eq!(said.lines().filter(ours).collect::<Vec<_>>(), [] as [&str; 0]);
    let services = units.iter().filter(|path| path.extension().is_some_and(|e| e == "service"));
    for service in services {
        let threshold = (EXPOSURE.parse::<f64>().unwrap() * 10.0).to_string();
        let mut security = Command::new("systemd-analyze");
        security.args(["security", "--offline=yes", "--no-pager", "--threshold", &threshold]);
        let security = output(security.arg(service));
        let said = String::from_utf8_lossy(&security.stdout);
        assert!(said.contains("Overall exposure level"), "{said}");
        assert!(security.status.success(), "above {EXPOSURE}: {said}");
    }
}
