//! A PostgreSQL of their own for tests: made with `initdb` in a temporary folder, durable
//! (`fsync=on`), on a unix socket and a free loopback port, and gone with the test's process
//! however that ends.

#![allow(clippy::disallowed_methods, reason = "tests outlive no power cut")]

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// PostgreSQL refuses to run as root: then it runs as `nobody`.
const NOBODY: u32 = 65534;
/// How long it may take to start; after a kill it first replays its log.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// A database server.
pub struct Postgres {
    dir: PathBuf,
    port: u16,
    settings: Vec<String>,
    server: Mutex<Option<Child>>,
    databases: AtomicU32,
    /// Waits for its standard input to end, which it does with this process; then it stops the
    /// server and deletes the folder.
    _watchdog: Child,
}

impl Postgres {
    /// The server that all tests of this process share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[]))
    }

    /// A server with settings beside the defaults, as `name=value`.
    ///
    /// # Panics
    /// If PostgreSQL is not installed or does not start; the message says what to do.
    pub fn start(settings: &[&str]) -> Self {
        let dir = TempDir::with_prefix("tocyn-pg-").expect("a temporary folder").keep();
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C ends the tests; the watchdog then does its work.
            .process_group(0)
            .spawn()
            .expect("sh starts");
        if rustix::process::geteuid().is_root() {
            chown(&dir, Some(NOBODY), Some(NOBODY)).expect("root may");
        }
        let mode = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&dir, mode).expect("the folder is ours");
        let initdb = as_owner("initdb", &dir)
            .args(["--username=tocyn", "--auth=trust", "--no-sync", "--no-locale"])
            .args(["--encoding=UTF8", "--no-instructions", "-D"])
            .arg(dir.join("data"))
            .output()
            .expect("initdb starts");
        assert!(initdb.status.success(), "initdb: {}", String::from_utf8_lossy(&initdb.stderr));
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let postgres = Self {
            dir,
            port: free.expect("a free port").port(),
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            server: Mutex::new(None),
            databases: AtomicU32::new(0),
            _watchdog: watchdog,
        };
        postgres.restart();
        postgres
    }

    /// The folder of the server.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Makes an empty database; gives its name.
    pub fn new_database(&self) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{number}");
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// A URL through the unix socket.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://tocyn@localhost/{database}?host={}&port={}",
            self.dir.display(),
            self.port
        )
    }

    /// A URL through TCP, to this address: the server's, or that of a proxy before it.
    pub fn url_at(&self, address: &str, database: &str) -> String {
        format!("postgres://tocyn@{address}/{database}?sslmode=disable")
    }

    /// A URL of a new, empty database, through the unix socket.
    pub fn new_url(&self) -> String {
        self.url(&self.new_database())
    }

    /// Runs SQL in psql; gives the rows, a line each, columns separated by `|`.
    ///
    /// # Panics
    /// If it fails.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let output = self
            .psql(database)
            .args(["-v", "ON_ERROR_STOP=1", "-c", sql])
            .output()
            .expect("psql starts");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("psql prints text").trim_end().to_owned()
    }

    /// Copies a database, as a backup does, beside those who use it; gives the copy's URL.
    ///
    /// # Panics
    /// If it fails.
    pub fn copy_of(&self, database: &str) -> String {
        let copy = self.new_database();
        let mut dump = as_owner("pg_dump", &self.dir);
        dump.args(["-U", "tocyn", "-p", &self.port.to_string(), "-h"]).arg(&self.dir).arg(database);
        let mut dump = dump.stdout(Stdio::piped()).spawn().expect("pg_dump starts");
        let rows = dump.stdout.take().expect("it is piped");
        let mut restore = self.psql(&copy);
        let restored = restore.args(["-v", "ON_ERROR_STOP=1"]).stdin(rows).output();
        let restored = restored.expect("psql starts");
        assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
        assert!(dump.wait().expect("it can be waited for").success(), "{database} is not dumped");
        self.url(&copy)
    }

    fn psql(&self, database: &str) -> Command {
        let mut command = as_owner("psql", &self.dir);
        command.args(["-XqAt", "-U", "tocyn", "-d", database, "-p", &self.port.to_string(), "-h"]);
        command.arg(&self.dir);
        command
    }

    /// From now on it speaks TLS too, with this certificate and key.
    ///
    /// # Panics
    /// If the files cannot be copied.
    pub fn give_certificate(&self, certificate: &Path, key: &Path) {
        for (from, name) in [(certificate, "server.crt"), (key, "server.key")] {
            let to = self.dir.join("data").join(name);
            std::fs::copy(from, &to).expect("a readable file");
            let mode = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&to, mode).expect("the file is ours");
            if rustix::process::geteuid().is_root() {
                chown(&to, Some(NOBODY), Some(NOBODY)).expect("root may");
            }
        }
        self.sql("postgres", "ALTER SYSTEM SET ssl = on");
        self.stop();
        self.restart();
    }

    /// SIGKILL to the server, as the kernel does when memory runs out. Its children follow.
    pub fn kill(&self) {
        let mut server = self.server.lock().expect("no panic under the lock");
        let mut child = server.take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it can be waited for");
    }

    /// Ends it at once, without a checkpoint.
    pub fn stop(&self) {
        let child = self.server.lock().expect("no panic under the lock").take();
        if let Some(mut child) = child {
            kill_process(Pid::from_child(&child), Signal::QUIT).expect("it runs");
            child.wait().expect("it can be waited for");
        }
    }

    /// Starts it, and waits until it takes connections. Right after a kill, the old children
    /// may hold it up.
    pub fn restart(&self) {
        let since = Instant::now();
        loop {
            let mut child = self.spawn();
            while child.try_wait().expect("it can be waited for").is_none() {
                let ready = self.psql("postgres").args(["-c", "SELECT 1"]).output();
                if ready.expect("psql starts").status.success() {
                    *self.server.lock().expect("no panic under the lock") = Some(child);
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
                assert!(since.elapsed() < START_PATIENCE, "PostgreSQL hangs: {}", self.log());
            }
            assert!(since.elapsed() < START_PATIENCE, "PostgreSQL does not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn spawn(&self) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join("log"));
        let mut command = as_owner("postgres", &self.dir);
        command.arg("-D").arg(self.dir.join("data")).arg("-k").arg(&self.dir);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        let durable = ["fsync=on", "synchronous_commit=on", "full_page_writes=on"];
        for setting in durable.into_iter().chain(["max_connections=300", "shared_buffers=128MB"]) {
            command.args(["-c", setting]);
        }
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        command.stderr(log.expect("a log file")).stdout(Stdio::null()).stdin(Stdio::null());
        command.process_group(0).spawn().expect("postgres starts")
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

const WATCHDOG: &str = r#"
read -r nothing
kill -QUIT "$(head -n 1 "$1/data/postmaster.pid")"
for i in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$1" && break; sleep 0.2; done
"#;

/// A program of PostgreSQL, as a user that it agrees to run as.
fn as_owner(program: &str, dir: &Path) -> Command {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let mut command = Command::new(FOLDER.get_or_init(programs).join(program));
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    // What this machine's user has set for psql is not for tests.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.current_dir(dir);
    command
}

/// The folder with `initdb`: Debian does not put it on the path.
fn programs() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).collect::<Vec<_>>();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut debian: Vec<PathBuf> = debian.map(|version| version.path().join("bin")).collect();
    debian.sort();
    let found = debian.into_iter().rev().chain(on_path).find(|dir| dir.join("initdb").exists());
    found.expect("these tests need PostgreSQL 15 or newer: on Debian, apt-get install postgresql")
}
