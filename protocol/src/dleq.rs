//! The proof that one key evaluated every element of a batch (RFC 9497 section 2.2).
//!
//! $$ k \cdot B = \ldots,\quad M = \sum_i d_i C_i,\quad Z = \sum_i d_i D_i = k M $$
//!
//! A proof is $(c, s)$ with $t_2 = sG + cB$ and $t_3 = sM + cZ$ hashing to $c$.

use curve25519_dalek::constants::RISTRETTO_BASEPOINT_TABLE;
use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::VartimeMultiscalarMul;
use merlin::Transcript;
use rand_core::CryptoRng;
use rand_core_06::RngCore as _;
use sha2::{Digest, Sha512};
use zeroize::{Zeroize, Zeroizing};

use crate::elements::Elements;
use crate::error::DecodeError;
use crate::group::{Element, hash_to_scalar, scalar_from_bytes};
use crate::keys::{KeyPair, PublicKey};
use crate::suite::{NE, PROOF_BYTES, PROVER_NONCE_LABEL, SEED_DST};

/// `[c, s]`, 64 bytes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    c: Scalar,
    s: Scalar,
}

impl Proof {
    /// Decodes two canonical scalars.
    pub fn from_bytes(bytes: &[u8; PROOF_BYTES]) -> Result<Self, DecodeError> {
        let mut c = [0; 32];
        let mut s = [0; 32];
        c.copy_from_slice(&bytes[..32]);
        s.copy_from_slice(&bytes[32..]);
        Ok(Self { c: scalar_from_bytes("proof", c)?, s: scalar_from_bytes("proof", s)? })
    }

    /// The 64 wire bytes.
    pub fn to_bytes(&self) -> [u8; PROOF_BYTES] {
        let mut out = [0; PROOF_BYTES];
        out[..32].copy_from_slice(self.c.as_bytes());
        out[32..].copy_from_slice(self.s.as_bytes());
        out
    }
}

/// The proof does not hold: the answer was not made with the published key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the issuer's proof does not hold for its published key; do not use these tokens")]
pub struct ProofInvalid;

/// `GenerateProof` (RFC 9497 section 2.2.1) for `evaluated[i] = k * blinded[i]`.
pub(crate) fn generate_proof(
    key: &KeyPair,
    blinded: &Elements,
    evaluated: &Elements,
    rng: &mut impl CryptoRng,
) -> Proof {
    let m = blinded.sum_of_products(&composite_scalars(key.public(), blinded, evaluated));
    let r = Zeroizing::new(prover_nonce(key, m.as_bytes(), rng));
    prove_with(key, &m, &r)
}

/// A proof of its own for each element, as of many requests for one token each. The
/// multiplications of all are done together.
pub(crate) fn generate_single_proofs(
    key: &KeyPair,
    blinded: &Elements,
    evaluated: &Elements,
    rng: &mut impl CryptoRng,
) -> Vec<Proof> {
    let pairs = blinded.as_bytes().iter().zip(evaluated.as_bytes());
    let d: Vec<Scalar> =
        pairs.map(|(c_i, d_i)| composite_scalars_of(key.public(), &[*c_i], &[*d_i])[0]).collect();
    let m = blinded.multiply(&d);
    let nonces = m.as_bytes().iter().map(|m| prover_nonce(key, m, rng)).collect();
    let r: Zeroizing<Vec<Scalar>> = Zeroizing::new(nonces);
    let k = Zeroizing::new(vec![*key.private().scalar(); d.len()]);
    let z = m.multiply(&k);
    let t2 = Elements::basepoints(d.len()).multiply(&r);
    let t3 = m.multiply(&r);
    let points = [&m, &z, &t2, &t3].map(Elements::as_bytes);
    (0..d.len())
        .map(|i| {
            let c = challenge(key.public(), points.map(|bytes| bytes[i]));
            Proof { c, s: r[i] - c * k[i] }
        })
        .collect()
}

/// The same with the caller's `r`.
#[cfg(feature = "hazmat")]
pub(crate) fn generate_proof_with_nonce(
    key: &KeyPair,
    blinded: &Elements,
    evaluated: &Elements,
    r: &Scalar,
) -> Proof {
    let m = blinded.sum_of_products(&composite_scalars(key.public(), blinded, evaluated));
    prove_with(key, &m, r)
}

/// Z, t2 and t3 are computed halved, because the batch encoder doubles: one inversion for all.
fn prove_with(key: &KeyPair, m: &Element, r: &Scalar) -> Proof {
    let k = key.private().scalar();
    let half_k = Zeroizing::new(k.div_by_2());
    let half_r = Zeroizing::new(r.div_by_2());
    let halves = [*half_k * m.point(), &*half_r * RISTRETTO_BASEPOINT_TABLE, *half_r * m.point()];
    let encoded = RistrettoPoint::double_and_compress_batch(&halves);
    let [z, t2, t3] = [0, 1, 2].map(|i| encoded[i].to_bytes());
    let c = challenge(key.public(), [*m.as_bytes(), z, t2, t3]);
    Proof { c, s: r - c * k }
}

/// `VerifyProof` (RFC 9497 section 2.2.2). All inputs are public.
pub(crate) fn verify_proof(
    key: &PublicKey,
    blinded: &Elements,
    evaluated: &Elements,
    proof: &Proof,
) -> Result<(), ProofInvalid> {
    let d = composite_scalars(key, blinded, evaluated);
    let (m, z) = (blinded.sum_of_products(&d), evaluated.sum_of_products(&d));
    let t2 = RistrettoPoint::vartime_double_scalar_mul_basepoint(
        &proof.c,
        key.element().point(),
        &proof.s,
    );
    let t3 = RistrettoPoint::vartime_multiscalar_mul([proof.s, proof.c], [m.point(), z.point()]);
    let [t2, t3] = [t2, t3].map(|point| point.compress().to_bytes());
    if challenge(key, [*m.as_bytes(), *z.as_bytes(), t2, t3]) == proof.c {
        Ok(())
    } else {
        Err(ProofInvalid)
    }
}

fn composite_scalars(key: &PublicKey, blinded: &Elements, evaluated: &Elements) -> Vec<Scalar> {
    composite_scalars_of(key, blinded.as_bytes(), evaluated.as_bytes())
}

/// The `d_i` of `ComputeComposites` (RFC 9497 section 2.2.1).
fn composite_scalars_of(
    key: &PublicKey,
    blinded: &[[u8; NE]],
    evaluated: &[[u8; NE]],
) -> Vec<Scalar> {
    debug_assert_eq!(blinded.len(), evaluated.len());
    let element_len = (NE as u16).to_be_bytes();
    let seed = Sha512::new()
        .chain_update(element_len)
        .chain_update(key.to_bytes())
        .chain_update((SEED_DST.len() as u16).to_be_bytes())
        .chain_update(SEED_DST)
        .finalize();
    let seed_len = (seed.len() as u16).to_be_bytes();
    (0u16..)
        .zip(blinded.iter().zip(evaluated))
        .map(|(i, (c_i, d_i))| {
            hash_to_scalar(&[
                &seed_len,
                &seed,
                &i.to_be_bytes(),
                &element_len,
                c_i,
                &element_len,
                d_i,
                b"Composite",
            ])
        })
        .collect()
}

/// The challenge hash over `B, M, Z, t2, t3`.
fn challenge(key: &PublicKey, points: [[u8; NE]; 4]) -> Scalar {
    let len = (NE as u16).to_be_bytes();
    let [m, z, t2, t3] = &points;
    let b = key.to_bytes();
    hash_to_scalar(&[&len, &b, &len, m, &len, z, &len, t2, &len, t3, b"Challenge"])
}

/// The prover's nonce `r`, hedged: it depends on the statement, on skI and on the operating
/// system's randomness, so a random generator that repeats does not repeat `r` for another
/// statement, which would give skI away. The wire does not change.
fn prover_nonce(key: &KeyPair, m: &[u8; NE], rng: &mut impl CryptoRng) -> Scalar {
    let mut transcript = Transcript::new(PROVER_NONCE_LABEL);
    transcript.append_message(b"pkI", &key.public().to_bytes());
    transcript.append_message(b"M", m);
    let mut nonce_rng = transcript
        .build_rng()
        .rekey_with_witness_bytes(b"skI", key.private().scalar().as_bytes())
        .finalize(&mut ForMerlin(rng));
    let mut wide = [0; 64];
    nonce_rng.fill_bytes(&mut wide);
    let r = Scalar::from_bytes_mod_order_wide(&wide);
    wide.zeroize();
    r
}

/// A rand_core 0.10 generator for merlin, which speaks rand_core 0.6.
struct ForMerlin<'a, R>(&'a mut R);

impl<R: CryptoRng> rand_core_06::RngCore for ForMerlin<'_, R> {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        self.0.fill_bytes(dest);
    }

    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), rand_core_06::Error> {
        self.0.fill_bytes(dest);
        Ok(())
    }
}

impl<R: CryptoRng> rand_core_06::CryptoRng for ForMerlin<'_, R> {}
