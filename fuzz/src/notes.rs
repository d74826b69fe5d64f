//! Signed text: notes, checkpoints, proofs that lead to them, and keys.

use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::evidence::SignedProof;
use tocyn_protocol::log::note::{LogKey, MAX_NOTE_BYTES, VerifierKey};
use tocyn_protocol::log::tree::NodeHash;
use tocyn_protocol::statement::{Commitment, Signed, StatementHash};

use crate::fixed::{LOG_KEY, VERIFIER};
use crate::statements::{self, opened};
use crate::{Target, text};

/// The program.
pub const TARGET: Target = Target {
    name: "notes",
    decoders: &[
        ("note", note),
        ("note that is signed", signed_note),
        ("checkpoint", checkpoint),
        ("log proof", log_proof),
        ("verifier key", verifier_key),
        ("log key", log_key),
        ("statement", statements::statement),
        ("statement that is signed", statements::signed),
        ("chain", statements::chain),
        ("commitment", statements::commitment),
    ],
};

/// What is opened is the beginning of the note. Without the signatures of others it is a note of
/// the same text, and has nothing more to lose.
fn note(bytes: &[u8]) {
    let Some(note) = text(bytes) else { return };
    let Ok(text) = VERIFIER.open(note) else {
        assert!(VERIFIER.bare(note).is_err());
        assert!(Checkpoint::open(note, &VERIFIER).is_err());
        assert!(Checkpoint::open_bare(note, &VERIFIER).is_err());
        assert!(Signed::open(note, &VERIFIER).is_err());
        return;
    };
    assert!(note.len() <= MAX_NOTE_BYTES && note.starts_with(text) && text.ends_with('\n'));
    let bare = VERIFIER.bare(note).expect("it is signed");
    assert!(bare.len() <= note.len());
    assert_eq!(VERIFIER.open(&bare), Ok(text));
    assert_eq!(VERIFIER.bare(&bare).unwrap(), bare);
    // Whoever signs as Ed25519 says makes one note of a text.
    assert_eq!(LOG_KEY.sign(text), bare);
    let checkpoint = Checkpoint::open(note, &VERIFIER);
    let with_bare = checkpoint.clone().map(|checkpoint| (checkpoint, bare.clone()));
    assert_eq!(Checkpoint::open_bare(note, &VERIFIER), with_bare);
    assert_eq!(Checkpoint::open(&bare, &VERIFIER), checkpoint);
    let statement = opened(note);
    assert!(statement.is_none() || bare == note, "it has signatures of others");
    if let Ok(checkpoint) = checkpoint {
        assert_eq!(checkpoint.sign(&LOG_KEY), bare);
        assert_eq!(statement, None);
    }
}

/// A note that we sign. After a zero byte come lines of others, before ours.
fn signed_note(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let (Some(body), lines) = (parts.next().and_then(text), parts.next().unwrap_or_default())
    else {
        return;
    };
    let Some(lines) = text(lines) else { return };
    let signed = LOG_KEY.sign(&format!("{body}\n"));
    let start = body.len() + 2;
    note([&signed[..start], lines, &signed[start..]].concat().as_bytes());
}

/// A checkpoint that we sign: size 8, root 32, serial 8, hash 32, then lines of extensions, which
/// are always refused.
fn checkpoint(bytes: &[u8]) {
    let Some((size, rest)) = bytes.split_first_chunk() else { return };
    let Some((root, rest)) = rest.split_first_chunk() else { return };
    let Some((serial, rest)) = rest.split_first_chunk() else { return };
    let Some((hash, extension)) = rest.split_first_chunk() else { return };
    let keys = Commitment { serial: u64::from_be_bytes(*serial), hash: StatementHash(*hash) };
    let (size, root) = (u64::from_be_bytes(*size), NodeHash(*root));
    let checkpoint = Checkpoint { size, root, keys };
    let bare = checkpoint.sign(&LOG_KEY);
    assert_eq!(Checkpoint::open(&bare, &VERIFIER), Ok(checkpoint));
    assert_eq!(Checkpoint::open_bare(&bare, &VERIFIER), Ok((checkpoint, bare.clone())));
    note(bare.as_bytes());
    let Some(extension) = text(extension) else { return };
    // After the four lines, before the last of them, and in its place: an empty line too.
    let (body, _) = bare.rsplit_once("\n\n").unwrap();
    let (three, last) = body.rsplit_once('\n').unwrap();
    for lines in [format!("{last}\n{extension}"), format!("{extension}\n{last}")] {
        let extended = LOG_KEY.sign(&format!("{three}\n{lines}\n"));
        assert!(Checkpoint::open(&extended, &VERIFIER).is_err());
        note(extended.as_bytes());
    }
    let replaced = LOG_KEY.sign(&format!("{three}\n{extension}\n"));
    let taken = Checkpoint::open(&replaced, &VERIFIER).ok().map(|taken| taken.keys);
    assert_eq!(taken, Commitment::parse(extension));
    note(replaced.as_bytes());
}

/// Reads as what it was written from, and without lines of extensions writes as the same text.
fn log_proof(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let Ok(proof) = text.parse::<SignedProof>() else { return };
    assert!(text.len() <= MAX_NOTE_BYTES && proof.inclusion.0.len() <= MAX_NOTE_BYTES / 45);
    let written = proof.to_text();
    assert!(written.len() <= text.len());
    assert_eq!(written.parse::<SignedProof>().unwrap(), proof);
    if !text.contains("\nextra ") {
        assert_eq!(written, text);
    }
    if proof.verify(NodeHash([0; 32]), &VERIFIER).is_ok() {
        assert!(proof.inclusion.0.len() <= 64);
    }
    note(proof.checkpoint.as_bytes());
}

/// Writes as the same text, but for the case of its id.
fn verifier_key(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Ok(key) = text.parse::<VerifierKey>() {
        let written = key.to_string();
        assert!(written.eq_ignore_ascii_case(text));
        assert_eq!(written.parse::<VerifierKey>().unwrap(), key);
        assert_eq!(Some(key.name()), text.split('+').next());
    }
}

fn log_key(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Ok(key) = LogKey::from_secret_text(text) {
        assert!(key.to_secret_text().eq_ignore_ascii_case(text));
        assert_eq!(key.verifier().open(&key.sign("text\n")), Ok("text\n"));
    }
}
