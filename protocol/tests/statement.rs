//! Statements of keys: their one form, their chain, and the tree that holds one key for each epoch.

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tocyn_protocol::directory::TokenKey;
use tocyn_protocol::log::note::LogKey;
use tocyn_protocol::log::proof::InclusionProof;
use tocyn_protocol::log::tree::NodeHash;
use tocyn_protocol::pairing::{Pairing, PairingError};
use tocyn_protocol::relay::ProvenKey;
use tocyn_protocol::schedule::Schedule;
use tocyn_protocol::statement::chain::{Chain, Standing};
use tocyn_protocol::statement::tree::{EpochTree, leaf, verify};
use tocyn_protocol::statement::{Commitment, Signed, Statement, StatementHash};

const DAY: u64 = 86_400;
const GENESIS: u64 = 1_800_000_000;

fn key(name: &str) -> LogKey {
    LogKey::generate(name, &mut UnwrapErr(SysRng))
}

fn pairing() -> Pairing {
    Pairing::generate("issuer.example", "relay.example", GENESIS, DAY, &mut UnwrapErr(SysRng))
        .unwrap()
}

fn first() -> Statement {
    Statement {
        serial: 0,
        previous: None,
        origin_name: "relay.example".to_owned(),
        issuer_name: "issuer.example".to_owned(),
        issuer_address: Some("https://issuer.example".parse().unwrap()),
        addresses: vec![
            "https://relay.example".parse().unwrap(),
            "http://abc.onion".parse().unwrap(),
        ],
        schedule: Schedule { genesis: GENESIS, epoch_seconds: DAY, count: 3653 },
        root: NodeHash([9; 32]),
    }
}

fn next(before: &Signed, change: impl Fn(&mut Statement)) -> Statement {
    let (serial, previous) = (before.serial + 1, Some(before.commitment().hash));
    let mut statement = Statement { serial, previous, ..before.statement().clone() };
    change(&mut statement);
    statement
}

const TEXT: &str = "tocyn-keys/v1
serial 0
previous none
origin relay.example
issuer issuer.example
issuer-address https://issuer.example
address https://relay.example
address http://abc.onion
genesis 1800000000
length 86400
count 3653
root CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=
";

#[test]
fn a_statement_says_one_thing_in_one_way() {
    let (key, other) = (key("relay.example"), key("other.example"));
    let signed = first().sign(&key);
    assert!(signed.note().starts_with(TEXT), "{}", signed.note());
    assert_eq!(Signed::open(signed.note(), &key.verifier()).unwrap(), signed);
    assert_eq!(signed.note(), key.sign(TEXT));
    let refused = |text: &str| {
        let note = key.sign(text);
        assert!(Signed::open(&note, &key.verifier()).is_err(), "{text}");
    };
    // Every line is needed, none may come twice, and none has room for more.
    for line in TEXT.lines().filter(|line| !line.starts_with("address")) {
        refused(&TEXT.replacen(&format!("{line}\n"), "", 1));
        refused(&TEXT.replacen(line, &format!("{line} "), 1));
    }
    for line in TEXT.lines() {
        refused(&TEXT.replacen(line, &format!("{line}\n{line}"), 1));
        refused(&TEXT.replacen(line, &format!("{line}\nan extension"), 1));
    }
    for (good, bad) in [
        ("serial 0", "serial 1"),
        ("serial 0", "serial 00"),
        ("previous none", "previous CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk="),
        ("origin relay.example", "origin other.example"),
        ("issuer issuer.example", "issuer issuer example"),
        ("https://relay.example", "https://relay.example/"),
        ("https://relay.example", "http://abc.onion"),
        ("length 86400", "length 0"),
        ("count 3653", "count 65537"),
        ("count 3653", "count 0"),
        ("count 3653", "count +3653"),
        ("CQk=", "CQl="),
        ("genesis 1800000000", "genesis 18446744073709551615"),
    ] {
        assert_ne!(TEXT, TEXT.replacen(good, bad, 1), "{good}");
        refused(&TEXT.replacen(good, bad, 1));
    }
    let many = "address https://relay.example\n".to_owned();
    let many: String =
        (0..9).map(|n| many.replace("relay", &format!("relay{n}"))).collect::<Vec<_>>().concat();
    refused(&TEXT.replace("address https://relay.example\n", &many));
    // One signature, and that of the origin.
    assert!(Signed::open(signed.note(), &other.verifier()).is_err());
    let second = other.sign(TEXT);
    let both = format!("{}{}\n", signed.note(), second.lines().last().unwrap());
    assert!(key.verifier().open(&both).is_ok());
    assert!(Signed::open(&both, &key.verifier()).is_err());
    for place in 0..signed.note().len() {
        let mut changed = signed.note().as_bytes().to_vec();
        changed[place] ^= 1;
        if let Ok(changed) = String::from_utf8(changed) {
            assert!(Signed::open(&changed, &key.verifier()).is_err(), "byte {place}");
        }
    }
    // The longest that there is.
    let (name, path) = ("n".repeat(255), "p".repeat(255 - "https://a0.example/".len()));
    let long = LogKey::generate(&name, &mut UnwrapErr(SysRng));
    let mut longest = Statement { serial: i64::MAX as u64, ..first() };
    longest.previous = Some(StatementHash([0xff; 32]));
    (longest.origin_name, longest.issuer_name) = (name.clone(), name);
    longest.addresses =
        (0..8).map(|n| format!("https://a{n}.example/{path}").parse().unwrap()).collect();
    longest.issuer_address = longest.addresses.last().cloned();
    let longest = longest.sign(&long);
    assert_eq!(Signed::open(longest.note(), &long.verifier()), Ok(longest));
    assert_eq!(signed.commitment().hash, StatementHash::of(signed.note()));
    let line = signed.commitment().line();
    assert_eq!(Commitment::parse(&line), Some(signed.commitment()));
    assert_eq!(Commitment::parse(&line[1..]), None);
}

#[test]
fn a_chain_has_no_gap_and_no_second_key_for_an_epoch() {
    let key = key("relay.example");
    let one = first().sign(&key);
    let two = next(&one, |statement| statement.addresses.clear()).sign(&key);
    let three = next(&two, |statement| {
        statement.root = NodeHash([1; 32]);
        statement.schedule.count += 5;
    })
    .sign(&key);
    let four = next(&three, |statement| {
        statement.schedule = Schedule { genesis: GENESIS + 5, epoch_seconds: 7, count: 2 }
    })
    .sign(&key);
    let open = |statements: &[&Signed]| {
        let notes: Vec<String> = statements.iter().map(|one| one.note().to_owned()).collect();
        Chain::open(&notes, &key.verifier())
    };
    let chain = open(&[&one, &two, &three, &four]).unwrap();
    assert_eq!(chain.newest(), &four);
    assert_eq!(chain.get(2), Some(&three));
    assert_eq!((chain.get(4), open(&[&two, &three]).unwrap().get(0)), (None, None));
    for (bad, why) in [
        (next(&one, |statement| statement.serial = 2), "a serial is missing"),
        (next(&one, |s| s.previous = Some(StatementHash([0; 32]))), "does not name the one before"),
        (next(&one, |s| s.issuer_name = "other".to_owned()), "different issuers"),
        (next(&one, |s| s.schedule.epoch_seconds = 1), "times of epochs"),
        (next(&one, |s| s.schedule.count -= 1), "times of epochs"),
        (next(&one, |s| s.schedule.genesis -= 1), "before an earlier one"),
    ] {
        let error = open(&[&one, &bad.sign(&key)]).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    assert!(open(&[]).is_err());
    assert!(open(&[&two, &one]).is_err());
    let mut long = vec![one.clone()];
    for n in 0..64u8 {
        let address = format!("http://a{n}.example");
        let last = long.last().unwrap();
        let change = |s: &mut Statement| s.addresses = vec![address.parse().unwrap()];
        long.push(next(last, change).sign(&key));
    }
    let long: Vec<&Signed> = long.iter().collect();
    assert!(open(&long[..64]).is_ok() && open(&long[1..]).is_ok());
    assert!(open(&long).is_err());

    let standing = |statements: &[&Signed], pinned: &Signed| {
        open(statements).unwrap().standing(pinned.commitment())
    };
    assert_eq!(standing(&[&one, &two], &two), Standing::Same);
    assert_eq!(standing(&[&one, &two], &one), Standing::GoesOn);
    assert_eq!(standing(&[&two, &three], &one), Standing::GoesOn);
    assert_eq!(standing(&[&three, &four], &one), Standing::TooNew);
    assert_eq!(standing(&[&one], &two), Standing::Older);
    let other = next(&one, |statement| statement.root = NodeHash([8; 32])).sign(&key);
    assert_eq!(standing(&[&one, &two], &other), Standing::Contradicts(Box::new(two.clone())));
}

/// A chain may begin right after the pinned statement, and must keep to the same rules there.
#[test]
fn the_first_statement_after_a_pinned_one_follows_it() {
    let key = key("relay.example");
    let pinned = first().sign(&key);
    let chain = |change: &dyn Fn(&mut Statement)| {
        let later = next(&pinned, change).sign(&key);
        Chain::open(&[later.note().to_owned()], &key.verifier()).unwrap()
    };
    let good = chain(&|_| {});
    assert_eq!(good.standing(pinned.commitment()), Standing::GoesOn);
    good.check_start(&pinned).unwrap();
    let changes: [&dyn Fn(&mut Statement); 4] = [
        &|s| s.issuer_name = "other.example".to_owned(),
        &|s| s.schedule.genesis -= 1,
        &|s| s.schedule.epoch_seconds *= 2,
        &|s| s.schedule.count -= 1,
    ];
    for change in changes {
        chain(change).check_start(&pinned).unwrap_err();
    }
}

#[test]
fn a_tree_has_one_key_for_each_epoch() {
    let (pairing, other) = (pairing(), pairing());
    let tree = EpochTree::of(&pairing);
    let (count, root) = (tree.count(), tree.root());
    assert_eq!(count, 3660);
    let key = |pairing: &Pairing, epoch| *pairing.key_pair(epoch).public();
    for epoch in [0, 1, 2047, 2048, 3658, 3659] {
        let proof = tree.proof(epoch).unwrap();
        verify(&proof, &key(&pairing, epoch), epoch, count, root).unwrap();
        assert!(verify(&proof, &key(&other, epoch), epoch, count, root).is_err());
        // Nor for another epoch, nor in a tree of another size: two keys of one epoch in one root
        // would need that.
        for wrong in [epoch + 1, epoch ^ 1, epoch + 3660] {
            assert!(verify(&proof, &key(&pairing, epoch), wrong, count, root).is_err());
        }
        assert!(verify(&proof, &key(&pairing, epoch), epoch, count + 440, root).is_err());
        let longer = InclusionProof([&proof.0[..], &[root]].concat());
        assert!(verify(&longer, &key(&pairing, epoch), epoch, count, root).is_err());
    }
    assert!(tree.proof(3660).is_none());
    let again = EpochTree::from_bytes(&tree.leaves()).unwrap();
    assert_eq!((again.count(), again.root()), (count, root));
    assert!(EpochTree::from_bytes(&[]).is_none());
    assert!(EpochTree::from_bytes(&[0; 33]).is_none());
    assert!(EpochTree::from_bytes(&vec![0; 32 * 65_537]).is_none());
    assert_ne!(leaf(&key(&pairing, 0)), leaf(&key(&pairing, 1)));
}

#[test]
fn a_key_in_a_document_is_checked_under_the_statement_alone() {
    let pairing = pairing();
    let tree = EpochTree::of(&pairing);
    let statement = Statement { schedule: pairing.schedule(), root: tree.root(), ..first() };
    let proof = |epoch| ProvenKey::encode_proof(&tree.proof(epoch).unwrap());
    let proven = ProvenKey { key: TokenKey::for_epoch(&pairing, 7), proofs: vec![proof(7)] };
    assert_eq!(proven.verify(7, &statement).unwrap(), *pairing.key_pair(7).public());
    assert!(proven.verify(8, &statement).is_err());
    // Any of several proofs will do, since a renewed origin proves in two trees.
    let both = ProvenKey { proofs: vec![proof(8), proof(7)], ..proven.clone() };
    assert!(both.verify(7, &statement).is_ok());
    for proofs in [vec![], vec![vec![]], vec![vec!["AAAA".to_owned()]], vec![proof(8)]] {
        assert!(ProvenKey { proofs, ..proven.clone() }.verify(7, &statement).is_err());
    }
    let root = NodeHash([1; 32]);
    assert!(proven.verify(7, &Statement { root, ..statement.clone() }).is_err());
}

#[test]
fn a_planned_renewal_keeps_the_keys_of_the_epochs_before_it() {
    let rng = &mut UnwrapErr(SysRng);
    let old = pairing();
    let key_id = |pairing: &Pairing, epoch| pairing.key_pair(epoch).public().token_key_id();
    let at = |epoch: u64, hours: u64| GENESIS + epoch * DAY + hours * 3600;
    let new = old.renewed(at(5, 1), rng).unwrap();
    assert_eq!((new.renewed_at(), new.id()), (Some(6), old.id()));
    assert_eq!(new.schedule().count, old.schedule().count + 6);
    for epoch in 0..6 {
        assert_eq!(key_id(&new, epoch), key_id(&old, epoch));
    }
    assert!((6..3660).all(|epoch| key_id(&new, epoch) != key_id(&old, epoch)));
    // Late in an epoch the next one is left to the old secret, so that there is time to install it.
    assert_eq!(old.renewed(at(5, 22), rng).unwrap().renewed_at(), Some(7));
    // Two secrets are live while tokens of the old one are taken; a third has no place.
    for hours in [at(5, 2), at(6, 1), at(6, 23)] {
        let again = new.renewed(hours, rng);
        assert!(matches!(again, Err(PairingError::Unfinished { from: 7 })), "{again:?}");
    }
    let newest = new.renewed(at(7, 1), rng).unwrap();
    assert_eq!(newest.renewed_at(), Some(8));
    assert!((6..8).all(|epoch| key_id(&newest, epoch) == key_id(&new, epoch)));
    // The file has both secrets, and is read as it was written.
    let text = serde_json::to_string(&newest).unwrap();
    let read: Pairing = serde_json::from_str(&text).unwrap();
    read.validate().unwrap();
    assert_eq!(key_id(&read, 7), key_id(&newest, 7));
    assert_eq!(key_id(&read, 8), key_id(&newest, 8));
    assert!(!format!("{newest:?}").contains("secret"));
    let bad: Pairing = serde_json::from_str(&text.replace("\"below\":8", "\"below\":0")).unwrap();
    assert!(matches!(bad.validate(), Err(PairingError::Below(0))));
}

/// A token request names its key by one byte, and the keys of two neighbours are in use at once.
#[test]
fn neighbouring_epochs_never_share_the_byte_that_names_their_key() {
    let old = pairing();
    let renewed = old.renewed(GENESIS + 100 * DAY, &mut UnwrapErr(SysRng)).unwrap();
    for pairing in [old, renewed] {
        let byte = |epoch| pairing.key_pair(epoch).public().token_key_id().truncated();
        for epoch in 0..300 {
            assert_ne!(byte(epoch), byte(epoch + 1), "epoch {epoch}");
        }
    }
}
