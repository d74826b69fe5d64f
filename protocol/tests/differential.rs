//! Each side's client against the other side's server: this crate and crate `voprf`.

mod common;

use common::rng;
use tocyn_protocol::dleq::Proof;
use tocyn_protocol::elements::Elements;
use tocyn_protocol::keys::{KeyPair, PublicKey};
use tocyn_protocol::voprf::{Blind, blind, blind_evaluate, evaluate, finalize};
use voprf::{BlindedElement, EvaluationElement, Ristretto255, VoprfClient, VoprfServer};

type Server = VoprfServer<Ristretto255>;
type Client = VoprfClient<Ristretto255>;

const SEED: [u8; 32] = [0x42; 32];
const INFO: &[u8] = b"PrivacyPass";

fn theirs_server() -> Server {
    Server::new_from_seed(&SEED, INFO).unwrap()
}

#[test]
fn the_same_seed_gives_the_same_key_and_prf() {
    let ours = KeyPair::derive(&SEED, INFO);
    let theirs = theirs_server();
    let element = <Ristretto255 as voprf::Group>::serialize_elem(theirs.get_public_key());
    assert_eq!(ours.public().to_bytes(), <[u8; 32]>::from(element));
    for len in [0usize, 1, 98, 500] {
        let input = vec![len as u8; len];
        assert_eq!(
            evaluate(ours.private(), &input).as_slice(),
            &theirs.evaluate(&input).unwrap()[..]
        );
    }
}

#[test]
fn our_client_with_their_server() {
    let server = theirs_server();
    let public = KeyPair::derive(&SEED, INFO).public().to_bytes();
    let public = PublicKey::from_bytes(&public).unwrap();
    for count in [1usize, 2, 17] {
        let inputs: Vec<Vec<u8>> = (0..count).map(|i| vec![i as u8; 98]).collect();
        let blinds: Vec<Blind> = inputs.iter().map(|_| Blind::random(&mut rng())).collect();
        let blinded = blind(&inputs, &blinds);
        let for_them: Vec<BlindedElement<Ristretto255>> =
            blinded.as_bytes().iter().map(|e| BlindedElement::deserialize(e).unwrap()).collect();
        let result = server.batch_blind_evaluate(&mut rand_core_06::OsRng, &for_them).unwrap();
        let proof = Proof::from_bytes(&result.proof.serialize().into()).unwrap();
        let evaluated: Vec<[u8; 32]> =
            result.messages.iter().map(|e| e.serialize().into()).collect();
        let evaluated = Elements::from_bytes("test", &evaluated).unwrap();
        let outputs = finalize(&public, &inputs, &blinds, &blinded, &evaluated, &proof).unwrap();
        for (input, output) in inputs.iter().zip(outputs) {
            assert_eq!(output.as_slice(), &server.evaluate(input).unwrap()[..]);
        }
    }
}

#[test]
fn their_client_with_our_server() {
    let key = KeyPair::derive(&SEED, INFO);
    let their_key = theirs_server().get_public_key();
    for count in [1usize, 2, 17] {
        let inputs: Vec<Vec<u8>> = (0..count).map(|i| vec![i as u8; 98]).collect();
        let (clients, messages): (Vec<Client>, Vec<_>) = inputs
            .iter()
            .map(|input| Client::blind(input, &mut rand_core_06::OsRng).unwrap())
            .map(|result| (result.state, result.message))
            .unzip();
        let blinded: Vec<[u8; 32]> = messages.iter().map(|m| m.serialize().into()).collect();
        let blinded = Elements::from_bytes("test", &blinded).unwrap();
        let (evaluated, proof) = blind_evaluate(&key, &blinded, &mut rng());
        let evaluated: Vec<EvaluationElement<Ristretto255>> = evaluated
            .as_bytes()
            .iter()
            .map(|e| EvaluationElement::deserialize(e).unwrap())
            .collect();
        let proof = voprf::Proof::deserialize(&proof.to_bytes()).unwrap();
        let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        let outputs =
            Client::batch_finalize(&inputs, &clients, &evaluated, &proof, their_key).unwrap();
        for (input, output) in inputs.iter().zip(outputs) {
            assert_eq!(&output.unwrap()[..], evaluate(key.private(), input).as_slice());
        }
    }
}
