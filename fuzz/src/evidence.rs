//! Evidence files, and what is shown of strangers' text.

pub mod keys;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use tocyn_client::evidence::{Evidence, Fault, NoEvidence, Verdict, to_hex};
use tocyn_client::printable::Printable;
use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::evidence::SignedProof;
use tocyn_protocol::log::proof::{ConsistencyProof, InclusionProof};
use tocyn_protocol::log::tree::{Edge, NodeHash, Nodes, Tree};
use tocyn_protocol::relay::MessageId;

use crate::fixed::{LOG_KEY, STATEMENT, VERIFIER};
use crate::{Target, text};

/// The program.
pub const TARGET: Target = Target {
    name: "evidence",
    decoders: &[
        ("file", file),
        ("two logs", two_logs),
        ("text to show", shown),
        ("statements", keys::statements),
        ("key that is shown", keys::shown_key),
    ],
};

/// Reads as the same when written again, and shows the same then. What it shows has no characters
/// that a terminal obeys.
fn file(bytes: &[u8]) {
    let Ok(evidence) = Evidence::from_json(bytes) else { return };
    let again = Evidence::from_json(evidence.to_json().as_bytes()).expect("it was written");
    assert_eq!(again, evidence);
    assert_eq!(evidence.tocyn_evidence, 1);
    let verdict = evidence.verify();
    assert_eq!(again.verify(), verdict);
    if let Ok(verdict) = verdict {
        assert!(!verdict.to_string().chars().any(|c| c.is_control() && c != '\t'));
    }
}

/// Two logs that we sign: their sizes, and where they begin to differ.
pub struct Logs {
    first: (Tree, String),
    second: (Tree, String),
}

impl Logs {
    /// Of `first` and `second` messages, of which so many are the same.
    pub fn new(first: u8, second: u8, same: u8) -> Self {
        Self { first: log(first, u8::MAX), second: log(second, same) }
    }

    /// That the first is not the beginning of the second.
    pub fn forked(&self) -> Fault {
        let size = self.first.0.size();
        let edge = Edge::new(self.second.0.size(), &self.second.0).unwrap();
        let proof = ConsistencyProof::new(size, &edge, &self.second.0).unwrap();
        let root = Edge::new(size, &self.second.0).unwrap().root();
        Fault::Forked {
            first: self.first.1.clone(),
            second: self.second.1.clone(),
            root_in_second: hex::encode(root.0),
            consistency: to_hex(&proof.0),
        }
    }

    /// That the second has something else where the first acknowledged its message `index`.
    pub fn unpublished(&self, index: u64) -> Fault {
        let (first, second) = (&self.first, &self.second);
        let proof = |tree: &Tree| {
            InclusionProof::new(index, &Edge::new(tree.size(), tree).unwrap(), tree).unwrap()
        };
        let inclusion = proof(&first.0);
        Fault::Unpublished {
            receipt: SignedProof { index, inclusion, checkpoint: first.1.clone() }.to_text(),
            message_id: first.0.node(0, index).unwrap().into(),
            second: second.1.clone(),
            instead: second.0.node(0, index).unwrap().into(),
            inclusion: to_hex(&proof(&second.0).0),
        }
    }

    /// That the second is shorter.
    pub fn rolled_back(&self) -> Fault {
        Fault::RolledBack { before: self.first.1.clone(), after: self.second.1.clone() }
    }

    /// That both are one checkpoint, signed in two ways.
    pub fn marked(&self) -> Fault {
        Fault::Marked { first: self.first.1.clone(), second: self.second.1.clone() }
    }

    /// That they name two statements of keys.
    pub fn keys(&self) -> Fault {
        Fault::Keys { first: self.first.1.clone(), second: self.second.1.clone() }
    }

    /// That these bytes were served in the place of the first one's message 0.
    pub fn altered(&self, served: &[u8]) -> Fault {
        let tree = &self.first.0;
        let edge = Edge::new(tree.size(), tree).unwrap();
        let inclusion = InclusionProof::new(0, &edge, tree).unwrap();
        Fault::Altered {
            proof: SignedProof { index: 0, inclusion, checkpoint: self.first.1.clone() }.to_text(),
            message_id: tree.node(0, 0).unwrap().into(),
            served: BASE64.encode(served),
            served_by: "http://\u{1b}relay".to_owned(),
        }
    }
}

/// A log of so many messages; those from `same` on are others than in most logs.
fn log(size: u8, same: u8) -> (Tree, String) {
    let mut tree = Tree::default();
    for number in 0..size {
        let cell = [number, u8::from(number >= same)];
        tree.push(NodeHash::from(MessageId::of(&cell)));
    }
    let root = Edge::new(tree.size(), &tree).unwrap().root();
    let keys = STATEMENT.commitment();
    let note = Checkpoint { size: tree.size(), root, keys }.sign(&LOG_KEY);
    (tree, note)
}

fn verify(fault: Fault) -> Result<Verdict, NoEvidence> {
    let evidence = Evidence::new(&VERIFIER, fault);
    file(evidence.to_json().as_bytes());
    evidence.verify()
}

/// Is proven where the logs do differ, and nowhere else: no honest relay can be accused.
fn two_logs(bytes: &[u8]) {
    let [a, b, same, index, served @ ..] = bytes else { return };
    let (a, b) = (a % 40, b % 40);
    let (first, second) = (a.min(b), a.max(b));
    let logs = Logs::new(first, second, *same);
    let forked = matches!(verify(logs.forked()), Ok(Verdict::Proven(_)));
    // Nobody signs for a log without messages that it differs from others.
    assert_eq!(forked, *same < first);
    assert!(verify(logs.marked()).is_err());
    assert!(verify(logs.keys()).is_err());
    assert!(verify(logs.rolled_back()).is_err());
    if first > 0 {
        let index = index % first;
        let left_out = matches!(verify(logs.unpublished(index.into())), Ok(Verdict::Proven(_)));
        assert_eq!(left_out, index >= *same);
        let altered = verify(logs.altered(served)).is_ok();
        assert_eq!(altered, served != [0, 0]);
    }
}

/// Has no characters that a terminal obeys, and none is lost.
fn shown(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let shown = Printable(text).to_string();
    let turns = |c| matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    assert!(!shown.chars().any(|c| (c.is_control() && c != '\t') || turns(c)));
    assert!(shown.chars().count() >= text.chars().count());
}
