//! Everything that must be refused, and the reason it is refused with.

mod common;

use common::{DAY, GENESIS, pairing, rng, tokens};
use curve25519_dalek::constants::RISTRETTO_BASEPOINT_POINT;
use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::traits::Identity;
use tocyn_protocol::challenge::{parse_www_authenticate, www_authenticate};
use tocyn_protocol::error::DecodeError;
use tocyn_protocol::issuance::{
    AmortizedBatchTokenRequest, AmortizedBatchTokenResponse, FinalizeError, Issuer, TokenRequest,
    TokenResponse,
};
use tocyn_protocol::keys::{KeyPair, PrivateKey, PublicKey};
use tocyn_protocol::pairing::Pairing;
use tocyn_protocol::redemption::{
    Authorization, AuthorizationError, BoundToken, RedeemError, Redeemer,
};
use tocyn_protocol::relay::{MessageId, pack, unpack};
use tocyn_protocol::token::Token;
use tocyn_protocol::voprf::evaluate;

const IDENTITY: [u8; 32] = [0; 32];

fn element() -> [u8; 32] {
    RISTRETTO_BASEPOINT_POINT.compress().to_bytes()
}

/// 2^255 - 19, an encoding that is not reduced.
fn non_canonical() -> [u8; 32] {
    let mut bytes = [0xff; 32];
    bytes[0] = 0xed;
    bytes[31] = 0x7f;
    bytes
}

fn single(element: [u8; 32]) -> Vec<u8> {
    [&[0, 5, 0x2a][..], &element].concat()
}

fn batch(varint: &[u8], elements: &[[u8; 32]]) -> Vec<u8> {
    [&[0, 5, 0x2a][..], varint, &elements.concat()].concat()
}

#[test]
fn single_requests() {
    TokenRequest::from_bytes(&single(element())).unwrap();
    let refused = |bytes: &[u8]| TokenRequest::from_bytes(bytes).unwrap_err();
    assert_eq!(refused(&single(IDENTITY)), DecodeError::Identity("blinded_msg"));
    assert_eq!(refused(&single(non_canonical())), DecodeError::Element("blinded_msg"));
    assert_eq!(refused(&[]), DecodeError::Truncated { what: "token request", need: 2 });
    let long = [single(element()), vec![0]].concat();
    assert_eq!(refused(&long), DecodeError::TrailingBytes { what: "token request", extra: 1 });
    let mut other_type = single(element());
    other_type[1] = 2;
    assert_eq!(refused(&other_type), DecodeError::TokenType(2));
    for len in 0..35 {
        assert!(matches!(refused(&single(element())[..len]), DecodeError::Truncated { .. }));
    }
}

#[test]
fn batch_requests() {
    let one = batch(&[32], &[element()]);
    AmortizedBatchTokenRequest::from_bytes(&one).unwrap();
    let refused = |bytes: &[u8]| AmortizedBatchTokenRequest::from_bytes(bytes).unwrap_err();
    assert_eq!(refused(&batch(&[0], &[])), DecodeError::EmptyBatch);
    assert_eq!(refused(&batch(&[32], &[IDENTITY])), DecodeError::Identity("blinded element"));
    assert_eq!(refused(&batch(&[32], &[non_canonical()])), DecodeError::Element("blinded element"));
    for varint in [&[0x40, 32][..], &[0x80, 0, 0, 32], &[0xc0, 0, 0, 0, 0, 0, 0, 32]] {
        assert_eq!(
            refused(&batch(varint, &[element()])),
            DecodeError::NonMinimalVarint("blinded_elements")
        );
    }
    assert!(matches!(refused(&batch(&[33], &[element()])), DecodeError::Truncated { .. }));
    assert!(matches!(refused(&batch(&[31], &[element()])), DecodeError::Ragged { bytes: 31, .. }));
    assert!(matches!(
        refused(&[one.as_slice(), &[0]].concat()),
        DecodeError::TrailingBytes { extra: 1, .. }
    ));
    // A length of 2^62 - 1 must neither be allocated nor overflow.
    assert!(matches!(refused(&batch(&[0xff; 8], &[])), DecodeError::Truncated { .. }));
}

#[test]
fn responses() {
    let mut proof = [0u8; 64];
    proof[0] = 1;
    let ok = [&element()[..], &proof].concat();
    TokenResponse::from_bytes(&ok).unwrap();
    let mut scalar = ok.clone();
    scalar[32..64].fill(0xff);
    assert_eq!(TokenResponse::from_bytes(&scalar), Err(DecodeError::Scalar("proof")));
    let mut identity = ok.clone();
    identity[..32].fill(0);
    assert_eq!(TokenResponse::from_bytes(&identity), Err(DecodeError::Identity("evaluate_msg")));
    assert!(matches!(
        AmortizedBatchTokenResponse::from_bytes(&[&[0][..], &proof].concat()),
        Err(DecodeError::EmptyBatch)
    ));
}

#[test]
fn keys() {
    assert_eq!(PublicKey::from_bytes(&IDENTITY), Err(DecodeError::Identity("token key")));
    assert_eq!(PublicKey::from_bytes(&non_canonical()), Err(DecodeError::Element("token key")));
    assert!(PrivateKey::from_bytes([0; 32]).is_err());
    assert!(PrivateKey::from_bytes([0xff; 32]).is_err());
}

#[test]
fn another_count_or_key_yields_no_tokens() {
    let pairing = pairing("relay.example");
    let key = pairing.key_pair(0);
    let public = *key.public();
    let issuer = Issuer::new(key);
    let ask = |count| {
        AmortizedBatchTokenRequest::new(&public, &pairing.challenge(), count, &mut rng()).unwrap()
    };
    let (_, pending) = ask(3);
    let (other, _) = ask(2);
    let answer = issuer.evaluate_batch(&other, &mut rng());
    assert_eq!(
        pending.finalize(&answer).unwrap_err(),
        FinalizeError::Count { asked: 3, answered: 2 }
    );
    let (request, pending) = ask(3);
    let wrong_key = Issuer::new(pairing.key_pair(1)).evaluate_batch(&request, &mut rng());
    assert!(matches!(pending.finalize(&wrong_key), Err(FinalizeError::Proof(_))));
}

/// Systems that map a nonce of raw bytes to the group can be given one that maps to the
/// identity: the authenticator is then the same under every key. Hash-to-group is not so.
#[test]
fn an_all_zero_nonce_is_no_forgery() {
    assert_eq!(
        RistrettoPoint::from_uniform_bytes(&[0; 64]),
        RistrettoPoint::identity(),
        "the trap is there for who maps raw bytes"
    );
    let (one, other) = (KeyPair::derive(&[1; 32], b"a"), KeyPair::derive(&[2; 32], b"a"));
    for len in [0, 32, 64, 98] {
        let input = vec![0; len];
        assert_ne!(*evaluate(one.private(), &input), *evaluate(other.private(), &input));
    }
    let pairing = pairing("relay.example");
    let redeemer = Redeemer::new(&pairing, &[0]);
    let genuine = tokens(&pairing, 0, 1).remove(0);
    let mut forged = genuine.to_bytes().to_vec();
    forged[2..34].fill(0);
    let forged = Authorization::Bearer(Token::from_bytes(&forged).unwrap());
    assert!(matches!(
        redeemer.redeem(&forged, &MessageId::of(b"m")),
        Err(RedeemError::BadAuthenticator)
    ));
}

#[test]
fn tokens_of_other_relays_keys_and_messages() {
    let (ours, theirs) = (pairing("relay.example"), pairing("other.example"));
    let redeemer =
        Redeemer::new(&ours, &ours.schedule().redeemable_epochs(GENESIS + 5 * DAY).unwrap());
    let message = MessageId::of(b"message");
    let refused = |token: &Token, relay: &str, id: &MessageId| {
        let bound = Authorization::Bound(BoundToken::new(token, relay, id));
        redeemer.redeem(&bound, &message).err()
    };
    let good = tokens(&ours, 5, 1).remove(0);
    assert_eq!(refused(&good, "relay.example", &message), None);
    assert_eq!(refused(&good, "other.example", &message), Some(RedeemError::BadBinding));
    let other = MessageId::of(b"another");
    assert_eq!(refused(&good, "relay.example", &other), Some(RedeemError::BadBinding));
    let foreign = tokens(&theirs, 5, 1).remove(0);
    assert_eq!(refused(&foreign, "other.example", &message), Some(RedeemError::WrongChallenge));
    for (epoch, expected) in
        [(3, Some(RedeemError::UnknownKey)), (4, None), (6, Some(RedeemError::UnknownKey))]
    {
        let token = tokens(&ours, epoch, 1).remove(0);
        assert_eq!(refused(&token, "relay.example", &message), expected, "epoch {epoch}");
    }
}

#[test]
fn authorization_headers() {
    let token = tokens(&pairing("relay.example"), 0, 1).remove(0);
    let bearer = token.header_value();
    let value = bearer.split('"').nth(1).unwrap().to_owned();
    for good in [
        bearer.clone(),
        format!("PrivateToken token={value}"),
        format!("privatetoken  token = \"{}\", extra=\"a,b\"", value.trim_end_matches('=')),
        format!("PrivateToken unknown=1, token={value}"),
    ] {
        assert!(matches!(Authorization::parse(&good), Ok(Authorization::Bearer(_))), "{good}");
    }
    for (bad, no_token) in [
        (String::new(), true),
        ("Bearer abc".into(), true),
        ("Negotiate YWJj==".into(), true),
        ("Bearer token=abc".into(), true),
        ("PrivateToken".into(), false),
        (format!("PrivateToken token=\"{value}"), false),
        (format!("PrivateToken token=\"{value}\", token=\"{value}\""), false),
        (format!("PrivateToken token=\"!{value}\""), false),
        (format!("PrivateToken token=\"{}\"", &value[4..]), false),
        (format!("{bearer}, {bearer}"), false),
        ("TocynBound input=\"AAAA\", binding=\"AAAA\"".into(), false),
    ] {
        let error = Authorization::parse(&bad).unwrap_err();
        assert_eq!(error == AuthorizationError::NoToken, no_token, "{bad}: {error}");
    }
}

#[test]
fn other_schemes_beside_a_challenge_are_passed_over() {
    let pairing = pairing("relay.example");
    let ours = www_authenticate(&pairing.challenge(), pairing.key_pair(0).public());
    for value in [
        format!("Negotiate YWJj==, {ours}"),
        format!("Basic realm=\"a, b\", {ours}"),
        format!("{ours}, Digest"),
    ] {
        let found = parse_www_authenticate(&value).unwrap();
        assert_eq!(found.len(), 1, "{value}");
        assert_eq!(found[0].challenge, pairing.challenge());
    }
}

#[test]
fn plaintext_cells() {
    let cell = pack(b"hello", 64).unwrap();
    assert_eq!((cell.len(), unpack(&cell).unwrap()), (64, &b"hello"[..]));
    assert_eq!(pack(&[1; 63], 64).unwrap_err().limit, 62);
    pack(&[1; 62], 64).unwrap();
    let mut dirty = cell;
    dirty[63] = 1;
    assert!(unpack(&dirty).is_err());
    assert!(unpack(&[0xff; 64]).is_err());
}

#[test]
fn clocks_and_epochs() {
    let p = pairing("relay.example");
    assert!(p.schedule().epoch_at(GENESIS - 1).is_err());
    assert_eq!(p.schedule().redeemable_epochs(GENESIS).unwrap(), [0]);
    assert_eq!(p.schedule().redeemable_epochs(GENESIS + DAY - 61).unwrap(), [0]);
    assert_eq!(p.schedule().redeemable_epochs(GENESIS + DAY - 60).unwrap(), [0, 1]);
    assert_eq!(p.schedule().redeemable_epochs(GENESIS + DAY).unwrap(), [0, 1]);
    assert_eq!(p.schedule().redeemable_epochs(GENESIS + 2 * DAY).unwrap(), [1, 2]);
    // The last time that there is: long after the last key, and no overflow.
    let last = Pairing::generate("issuer", "relay", 0, 1, &mut rng()).unwrap();
    assert!(last.schedule().redeemable_epochs(u64::MAX).is_err());
    assert_eq!(last.schedule().listed_by_origin(u64::MAX).unwrap(), []);
    assert_eq!(p.schedule().issuing_epochs(GENESIS).unwrap(), [0]);
    assert_eq!(p.schedule().issuing_epochs(GENESIS + DAY + 59).unwrap(), [1, 0]);
    assert_eq!(p.schedule().issuing_epochs(GENESIS + DAY + 60).unwrap(), [1]);
}
