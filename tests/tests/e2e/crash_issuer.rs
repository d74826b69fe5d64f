//! The issuer dies; no token is lost and none is charged twice.

use std::process::Stdio;
use std::time::Duration;

use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use tocyn_e2e::bearer::{batch, current_key, http_client, send};
use tocyn_e2e::service::Service;
use tocyn_e2e::world::{World, output, succeed};
use tocyn_issuer::store::Store;
use tocyn_protocol::issuance::AmortizedBatchTokenResponse;

/// Takes the issuer long to evaluate, so that there is time to kill it.
const LARGE_BATCH: usize = 8192;

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_charge_and_answer_it_answers_the_repeat_and_charges_no_more() {
    let world = World::default();
    let config = world.issuer_data().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.contains("max_batch = 512"));
    let raised = text.replace("max_batch = 512", &format!("max_batch = {LARGE_BATCH}"));
    std::fs::write(&config, raised).unwrap();
    let (issuer, http) = (world.start_issuer(), http_client());
    let voucher = world.voucher(LARGE_BATCH as u64 + 16);
    let (request, pending) = batch(&current_key(&http, issuer.url()).await, LARGE_BATCH);
    let body = request.to_bytes();

    let first = {
        let (http, url, voucher) = (http.clone(), issuer.url().to_owned(), voucher.clone());
        let body = body.clone();
        tokio::spawn(async move { send(&http, &url, &voucher, body).await })
    };
    let store =
        Store::open(&world.issuer_data().join("issuer.sqlite").as_path().into()).await.unwrap();
    while store.list_vouchers().await.unwrap()[0].balance != 16 {
        assert!(!first.is_finished(), "it answered before it charged");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    store.close().await;
    issuer.kill();
    assert!(
        first.await.unwrap().is_err(),
        "the answer came before the kill: evaluation is too fast"
    );

    let issuer = world.start_issuer();
    let answer = send(&http, issuer.url(), &voucher, body).await.unwrap();
    let answer = answer.error_for_status().unwrap().bytes().await.unwrap();
    let response = AmortizedBatchTokenResponse::from_bytes(&answer).unwrap();
    assert_eq!(pending.finalize(&response).unwrap().len(), LARGE_BATCH);
    assert_eq!(world.vouchers_left(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_it_gives_the_client_every_token_that_it_charged() {
    let world = World::default();
    let relay = world.start_relay();
    let mut issuer = world.start_issuer();
    let address = issuer.address().to_owned();
    // More than all rounds together can buy, however fast the issuer is.
    let voucher = world.voucher(20_000);
    let issuer_url = issuer.url().to_owned();
    let request = |count| {
        let urls = ["--issuer", &issuer_url, "--relay", relay.url()];
        let rest = ["--voucher", &voucher, "--count", count];
        world.tocyn(&[&["request"][..], &urls, &rest].concat())
    };
    for _ in 0..12 {
        let mut client = request("1024").stderr(Stdio::null()).spawn().unwrap();
        let wait = 5 + UnwrapErr(SysRng).next_u32() % 150;
        tokio::time::sleep(Duration::from_millis(wait.into())).await;
        issuer.kill();
        client.wait().unwrap();
        issuer = Service::start_at("tocyn-issuer", &world.issuer_data(), &address);
    }
    succeed(&mut request("16"));
    let balance = world.balance();
    assert_eq!(balance["pending"], 0);
    let unspent = balance["unspent"].as_u64().unwrap();
    assert!(unspent >= 16);
    assert_eq!(20_000 - world.vouchers_left(), unspent, "charged tokens are in the wallet");
    assert!(output(&mut world.tocyn(&["balance"])).status.success());
}
