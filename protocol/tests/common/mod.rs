//! A pairing with tokens, for the tests of this folder.
#![allow(dead_code)] // each test binary uses its own part

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tocyn_protocol::issuance::{AmortizedBatchTokenRequest, Issuer};
use tocyn_protocol::pairing::Pairing;
use tocyn_protocol::token::Token;

pub(crate) const GENESIS: u64 = 1_700_000_000;
pub(crate) const DAY: u64 = 86_400;

pub(crate) fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

pub(crate) fn pairing(origin_name: &str) -> Pairing {
    Pairing::generate("issuer.example", origin_name, GENESIS, DAY, &mut rng()).unwrap()
}

/// `count` tokens of an epoch, through the whole of issuance.
pub(crate) fn tokens(pairing: &Pairing, epoch: u64, count: usize) -> Vec<Token> {
    let key = pairing.key_pair(epoch);
    let public = *key.public();
    let issuer = Issuer::new(key);
    let (request, pending) =
        AmortizedBatchTokenRequest::new(&public, &pairing.challenge(), count, &mut rng()).unwrap();
    pending.finalize(&issuer.evaluate_batch(&request, &mut rng())).unwrap()
}
