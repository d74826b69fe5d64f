//! Every step of a token beside crate `voprf`, in one run. `voprf` works on serialized
//! messages here too: both sides go from wire bytes to wire bytes.
//!
//! ```text
//! cargo bench -p tocyn-protocol
//! ```

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use getrandom::SysRng;
use rand_core::UnwrapErr;
use rand_core_06::OsRng;
use tocyn_protocol::issuance::{
    AmortizedBatchTokenRequest, AmortizedBatchTokenResponse, Issuer, PendingBatch,
};
use tocyn_protocol::keys::KeyPair;
use tocyn_protocol::pairing::Pairing;
use tocyn_protocol::redemption::{Authorization, Redeemer};
use tocyn_protocol::relay::MessageId;
use voprf::{BlindedElement, EvaluationElement, Proof, Ristretto255, VoprfClient, VoprfServer};

type Server = VoprfServer<Ristretto255>;
type Client = VoprfClient<Ristretto255>;

const SIZES: [usize; 4] = [1, 16, 64, 256];

fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

fn pairing() -> Pairing {
    Pairing::generate("issuer.example", "relay.example", 0, 86_400, &mut rng()).unwrap()
}

/// A 98-byte input for each token, as a token has.
fn inputs(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|i| vec![i as u8; 98]).collect()
}

fn blind(c: &mut Criterion) {
    let mut group = c.benchmark_group("blind");
    let (pairing, public) = (pairing(), *pairing().key_pair(0).public());
    let challenge = pairing.challenge();
    group.bench_function("tocyn", |b| {
        b.iter(|| AmortizedBatchTokenRequest::new(&public, &challenge, 1, &mut rng()).unwrap().1)
    });
    group.bench_function("voprf", |b| {
        b.iter(|| {
            let result = Client::blind(&[7; 98], &mut OsRng).unwrap();
            (result.message.serialize(), result.state)
        })
    });
}

fn evaluate(c: &mut Criterion) {
    let mut group = c.benchmark_group("evaluate");
    let (pairing, server) = (pairing(), Server::new(&mut OsRng).unwrap());
    let issuer = Issuer::new(pairing.key_pair(0));
    for count in SIZES {
        group.throughput(Throughput::Elements(count as u64));
        let (request, _) = batch(&pairing, count);
        let wire = request.to_bytes();
        group.bench_with_input(BenchmarkId::new("tocyn", count), &wire, |b, wire| {
            b.iter(|| {
                let request = AmortizedBatchTokenRequest::from_bytes(wire).unwrap();
                issuer.evaluate_batch(&request, &mut rng()).to_bytes()
            })
        });
        let (wire, _) = their_request(count);
        group.bench_with_input(BenchmarkId::new("voprf", count), &wire, |b, wire| {
            b.iter(|| their_answer(&server, wire))
        });
    }
}

fn finalize(c: &mut Criterion) {
    let mut group = c.benchmark_group("finalize");
    let (pairing, server) = (pairing(), Server::new(&mut OsRng).unwrap());
    let key = pairing.key_pair(0);
    let public = *key.public();
    let issuer = Issuer::new(key);
    for count in SIZES {
        group.throughput(Throughput::Elements(count as u64));
        let (request, pending) = batch(&pairing, count);
        let saved = pending.to_bytes();
        let wire = issuer.evaluate_batch(&request, &mut rng()).to_bytes();
        let again = || PendingBatch::from_bytes(&public, &pairing.challenge(), &saved).unwrap().1;
        group.bench_function(BenchmarkId::new("tocyn", count), |b| {
            b.iter_batched(
                again,
                |pending| {
                    let answer = AmortizedBatchTokenResponse::from_bytes(black_box(&wire)).unwrap();
                    pending.finalize(&answer).unwrap()
                },
                criterion::BatchSize::LargeInput,
            )
        });
        let inputs = inputs(count);
        let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        let (wire, clients) = their_request(count);
        let (elements, proof) = their_answer(&server, &wire);
        group.bench_function(BenchmarkId::new("voprf", count), |b| {
            b.iter(|| {
                let elements: Vec<EvaluationElement<Ristretto255>> = black_box(&elements)
                    .iter()
                    .map(|bytes| EvaluationElement::deserialize(bytes).unwrap())
                    .collect();
                let proof = Proof::deserialize(&proof).unwrap();
                let key = server.get_public_key();
                Client::batch_finalize(&inputs, &clients, &elements, &proof, key)
                    .unwrap()
                    .map(Result::unwrap)
                    .collect::<Vec<_>>()
            })
        });
    }
}

fn redeem(c: &mut Criterion) {
    let mut group = c.benchmark_group("redeem");
    let (pairing, server) = (pairing(), Server::new(&mut OsRng).unwrap());
    let redeemer = Redeemer::new(&pairing, &[0]);
    let (request, pending) = batch(&pairing, 1);
    let answer = Issuer::new(pairing.key_pair(0)).evaluate_batch(&request, &mut rng());
    let header = pending.finalize(&answer).unwrap()[0].header_value();
    let id = MessageId::of(&[0; 2048]);
    group.bench_function("tocyn", |b| {
        b.iter(|| {
            let authorization = Authorization::parse(black_box(&header)).unwrap();
            redeemer.redeem(&authorization, &id).unwrap()
        })
    });
    group.bench_function("voprf", |b| b.iter(|| server.evaluate(black_box(&[7; 98])).unwrap()));
}

fn batch(pairing: &Pairing, count: usize) -> (AmortizedBatchTokenRequest, PendingBatch) {
    let key: KeyPair = pairing.key_pair(0);
    AmortizedBatchTokenRequest::new(key.public(), &pairing.challenge(), count, &mut rng()).unwrap()
}

fn their_request(count: usize) -> (Vec<Vec<u8>>, Vec<Client>) {
    inputs(count)
        .iter()
        .map(|input| Client::blind(input, &mut OsRng).unwrap())
        .map(|result| (result.message.serialize().to_vec(), result.state))
        .unzip()
}

fn their_answer(server: &Server, wire: &[Vec<u8>]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let blinded: Vec<BlindedElement<Ristretto255>> =
        wire.iter().map(|bytes| BlindedElement::deserialize(bytes).unwrap()).collect();
    let result = server.batch_blind_evaluate(&mut OsRng, &blinded).unwrap();
    let elements = result.messages.iter().map(|e| e.serialize().to_vec()).collect();
    (elements, result.proof.serialize().to_vec())
}

criterion_group!(benches, blind, evaluate, finalize, redeem);
criterion_main!(benches);
