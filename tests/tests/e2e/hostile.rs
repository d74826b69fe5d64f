//! Clients that keep connections and send nothing, or a byte at a time, against both services: while
//! they do customers are served, no answer says that a service failed, nothing panics, and memory
//! stays bounded.

use std::time::Duration;

use tocyn_e2e::bearer::{bound, cell};
use tocyn_e2e::hostile::{Crowd, PATIENCE, Scene, connections};
use tocyn_e2e::raw_http::head;
use tocyn_protocol::media_type;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::heavy;

pub(crate) const BATCH: (&str, &str) = ("Content-Type", media_type::BATCH_REQUEST);
pub(crate) const OCTETS: (&str, &str) = ("Content-Type", "application/octet-stream");
/// Longer than any test takes: nobody is cut off because a time is over.
const NEVER: &str = "1h";
/// Connections that a service keeps open at once.
const KEPT: usize = 1024;
/// More than that.
const TOO_MANY: usize = 1500;

/// The heads of a token request and of a post that would be taken.
pub(crate) async fn paid_heads(scene: &Scene, length: (&str, &str)) -> [Vec<u8>; 2] {
    let authorization = format!("Bearer {}", scene.voucher);
    let issuer = [BATCH, ("Authorization", &authorization), length];
    let authorization = bound(&scene.tokens().await[0], &cell("never posted"));
    let relay = [OCTETS, ("Authorization", &authorization), length];
    [head("POST", "/token-request", &issuer), head("POST", "/v1/messages", &relay)]
}

/// Both services have such crowds while customers come.
async fn serve_beside(
    mut scene: Scene,
    name: &str,
    size: usize,
    openings: [Vec<u8>; 2],
    drips: bool,
) {
    let mut crowds = Vec::new();
    for (service, opening) in scene.services().into_iter().zip(openings) {
        let crowd = Crowd::gather(service.address(), size, opening, drips).await;
        crowd.loses(size.saturating_sub(KEPT)).await;
        scene.serves(3, name).await;
        crowds.push(crowd);
    }
    scene.serves(3, name).await;
    crowds.iter().for_each(|crowd| crowd.answers().are_decent(name));
    scene.is_unharmed(name);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_among_ten_thousand_idle_connections_is_served() {
    let _turn = heavy().await;
    let size = connections(10_000);
    serve_beside(Scene::new(NEVER), "idle", size, [Vec::new(), Vec::new()], false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_among_those_who_send_their_heads_byte_by_byte_is_served() {
    let _turn = heavy().await;
    let size = connections(TOO_MANY);
    let opening = b"GET /healthz HTTP/1.1\r\nHost: test\r\nX-Slow: ".to_vec();
    serve_beside(Scene::new(NEVER), "slow heads", size, [opening.clone(), opening], true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_among_those_who_send_their_bodies_byte_by_byte_is_served() {
    let _turn = heavy().await;
    let size = connections(TOO_MANY);
    let scene = Scene::new(NEVER);
    let openings = paid_heads(&scene, ("Content-Length", "2048")).await;
    serve_beside(scene, "slow bodies", size, openings, true).await;
}

/// A service that keeps what each byte came in takes thousands of times what it was sent.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_come_byte_by_byte_take_no_more_memory_than_others() {
    const SENDERS: usize = 128;
    const BYTES: usize = 2000;
    let _turn = heavy().await;
    let mut scene = Scene::new(NEVER);
    let heads = paid_heads(&scene, ("Content-Length", "2048")).await;
    let mut senders = JoinSet::new();
    for (service, head) in scene.services().into_iter().zip(heads) {
        for _ in 0..SENDERS {
            let (address, head) = (service.address().to_owned(), head.clone());
            senders.spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                stream.write_all(&head).await.unwrap();
                for _ in 0..BYTES {
                    stream.write_all(b"a").await.unwrap();
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                stream
            });
        }
    }
    let open = tokio::time::timeout(PATIENCE, senders.join_all()).await.expect("they are read");
    assert_eq!(open.len(), 2 * SENDERS);
    scene.serves(1, "byte by byte").await;
    scene.is_unharmed("byte by byte");
}

/// A time ends what no other connection ends.
#[tokio::test(flavor = "multi_thread")]
async fn those_who_send_nothing_or_too_slowly_are_cut_off() {
    let _turn = heavy().await;
    let (size, mut scene) = (connections(300) / 3, Scene::new("3s"));
    let slow_head = b"GET /healthz HTTP/1.1\r\nX-Slow: ".to_vec();
    let slow_bodies = paid_heads(&scene, ("Content-Length", "2048")).await;
    for (service, slow_body) in scene.services().into_iter().zip(slow_bodies) {
        let address = service.address();
        let idle = Crowd::gather(address, size, Vec::new(), false).await;
        let heads = Crowd::gather(address, size, slow_head.clone(), true).await;
        let bodies = Crowd::gather(address, size, slow_body, true).await;
        scene.serves(2, "cut off").await;
        for (crowd, name) in [(idle, "idle"), (heads, "slow heads"), (bodies, "slow bodies")] {
            crowd.loses(size).await;
            let answers = crowd.answers();
            answers.are_decent(name);
            assert!(answers.0.keys().all(|status| [0, 408].contains(status)), "{answers:?}");
            assert_eq!(answers.0.contains_key(&408), name == "slow bodies", "{answers:?}");
        }
    }
    scene.is_unharmed("cut off");
}
