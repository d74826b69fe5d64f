//! Issuer and relay as onion services, set up as `deploy/tor/` says, and a member's Tor.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::programs::program;
use crate::service::Service;
use crate::tor::door::Door;
use crate::tor::network::{Client, Network, Services};
use crate::tor::process::{PATIENCE, private_folder};
use crate::tor::streams::{Seen, watch};
use crate::tor::{examples, http_client_through};
use crate::world::{World, succeed};

/// Both services, a door before each, and Tor around them.
pub struct Scene {
    /// Their folders.
    pub world: World,
    /// A member's Tor.
    pub client: Client,
    /// `http://....onion` of the issuer.
    pub issuer_url: String,
    /// `http://....onion` of the relay.
    pub relay_url: String,
    /// The relay again, for those who have the key.
    pub closed_url: String,
    /// That key.
    pub key: ClientKey,
    issuer_door: Door,
    relay_door: Door,
    /// The issuer.
    pub issuer: Service,
    /// The relay.
    pub relay: Service,
    _services: Services,
    _network: Network,
}

impl Scene {
    /// Starts everything; gives it when both services can be reached.
    pub async fn new() -> Self {
        let world = World::default();
        let network = Network::default();
        let (issuer, issuer_socket) = start("issuer", &world.issuer_data());
        let (relay, relay_socket) = start("relay", &world.relay_data());
        let (issuer_torrc, issuer_outside) = example("issuer", world.path());
        let (relay_torrc, relay_outside) = example("relay", world.path());
        let issuer_door = Door::open(&issuer_outside, &issuer_socket);
        let relay_door = Door::open(&relay_outside, &relay_socket);
        let key = ClientKey::generate(world.path());
        let closed_torrc = key.closed_service(&world.path().join("onion/closed"), &relay_socket);
        let mut services = network.services(&[issuer_torrc, relay_torrc, closed_torrc].concat());
        let client = network.client();
        services.wait_for_circuits();
        let mut url = |name: &str| services.url(&world.path().join("onion").join(name));
        let (issuer_url, relay_url) = (url("tocyn-issuer"), url("tocyn-relay"));
        let closed_url = url("closed");
        // Tor has made the names: the relay signs them from its next start on.
        world.set_addresses(&[&relay_url, &closed_url], &issuer_url);
        assert_eq!(relay.stop().code(), Some(0));
        let relay = serve(&world.relay_data(), "relay");
        for url in [&issuer_url, &relay_url] {
            wait_until_reachable(&client, url).await;
        }
        let scene = Self {
            world,
            client,
            issuer_url,
            relay_url,
            closed_url,
            key,
            issuer_door,
            relay_door,
            issuer,
            relay,
            _services: services,
            _network: network,
        };
        scene.take_counts();
        scene
    }

    /// `tocyn` through Tor, which must succeed and open so many connections; gives its stdout and
    /// what Tor says about them.
    pub fn tocyn(&self, socks: &str, streams: usize, args: &[&str]) -> (String, Seen) {
        let proxy = format!("socks5h://{socks}");
        let mut command = self.world.tocyn(&[&["--proxy", &proxy][..], args].concat());
        watch(&self.client.control, streams, || succeed(&mut command))
    }

    /// Connections that came to the services since the last call, and their circuits.
    pub fn take_counts(&self) -> (usize, usize) {
        let (issuer, relay) = (self.issuer_door.take_counts(), self.relay_door.take_counts());
        (issuer.0 + relay.0, issuer.1 + relay.1)
    }

    /// A file with this text, to be posted.
    pub fn file(&self, message: &str) -> String {
        let path = self.world.path().join("message");
        write(&path, message);
        text(&path).to_owned()
    }

    /// How many streams of `seen` went to a service.
    pub fn count(&self, seen: &Seen, url: &str) -> usize {
        let target = format!("{}:80", url.trim_start_matches("http://"));
        seen.streams.values().filter(|stream| stream.target == target).count()
    }
}

/// A service on a unix socket in its data folder, set up as the guide says; and that socket.
fn start(name: &str, data: &Path) -> (Service, PathBuf) {
    let guide = read(&examples().join("README.md"));
    let lines = "listen = [\"unix:/run/tocyn-relay/relay.sock\"]\n   proxy_protocol = true\n";
    assert!(guide.contains(lines), "the guide says otherwise");
    let socket = data.join("service.sock");
    let lines = lines.replace("/run/tocyn-relay/relay.sock", text(&socket));
    let file = data.join("config.toml");
    let config = read(&file);
    let others = config.lines().skip_while(|line| !line.starts_with("proxy_protocol =")).skip(1);
    write(&file, &(lines + &others.collect::<Vec<_>>().join("\n")));
    (serve(data, name), socket)
}

fn serve(data: &Path, name: &str) -> Service {
    let mut serve = Command::new(program(&format!("tocyn-{name}")));
    serve.arg("--data").arg(data).arg("serve").env("RUST_LOG", "debug");
    Service::run(&mut serve, data)
}

/// An example with the machine's folders replaced by some of this test, and its socket's path.
fn example(name: &str, world: &Path) -> (String, PathBuf) {
    let torrc = read(&examples().join(format!("{name}.torrc")));
    let run = format!("/run/tocyn-{name}/{name}.sock");
    assert!(torrc.contains(&format!("\nHiddenServiceDir /var/lib/tor/tocyn-{name}\n")), "{torrc}");
    assert!(torrc.contains(&format!("\nHiddenServicePort 80 unix:{run}\n")), "{torrc}");
    let (onion, socket) = (world.join("onion"), world.join(format!("{name}.sock")));
    private_folder(&onion);
    let torrc = torrc.replace("/var/lib/tor", text(&onion));
    (torrc.replace(&run, text(&socket)), socket)
}

/// A member's key for a service that is closed to others, made as the guide says.
pub struct ClientKey {
    public: String,
    private: String,
}

impl ClientKey {
    fn generate(world: &Path) -> Self {
        let guide = read(&examples().join("README.md"));
        let commands: Vec<&str> = guide.lines().filter(|l| l.starts_with("openssl ")).collect();
        let mut shell = Command::new("sh");
        let keys = succeed(shell.arg("-ec").arg(commands.join("\n")).current_dir(world));
        let keys: Vec<String> = keys.split_whitespace().map(str::to_owned).collect();
        let [public, private] = keys.try_into().expect("the public one first");
        Self { public, private }
    }

    /// Lines for a service that only the owner of this key finds.
    fn closed_service(&self, dir: &Path, socket: &Path) -> String {
        let authorized = dir.join("authorized_clients");
        private_folder(&authorized);
        let key = format!("descriptor:x25519:{}\n", self.public);
        write(&authorized.join("member.auth"), &key);
        let (dir, socket) = (dir.display(), socket.display());
        format!(
            "HiddenServiceDir {dir}\nHiddenServicePort 80 unix:{socket}\n\
             HiddenServiceExportCircuitID haproxy\n"
        )
    }

    /// Gives the key to a member's Tor.
    pub fn install(&self, client: &Client, url: &str) {
        let name = url.trim_start_matches("http://").trim_end_matches(".onion");
        let key = format!("{name}:descriptor:x25519:{}\n", self.private);
        write(&client.keys.join("relay.auth_private"), &key);
        client.control.reload();
    }
}

/// Until the service has published where it is to be found, Tor refuses connections to it.
pub async fn wait_until_reachable(client: &Client, url: &str) {
    let start = Instant::now();
    for attempt in 0.. {
        let http = http_client_through(&client.isolating, "probe", &attempt.to_string());
        match http.get(format!("{url}/readyz")).send().await {
            Ok(answer) if answer.status().is_success() => return,
            problem => assert!(start.elapsed() < PATIENCE, "{url}: {problem:?}"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write(path: &Path, content: &str) {
    let written = std::fs::write(path, content);
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}
