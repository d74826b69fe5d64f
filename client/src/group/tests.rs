//! What others see of a group, and what they can do to it: nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use sha2::{Digest, Sha256};
use tocyn_protocol::log::note::{LogKey, VerifierKey};

use super::GroupSecret;
use super::cell::{CellKeys, OVERHEAD_BYTES};
use super::invite::Invite;
use tocyn_protocol::statement::StatementHash;

use super::message::{AuthorKey, Content, Id, Message};
use super::parts::{MAX_PARTS, Part, capacity, split};

fn relay(name: &str) -> VerifierKey {
    LogKey::generate(name, &mut UnwrapErr(SysRng)).verifier()
}

fn keys(relay: &VerifierKey) -> CellKeys {
    CellKeys::new(&GroupSecret::generate(&mut UnwrapErr(SysRng)), relay)
}

#[test]
fn a_cell_opens_for_its_group_at_its_relay_only() {
    let rng = &mut UnwrapErr(SysRng);
    let (here, there) = (relay("here"), relay("there"));
    let secret = GroupSecret::generate(rng);
    let mine = CellKeys::new(&secret, &here);
    let cell = mine.seal(&[7; 1992], rng);
    assert_eq!(cell.len(), 2048);
    assert!(mine.claims(&cell));
    assert_eq!(*mine.open(&cell).unwrap(), [7; 1992]);
    for others in [keys(&here), CellKeys::new(&secret, &there)] {
        assert!(!others.claims(&cell));
        assert!(others.open(&cell).is_none());
    }
    assert!(!mine.claims(&cell[..39]) && !mine.claims(&[]));
    assert!(mine.open(&cell[..OVERHEAD_BYTES - 1]).is_none());
    assert_ne!(cell, mine.seal(&[7; 1992], rng), "never twice the same");
}

#[test]
fn a_cell_with_any_bit_changed_does_not_open() {
    let rng = &mut UnwrapErr(SysRng);
    let keys = keys(&relay("relay"));
    let mut cell = keys.seal(b"some words", rng);
    for bit in 0..cell.len() * 8 {
        cell[bit / 8] ^= 1 << (bit % 8);
        assert!(keys.open(&cell).is_none(), "bit {bit}");
        // The header covers the part of the nonce that it follows from, and itself.
        assert_eq!(keys.claims(&cell), !(bit < 128 || (192..320).contains(&bit)), "bit {bit}");
        cell[bit / 8] ^= 1 << (bit % 8);
    }
    keys.open(&cell).unwrap();
}

#[test]
fn the_header_is_what_the_draft_says() {
    // HChaCha20 of draft-irtf-cfrg-xchacha-03, section 2.2.1.
    let key: [u8; 32] = std::array::from_fn(|n| n as u8);
    let nonce = hex::decode("000000090000004a0000000031415927").unwrap();
    let nonce: [u8; 16] = nonce.try_into().unwrap();
    let out = chacha20::hchacha::<chacha20::R20>(&key.into(), &nonce.into());
    assert_eq!(
        hex::encode(out),
        "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"
    );
}

fn content(body: &[u8]) -> Content {
    Content {
        counter: 3,
        time: 1_700_000_000,
        name: "Ceri".to_owned(),
        parents: vec![Id([1; 32]), Id([2; 32])],
        checkpoint: Some("relay\n1\n..".to_owned()),
        body: body.to_vec(),
    }
}

#[test]
fn a_message_comes_back_from_its_bytes_and_not_from_fewer() {
    let author = AuthorKey::generate(&mut UnwrapErr(SysRng)).author();
    let bytes = content(b"hello").encode(author);
    let message = Message::decode(&bytes).unwrap();
    assert_eq!((message.author, &message.content), (author, &content(b"hello")));
    assert_eq!(message.id, Id::of(&bytes));
    assert!((0..bytes.len()).all(|cut| Message::decode(&bytes[..cut]).is_err()));
    Message::decode(&[&bytes[..], &[0]].concat()).unwrap_err();
    let newer = [&[2], &bytes[1..]].concat();
    assert!(Message::decode(&newer).unwrap_err().to_string().contains("newer"));
}

#[test]
fn parts_join_to_the_message() {
    let cell_bytes = 2048;
    let capacity = capacity(cell_bytes);
    let key = AuthorKey::generate(&mut UnwrapErr(SysRng));
    let mut message = vec![0; capacity * 3 + 1];
    UnwrapErr(SysRng).fill_bytes(&mut message);
    for (len, parts) in [(1, 1), (capacity, 1), (capacity + 1, 2), (message.len(), 4)] {
        let plaintexts = split(&message[..len], &key, &[1; 32], cell_bytes).unwrap();
        assert_eq!(plaintexts.len(), parts);
        let mut joined = Vec::new();
        for (n, plaintext) in plaintexts.iter().enumerate() {
            assert_eq!(plaintext.len() + OVERHEAD_BYTES, cell_bytes);
            let part = Part::open(plaintext, &[1; 32]).unwrap();
            assert_eq!((usize::from(part.index), usize::from(part.of)), (n, parts));
            assert_eq!((part.id, part.author), (Id::of(&message[..len]), key.author()));
            joined.extend(part.bytes);
        }
        assert_eq!(joined, &message[..len]);
    }
    split(&vec![0; capacity * MAX_PARTS + 1], &key, &[1; 32], cell_bytes).unwrap_err();
    split(&[], &key, &[1; 32], 100).expect_err("such cells have no room");
}

#[test]
fn a_part_is_signed_for_its_group() {
    let key = AuthorKey::generate(&mut UnwrapErr(SysRng));
    let plaintext = split(b"some words", &key, &[1; 32], 256).unwrap().remove(0);
    Part::open(&plaintext, &[1; 32]).unwrap();
    Part::open(&plaintext, &[2; 32]).unwrap_err();
    let end = plaintext.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for bit in 0..end * 8 {
        let mut changed = plaintext.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        Part::open(&changed, &[1; 32]).unwrap_err();
    }
    assert!((0..end).all(|cut| Part::open(&plaintext[..cut], &[1; 32]).is_err()));
}

/// What decodes must encode to the same bytes, or one thing could be said in several ways.
#[test]
fn what_no_member_writes_is_refused() {
    let rng = &mut UnwrapErr(SysRng);
    let key = AuthorKey::generate(rng);
    let bytes = content(b"hello").encode(key.author());
    // Where the number of parents is, and the checkpoint's length.
    let (parents, checkpoint) = (1 + 32 + 8 + 8 + 2 + 4, 1 + 32 + 8 + 8 + 2 + 4 + 1 + 64);
    let with = |at: usize, number: &[u8], more: &[u8]| {
        [&bytes[..at], number, more, &bytes[at + number.len()..]].concat()
    };
    for (name, good, bad) in [
        ("parents", with(parents, &[16], &[5; 14 * 32]), with(parents, &[17], &[5; 15 * 32])),
        (
            "checkpoint",
            with(checkpoint, &1024u16.to_be_bytes(), &[b'a'; 1014]),
            with(checkpoint, &1025u16.to_be_bytes(), &[b'a'; 1015]),
        ),
    ] {
        let message = Message::decode(&good).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(message.content.encode(message.author), good, "{name}");
        Message::decode(&bad).expect_err(name);
    }

    let mut plaintext = split(b"some words", &key, &[1; 32], 256).unwrap().remove(0);
    Part::open(&plaintext, &[1; 32]).unwrap();
    *plaintext.last_mut().unwrap() = 1;
    Part::open(&plaintext, &[1; 32]).unwrap_err();

    let mut invite = Invite {
        statement: StatementHash([7; 32]),
        secret: GroupSecret::generate(rng),
        name: "n".to_owned(),
        log_key: relay("relay.example"),
        issuer: "http://issuer.example".parse().unwrap(),
        cell_bytes: 2048,
        relays: vec!["http://a.example".parse().unwrap(); 8],
    };
    let text = invite.to_secret_text();
    assert_eq!(text.parse::<Invite>().unwrap(), invite);
    invite.relays.truncate(1);
    let code = |text: &str| URL_SAFE_NO_PAD.decode(text.strip_prefix("tocyn:group:").unwrap());
    let one = code(&invite.to_secret_text()).unwrap();
    let entry = 2 + "http://a.example".len();
    let start = one.len() - 4 - entry;
    let of = |number: u8| {
        let url = &one[start..start + entry];
        let bytes = [&one[..start - 1], &[number], &url.repeat(number.into())].concat();
        let check = &Sha256::digest(&bytes)[..4];
        format!("tocyn:group:{}", URL_SAFE_NO_PAD.encode([&bytes, check].concat()))
    };
    assert_eq!(of(8), *text);
    of(9).parse::<Invite>().unwrap_err();
}

#[test]
fn an_invite_comes_back_from_its_text_and_not_from_any_other() {
    let rng = &mut UnwrapErr(SysRng);
    let invite = Invite {
        statement: StatementHash([7; 32]),
        secret: GroupSecret::generate(rng),
        name: "Côr y Cwm".to_owned(),
        log_key: relay("relay.example"),
        issuer: "https://issuer.example".parse().unwrap(),
        cell_bytes: 2048,
        relays: vec!["https://relay.example".parse().unwrap(), "http://x.onion".parse().unwrap()],
    };
    let text = invite.to_secret_text();
    assert!(text.starts_with("tocyn:group:") && text.len() < 470, "{}", text.len());
    assert_eq!(text.parse::<Invite>().unwrap(), invite);
    // As it comes out of a mail.
    let (head, tail) = text.split_at(60);
    assert_eq!(format!(" {head}\r\n {tail}\n").parse::<Invite>().unwrap(), invite);
    for at in 12..text.len() {
        let mut changed = text.as_bytes().to_vec();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let error = String::from_utf8(changed).unwrap().parse::<Invite>().unwrap_err();
        assert!(!error.to_string().contains(&text[20..30]), "no secret in {error}");
        text[..at].parse::<Invite>().unwrap_err();
    }
    assert!(!format!("{invite:?} {invite}").contains(&hex::encode(invite.secret.as_bytes())));
}

/// The fields of a table in `docs/PROTOCOL.md`: they leave no gap and end with the bytes.
fn documented(heading: &str, bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let document = include_str!("../../../docs/PROTOCOL.md");
    let start =
        document.find(&format!("\n### {heading}")).unwrap_or_else(|| panic!("no {heading}"));
    let rows = document[start + 1..].lines().skip_while(|line| !line.starts_with('|'));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    let mut end = 0;
    let fields: Vec<_> = rows
        .map(|row| {
            let row: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            assert_eq!(row[0].parse::<usize>().unwrap(), end, "{heading}: {row:?}");
            let start = end;
            end += row[1].parse::<usize>().unwrap();
            (row[2], bytes[start..end].to_vec())
        })
        .collect();
    assert_eq!(end, bytes.len(), "{heading}");
    fields
}

#[test]
fn the_documented_tables_are_true() {
    let rng = &mut UnwrapErr(SysRng);
    let key = AuthorKey::generate(rng);
    let field = |fields: &[(&str, Vec<u8>)], name: &str| {
        fields.iter().find(|field| field.0 == name).unwrap_or_else(|| panic!("no {name}")).1.clone()
    };
    let message = content(b"hello").encode(key.author());
    let fields = documented("Message,", &message);
    for (name, value) in [
        ("version", &[1][..]),
        ("author", &key.author().0),
        ("counter", &3u64.to_be_bytes()),
        ("time", &1_700_000_000u64.to_be_bytes()),
        ("name", b"Ceri"),
        ("parents", &[2]),
        ("checkpoint", b"relay\n1\n.."),
        ("body length", &5u32.to_be_bytes()),
        ("body", b"hello"),
    ] {
        assert_eq!(field(&fields, name), value, "{name}");
    }
    let whole = vec![7; capacity(2048) + 3];
    let parts = split(&whole, &key, &[1; 32], 2048).unwrap();
    let fields = documented("Part of a message,", &parts[0]);
    for (name, value) in [
        ("part", &[0, 0][..]),
        ("parts", &[0, 2]),
        ("message id", &Id::of(&whole).0),
        ("author", &key.author().0),
        ("bytes", &whole[3..]),
    ] {
        assert_eq!(field(&fields, name), value, "{name}");
    }
    let cell = keys(&relay("relay")).seal(&parts[0], rng);
    assert_eq!(field(&documented("Cell of a group,", &cell), "body").len(), parts[0].len() + 16);
}
