//! Proof of work for tokens: permissionless entry to an issuer, with the puzzle of Tor's onion
//! services (proposal 327): Equi-X, which takes 1.8 MB of memory and a few milliseconds to solve, and
//! microseconds to check.
//!
//! ```text
//! struct {                                  28 bytes
//!     uint64 issued_at;                     unix seconds
//!     uint32 effort;                        puzzles to try for 16 tokens, on average
//!     uint8 mac[16];                        HKDF-SHA512(key, "tocyn/v1 pow", the two above)
//! } PowChallenge;
//!
//! struct {                                  60 bytes
//!     PowChallenge challenge;
//!     uint8 nonce[16];
//!     uint8 solution[16];                   Equi-X solution of the input below
//! } PowProof;
//!
//! input = "tocyn/v1 pow" || challenge || SHA-256(token request body) || nonce
//! valid:  the first 4 bytes of SHA-256(input || solution), as uint32, times
//!         effort * ceil(tokens / 16) is at most 2^32 - 1
//! ```
//!
//! The issuer keeps nothing of a challenge: a key that only it has authenticates them, and all issuers
//! that share it take each other's. The origin has no part in it. A solution is for one request body, so it cannot be
//! used again, and whoever steals it gets tokens that only the one who made the body can unblind. A
//! challenge cannot be known before it is given, and is taken for [`WINDOW_SECONDS`] only.

use equix::{EquiXBuilder, RuntimeOption, Solution, SolverMemory};
use hkdf::Hkdf;
use sha2::{Digest, Sha256, Sha512};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::codec::Reader;
use crate::error::DecodeError;
use crate::schedule::CLOCK_TOLERANCE_SECONDS;
use crate::suite::POW_SALT;

/// How long a challenge is taken, in seconds.
pub const WINDOW_SECONDS: u64 = 600;
/// Tokens that the effort is for.
pub const EFFORT_TOKENS: u64 = 16;
/// Size of a challenge in bytes.
pub const CHALLENGE_BYTES: usize = 28;
/// Size of a proof in bytes.
pub const PROOF_BYTES: usize = CHALLENGE_BYTES + NONCE_BYTES + SOLUTION_BYTES;
const NONCE_BYTES: usize = 16;
const SOLUTION_BYTES: usize = 16;
const MAC_BYTES: usize = 16;
const INPUT_PREFIX: &[u8] = b"tocyn/v1 pow";

/// What an issuer's challenges are authenticated with: 32 random bytes that only it knows. Wiped on
/// drop, never shown.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct PowKey([u8; 32]);

impl PowKey {
    /// Of random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn mac(&self, issued_at: u64, effort: u32) -> [u8; MAC_BYTES] {
        let info = [&issued_at.to_be_bytes()[..], &effort.to_be_bytes()].concat();
        let mut mac = [0; MAC_BYTES];
        let hkdf = Hkdf::<Sha512>::new(Some(POW_SALT), &self.0);
        hkdf.expand(&info, &mut mac).expect("it is short enough for HKDF");
        mac
    }
}

/// Why a proof is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PowError {
    /// The challenge is not of this issuer.
    #[error("the challenge is not of this issuer; ask for a new one")]
    Forged,
    /// It is too old, or from the future.
    #[error("the challenge is too old; ask for a new one")]
    Expired,
    /// The solution is none, or of another request.
    #[error("the proof of work is not for this request")]
    Unsolved,
}

/// What a client must solve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowChallenge {
    issued_at: u64,
    effort: u32,
    mac: [u8; MAC_BYTES],
}

impl PowChallenge {
    /// A challenge of the issuer with this key, at `now` in unix seconds.
    pub fn issue(key: &PowKey, now: u64, effort: u32) -> Self {
        Self { issued_at: now, effort, mac: key.mac(now, effort) }
    }

    /// When it was given, in unix seconds, as it says itself.
    pub fn issued_at(&self) -> u64 {
        self.issued_at
    }

    /// Puzzles to try for 16 tokens, on average.
    pub fn effort(&self) -> u32 {
        self.effort
    }

    /// Whether it is of the issuer with this key, compared in constant time, and not too old.
    pub fn check(&self, key: &PowKey, now: u64) -> Result<(), PowError> {
        use subtle::ConstantTimeEq;
        let mac = key.mac(self.issued_at, self.effort);
        if !bool::from(mac.ct_eq(&self.mac)) {
            return Err(PowError::Forged);
        }
        let from = self.issued_at.saturating_sub(CLOCK_TOLERANCE_SECONDS);
        let until = self.issued_at.saturating_add(WINDOW_SECONDS);
        if (from..=until).contains(&now) { Ok(()) } else { Err(PowError::Expired) }
    }

    /// 28 bytes.
    pub fn to_bytes(&self) -> [u8; CHALLENGE_BYTES] {
        let mut bytes = Vec::with_capacity(CHALLENGE_BYTES);
        bytes.extend_from_slice(&self.issued_at.to_be_bytes());
        bytes.extend_from_slice(&self.effort.to_be_bytes());
        bytes.extend_from_slice(&self.mac);
        bytes.try_into().expect("8, 4 and 16")
    }

    /// From 28 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("PowChallenge", bytes);
        let challenge = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(challenge)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let issued_at = u64::from_be_bytes(reader.array()?);
        let effort = u32::from_be_bytes(reader.array()?);
        Ok(Self { issued_at, effort, mac: reader.array()? })
    }
}

/// That somebody worked for one token request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowProof {
    challenge: PowChallenge,
    nonce: [u8; NONCE_BYTES],
    solution: [u8; SOLUTION_BYTES],
}

impl PowProof {
    /// What was solved.
    pub fn challenge(&self) -> &PowChallenge {
        &self.challenge
    }

    /// Whether the hash of this request body, of so many tokens, is low enough: one hash, before
    /// [`Self::check_solution`], which both have to be. Whose the challenge is, and how old, is for
    /// [`PowChallenge::check`].
    pub fn check_hash(&self, body: &[u8], tokens: u64) -> Result<(), PowError> {
        let input = input(&self.challenge, body, &self.nonce);
        match is_enough(&input, &self.solution, work(self.challenge.effort, tokens)) {
            true => Ok(()),
            false => Err(PowError::Unsolved),
        }
    }

    /// Whether it solves the puzzle of this request body: up to 100 us, not for threads that others
    /// wait for.
    pub fn check_solution(&self, body: &[u8]) -> Result<(), PowError> {
        let input = input(&self.challenge, body, &self.nonce);
        let solution = Solution::try_from_bytes(&self.solution).map_err(|_| PowError::Unsolved)?;
        // No program of a stranger's choice becomes machine code here.
        let mut equix = EquiXBuilder::new();
        equix.runtime(RuntimeOption::InterpretOnly);
        equix.verify(&input, &solution).map_err(|_| PowError::Unsolved)
    }

    /// 60 bytes.
    pub fn to_bytes(&self) -> [u8; PROOF_BYTES] {
        let parts = [&self.challenge.to_bytes()[..], &self.nonce, &self.solution].concat();
        parts.try_into().expect("28, 16 and 16")
    }

    /// From 60 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("PowProof", bytes);
        let challenge = PowChallenge::read(&mut reader)?;
        let proof = Self { challenge, nonce: reader.array()?, solution: reader.array()? };
        reader.finish()?;
        Ok(proof)
    }
}

/// Looks for a proof. One for each thread, with other nonces.
pub struct Solver {
    challenge: PowChallenge,
    body: Vec<u8>,
    work: u64,
    nonce: [u8; NONCE_BYTES],
    memory: SolverMemory,
}

impl Solver {
    /// Begins at a nonce, which must be random: whoever works for many requests at once, or on
    /// many threads, then never does the same twice.
    pub fn new(challenge: PowChallenge, body: &[u8], tokens: u64, nonce: [u8; 16]) -> Self {
        let work = work(challenge.effort, tokens);
        Self { challenge, body: body.to_vec(), work, nonce, memory: SolverMemory::new() }
    }

    /// Solutions that must be tried, on average.
    pub fn expected(&self) -> u64 {
        self.work
    }

    /// Solves one puzzle, which takes milliseconds and has about two solutions: a proof if one of
    /// them will do, or how many were tried.
    pub fn step(&mut self) -> Result<PowProof, u64> {
        let input = input(&self.challenge, &self.body, &self.nonce);
        let nonce = self.nonce;
        self.nonce = u128::from_be_bytes(nonce).wrapping_add(1).to_be_bytes();
        // A few inputs are no puzzle.
        let Ok(puzzle) = EquiXBuilder::new().build(&input) else { return Err(0) };
        let solutions = puzzle.solve_with_memory(&mut self.memory);
        for solution in &solutions {
            let solution = solution.to_bytes();
            if is_enough(&input, &solution, self.work) {
                return Ok(PowProof { challenge: self.challenge, nonce, solution });
            }
        }
        Err(solutions.len() as u64)
    }
}

/// Solutions that must be tried, on average, for so many tokens.
fn work(effort: u32, tokens: u64) -> u64 {
    u64::from(effort).saturating_mul(tokens.div_ceil(EFFORT_TOKENS))
}

fn input(challenge: &PowChallenge, body: &[u8], nonce: &[u8; NONCE_BYTES]) -> Vec<u8> {
    [INPUT_PREFIX, &challenge.to_bytes(), &Sha256::digest(body), nonce].concat()
}

fn is_enough(input: &[u8], solution: &[u8; SOLUTION_BYTES], work: u64) -> bool {
    let hash = Sha256::new().chain_update(input).chain_update(solution).finalize();
    let [a, b, c, d, ..] = hash[..] else { unreachable!("SHA-256 has 32 bytes") };
    u64::from(u32::from_be_bytes([a, b, c, d])).saturating_mul(work) <= u64::from(u32::MAX)
}
