//! What must hold for every batch and every flipped bit.

mod common;

use common::{pairing, rng, tokens};
use proptest::prelude::*;
use tocyn_protocol::challenge::TokenChallenge;
use tocyn_protocol::codec::{Reader, put_varint_bytes};
use tocyn_protocol::issuance::{
    AmortizedBatchTokenRequest, AmortizedBatchTokenResponse, Issuer, PendingBatch, TokenRequest,
    TokenResponse,
};
use tocyn_protocol::redemption::{Authorization, BoundToken, Redeemer};
use tocyn_protocol::relay::{CellDecoder, MessageId, PostReceipt, pack, unpack};
use tocyn_protocol::token::Token;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_batch_is_issued_and_every_token_redeemed(count in 1usize..40, epoch in 0u64..1000) {
        let pairing = pairing("relay.example");
        let redeemer = Redeemer::new(&pairing, &[epoch]);
        for (i, token) in tokens(&pairing, epoch, count).iter().enumerate() {
            let id = MessageId::of(&i.to_be_bytes());
            let wire = token.to_bytes();
            prop_assert_eq!(&*Token::from_bytes(&wire).unwrap().to_bytes(), &*wire);
            for header in [
                token.header_value(),
                BoundToken::new(token, "relay.example", &id).header_value(),
            ] {
                let redeemed =
                    redeemer.redeem(&Authorization::parse(&header).unwrap(), &id).unwrap();
                prop_assert_eq!(redeemed.epoch(), epoch);
                prop_assert_eq!(redeemed.message_id(), id);
                prop_assert_eq!(&redeemed.spend_key().nonce, token.nonce());
            }
        }
    }

    #[test]
    fn single_requests_answered_together_are_answered_each(count in 0usize..20) {
        let pairing = pairing("relay.example");
        let issuer = Issuer::new(pairing.key_pair(0));
        let (public, challenge) = (*pairing.key_pair(0).public(), pairing.challenge());
        let (requests, pending): (Vec<_>, Vec<_>) =
            (0..count).map(|_| TokenRequest::new(&public, &challenge, &mut rng())).unzip();
        let requests: Vec<_> = requests.iter().collect();
        let answers = issuer.evaluate_many(&requests, &mut rng());
        prop_assert_eq!(answers.len(), count);
        let redeemer = Redeemer::new(&pairing, &[0]);
        for ((answer, pending), request) in answers.iter().zip(pending).zip(requests) {
            // The element is the one that a request by itself gets; the proof is another.
            let alone = issuer.evaluate(request, &mut rng());
            prop_assert_eq!(&alone.to_bytes()[..32], &answer.to_bytes()[..32]);
            let wire = TokenResponse::from_bytes(&answer.to_bytes()).unwrap();
            let token = pending.finalize(&wire).unwrap();
            let id = MessageId::of(b"message");
            prop_assert!(redeemer.redeem(&Authorization::Bearer(token), &id).is_ok());
        }
    }

    #[test]
    fn wire_types_survive_a_round_trip(count in 1usize..80) {
        let pairing = pairing("relay.example");
        let key = pairing.key_pair(0);
        let public = *key.public();
        let issuer = Issuer::new(key);
        let challenge = pairing.challenge();
        let (request, pending) =
            AmortizedBatchTokenRequest::new(&public, &challenge, count, &mut rng()).unwrap();
        let wire = request.to_bytes();
        prop_assert_eq!(AmortizedBatchTokenRequest::declared_len(&wire).unwrap(), count);
        prop_assert_eq!(&AmortizedBatchTokenRequest::from_bytes(&wire).unwrap(), &request);
        let (again, _) =
            PendingBatch::from_bytes(&public, &challenge, &pending.to_bytes()).unwrap();
        prop_assert_eq!(again.to_bytes(), wire);
        let response = issuer.evaluate_batch(&request, &mut rng());
        let wire = response.to_bytes();
        prop_assert_eq!(AmortizedBatchTokenResponse::from_bytes(&wire).unwrap(), response);

        let (request, pending) = TokenRequest::new(&public, &challenge, &mut rng());
        prop_assert_eq!(&TokenRequest::from_bytes(&request.to_bytes()).unwrap(), &request);
        let response = issuer.evaluate(&request, &mut rng());
        prop_assert_eq!(&TokenResponse::from_bytes(&response.to_bytes()).unwrap(), &response);
        pending.finalize(&response).unwrap();
    }

    #[test]
    fn challenges_survive_a_round_trip(
        token_type: u16,
        issuer in prop::collection::vec(any::<u8>(), 1..300),
        context: Option<[u8; 32]>,
        origin in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let challenge = TokenChallenge::of_type(token_type, &issuer, context, &origin).unwrap();
        prop_assert_eq!(TokenChallenge::from_bytes(&challenge.to_bytes()).unwrap(), challenge);
    }

    #[test]
    fn varints_are_exact(len in 0usize..20_000, extra in prop::collection::vec(any::<u8>(), 0..4)) {
        let mut wire = Vec::new();
        put_varint_bytes(&mut wire, &vec![1; len]);
        wire.extend_from_slice(&extra);
        let mut reader = Reader::new("test", &wire);
        prop_assert_eq!(reader.varint_bytes("field").unwrap().len(), len);
        prop_assert_eq!(reader.finish().is_ok(), extra.is_empty());
    }

    #[test]
    fn decoders_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), text in ".{0,200}") {
        let _ = TokenRequest::from_bytes(&bytes);
        let _ = TokenResponse::from_bytes(&bytes);
        let _ = AmortizedBatchTokenRequest::from_bytes(&bytes);
        let _ = AmortizedBatchTokenResponse::from_bytes(&bytes);
        let _ = TokenChallenge::from_bytes(&bytes);
        let _ = Token::from_bytes(&bytes);
        let _ = unpack(&bytes);
        let _ = Authorization::parse(&text);
        let _ = Authorization::parse(&format!("PrivateToken token={text}"));
    }

    #[test]
    fn cells_and_their_stream(
        text in prop::collection::vec(any::<u8>(), 0..100),
        cuts in prop::collection::vec(1usize..50, 1..20),
    ) {
        let cell = pack(&text, 128).unwrap();
        prop_assert_eq!(unpack(&cell).unwrap(), &text);
        let stream: Vec<u8> =
            (1u64..=5).flat_map(|seq| [&seq.to_be_bytes()[..], &cell].concat()).collect();
        let (mut decoder, mut got, mut rest) = (CellDecoder::new(128), Vec::new(), &stream[..]);
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (head, tail) = rest.split_at((*cut).min(rest.len()));
            got.extend(decoder.push(head));
            rest = tail;
        }
        prop_assert!(decoder.is_empty());
        prop_assert_eq!(got, (1u64..=5).map(|seq| (seq, cell.clone())).collect::<Vec<_>>());
    }

    #[test]
    fn receipts_survive_json(seq: u64, received_at: u64, cell: Vec<u8>) {
        let receipt = PostReceipt { seq, message_id: MessageId::of(&cell), received_at };
        let json = serde_json::to_string(&receipt).unwrap();
        prop_assert_eq!(serde_json::from_str::<PostReceipt>(&json).unwrap(), receipt);
    }
}

fn flips(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    (0..bytes.len() * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    })
}

#[test]
fn every_flipped_bit_of_a_token_is_found() {
    let pairing = pairing("relay.example");
    let redeemer = Redeemer::new(&pairing, &[0]);
    let token = tokens(&pairing, 0, 1).remove(0);
    let id = MessageId::of(b"message");
    for flipped in flips(&token.to_bytes()) {
        let passed = Token::from_bytes(&flipped)
            .is_ok_and(|token| redeemer.redeem(&Authorization::Bearer(token), &id).is_ok());
        assert!(!passed);
    }
}

#[test]
fn every_flipped_bit_of_a_bound_post_is_found() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    let pairing = pairing("relay.example");
    let redeemer = Redeemer::new(&pairing, &[0]);
    let token = tokens(&pairing, 0, 1).remove(0);
    let cell = pack(b"message", 64).unwrap();
    let id = MessageId::of(&cell);
    let header = BoundToken::new(&token, "relay.example", &id).header_value();
    let parsed = Authorization::parse(&header).unwrap();
    redeemer.redeem(&parsed, &id).unwrap();
    for flipped in flips(&cell) {
        assert!(redeemer.redeem(&parsed, &MessageId::of(&flipped)).is_err());
    }
    let parts: Vec<Vec<u8>> = header
        .split('"')
        .skip(1)
        .step_by(2)
        .map(|text| URL_SAFE_NO_PAD.decode(text).unwrap())
        .collect();
    let [input, binding] = parts.try_into().unwrap();
    let passes = |input: &[u8], binding: &[u8]| {
        let header = format!(
            "TocynBound input=\"{}\", binding=\"{}\"",
            URL_SAFE_NO_PAD.encode(input),
            URL_SAFE_NO_PAD.encode(binding)
        );
        Authorization::parse(&header).is_ok_and(|parsed| redeemer.redeem(&parsed, &id).is_ok())
    };
    assert!(passes(&input, &binding));
    for flipped in flips(&input) {
        assert!(!passes(&flipped, &binding));
    }
    for flipped in flips(&binding) {
        assert!(!passes(&input, &flipped));
    }
}

#[test]
fn every_flipped_bit_of_an_answer_is_found() {
    let pairing = pairing("relay.example");
    let key = pairing.key_pair(0);
    let public = *key.public();
    let issuer = Issuer::new(key);
    let challenge = pairing.challenge();
    let (request, pending) =
        AmortizedBatchTokenRequest::new(&public, &challenge, 2, &mut rng()).unwrap();
    let saved = pending.to_bytes();
    let again = || PendingBatch::from_bytes(&public, &challenge, &saved).unwrap().1;
    let answer = issuer.evaluate_batch(&request, &mut rng()).to_bytes();
    again().finalize(&AmortizedBatchTokenResponse::from_bytes(&answer).unwrap()).unwrap();
    for flipped in flips(&answer) {
        let passed = AmortizedBatchTokenResponse::from_bytes(&flipped)
            .is_ok_and(|answer| again().finalize(&answer).is_ok());
        assert!(!passed);
    }
}
