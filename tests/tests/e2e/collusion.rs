//! Issuer and relay together against one buyer: each way to tie a purchase to a post is refused, or
//! is harmless, or costs the pair what docs/THREAT_MODEL.md says. The client is the real program.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tocyn_client::evidence::{Evidence, Verdict};
use tocyn_e2e::service::Service;
use tocyn_e2e::socks::SocksProxy;
use tocyn_e2e::world::{RELAY_ADDRESS, World, output};
use tocyn_e2e::wrong_issuer::WrongIssuer;
use tocyn_e2e::wrong_relay::{Rule, WrongRelay};
use tocyn_protocol::directory::TokenKey;
use tocyn_protocol::log::note::LogKey;
use tocyn_protocol::log::proof::InclusionProof;
use tocyn_protocol::log::tree::{Edge, Tree};
use tocyn_protocol::pairing::Pairing;
use tocyn_protocol::relay::{ProvenKey, RelayInfo};
use tocyn_protocol::schedule::Epoch;
use tocyn_protocol::statement::tree::{EpochTree, leaf};
use tocyn_protocol::statement::{Commitment, Signed, Statement};

/// A pair that works together, and one buyer.
struct Pair {
    world: World,
    issuer: WrongIssuer,
    relay: WrongRelay,
    pairing: Pairing,
    key: LogKey,
    /// The statement that everyone is shown.
    stated: Signed,
    _real: [Service; 2],
}

async fn pair() -> Pair {
    let world = World::default();
    let (real_issuer, real_relay) = (world.start_issuer(), world.start_relay());
    let issuer = WrongIssuer::start(real_issuer.url()).await;
    let relay = WrongRelay::start(&real_relay, &world.relay_data(), 1).await;
    let read = |path| std::fs::read_to_string(path).unwrap();
    let pairing: Pairing = toml::from_str(&read(world.pairing_file())).unwrap();
    let key = LogKey::from_secret_text(read(world.relay_data().join("log.key")).trim()).unwrap();
    let info = tocyn_e2e::member::relay(real_relay.url()).info().await.unwrap();
    let stated = Signed::open(&info.statements[0], &key.verifier()).unwrap();
    Pair { world, issuer, relay, pairing, key, stated, _real: [real_issuer, real_relay] }
}

impl Pair {
    /// The relay shows this to the reader of each number.
    fn show(&self, change: impl Fn(usize, &mut RelayInfo) + Send + Sync + 'static) {
        self.relay.views()[0].info = Some(Arc::new(change));
    }

    /// Shows the truth again.
    fn show_the_truth(&self) {
        self.relay.views()[0].info = None;
        self.issuer.change(|_, _| {});
    }

    /// Runs `tocyn` with this input; returns its status and what it said.
    fn tocyn(&self, args: &[&str], input: &str) -> (Option<i32>, String) {
        let file = self.world.path().join("input");
        std::fs::write(&file, input).unwrap();
        let mut command = self.world.tocyn(args);
        let output = output(command.stdin(std::fs::File::open(&file).unwrap()));
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    }

    fn buy(&self) -> (Option<i32>, String) {
        let voucher = self.world.voucher(16);
        let urls = ["request", "--issuer", self.issuer.url(), "--relay", self.relay.url(0)];
        self.tocyn(&[&urls[..], &["--voucher", &voucher, "--count", "16"]].concat(), "")
    }

    fn post(&self, text: &str) -> (Option<i32>, String) {
        self.tocyn(&["post", "--relay", self.relay.url(0)], text)
    }

    /// The purchase is refused with this text, before the issuer was shown a voucher.
    fn refuses_to_buy(&self, because: &str) {
        let before = self.issuer.asked().len();
        let (code, said) = self.buy();
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(because), "{because}: {said}");
        assert_eq!(self.issuer.asked().len(), before, "no voucher was shown");
    }

    /// The one file of evidence that the wallet has, and what it shows to a stranger.
    fn evidence(&self) -> (Evidence, Verdict) {
        let folder = std::fs::read_dir(self.world.wallet().join("evidence")).unwrap();
        let files: Vec<_> = folder.map(|file| file.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        let evidence = Evidence::from_json(&std::fs::read(&files[0]).unwrap()).unwrap();
        let verdict = evidence.verify().unwrap();
        let mut verify = self.world.tocyn_of("stranger", &["evidence", "verify"]);
        verify.arg(&files[0]).arg("--key").arg(self.key.verifier().to_string());
        let is_proven = matches!(verdict, Verdict::Proven(_));
        assert_eq!(output(&mut verify).status.success(), is_proven, "{verdict}");
        (evidence, verdict)
    }

    /// Another statement than `stated`, of the same number unless `change` says otherwise.
    fn other(&self, change: impl Fn(&mut Statement)) -> Signed {
        let mut other = self.stated.statement().clone();
        change(&mut other);
        other.sign(&self.key)
    }

    /// The key of an epoch with proofs in the true tree.
    fn proven(&self, epoch: Epoch) -> ProvenKey {
        let proof = EpochTree::of(&self.pairing).proof(epoch).unwrap();
        let proofs = vec![ProvenKey::encode_proof(&proof)];
        ProvenKey { key: TokenKey::for_epoch(&self.pairing, epoch), proofs }
    }
}

/// A pairing whose keys nobody has stated.
fn another(pairing: &Pairing) -> Pairing {
    let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
    let (schedule, issuer) = (pairing.schedule(), pairing.issuer_name());
    let (genesis, seconds) = (schedule.genesis, schedule.epoch_seconds);
    Pairing::generate(issuer, pairing.origin_name(), genesis, seconds, rng).unwrap()
}

/// H1 of the first reading: everyone is shown 450 epochs, and each buyer another one as current.
#[tokio::test(flavor = "multi_thread")]
async fn many_keys_that_are_all_genuine() {
    let pair = pair().await;
    let unproven =
        |epoch| ProvenKey { key: TokenKey::for_epoch(&pair.pairing, epoch), proofs: Vec::new() };
    let many: Vec<ProvenKey> = (0..450).map(unproven).collect();
    let future = [7, 8].map(|epoch| TokenKey::for_epoch(&pair.pairing, epoch));
    pair.show(move |_, info| info.token_keys = many.clone());
    pair.issuer.change(move |_, directory| directory.token_keys = future.to_vec());
    pair.refuses_to_buy("lists keys of the epochs");
    // A few of them, in a list of the right length.
    let few: Vec<ProvenKey> = [7, 8].map(|epoch| pair.proven(epoch)).to_vec();
    pair.show(move |_, info| info.token_keys = few.clone());
    pair.refuses_to_buy("lists keys of the epochs [7, 8] where [0, 1] must be");
    // The relay tells the truth, and the issuer alone picks.
    pair.relay.views()[0].info = None;
    pair.refuses_to_buy("lists keys of the epochs [7, 8] where [0, 1] must be");
    // A future key under the current epoch's number.
    let mut posing = TokenKey::for_epoch(&pair.pairing, 7);
    posing = TokenKey { token_key: posing.token_key, ..TokenKey::for_epoch(&pair.pairing, 0) };
    pair.issuer.change(move |_, directory| directory.token_keys[0] = posing.clone());
    pair.refuses_to_buy("a key of epoch 0 that is not in the relay's statement");
    assert!(matches!(pair.evidence().1, Verdict::Witnessed(_)));
    pair.show_the_truth();
    assert_eq!(pair.buy().0, Some(0));
}

/// A key for each connection, or for each buyer, that nobody stated.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_its_own_for_each_connection() {
    let pair = pair().await;
    let others: Arc<Vec<Pairing>> = Arc::new((0..4).map(|_| another(&pair.pairing)).collect());
    let key = |others: &[Pairing], number: usize, epoch| {
        TokenKey::for_epoch(&others[number % others.len()], epoch)
    };
    let keys = others.clone();
    pair.show(move |number, info| {
        info.token_keys.iter_mut().for_each(|one| one.key = key(&keys, number, one.key.epoch));
    });
    pair.issuer.change(move |number, directory| {
        directory.token_keys.iter_mut().for_each(|one| *one = key(&others, number, one.epoch));
    });
    pair.refuses_to_buy("not in the relay's statement of keys");
    pair.show_the_truth();
    assert_eq!(pair.buy().0, Some(0));
    assert_eq!(pair.post("one").0, Some(0));
    // A buyer's key that is forgotten with its last token was once forgotten in the wallet too.
    let other = another(&pair.pairing);
    pair.show(move |_, info| {
        let key = |epoch| TokenKey::for_epoch(&other, epoch);
        info.token_keys.iter_mut().for_each(|one| one.key = key(one.key.epoch));
    });
    let (code, said) = pair.post("two");
    assert_eq!(code, Some(1));
    assert!(said.contains("not in the relay's statement of keys"), "{said}");
    assert_eq!(pair.relay.posts().len(), 1, "no token was shown");
}

/// One signed root cannot hold two keys of an epoch: index and size come from nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn two_keys_of_an_epoch_in_one_root() {
    let pair = pair().await;
    // The tree has this buyer's key of epoch 0 as the leaf of epoch 400, and one leaf more than it
    // says; the statement is the only one that anyone is shown.
    let marked = another(&pair.pairing);
    let count = pair.stated.schedule.count;
    let mut tree = Tree::default();
    for epoch in 0..count {
        let of = if epoch == 400 { &marked } else { &pair.pairing };
        let epoch = if epoch == 400 { 0 } else { epoch };
        tree.push(leaf(of.key_pair(epoch).public()));
    }
    let edge = Edge::new(count, &tree).unwrap();
    let statement = pair.other(|other| other.root = edge.root());
    let proof = |epoch| ProvenKey::encode_proof(&InclusionProof::new(epoch, &edge, &tree).unwrap());
    let entry = |pairing: &Pairing, epoch, at| ProvenKey {
        key: TokenKey::for_epoch(pairing, epoch),
        proofs: vec![proof(at)],
    };
    let good = [entry(&pair.pairing, 0, 0), entry(&pair.pairing, 1, 1)];
    let bad = [entry(&marked, 0, 400), entry(&pair.pairing, 1, 1)];
    let (note, list) = (statement.note().to_owned(), bad.to_vec());
    pair.show(move |_, info| {
        info.statements = vec![note.clone()];
        info.token_keys = list.clone();
    });
    let key = TokenKey::for_epoch(&marked, 0);
    pair.issuer.change(move |_, directory| directory.token_keys[0] = key.clone());
    pair.refuses_to_buy("a key of epoch 0 that is not in the relay's statement");
    // The leaf of epoch 0 is the one that counts.
    let note = statement.note().to_owned();
    pair.show(move |_, info| {
        info.statements = vec![note.clone()];
        info.token_keys = good.to_vec();
    });
    pair.issuer.change(|_, _| {});
    let (code, said) = pair.buy();
    assert_eq!(code, Some(0), "{said}");
}

/// A clock that only this buyer is shown would name the epoch to buy under.
#[tokio::test(flavor = "multi_thread")]
async fn shifted_clocks() {
    let pair = pair().await;
    let days = 35 * 86_400;
    let future: Vec<ProvenKey> = [5, 6, 4].map(|epoch| pair.proven(epoch)).to_vec();
    let list = future.clone();
    pair.show(move |_, info| {
        info.now += days;
        info.token_keys = list.clone();
    });
    let keys = [5, 6].map(|epoch| TokenKey::for_epoch(&pair.pairing, epoch)).to_vec();
    pair.issuer.change(move |_, directory| {
        directory.now += days;
        directory.token_keys = keys.clone();
    });
    pair.refuses_to_buy("at most 60 s apart is good");
    // With a clock that is right, the list must be that of now.
    pair.show(move |_, info| info.token_keys = future.clone());
    pair.refuses_to_buy("lists keys of the epochs");
    // The issuer alone.
    pair.relay.views()[0].info = None;
    pair.refuses_to_buy("at most 60 s apart is good");
    // Within a minute all is well: it shifts nobody's epoch but beside a change, where nobody buys.
    pair.issuer.change(|_, directory| directory.now += 50);
    assert_eq!(pair.buy().0, Some(0));
}

/// Names are in every token's challenge; those for one buyer only would mark its tokens.
#[tokio::test(flavor = "multi_thread")]
async fn swapped_names() {
    let pair = pair().await;
    // In the document alone: it is the signed ones that tokens have.
    pair.show(|_, info| info.issuer_name = "issuer.exampIe".to_owned());
    assert_eq!(pair.buy().0, Some(0));
    let balance = pair.world.balance();
    assert_eq!(
        (&balance["issuer_name"], &balance["unspent"]),
        (&"issuer.example".into(), &16.into())
    );
    assert_eq!(pair.post("with the stated names").0, Some(0));
    pair.show(|_, info| info.origin_name = "relay.exampIe".to_owned());
    pair.refuses_to_buy("it calls itself otherwise than its key does");
    // In a statement for this buyer: there are two of one number then.
    let other = pair.other(|other| other.issuer_name = "issuer.exampIe".to_owned());
    pair.show(move |_, info| info.statements = vec![other.note().to_owned()]);
    pair.refuses_to_buy("two statements of keys with the number 0");
    let (evidence, verdict) = pair.evidence();
    assert_eq!(evidence.kind(), "keys");
    assert!(matches!(verdict, Verdict::Proven(_)), "{verdict}");
}

/// A path or an address for one voucher only.
#[tokio::test(flavor = "multi_thread")]
async fn marked_paths_and_addresses() {
    let pair = pair().await;
    for path in ["/token-request/17", "../token-request?17", "../token-request/", "/token-request"]
    {
        pair.issuer.change(move |_, directory| directory.issuer_request_uri = path.to_owned());
        pair.refuses_to_buy("which could mark who asks");
    }
    pair.issuer.change(|_, _| {});
    assert_eq!(pair.buy().0, Some(0));
    assert!(pair.issuer.asked().iter().all(|(path, _)| path == "/token-request"));
    // Somebody hands this buyer an address of the relay, and of the issuer, that nobody else has.
    let relay = pair.relay.url(0).strip_prefix("http://").unwrap();
    let issuer = pair.issuer.url().strip_prefix("http://").unwrap();
    let proxy =
        SocksProxy::start([("for-you.relay.example", relay), ("for-you.issuer.example", issuer)]);
    let proxy = proxy.await;
    let through = ["--proxy", proxy.url()];
    let post = ["post", "--relay", "http://for-you.relay.example"];
    let (code, said) = pair.tocyn(&[&through[..], &post].concat(), "marked");
    assert_eq!(code, Some(1));
    assert!(said.contains("does not list the address http://for-you.relay.example"), "{said}");
    let voucher = pair.world.voucher(16);
    let buy =
        ["request", "--relay", pair.relay.url(0), "--issuer", "http://for-you.issuer.example"];
    let pay = ["--voucher", &voucher, "--count", "16"];
    let before = pair.issuer.asked().len();
    let (code, said) = pair.tocyn(&[&buy[..], &pay].concat(), "");
    assert_eq!(code, Some(1));
    assert!(said.contains("does not name http://for-you.issuer.example"), "{said}");
    assert_eq!((pair.issuer.asked().len(), pair.relay.posts().len()), (before, 0));
}

/// A second statement for some readers: the wallet has the first one, and needs nobody to compare.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_statement_for_each_reader() {
    let pair = pair().await;
    let marked = another(&pair.pairing);
    let tree = EpochTree::of(&marked);
    let other = pair.other(|other| other.root = tree.root());
    let keys: Vec<ProvenKey> = [0, 1]
        .map(|epoch| ProvenKey {
            key: TokenKey::for_epoch(&marked, epoch),
            proofs: vec![ProvenKey::encode_proof(&tree.proof(epoch).unwrap())],
        })
        .to_vec();
    // The buyer's first connection is shown the marked one: it sells under it.
    let note = other.note().to_owned();
    let show = {
        let (note, keys) = (note.clone(), keys.clone());
        move |info: &mut RelayInfo| {
            info.statements = vec![note.clone()];
            info.token_keys = keys.clone();
        }
    };
    let all = show.clone();
    pair.show(move |_, info| all(info));
    let listed: Vec<TokenKey> = keys.iter().map(|proven| proven.key.clone()).collect();
    pair.issuer.change(move |_, directory| directory.token_keys = listed.clone());
    let (_, said) = pair.buy();
    // The real issuer behind it does not know the key; what counts is what the client accepted.
    assert!(said.contains("relay.example is new to this wallet"), "{said}");
    assert_eq!(pair.issuer.asked().len(), 1, "at first sight without a proxy nothing can tell");
    // At its next look, which the pair cannot tell from anyone's, it is shown what all are shown.
    pair.show_the_truth();
    let (code, said) = pair.post("hello");
    assert_eq!(code, Some(1));
    assert!(said.contains("two statements of keys with the number 0"), "{said}");
    assert_eq!(pair.relay.posts().len(), 0, "nothing was posted");
    assert!(matches!(pair.evidence().1, Verdict::Proven(_)));
    // Or it is shown the marked one again, and the receipt names what the log names.
    pair.show(move |_, info| show(info));
    let (code, said) = pair.post("hello");
    assert_eq!(code, Some(1), "{said}");
}

/// Through a proxy three looks on circuits of their own come before anything is bought.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_statement_through_a_proxy_is_proven_at_first_sight() {
    let pair = pair().await;
    let other = pair.other(|other| other.addresses = vec![RELAY_ADDRESS.parse().unwrap(); 1]);
    let other = Signed::open(other.note(), &pair.key.verifier()).unwrap();
    let marked = pair.other(|other| other.issuer_address = None);
    assert_ne!(other.commitment(), marked.commitment());
    // Only one of the three is shown the marked one.
    pair.show(move |number, info| {
        if number == 2 {
            info.statements = vec![marked.note().to_owned()];
        }
    });
    let address = |url: &str| url.strip_prefix("http://").unwrap().to_owned();
    let (relay, issuer) = (address(pair.relay.url(0)), address(pair.issuer.url()));
    let proxy = SocksProxy::start([("relay.example", &*relay), ("issuer.example", &*issuer)]).await;
    let (voucher, through) = (pair.world.voucher(16), ["--proxy", proxy.url()]);
    let buy = ["request", "--relay", RELAY_ADDRESS, "--voucher", &voucher, "--count", "16"];
    let (code, said) = pair.tocyn(&[&through[..], &buy].concat(), "");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("3 of 3") && said.contains("two statements of keys"), "{said}");
    assert!(matches!(pair.evidence().1, Verdict::Proven(_)));
    assert!(pair.issuer.asked().is_empty(), "no voucher was shown");
    let connections = proxy.take_connections();
    let mut circuits: Vec<_> = connections.iter().map(|one| one.credentials.clone()).collect();
    circuits.sort();
    circuits.dedup();
    // Two looks with the log's checkpoint, and one that is refused before that.
    assert_eq!((connections.len(), circuits.len()), (5, 5));
}

/// A renewal for each buyer, which marks all tokens that are bought after it.
#[tokio::test(flavor = "multi_thread")]
async fn re_tagging_by_renewals() {
    let pair = pair().await;
    assert_eq!(pair.buy().0, Some(0));
    let next = |pair: &Pair, marked: &Pairing| {
        pair.other(|other| {
            other.serial = 1;
            other.previous = Some(pair.stated.commitment().hash);
            other.root = EpochTree::of(marked).root();
        })
    };
    let (for_you, for_others) =
        (next(&pair, &another(&pair.pairing)), next(&pair, &another(&pair.pairing)));
    let chain =
        |pair: &Pair, last: &Signed| vec![pair.stated.note().to_owned(), last.note().to_owned()];
    let marked = chain(&pair, &for_you);
    pair.show(move |_, info| info.statements = marked.clone());
    // It is only offered: keys of the pinned statement are used on, and these are proven no more.
    pair.refuses_to_buy("not in the relay's statement of keys");
    std::fs::remove_dir_all(pair.world.wallet().join("evidence")).unwrap();
    // The next look is anybody's.
    let shown = chain(&pair, &for_others);
    pair.show(move |_, info| info.statements = shown.clone());
    let (code, said) = pair.post("hello");
    assert_eq!(code, Some(1));
    assert!(said.contains("two statements of keys with the number 1"), "{said}");
    assert!(matches!(pair.evidence().1, Verdict::Proven(_)));
    assert_eq!(pair.relay.posts().len(), 0);
}

/// Cells of another size would be this buyer's own.
#[tokio::test(flavor = "multi_thread")]
async fn a_size_of_cells_for_one_reader() {
    let pair = pair().await;
    assert_eq!(pair.buy().0, Some(0));
    pair.show(|_, info| info.cell_bytes = 1024);
    let (code, said) = pair.post("hello");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("its cells have 1024 bytes, and said 2048 before"), "{said}");
    assert_eq!(pair.relay.posts().len(), 0);
}

/// A document as long as any that is read, full of what JSON writes longest.
#[tokio::test(flavor = "multi_thread")]
async fn evidence_of_the_longest_document_can_be_read() {
    let pair = pair().await;
    pair.issuer.change(|_, directory| directory.token_keys[0].token_key = "\"".repeat(250_000));
    pair.refuses_to_buy("not in the relay's statement of keys");
    assert!(matches!(pair.evidence().1, Verdict::Witnessed(_)));
}

/// A later statement that is shown to one look, and hidden from the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_is_shown_once_and_hidden_then() {
    let pair = pair().await;
    assert_eq!(pair.buy().0, Some(0));
    let later = pair.other(|other| {
        other.serial = 1;
        other.previous = Some(pair.stated.commitment().hash);
        other.issuer_address = Some("https://elsewhere.example".parse().unwrap());
    });
    let notes = vec![pair.stated.note().to_owned(), later.note().to_owned()];
    pair.show(move |_, info| info.statements = notes.clone());
    let (code, said) = pair.tocyn(&["relay", "look", pair.relay.url(0)], "");
    assert_eq!(code, Some(0), "{said}");
    let change =
        "another address of the issuer: https://elsewhere.example; before: http://issuer.example";
    assert!(said.contains(change), "{said}");
    let hash = later.commitment().hash.to_string();
    assert!(said.contains(&hash), "what two people can compare: {said}");
    let (_, list) = pair.tocyn(&["relay", "list"], "");
    assert!(list.contains(&hash) && list.contains(&pair.stated.commitment().hash.to_string()));
    pair.show_the_truth();
    let (code, said) = pair.post("hello");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("number 0 as its newest, and this wallet has seen number 1"), "{said}");
    assert_eq!(pair.relay.posts().len(), 0, "nothing was spent");
    // Once the log is longer it is proven.
    pair.relay.views()[0].cells.push(vec![7; 2048]);
    assert!(pair.post("hello").1.contains("names an earlier statement of keys"));
    assert!(matches!(pair.evidence().1, Verdict::Proven(_)));
}

/// The log names another statement than this buyer was shown: each checkpoint and each receipt has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_names_another_statement() {
    let pair = pair().await;
    assert_eq!(pair.buy().0, Some(0));
    let other = pair.other(|other| other.issuer_address = None).commitment();
    pair.relay.views()[0].keys = Some(other);
    let (code, said) = pair.post("hello");
    assert_eq!(code, Some(1));
    assert!(said.contains("two statements of keys with the number 0"), "{said}");
    assert!(matches!(pair.evidence().1, Verdict::Proven(_)));
    assert_eq!(pair.relay.posts().len(), 0);
    // One that names a later statement than it shows is refused, and its note is kept.
    std::fs::remove_dir_all(pair.world.wallet()).unwrap();
    pair.relay.views()[0].keys = Some(Commitment { serial: 5, ..other });
    pair.refuses_to_buy("its log names number 5");
    pair.relay.views()[0].keys = None;
    // Only its receipts name another one.
    std::fs::remove_dir_all(pair.world.wallet()).unwrap();
    assert_eq!(pair.buy().0, Some(0));
    pair.relay.views()[0].receipt_keys = Some(other);
    let (code, said) = pair.post("hello");
    assert_eq!(code, Some(1));
    assert!(said.contains("posted as number 1, but the relay is at fault"), "{said}");
    assert!(said.contains("two statements of keys with the number 0"), "{said}");
    assert!(matches!(pair.evidence().1, Verdict::Proven(_)));
}

/// A statement for one buyer with a number that no other one has contradicts none of the others'. But
/// the log names it, and a longer one never names an earlier number.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_of_its_own_for_a_buyer() {
    let pair = pair().await;
    let own = pair.other(|other| {
        other.serial = 1005;
        other.previous = Some(pair.stated.commitment().hash);
    });
    let show_own = || {
        let note = own.note().to_owned();
        pair.show(move |_, info| info.statements = vec![note.clone()]);
    };
    // The honest receipt is of a longer log.
    show_own();
    assert_eq!(pair.buy().0, Some(0));
    pair.relay.views()[0].receipt_keys = Some(pair.stated.commitment());
    let (code, said) = pair.post("hello");
    assert_eq!(code, Some(1));
    assert!(said.contains("names an earlier statement of keys"), "{said}");
    assert!(matches!(pair.evidence().1, Verdict::Proven(_)));
    pair.relay.views()[0].receipt_keys = None;
    // A wrong guess is refused, and proven once the log that others see has grown.
    std::fs::remove_dir_all(pair.world.wallet()).unwrap();
    assert_eq!(pair.buy().0, Some(0));
    pair.show_the_truth();
    pair.refuses_to_buy("shows statement of keys number 0 as its newest");
    pair.relay.views()[0].cells.push(vec![7; 2048]);
    pair.refuses_to_buy("names an earlier statement of keys");
    assert!(matches!(pair.evidence().1, Verdict::Proven(_)));
    // So is what a check is shown.
    std::fs::remove_dir_all(pair.world.wallet()).unwrap();
    show_own();
    assert_eq!(pair.buy().0, Some(0));
    let (code, said) = pair.tocyn(&["check", "--relay", pair.relay.url(0)], "");
    assert_eq!(code, Some(0), "{said}");
    pair.show_the_truth();
    pair.relay.views()[0].cells.push(vec![8; 2048]);
    let (code, said) = pair.tocyn(&["check", "--relay", pair.relay.url(0)], "");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("names an earlier statement of keys"), "{said}");
}

/// An issuer that serves one buyer in an epoch knows whose every token of that epoch is. It cannot be
/// refused: it is bounded. All other buyers are turned away, which they see.
#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_serves_one_buyer_in_an_epoch() {
    let pair = pair().await;
    assert_eq!(pair.buy().0, Some(0));
    pair.issuer.set_busy(true);
    for person in ["bob", "cyd"] {
        let voucher = pair.world.voucher(16);
        let urls = ["request", "--issuer", pair.issuer.url(), "--relay", pair.relay.url(0)];
        let pay = ["--voucher", &voucher, "--count", "16"];
        let mut buy = pair.world.tocyn_of(person, &[&urls[..], &pay].concat());
        let output = output(&mut buy);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("refuses: try again some time"), "{said}");
    }
}

/// A relay that refuses each message once, and takes it when it comes again, learns no chain of posts
/// over five days: no two of them come over one connection.
#[tokio::test(flavor = "multi_thread")]
async fn refused_first_tries_tie_no_posts_together() {
    let pair = pair().await;
    assert_eq!(pair.buy().0, Some(0));
    pair.relay.set(Rule::RefuseFirst);
    for day in 1..=5 {
        let (code, said) = pair.post(&format!("day {day}"));
        assert_eq!(code, Some(1), "{said}");
        assert!(
            day == 1 || said.contains(&format!("{} earlier messages have no receipt", day - 1))
        );
    }
    let alone = pair.relay.posts();
    assert_eq!(alone.len(), 5, "each run sends its own message and no other");
    let (code, said) = pair.tocyn(&["post", "--relay", pair.relay.url(0), "--resume"], "");
    assert_eq!(code, Some(0), "{said}");
    let posts = pair.relay.posts();
    assert_eq!(posts.len(), 10);
    let mut connections: Vec<u16> = posts.iter().map(|(port, _)| *port).collect();
    connections.sort_unstable();
    connections.dedup();
    assert_eq!(connections.len(), 10, "each message has a connection of its own");
}

/// Another origin key for one reader is another relay, which is owed nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_origin_key_of_its_own_for_a_reader() {
    let pair = pair().await;
    assert_eq!(pair.buy().0, Some(0));
    let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
    let key = LogKey::generate(pair.key.name(), rng);
    let stated = pair.stated.statement().sign(&key);
    pair.show(move |_, info| {
        info.log_key = key.verifier();
        info.statements = vec![stated.note().to_owned()];
    });
    let (code, said) = pair.post("hello");
    assert_eq!(code, Some(1));
    assert!(said.contains("That is another relay, or it wants to know you again"), "{said}");
    pair.refuses_to_buy("That is another relay");
    assert_eq!(pair.relay.posts().len(), 0);
    pair.show_the_truth();
    assert_eq!(pair.post("hello").0, Some(0));
}

/// Statements that no honest origin signs are refused whole.
#[tokio::test(flavor = "multi_thread")]
async fn chains_that_leave_room_for_a_choice() {
    let pair = pair().await;
    let stated = pair.stated.clone();
    let next = |change: fn(&mut Statement)| {
        let previous = Some(stated.commitment().hash);
        let other = pair.other(|other| {
            (other.serial, other.previous) = (1, previous);
            change(other);
        });
        vec![stated.note().to_owned(), other.note().to_owned()]
    };
    let flipped = {
        let mut signature = stated.note().trim_end().rsplit_once(' ').unwrap().1.to_owned();
        let mut bytes = STANDARD.decode(&signature).unwrap();
        bytes[20] ^= 1;
        signature = STANDARD.encode(bytes);
        let (text, _) = stated.note().trim_end().rsplit_once(' ').unwrap();
        vec![format!("{text} {signature}\n")]
    };
    for (statements, because) in [
        (Vec::new(), "there must be 1 to 64"),
        (vec![stated.note().to_owned(); 2], "a serial is missing"),
        (next(|other| other.schedule.genesis += 1), "lists keys of the epochs"),
        (next(|other| other.schedule.epoch_seconds -= 1), "the times of epochs have changed"),
        (next(|other| other.schedule.count -= 1), "the times of epochs have changed"),
        (next(|other| other.issuer_name.push('x')), "different issuers"),
        (flipped, "is wrong"),
    ] {
        let shown = statements.clone();
        pair.show(move |_, info| info.statements = shown.clone());
        let because = match because {
            // Times of its own are in a new genesis: these are not those that it lists.
            "lists keys of the epochs" => "relay.example",
            because => because,
        };
        let (code, said) = pair.buy();
        assert_eq!(code, Some(1), "{because}: {said}");
        assert!(said.contains(because), "{because}: {said}");
        assert!(pair.issuer.asked().is_empty());
        let _ = std::fs::remove_dir_all(pair.world.wallet());
    }
}
