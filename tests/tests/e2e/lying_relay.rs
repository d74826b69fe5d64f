//! A relay that lies about tokens: what it can get out of a wallet, and what it cannot.

use std::collections::HashSet;
use std::process::Command;
use std::sync::{Arc, Mutex};

use tocyn_e2e::bearer::{http_client, read_all};
use tocyn_e2e::service::Service;
use tocyn_e2e::socks::SocksProxy;
use tocyn_e2e::world::{World, output, succeed};
use tocyn_protocol::problem::{Problem, ProblemType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Shows the info document and the checkpoint of a real relay, refuses every post in one way, and remembers the
/// `Authorization` of each.
struct LyingRelay {
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl LyingRelay {
    async fn start(real: &Service, problem_type: ProblemType) -> Self {
        let get = async |path: &str| {
            let answer = http_client().get(format!("{}{path}", real.url())).send().await.unwrap();
            answer.bytes().await.unwrap()
        };
        let (info, checkpoint) = (get("/v1/info").await, get("/checkpoint").await);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let lying = Self { url, seen: seen.clone() };
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 8192];
                let mut len = 0;
                while !request[..len].windows(4).any(|end| end == b"\r\n\r\n") {
                    len += stream.read(&mut request[len..]).await.unwrap();
                }
                let head = String::from_utf8_lossy(&request[..len]).into_owned();
                let problem = Problem::new(problem_type, "so it says");
                let (status, media_type, body) = match head.split(' ').nth(1).unwrap() {
                    "/v1/info" => (200, "application/json", info.to_vec()),
                    "/checkpoint" => (200, "text/plain", checkpoint.to_vec()),
                    _ => {
                        let line = head.lines().find(|line| line.starts_with("authorization"));
                        seen.lock().unwrap().push(line.unwrap().to_owned());
                        let body = serde_json::to_vec(&problem).unwrap();
                        (problem.status, "application/problem+json", body)
                    }
                };
                let head = format!(
                    "HTTP/1.1 {status} so\r\ncontent-type: {media_type}\r\n\
                     content-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
                // Takes the rest of the body, so that the answer is not lost to a reset.
                let _ = stream.shutdown().await;
                while stream.read(&mut request).await.is_ok_and(|n| n > 0) {}
            }
        });
        lying
    }

    fn posts(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

struct Scene {
    world: World,
    issuer: Service,
    relay: Service,
}

impl Scene {
    fn new() -> Self {
        let world = World::default();
        let (issuer, relay) = (world.start_issuer(), world.start_relay());
        Self { world, issuer, relay }
    }

    fn buy(&self, relay_url: &str) {
        let voucher = self.world.voucher(16);
        let urls = ["request", "--issuer", self.issuer.url(), "--relay", relay_url];
        let rest = ["--voucher", &voucher, "--count", "16"];
        succeed(&mut self.world.tocyn(&[&urls[..], &rest].concat()));
    }

    /// Runs `tocyn post`; gives its status and what it said.
    fn post(&self, relay_url: &str, text: &str, flags: &[&str]) -> (Option<i32>, String) {
        let post = ["post", "--relay", relay_url];
        self.run(&mut self.world.tocyn(&[&post[..], flags].concat()), text)
    }

    /// Runs a command with this file as its input.
    fn run(&self, command: &mut Command, text: &str) -> (Option<i32>, String) {
        let file = self.world.path().join("message");
        std::fs::write(&file, text).unwrap();
        let output = output(command.stdin(std::fs::File::open(&file).unwrap()));
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    fn numbers(&self) -> [u64; 4] {
        let balance = self.world.balance();
        ["unspent", "reserved", "spent", "given_up"].map(|s| balance[s].as_u64().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_borrows_names_and_keys_is_shown_no_token() {
    let scene = Scene::new();
    scene.buy(scene.relay.url());
    // Elsewhere, where the real one has not signed that it is.
    let thief = LyingRelay::start(&scene.relay, ProblemType::TokenSpent).await;
    let address = thief.url.strip_prefix("http://").unwrap();
    let proxy = SocksProxy::start([("thief.example", address)]).await;
    let through = ["--proxy", proxy.url()];
    let post = ["post", "--relay", "http://thief.example"];
    let mut command = scene.world.tocyn(&[&through[..], &post].concat());
    let (code, err) = scene.run(&mut command, "for the thief");
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("does not list the address http://thief.example"), "{err}");
    assert!(err.contains("It lists http://relay.example"), "{err}");
    assert_eq!(thief.posts().len(), 0);
    assert_eq!(scene.numbers(), [16, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_calls_every_token_spent_gets_one_for_each_command() {
    let scene = Scene::new();
    let liar = LyingRelay::start(&scene.relay, ProblemType::TokenSpent).await;
    scene.buy(&liar.url);
    let (code, err) = scene.post(&liar.url, "once", &[]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("or the relay lies"), "{err}");
    assert_eq!(liar.posts().len(), 1);
    assert_eq!(scene.numbers(), [15, 1, 0, 0]);
    // Nothing is sent again unless it is asked for.
    assert_eq!(scene.post(&liar.url, "", &["--resume"]).0, Some(1));
    assert_eq!(liar.posts().len(), 1);
    assert_eq!(scene.post(&liar.url, "", &["--resume", "--again"]).0, Some(1));
    assert_eq!(liar.posts().len(), 2);
    assert_eq!(scene.numbers(), [14, 1, 0, 1]);
    // The message was kept all the time: the real relay, at the liar's place, gets it.
    assert_eq!(scene.post(scene.relay.url(), "", &["--resume", "--again"]).0, Some(0));
    assert_eq!(scene.numbers(), [13, 0, 1, 2]);
    let stored = read_all(&http_client(), scene.relay.url()).await;
    assert_eq!(stored.len(), 1);
    assert!(stored[0].1.starts_with(b"\0\x04once"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_refused_is_never_shown_with_another_message() {
    let scene = Scene::new();
    let liar = LyingRelay::start(&scene.relay, ProblemType::BadBinding).await;
    scene.buy(&liar.url);
    for n in 0..6 {
        assert_eq!(scene.post(&liar.url, &format!("message {n}"), &[]).0, Some(1));
    }
    // Earlier messages are not sent again in the run of a new one, only when that is asked for: each
    // with its own token and binding.
    assert_eq!(liar.posts().len(), 6);
    assert_eq!(scene.post(&liar.url, "", &["--resume"]).0, Some(1));
    let posts = liar.posts();
    let distinct: HashSet<&String> = posts.iter().collect();
    assert_eq!((posts.len(), distinct.len()), (6 + 6, 6));
    let input = |post: &str| post.split('"').nth(1).unwrap().to_owned();
    assert_eq!(distinct.iter().map(|post| input(post)).collect::<HashSet<_>>().len(), 6);
    assert_eq!(scene.numbers(), [10, 6, 0, 0]);
    assert_eq!(scene.post(&liar.url, "", &["--resume", "--give-up"]).0, Some(0));
    assert_eq!(scene.numbers(), [10, 0, 0, 6]);
}
