//! batched-tokens-07 and RFC 9577: requests, responses, tokens and headers, byte for byte.

use serde_json::Value;
use tocyn_protocol::challenge::{TokenChallenge, parse_www_authenticate};
use tocyn_protocol::codec::auth_schemes;
use tocyn_protocol::issuance::{
    AmortizedBatchTokenRequest, AmortizedBatchTokenResponse, PendingBatch,
};
use tocyn_protocol::keys::{KeyPair, PrivateKey};
use tocyn_protocol::suite::TOKEN_BYTES;

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

fn file(text: &str) -> Vec<Value> {
    let value: Value = serde_json::from_str(text).unwrap();
    let list = if value.is_array() { &value } else { &value["vectors"] };
    list.as_array().unwrap().clone()
}

#[test]
fn amortized_batches() {
    let vectors = file(include_str!("vectors/batched-tokens-07-amortized-ristretto255.json"));
    assert!(vectors.len() >= 5);
    for vector in vectors {
        let key = KeyPair::new(PrivateKey::from_bytes(array(&vector["skS"])).unwrap());
        assert_eq!(key.public().to_bytes().to_vec(), bytes(&vector["pkS"]));
        let challenge = TokenChallenge::from_bytes(&bytes(&vector["token_challenge"])).unwrap();
        assert_eq!(challenge.to_bytes(), bytes(&vector["token_challenge"]));

        let saved: Vec<u8> = vector["nonces"]
            .as_array()
            .unwrap()
            .iter()
            .zip(vector["blinds"].as_array().unwrap())
            .flat_map(|(nonce, blind)| [bytes(nonce), bytes(blind)].concat())
            .collect();
        let (request, pending) =
            PendingBatch::from_bytes(key.public(), &challenge, &saved).unwrap();
        assert_eq!(pending.to_bytes().as_slice(), saved);
        let wire = bytes(&vector["token_request"]);
        assert_eq!(request.to_bytes(), wire);
        assert_eq!(AmortizedBatchTokenRequest::from_bytes(&wire).unwrap(), request);

        let wire = bytes(&vector["token_response"]);
        let response = AmortizedBatchTokenResponse::from_bytes(&wire).unwrap();
        assert_eq!(response.to_bytes(), wire);
        let tokens = pending.finalize(&response).unwrap();
        let expected = vector["tokens"].as_array().unwrap();
        assert_eq!(tokens.len(), expected.len());
        for (token, expected) in tokens.iter().zip(expected) {
            assert_eq!(token.to_bytes().as_slice(), bytes(expected));
        }
    }
}

#[cfg(feature = "hazmat")]
#[test]
fn single_issuance() {
    use tocyn_protocol::hazmat::token_request;
    use tocyn_protocol::issuance::{TokenRequest, TokenResponse};
    use tocyn_protocol::voprf::Blind;

    let vectors = file(include_str!("vectors/batched-tokens-07-private-ristretto255.json"));
    assert!(vectors.len() >= 5);
    for vector in vectors {
        let key = KeyPair::new(PrivateKey::from_bytes(array(&vector["skS"])).unwrap());
        assert_eq!(key.public().to_bytes().to_vec(), bytes(&vector["pkS"]));
        let challenge = TokenChallenge::from_bytes(&bytes(&vector["token_challenge"])).unwrap();
        let blind = Blind::from_bytes(array(&vector["blind"])).unwrap();
        let (request, pending) =
            token_request(key.public(), &challenge, array(&vector["nonce"]), blind);
        let wire = bytes(&vector["token_request"]);
        assert_eq!(request.to_bytes(), wire);
        assert_eq!(TokenRequest::from_bytes(&wire).unwrap(), request);
        let wire = bytes(&vector["token_response"]);
        let response = TokenResponse::from_bytes(&wire).unwrap();
        assert_eq!(response.to_bytes(), wire);
        let token = pending.finalize(&response).unwrap();
        assert_eq!(token.to_bytes().len(), TOKEN_BYTES);
        assert_eq!(token.to_bytes().as_slice(), bytes(&vector["token"]));
    }
}

#[test]
fn authenticator_inputs() {
    let vectors = file(include_str!("vectors/rfc9577-auth_scheme_token_v14.json"));
    assert!(vectors.len() >= 4);
    for vector in vectors {
        let token_type = u16::from_be_bytes(array(&vector["token_type"]));
        let context = bytes(&vector["redemption_context"]);
        let challenge = TokenChallenge::of_type(
            token_type,
            &bytes(&vector["issuer_name"]),
            (!context.is_empty()).then(|| context.try_into().unwrap()),
            &bytes(&vector["origin_info"]),
        )
        .unwrap();
        let input = [
            token_type.to_be_bytes().to_vec(),
            bytes(&vector["nonce"]),
            challenge.digest().to_vec(),
            bytes(&vector["token_key_id"]),
        ]
        .concat();
        assert_eq!(input, bytes(&vector["token_authenticator_input"]));
    }
}

#[test]
fn challenge_headers() {
    let mut vectors = file(include_str!("vectors/rfc9577-auth_scheme_header_v14.json"));
    vectors.extend(file(include_str!("vectors/rfc9577-auth_scheme_header_complicated.json")));
    assert!(vectors.len() >= 2);
    for vector in vectors {
        let header = vector["WWW-Authenticate"].as_str().unwrap();
        let challenges = parse_www_authenticate(header).unwrap();
        let expected: Vec<usize> =
            (0..).take_while(|i| vector.get(format!("token-type-{i}")).is_some()).collect();
        assert_eq!(challenges.len(), expected.len());
        for (found, i) in challenges.iter().zip(expected) {
            assert_eq!(
                u64::from(found.challenge.token_type()),
                vector[format!("token-type-{i}")].as_u64().unwrap()
            );
            assert_eq!(found.challenge.to_bytes(), bytes(&vector[format!("token-challenge-{i}")]));
            let key = &vector[format!("token-key-{i}")];
            assert_eq!(found.token_key.as_deref(), Some(bytes(key).as_slice()));
            let max_age = &vector[format!("max-age-{i}")];
            assert_eq!(
                found.max_age,
                max_age.as_str().map_or(max_age.as_u64(), |s| s.parse().ok())
            );
        }
        assert!(!auth_schemes(header).unwrap().is_empty());
    }
}
