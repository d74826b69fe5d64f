//! Documents: what issuer and relay say about themselves, keys with their proofs, receipts, problems,
//! the pairing file, and addresses.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tocyn_client::transport::ServiceUrl;
use tocyn_protocol::directory::IssuerDirectory;
use tocyn_protocol::log::evidence::SignedProof;
use tocyn_protocol::problem::Problem;
use tocyn_protocol::relay::{ProvenKey, ProvenReceipt, RelayInfo};
use tocyn_protocol::statement::Signed;
use tocyn_protocol::statement::address::{Address, MAX_ADDRESS_BYTES};
use tocyn_protocol::statement::chain::{Chain, MAX_STATEMENTS};
use tocyn_protocol::suite::TOKEN_TYPE;

use crate::fixed::{PAIRING, STATEMENT, TREE, VERIFIER};
use crate::pairing::pairing;
use crate::{Target, text};

/// The program.
pub const TARGET: Target = Target {
    name: "documents",
    decoders: &[
        ("issuer directory", directory),
        ("relay info", info),
        ("receipt", receipt),
        ("problem", problem),
        ("pairing", pairing),
        ("address", address),
        ("statement address", statement_address),
        ("proven key", proven_key),
    ],
};

/// What reads can be written, and reads as the same again.
fn json<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<T> {
    let read: T = serde_json::from_slice(bytes).ok()?;
    let written = serde_json::to_vec(&read).unwrap();
    assert_eq!(serde_json::from_slice::<T>(&written).unwrap(), read);
    Some(read)
}

/// Its keys decode to what they are written from.
fn directory(bytes: &[u8]) {
    let Some(directory) = json::<IssuerDirectory>(bytes) else { return };
    for entry in &directory.token_keys {
        if let Ok(key) = entry.public_key() {
            assert_eq!(entry.token_type, TOKEN_TYPE);
            let bytes = key.to_bytes();
            assert_eq!(tocyn_protocol::keys::PublicKey::from_bytes(&bytes).unwrap(), key);
        }
    }
}

/// The keys are proven if they are the pairing's, and no others. If its statements are a chain, then
/// of its own key, and what must be listed now has keys and times that no database refuses.
fn info(bytes: &[u8]) {
    let Some(info) = json::<RelayInfo>(bytes) else { return };
    info.token_keys.iter().for_each(is_honest);
    let plain = info.clone().plain_keys();
    assert!(plain.iter().eq(info.token_keys.iter().map(|proven| &proven.key)));
    let Ok(chain) = Chain::open(&info.statements, &info.log_key) else { return };
    assert!((1..=MAX_STATEMENTS).contains(&info.statements.len()));
    assert!(chain.statements().iter().map(Signed::note).eq(&info.statements));
    let newest = chain.newest();
    assert_eq!(newest.origin_name, info.log_key.name());
    let schedule = newest.schedule;
    for epoch in schedule.listed_by_origin(info.now).unwrap_or_default() {
        let (not_before, not_after) = (schedule.start(epoch), schedule.not_after(epoch));
        assert!(epoch < schedule.count && i64::try_from(not_after).is_ok());
        assert_eq!(not_after - not_before, 2 * schedule.epoch_seconds);
    }
}

/// Is proven exactly if it is the pairing's key of the epoch that is asked for, with its proof.
fn is_honest(shown: &ProvenKey) {
    let epoch = shown.key.epoch;
    for epoch in [epoch, epoch ^ 1, epoch.wrapping_add(1), epoch.wrapping_add(TREE.count())] {
        let key = *PAIRING.key_pair(epoch).public();
        let proof = TREE.proof(epoch).map(|proof| ProvenKey::encode_proof(&proof));
        let honest = shown.key.public_key() == Ok(key)
            && proof.is_some_and(|proof| shown.proofs.contains(&proof));
        assert_eq!(shown.verify(epoch, &STATEMENT).ok(), honest.then_some(key));
    }
}

fn proven_key(bytes: &[u8]) {
    if let Some(shown) = json::<ProvenKey>(bytes) {
        is_honest(&shown);
    }
}

/// Is taken only for the place in the log that its proof is of.
fn receipt(bytes: &[u8]) {
    let Some(proven) = json::<ProvenReceipt>(bytes) else { return };
    if let Ok(checkpoint) = proven.verify(&VERIFIER) {
        assert!((1..=checkpoint.size).contains(&proven.receipt.seq));
        let proof: SignedProof = proven.proof.parse().unwrap();
        assert_eq!(proof.index + 1, proven.receipt.seq);
    }
}

/// A type that is known is the one that writes so.
fn problem(bytes: &[u8]) {
    let Some(problem) = json::<Problem>(bytes) else { return };
    if let Some(problem_type) = problem.problem_type() {
        assert_eq!(problem_type.urn(), problem.urn);
        assert!((400..600).contains(&problem_type.status()));
    }
}

/// Is shown as what reads as the same. The address that it has in statements is what is shown.
fn address(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Ok(url) = text.parse::<ServiceUrl>() {
        let shown = url.to_string();
        assert!(shown.starts_with("http://") || shown.starts_with("https://"));
        assert!(!shown.contains(['?', '#', '\n', ' ']));
        let again: ServiceUrl = shown.parse().expect("what is shown can be typed");
        assert_eq!((again.to_string(), &again), (shown.clone(), &url));
        assert_eq!(again.is_readable_on_the_way(), url.is_readable_on_the_way());
        assert_eq!((again.address(), again.is_loopback()), (url.address(), url.is_loopback()));
        assert!(url.address().is_none_or(|address| address.as_str() == shown));
    }
}

/// Is its one form: a client shows and reads it as the same text, and means the same machine.
fn statement_address(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let Ok(address) = text.parse::<Address>() else { return };
    assert!(text.len() <= MAX_ADDRESS_BYTES);
    assert_eq!((address.as_str(), address.to_string().as_str()), (text, text));
    assert_eq!(json::<Address>(&serde_json::to_vec(text).unwrap()).as_ref(), Some(&address));
    let url: ServiceUrl = text.parse().expect("a client can use it");
    assert_eq!(url.to_string(), text);
    assert_eq!(url.address().as_ref(), Some(&address));
    assert_eq!(url.is_loopback(), address.is_loopback());
    assert!(!address.is_loopback() || !url.is_readable_on_the_way());
}
