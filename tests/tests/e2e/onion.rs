//! Issuer and relay as onion services, configured as `deploy/tor/` says, in a Tor network of our
//! own: members reach them with the real `tocyn` and the real `tor`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tocyn_e2e::bearer::{bound, buy, cell, post, read_all};
use tocyn_e2e::service::Service;
use tocyn_e2e::tor::door::Door;
use tocyn_e2e::tor::network::{Client, Network, Services};
use tocyn_e2e::tor::process::{PATIENCE, command, private_folder};
use tocyn_e2e::tor::streams::{Seen, watch};
use tocyn_e2e::tor::{examples, http_client_through};
use tocyn_e2e::world::{World, output, succeed};
use tocyn_protocol::problem::Problem;

/// Both services, their doors, and Tor around them.
struct Scene {
    world: World,
    client: Client,
    issuer_url: String,
    relay_url: String,
    /// The relay again, for those who have the key.
    closed_url: String,
    key: ClientKey,
    issuer_door: Door,
    relay_door: Door,
    _services: (Services, Service, Service),
    _network: Network,
}

impl Scene {
    async fn new() -> Self {
        let world = World::default();
        let network = Network::default();
        let (issuer, relay) = (world.start_issuer(), world.start_relay());
        let (issuer_torrc, issuer_socket) = example("issuer", world.path());
        let (relay_torrc, relay_socket) = example("relay", world.path());
        let issuer_door = Door::open(&issuer_socket, issuer.address());
        let relay_door = Door::open(&relay_socket, relay.address());
        let key = ClientKey::generate(world.path());
        let closed_torrc = key.closed_service(&world.path().join("onion/closed"), &relay_socket);
        let mut services = network.services(&[issuer_torrc, relay_torrc, closed_torrc].concat());
        let client = network.client();
        services.wait_for_circuits();
        let mut url = |name: &str| services.url(&world.path().join("onion").join(name));
        let (issuer_url, relay_url) = (url("tocyn-issuer"), url("tocyn-relay"));
        let closed_url = url("closed");
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
            _services: (services, issuer, relay),
            _network: network,
        };
        scene.take_counts();
        scene
    }

    /// `tocyn` through Tor, which must succeed and open so many connections; gives its stdout and
    /// what Tor says about them.
    fn tocyn(&self, socks: &str, streams: usize, args: &[&str]) -> (String, Seen) {
        let proxy = format!("socks5h://{socks}");
        let mut command = self.world.tocyn(&[&["--proxy", &proxy][..], args].concat());
        watch(&self.client.control, streams, || succeed(&mut command))
    }

    /// Connections that came to the services since the last call, and their circuits.
    fn take_counts(&self) -> (usize, usize) {
        let (issuer, relay) = (self.issuer_door.take_counts(), self.relay_door.take_counts());
        (issuer.0 + relay.0, issuer.1 + relay.1)
    }

    /// A file with this text, to be posted.
    fn file(&self, text: &str) -> String {
        let path = self.world.path().join("message");
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// How many streams of `seen` went to a service.
    fn count(&self, seen: &Seen, url: &str) -> usize {
        let target = format!("{}:80", url.trim_start_matches("http://"));
        seen.streams.values().filter(|stream| stream.target == target).count()
    }
}

/// An example with the machine's folders replaced by some of this test, and its socket's path.
fn example(name: &str, world: &Path) -> (String, PathBuf) {
    let torrc = std::fs::read_to_string(examples().join(format!("{name}.torrc"))).unwrap();
    let run = format!("/run/tocyn-{name}/{name}.sock");
    assert!(torrc.contains(&format!("\nHiddenServiceDir /var/lib/tor/tocyn-{name}\n")), "{torrc}");
    assert!(torrc.contains(&format!("\nHiddenServicePort 80 unix:{run}\n")), "{torrc}");
    let (onion, socket) = (world.join("onion"), world.join(format!("{name}.sock")));
    private_folder(&onion);
    let torrc = torrc.replace("/var/lib/tor", onion.to_str().unwrap());
    (torrc.replace(&run, socket.to_str().unwrap()), socket)
}

/// A member's key for a service that is closed to others, made as the guide says.
struct ClientKey {
    public: String,
    private: String,
}

impl ClientKey {
    fn generate(world: &Path) -> Self {
        let guide = std::fs::read_to_string(examples().join("README.md")).unwrap();
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
        std::fs::write(authorized.join("member.auth"), key).unwrap();
        let (dir, socket) = (dir.display(), socket.display());
        format!(
            "HiddenServiceDir {dir}\nHiddenServicePort 80 unix:{socket}\n\
             HiddenServiceExportCircuitID haproxy\n"
        )
    }

    /// Gives the key to a member's Tor.
    fn install(&self, client: &Client, url: &str) {
        let name = url.trim_start_matches("http://").trim_end_matches(".onion");
        let key = format!("{name}:descriptor:x25519:{}\n", self.private);
        std::fs::write(client.keys.join("relay.auth_private"), key).unwrap();
        client.control.reload();
    }
}

/// Until the service has published where it is to be found, Tor refuses connections to it.
async fn wait_until_reachable(client: &Client, url: &str) {
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

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs tor: ./test --tor"]
async fn members_use_onion_services_and_no_two_purposes_share_a_circuit() {
    let start = Instant::now();
    let scene = Scene::new().await;
    eprintln!("the network is up after {} s", start.elapsed().as_secs());
    purposes_have_circuits_of_their_own(&scene);
    sharing_would_be_noticed(&scene);
    a_token_is_spent_once(&scene).await;
    a_closed_service_is_found_with_its_key_only(&scene).await;
    eprintln!("done after {} s", start.elapsed().as_secs());
}

fn purposes_have_circuits_of_their_own(scene: &Scene) {
    let Scene { world, client, issuer_url, relay_url, .. } = scene;
    let voucher = world.voucher(16);
    let message = scene.file("through three relays and three more");
    let request = ["request", "--issuer", issuer_url, "--relay", relay_url, "--voucher"];
    let (bought, asked) =
        scene.tocyn(&client.isolating, 3, &[&request[..], &[&voucher, "--count", "16"]].concat());
    assert_eq!(bought, "received 16 tokens; 16 unspent for relay.example\n");
    let (posted, post) =
        scene.tocyn(&client.isolating, 2, &["post", "--relay", relay_url, &message]);
    assert!(posted.starts_with("posted as number 1, id "), "{posted}");
    let (text, read) = scene.tocyn(&client.isolating, 2, &["read", "--relay", relay_url]);
    assert_eq!(text, "1\tthrough three relays and three more\n");
    assert_eq!((world.balance()["unspent"].as_u64(), world.vouchers_left()), (Some(15), 0));

    // Keys of the issuer, the request; keys of the relay to compare; keys again, the post; keys
    // again, and reading.
    assert_eq!((scene.count(&asked, issuer_url), scene.count(&asked, relay_url)), (2, 1));
    assert_eq!((scene.count(&post, relay_url), scene.count(&read, relay_url)), (2, 2));
    let mut all = Seen::default();
    for seen in [asked, post, read] {
        all.streams.extend(seen.streams);
        all.circuits.extend(seen.circuits);
    }
    // What a member's Tor says,
    assert_eq!((all.streams.len(), all.credentials()), (7, 7), "{all:#?}");
    assert_eq!(all.shared_circuits().len(), 0, "{all:#?}");
    for circuit in all.streams.values().flat_map(|stream| &stream.circuits) {
        let circuit = &all.circuits[circuit];
        assert_eq!(circuit.purpose, "HS_CLIENT_REND");
        assert!(circuit.hops >= 3, "{circuit:?}");
    }
    // and what the services' Tor says.
    assert_eq!(scene.take_counts(), (7, 7));
}

/// The same command through a SOCKS port that does not heed credentials.
fn sharing_would_be_noticed(scene: &Scene) {
    let message = scene.file("by one circuit");
    let post = ["post", "--relay", &scene.relay_url, &message];
    let (_, seen) = scene.tocyn(&scene.client.sharing, 2, &post);
    assert_eq!(seen.credentials(), 2, "the client asks for two circuits all the same");
    let shared = seen.shared_circuits();
    assert_eq!(shared.values().map(Vec::len).collect::<Vec<_>>(), [2], "{seen:#?}");
    assert_eq!(scene.take_counts(), (2, 1));
}

async fn a_token_is_spent_once(scene: &Scene) {
    let person = |name| http_client_through(&scene.client.isolating, name, "password");
    let (buyer, first, second) = (person("buyer"), person("first"), person("second"));
    let token = buy(&buyer, &scene.issuer_url, &scene.world.voucher(16), 16).await.remove(0);
    let (cell_1, cell_2) = (cell("first"), cell("second"));
    let spend = async |http: &reqwest::Client, cell: &[u8]| {
        post(http, &scene.relay_url, &bound(&token, cell), cell).await.unwrap()
    };
    assert_eq!(spend(&first, &cell_1).await.status().as_u16(), 201);
    let refused = spend(&second, &cell_2).await;
    assert_eq!(refused.status().as_u16(), 409);
    let problem: Problem = serde_json::from_slice(&refused.bytes().await.unwrap()).unwrap();
    assert_eq!(problem.urn, "urn:tocyn:problem:token-spent");
    assert_eq!(spend(&second, &cell_1).await.status().as_u16(), 200, "the same again is a retry");
    let stored = read_all(&person("reader"), &scene.relay_url).await;
    assert_eq!(stored.last().unwrap(), &(3, cell_1));
}

async fn a_closed_service_is_found_with_its_key_only(scene: &Scene) {
    let (client, url) = (&scene.client, format!("{}/readyz", scene.closed_url));
    let start = Instant::now();
    // Refused for want of the key, and not because it is not published yet.
    while !client.log().contains("requiring client authorization") {
        let http = http_client_through(&client.isolating, "stranger", "password");
        assert!(http.get(&url).send().await.is_err(), "it is found without its key");
        assert!(start.elapsed() < PATIENCE, "{}", client.log());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    scene.key.install(client, &scene.closed_url);
    wait_until_reachable(client, &scene.closed_url).await;
}

#[test]
#[ignore = "needs tor: ./test --tor"]
fn tor_takes_every_example_without_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let verify = |file: &Path| {
        let mut tor: Command = command();
        tor.arg("--verify-config")
            .arg("--DataDirectory")
            .arg(dir.path().join("tor"))
            .arg("-f")
            .arg(file);
        let output = output(&mut tor);
        let said = String::from_utf8(output.stdout).unwrap();
        let warnings = said.lines().filter(|line| line.contains("[warn]"));
        let warnings = warnings.filter(|line| !line.contains("running Tor as root"));
        let warnings: Vec<String> = warnings.map(str::to_owned).collect();
        (output.status.success(), warnings)
    };
    let files = std::fs::read_dir(examples()).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|end| end == "torrc")).collect();
    assert_eq!(files.len(), 2, "{files:?}");
    for file in files {
        assert_eq!(verify(&file), (true, vec![]), "{}", file.display());
        // Every setting is one that Tor checks: with nonsense in it, Tor refuses the file.
        let text = std::fs::read_to_string(&file).unwrap();
        for line in text.lines().filter(|line| line.starts_with("Hidden")) {
            let name = line.split(' ').next().unwrap();
            let broken = dir.path().join("broken.torrc");
            std::fs::write(&broken, text.replace(line, &format!("{name} 99999999999"))).unwrap();
            let (accepted, _) = verify(&broken);
            assert_eq!(accepted, name == "HiddenServiceDir", "{line}");
        }
    }
    let modules = output(command().arg("--list-modules")).stdout;
    assert!(String::from_utf8(modules).unwrap().contains("pow: yes"), "no proof of work");
}
