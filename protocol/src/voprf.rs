//! Blind, BlindEvaluate, Finalize and Evaluate of RFC 9497 section 3.3.2, for batches.

use curve25519_dalek::scalar::Scalar;
use rand_core::CryptoRng;
use sha2::{Digest, Sha512};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::dleq::{Proof, ProofInvalid, generate_proof, generate_single_proofs, verify_proof};
use crate::elements::Elements;
use crate::error::DecodeError;
use crate::group::scalar_from_bytes;
use crate::keys::{KeyPair, PrivateKey, PublicKey};
use crate::suite::{NE, NH, NS};

/// The client's blind: what hides a token from the issuer. Wiped on drop.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Blind(Scalar);

impl Blind {
    /// A fresh random, non-zero blind.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        loop {
            let scalar = Scalar::random(rng);
            if scalar != Scalar::ZERO {
                return Self(scalar);
            }
        }
    }

    /// Decodes a canonical, non-zero scalar of 32 bytes, as a wallet keeps it.
    pub fn from_bytes(bytes: [u8; NS]) -> Result<Self, DecodeError> {
        let scalar = scalar_from_bytes("blind", bytes)?;
        if scalar == Scalar::ZERO {
            return Err(DecodeError::Scalar("blind"));
        }
        Ok(Self(scalar))
    }

    /// The 32 bytes to keep.
    pub fn to_bytes(&self) -> Zeroizing<[u8; NS]> {
        Zeroizing::new(self.0.to_bytes())
    }
}

/// `Blind` for a whole batch: the element to send for each input.
///
/// An input that hashes to the identity is as likely as guessing a key, so there is no error.
pub fn blind(inputs: &[impl AsRef<[u8]>], blinds: &[Blind]) -> Elements {
    assert_eq!(inputs.len(), blinds.len());
    let scalars = Zeroizing::new(blinds.iter().map(|blind| blind.0).collect::<Vec<_>>());
    Elements::hash_and_multiply(inputs, &scalars)
}

/// `BlindEvaluate` for a whole batch, with one proof. Constant time in the key.
pub fn blind_evaluate(
    key: &KeyPair,
    blinded: &Elements,
    rng: &mut impl CryptoRng,
) -> (Elements, Proof) {
    let evaluated = evaluate_elements(key.private(), blinded);
    let proof = generate_proof(key, blinded, &evaluated, rng);
    (evaluated, proof)
}

/// `BlindEvaluate` for each element by itself, with a proof of its own.
pub(crate) fn blind_evaluate_singles(
    key: &KeyPair,
    blinded: &Elements,
    rng: &mut impl CryptoRng,
) -> (Elements, Vec<Proof>) {
    let evaluated = evaluate_elements(key.private(), blinded);
    let proofs = generate_single_proofs(key, blinded, &evaluated, rng);
    (evaluated, proofs)
}

/// `k * blinded[i]`.
pub(crate) fn evaluate_elements(key: &PrivateKey, blinded: &Elements) -> Elements {
    blinded.multiply(&Zeroizing::new(vec![*key.scalar(); blinded.len()]))
}

/// `Finalize` for a whole batch: the proof is checked before anything is unblinded.
///
/// `inputs`, `blinds`, `blinded` and `evaluated` have one entry for each token, in one order.
pub fn finalize(
    key: &PublicKey,
    inputs: &[impl AsRef<[u8]>],
    blinds: &[Blind],
    blinded: &Elements,
    evaluated: &Elements,
    proof: &Proof,
) -> Result<Vec<Zeroizing<[u8; NH]>>, ProofInvalid> {
    assert!([inputs.len(), blinds.len(), evaluated.len()].iter().all(|&n| n == blinded.len()));
    verify_proof(key, blinded, evaluated, proof)?;
    let mut inverses = Zeroizing::new(blinds.iter().map(|blind| blind.0).collect::<Vec<_>>());
    Scalar::invert_batch_alloc(&mut inverses);
    let unblinded = Zeroizing::new(evaluated.multiply(&inverses));
    Ok(outputs(inputs.iter().map(AsRef::as_ref), &unblinded))
}

/// `Evaluate`: the PRF of `input` under the key. Constant time in the key.
pub fn evaluate(key: &PrivateKey, input: &[u8]) -> Zeroizing<[u8; NH]> {
    evaluate_batch(&[(key, input)]).remove(0)
}

/// `Evaluate` for many inputs, each with its key.
pub fn evaluate_batch(inputs: &[(&PrivateKey, &[u8])]) -> Vec<Zeroizing<[u8; NH]>> {
    let (keys, inputs): (Vec<_>, Vec<_>) = inputs.iter().copied().unzip();
    let scalars = Zeroizing::new(keys.iter().map(|key| *key.scalar()).collect::<Vec<_>>());
    let evaluated = Zeroizing::new(Elements::hash_and_multiply(&inputs, &scalars));
    outputs(inputs.into_iter(), &evaluated)
}

fn outputs<'a>(
    inputs: impl Iterator<Item = &'a [u8]>,
    unblinded: &Elements,
) -> Vec<Zeroizing<[u8; NH]>> {
    inputs.zip(unblinded.as_bytes()).map(|(input, element)| output(input, element)).collect()
}

/// The hash that ends both `Finalize` and `Evaluate`.
fn output(input: &[u8], unblinded: &[u8; NE]) -> Zeroizing<[u8; NH]> {
    let input_len = u16::try_from(input.len()).expect("inputs are short").to_be_bytes();
    Zeroizing::new(
        Sha512::new()
            .chain_update(input_len)
            .chain_update(input)
            .chain_update((NE as u16).to_be_bytes())
            .chain_update(unblinded)
            .chain_update(b"Finalize")
            .finalize()
            .into(),
    )
}
