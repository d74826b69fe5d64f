//! The way of a token, in the order in which its bytes travel.
//!
//! Pure types, codec and VOPRF: no clock, no network, no database.
//! | step | module |
//! |---|---|
//! | sizes and domain-separation strings | [`suite`] |
//! | group elements and scalars that are valid once decoded | [`group`] |
//! | batches of elements, eight at a time where the processor can | [`elements`], `lanes` |
//! | proof that one key evaluated a whole batch | [`dleq`] |
//! | blind, evaluate, finalize (RFC 9497) | [`voprf`] |
//! | issuer keys and their ids | [`keys`] |
//! | epochs on the clock | [`schedule`] |
//! | the file that issuer and origin share, and the key of each epoch | [`pairing`] |
//! | what an origin signs before anyone buys: its names, addresses and all keys | [`statement`] |
//! | what a token is for (RFC 9577) | [`challenge`] |
//! | asking for tokens and handing them out (RFC 9578, batched-tokens-07) | [`issuance`] |
//! | the token itself | [`token`] |
//! | spending it on one message | [`redemption`] |
//! | the issuer's public keys | [`directory`] |
//! | messages, receipts and the relay's info document | [`relay`] |
//! | the log that holds the messages: tree, proofs, signed checkpoints | [`log`] |
//! | proof of work for tokens (feature `pow`, which brings in Equi-X under the LGPL) | `pow` |
//! | HTTP media types | [`media_type`] |
//! | HTTP problem documents (RFC 9457) | [`problem`] |
//! | reading and writing wire bytes | [`codec`] |
//! | what can be wrong with received bytes | [`error`] |

pub mod suite;

pub mod group;

pub mod elements;

#[cfg(all(target_arch = "x86_64", curve25519_dalek_backend = "avx512"))]
mod lanes;
#[cfg(not(all(target_arch = "x86_64", curve25519_dalek_backend = "avx512")))]
#[path = "lanes/absent.rs"]
mod lanes;

pub mod dleq;

pub mod voprf;

pub mod keys;

pub mod schedule;

pub mod pairing;

pub mod statement;

pub mod challenge;

pub mod issuance;

#[cfg(feature = "pow")]
pub mod pow;

pub mod token;

pub mod redemption;

pub mod directory;

pub mod relay;

pub mod log;

pub mod media_type;

pub mod problem;

pub mod codec;

pub mod error;

#[cfg(feature = "hazmat")]
pub mod hazmat;
