//! Evidence shows what it should, and nothing that is not so can be made to look like it.

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tocyn_protocol::directory::TokenKey;
use tocyn_protocol::log::note::LogKey;
use tocyn_protocol::log::tree::{Edge, Nodes, Tree};
use tocyn_protocol::pairing::Pairing;
use tocyn_protocol::statement::StatementHash;
use tocyn_protocol::statement::tree::EpochTree;

use super::*;

const KEYS: Commitment = Commitment { serial: 3, hash: StatementHash([7; 32]) };

struct Log {
    tree: Tree,
    note: String,
}

fn log(key: &LogKey, texts: &[&str]) -> Log {
    let mut tree = Tree::default();
    texts.iter().for_each(|text| tree.push(MessageId::of(text.as_bytes()).into()));
    let root = Edge::new(tree.size(), &tree).unwrap().root();
    let note = Checkpoint { size: tree.size(), root, keys: KEYS }.sign(key);
    Log { tree, note }
}

impl Log {
    fn edge(&self) -> Edge {
        Edge::new(self.tree.size(), &self.tree).unwrap()
    }

    fn proof(&self, index: u64) -> SignedProof {
        let inclusion = InclusionProof::new(index, &self.edge(), &self.tree).unwrap();
        SignedProof { index, inclusion, checkpoint: self.note.clone() }
    }

    fn leaf(&self, index: u64) -> MessageId {
        self.tree.node(0, index).unwrap().into()
    }

    /// That it forked from `first`.
    fn forked_from(&self, first: &Log) -> Fault {
        let size = first.tree.size();
        let proof = ConsistencyProof::new(size, &self.edge(), &self.tree).unwrap();
        Fault::Forked {
            first: first.note.clone(),
            second: self.note.clone(),
            root_in_second: hex::encode(Edge::new(size, &self.tree).unwrap().root().0),
            consistency: to_hex(&proof.0),
        }
    }

    /// That it has another message than the one that `acknowledged` proves.
    fn lacks(&self, acknowledged: &Log, index: u64) -> Fault {
        Fault::Unpublished {
            receipt: acknowledged.proof(index).to_string(),
            message_id: acknowledged.leaf(index),
            second: self.note.clone(),
            instead: self.leaf(index),
            inclusion: to_hex(&self.proof(index).inclusion.0),
        }
    }
}

fn key() -> LogKey {
    LogKey::generate("relay", &mut UnwrapErr(SysRng))
}

fn verify(key: &LogKey, fault: Fault) -> Result<Verdict, NoEvidence> {
    let evidence = Evidence::new(&key.verifier(), fault);
    // As a file.
    let read = Evidence::from_json(evidence.to_json().as_bytes()).unwrap();
    assert_eq!(read, evidence);
    read.verify()
}

#[test]
fn two_logs_are_proven_and_one_that_grew_is_none() {
    let key = key();
    let first = log(&key, &["a", "b", "c"]);
    let grown = log(&key, &["a", "b", "c", "d", "e"]);
    let forked = log(&key, &["a", "b", "x", "d", "e"]);
    let same_size = log(&key, &["a", "y", "c"]);
    for other in [&forked, &same_size] {
        let verdict = verify(&key, other.forked_from(&first)).unwrap();
        assert!(matches!(verdict, Verdict::Proven(_)), "{verdict}");
    }
    let honest = verify(&key, grown.forked_from(&first));
    assert!(matches!(honest, Err(NoEvidence::NoFault(_))), "{honest:?}");
    // A root that the second does not begin with.
    let Fault::Forked { first, second, consistency, .. } = grown.forked_from(&first) else {
        unreachable!()
    };
    let root_in_second = hex::encode([7; 32]);
    let made_up = Fault::Forked { first, second, root_in_second, consistency };
    assert!(matches!(verify(&key, made_up), Err(NoEvidence::Proof(_))));
    // Signed by someone else.
    let other = super::tests::key();
    let mixed = forked.forked_from(&log(&other, &["a", "b", "c"]));
    assert!(matches!(verify(&key, mixed), Err(NoEvidence::Proof(_))));
}

#[test]
fn a_message_that_was_left_out_is_proven_and_one_that_is_there_is_not() {
    let key = key();
    let acknowledged = log(&key, &["a", "mine"]);
    let left_out = log(&key, &["a", "b", "c"]);
    let verdict = verify(&key, left_out.lacks(&acknowledged, 1)).unwrap();
    assert!(matches!(verdict, Verdict::Proven(_)), "{verdict}");
    let honest = log(&key, &["a", "mine", "c"]);
    let fault = verify(&key, honest.lacks(&acknowledged, 1));
    assert!(matches!(fault, Err(NoEvidence::NoFault(_))), "{fault:?}");
    // Another place in the other log proves nothing.
    let Fault::Unpublished { receipt, message_id, second, .. } = honest.lacks(&acknowledged, 1)
    else {
        unreachable!()
    };
    let (instead, inclusion) = (honest.leaf(2), to_hex(&honest.proof(2).inclusion.0));
    let moved = Fault::Unpublished { receipt, message_id, second, instead, inclusion };
    assert!(matches!(verify(&key, moved), Err(NoEvidence::Proof(_))));
}

#[test]
fn what_rests_on_a_word_is_said_to() {
    let key = key();
    let (long, short) = (log(&key, &["a", "b", "c"]), log(&key, &["a", "b"]));
    let back = |before: &Log, after: &Log| Fault::RolledBack {
        before: before.note.clone(),
        after: after.note.clone(),
    };
    assert!(matches!(verify(&key, back(&long, &short)), Ok(Verdict::Witnessed(_))));
    assert!(matches!(verify(&key, back(&short, &long)), Err(NoEvidence::NoFault(_))));
    let altered = |served: &str| Fault::Altered {
        proof: long.proof(1).to_string(),
        message_id: long.leaf(1),
        served: BASE64.encode(served),
        served_by: "http://mirror".to_owned(),
    };
    assert!(matches!(verify(&key, altered("B")), Ok(Verdict::Witnessed(_))));
    assert!(matches!(verify(&key, altered("b")), Err(NoEvidence::NoFault(_))));
}

#[test]
fn other_files_are_refused() {
    for text in ["", "{}", "[1]", "{\"tocyn_evidence\":1}"] {
        assert!(matches!(Evidence::from_json(text.as_bytes()), Err(NoEvidence::Format(_))));
    }
    let key = key();
    let evidence =
        Evidence::new(&key.verifier(), log(&key, &["x"]).forked_from(&log(&key, &["a"])));
    let newer = evidence.to_json().replace("\"tocyn_evidence\": 1", "\"tocyn_evidence\": 2");
    assert!(Evidence::from_json(newer.as_bytes()).unwrap_err().to_string().contains("newer"));
}

/// Another good signature of the same text, as only one makes who wants to: with a nonce of its own.
fn signed_again(key: &LogKey, note: &str) -> String {
    use curve25519_dalek::{EdwardsPoint, Scalar};
    use sha2::{Digest, Sha512};
    let secret = key.to_secret_text();
    let seed = BASE64.decode(secret.splitn(5, '+').nth(4).unwrap()).unwrap();
    let hash: [u8; 64] = Sha512::digest(&seed[1..]).into();
    let mut scalar: [u8; 32] = hash[..32].try_into().unwrap();
    (scalar[0], scalar[31]) = (scalar[0] & 248, scalar[31] & 63 | 64);
    let (scalar, nonce) = (Scalar::from_bytes_mod_order(scalar), Scalar::from(123_456_789u64));
    let compressed = |scalar: &Scalar| EdwardsPoint::mul_base(scalar).compress().to_bytes();
    let (text, line) = note.split_once("\n\n").unwrap();
    let text = format!("{text}\n");
    let (r, public) = (compressed(&nonce), compressed(&scalar));
    let challenge: [u8; 64] =
        Sha512::new().chain_update(r).chain_update(public).chain_update(&text).finalize().into();
    let s = nonce + Scalar::from_bytes_mod_order_wide(&challenge) * scalar;
    let (start, old) = line.trim_end().rsplit_once(' ').unwrap();
    let id = &BASE64.decode(old).unwrap()[..4];
    format!("{text}\n{start} {}\n", BASE64.encode([id, &r, s.as_bytes()].concat()))
}

#[test]
fn one_checkpoint_signed_in_two_ways_is_proven() {
    let key = key();
    let note = log(&key, &["a", "b"]).note;
    let again = signed_again(&key, &note);
    assert_ne!(again, note);
    assert_eq!(Checkpoint::open(&again, &key.verifier()), Checkpoint::open(&note, &key.verifier()));
    let marked = |first: &str, second: &str| Fault::Marked {
        first: first.to_owned(),
        second: second.to_owned(),
    };
    assert!(matches!(verify(&key, marked(&note, &again)), Ok(Verdict::Proven(_))));
    let other = log(&key, &["a", "c"]).note;
    for (first, second) in [(&note, &note), (&note, &other)] {
        let fault = verify(&key, marked(first, second));
        assert!(matches!(fault, Err(NoEvidence::NoFault(_))), "{fault:?}");
    }
    // Lines of others are not what counts.
    let witnessed = format!("{note}\u{2014} witness AAAAAAAA\n");
    assert!(matches!(verify(&key, marked(&note, &witnessed)), Err(NoEvidence::NoFault(_))));
}

fn pairing() -> Pairing {
    Pairing::generate("issuer", "relay", 1000, 1000, &mut UnwrapErr(SysRng)).unwrap()
}

fn statement(pairing: &Pairing, addresses: &[&str], key: &LogKey) -> Signed {
    let statement = tocyn_protocol::statement::Statement {
        serial: 3,
        previous: Some(StatementHash([1; 32])),
        origin_name: "relay".to_owned(),
        issuer_name: "issuer".to_owned(),
        issuer_address: None,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        schedule: pairing.schedule(),
        root: EpochTree::of(pairing).root(),
    };
    statement.sign(key)
}

#[test]
fn two_statements_of_one_serial_are_proven_and_one_is_not() {
    let key = LogKey::generate("relay", &mut UnwrapErr(SysRng));
    let pairing = pairing();
    let one = statement(&pairing, &["http://a.example"], &key);
    let two = statement(&pairing, &["http://b.example"], &key);
    let named = |size: u64, keys: Commitment| {
        Checkpoint { size, root: NodeHash([size as u8; 32]), keys }.sign(&key)
    };
    let serial = |serial| Commitment { serial, ..one.commitment() };
    let keys = |first: &str, second: &str| {
        let (first, second) = (first.to_owned(), second.to_owned());
        Evidence::new(&key.verifier(), Fault::Keys { first, second }).verify()
    };
    for (first, second) in [
        (one.note(), two.note()),
        (one.note(), &*named(5, two.commitment())),
        (&*named(5, one.commitment()), &*named(9, two.commitment())),
        // A longer log that names an earlier statement, in either order.
        (&*named(5, serial(4)), &*named(6, serial(3))),
        (&*named(6, serial(3)), &*named(5, serial(4))),
    ] {
        assert!(matches!(keys(first, second), Ok(Verdict::Proven(_))), "{first}{second}");
    }
    for (first, second) in [
        (one.note(), one.note()),
        (one.note(), &*named(5, one.commitment())),
        (&*named(5, serial(3)), &*named(6, serial(4))),
        // At one size both may be shown: before the newer statement was signed, and after.
        (&*named(5, serial(4)), &*named(5, serial(3))),
        (one.note(), &*named(5, serial(2))),
    ] {
        assert!(matches!(keys(first, second), Err(NoEvidence::NoFault(_))), "{first}{second}");
    }
    // Somebody else's signature shows nothing.
    let other = LogKey::generate("relay", &mut UnwrapErr(SysRng));
    let forged = statement(&pairing, &["http://b.example"], &other);
    assert!(matches!(keys(one.note(), forged.note()), Err(NoEvidence::Proof(_))));
    assert!(matches!(keys("", ""), Err(NoEvidence::Proof(_))));
}

#[test]
fn a_key_that_is_not_in_the_statement_is_witnessed_and_one_that_is_shows_nothing() {
    let key = LogKey::generate("relay", &mut UnwrapErr(SysRng));
    let (ours, theirs) = (pairing(), pairing());
    let signed = statement(&ours, &[], &key);
    let tree = EpochTree::of(&ours);
    let proven = |pairing: &Pairing, epoch| ProvenKey {
        key: TokenKey::for_epoch(pairing, epoch),
        proofs: vec![ProvenKey::encode_proof(&tree.proof(epoch).unwrap())],
    };
    let directory = |pairing: &Pairing| {
        let token_keys = vec![TokenKey::for_epoch(pairing, 5)];
        let issuer_request_uri = "../token-request".to_owned();
        let directory = IssuerDirectory { issuer_request_uri, now: 6000, token_keys };
        serde_json::to_string(&directory).unwrap()
    };
    let verify = |document: String, epoch, proven: Option<ProvenKey>| {
        let statement = signed.note().to_owned();
        let (shown_by, proven) = ("http://issuer".to_owned(), proven.map(Box::new));
        let fault = Fault::Unproven { statement, document, epoch, shown_by, proven };
        Evidence::new(&key.verifier(), fault).verify()
    };
    let witnessed = verify(directory(&theirs), 5, Some(proven(&ours, 5)));
    assert!(matches!(witnessed, Ok(Verdict::Witnessed(_))), "{witnessed:?}");
    for nothing in [
        verify(directory(&ours), 5, Some(proven(&ours, 5))),
        // What it is compared with must be in the statement, and of that epoch.
        verify(directory(&theirs), 5, Some(proven(&theirs, 5))),
        verify(directory(&theirs), 5, Some(proven(&ours, 6))),
        verify(directory(&theirs), 6, Some(proven(&ours, 6))),
        verify("{}".to_owned(), 5, Some(proven(&ours, 5))),
        verify(directory(&theirs), 5, None),
    ] {
        assert!(nothing.is_err(), "{nothing:?}");
    }
}
