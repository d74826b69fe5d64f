//! Proof of work: what is taken, and what is not.
#![cfg(feature = "pow")]

use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use tocyn_protocol::pow::{PowChallenge, PowError, PowKey, PowProof, Solver, WINDOW_SECONDS};

const NOW: u64 = 10_000;

fn key() -> PowKey {
    let mut bytes = [0; 32];
    UnwrapErr(SysRng).fill_bytes(&mut bytes);
    PowKey::new(bytes)
}

fn check(proof: &PowProof, body: &[u8], tokens: u64) -> Result<(), PowError> {
    proof.check_hash(body, tokens)?;
    proof.check_solution(body)
}

fn solve(challenge: PowChallenge, body: &[u8], tokens: u64) -> PowProof {
    let mut solver = Solver::new(challenge, body, tokens, [7; 16]);
    (0..10_000).find_map(|_| solver.step().ok()).expect("it is not as hard as that")
}

#[test]
fn a_proof_is_for_one_body_and_as_many_tokens_as_were_worked_for() {
    let challenge = PowChallenge::issue(&key(), NOW, 8);
    let proof = solve(challenge, b"body", 64);
    assert_eq!(check(&proof, b"body", 64), Ok(()));
    assert_eq!(check(&proof, b"body", 16), Ok(()));
    assert_eq!(check(&proof, b"bodx", 64), Err(PowError::Unsolved));
    let read = PowProof::from_bytes(&proof.to_bytes()).unwrap();
    assert_eq!(read, proof);
    assert_eq!(read.challenge(), &challenge);
    // For 2^40 times the work it would be a wonder.
    assert_eq!(check(&proof, b"body", 64 << 40), Err(PowError::Unsolved));
}

#[test]
fn every_changed_byte_is_found() {
    let key = key();
    let proof = solve(PowChallenge::issue(&key, NOW, 4), b"body", 16);
    for place in 0..proof.to_bytes().len() {
        let mut bytes = proof.to_bytes();
        bytes[place] ^= 1;
        let changed = PowProof::from_bytes(&bytes).unwrap();
        let taken =
            changed.challenge().check(&key, NOW).and_then(|()| check(&changed, b"body", 16));
        assert!(taken.is_err(), "byte {place}");
    }
    let bytes = proof.to_bytes();
    assert!(PowProof::from_bytes(&bytes[..59]).is_err());
    assert!(PowProof::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    assert!(PowChallenge::from_bytes(&bytes[..27]).is_err());
}

#[test]
fn a_challenge_is_of_one_issuer_and_of_its_time() {
    let mine = key();
    let challenge = PowChallenge::issue(&mine, NOW, 8);
    assert_eq!(challenge.check(&mine, NOW), Ok(()));
    assert_eq!(challenge.check(&mine, NOW + WINDOW_SECONDS), Ok(()));
    assert_eq!(challenge.check(&mine, NOW + WINDOW_SECONDS + 1), Err(PowError::Expired));
    assert_eq!(challenge.check(&mine, NOW - 60), Ok(()), "clocks differ a little");
    assert_eq!(challenge.check(&mine, NOW - 61), Err(PowError::Expired));
    assert_eq!(challenge.check(&key(), NOW), Err(PowError::Forged));
    // Nobody makes one up for a time to come, or for less work.
    for place in 0..28 {
        let mut bytes = challenge.to_bytes();
        bytes[place] ^= 0x80;
        let made_up = PowChallenge::from_bytes(&bytes).unwrap();
        assert_eq!(made_up.check(&mine, NOW), Err(PowError::Forged), "byte {place}");
    }
}

#[test]
fn work_grows_with_effort() {
    // Solutions tried for one proof, on average over some: near the effort.
    let key = key();
    let mut tried = 0u64;
    for round in 0..20u8 {
        let challenge = PowChallenge::issue(&key, NOW, 16);
        let mut solver = Solver::new(challenge, &[round], 16, [round; 16]);
        assert_eq!(solver.expected(), 16);
        while let Err(solutions) = solver.step() {
            tried += solutions;
        }
    }
    assert!((60..1200).contains(&tried), "{tried} for 20 times an effort of 16");
}
