//! Clients that keep connections and send nothing, or a byte at a time, against both services: while
//! they do customers are served, no answer says that a service failed, nothing panics, and memory
//! stays bounded.

use tocyn_e2e::bearer::{bound, cell};
use tocyn_e2e::hostile::{Crowd, Scene, connections};
use tocyn_e2e::raw_http::head;
use tocyn_protocol::media_type;

use crate::heavy;

pub(crate) const BATCH: (&str, &str) = ("Content-Type", media_type::BATCH_REQUEST);
pub(crate) const OCTETS: (&str, &str) = ("Content-Type", "application/octet-stream");
/// Longer than any test takes: nobody is cut off because a time is over.
const NEVER: &str = "1h";
/// More than a service keeps open at once, 1024.
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
        // One after the other: together they would take twice the files.
        let crowd = Crowd::gather(service.address(), size, opening, drips).await;
        scene.serves(3, name).await;
        crowd.answers().are_decent(name);
        crowds.push(crowd);
        if size > TOO_MANY {
            crowds.clear();
        }
    }
    scene.serves(3, name).await;
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
