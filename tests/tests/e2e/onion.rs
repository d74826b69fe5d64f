//! Issuer and relay as onion services, configured as `deploy/tor/` says, in a Tor network of our
//! own: members reach them with the real `tocyn` and the real `tor`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tocyn_e2e::bearer::{bound, buy, cell, post, read_all};
use tocyn_e2e::tor::process::{PATIENCE, command};
use tocyn_e2e::tor::scene::{Scene, wait_until_reachable};
use tocyn_e2e::tor::streams::Seen;
use tocyn_e2e::tor::{examples, http_client_through};
use tocyn_e2e::world::output;
use tocyn_protocol::problem::Problem;

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
    for log in [scene.issuer.log(), scene.relay.log()] {
        assert!(log.contains("DEBUG") && !log.contains("dead:beef"), "no circuit is logged: {log}");
    }
    eprintln!("done after {} s", start.elapsed().as_secs());
}

fn purposes_have_circuits_of_their_own(scene: &Scene) {
    let Scene { world, client, issuer_url, relay_url, .. } = scene;
    let voucher = world.voucher(16);
    let message = scene.file("through three relays and three more");
    let request = ["request", "--issuer", issuer_url, "--relay", relay_url, "--voucher"];
    let (bought, asked) =
        scene.tocyn(&client.isolating, 8, &[&request[..], &[&voucher, "--count", "16"]].concat());
    assert_eq!(bought, "received 16 tokens; 16 unspent for relay.example\n");
    let (posted, post) =
        scene.tocyn(&client.isolating, 4, &["post", "--relay", relay_url, &message]);
    assert!(posted.starts_with("posted as number 1, id "), "{posted}");
    let (text, read) = scene.tocyn(&client.isolating, 2, &["read", "--relay", relay_url]);
    assert_eq!(text, "1\tthrough three relays and three more\n");
    assert_eq!((world.balance()["unspent"].as_u64(), world.vouchers_left()), (Some(15), 0));

    // Keys of the issuer, the request, three looks at the relay's statement and its log's checkpoint;
    // such a look, the post, the log's hashes; what the relay says about itself, and reading.
    assert_eq!((scene.count(&asked, issuer_url), scene.count(&asked, relay_url)), (2, 6));
    assert_eq!((scene.count(&post, relay_url), scene.count(&read, relay_url)), (4, 2));
    let mut all = Seen::default();
    for seen in [asked, post, read] {
        all.streams.extend(seen.streams);
        all.circuits.extend(seen.circuits);
    }
    // What a member's Tor says,
    assert_eq!((all.streams.len(), all.credentials()), (14, 14), "{all:#?}");
    assert_eq!(all.shared_circuits().len(), 0, "{all:#?}");
    for circuit in all.streams.values().flat_map(|stream| &stream.circuits) {
        let circuit = &all.circuits[circuit];
        assert_eq!(circuit.purpose, "HS_CLIENT_REND");
        assert!(circuit.hops >= 3, "{circuit:?}");
    }
    // and what the services' Tor says.
    assert_eq!(scene.take_counts(), (14, 14));
}

/// The same command through a SOCKS port that does not heed credentials.
fn sharing_would_be_noticed(scene: &Scene) {
    let message = scene.file("by one circuit");
    let post = ["post", "--relay", &scene.relay_url, &message];
    let (_, seen) = scene.tocyn(&scene.client.sharing, 4, &post);
    assert_eq!(seen.credentials(), 4, "the client asks for four circuits all the same");
    let shared = seen.shared_circuits();
    assert_eq!(shared.values().map(Vec::len).collect::<Vec<_>>(), [4], "{seen:#?}");
    assert_eq!(scene.take_counts(), (4, 1));
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
        let mut tor = command();
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
