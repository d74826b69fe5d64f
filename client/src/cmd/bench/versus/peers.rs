//! The other implementations. Each is used as its own documentation shows, with its batch
//! functions where it has them.

use challenge_bypass_ristretto::voprf as bypass;
use getrandom::SysRng;
use hmac_12::Hmac;
use rand_08::RngCore;
use rand_08::rngs::OsRng;
use sha2_10::Sha512;

use super::super::steps::{Implementation, Step, timed};

/// An input as long as ours.
fn inputs(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|i| vec![i as u8; 98]).collect()
}

/// `voprf` and `voprf-ng` have the same functions over different generators.
macro_rules! voprf_like {
    ($peer:ident, $library:ident, $name:literal, $rng:expr) => {
        pub(crate) struct $peer($library::VoprfServer<$library::Ristretto255>);

        impl $peer {
            pub(crate) fn new() -> Self {
                Self($library::VoprfServer::new(&mut $rng).expect("there is randomness"))
            }

            #[allow(clippy::type_complexity)] // the library's own types
            fn blinded(
                count: usize,
            ) -> (Vec<Vec<u8>>, Vec<$library::VoprfClient<$library::Ristretto255>>) {
                inputs(count)
                    .iter()
                    .map(|input| {
                        let made = $library::VoprfClient::blind(input, &mut $rng);
                        let made = made.expect("there is randomness");
                        (made.message.serialize().to_vec(), made.state)
                    })
                    .unzip()
            }

            fn answer(
                server: &$library::VoprfServer<$library::Ristretto255>,
                wire: &[Vec<u8>],
            ) -> (Vec<Vec<u8>>, Vec<u8>) {
                let blinded: Vec<$library::BlindedElement<$library::Ristretto255>> = wire
                    .iter()
                    .map(|bytes| $library::BlindedElement::deserialize(bytes).expect("it is good"))
                    .collect();
                let result = server.batch_blind_evaluate(&mut $rng, &blinded);
                let result = result.expect("there is randomness");
                let elements = result.messages.iter().map(|e| e.serialize().to_vec()).collect();
                (elements, result.proof.serialize().to_vec())
            }
        }

        impl Implementation for $peer {
            fn name(&self) -> &'static str {
                $name
            }

            fn blind(&self, count: usize) -> Step {
                Box::new(move || timed(|| Self::blinded(count)))
            }

            fn issue(&self, count: usize) -> Step {
                let (server, wire) = (self.0.clone(), Self::blinded(count).0);
                Box::new(move || timed(|| Self::answer(&server, &wire)))
            }

            fn finalize(&self, count: usize) -> Step {
                let (server, (wire, clients)) = (self.0.clone(), Self::blinded(count));
                let (elements, proof) = Self::answer(&server, &wire);
                let inputs = inputs(count);
                Box::new(move || {
                    let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
                    timed(|| {
                        let elements: Vec<$library::EvaluationElement<$library::Ristretto255>> =
                            elements
                                .iter()
                                .map(|bytes| $library::EvaluationElement::deserialize(bytes))
                                .collect::<Result<_, _>>()
                                .expect("they are good");
                        let proof = $library::Proof::deserialize(&proof).expect("it is good");
                        let key = server.get_public_key();
                        $library::VoprfClient::batch_finalize(
                            &inputs, &clients, &elements, &proof, key,
                        )
                        .expect("it is genuine")
                        .map(|output| output.expect("it is genuine").to_vec())
                        .collect::<Vec<_>>()
                    })
                })
            }

            fn redeem(&self, count: usize) -> Step {
                let (server, inputs) = (self.0.clone(), inputs(count));
                Box::new(move || {
                    timed(|| {
                        let outputs = inputs.iter().map(|input| server.evaluate(input));
                        outputs.map(|o| o.expect("it is good").to_vec()).collect::<Vec<_>>()
                    })
                })
            }
        }
    };
}

voprf_like!(Voprf, voprf, "voprf", OsRng);
voprf_like!(VoprfNg, voprf_ng, "voprf-ng", SysRng);

/// `challenge-bypass-ristretto`, with its own hash to the group and its own proof.
pub(crate) struct Bypass(bypass::SigningKey);

impl Bypass {
    pub(crate) fn new() -> Self {
        Self(bypass::SigningKey::random(&mut OsRng))
    }

    fn key(&self) -> bypass::SigningKey {
        bypass::SigningKey::from_bytes(&self.0.to_bytes()).expect("it is good")
    }

    fn blinded(count: usize) -> (Vec<bypass::Token>, Vec<[u8; 32]>) {
        (0..count)
            .map(|_| {
                let token = bypass::Token::random::<Sha512, _>(&mut OsRng);
                let blinded = token.blind().to_bytes();
                (token, blinded)
            })
            .unzip()
    }

    fn answer(key: &bypass::SigningKey, wire: &[[u8; 32]]) -> (Vec<[u8; 32]>, [u8; 64]) {
        let blinded: Vec<_> = wire
            .iter()
            .map(|bytes| bypass::BlindedToken::from_bytes(bytes).expect("it is good"))
            .collect();
        let signed: Vec<_> = blinded.iter().map(|b| key.sign(b).expect("it is good")).collect();
        let proof = bypass::BatchDLEQProof::new::<Sha512, _>(&mut OsRng, &blinded, &signed, key);
        let proof = proof.expect("they are good").to_bytes();
        (signed.iter().map(bypass::SignedToken::to_bytes).collect(), proof)
    }
}

impl Implementation for Bypass {
    fn name(&self) -> &'static str {
        "bypass-ristretto"
    }

    fn blind(&self, count: usize) -> Step {
        Box::new(move || timed(|| Self::blinded(count)))
    }

    fn issue(&self, count: usize) -> Step {
        let (key, wire) = (self.key(), Self::blinded(count).1);
        Box::new(move || timed(|| Self::answer(&key, &wire)))
    }

    fn finalize(&self, count: usize) -> Step {
        let (key, (tokens, wire)) = (self.key(), Self::blinded(count));
        let (signed, proof) = Self::answer(&key, &wire);
        let blinded: Vec<_> = wire
            .iter()
            .map(|bytes| bypass::BlindedToken::from_bytes(bytes).expect("it is good"))
            .collect();
        Box::new(move || {
            timed(|| {
                let signed: Vec<_> = signed
                    .iter()
                    .map(|bytes| bypass::SignedToken::from_bytes(bytes).expect("it is good"))
                    .collect();
                let proof = bypass::BatchDLEQProof::from_bytes(&proof).expect("it is good");
                let unblinded = proof
                    .verify_and_unblind::<Sha512, _>(&tokens, &blinded, &signed, &key.public_key)
                    .expect("it is genuine");
                unblinded.iter().map(|t| t.derive_verification_key::<Sha512>()).collect::<Vec<_>>()
            })
        })
    }

    fn redeem(&self, count: usize) -> Step {
        let (key, message) = (self.key(), [7; 32]);
        let redemptions: Vec<_> = (0..count)
            .map(|_| {
                // What unblinding would give, by the short way that the key opens.
                let mut preimage = [0; 64];
                OsRng.fill_bytes(&mut preimage);
                let preimage = bypass::TokenPreimage::from_bytes(&preimage).expect("it is good");
                let unblinded = key.rederive_unblinded_token(&preimage);
                let verification = unblinded.derive_verification_key::<Sha512>();
                (preimage.to_bytes(), verification.sign::<Hmac<Sha512>>(&message))
            })
            .collect();
        Box::new(move || {
            timed(|| {
                for (preimage, signature) in &redemptions {
                    let preimage = bypass::TokenPreimage::from_bytes(preimage).expect("it is good");
                    let unblinded = key.rederive_unblinded_token(&preimage);
                    let verification = unblinded.derive_verification_key::<Sha512>();
                    assert!(verification.verify::<Hmac<Sha512>>(signature, &message));
                }
            })
        })
    }
}
