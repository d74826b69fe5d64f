//! RFC 9497 appendix A.1.2: VOPRF mode of ristretto255-SHA512, byte for byte.
#![cfg(feature = "hazmat")]

use serde_json::Value;
use tocyn_protocol::elements::Elements;
use tocyn_protocol::hazmat::blind_evaluate_with_nonce;
use tocyn_protocol::keys::{KeyPair, PrivateKey};
use tocyn_protocol::voprf::{Blind, blind, evaluate, finalize};

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

/// A batch stands in one string, its members joined by commas.
fn list(value: &Value) -> Vec<Vec<u8>> {
    value.as_str().unwrap().split(',').map(|hex| hex::decode(hex).unwrap()).collect()
}

#[test]
fn voprf_mode_matches_byte_for_byte() {
    let suites: Value =
        serde_json::from_str(include_str!("vectors/rfc9497-ristretto255-sha512.json")).unwrap();
    let suite = suites.as_array().unwrap().iter().find(|suite| suite["mode"] == 1).unwrap();
    let derived = KeyPair::derive(&array(&suite["seed"]), &bytes(&suite["keyInfo"]));
    let key = KeyPair::new(PrivateKey::from_bytes(array(&suite["skSm"])).unwrap());
    assert_eq!(derived.public(), key.public());
    assert_eq!(key.public().to_bytes().to_vec(), bytes(&suite["pkSm"]));

    let vectors = suite["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 3);
    for vector in vectors {
        let inputs = list(&vector["Input"]);
        let blinds: Vec<Blind> = list(&vector["Blind"])
            .into_iter()
            .map(|b| Blind::from_bytes(b.try_into().unwrap()).unwrap())
            .collect();
        let blinded = blind(&inputs, &blinds);
        assert_eq!(as_bytes(&blinded), list(&vector["BlindedElement"]));

        let r = array(&vector["Proof"]["r"]);
        let (evaluated, proof) = blind_evaluate_with_nonce(&key, &blinded, r).unwrap();
        assert_eq!(as_bytes(&evaluated), list(&vector["EvaluationElement"]));
        assert_eq!(proof.to_bytes().to_vec(), bytes(&vector["Proof"]["proof"]));

        let outputs = list(&vector["Output"]);
        let finalized =
            finalize(key.public(), &inputs, &blinds, &blinded, &evaluated, &proof).unwrap();
        assert_eq!(finalized.iter().map(|o| o.to_vec()).collect::<Vec<_>>(), outputs);
        for (input, output) in inputs.iter().zip(&outputs) {
            assert_eq!(evaluate(key.private(), input).as_slice(), output);
        }

        // The same tokens over and over: a batch long enough to be computed eight at a time.
        let (inputs, outputs) = (nine_times(inputs), nine_times(outputs));
        let blinds: Vec<Blind> = nine_times(list(&vector["Blind"]))
            .into_iter()
            .map(|b| Blind::from_bytes(b.try_into().unwrap()).unwrap())
            .collect();
        let blinded = blind(&inputs, &blinds);
        assert_eq!(as_bytes(&blinded), nine_times(list(&vector["BlindedElement"])));
        let (evaluated, proof) = blind_evaluate_with_nonce(&key, &blinded, r).unwrap();
        assert_eq!(as_bytes(&evaluated), nine_times(list(&vector["EvaluationElement"])));
        let finalized =
            finalize(key.public(), &inputs, &blinds, &blinded, &evaluated, &proof).unwrap();
        assert_eq!(finalized.iter().map(|o| o.to_vec()).collect::<Vec<_>>(), outputs);
    }
}

fn as_bytes(elements: &Elements) -> Vec<Vec<u8>> {
    elements.as_bytes().iter().map(|bytes| bytes.to_vec()).collect()
}

fn nine_times(items: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    std::iter::repeat_n(items, 9).flatten().collect()
}
