//! Several relays and issuers as real processes, over one PostgreSQL or a file each, with a bad
//! network before each of them and between them and the database.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tocyn_test_postgres::Postgres;

use crate::chaos::Chaos;
use crate::programs::program;
use crate::service::Service;
use crate::world::World;

/// How long a process may take to start again while its database is in trouble.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `tocyn-relay`.
    Relay,
    /// `tocyn-issuer`.
    Issuer,
}

/// One process, and what lies around it.
pub struct Node {
    /// Which program it runs.
    pub role: Role,
    /// The network that clients reach it through.
    pub front: Chaos,
    /// The network that it reaches PostgreSQL through.
    pub back: Option<Chaos>,
    url: String,
    address: String,
    data: PathBuf,
    database: Option<String>,
    clock: PathBuf,
    service: Mutex<Option<Service>>,
}

impl Node {
    /// Where clients reach it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `kill -9`; says whether it ran.
    pub fn kill(&self) -> bool {
        let service = self.service.lock().expect("no panic under the lock").take();
        service.map(Service::kill).is_some()
    }

    /// SIGTERM, and how it ends.
    pub fn stop(&self) -> Option<i32> {
        let service = self.service.lock().expect("no panic under the lock").take();
        service.expect("it runs").stop().code()
    }

    /// SIGSTOP: it gets no more time, and does not know. Does nothing if it was killed; says
    /// whether it ran.
    pub fn pause(&self) -> bool {
        let service = self.service.lock().expect("no panic under the lock");
        service.as_ref().map(Service::signal_pause).is_some()
    }

    /// SIGCONT.
    pub fn resume(&self) {
        if let Some(service) = &*self.service.lock().expect("no panic under the lock") {
            service.signal_resume();
        }
    }

    /// Sets its clock so many seconds off the machine's.
    pub fn set_clock(&self, offset: i64) {
        std::fs::write(&self.clock, offset.to_string()).expect("the folder is ours");
    }

    /// Starts it where it was before. Tries again while its database is in trouble.
    ///
    /// # Panics
    /// If it does not start for a minute; what it says is in the message.
    pub fn start(&self) {
        let mut service = self.service.lock().expect("no panic under the lock");
        if service.is_none() {
            *service = Some(start(|| self.command(), &self.data));
        }
    }

    fn command(&self) -> Command {
        command(self.role, &self.data, &self.address, self.database.as_deref(), &self.clock)
    }

    /// What it and all others of its role have logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.join("stderr")).unwrap_or_default()
    }
}

fn command(
    role: Role,
    data: &Path,
    address: &str,
    database: Option<&str>,
    clock: &Path,
) -> Command {
    let mut command = Command::new(program("clocked"));
    command.arg(if role == Role::Relay { "relay" } else { "issuer" });
    command.arg("--data").arg(data).args(["serve", "--listen", address]);
    command.args(database.iter().flat_map(|url| ["--database", url]));
    command.env("TOCYN_TEST_CLOCK", clock).env("RUST_LOG", "info").stdin(Stdio::null());
    command
}

fn start(command: impl Fn() -> Command, data: &Path) -> Service {
    let since = Instant::now();
    loop {
        match Service::try_run(&mut command(), data) {
            Ok(service) => return service,
            Err(error) if since.elapsed() > PATIENCE => panic!("{error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// All processes. Dropping it kills them.
pub struct Cluster {
    /// Relays, then issuers.
    pub nodes: Vec<Node>,
    /// The server, if they share one.
    pub postgres: Option<Postgres>,
    /// Their folders.
    pub world: World,
    issuer_database: Option<String>,
    relay_database: Option<String>,
}

impl Cluster {
    /// So many relays with one log, and issuers with the same vouchers, on a PostgreSQL of their own.
    pub async fn on_postgres(relays: usize, issuers: usize, epoch: &str) -> Self {
        let (world, postgres) = (World::with_epoch(epoch), Postgres::start(&[]));
        let (log, vouchers) = (postgres.new_database(), postgres.new_database());
        // All relays seal into one folder.
        let config = world.relay_data().join("config.toml");
        let text = std::fs::read_to_string(&config).expect("init wrote it");
        let folder = format!("\nfolder = '{}'", world.path().join("sealed").display());
        let sealing = text.replace("\nfolder = \"\"", &folder);
        assert_ne!(sealing, text, "the key is in the example");
        std::fs::write(&config, sealing).expect("it is ours");
        let mut cluster = Self {
            nodes: Vec::new(),
            issuer_database: Some(vouchers.clone()),
            relay_database: Some(log.clone()),
            postgres: Some(postgres),
            world,
        };
        for (role, count, name) in [(Role::Relay, relays, log), (Role::Issuer, issuers, vouchers)] {
            for _ in 0..count {
                cluster.add(role, Some(&name)).await;
            }
        }
        cluster
    }

    /// One of each, on SQLite.
    pub async fn on_sqlite(epoch: &str) -> Self {
        let world = World::with_epoch(epoch);
        let (postgres, nodes) = (None, Vec::new());
        let (issuer_database, relay_database) = (None, None);
        let mut cluster = Self { nodes, postgres, world, issuer_database, relay_database };
        cluster.add(Role::Relay, None).await;
        cluster.add(Role::Issuer, None).await;
        cluster
    }

    async fn add(&mut self, role: Role, database: Option<&str>) {
        let postgres = self.postgres.as_ref();
        let back = match postgres {
            Some(postgres) => Some(Chaos::new(&postgres.address()).await),
            None => None,
        };
        let database = database.zip(postgres).zip(back.as_ref());
        let database =
            database.map(|((name, postgres), back)| postgres.url_at(back.address(), name));
        let data = match role {
            Role::Relay => self.world.relay_data(),
            Role::Issuer => self.world.issuer_data(),
        };
        let clock = self.world.path().join(format!("clock-{}", self.nodes.len()));
        let command = |at: &str| command(role, &data, at, database.as_deref(), &clock);
        // Blocks this thread while the proxy must go on.
        let service = tokio::task::block_in_place(|| start(|| command("127.0.0.1:0"), &data));
        let address = service.address().to_owned();
        let front = Chaos::new(&address).await;
        let url = format!("http://{}", front.address());
        let service = Mutex::new(Some(service));
        self.nodes.push(Node { role, front, back, url, address, data, database, clock, service });
    }

    /// Those that run this program.
    pub fn with_role(&self, role: Role) -> Vec<&Node> {
        self.nodes.iter().filter(|node| node.role == role).collect()
    }

    /// Makes a voucher of so many tokens.
    pub fn voucher(&self, tokens: u64) -> String {
        let tokens = tokens.to_string();
        let args = ["voucher", "create", "--tokens", &tokens];
        self.issuer_command(&args).trim().to_owned()
    }

    /// Of each voucher: tokens granted, tokens left.
    pub fn vouchers(&self) -> Vec<(u64, u64)> {
        let text = self.issuer_command(&["voucher", "list", "--json"]);
        let rows: Vec<serde_json::Value> = serde_json::from_str(&text).expect("it is JSON");
        let number = |row: &serde_json::Value, name: &str| row[name].as_u64().expect("a number");
        rows.iter().map(|row| (number(row, "granted"), number(row, "balance"))).collect()
    }

    /// Runs a command of the issuer straight on its database, that must succeed.
    fn issuer_command(&self, args: &[&str]) -> String {
        let url = self.url_of(self.issuer_database.as_deref());
        let database: Vec<&str> = url.iter().flat_map(|url| ["--database", url]).collect();
        self.world.issuer_command(&[&database, args].concat())
    }

    /// Runs a command of the relay straight on its database, that must succeed.
    pub fn relay_command(&self, args: &[&str]) -> String {
        let url = self.url_of(self.relay_database.as_deref());
        let database: Vec<&str> = url.iter().flat_map(|url| ["--database", url]).collect();
        self.world.relay_command(&[&database, args].concat())
    }

    fn url_of(&self, name: Option<&str>) -> Option<String> {
        name.zip(self.postgres.as_ref()).map(|(name, postgres)| postgres.url(name))
    }
}
