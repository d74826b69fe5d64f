//! Everyone who may be given tokens, end to end, and those who try to be given more.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::{Value, json};
use tocyn_e2e::bearer::{
    batch, bound, buy, cell, clock, current_key, draw, http_client, post, send,
};
use tocyn_e2e::programs::program;
use tocyn_e2e::service::{Service, serve};
use tocyn_e2e::world::{World, output, succeed};
use tocyn_protocol::issuance::Issuer;
use tocyn_protocol::media_type;
use tocyn_protocol::pairing::Pairing;
use tocyn_protocol::pow::{PowChallenge, PowKey, Solver};
use tocyn_protocol::problem::{Problem, ProblemType};

const WEBHOOK: &str = "0123456789abcdef0123456789abcdef";

/// Starts the issuer with settings from the environment.
fn issuer(world: &World, settings: &[(&str, &str)]) -> Service {
    let data = world.issuer_data();
    let mut command = serve("tocyn-issuer", &data, "127.0.0.1:0");
    for (name, value) in settings {
        command.env(format!("TOCYN_ISSUER__ATTESTERS__{name}"), value);
    }
    if settings.contains(&("OPEN__ENABLED", "true")) {
        command.arg("--open");
    }
    Service::run(&mut command, &data)
}

const POW: [(&str, &str); 4] = [
    ("POW__ENABLED", "true"),
    ("POW__BUDGET", "96"),
    ("POW__MIN_EFFORT", "4"),
    ("POW__MAX_EFFORT", "64"),
];

/// The operator's listener of a service.
fn operator(data: &Path) -> reqwest::Client {
    http_client();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]);
    client.unix_socket(data.join("admin.sock")).build().unwrap()
}

async fn metrics(data: &Path) -> String {
    let answer = operator(data).get("http://operator/metrics").send().await.unwrap();
    answer.error_for_status().unwrap().text().await.unwrap()
}

async fn puzzle(http: &reqwest::Client, url: &str) -> PowChallenge {
    let answer = http.get(format!("{url}/v1/pow")).send().await.unwrap();
    let puzzle: Value = answer.error_for_status().unwrap().json().await.unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(puzzle["challenge"].as_str().unwrap()).unwrap();
    let challenge = PowChallenge::from_bytes(&bytes).unwrap();
    assert_eq!(puzzle["effort"], challenge.effort());
    challenge
}

fn solve(challenge: PowChallenge, body: &[u8], tokens: u64) -> Vec<u8> {
    let mut solver = Solver::new(challenge, body, tokens, [1; 16]);
    loop {
        if let Ok(proof) = solver.step() {
            return proof.to_bytes().to_vec();
        }
    }
}

async fn send_proof(
    http: &reqwest::Client,
    url: &str,
    proof: &[u8],
    body: &[u8],
) -> reqwest::Response {
    let proof = URL_SAFE_NO_PAD.encode(proof);
    http.post(format!("{url}/token-request"))
        .header(CONTENT_TYPE, media_type::BATCH_REQUEST)
        .header(AUTHORIZATION, format!("TocynPow proof=\"{proof}\""))
        .body(body.to_vec())
        .send()
        .await
        .unwrap()
}

async fn problem(answer: reqwest::Response) -> ProblemType {
    answer.json::<Problem>().await.unwrap().problem_type().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_for_work_pay_for_a_post_and_leave_no_trace_of_it_at_the_issuer() {
    let world = World::default();
    let (issuer, relay) = (issuer(&world, &POW), world.start_relay());
    let urls = ["request", "--issuer", issuer.url(), "--relay", relay.url()];
    succeed(&mut world.tocyn(&[&urls[..], &["--work", "--count", "32"]].concat()));
    let message = cell("worked for");
    let token = draw(&world.wallet(), relay.url(), &message).await;
    let answer = post(&http_client(), relay.url(), &bound(&token, &message), &message).await;
    assert_eq!(answer.unwrap().status(), 201);
    let metrics = metrics(&world.issuer_data()).await;
    let handed_out = "tocyn_issuer_tokens_handed_out_total{attester=\"pow\"} 32";
    assert!(metrics.contains(handed_out), "{metrics}");
    assert!(metrics.contains("tocyn_issuer_budget_left_tokens{attester=\"pow\"} 64"), "{metrics}");

    // Neither its database nor its log nor its metrics have the nonce, in whatever form.
    let (nonce, log) = (token.nonce().to_vec(), issuer.log());
    assert_eq!(issuer.stop().code(), Some(0));
    let mut kept = log.into_bytes();
    kept.extend(metrics.into_bytes());
    for name in ["issuer.sqlite", "issuer.sqlite-wal"] {
        kept.extend(std::fs::read(world.issuer_data().join(name)).unwrap_or_default());
    }
    let forms = [
        nonce.clone(),
        hex::encode(&nonce).into_bytes(),
        STANDARD.encode(&nonce).into_bytes(),
        URL_SAFE_NO_PAD.encode(&nonce).into_bytes(),
    ];
    for form in forms {
        let beginning = &form[..12];
        assert!(!kept.windows(12).any(|window| window == beginning));
    }
    // The look is able to find something: the account that was charged is there.
    let account = tocyn_issuer::attester::Attester::Pow.account();
    assert!(kept.windows(32).any(|window| window == account));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_for_one_request_of_this_issuer_at_this_time() {
    let world = World::default();
    let (issuer, http) = (issuer(&world, &POW), http_client());
    let key = current_key(&http, issuer.url()).await;
    let challenge = puzzle(&http, issuer.url()).await;
    let ((mine, _), (theirs, _)) = (batch(&key, 16), batch(&key, 16));
    let (mine, theirs) = (mine.to_bytes(), theirs.to_bytes());
    let proof = solve(challenge, &mine, 16);
    // Stolen, for another request.
    let answer = send_proof(&http, issuer.url(), &proof, &theirs).await;
    assert_eq!((answer.status().as_u16(), problem(answer).await), (403, ProblemType::PowUnsolved));
    // For more tokens than were worked for: the body is another one, so the work is for nothing.
    let (more, _) = batch(&key, 64);
    let answer = send_proof(&http, issuer.url(), &proof, &more.to_bytes()).await;
    assert_eq!(problem(answer).await, ProblemType::PowUnsolved);
    // Less work than is asked for, by a challenge that says so: forged.
    let mut bytes = challenge.to_bytes();
    bytes[11] = 1;
    let easy = solve(PowChallenge::from_bytes(&bytes).unwrap(), &theirs, 16);
    let answer = send_proof(&http, issuer.url(), &easy, &theirs).await;
    assert_eq!(problem(answer).await, ProblemType::PowForged);
    // Worked out before, for a time to come.
    let mut bytes = challenge.to_bytes();
    bytes[7] = bytes[7].wrapping_add(100);
    let early = solve(PowChallenge::from_bytes(&bytes).unwrap(), &theirs, 16);
    let answer = send_proof(&http, issuer.url(), &early, &theirs).await;
    assert_eq!(problem(answer).await, ProblemType::PowForged);
    // No proof at all.
    for proof in [&b""[..], b"x", &[0; 60], &[0; 61]] {
        let answer = send_proof(&http, issuer.url(), proof, &theirs).await;
        assert_eq!(answer.status(), 403);
    }
    // As it was meant, and again: the same answer, charged once.
    let mut answers = Vec::new();
    for _ in 0..3 {
        let answer = send_proof(&http, issuer.url(), &proof, &mine).await;
        assert_eq!(answer.status(), 200);
        // The proofs are random, the elements are not.
        answers.push(answer.bytes().await.unwrap().slice(..2 + 16 * 32));
    }
    assert!(answers.iter().all(|answer| answer == &answers[0]));
    let metrics = metrics(&world.issuer_data()).await;
    assert!(metrics.contains("tocyn_issuer_budget_left_tokens{attester=\"pow\"} 80"), "{metrics}");
    // A voucher's repeat does not pay for what work paid for.
    let answer = send(&http, issuer.url(), &world.voucher(16), mine).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(world.vouchers_left(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn work_ends_at_the_budget_and_its_price_rises_before() {
    let world = World::default();
    let (issuer, http) = (issuer(&world, &POW), http_client());
    let key = current_key(&http, issuer.url()).await;
    assert_eq!(puzzle(&http, issuer.url()).await.effort(), 4);
    let mut last = None;
    for _ in 0..8 {
        let challenge = puzzle(&http, issuer.url()).await;
        let body = batch(&key, 16).0.to_bytes();
        let answer = send_proof(&http, issuer.url(), &solve(challenge, &body, 16), &body).await;
        last = Some(answer);
    }
    let answer = last.unwrap();
    assert_eq!(answer.status(), 429);
    let wait: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(wait > 86_400, "until the next epoch: {wait}");
    assert_eq!(problem(answer).await, ProblemType::BudgetSpent);
    // Six batches in a moment are six times the share of this minute.
    let mut effort = 4;
    for _ in 0..100 {
        effort = puzzle(&http, issuer.url()).await.effort();
        if effort > 4 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(effort >= 16, "{effort}");
    // What is left for others is theirs.
    assert_eq!(buy(&http, issuer.url(), &world.voucher(16), 16).await.len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_challenge_is_refused_but_what_was_charged_is_answered() {
    let world = World::default();
    let (data, clock) = (world.issuer_data(), world.path().join("clock"));
    let mut command = Command::new(program("clocked"));
    command.arg("issuer").arg("--data").arg(&data).args(["serve", "--listen", "127.0.0.1:0"]);
    command.env("TOCYN_TEST_CLOCK", &clock).env("RUST_LOG", "info");
    for (name, value) in POW {
        command.env(format!("TOCYN_ISSUER__ATTESTERS__{name}"), value);
    }
    std::fs::write(&clock, "1000").unwrap();
    let (issuer, http) = (Service::run(&mut command, &data), http_client());
    let key = current_key(&http, issuer.url()).await;
    let challenge = puzzle(&http, issuer.url()).await;
    let (sent, kept) = (batch(&key, 16).0.to_bytes(), batch(&key, 16).0.to_bytes());
    let (sent_proof, kept_proof) = (solve(challenge, &sent, 16), solve(challenge, &kept, 16));
    assert_eq!(send_proof(&http, issuer.url(), &sent_proof, &sent).await.status(), 200);
    // A clock that is ahead by eleven minutes, and one that is behind.
    for offset in ["1660", "880"] {
        std::fs::write(&clock, offset).unwrap();
        let answer = send_proof(&http, issuer.url(), &kept_proof, &kept).await;
        assert_eq!(problem(answer).await, ProblemType::PowExpired, "{offset}");
        let answer = send_proof(&http, issuer.url(), &sent_proof, &sent).await;
        assert_eq!(answer.status(), 200, "{offset}: it was paid for");
    }
    std::fs::write(&clock, "1030").unwrap();
    assert_eq!(send_proof(&http, issuer.url(), &kept_proof, &kept).await.status(), 200);
}

/// What is asked for in vain, or again, is no demand: one puzzle does not make it dear for everybody.
#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_charged_makes_work_dearer() {
    let world = World::default();
    let settings = [
        ("POW__ENABLED", "true"),
        ("POW__BUDGET", "1000"),
        ("POW__MIN_EFFORT", "4"),
        ("POW__MAX_EFFORT", "64"),
    ];
    let issuer = issuer(&world, &settings);
    let http = http_client();
    let key = current_key(&http, issuer.url()).await;
    let challenge = puzzle(&http, issuer.url()).await;
    // A batch whose elements are none, worked for as any other.
    let mut garbage = batch(&key, 16).0.to_bytes();
    let end = garbage.len();
    garbage[end - 512..].fill(0xff);
    let proof = solve(challenge, &garbage, 16);
    for _ in 0..200 {
        let answer = send_proof(&http, issuer.url(), &proof, &garbage).await;
        assert_eq!(problem(answer).await, ProblemType::MalformedTokenRequest);
    }
    // One that is good, and its repeats.
    let good = batch(&key, 16).0.to_bytes();
    let proof = solve(challenge, &good, 16);
    for _ in 0..10 {
        assert_eq!(send_proof(&http, issuer.url(), &proof, &good).await.status(), 200);
    }
    tokio::time::sleep(Duration::from_secs(3)).await; // it is counted every two
    assert_eq!(puzzle(&http, issuer.url()).await.effort(), 4);
}

/// Whoever has the pairing's secret, as the relay has, makes no challenges.
#[tokio::test(flavor = "multi_thread")]
async fn the_relay_makes_no_challenges_and_no_codes() {
    let world = World::default();
    let issuer = issuer(&world, &POW);
    let http = http_client();
    let body = batch(&current_key(&http, issuer.url()).await, 16).0.to_bytes();
    let secret = std::fs::read_to_string(world.pairing_file()).unwrap();
    let secret = secret.lines().find_map(|line| line.strip_prefix("secret = \"")).unwrap();
    let secret: [u8; 32] = hex::decode(secret.trim_end_matches('"')).unwrap().try_into().unwrap();
    let now = clock().as_secs();
    let proof = solve(PowChallenge::issue(&PowKey::new(secret), now, 64), &body, 16);
    let answer = send_proof(&http, issuer.url(), &proof, &body).await;
    assert_eq!(problem(answer).await, ProblemType::PowForged);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_service_is_granted_codes_with_its_credential_only() {
    let world = World::default();
    let settings =
        [("WEBHOOK__ENABLED", "true"), ("WEBHOOK__BUDGET", "32"), ("WEBHOOK__CREDENTIAL", WEBHOOK)];
    let (issuer, http) = (issuer(&world, &settings), http_client());
    let operator = operator(&world.issuer_data());
    let ask = async |credential: &str, body: Value| {
        let request = operator.post("http://operator/v1/grants").json(&body);
        request.header(AUTHORIZATION, format!("Bearer {credential}")).send().await.unwrap()
    };
    let order = json!({"id": "order 1", "tokens": 48});
    for wrong in ["", "x", &WEBHOOK[1..]] {
        assert_eq!(ask(wrong, order.clone()).await.status(), 401, "{wrong}");
    }
    let first: Value = ask(WEBHOOK, order.clone()).await.json().await.unwrap();
    let again: Value = ask(WEBHOOK, order.clone()).await.json().await.unwrap();
    assert_eq!(first, again, "a lost answer can be asked for again");
    let other: Value =
        ask(WEBHOOK, json!({"id": "order 2", "tokens": 16})).await.json().await.unwrap();
    assert_ne!(first["code"], other["code"]);
    for bad in [
        json!({"id": "order 1", "tokens": 49}),
        json!({"id": "", "tokens": 1}),
        json!({"id": "x", "tokens": 0}),
        json!({"id": "x", "tokens": 1, "mail": "a@example.org"}),
        json!([]),
    ] {
        assert_eq!(ask(WEBHOOK, bad.clone()).await.status(), 400, "{bad}");
    }
    // By the script that the documentation shows.
    let credential = world.path().join("credential");
    std::fs::write(&credential, format!("{WEBHOOK}\n")).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/webhook/grant.sh");
    let grant = |credential: &Path| {
        let mut command = Command::new(&script);
        command.args(["order-3", "16"]).env("TOCYN_WEBHOOK_CREDENTIAL", credential);
        command.env("TOCYN_ADMIN_SOCKET", world.issuer_data().join("admin.sock"));
        output(&mut command)
    };
    let granted = grant(&credential);
    let granted = String::from_utf8(granted.stdout).unwrap();
    assert!(tocyn_issuer::voucher::VoucherCode::parse(&granted).is_ok(), "{granted}");
    std::fs::write(&credential, "wrong").unwrap();
    assert_eq!(grant(&credential).status.code(), Some(1));
    // Not on the listener of clients.
    let public = http.post(format!("{}/v1/grants", issuer.url())).json(&order);
    assert_eq!(public.send().await.unwrap().status(), 404);
    let code = first["code"].as_str().unwrap();
    assert_eq!(buy(&http, issuer.url(), code, 32).await.len(), 32);
    let body = batch(&current_key(&http, issuer.url()).await, 16).0.to_bytes();
    let answer = send(&http, issuer.url(), code, body).await.unwrap();
    assert_eq!(problem(answer).await, ProblemType::BudgetSpent);
    assert!(!issuer.log().contains("order 1"), "ids are not logged");
    let database = std::fs::read(world.issuer_data().join("issuer.sqlite-wal")).unwrap();
    assert!(!database.windows(7).any(|window| window == b"order 1"), "nor kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn everyone_is_let_in_only_where_that_is_said_twice() {
    let world = World::default();
    let settings = [("OPEN__ENABLED", "true"), ("OPEN__BUDGET", "32")];
    let mut command = serve("tocyn-issuer", &world.issuer_data(), "127.0.0.1:0");
    command.env("TOCYN_ISSUER__ATTESTERS__OPEN__ENABLED", "true");
    let error = Service::try_run(&mut command, &world.issuer_data()).map(drop).unwrap_err();
    assert!(error.contains("attesters.open.budget"), "{error}");
    command.env("TOCYN_ISSUER__ATTESTERS__OPEN__BUDGET", "32");
    let error = Service::try_run(&mut command, &world.issuer_data()).map(drop).unwrap_err();
    assert!(error.contains("serve --open"), "{error}");
    let (issuer, relay) = (issuer(&world, &settings), world.start_relay());
    let urls = ["request", "--issuer", issuer.url(), "--relay", relay.url(), "--free"];
    succeed(&mut world.tocyn(&[&urls[..], &["--count", "32"]].concat()));
    let refused = output(&mut world.tocyn(&[&urls[..], &["--count", "16"]].concat()));
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains("0 tokens are left") && text.contains("next one"), "{text}");
    // Elsewhere nobody is.
    assert_eq!(issuer.stop().code(), Some(0));
    let closed = world.start_issuer();
    let urls = ["request", "--issuer", closed.url(), "--relay", relay.url(), "--count", "16"];
    for (how, what) in [("--free", "send a voucher"), ("--work", "pow is off")] {
        let refused = output(&mut world.tocyn(&[&urls[..], &[how]].concat()));
        let text = String::from_utf8(refused.stderr).unwrap();
        assert!(refused.status.code() == Some(1) && text.contains(what), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_nobody_issued_raise_the_alarm() {
    let world = World::default();
    let (issuer, relay, http) = (world.start_issuer(), world.start_relay(), http_client());
    let honest = buy(&http, issuer.url(), &world.voucher(16), 16).await;
    let pay = async |token: &tocyn_protocol::token::Token, text: &str| {
        let cell = cell(text);
        post(&http, relay.url(), &bound(token, &cell), &cell).await.unwrap().status().as_u16()
    };
    for (n, token) in honest.iter().enumerate() {
        assert_eq!(pay(token, &format!("honest {n}")).await, 201);
    }
    let read = || {
        let mut command = Command::new(program("tocyn-issuer"));
        let file = world.path().join("metrics");
        command.arg("--data").arg(world.issuer_data()).args(["ledger", "read"]).arg(file);
        output(&mut command)
    };
    // The relay counts every few seconds.
    let relay_counts = async |wanted: &str| {
        for _ in 0..600 {
            let text = metrics(&world.relay_data()).await;
            if text
                .lines()
                .any(|line| line.starts_with("tocyn_relay_spent_tokens{") && line.ends_with(wanted))
            {
                return text;
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        panic!("the relay does not count {wanted} spent tokens");
    };
    let path = world.path().join("metrics");
    std::fs::write(&path, relay_counts(" 16").await).unwrap();
    let fine = read();
    assert_eq!(fine.status.code(), Some(0), "{fine:?}");

    // Whoever has the pairing's secret makes tokens.
    let text = std::fs::read_to_string(world.pairing_file()).unwrap();
    let pairing: Pairing = toml::from_str(&text).unwrap();
    let key = pairing.key_pair(0);
    let (public, thief) = (*key.public(), Issuer::new(key));
    let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
    let (request, pending) = batch(&public, 16);
    let forged = pending.finalize(&thief.evaluate_batch(&request, rng)).unwrap();
    assert_eq!(pay(&forged[0], "forged").await, 201, "the relay cannot tell");
    std::fs::write(&path, relay_counts(" 17").await).unwrap();
    let alarm = read();
    assert_eq!(alarm.status.code(), Some(1));
    let text = String::from_utf8(alarm.stderr).unwrap();
    assert!(text.contains("1 tokens were redeemed") && text.contains("pairing renew"), "{text}");
    let metrics = metrics(&world.issuer_data()).await;
    assert!(metrics.contains("tocyn_issuer_redeemed_excess_tokens 1"), "{metrics}");
    let issuer = |arguments: &[&str]| {
        let mut command = Command::new(program("tocyn-issuer"));
        output(command.arg("--data").arg(world.issuer_data()).args(arguments))
    };
    let doctor = issuer(&["doctor"]);
    let text = String::from_utf8(doctor.stdout).unwrap();
    assert_eq!(doctor.status.code(), Some(1));
    assert!(text.contains("BAD   ledger"), "{text}");

    // Had it been typed wrongly.
    let report = |epoch, redeemed, more: &[&str]| {
        let numbers = ["ledger", "report", "--epoch", epoch, "--redeemed", redeemed];
        let answer = issuer(&[&numbers[..], more].concat());
        (answer.status.code(), String::from_utf8(answer.stderr).unwrap())
    };
    let (status, text) = report("7", "1", &[]);
    assert!(status == Some(1) && text.contains("has not begun; it is epoch 0"), "{text}");
    let (status, text) = report("0", "16", &[]);
    assert!(status == Some(1) && text.contains("--correct"), "{text}");
    assert_eq!(report("0", "16", &["--correct"]).0, Some(0));
}

#[test]
fn vouchers_in_bulk_have_labels_that_are_not_shown_beside_their_use() {
    let world = World::default();
    let sheet = world.path().join("sheet.html");
    let create = ["voucher", "create", "--count", "1000", "--tokens", "256", "--csv", "--label"];
    let sheet_text = sheet.to_str().unwrap();
    let table = world.issuer_command(&[&create[..], &["workshop", "--sheet", sheet_text]].concat());
    let mut lines = table.lines();
    assert_eq!(lines.next(), Some("code,id,tokens,expires"));
    let codes: Vec<&str> = lines.map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(codes.len(), 1000);
    let page = std::fs::read_to_string(&sheet).unwrap();
    assert!(codes.iter().all(|code| page.contains(code)));
    assert_eq!(page.matches("<svg").count(), 1000);
    world.issuer_command(&["voucher", "create", "--tokens", "16", "--allowance"]);
    let list = world.issuer_command(&["voucher", "list"]);
    assert!(!list.contains("workshop") && list.contains("allowance"));
    let labels = world.issuer_command(&["voucher", "labels"]);
    assert_eq!(labels.matches("workshop").count(), 1000);
    assert!(!labels.lines().next().unwrap().contains("left"), "what is left is not beside a label");
    let revoked = world.issuer_command(&["voucher", "revoke", "--label", "workshop"]);
    assert_eq!(revoked.lines().count(), 1000);
    assert_eq!(world.issuer_command(&["voucher", "list"]).matches("usable").count(), 1);
}
