//! The log's tree, proofs and files, held against the definitions of RFC 6962 and C2SP; and every
//! change to what is signed or proven is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use getrandom::SysRng;
use rand_core::UnwrapErr;
use sha2::{Digest, Sha256};
use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::evidence::SignedProof;
use tocyn_protocol::log::note::{LogKey, VerifierKey};
use tocyn_protocol::log::proof::{ConsistencyProof, InclusionProof};
use tocyn_protocol::log::tile::{
    Content, TILE_WIDTH, Tile, decode_entries, decode_hashes, encode_hashes, node_above, put_entry,
};
use tocyn_protocol::log::tree::{Edge, NodeHash, Nodes, Tree};
use tocyn_protocol::relay::MessageId;
use tocyn_protocol::statement::{Commitment, StatementHash};

const KEYS: Commitment = Commitment { serial: 3, hash: StatementHash([7; 32]) };

fn leaf(n: u64) -> NodeHash {
    MessageId::of(&n.to_be_bytes()).into()
}

fn leaves(size: u64) -> Vec<NodeHash> {
    (0..size).map(leaf).collect()
}

fn tree(size: u64) -> Tree {
    let mut tree = Tree::default();
    (0..size).for_each(|n| tree.push(leaf(n)));
    tree
}

/// The largest power of two below `n`.
fn split(n: usize) -> usize {
    n.next_power_of_two() / 2
}

/// `MTH(D[n])`, as RFC 6962 section 2.1 defines it.
fn mth(d: &[NodeHash]) -> NodeHash {
    match d {
        [] => NodeHash(Sha256::digest([]).into()),
        [one] => *one,
        _ => NodeHash::above(mth(&d[..split(d.len())]), mth(&d[split(d.len())..])),
    }
}

/// `PATH(m, D[n])`, as section 2.1.1 defines it.
fn path(m: usize, d: &[NodeHash]) -> Vec<NodeHash> {
    if d.len() == 1 {
        return Vec::new();
    }
    let k = split(d.len());
    let (mut below, beside) = match m < k {
        true => (path(m, &d[..k]), mth(&d[k..])),
        false => (path(m - k, &d[k..]), mth(&d[..k])),
    };
    below.push(beside);
    below
}

/// `SUBPROOF(m, D[n], b)`, as section 2.1.2 defines it.
fn subproof(m: usize, d: &[NodeHash], b: bool) -> Vec<NodeHash> {
    if m == d.len() {
        return if b { Vec::new() } else { vec![mth(d)] };
    }
    let k = split(d.len());
    let (mut below, beside) = match m <= k {
        true => (subproof(m, &d[..k], b), mth(&d[k..])),
        false => (subproof(m - k, &d[k..], false), mth(&d[..k])),
    };
    below.push(beside);
    below
}

#[test]
fn roots_and_proofs_are_those_of_rfc_6962() {
    let all = leaves(70);
    let tree = tree(70);
    for size in 0..=70 {
        let edge = Edge::new(size, &tree).unwrap();
        let d = &all[..size as usize];
        assert_eq!((edge.size(), edge.root()), (size, mth(d)), "size {size}");
        for index in 0..size {
            let proof = InclusionProof::new(index, &edge, &tree).unwrap();
            assert_eq!(proof.0, path(index as usize, d), "leaf {index} of {size}");
            proof.verify(index, leaf(index), size, edge.root()).unwrap();
        }
        assert_eq!(InclusionProof::new(size, &edge, &tree), None);
        for old in 1..=size {
            let proof = ConsistencyProof::new(old, &edge, &tree).unwrap();
            assert_eq!(proof.0, subproof(old as usize, d, true), "{old} in {size}");
            proof.verify(old, mth(&all[..old as usize]), size, edge.root()).unwrap();
        }
        let from_nothing = ConsistencyProof::new(0, &edge, &tree).unwrap();
        from_nothing.verify(0, mth(&[]), size, edge.root()).unwrap();
        assert_eq!(ConsistencyProof::new(size + 1, &edge, &tree), None);
    }
}

#[test]
fn no_other_proof_is_taken() {
    let all = leaves(40);
    for size in 1..=40u64 {
        let tree = tree(size);
        let edge = Edge::new(size, &tree).unwrap();
        for index in 0..size {
            let good = InclusionProof::new(index, &edge, &tree).unwrap();
            let refused = |proof: &InclusionProof, index, leaf, size| {
                proof.verify(index, leaf, size, edge.root()).is_err()
            };
            for wrong in changed(&good.0) {
                assert!(refused(&InclusionProof(wrong), index, leaf(index), size));
            }
            assert!(refused(&good, index, leaf(99), size));
            assert!(refused(&good, size, leaf(index), size));
            for other in (0..size).filter(|other| *other != index) {
                assert!(refused(&good, other, leaf(index), size), "{index} is not {other}");
            }
        }
        for old in 1..size {
            let (good, old_root) =
                (ConsistencyProof::new(old, &edge, &tree).unwrap(), mth(&all[..old as usize]));
            for wrong in changed(&good.0) {
                let wrong = ConsistencyProof(wrong);
                assert!(wrong.verify(old, old_root, size, edge.root()).is_err(), "{old} in {size}");
            }
            assert!(good.verify(old, leaf(99), size, edge.root()).is_err());
            assert!(good.verify(old, old_root, size, leaf(99)).is_err());
            assert!(good.verify(size, edge.root(), old, old_root).is_err());
        }
    }
}

/// The same with a node changed, left out, or doubled.
fn changed(proof: &[NodeHash]) -> Vec<Vec<NodeHash>> {
    let mut all = vec![[proof, &[leaf(98)]].concat()];
    for place in 0..proof.len() {
        let mut flipped = proof.to_vec();
        flipped[place].0[place % 32] ^= 1;
        let mut shorter = proof.to_vec();
        shorter.remove(place);
        all.extend([flipped, shorter]);
    }
    all
}

#[test]
fn a_tree_grows_and_proves_with_its_partial_tiles_alone() {
    for size in [0u64, 1, 2, 255, 256, 257, 300, 65_535, 65_536, 65_537, 65_800, 131_072] {
        let mut whole = tree(size);
        let tiles: Vec<Vec<NodeHash>> = (0..3)
            .map(|level| {
                match Tile::in_tree(Content::Hashes(level), (size >> (8 * level)) / 256, size) {
                    None => Vec::new(),
                    Some(tile) => (0..u64::from(tile.width))
                        .map(|n| whole.node(8 * level, tile.start() + n).unwrap())
                        .collect(),
                }
            })
            .collect();
        let mut resumed = Tree::of_partial_tiles(size, &tiles).unwrap();
        let mut cut = whole.clone();
        cut.forget_full_tiles(size);
        if size >= 256 {
            assert_eq!((resumed.node(0, 0), cut.node(0, 0)), (None, None));
            let mut wrong = tiles.clone();
            wrong[0].push(leaf(1));
            assert!(Tree::of_partial_tiles(size, &wrong).is_none());
            assert!(Tree::of_partial_tiles(size, &tiles[..1]).is_none());
        }
        for n in size..size + 300 {
            for tree in [&mut whole, &mut resumed, &mut cut] {
                tree.push(leaf(n));
            }
        }
        let edge = Edge::new(size + 300, &whole).unwrap();
        for tree in [&resumed, &cut] {
            assert_eq!(Edge::new(size + 300, tree).as_ref(), Some(&edge));
            // All that came after it was cut can be proven.
            for n in size..size + 300 {
                let proof = InclusionProof::new(n, &edge, tree).unwrap();
                proof.verify(n, leaf(n), size + 300, edge.root()).unwrap();
            }
        }
    }
    assert!(Tree::of_partial_tiles(3, &[]).is_none());
}

#[test]
fn tiles_are_named_as_c2sp_names_them() {
    let size = 70_000;
    let tile = |content, index| Tile::in_tree(content, index, size).map(|tile| tile.to_string());
    let hashes = |level, index| tile(Content::Hashes(level), index);
    assert_eq!(hashes(0, 0).as_deref(), Some("tile/0/000"));
    assert_eq!(hashes(0, 272).as_deref(), Some("tile/0/272"));
    assert_eq!(hashes(0, 273).as_deref(), Some("tile/0/273.p/112"));
    assert_eq!(hashes(0, 274), None);
    assert_eq!(hashes(1, 0).as_deref(), Some("tile/1/000"));
    assert_eq!(hashes(1, 1).as_deref(), Some("tile/1/001.p/17"));
    assert_eq!(hashes(2, 0).as_deref(), Some("tile/2/000.p/1"));
    assert_eq!(hashes(3, 0), None);
    assert_eq!(tile(Content::Entries, 273).as_deref(), Some("tile/entries/273.p/112"));
    let far = Tile { content: Content::Hashes(0), index: 1_234_067, width: 256 };
    assert_eq!(far.to_string(), "tile/0/x001/x234/067");
    for path in ["tile/0/x001/x234/067", "tile/entries/999.p/255", "tile/7/x018/446"] {
        assert_eq!(path.parse::<Tile>().unwrap().to_string(), path);
    }
    for path in [
        "tile/8/000",
        "tile/00/000",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/x000/001",
        "tile/0/001/x001",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/07",
        "tile/0/+00",
        "tile/data/000",
        "tile/entries/",
        "/tile/0/000",
        "tile/0/000/",
        "tile/0/x999/x999/x999/x999/x999/x999/x999/x999/999",
    ] {
        assert!(path.parse::<Tile>().is_err(), "{path}");
    }
}

#[test]
fn tiles_hold_the_nodes_and_the_cells() {
    let tree = tree(TILE_WIDTH);
    let hashes: Vec<_> = (0..TILE_WIDTH).map(|n| tree.node(0, n).unwrap()).collect();
    assert_eq!(hashes, leaves(TILE_WIDTH));
    assert_eq!(Some(node_above(&hashes)), tree.node(8, 0));
    assert_eq!(Some(node_above(&hashes[64..128])), tree.node(6, 1));
    let bytes = encode_hashes(&hashes);
    assert_eq!(decode_hashes(&bytes, 256).unwrap(), hashes);
    assert!(decode_hashes(&bytes, 255).is_err() && decode_hashes(&bytes[1..], 256).is_err());

    let mut bundle = Vec::new();
    put_entry(&mut bundle, b"abc");
    put_entry(&mut bundle, b"xyz");
    assert_eq!(bundle, b"\x00\x03abc\x00\x03xyz");
    assert_eq!(decode_entries(&bundle).unwrap(), [b"abc", b"xyz"]);
    assert!(decode_entries(&[]).unwrap().is_empty());
    for cut in [1, 4, 6, 9] {
        assert!(decode_entries(&bundle[..cut]).is_err(), "{cut}");
    }
}

// From the C2SP pages on signed notes and checkpoints.
const POEM: &str = "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\
    \ned \u{e8} subito sera.\n\n\u{2014} quasimodo.example/salvatore \
    NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n";

#[test]
fn a_note_is_opened_by_its_key_alone_and_not_if_a_byte_was_changed() {
    let rng = &mut UnwrapErr(SysRng);
    let (key, other) =
        (LogKey::generate("relay.example", rng), LogKey::generate("relay.example", rng));
    let verifier = key.verifier();
    assert_eq!(verifier.to_string().parse::<VerifierKey>().unwrap(), verifier);
    let again = LogKey::from_secret_text(&key.to_secret_text()).unwrap();
    assert_eq!(again.verifier(), verifier);
    assert!(!format!("{key:?}").contains("PRIVATE"));
    let secret = key.to_secret_text();
    for place in 0..secret.len() {
        let mut text = secret.as_bytes().to_vec();
        text[place] ^= 1;
        let text = String::from_utf8(text).unwrap();
        // But for the two bits that base64 leaves over.
        if let Ok(changed) = LogKey::from_secret_text(&text) {
            assert_eq!(changed.verifier(), verifier, "byte {place}");
        }
    }

    let note = key.sign("one\n\nthree\n");
    assert_eq!(verifier.open(&note).unwrap(), "one\n\nthree\n");
    assert!(other.verifier().open(&note).is_err());
    assert!(verifier.open(POEM).is_err());
    // A second signature, of somebody unknown, is passed over.
    let both = format!("{note}{}", POEM.lines().last().unwrap()) + "\n";
    assert_eq!(verifier.open(&both).unwrap(), "one\n\nthree\n");
    for place in 0..note.len() {
        let mut changed = note.clone().into_bytes();
        changed[place] ^= 1;
        if let Ok(changed) = String::from_utf8(changed) {
            assert!(verifier.open(&changed).is_err(), "byte {place}: {changed}");
        }
    }
    for note in ["", "one\n", "one\n\n", "one\n\nthree\n", "a\tb\n\n\u{2014} x AAAA\n"] {
        assert!(verifier.open(note).is_err(), "{note}");
    }
}

#[test]
fn a_checkpoint_says_one_thing_in_one_way() {
    let key = LogKey::generate("relay.example", &mut UnwrapErr(SysRng));
    let good = Checkpoint { size: 7, root: leaf(1), keys: KEYS };
    assert_eq!(Checkpoint::open(&good.sign(&key), &key.verifier()).unwrap(), good);
    let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
    let open = |text: &str| Checkpoint::open(&key.sign(text), &key.verifier());
    let keys = KEYS.line();
    let size = open(&format!("relay.example\n20852163\n{root}\n{keys}\n")).unwrap().size;
    assert_eq!(size, 20_852_163);
    let hash = KEYS.hash.to_string();
    for text in [
        format!("other.example\n1\n{root}\n{keys}\n"),
        format!("relay.example\n01\n{root}\n{keys}\n"),
        format!("relay.example\n+1\n{root}\n{keys}\n"),
        format!("relay.example\n-1\n{root}\n{keys}\n"),
        format!("relay.example\n18446744073709551616\n{root}\n{keys}\n"),
        format!("relay.example\n1\nAAAA\n{keys}\n"),
        format!("relay.example\n1\n{root}\n{keys}\n\nx\n"),
        format!("relay.example\n1\n{keys}\n"),
        // Exactly one extension: any other one could mark whom it is shown to.
        format!("relay.example\n1\n{root}\n"),
        format!("relay.example\n1\n{root}\n{keys}\n{keys}\n"),
        format!("relay.example\n1\n{root}\n{keys}\nan extension\n"),
        format!("relay.example\n1\n{root}\nan extension\n{keys}\n"),
        format!("relay.example\n1\n{root}\ntocyn-keys 03 {hash}\n"),
        format!("relay.example\n1\n{root}\ntocyn-keys {hash}\n"),
        format!("relay.example\n1\n{root}\ntocyn-keys 3 {hash} \n"),
        format!("relay.example\n1\n{root}\ntocyn-keys  3 {hash}\n"),
        format!("relay.example\n1\n{root}\ntocyn-keys 3 AAAA\n"),
    ] {
        assert!(open(&text).is_err(), "{text}");
    }
}

#[test]
fn a_signed_proof_stands_by_itself() {
    let key = LogKey::generate("relay.example", &mut UnwrapErr(SysRng));
    let tree = tree(300);
    let edge = Edge::new(300, &tree).unwrap();
    let checkpoint = Checkpoint { size: 300, root: edge.root(), keys: KEYS };
    let proof = SignedProof {
        index: 299,
        inclusion: InclusionProof::new(299, &edge, &tree).unwrap(),
        checkpoint: checkpoint.sign(&key),
    };
    let text = proof.to_string();
    let read: SignedProof = text.parse().unwrap();
    assert_eq!(read, proof);
    assert_eq!(read.verify(leaf(299), &key.verifier()).unwrap(), checkpoint);
    assert!(read.verify(leaf(298), &key.verifier()).is_err());
    let with_extra = text.replace("index 299", "extra AAAA\nindex 299");
    assert_eq!(with_extra.parse::<SignedProof>().unwrap(), proof);
    for place in 0..text.len() {
        let mut changed = text.clone().into_bytes();
        changed[place] ^= 1;
        let Ok(changed) = String::from_utf8(changed) else { continue };
        let taken = changed
            .parse::<SignedProof>()
            .is_ok_and(|proof| proof.verify(leaf(299), &key.verifier()).is_ok());
        assert!(!taken, "byte {place}: {changed}");
    }
}

#[test]
fn a_line_of_a_key_with_nearly_our_id_is_not_taken_for_ours() {
    let key = LogKey::generate("relay.example", &mut UnwrapErr(SysRng));
    let note = Checkpoint { size: 1, root: leaf(0), keys: KEYS }.sign(&key);
    let (start, signature) = note.trim_end().rsplit_once(' ').unwrap();
    let (text, line) = start.split_at(start.rfind('\u{2014}').unwrap());
    let signature = BASE64.decode(signature).unwrap();
    for bit in 0..32 {
        let mut other = signature.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        let both = format!("{text}{line} {}\n{}", BASE64.encode(other), &note[text.len()..]);
        assert_eq!(key.verifier().bare(&both).unwrap(), note, "bit {bit}");
    }
}
