//! Inputs to begin with: real values, made as the programs make them, and some that are nearly so.

mod documents;
mod signed;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tocyn_client::group::invite::Invite;
use tocyn_client::group::message::{AuthorKey, Content, Id};
use tocyn_client::group::parts::split;
use tocyn_protocol::challenge::{TokenChallenge, www_authenticate};
use tocyn_protocol::issuance::TokenRequest;
use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::redemption::BoundToken;
use tocyn_protocol::relay::MessageId;

use crate::fixed::{
    CELLS, Drawn, ISSUER, LOG_KEY, NOW, PAIRING, PUBLIC, SECRET, STATEMENT, VERIFIER,
};
use crate::issuance::asked;
use crate::{TARGETS, Target};

/// Each with the name of its target and a name of its own.
pub fn all() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let signed = [signed::notes(), signed::log(), signed::evidence()].concat();
    let values = [tokens(), signed, documents::documents(), group()].concat();
    for (target, decoder, bytes) in values {
        let number = seeds.iter().filter(|(name, _, _)| *name == target).count();
        let target: &Target = TARGETS.into_iter().find(|one| one.name == target).unwrap();
        let name = format!("{number:02}-{}", decoder.replace(' ', "-").to_ascii_lowercase());
        seeds.push((target.name, name, target.input(decoder, &bytes)));
    }
    seeds
}

type Seeds = Vec<(&'static str, &'static str, Vec<u8>)>;

fn tokens() -> Seeds {
    let rng = &mut Drawn::from(30);
    let challenge = PAIRING.challenge();
    let with_context = TokenChallenge::new("issuer", Some([9; 32]), "").unwrap();
    let (one, pending_one) = TokenRequest::new(&PUBLIC, &challenge, rng);
    let one_answer = ISSUER.evaluate(&one, rng);
    let (request, pending) = asked();
    let saved = pending.to_bytes().to_vec();
    let answer = ISSUER.evaluate_batch(&request, rng);
    let token = pending.finalize(&answer).unwrap().remove(0);
    let bearer = pending_one.finalize(&one_answer).unwrap().header_value();
    let id = MessageId::of(b"paid");
    let bound = BoundToken::new(&token, PAIRING.origin_name(), &id).header_value();
    let answer = answer.to_bytes();
    let elements = request.to_bytes()[5..].to_vec();
    let asks = www_authenticate(&challenge, &PUBLIC);
    vec![
        ("tokens", "token challenge", challenge.to_bytes()),
        ("tokens", "token challenge", with_context.to_bytes()),
        ("tokens", "authenticator input", token.input().to_bytes().to_vec()),
        ("tokens", "token", token.to_bytes().to_vec()),
        ("tokens", "message id", id.to_string().into_bytes()),
        ("issuance", "token request", one.to_bytes()),
        ("issuance", "token response", one_answer.to_bytes()),
        ("issuance", "batch request", request.to_bytes()),
        ("issuance", "batch response", answer.clone()),
        ("issuance", "saved batch", saved.clone()),
        ("issuance", "answer to a request", answer.clone()),
        ("issuance", "public key", PUBLIC.to_bytes().to_vec()),
        ("issuance", "private key", vec![3; 32].into_iter().chain([0]).collect()),
        ("issuance", "elements", [&elements[..], &elements].concat()),
        ("issuance", "proof and blind", answer[answer.len() - 64..].to_vec()),
        ("issuance", "varint", [&[0x40, 0x50][..], &[7; 0x50]].concat()),
        ("headers", "schemes", b"Basic dXNlcg==, PrivateToken token=\"AA==\", a=b".to_vec()),
        ("headers", "schemes", b"TocynBound input = AAAA ,binding=\"B\\\"\"".to_vec()),
        ("headers", "Authorization", bound.into_bytes()),
        ("headers", "Authorization", bearer.into_bytes()),
        ("headers", "WWW-Authenticate", asks.clone().into_bytes()),
        ("headers", "WWW-Authenticate", format!("{asks}, max-age=10, Basic a=b").into_bytes()),
        ("headers", "voucher code", b"tv1-0123456789ABCDEFGHJKMNPQRS2".to_vec()),
        ("headers", "PROXY line", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / ".to_vec()),
        ("headers", "PROXY line", b"PROXY TCP6 fc00:dead::12:3456 ::1 65535 80\r\n".to_vec()),
        ("headers", "PROXY line", b"PROXY UNKNOWN what ever\r\n".to_vec()),
        ("headers", "voucher code", b" TV1-00000000000000000-000000000o ".to_vec()),
    ]
}

fn group() -> Seeds {
    let rng = &mut Drawn::from(31);
    let invite = Invite {
        secret: SECRET.clone(),
        name: "friends".to_owned(),
        log_key: VERIFIER.clone(),
        statement: STATEMENT.commitment().hash,
        issuer: "http://issuer.example".parse().unwrap(),
        cell_bytes: 2048,
        relays: vec!["http://relay.example".parse().unwrap(), "http://b.onion".parse().unwrap()],
    };
    let invite = invite.to_secret_text().to_string();
    let coded = invite.strip_prefix("tocyn:group:").unwrap();
    let fields = URL_SAFE_NO_PAD.decode(coded).unwrap();
    let fields = fields[..fields.len() - 4].to_vec();
    let author = AuthorKey::generate(rng);
    let (root, keys) = (signed::tree().1.root(), STATEMENT.commitment());
    let checkpoint = Checkpoint { size: 10, root, keys }.sign(&LOG_KEY);
    let content = Content {
        counter: 3,
        time: NOW,
        name: "Ada".to_owned(),
        parents: vec![Id([1; 32]), Id([2; 32])],
        checkpoint: Some(checkpoint),
        body: b"hello".to_vec(),
    };
    let message = content.encode(author.author());
    let plaintext = split(&message, &author, &SECRET.id(&VERIFIER), 512).unwrap().remove(0);
    let mut many = content.clone();
    many.parents = vec![Id([1; 32]); 16];
    let mut too_many = many.encode(author.author());
    too_many[32 + 1 + 8 + 8 + 2 + 3] = 17;
    vec![
        ("group", "invite", format!(" {invite}\n").into_bytes()),
        ("group", "fields of an invite", fields),
        ("group", "cell", CELLS.seal(&plaintext, rng)),
        ("group", "plaintext in a cell", [&[0, 200][..], &plaintext].concat()),
        ("group", "part", plaintext),
        ("group", "part that is signed", [&[0, 0, 0, 1][..], &[5; 32], &[3], b"bytes"].concat()),
        ("group", "part that is signed", [&[15, 255, 16, 0][..], &[5; 32], &[0]].concat()),
        ("group", "message", message.clone()),
        ("group", "message", many.encode(author.author())),
        ("group", "message", too_many),
        ("group", "message in parts", [&[0, 250][..], &message].concat()),
        ("group", "message in parts", vec![0, 10]),
        ("group", "order", vec![9, 0, 8, 1, 7, 3, 6, 7, 5, 0, 4, 1]),
    ]
}
