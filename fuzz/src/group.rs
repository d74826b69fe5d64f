//! Groups: invites, cells, parts of messages, messages and their order.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};
use tocyn_client::group::cell::OVERHEAD_BYTES;
use tocyn_client::group::invite::{Invite, MAX_RELAYS, PREFIX};
use tocyn_client::group::message::{
    AuthorKey, Id, MAX_CHECKPOINT_BYTES, MAX_NAME_BYTES, MAX_PARENTS, Message,
};
use tocyn_client::group::order::{InTree, in_order};
use tocyn_client::group::parts::{MAX_PARTS, Part, capacity, split};

use crate::fixed::{CELLS, Drawn, SECRET, VERIFIER};
use crate::{Target, text};

/// The program.
pub const TARGET: Target = Target {
    name: "group",
    decoders: &[
        ("invite", invite),
        ("fields of an invite", fields),
        ("cell", cell),
        ("plaintext in a cell", sealed),
        ("part", part),
        ("part that is signed", signed_part),
        ("message", message),
        ("message in parts", parts),
        ("order", order),
    ],
};

/// The author of what is signed here.
const AUTHOR: [u8; 32] = [7; 32];

/// Within its bounds; and written again it is the same invite, and no longer than it was.
fn invite(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let Ok(invite) = text.parse::<Invite>() else { return };
    assert!((1..=MAX_RELAYS).contains(&invite.relays.len()));
    assert!((1..=tocyn_client::group::invite::MAX_NAME_BYTES).contains(&invite.name.len()));
    assert!(!invite.name.chars().any(char::is_control));
    let written = invite.to_secret_text();
    let again: Invite = written.parse().expect("what is written can be read");
    assert_eq!(again.to_secret_text(), written);
    assert_eq!((&again.secret, &again.name), (&invite.secret, &invite.name));
    assert_eq!((&again.log_key, again.cell_bytes), (&invite.log_key, invite.cell_bytes));
    assert_eq!(again.statement, invite.statement);
    assert_eq!((&again.relays, &again.issuer), (&invite.relays, &invite.issuer));
    assert!(!invite.to_string().contains(&URL_SAFE_NO_PAD.encode(invite.secret.as_bytes())));
}

/// All of an invite but its check, which is computed.
fn fields(bytes: &[u8]) {
    let check = Sha256::digest(bytes);
    let text = URL_SAFE_NO_PAD.encode([bytes, &check[..4]].concat());
    invite(format!("{PREFIX}{text}").as_bytes());
}

/// Opens only as what seals to it: and nothing seals to bytes from elsewhere.
fn cell(bytes: &[u8]) {
    if let Some(plaintext) = CELLS.open(bytes) {
        assert!(CELLS.claims(bytes));
        assert_eq!(plaintext.len() + OVERHEAD_BYTES, bytes.len());
    }
}

/// Which bit, then a plaintext: comes back from its cell, and from no cell with that bit turned.
fn sealed(bytes: &[u8]) {
    let Some((bit, plaintext)) = bytes.split_first_chunk() else { return };
    let mut cell = CELLS.seal(plaintext, &mut Drawn::from(20));
    assert_eq!(cell.len(), plaintext.len() + OVERHEAD_BYTES);
    assert!(CELLS.claims(&cell));
    assert_eq!(CELLS.open(&cell).as_deref().map(Vec::as_slice), Some(plaintext));
    let bit = usize::from(u16::from_be_bytes(*bit)) % (cell.len() * 8);
    cell[bit / 8] ^= 1 << (bit % 8);
    assert!(CELLS.open(&cell).is_none());
}

/// Is signed for this group and no other, and encodes to the same bytes.
fn part(plaintext: &[u8]) {
    let group = SECRET.id(&VERIFIER);
    let Ok(part) = Part::open(plaintext, &group) else { return };
    assert!(part.index < part.of && usize::from(part.of) <= MAX_PARTS);
    assert!(Part::open(plaintext, &[0; 32]).is_err());
    let signature = &plaintext[68..132];
    let mut again = [&part.index.to_be_bytes()[..], &part.of.to_be_bytes(), &part.id.0].concat();
    again.extend(part.author.0);
    again.extend(signature);
    again.extend((part.bytes.len() as u16).to_be_bytes());
    again.extend(&part.bytes);
    again.resize(plaintext.len(), 0);
    assert_eq!(again, plaintext);
}

/// Numbers 4, id 32, length of the padding 1, bytes: signed by us.
fn signed_part(bytes: &[u8]) {
    let Some((numbers, rest)) = bytes.split_first_chunk::<4>() else { return };
    let Some((id, rest)) = rest.split_first_chunk::<32>() else { return };
    let Some((padding, content)) = rest.split_first() else { return };
    if content.len() > usize::from(u16::MAX) {
        return;
    }
    let group = SECRET.id(&VERIFIER);
    let key = SigningKey::from_bytes(&AUTHOR);
    let signed = [&b"tocyn/v1 group message\0"[..], &group, numbers, id, content].concat();
    let mut plaintext = [&numbers[..], id, key.verifying_key().as_bytes()].concat();
    plaintext.extend(key.sign(&signed).to_bytes());
    plaintext.extend((content.len() as u16).to_be_bytes());
    plaintext.extend(content);
    plaintext.resize(plaintext.len() + usize::from(*padding), 0);
    let (index, of) = (
        u16::from_be_bytes([numbers[0], numbers[1]]),
        u16::from_be_bytes([numbers[2], numbers[3]]),
    );
    let good = index < of && usize::from(of) <= MAX_PARTS;
    assert_eq!(Part::open(&plaintext, &group).is_ok(), good);
    part(&plaintext);
    // What the signature does not cover is fixed.
    if *padding > 0 {
        *plaintext.last_mut().unwrap() = 1;
        assert!(Part::open(&plaintext, &group).is_err());
    }
}

/// Within its bounds, and encodes to the same bytes, of which its id is the hash.
fn message(bytes: &[u8]) {
    let Ok(message) = Message::decode(bytes) else { return };
    let content = &message.content;
    assert!(content.name.len() <= MAX_NAME_BYTES && content.parents.len() <= MAX_PARENTS);
    assert!(content.checkpoint.as_ref().is_none_or(|note| note.len() <= MAX_CHECKPOINT_BYTES));
    assert!(content.counter > 0 && i64::try_from(content.counter.max(content.time)).is_ok());
    assert!(!Message::is_newer(bytes));
    assert_eq!(content.encode(message.author), bytes);
    assert_eq!(message.id, Id::of(bytes));
}

/// A size of cells, then a message: its parts fill cells of this size, and together are the message.
fn parts(bytes: &[u8]) {
    let Some((size, message)) = bytes.split_first_chunk() else { return };
    let cell_bytes = usize::from(u16::from_be_bytes(*size));
    // Signing takes its time.
    if message.len().div_ceil(capacity(cell_bytes).max(1)) > 8 && capacity(cell_bytes) > 0 {
        return;
    }
    let group = SECRET.id(&VERIFIER);
    let Ok(plaintexts) = split(message, &AuthorKey::from_bytes(&AUTHOR), &group, cell_bytes) else {
        let capacity = capacity(cell_bytes);
        assert!(capacity == 0 || message.len() > capacity * MAX_PARTS);
        return;
    };
    let mut whole = Vec::new();
    for (place, plaintext) in plaintexts.iter().enumerate() {
        assert_eq!(plaintext.len() + OVERHEAD_BYTES, cell_bytes);
        let part = Part::open(plaintext, &group).expect("it was signed");
        assert_eq!((usize::from(part.index), usize::from(part.of)), (place, plaintexts.len()));
        assert_eq!(part.id, Id::of(message));
        whole.extend(part.bytes);
    }
    assert_eq!(whole, message);
}

#[derive(Clone)]
struct Place {
    id: u8,
    time: u64,
    parents: Vec<Id>,
}

impl InTree for Place {
    fn id(&self) -> Id {
        Id([self.id; 32])
    }
    fn time(&self) -> u64 {
        self.time
    }
    fn parents(&self) -> &[Id] {
        &self.parents
    }
}

/// For each message a time and a bit for each of the eight before it that it answers to: all come
/// out, none before what it answers to, in one order wherever they come from.
fn order(bytes: &[u8]) {
    let messages: Vec<Place> = (0u8..=u8::MAX)
        .zip(bytes.as_chunks::<2>().0)
        .map(|(id, [time, mask])| {
            let before = (1..=8u8).filter(|back| mask >> (back - 1) & 1 == 1);
            let parents = before.map(|back| Id([id.wrapping_sub(back); 32]));
            let parents = parents.filter(|parent| parent.0[0] < id).collect();
            Place { id, time: u64::from(*time), parents }
        })
        .collect();
    let (count, backwards) = (messages.len(), messages.iter().rev().cloned().collect());
    let ids = |messages: Vec<Place>| messages.iter().map(|one| one.id).collect::<Vec<_>>();
    let ordered = in_order(messages);
    let mut seen = std::collections::HashSet::new();
    for message in &ordered {
        assert!(message.parents.iter().all(|parent| seen.contains(parent)));
        assert!(seen.insert(message.id()));
    }
    assert_eq!(seen.len(), count);
    assert_eq!(ids(in_order(backwards)), ids(ordered));
}
