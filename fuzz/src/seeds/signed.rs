//! Notes, the log's files, and evidence.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use tocyn_client::evidence::{Evidence, Fault};
use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::evidence::SignedProof;
use tocyn_protocol::log::proof::InclusionProof;
use tocyn_protocol::log::tile::{encode_hashes, put_entry};
use tocyn_protocol::log::tree::{Edge, NodeHash, Nodes, Tree};
use tocyn_protocol::relay::{MessageId, pack};

use super::Seeds;
use crate::evidence::Logs;
use crate::evidence::keys::{CHAIN, instead, unproven};
use crate::fixed::{LOG_KEY, STATEMENT, VERIFIER, proven};

/// Ten messages.
pub(super) fn tree() -> (Tree, Edge) {
    let mut tree = Tree::default();
    (0..10u8).for_each(|number| tree.push(MessageId::of(&[number]).into()));
    let edge = Edge::new(tree.size(), &tree).unwrap();
    (tree, edge)
}

/// The text of a note without its last newline, which the target adds.
fn body(note: &str) -> String {
    note.split_once("\n\n").expect("it is signed").0.to_owned()
}

pub(super) fn notes() -> Seeds {
    let (tree, edge) = tree();
    let keys = STATEMENT.commitment();
    let note = Checkpoint { size: edge.size(), root: edge.root(), keys }.sign(&LOG_KEY);
    let inclusion = InclusionProof::new(6, &edge, &tree).unwrap();
    let proof = SignedProof { index: 6, inclusion, checkpoint: note.clone() }.to_text();
    let extra = proof.replacen("index", "extra AAAA\nindex", 1);
    // A signature under the same name, with an id of which 30 of 32 bits are ours.
    let (_, line) = note.trim_end().rsplit_once(' ').unwrap();
    let mut id = BASE64.decode(line).unwrap();
    id[3] ^= 1;
    let nearly = format!("a\n\0\u{2014} relay.example {}\n", BASE64.encode(id));
    let mut secret = LOG_KEY.to_secret_text().to_string().into_bytes();
    let key = secret.clone();
    secret[14] ^= 1;
    let number = 10u64.to_be_bytes();
    let fields = [&number[..], &edge.root().0, &0u64.to_be_bytes(), &keys.hash.0].concat();
    vec![
        ("notes", "note", note.clone().into_bytes()),
        ("notes", "note", format!("{note}\u{2014} witness AAAAAAAA\n").into_bytes()),
        ("notes", "note that is signed", body(&note).into_bytes()),
        ("notes", "note that is signed", "a\n\n\0\u{2014} witness AAAAAAAA\n".into()),
        ("notes", "note that is signed", nearly.into_bytes()),
        ("notes", "checkpoint", fields.clone()),
        ("notes", "checkpoint", [&fields[..], b"an extension"].concat()),
        ("notes", "log proof", proof.clone().into_bytes()),
        ("notes", "log proof", extra.into_bytes()),
        ("notes", "verifier key", VERIFIER.to_string().into_bytes()),
        ("notes", "log key", key),
        ("notes", "log key", secret),
        ("notes", "statement", STATEMENT.note().into()),
        ("notes", "statement", CHAIN[2].note().into()),
        ("notes", "statement", format!("{}\u{2014} witness AAAAAAAA\n", STATEMENT.note()).into()),
        ("notes", "statement that is signed", body(STATEMENT.note()).into()),
        ("notes", "statement that is signed", body(CHAIN[1].note()).into()),
        ("notes", "statement that is signed", body(instead(&STATEMENT, 5).note()).into()),
        ("notes", "chain", vec![0, 0, 0, 0]),
        ("notes", "chain", vec![5, 0, 0, 3]),
        // Other addresses, later keys, a new genesis, another issuer's address.
        (
            "notes",
            "chain",
            vec![4, 7, 0, 2, 0, 0, 9, 8, 136, 3, 7, 5, 133, 9, 134, 255, 7, 246, 11, 1],
        ),
        // Another issuer, an earlier genesis, a lower count, another length.
        ("notes", "chain", vec![1, 0, 0, 0, 0, 0, 4, 1]),
        ("notes", "chain", vec![1, 0, 0, 0, 0, 0, 5, 255]),
        ("notes", "chain", vec![1, 3, 0, 0, 0, 0, 7, 255]),
        ("notes", "chain", vec![2, 3, 0, 0, 0, 0, 6, 1]),
        // A statement that is left out, comes twice, is another's, or has two signatures.
        ("notes", "chain", vec![3, 0, 10, 0]),
        ("notes", "chain", vec![3, 0, 11, 0]),
        ("notes", "chain", vec![3, 0, 14, 0]),
        ("notes", "chain", vec![3, 0, 15, 0]),
        // The highest serial, genesis, count and length.
        ("notes", "chain", vec![1, 1, 0, 0, 140, 255, 141, 0, 142, 0, 15, 0]),
        ("notes", "chain", vec![0, 1, 0, 0, 12, 1]),
        ("notes", "commitment", STATEMENT.commitment().line().into()),
        ("notes", "commitment", format!("tocyn-keys {}", STATEMENT.commitment().line()).into()),
    ]
}

pub(super) fn log() -> Seeds {
    let (tree, _) = tree();
    let hashes: Vec<NodeHash> = (0..10).map(|leaf| tree.node(0, leaf).unwrap()).collect();
    let mut bundle = Vec::new();
    [&b"one"[..], b"", b"three"].iter().for_each(|cell| put_entry(&mut bundle, cell));
    let stream: Vec<u8> =
        (1..4u64).flat_map(|seq| [&seq.to_be_bytes()[..], b"cell"].concat()).collect();
    vec![
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

pub(super) fn evidence() -> Seeds {
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
    let file = |fault| ("evidence", "file", Evidence::new(&VERIFIER, fault).to_json().into_bytes());
    let mut seeds = Vec::from(faults.map(file));
    seeds.push(("evidence", "two logs", vec![4, 6, 2, 3]));
    seeds.push(("evidence", "two logs", vec![255, 128, 200, 100, 0, 0]));
    seeds.push(("evidence", "text to show", "a\u{1b}[31m\u{202e}\tb".into()));
    let (first, second) = (STATEMENT.note().to_owned(), instead(&STATEMENT, 1).note().to_owned());
    let mut marked = proven(2);
    marked.key.token_key = proven(3).key.token_key;
    let faults = [
        Fault::Keys { first, second },
        logs.keys(),
        unproven(2, marked.clone(), false),
        unproven(2, marked, true),
        unproven(2, proven(2), false),
    ];
    seeds.extend(faults.map(file));
    seeds.push(("evidence", "statements", vec![0, 0, 5, 0]));
    seeds.push(("evidence", "statements", vec![5, 8, 9, 1, 1, 5, 0, 6, 3]));
    seeds.push(("evidence", "statements", vec![2, 0, 200, 3, 4, 4]));
    seeds.extend((0..4).map(|form| ("evidence", "key that is shown", vec![0, 2, form, 1, 4])));
    seeds.push(("evidence", "key that is shown", vec![14, 75, 0, 0, 0]));
    seeds
}
