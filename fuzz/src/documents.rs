//! Documents: what issuer and relay say about themselves, receipts, problems, the pairing file, and
//! addresses.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tocyn_client::keys::shown;
use tocyn_client::transport::ServiceUrl;
use tocyn_protocol::directory::IssuerDirectory;
use tocyn_protocol::log::evidence::SignedProof;
use tocyn_protocol::pairing::{MAX_NAME_BYTES, Pairing};
use tocyn_protocol::problem::Problem;
use tocyn_protocol::relay::{ProvenReceipt, RelayInfo};
use tocyn_protocol::suite::TOKEN_TYPE;

use crate::fixed::VERIFIER;
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

/// The keys that a client takes from it have times that fit together and that no database refuses.
fn info(bytes: &[u8]) {
    let Some(info) = json::<RelayInfo>(bytes) else { return };
    let Ok(keys) = shown(&info) else { return };
    assert_eq!(keys.len(), info.token_keys.len());
    let length = |not_before: u64, not_after: u64| not_after - not_before;
    for key in &keys {
        assert!(key.not_before < key.not_after && i64::try_from(key.not_after).is_ok());
        assert_eq!(
            length(key.not_before, key.not_after),
            length(keys[0].not_before, keys[0].not_after)
        );
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

/// A time, then the file: what is valid writes and reads as the same, and has epochs at every time.
fn pairing(bytes: &[u8]) {
    let Some((now, file)) = bytes.split_first_chunk() else { return };
    let (now, Some(file)) = (u64::from_be_bytes(*now), text(file)) else { return };
    let Ok(pairing) = toml::from_str::<Pairing>(file) else { return };
    if pairing.validate().is_err() {
        return;
    }
    for name in [pairing.issuer_name(), pairing.relay_name()] {
        assert!((1..=MAX_NAME_BYTES).contains(&name.len()));
    }
    // TOML has no numbers above those of an i64, and so no such time comes from a file.
    let written = toml::to_string(&pairing).unwrap();
    let again: Pairing = toml::from_str(&written).unwrap();
    assert_eq!(again.challenge(), pairing.challenge());
    let Ok(epoch) = pairing.epoch_at(now) else {
        assert!(now < pairing.genesis());
        assert!(pairing.redeemable_epochs(now).is_err() && pairing.issuing_epochs(now).is_err());
        return;
    };
    assert_eq!(again.key_pair(epoch).public(), pairing.key_pair(epoch).public());
    assert!(pairing.epoch_start(epoch) <= now);
    assert!(now < pairing.epoch_end(epoch) || pairing.epoch_end(epoch) == u64::MAX);
    let (issuing, redeemable) =
        (pairing.issuing_epochs(now).unwrap(), pairing.redeemable_epochs(now).unwrap());
    assert_eq!(issuing[0], epoch);
    assert!(issuing.len() <= 2 && redeemable.len() <= 3);
    assert!(issuing.iter().all(|epoch| redeemable.contains(epoch)), "tokens nobody takes");
}

/// Is shown as what reads as the same.
fn address(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Ok(url) = text.parse::<ServiceUrl>() {
        let shown = url.to_string();
        assert!(shown.starts_with("http://") || shown.starts_with("https://"));
        assert!(!shown.contains(['?', '#', '\n', ' ']));
        let again: ServiceUrl = shown.parse().expect("what is shown can be typed");
        assert_eq!(again.to_string(), shown);
        assert_eq!(again.is_readable_on_the_way(), url.is_readable_on_the_way());
    }
}
