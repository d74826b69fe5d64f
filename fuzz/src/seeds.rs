//! Inputs to begin with: real values, made as the programs make them, and some that are nearly so.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use tocyn_client::evidence::Evidence;
use tocyn_client::group::invite::Invite;
use tocyn_client::group::message::{AuthorKey, Content, Id, SeenKey};
use tocyn_client::group::parts::split;
use tocyn_protocol::challenge::{TokenChallenge, www_authenticate};
use tocyn_protocol::directory::{IssuerDirectory, TokenKey};
use tocyn_protocol::issuance::TokenRequest;
use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::evidence::SignedProof;
use tocyn_protocol::log::proof::InclusionProof;
use tocyn_protocol::log::tile::{encode_hashes, put_entry};
use tocyn_protocol::log::tree::{Edge, NodeHash, Nodes, Tree};
use tocyn_protocol::problem::{Problem, ProblemType};
use tocyn_protocol::redemption::BoundToken;
use tocyn_protocol::relay::{
    Limits, MessageId, PostReceipt, ProvenReceipt, RelayInfo, RetentionInfo, Versions, pack,
};

use crate::evidence::Logs;
use crate::fixed::{CELLS, Drawn, ISSUER, LOG_KEY, NOW, PAIRING, PUBLIC, SECRET, VERIFIER};
use crate::issuance::asked;
use crate::{TARGETS, Target};

/// Each with the name of its target and a name of its own.
pub fn all() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let values = [tokens(), log(), documents(), group(), evidence()].concat();
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
    let bound = BoundToken::new(&token, PAIRING.relay_name(), &id).header_value();
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

/// Ten messages.
fn tree() -> (Tree, Edge) {
    let mut tree = Tree::default();
    (0..10u8).for_each(|number| tree.push(MessageId::of(&[number]).into()));
    let edge = Edge::new(tree.size(), &tree).unwrap();
    (tree, edge)
}

fn log() -> Seeds {
    let (tree, edge) = tree();
    let checkpoint = Checkpoint { size: edge.size(), root: edge.root() };
    let note = checkpoint.sign(&LOG_KEY);
    let inclusion = InclusionProof::new(6, &edge, &tree).unwrap();
    let proof = SignedProof { index: 6, inclusion, checkpoint: note.clone() }.to_text();
    let extra = proof.replacen("index", "extra AAAA\nindex", 1);
    // A signature under the same name, with an id of which 30 of 32 bits are ours.
    let (_, line) = note.trim_end().rsplit_once(' ').unwrap();
    let mut id = BASE64.decode(line).unwrap();
    id[3] ^= 1;
    let nearly = format!("a\n\0\u{2014} relay.example {}\n", BASE64.encode(id));
    let hashes: Vec<NodeHash> = (0..10).map(|leaf| tree.node(0, leaf).unwrap()).collect();
    let mut bundle = Vec::new();
    [&b"one"[..], b"", b"three"].iter().for_each(|cell| put_entry(&mut bundle, cell));
    let stream: Vec<u8> =
        (1..4u64).flat_map(|seq| [&seq.to_be_bytes()[..], b"cell"].concat()).collect();
    let mut secret = LOG_KEY.to_secret_text().to_string().into_bytes();
    let key = secret.clone();
    secret[14] ^= 1;
    vec![
        ("notes", "note", note.clone().into_bytes()),
        ("notes", "note", format!("{note}\u{2014} witness AAAAAAAA\n").into_bytes()),
        ("notes", "note that is signed", b"relay.example\n10\nAAAA".to_vec()),
        ("notes", "note that is signed", "a\n\n\0\u{2014} witness AAAAAAAA\n".into()),
        ("notes", "note that is signed", nearly.into_bytes()),
        ("notes", "checkpoint", [&10u64.to_be_bytes()[..], &[7; 32]].concat()),
        ("notes", "checkpoint", [&10u64.to_be_bytes()[..], &[7; 32], b"an extension"].concat()),
        ("notes", "log proof", proof.clone().into_bytes()),
        ("notes", "log proof", extra.into_bytes()),
        ("notes", "verifier key", VERIFIER.to_string().into_bytes()),
        ("notes", "log key", key),
        ("notes", "log key", secret),
        ("log", "tile path", b"tile/0/x001/x234/067".to_vec()),
        ("log", "tile path", b"tile/7/000.p/1".to_vec()),
        ("log", "tile path", b"tile/entries/x999/999.p/255".to_vec()),
        ("log", "tile", [&[0, 10][..], &encode_hashes(&hashes)].concat()),
        ("log", "bundle", bundle),
        ("log", "inclusion", vec![10, 6, 6]),
        ("log", "inclusion", vec![255, 254, 254, 0, 1, 2, 3]),
        ("log", "consistency", vec![6, 10, 0]),
        ("log", "consistency", vec![128, 255, 0, 1, 1]),
        ("log", "any proof", [&[0; 8][..], &[255; 8], &[1; 96]].concat()),
        ("log", "partial tiles", vec![0, 0, 0, 0, 0, 1, 2, 3, 3, 2, 1]),
        ("log", "stream of cells", [&[4, 5][..], &stream].concat()),
        ("log", "plaintext cell", pack(b"text", 64).unwrap()),
    ]
}

fn documents() -> Seeds {
    let token_keys = vec![TokenKey::for_epoch(&PAIRING, 2), TokenKey::for_epoch(&PAIRING, 3)];
    let directory = IssuerDirectory {
        issuer_request_uri: "/token-request".to_owned(),
        token_keys: token_keys.clone(),
    };
    let info = RelayInfo {
        relay_name: PAIRING.relay_name().to_owned(),
        issuer_name: PAIRING.issuer_name().to_owned(),
        cell_bytes: 2048,
        oldest: 1,
        head: 10,
        epoch: 2,
        token_keys,
        log_key: VERIFIER.clone(),
        bearer: true,
        retention: RetentionInfo { max_age_seconds: 100, max_bytes: 0 },
        limits: Limits { max_followers: 5 },
        versions: Versions { relay: "0.1.0".to_owned(), protocol: 1 },
    };
    let (tree, edge) = tree();
    let checkpoint = Checkpoint { size: edge.size(), root: edge.root() }.sign(&LOG_KEY);
    let inclusion = InclusionProof::new(6, &edge, &tree).unwrap();
    let receipt = ProvenReceipt {
        receipt: PostReceipt { seq: 7, message_id: MessageId::of(&[6]), received_at: NOW },
        proof: SignedProof { index: 6, inclusion, checkpoint }.to_text(),
    };
    let mut problem = Problem::new(ProblemType::CellSize, "a cell has 2048 bytes");
    problem.limit = Some(2048);
    let file = toml::to_string(&*PAIRING).unwrap();
    vec![
        ("documents", "issuer directory", serde_json::to_vec(&directory).unwrap()),
        ("documents", "relay info", serde_json::to_vec(&info).unwrap()),
        ("documents", "receipt", serde_json::to_vec(&receipt).unwrap()),
        ("documents", "problem", serde_json::to_vec(&problem).unwrap()),
        ("documents", "pairing", [&NOW.to_be_bytes(), file.as_bytes()].concat()),
        ("documents", "pairing", [&u64::MAX.to_be_bytes(), file.as_bytes()].concat()),
        ("documents", "address", b"http://127.0.0.1:7802/path".to_vec()),
        ("documents", "address", b"https://abc.onion".to_vec()),
    ]
}

fn group() -> Seeds {
    let rng = &mut Drawn::from(31);
    let invite = Invite {
        secret: SECRET.clone(),
        name: "friends".to_owned(),
        log_key: VERIFIER.clone(),
        issuer: "http://issuer.example".parse().unwrap(),
        cell_bytes: 2048,
        relays: vec!["http://relay.example".parse().unwrap(), "http://b.onion".parse().unwrap()],
    };
    let invite = invite.to_secret_text().to_string();
    let coded = invite.strip_prefix("tocyn:group:").unwrap();
    let fields = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(coded).unwrap();
    let fields = fields[..fields.len() - 4].to_vec();
    let author = AuthorKey::generate(rng);
    let content = Content {
        counter: 3,
        time: NOW,
        name: "Ada".to_owned(),
        parents: vec![Id([1; 32]), Id([2; 32])],
        checkpoint: Some("a note\n".to_owned()),
        token_keys: vec![SeenKey { epoch: 2, not_before: NOW, key_id: [3; 32] }],
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

fn evidence() -> Seeds {
    let logs = Logs::new(4, 6, 2);
    let (honest, shorter) = (Logs::new(4, 6, 4), Logs::new(6, 4, 9));
    let faults = [
        logs.forked(),
        logs.unpublished(3),
        shorter.rolled_back(),
        logs.marked(),
        logs.altered(b"served"),
        honest.forked(),
    ];
    let files = faults
        .map(|fault| ("evidence", "file", Evidence::new(&VERIFIER, fault).to_json().into_bytes()));
    let mut seeds = Vec::from(files);
    seeds.push(("evidence", "two logs", vec![4, 6, 2, 3]));
    seeds.push(("evidence", "two logs", vec![255, 128, 200, 100, 0, 0]));
    seeds.push(("evidence", "text to show", "a\u{1b}[31m\u{202e}\tb".into()));
    seeds
}
