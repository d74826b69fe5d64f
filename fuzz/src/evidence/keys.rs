//! Evidence about statements of keys, and about keys that are not in them.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use tocyn_client::evidence::{Fault, NoEvidence, Verdict};
use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::tree::NodeHash;
use tocyn_protocol::relay::ProvenKey;
use tocyn_protocol::statement::{Signed, Statement};

use super::verify;
use crate::fixed::{LOG_KEY, PAIRING, STATEMENT, TREE, directory, next, proven, relay_info};

/// The relay's statements, each of which says the same as the one before.
pub static CHAIN: LazyLock<[Signed; 3]> = LazyLock::new(|| {
    let second = next(&STATEMENT).sign(&LOG_KEY);
    let third = next(&second).sign(&LOG_KEY);
    [STATEMENT.clone(), second, third]
});

/// Another one in the place of this one.
pub fn instead(of: &Signed, number: u8) -> Signed {
    let mut statement = Statement { addresses: Vec::new(), ..of.statement().clone() };
    statement.addresses.push(format!("http://a{number}.example").parse().unwrap());
    statement.sign(&LOG_KEY)
}

/// Of a log of so many messages, that names this statement.
fn checkpoint(size: u64, newest: &Signed) -> String {
    let root = NodeHash([size as u8; 32]);
    Checkpoint { size, root, keys: newest.commitment() }.sign(&LOG_KEY)
}

/// All that a relay signs while its log grows and names later statements: the bytes say how much
/// longer it is at each step, and whether it names the next one.
fn honest(steps: &[u8]) -> Vec<String> {
    let mut notes: Vec<String> = CHAIN.iter().map(|one| one.note().to_owned()).collect();
    let (mut size, mut newest) = (0, 0);
    for step in steps.iter().take(16) {
        size += u64::from(step % 4);
        newest = (newest + usize::from(step / 4 % 2)).min(CHAIN.len() - 1);
        notes.push(checkpoint(size, &CHAIN[newest]));
    }
    notes
}

fn keys(first: &str, second: &str) -> Fault {
    Fault::Keys { first: first.to_owned(), second: second.to_owned() }
}

fn is_proven(first: &str, second: &str) -> bool {
    matches!(verify(keys(first, second)), Ok(Verdict::Proven(_)))
}

/// Which notes, a size, a form, then the steps of an honest relay: no two of its notes prove
/// anything. Two statements of one number always do, and so does a longer log that names an earlier
/// statement.
pub(super) fn statements(bytes: &[u8]) {
    let [first, second, size, form, steps @ ..] = bytes else { return };
    let notes = honest(steps);
    let note = |place: u8| &notes[usize::from(place) % notes.len()];
    let nothing = verify(keys(note(*first), note(*second)));
    assert!(matches!(nothing, Err(NoEvidence::NoFault(_))), "{nothing:?}");

    let size = u64::from(*size);
    let (one, two) = (usize::from(*first) % CHAIN.len(), usize::from(*second) % CHAIN.len());
    let other = instead(&CHAIN[one], *second);
    let in_form = |statement: &Signed, bit: u8, size: u64| match form & bit {
        0 => statement.note().to_owned(),
        _ => checkpoint(size, statement),
    };
    let (ours, theirs) = (in_form(&CHAIN[one], 1, size), in_form(&other, 2, size / 2));
    assert!(is_proven(&ours, &theirs) && is_proven(&theirs, &ours));
    // The same statement in two forms is no fault.
    assert!(!is_proven(&ours, CHAIN[one].note()) && !is_proven(&theirs, other.note()));

    let shorter = checkpoint(size, &CHAIN[one]);
    let longer = checkpoint(size + 1 + u64::from(*form), &CHAIN[two]);
    assert_eq!(is_proven(&shorter, &longer), two < one);
    assert_eq!(is_proven(&longer, &shorter), two < one);
}

/// That the relay, or its issuer, showed this key of an epoch.
pub fn unproven(epoch: u64, shown: ProvenKey, by_issuer: bool) -> Fault {
    let (document, proven) = if by_issuer {
        let document = serde_json::to_string(&directory(vec![shown.key.clone()]));
        let proven = ProvenKey { proofs: shown.proofs, ..proven(epoch) };
        (document, Some(Box::new(proven)))
    } else {
        (serde_json::to_string(&relay_info(vec![STATEMENT.note().to_owned()], vec![shown])), None)
    };
    Fault::Unproven {
        statement: STATEMENT.note().to_owned(),
        document: document.unwrap(),
        epoch,
        shown_by: "http://\u{1b}relay".to_owned(),
        proven,
    }
}

/// The epoch 2, who shows what is changed, where, and by what: only a key that differs, or a relay's
/// proof that does, is a fault.
pub(super) fn shown_key(bytes: &[u8]) {
    let [high, low, form, place, by] = *bytes else { return };
    let epoch = u64::from(u16::from_be_bytes([high, low])) % TREE.count();
    let (by_issuer, in_proof) = (form & 1 == 1, form & 2 == 2);
    let mut shown = proven(epoch);
    if in_proof {
        let mut proof = TREE.proof(epoch).expect("it is an epoch of the pairing");
        let node = usize::from(place) % proof.0.len();
        proof.0[node].0[usize::from(form / 4) % 32] ^= by;
        shown.proofs = vec![ProvenKey::encode_proof(&proof)];
    } else {
        let mut key = PAIRING.key_pair(epoch).public().to_bytes();
        key[usize::from(place) % 32] ^= by;
        shown.key.token_key = URL_SAFE.encode(key);
    }
    let verdict = verify(unproven(epoch, shown, by_issuer));
    match (by, in_proof && by_issuer) {
        (0, _) => assert!(matches!(verdict, Err(NoEvidence::NoFault(_))), "{verdict:?}"),
        // What the issuer's key is compared with must be proven itself.
        (_, true) => assert!(matches!(verdict, Err(NoEvidence::Proof(_))), "{verdict:?}"),
        (_, false) => assert!(matches!(verdict, Ok(Verdict::Witnessed(_))), "{verdict:?}"),
    }
}
