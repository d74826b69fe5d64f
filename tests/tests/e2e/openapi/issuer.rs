//! The issuer's document for clients.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tocyn_e2e::bearer::{batch, clock, current_key, http_client};
use tocyn_e2e::raw_http::{exchange, head, request};
use tocyn_e2e::service::Service;
use tocyn_e2e::world::World;
use tocyn_issuer::attester::Attester;
use tocyn_issuer::store::Store;
use tocyn_issuer::voucher::VoucherCode;
use tocyn_protocol::media_type::{BATCH_REQUEST, TOKEN_REQUEST};
use tocyn_protocol::pairing::Pairing;
use tocyn_protocol::pow::{PowChallenge, PowKey, Solver};

use super::{
    Document, fill_disk, has_no_other_path, leaves, of_a_client, on_small_disk, saw_all, serve,
    takes_the_methods, without_table,
};

const TOKENS: (&str, &str) = ("POST", "/token-request");

/// What is sent as `Authorization` for old work.
fn old_work(body: &[u8]) -> String {
    let challenge = PowChallenge::issue(&PowKey::new([1; 32]), 1_000_000_000, 1);
    let mut solver = Solver::new(challenge, body, 16, [1; 16]);
    let proof = std::iter::repeat_with(|| solver.step().ok()).flatten().next().unwrap();
    format!("TocynPow proof=\"{}\"", URL_SAFE_NO_PAD.encode(proof.to_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_issuer_answers_is_described() {
    let world = World::default();
    let settings = [
        ("TOCYN_ISSUER__ATTESTERS__POW__ENABLED", "true"),
        ("TOCYN_ISSUER__ATTESTERS__POW__BUDGET", "16"),
        ("TOCYN_ISSUER__ATTESTERS__ALLOWANCE__ENABLED", "false"),
        ("TOCYN_ISSUER__LIMITS__MAX_REPLAYS", "1"),
        ("TOCYN_ISSUER__LIMITS__BODY_TIMEOUT", "1s"),
    ];
    let issuer = serve("tocyn-issuer", &world.issuer_data(), &settings);
    let address = issuer.address();
    let mut document = Document::of(address);
    takes_the_methods(&mut document, address, true);
    has_no_other_path(&mut document, address);
    for path in ["/.well-known/private-token-issuer-directory", "/v1/pow", "/healthz", "/readyz"] {
        assert_eq!(document.ask(address, ("GET", path), path, &[], b"").status, 200, "{path}");
    }

    let key = current_key(&http_client(), issuer.url()).await;
    let good = batch(&key, 16).0.to_bytes();
    let one = [&good[..3], &good[5..37]].concat();
    let database = world.issuer_data().join("issuer.sqlite");
    let random = || VoucherCode::random(&mut rand_core::UnwrapErr(getrandom::SysRng));
    let expired = random();
    let store = Store::open(&database.as_path().into()).await.unwrap();
    store.create_vouchers(&[expired.hash()], Attester::Voucher, 100, 1_000_000).await.unwrap();
    store.close().await;
    let bearer = |code: &str| format!("Bearer {code}");
    let (rich, poor) = (bearer(&world.voucher(1000)), bearer(&world.voucher(15)));
    let revoked = world.voucher(100);
    world.issuer_command(&["voucher", "revoke", &revoked]);
    let revoked = bearer(&revoked);
    let (expired, unknown) = (bearer(&expired.text()), bearer(&random().text()));
    let mut made_up = [0; 60];
    made_up[..8].copy_from_slice(&clock().as_secs().to_be_bytes());
    let forged = format!("TocynPow proof=\"{}\"", URL_SAFE_NO_PAD.encode(made_up));
    let (old, unread) = (old_work(&good), "TocynPow proof=\"x\"".to_owned());
    let other_key = [&good[..2], &[good[2] ^ 1], &good[3..]].concat();
    let too_many = batch(&key, 513).0.to_bytes();
    let far_too_many = batch(&key, 3 * 512).0.to_bytes();
    for (credential, media_type, body, expected) in [
        (&rich, BATCH_REQUEST, &good, "200"),
        (&rich, TOKEN_REQUEST, &one, "200"),
        (&rich, TOKEN_REQUEST, &one, "200"),
        (&rich, TOKEN_REQUEST, &one, "too-many-replays"),
        (&String::new(), BATCH_REQUEST, &good, "voucher-missing"),
        (&unknown, BATCH_REQUEST, &good, "voucher-unknown"),
        (&poor, BATCH_REQUEST, &good, "voucher-exhausted"),
        (&expired, BATCH_REQUEST, &good, "voucher-expired"),
        (&revoked, BATCH_REQUEST, &good, "voucher-revoked"),
        (&rich, BATCH_REQUEST, &one, "malformed-token-request"),
        (&rich, BATCH_REQUEST, &too_many, "batch-too-large"),
        (&rich, BATCH_REQUEST, &other_key, "unknown-token-key"),
        (&rich, BATCH_REQUEST, &far_too_many, "body-too-large"),
        (&rich, "text/plain", &good, "media-type"),
        (&forged, BATCH_REQUEST, &good, "pow-forged"),
        (&old, BATCH_REQUEST, &good, "pow-expired"),
        (&unread, BATCH_REQUEST, &good, "pow-unsolved"),
    ] {
        let headers = [("Authorization", credential.as_str()), ("Content-Type", media_type)];
        let answer = document.ask(address, TOKENS, TOKENS.1, &headers, body);
        match expected {
            "200" => assert_eq!(answer.status, 200, "{answer:?}"),
            name => assert_eq!(answer.problem().urn, format!("urn:tocyn:problem:{name}")),
        }
    }
    let headers = [
        ("Authorization", rich.as_str()),
        ("Content-Type", BATCH_REQUEST),
        ("Content-Length", "517"),
    ];
    let stalled = exchange(address, &head(TOKENS.0, TOKENS.1, &headers));
    assert_eq!(stalled.status, 408);
    document.check(TOKENS.0, TOKENS.1, &stalled);
    without_table(&database, "vouchers").await;
    let answer = document.ask(address, ("GET", "/readyz"), "/readyz", &[], b"");
    assert_eq!(answer.problem().urn, "urn:tocyn:problem:database-down");

    an_open_issuer(&mut document).await;
    a_full_issuer(&mut document).await;
    saw_all(document, "issuer");
}

/// One that is open to all, behind Tor, takes no work, and stops.
async fn an_open_issuer(document: &mut Document) {
    let world = World::default();
    let data = world.issuer_data();
    let mut command = tocyn_e2e::service::serve("tocyn-issuer", &data, "127.0.0.1:0");
    command.arg("--open").envs([
        ("TOCYN_ISSUER__ATTESTERS__OPEN__ENABLED", "true"),
        ("TOCYN_ISSUER__ATTESTERS__OPEN__BUDGET", "1"),
        ("TOCYN_ISSUER__PROXY_PROTOCOL", "true"),
        ("TOCYN_ISSUER__LIMITS__MAX_REFUSALS_PER_CLIENT", "1"),
        ("TOCYN_ISSUER__LIMITS__LEAVE_TIME", "60s"),
    ]);
    let issuer = Service::run(&mut command, &data);
    let ask = |bytes| exchange(issuer.address(), &of_a_client(bytes));
    let text = std::fs::read_to_string(world.pairing_file()).unwrap();
    let key = *toml::from_str::<Pairing>(&text).unwrap().key_pair(0).public();
    let post = |count| {
        let headers = [("Content-Type", BATCH_REQUEST)];
        request("POST", "/token-request", &headers, &batch(&key, count).0.to_bytes())
    };
    let puzzle = ask(request("GET", "/v1/pow", &[], b""));
    assert_eq!(puzzle.problem().urn, "urn:tocyn:problem:attester-off");
    document.check("GET", "/v1/pow", &puzzle);
    for (body, expected) in [
        (post(1), 200),
        (post(1), 429),   // the budget is spent
        (post(513), 422), // too many
        (post(1), 429),   // refused too often
    ] {
        let answer = ask(body);
        assert_eq!(answer.status, expected, "{answer:?}");
        document.check(TOKENS.0, TOKENS.1, &answer);
    }
    leaves(&issuer, || {
        let answer = ask(request("GET", "/readyz", &[], b""));
        document.check("GET", "/readyz", &answer);
        answer.status
    });
}

async fn a_full_issuer(document: &mut Document) {
    let world = World::default();
    let voucher = format!("Bearer {}", world.voucher(10_000));
    let issuer = on_small_disk(&world, "tocyn-issuer", &world.issuer_data());
    let key = current_key(&http_client(), issuer.url()).await;
    fill_disk(&world, &issuer);
    let headers = [("Authorization", voucher.as_str()), ("Content-Type", BATCH_REQUEST)];
    // A few still fit into what the database has of the disk.
    let answer = (0..1000).find_map(|_| {
        let body = batch(&key, 1).0.to_bytes();
        let answer = document.ask(issuer.address(), TOKENS, TOKENS.1, &headers, &body);
        (answer.status != 200).then_some(answer)
    });
    assert_eq!(answer.unwrap().problem().urn, "urn:tocyn:problem:storage-full");
}
