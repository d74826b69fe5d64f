//! A relay that does wrong is found out: each of its faults is named for what it is, and what can be
//! proven is kept as a file that anyone can check.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use tocyn_client::evidence::{Evidence, Verdict};
use tocyn_client::log::LogError;
use tocyn_client::post::PostError;
use tocyn_client::send::SendError;
use tocyn_client::sync::SyncError;
use tocyn_client::trust::TrustError;
use tocyn_e2e::member::{Member, SayError, new_group};
use tocyn_e2e::service::Service;
use tocyn_e2e::world::{World, output, succeed};
use tocyn_e2e::wrong_issuer::WrongIssuer;
use tocyn_e2e::wrong_relay::{Rule, WrongRelay};
use tocyn_protocol::directory::TokenKey;
use tocyn_protocol::keys::KeyPair;

/// Unix seconds of all that happens, unless a test says otherwise.
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// Ann and Bob, each at an address of the relay's choice.
struct Scene {
    world: World,
    relay: WrongRelay,
    ann: Member,
    bob: Member,
    _services: [Service; 2],
}

async fn scene() -> Scene {
    let world = World::default();
    let (issuer, real) = (world.start_issuer(), world.start_relay());
    let relay = WrongRelay::start(&real, &world.relay_data(), 2).await;
    let invite = new_group("friends", issuer.url(), relay.url(0)).await;
    let ann = Member::join(world.path(), "ann", &invite, relay.url(0)).await;
    let bob = Member::join(world.path(), "bob", &invite, relay.url(1)).await;
    for member in [&ann, &bob] {
        member.buy(&world.voucher(16), 16, now()).await;
    }
    let scene = Scene { world, relay, ann, bob, _services: [issuer, real] };
    // Before anything goes wrong, all is well.
    scene.ann.say("one", now()).await.unwrap();
    scene.ann.sync(now()).await.unwrap();
    scene.bob.sync(now()).await.unwrap();
    scene.bob.say("two", now()).await.unwrap();
    for member in [&scene.ann, &scene.bob] {
        assert!(member.sync(now()).await.unwrap().faults.is_empty());
        assert_eq!(member.texts().await, ["one", "two"]);
        assert!(!member.health().await.gap);
    }
    scene
}

impl Scene {
    /// The one fault that a member found: its evidence, checked by the program in another's hands.
    async fn evidence(&self, member: &Member) -> (Evidence, Verdict) {
        let faults = member.faults().await;
        let file = faults.last().expect("a fault").file.clone().expect("evidence");
        let key = member.invite.log_key.to_string();
        let verify = ["evidence", "verify", &file, "--key", &key];
        let said = output(&mut self.world.tocyn_of("stranger", &verify));
        let evidence = Evidence::from_json(&std::fs::read(&file).unwrap()).unwrap();
        let verdict = evidence.verify().unwrap();
        assert_eq!(String::from_utf8(said.stdout).unwrap(), format!("{key}\n{verdict}\n"));
        let proven = matches!(verdict, Verdict::Proven(_));
        assert_eq!(said.status.code(), Some(if proven { 0 } else { 1 }));
        // With anything changed it is worth nothing.
        let text = std::fs::read_to_string(&file).unwrap();
        let broken = self.world.path().join("broken.json");
        let swapped = text.replacen(char::is_alphanumeric, "Z", 1);
        assert_ne!(swapped, text);
        std::fs::write(&broken, swapped).unwrap();
        let broken = broken.to_str().unwrap();
        let refused = output(&mut self.world.tocyn_of("stranger", &["evidence", "verify", broken]));
        assert_eq!(refused.status.code(), Some(1));
        (evidence, verdict)
    }
}

fn is_fault(error: &LogError, kind: &str) -> bool {
    matches!(error, LogError::Fault { evidence, .. } if evidence.kind() == kind)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_all_are_denied_stays_with_its_sender() {
    let scene = scene().await;
    scene.relay.set(Rule::Drop);
    let refused = scene.ann.say("three", now()).await;
    assert!(
        matches!(refused, Err(SayError::Send(SendError::Waiting { waiting: 1, .. }))),
        "{refused:?}"
    );
    assert_eq!(scene.ann.health().await.waiting, 1);
    // Nothing later goes out before it.
    let refused = scene.ann.say("four", now()).await;
    assert!(
        matches!(refused, Err(SayError::Send(SendError::Waiting { waiting: 2, .. }))),
        "{refused:?}"
    );
    scene.relay.set(Rule::Publish);
    assert_eq!(scene.ann.resume(now()).await.unwrap(), 2);
    scene.bob.sync(now()).await.unwrap();
    assert_eq!(scene.bob.texts().await, ["four", "one", "three", "two"]);
    assert!(!scene.bob.health().await.gap);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_some_are_denied_leaves_a_gap_and_two_logs() {
    let scene = scene().await;
    scene.relay.set(Rule::OnlyTo(vec![0]));
    scene.ann.say("three", now()).await.unwrap();
    scene.ann.sync(now()).await.unwrap();
    scene.relay.set(Rule::Publish);
    scene.ann.say("four", now()).await.unwrap();
    let synced = scene.bob.sync(now()).await.unwrap();
    let health = scene.bob.health().await;
    assert!(health.gap);
    assert_eq!(health.missing.len(), 1);
    assert!(health.missing[0].seen_by[0].starts_with("ann ("), "{health:?}");
    let ann = health.members.iter().find(|member| member.name.starts_with("ann")).unwrap();
    assert_eq!(ann.missing, [2]);
    // Ann passed on what she was shown: a log that begins otherwise, of the same length or longer.
    assert!(!synced.faults.is_empty());
    let (_, verdict) = scene.evidence(&scene.bob).await;
    assert!(matches!(verdict, Verdict::Proven(_)), "{verdict}");
    // And the sender herself sees nothing wrong.
    assert!(scene.ann.sync(now()).await.unwrap().faults.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_cell_is_not_taken() {
    let scene = scene().await;
    scene.ann.say("three", now()).await.unwrap();
    let mut changed = scene.relay.views()[1].cells[2].clone();
    changed[100] ^= 1;
    scene.relay.views()[1].served.insert(2, changed);
    let refused = scene.bob.sync(now()).await;
    assert!(
        matches!(&refused, Err(SyncError::Log(error)) if is_fault(error, "altered")),
        "{refused:?}"
    );
    let (evidence, verdict) = scene.evidence(&scene.bob).await;
    assert!(matches!(verdict, Verdict::Witnessed(_)), "{verdict}");
    assert!(evidence.to_json().contains("c2sp.org/tlog-proof"));
    // Where the true one is to be had, reading goes on.
    scene.relay.views()[1].served.clear();
    scene.bob.sync(now()).await.unwrap();
    assert_eq!(scene.bob.texts().await, ["one", "three", "two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cell_that_was_changed_in_the_log_shows_in_what_others_were_shown() {
    let scene = scene().await;
    scene.ann.say("three", now()).await.unwrap();
    scene.relay.views()[1].cells[2][100] ^= 1;
    scene.bob.sync(now()).await.unwrap();
    assert_eq!(scene.bob.texts().await, ["one", "two"]);
    assert_eq!(scene.bob.health().await.spoiled, 1);
    scene.ann.say("four", now()).await.unwrap();
    let synced = scene.bob.sync(now()).await.unwrap();
    assert!(synced.faults.iter().any(|fault| is_fault(fault, "forked")), "{synced:?}");
    let (_, verdict) = scene.evidence(&scene.bob).await;
    assert!(matches!(verdict, Verdict::Proven(_)), "{verdict}");
    assert!(scene.bob.health().await.gap);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_another_key_is_refused() {
    let scene = scene().await;
    scene.relay.views()[1].other_key = true;
    let refused = scene.bob.sync(now()).await;
    assert!(matches!(refused, Err(SyncError::Log(LogError::Checkpoint { .. }))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_twice_changes_nothing_and_is_counted() {
    let scene = scene().await;
    scene.relay.set(Rule::Twice);
    scene.ann.say("three", now()).await.unwrap();
    let synced = scene.bob.sync(now()).await.unwrap();
    assert!(synced.faults.is_empty());
    assert_eq!(scene.bob.texts().await, ["one", "three", "two"]);
    let health = scene.bob.health().await;
    assert_eq!((health.duplicates, health.gap), (1, false));
    // Someone else repeats it much later.
    let old = scene.relay.views()[0].cells[0].clone();
    scene.relay.views().iter_mut().for_each(|view| view.cells.push(old.clone()));
    scene.bob.sync(now()).await.unwrap();
    assert_eq!(scene.bob.health().await.duplicates, 2);
    assert_eq!(scene.bob.messages().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_is_that_of_the_answers_and_delay_is_reported() {
    let scene = scene().await;
    let before = now();
    // "three" is held back while others are read; "four" answers to it and comes first.
    scene.relay.set(Rule::HoldBack);
    scene.ann.say("three", before).await.unwrap_err();
    scene.bob.sync(before + 3600).await.unwrap();
    scene.relay.set(Rule::Publish);
    scene.relay.release();
    scene.ann.resume(before + 3600).await.unwrap();
    scene.ann.say("four", before + 3600).await.unwrap();
    scene.relay.views().iter_mut().for_each(|view| {
        let last = view.cells.len() - 1;
        view.cells.swap(2, last);
    });
    scene.bob.sync(before + 3700).await.unwrap();
    assert!(!scene.bob.health().await.gap);
    let messages = scene.bob.messages().await;
    let three = messages.iter().find(|message| message.body == b"three").unwrap();
    let four = messages.iter().find(|message| message.body == b"four").unwrap();
    assert!(four.seq < three.seq, "the log has them the other way round");
    assert!(four.parents.contains(&three.id));
    assert!(three.late >= 3000, "it came an hour late: {}", three.late);
    assert_eq!(scene.bob.health().await.late, 1);
    let file = scene.bob.dir().to_str().unwrap().to_owned();
    let shown = succeed(
        std::process::Command::new(tocyn_e2e::programs::program("tocyn"))
            .args(["--wallet", &file, "--json", "show", "friends"]),
    );
    let place = |text: &str| shown.lines().position(|line| line.contains(text)).unwrap();
    assert!(place("\"three\"") < place("\"four\""), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_logs_are_proven_by_what_a_member_passes_on() {
    let scene = scene().await;
    // Each sees only what comes to its own address.
    scene.relay.set(Rule::OnlyTo(vec![0]));
    scene.ann.say("for ann's eyes", now()).await.unwrap();
    scene.ann.sync(now()).await.unwrap();
    scene.relay.set(Rule::OnlyTo(vec![1]));
    scene.bob.say("for bob's eyes", now()).await.unwrap();
    scene.bob.say("and more", now()).await.unwrap();
    scene.bob.sync(now()).await.unwrap();
    assert!(scene.bob.faults().await.is_empty(), "each for itself can see nothing");
    scene.relay.set(Rule::Publish);
    scene.ann.say("hello?", now()).await.unwrap();
    let synced = scene.bob.sync(now()).await.unwrap();
    assert!(synced.faults.iter().any(|fault| is_fault(fault, "forked")), "{synced:?}");
    let (_, verdict) = scene.evidence(&scene.bob).await;
    assert!(matches!(verdict, Verdict::Proven(_)), "{verdict}");
    // `check` says so too, and its status with it.
    let wallet = scene.bob.dir().to_str().unwrap().to_owned();
    let mut check = std::process::Command::new(tocyn_e2e::programs::program("tocyn"));
    let checked = output(check.args(["--wallet", &wallet, "check", "friends"]));
    let said = String::from_utf8(checked.stdout).unwrap();
    assert_eq!(checked.status.code(), Some(1), "{said}");
    assert!(
        said.contains("proven: it signed a log of") && said.contains(") says it was there"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_goes_back_is_witnessed_and_once_it_grows_again_proven() {
    let scene = scene().await;
    scene.ann.say("three", now()).await.unwrap();
    scene.bob.sync(now()).await.unwrap();
    // As from a backup.
    scene.relay.views().iter_mut().for_each(|view| view.cells.truncate(2));
    let refused = scene.bob.sync(now()).await;
    assert!(
        matches!(&refused, Err(SyncError::Log(error)) if is_fault(error, "rolled-back")),
        "{refused:?}"
    );
    let (_, verdict) = scene.evidence(&scene.bob).await;
    assert!(matches!(verdict, Verdict::Witnessed(_)), "{verdict}");
    // Ann posts into the log that lost her message: its receipt contradicts the one before.
    let refused = scene.ann.say("four", now()).await;
    match &refused {
        Err(SayError::Send(SendError::Fault(PostError::Log { seq: 3, error }))) => {
            assert!(is_fault(error, "forked"), "{error:?}");
        }
        other => panic!("{other:?}"),
    }
    let (_, verdict) = scene.evidence(&scene.ann).await;
    assert!(matches!(verdict, Verdict::Proven(_)), "{verdict}");
    let refused = scene.bob.sync(now()).await;
    assert!(
        matches!(&refused, Err(SyncError::Log(error)) if is_fault(error, "forked")),
        "{refused:?}"
    );
    let (_, verdict) = scene.evidence(&scene.bob).await;
    assert!(matches!(verdict, Verdict::Proven(_)), "{verdict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_and_not_published_is_proven_by_its_receipt() {
    let scene = scene().await;
    scene.relay.set(Rule::OnlyAcknowledge);
    scene.ann.say("three", now()).await.unwrap();
    let synced = scene.ann.sync(now()).await.unwrap();
    assert!(synced.faults.iter().any(|fault| is_fault(fault, "rolled-back")), "{synced:?}");
    scene.relay.set(Rule::Publish);
    scene.bob.say("four", now()).await.unwrap();
    let synced = scene.ann.sync(now()).await.unwrap();
    assert!(synced.faults.iter().any(|fault| is_fault(fault, "unpublished")), "{synced:?}");
    let (_, verdict) = scene.evidence(&scene.ann).await;
    assert!(matches!(verdict, Verdict::Proven(_)), "{verdict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_that_proves_nothing_leaves_the_message_with_its_sender() {
    let scene = scene().await;
    scene.relay.set(Rule::BadReceipt);
    let refused = scene.ann.say("three", now()).await;
    assert!(
        matches!(
            refused,
            Err(SayError::Send(SendError::Waiting { error: PostError::Unproven(_), .. }))
        ),
        "{refused:?}"
    );
    assert!(scene.ann.faults().await[0].what.contains("does not prove"));
    scene.relay.set(Rule::Publish);
    assert_eq!(scene.ann.resume(now()).await.unwrap(), 1);
    scene.bob.sync(now()).await.unwrap();
    assert_eq!(scene.bob.texts().await, ["one", "three", "two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_should_be_kept_cannot_be_said_to_be_gone() {
    let scene = scene().await;
    scene.ann.say("three", now()).await.unwrap();
    scene.relay.views()[1].oldest = Some(4);
    let refused = scene.bob.sync(now()).await;
    assert!(matches!(refused, Err(SyncError::GoneTooSoon { first: 3, .. })), "{refused:?}");
    assert_eq!(scene.bob.health().await.skipped, 0);
    // Bob goes on without it; what is left out later is a gap all the same.
    let wallet = scene.bob.dir().to_str().unwrap().to_owned();
    let mut sync = std::process::Command::new(tocyn_e2e::programs::program("tocyn"));
    succeed(sync.args(["--wallet", &wallet, "sync", "--accept-gone"]));
    assert_eq!(scene.bob.health().await.skipped, 1);
    scene.ann.say("four", now()).await.unwrap();
    scene.bob.sync(now()).await.unwrap();
    let health = scene.bob.health().await;
    assert!(!health.gap && !health.missing.is_empty(), "it may be the one: {health:?}");
    scene.relay.set(Rule::OnlyTo(vec![0]));
    scene.ann.say("five", now()).await.unwrap();
    scene.relay.set(Rule::Publish);
    scene.ann.say("six", now()).await.unwrap();
    scene.bob.sync(now()).await.unwrap();
    assert!(scene.bob.health().await.gap);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_key_for_one_user_is_refused_and_kept() {
    let scene = scene().await;
    // Issuer and relay conspire: both show a key of its own to Cyd alone, who has no token yet.
    fn change(key: &mut TokenKey) {
        let public = *KeyPair::derive(&[key.epoch as u8; 32], b"only for cyd").public();
        key.token_key = URL_SAFE.encode(public.to_bytes());
    }
    let issuer = WrongIssuer::start(&scene.ann.invite.issuer.to_string()).await;
    issuer.change(|_, directory| directory.token_keys.iter_mut().for_each(change));
    scene.relay.views()[1].info = Some(Arc::new(|_, info| {
        info.token_keys.iter_mut().for_each(|proven| change(&mut proven.key));
    }));
    let mut invite = scene.ann.invite.clone();
    invite.issuer = issuer.url().parse().unwrap();
    let cyd = Member::join(scene.world.path(), "cyd", &invite, scene.relay.url(1)).await;
    cyd.sync(now()).await.unwrap();
    let (wallet, voucher) = (cyd.dir().to_str().unwrap().to_owned(), scene.world.voucher(16));
    let buy = || {
        let mut buy = std::process::Command::new(tocyn_e2e::programs::program("tocyn"));
        let args = ["request", "--group", "friends", "--voucher", &voucher, "--count", "16"];
        let output = output(buy.args(["--wallet", &wallet]).args(args));
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = buy();
    assert_eq!(code, Some(1));
    assert!(said.contains("not in the relay's statement of keys"), "{said}");
    assert_eq!(scene.world.vouchers_left(), 16, "nothing was charged");
    let (evidence, verdict) = scene.evidence(&cyd).await;
    assert_eq!(evidence.kind(), "unproven");
    // Documents are not signed.
    assert!(matches!(verdict, Verdict::Witnessed(_)), "{verdict}");
    // Bob, who has tokens, spends none either.
    let refused = scene.bob.say("three", now()).await;
    assert!(matches!(refused, Err(SayError::Trust(TrustError::Kept { .. }))), "{refused:?}");
    // The issuer alone cannot do it either.
    scene.relay.views()[1].info = None;
    let (code, said) = buy();
    assert_eq!(code, Some(1));
    assert!(said.contains("not in the relay's statement of keys"), "{said}");
    scene.bob.say("three", now()).await.unwrap();
}
