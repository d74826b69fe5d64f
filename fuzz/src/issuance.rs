//! Requests for tokens, their answers, and what these consist of.

use tocyn_protocol::codec::{Reader, put_varint_bytes};
use tocyn_protocol::dleq::Proof;
use tocyn_protocol::elements::Elements;
use tocyn_protocol::group::Element;
use tocyn_protocol::issuance::{
    AmortizedBatchTokenRequest, AmortizedBatchTokenResponse, PENDING_TOKEN_BYTES, PendingBatch,
    TokenRequest, TokenResponse,
};
use tocyn_protocol::keys::{KeyPair, PrivateKey, PublicKey};
use tocyn_protocol::redemption::Authorization;
use tocyn_protocol::relay::MessageId;
use tocyn_protocol::suite::{NE, TOKEN_REQUEST_BYTES, TOKEN_RESPONSE_BYTES};
use tocyn_protocol::voprf::Blind;

use crate::Target;
use crate::fixed::{Drawn, ISSUER, PAIRING, PUBLIC, REDEEMER};

/// The program.
pub const TARGET: Target = Target {
    name: "issuance",
    decoders: &[
        ("token request", request),
        ("token response", response),
        ("batch request", batch_request),
        ("batch response", batch_response),
        ("saved batch", saved_batch),
        ("answer to a request", answer),
        ("public key", public_key),
        ("private key", private_key),
        ("elements", elements),
        ("proof and blind", proof_and_blind),
        ("varint", varint),
    ],
};

/// As many elements are evaluated; more only take longer.
const FEW: usize = 9;

/// The tokens of the request whose answers are fuzzed.
pub const ASKED: usize = 5;

/// A request for [`ASKED`] tokens, always the same one.
pub fn asked() -> (AmortizedBatchTokenRequest, PendingBatch) {
    let (challenge, rng) = (PAIRING.challenge(), &mut Drawn::from(10));
    AmortizedBatchTokenRequest::new(&PUBLIC, &challenge, ASKED, rng).unwrap()
}

/// Has one size and encodes to the same bytes; so does the answer to it.
fn request(bytes: &[u8]) {
    let Ok(request) = TokenRequest::from_bytes(bytes) else { return };
    assert_eq!(bytes.len(), TOKEN_REQUEST_BYTES);
    assert_eq!(request.to_bytes(), bytes);
    assert_eq!(request.truncated_token_key_id(), bytes[2]);
    response(&ISSUER.evaluate(&request, &mut Drawn::from(11)).to_bytes());
}

fn response(bytes: &[u8]) {
    if let Ok(response) = TokenResponse::from_bytes(bytes) {
        assert_eq!(bytes.len(), TOKEN_RESPONSE_BYTES);
        assert_eq!(response.to_bytes(), bytes);
    }
}

/// Has as many elements as it declares, all of which are in its bytes, and encodes to the same
/// bytes; so does the answer to it.
fn batch_request(bytes: &[u8]) {
    let declared = AmortizedBatchTokenRequest::declared_len(bytes);
    if let Ok(declared) = declared {
        assert!(declared * NE < bytes.len(), "it declares more than there is");
    }
    let Ok(request) = AmortizedBatchTokenRequest::from_bytes(bytes) else { return };
    assert_eq!(declared.unwrap(), request.len());
    assert_eq!(request.to_bytes(), bytes);
    assert_eq!(request.truncated_token_key_id(), bytes[2]);
    if request.len() <= FEW {
        let answer = ISSUER.evaluate_batch(&request, &mut Drawn::from(12)).to_bytes();
        assert_eq!(AmortizedBatchTokenResponse::from_bytes(&answer).unwrap().to_bytes(), answer);
    }
}

fn batch_response(bytes: &[u8]) {
    if let Ok(response) = AmortizedBatchTokenResponse::from_bytes(bytes) {
        assert_eq!(response.to_bytes(), bytes);
    }
}

/// Encodes to the same bytes, and gives one request, of as many tokens as it has.
fn saved_batch(bytes: &[u8]) {
    if bytes.len() > FEW * PENDING_TOKEN_BYTES + 1 {
        return;
    }
    let challenge = PAIRING.challenge();
    if let Ok((request, pending)) = PendingBatch::from_bytes(&PUBLIC, &challenge, bytes) {
        assert_eq!(request.len() * PENDING_TOKEN_BYTES, bytes.len());
        assert_eq!(pending.to_bytes().as_slice(), bytes);
        let (again, _) = PendingBatch::from_bytes(&PUBLIC, &challenge, bytes).unwrap();
        assert_eq!(again, request);
        batch_request(&request.to_bytes());
    }
}

/// Yields either nothing or tokens that the relay takes.
fn answer(bytes: &[u8]) {
    let Ok(response) = AmortizedBatchTokenResponse::from_bytes(bytes) else { return };
    let Ok(tokens) = asked().1.finalize(&response) else { return };
    assert_eq!(tokens.len(), ASKED);
    for token in tokens {
        let authorization = Authorization::parse(&token.header_value()).unwrap();
        REDEEMER.redeem(&authorization, &MessageId::of(b"any")).unwrap();
    }
}

fn public_key(bytes: &[u8]) {
    if let Ok(key) = PublicKey::from_bytes(bytes) {
        assert_eq!(key.to_bytes(), bytes);
        assert_eq!(key.token_key_id().truncated(), *key.token_key_id().0.last().unwrap());
    }
}

/// Has a public key that decodes.
fn private_key(bytes: &[u8]) {
    let Some((bytes, _)) = bytes.split_first_chunk() else { return };
    if let Ok(key) = PrivateKey::from_bytes(*bytes) {
        let public = KeyPair::new(key).public().to_bytes();
        assert_eq!(PublicKey::from_bytes(&public).unwrap().to_bytes(), public);
    }
}

/// Eight at a time and one by one, the same are taken, and encode to the same bytes.
fn elements(bytes: &[u8]) {
    let (encoded, _) = bytes.as_chunks::<NE>();
    let one_by_one = encoded.iter().all(|bytes| match Element::from_bytes("element", bytes) {
        Ok(element) => element.as_bytes() == bytes,
        Err(_) => false,
    });
    let together = Elements::from_bytes("element", encoded);
    assert_eq!(together.is_ok(), one_by_one);
    if let Ok(together) = together {
        assert_eq!(together.as_bytes(), encoded);
        assert_eq!(together.is_empty(), encoded.is_empty());
    }
}

fn proof_and_blind(bytes: &[u8]) {
    let Some((both, _)) = bytes.split_first_chunk() else { return };
    if let Ok(proof) = Proof::from_bytes(both) {
        assert_eq!(proof.to_bytes(), *both);
    }
    let Some((bytes, _)) = bytes.split_first_chunk() else { return };
    if let Ok(blind) = Blind::from_bytes(*bytes) {
        assert_eq!(*blind.to_bytes(), *bytes);
    }
}

/// Encodes to the same bytes.
fn varint(bytes: &[u8]) {
    let mut reader = Reader::new("fuzz", bytes);
    if let Ok(content) = reader.varint_bytes("fuzz") {
        let mut out = Vec::new();
        put_varint_bytes(&mut out, content);
        assert_eq!(out, bytes[..out.len()]);
        assert_eq!(reader.finish().is_ok(), out.len() == bytes.len());
    }
}
