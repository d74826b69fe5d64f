//! Statements of keys: signed text, their chain, and the line that names one.

use std::collections::HashSet;
use std::sync::LazyLock;

use sha2::{Digest, Sha256};
use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::note::LogKey;
use tocyn_protocol::log::tree::NodeHash;
use tocyn_protocol::pairing::is_name;
use tocyn_protocol::schedule::{MAX_EPOCH_SECONDS, MAX_EPOCHS, MIN_EPOCH_SECONDS, Schedule};
use tocyn_protocol::statement::chain::{Chain, Standing};
use tocyn_protocol::statement::{
    Commitment, MAX_ADDRESSES, MAX_STATEMENT_BYTES, Signed, Statement, StatementHash,
};

use crate::fixed::{Drawn, LOG_KEY, PAIRING, VERIFIER, next};
use crate::text;

/// The line of a signature that counts for nothing.
const WITNESS: &str = "\u{2014} witness AAAAAAAA\n";

/// Somebody else's key, with the relay's name.
static OTHER_KEY: LazyLock<LogKey> =
    LazyLock::new(|| LogKey::generate("relay.example", &mut Drawn::from(5)));

fn hash(note: &str) -> StatementHash {
    StatementHash(Sha256::digest(note).into())
}

/// What a statement of the relay may say.
fn is_in_bounds(statement: &Statement) -> bool {
    let Schedule { genesis, epoch_seconds, count } = statement.schedule;
    let addresses: HashSet<_> = statement.addresses.iter().collect();
    statement.origin_name == VERIFIER.name()
        && is_name(&statement.issuer_name)
        && (statement.serial == 0) == statement.previous.is_none()
        && addresses.len() == statement.addresses.len()
        && addresses.len() <= MAX_ADDRESSES
        && (MIN_EPOCH_SECONDS..=MAX_EPOCH_SECONDS).contains(&epoch_seconds)
        && (1..=MAX_EPOCHS).contains(&count)
        && i64::try_from(statement.serial).is_ok()
        && genesis <= i64::MAX as u64 / 2
}

/// The statement in a note, if it is one: within its bounds, the one note that the key signs of it,
/// no checkpoint, and with times that no database refuses.
pub(crate) fn opened(note: &str) -> Option<Signed> {
    let signed = Signed::open(note, &VERIFIER).ok()?;
    assert!(note.len() <= MAX_STATEMENT_BYTES && is_in_bounds(&signed));
    assert_eq!(signed.note(), note);
    assert_eq!(signed.statement().sign(&LOG_KEY), signed);
    let (serial, hash) = (signed.serial, hash(note));
    assert_eq!(signed.commitment(), Commitment { serial, hash });
    commitment(signed.commitment().line().as_bytes());
    assert!(Checkpoint::open(note, &VERIFIER).is_err());
    assert!(Signed::open(&format!("{note}{WITNESS}"), &VERIFIER).is_err());
    let schedule = signed.schedule;
    for epoch in [0, schedule.count - 1] {
        assert!(i64::try_from(schedule.not_after(epoch)).is_ok());
        assert_eq!(schedule.end(epoch) - schedule.start(epoch), schedule.epoch_seconds);
        assert_eq!(schedule.epoch_at(schedule.start(epoch)), Ok(epoch));
        assert_eq!(schedule.epoch_at(schedule.end(epoch) - 1), Ok(epoch));
    }
    Some(signed)
}

/// A note from elsewhere.
pub(crate) fn statement(bytes: &[u8]) {
    if let Some(note) = text(bytes) {
        opened(note);
    }
}

/// A text that we sign: what is taken is a chain by itself.
pub(crate) fn signed(bytes: &[u8]) {
    let Some(body) = text(bytes) else { return };
    let note = LOG_KEY.sign(&format!("{body}\n"));
    let chain = Chain::open(std::slice::from_ref(&note), &VERIFIER);
    let Some(signed) = opened(&note) else {
        assert!(chain.is_err());
        return;
    };
    let chain = chain.expect("it is a statement");
    assert_eq!(chain.newest(), &signed);
    assert_eq!(chain.standing(signed.commitment()), Standing::Same);
}

/// Is the one way to write it, and reads the same in a checkpoint.
pub(crate) fn commitment(bytes: &[u8]) {
    let Some(line) = text(bytes) else { return };
    let Some(keys) = Commitment::parse(line) else { return };
    assert_eq!(keys.line(), line);
    let checkpoint = Checkpoint { size: 1, root: NodeHash([1; 32]), keys };
    assert_eq!(Checkpoint::open(&checkpoint.sign(&LOG_KEY), &VERIFIER), Ok(checkpoint));
}

/// A statement that we sign, and the note that is handed out for it.
#[derive(Clone)]
struct Member {
    signed: Signed,
    note: String,
}

/// The first statement of a chain: number `serial`, of made-up keys.
fn first(serial: u8) -> Statement {
    Statement {
        serial: serial.into(),
        previous: (serial > 0).then_some(StatementHash([serial; 32])),
        origin_name: VERIFIER.name().to_owned(),
        issuer_name: PAIRING.issuer_name().to_owned(),
        issuer_address: None,
        addresses: vec!["https://relay.example".parse().unwrap()],
        schedule: PAIRING.schedule(),
        root: NodeHash([9; 32]),
    }
}

fn change(statement: &mut Statement, what: u8, by: u8) {
    let step = i64::from(by.cast_signed());
    let address = |number: u8| format!("http://a{number}.example").parse().unwrap();
    let schedule = &mut statement.schedule;
    match what % 16 {
        1 => statement.serial = statement.serial.wrapping_add_signed(step),
        2 => statement.previous = None,
        3 => statement.previous = Some(StatementHash([by; 32])),
        4 => {
            let names = [PAIRING.issuer_name(), "other.example", "", "two words", "a\nserial 0"];
            statement.issuer_name = names[usize::from(by) % names.len()].to_owned();
        }
        5 => schedule.genesis = schedule.genesis.wrapping_add_signed(step),
        6 => schedule.epoch_seconds = schedule.epoch_seconds.wrapping_add_signed(step),
        7 => schedule.count = schedule.count.wrapping_add_signed(step),
        8 => statement.root = NodeHash([by; 32]),
        9 => statement.addresses = (0..by % 12).map(address).collect(),
        10 => statement.addresses.push(address(by % 12)),
        11 => statement.issuer_address = (by > 0).then(|| address(by)),
        12 => statement.serial = (i64::MAX as u64).wrapping_add_signed(step),
        13 => schedule.genesis = (i64::MAX as u64 / 2).wrapping_add_signed(step),
        14 => schedule.count = MAX_EPOCHS.wrapping_add_signed(step),
        15 => schedule.epoch_seconds = MAX_EPOCH_SECONDS.wrapping_add_signed(step),
        _ => {}
    }
}

/// As the bytes say: two for each change of a statement, of which the first has its highest bit set
/// if there is another one.
fn members(count: u8, serial: u8, changes: &[u8]) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    let mut changes = changes.as_chunks::<2>().0.iter();
    for _ in 0..count % 6 + 1 {
        let mut statement = match members.last() {
            Some(before) => next(&before.signed),
            None => first(serial),
        };
        for [what, by] in changes.by_ref() {
            change(&mut statement, *what, *by);
            if *what < 128 {
                break;
            }
        }
        let signed = statement.sign(&LOG_KEY);
        members.push(Member { note: signed.note().to_owned(), signed });
    }
    members
}

/// Changes the list, or one of its notes.
fn mix(members: &mut Vec<Member>, how: u8) {
    let place = usize::from(how / 8) % members.len();
    let member = &mut members[place];
    match how % 8 {
        1 => members.reverse(),
        2 => drop(members.remove(place)),
        3 => members.insert(place, members[place].clone()),
        4 => members.swap(0, place),
        5 => members.rotate_left(place),
        6 => member.note = member.signed.statement().sign(&OTHER_KEY).note().to_owned(),
        7 => member.note.push_str(WITNESS),
        _ => {}
    }
}

/// The rules of a chain.
fn follows(earlier: &Member, later: &Member) -> bool {
    let (old, new) = (earlier.signed.schedule, later.signed.schedule);
    let same_times = old.epoch_seconds == new.epoch_seconds && old.count <= new.count;
    earlier.signed.serial.checked_add(1) == Some(later.signed.serial)
        && later.signed.previous == Some(hash(&earlier.note))
        && later.signed.issuer_name == earlier.signed.issuer_name
        && (new.genesis > old.genesis || new.genesis == old.genesis && same_times)
}

/// How many, the first serial, how they are mixed, where a part begins or ends, then changes: is
/// taken exactly if it follows the rules, and then every pin stands to it and its parts as it should.
pub(crate) fn chain(bytes: &[u8]) {
    let [count, serial, how, cut, changes @ ..] = bytes else { return };
    let mut members = members(*count, *serial, changes);
    mix(&mut members, *how);
    let good = |member: &Member| {
        let good = is_in_bounds(&member.signed)
            && member.note == member.signed.note()
            && member.note.len() <= MAX_STATEMENT_BYTES;
        assert_eq!(opened(&member.note), good.then(|| member.signed.clone()));
        good
    };
    let honest = !members.is_empty()
        && members.iter().all(good)
        && members.windows(2).all(|pair| follows(&pair[0], &pair[1]));
    let notes: Vec<String> = members.iter().map(|member| member.note.clone()).collect();
    let opened = Chain::open(&notes, &VERIFIER);
    assert_eq!(opened.is_ok(), honest);
    let Ok(chain) = opened else { return };
    assert!(chain.statements().iter().eq(members.iter().map(|member| &member.signed)));
    let (all, cut) = (members.len(), usize::from(*cut) % members.len());
    stands(&chain, &members, 0, all);
    for (start, end) in [(cut, all), (0, cut + 1)] {
        let part = Chain::open(&notes[start..end], &VERIFIER).expect("parts of a chain are chains");
        stands(&part, &members, start, end);
    }
}

/// How the part from `start` to `end` stands to every member, and to others of the same numbers.
fn stands(part: &Chain, members: &[Member], start: usize, end: usize) {
    assert_eq!(part.newest(), &members[end - 1].signed);
    for (place, Member { signed, .. }) in members.iter().enumerate() {
        let is_in = (start..end).contains(&place);
        assert_eq!(part.get(signed.serial), is_in.then_some(signed));
        let (standing, of_other) = match place + 1 {
            after if after == end => (Standing::Same, None),
            after if after > end => (Standing::Older, Some(Standing::Older)),
            after if after < start => (Standing::TooNew, Some(Standing::TooNew)),
            after if after == start => (Standing::GoesOn, Some(Standing::TooNew)),
            _ => (Standing::GoesOn, None),
        };
        assert_eq!(part.standing(signed.commitment()), standing);
        let other = Commitment { hash: StatementHash([0xff; 32]), ..signed.commitment() };
        let of_other = of_other.unwrap_or_else(|| Standing::Contradicts(Box::new(signed.clone())));
        assert_eq!(part.standing(other), of_other);
    }
}
