//! Documents, the pairing file, and addresses.

use tocyn_protocol::directory::TokenKey;
use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::evidence::SignedProof;
use tocyn_protocol::log::proof::InclusionProof;
use tocyn_protocol::problem::{Problem, ProblemType};
use tocyn_protocol::relay::{MessageId, PostReceipt, ProvenReceipt};

use super::Seeds;
use super::signed::tree;
use crate::evidence::keys::CHAIN;
use crate::fixed::{Drawn, LOG_KEY, NOW, PAIRING, STATEMENT, directory, proven, relay_info};

pub(super) fn documents() -> Seeds {
    let keys = vec![TokenKey::for_epoch(&PAIRING, 2), TokenKey::for_epoch(&PAIRING, 3)];
    let directory = directory(keys);
    let statements = CHAIN.iter().map(|one| one.note().to_owned()).collect();
    let info = relay_info(statements, vec![proven(2), proven(3), proven(1)]);
    let (tree, edge) = tree();
    let keys = STATEMENT.commitment();
    let checkpoint = Checkpoint { size: edge.size(), root: edge.root(), keys }.sign(&LOG_KEY);
    let inclusion = InclusionProof::new(6, &edge, &tree).unwrap();
    let receipt = ProvenReceipt {
        receipt: PostReceipt { seq: 7, message_id: MessageId::of(&[6]), received_at: NOW },
        proof: SignedProof { index: 6, inclusion, checkpoint }.to_text(),
    };
    let mut problem = Problem::new(ProblemType::CellSize, "a cell has 2048 bytes");
    problem.limit = Some(2048);
    let file = toml::to_string(&*PAIRING).unwrap();
    let renewed = PAIRING.renewed(NOW, &mut Drawn::from(32)).unwrap();
    let renewed = toml::to_string(&renewed).unwrap();
    let end = PAIRING.schedule().last_end();
    let mut two_proofs = proven(2);
    two_proofs.proofs.insert(0, proven(3).proofs.remove(0));
    let mut of_another = proven(2);
    of_another.key = TokenKey::for_epoch(&PAIRING, 3);
    vec![
        ("documents", "issuer directory", serde_json::to_vec(&directory).unwrap()),
        ("documents", "relay info", serde_json::to_vec(&info).unwrap()),
        ("documents", "receipt", serde_json::to_vec(&receipt).unwrap()),
        ("documents", "problem", serde_json::to_vec(&problem).unwrap()),
        ("documents", "pairing", [&NOW.to_be_bytes(), file.as_bytes()].concat()),
        ("documents", "pairing", [&u64::MAX.to_be_bytes(), file.as_bytes()].concat()),
        ("documents", "address", b"http://127.0.0.1:7802/path".to_vec()),
        ("documents", "address", b"https://abc.onion".to_vec()),
        ("documents", "pairing", [&NOW.to_be_bytes(), renewed.as_bytes()].concat()),
        ("documents", "pairing", [&(NOW + 2 * 86_400).to_be_bytes(), renewed.as_bytes()].concat()),
        ("documents", "pairing", [&(end - 30).to_be_bytes(), file.as_bytes()].concat()),
        ("documents", "pairing", [&(end + 30).to_be_bytes(), file.as_bytes()].concat()),
        ("documents", "address", b"HTTP://Relay.Example:80/a/".to_vec()),
        ("documents", "address", b"http://[0:0::1]:443".to_vec()),
        ("documents", "statement address", b"https://relay.example".to_vec()),
        ("documents", "statement address", b"http://relay.example:8080/tocyn/relay".to_vec()),
        ("documents", "statement address", b"http://127.9.9.9:7802".to_vec()),
        ("documents", "statement address", b"http://[::1]:5/x".to_vec()),
        ("documents", "statement address", b"https://[2001:db8::1]".to_vec()),
        ("documents", "statement address", b"http://localhost:7802".to_vec()),
        ("documents", "proven key", serde_json::to_vec(&proven(2)).unwrap()),
        ("documents", "proven key", serde_json::to_vec(&proven(3659)).unwrap()),
        ("documents", "proven key", serde_json::to_vec(&two_proofs).unwrap()),
        ("documents", "proven key", serde_json::to_vec(&of_another).unwrap()),
    ]
}
