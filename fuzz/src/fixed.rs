//! Keys and secrets that are the same in every run, so that an input always does the same.

use std::convert::Infallible;
use std::sync::LazyLock;

use rand_core::{TryCryptoRng, TryRng};
use sha2::{Digest, Sha256};
use tocyn_client::group::GroupSecret;
use tocyn_client::group::cell::CellKeys;
use tocyn_protocol::directory::{IssuerDirectory, TOKEN_REQUEST_URI, TokenKey};
use tocyn_protocol::issuance::Issuer;
use tocyn_protocol::keys::PublicKey;
use tocyn_protocol::log::note::{LogKey, VerifierKey};
use tocyn_protocol::pairing::Pairing;
use tocyn_protocol::redemption::Redeemer;
use tocyn_protocol::relay::{Limits, ProvenKey, RelayInfo, RetentionInfo, Versions};
use tocyn_protocol::statement::tree::EpochTree;
use tocyn_protocol::statement::{Signed, Statement};

/// A time within epoch 2 of the pairing.
pub(crate) const NOW: u64 = 1_700_200_000;

/// "Random" bytes that follow from a seed.
pub struct Drawn {
    seed: u64,
    block: u64,
}

impl Drawn {
    /// Always the same ones for one seed.
    pub fn from(seed: u64) -> Self {
        Self { seed, block: 0 }
    }
}

impl TryRng for Drawn {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_be_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for chunk in out.chunks_mut(32) {
            let hash = Sha256::new()
                .chain_update(self.seed.to_be_bytes())
                .chain_update(self.block.to_be_bytes())
                .finalize();
            chunk.copy_from_slice(&hash[..chunk.len()]);
            self.block += 1;
        }
        Ok(())
    }
}

impl TryCryptoRng for Drawn {}

/// The pairing of an issuer and its relay.
pub(crate) static PAIRING: LazyLock<Pairing> = LazyLock::new(|| {
    let rng = &mut Drawn::from(1);
    Pairing::generate("issuer.example", "relay.example", 1_700_000_000, 86_400, rng).unwrap()
});

/// The key of epoch 2.
pub(crate) static PUBLIC: LazyLock<PublicKey> = LazyLock::new(|| *PAIRING.key_pair(2).public());

/// Evaluates under it.
pub(crate) static ISSUER: LazyLock<Issuer> = LazyLock::new(|| Issuer::new(PAIRING.key_pair(2)));

/// Redeems under it.
pub(crate) static REDEEMER: LazyLock<Redeemer> = LazyLock::new(|| Redeemer::new(&PAIRING, &[2]));

/// The relay's key for its log.
pub(crate) static LOG_KEY: LazyLock<LogKey> =
    LazyLock::new(|| LogKey::generate("relay.example", &mut Drawn::from(2)));

/// What others know of it.
pub(crate) static VERIFIER: LazyLock<VerifierKey> = LazyLock::new(|| LOG_KEY.verifier());

/// A group's secret.
pub(crate) static SECRET: LazyLock<GroupSecret> =
    LazyLock::new(|| GroupSecret::generate(&mut Drawn::from(3)));

/// The keys to its cells.
pub(crate) static CELLS: LazyLock<CellKeys> = LazyLock::new(|| CellKeys::new(&SECRET, &VERIFIER));

/// The tree over all keys of the pairing.
pub(crate) static TREE: LazyLock<EpochTree> = LazyLock::new(|| EpochTree::of(&PAIRING));

/// The relay's first statement of keys.
pub(crate) static STATEMENT: LazyLock<Signed> = LazyLock::new(|| {
    let statement = Statement {
        serial: 0,
        previous: None,
        origin_name: PAIRING.origin_name().to_owned(),
        issuer_name: PAIRING.issuer_name().to_owned(),
        issuer_address: Some("https://issuer.example".parse().unwrap()),
        addresses: vec![
            "https://relay.example".parse().unwrap(),
            "http://abc234.onion".parse().unwrap(),
        ],
        schedule: PAIRING.schedule(),
        root: TREE.root(),
    };
    statement.sign(&LOG_KEY)
});

/// The statement after another one, which says the same.
pub(crate) fn next(before: &Signed) -> Statement {
    let (serial, previous) = (before.serial.wrapping_add(1), Some(before.commitment().hash));
    Statement { serial, previous, ..before.statement().clone() }
}

/// The key of an epoch with its proof in the tree.
pub(crate) fn proven(epoch: u64) -> ProvenKey {
    let proof = TREE.proof(epoch).expect("it is an epoch of the pairing");
    let proofs = vec![ProvenKey::encode_proof(&proof)];
    ProvenKey { key: TokenKey::for_epoch(&PAIRING, epoch), proofs }
}

/// What the relay says about itself.
pub(crate) fn relay_info(statements: Vec<String>, token_keys: Vec<ProvenKey>) -> RelayInfo {
    RelayInfo {
        origin_name: PAIRING.origin_name().to_owned(),
        issuer_name: PAIRING.issuer_name().to_owned(),
        cell_bytes: 2048,
        oldest: 1,
        head: 10,
        epoch: 2,
        now: NOW,
        statements,
        token_keys,
        log_key: VERIFIER.clone(),
        bearer: true,
        retention: RetentionInfo { max_age_seconds: 100, max_bytes: 0 },
        limits: Limits { max_followers: 5 },
        versions: Versions { relay: "0.1.0".to_owned(), protocol: 1 },
    }
}

/// What the issuer says about itself.
pub(crate) fn directory(token_keys: Vec<TokenKey>) -> IssuerDirectory {
    IssuerDirectory { issuer_request_uri: TOKEN_REQUEST_URI.to_owned(), now: NOW, token_keys }
}
