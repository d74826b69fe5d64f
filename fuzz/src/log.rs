//! The log's files and proofs, and the stream of cells.

use tocyn_protocol::log::proof::{ConsistencyProof, InclusionProof};
use tocyn_protocol::log::tile::{
    Content, TILE_HEIGHT, TILE_LEVELS, Tile, decode_entries, decode_hashes, encode_hashes,
    put_entry,
};
use tocyn_protocol::log::tree::{Edge, NodeHash, Nodes, Tree};
use tocyn_protocol::relay::{CellDecoder, STREAM_HEADER_BYTES, pack, unpack};

use crate::{Target, text};

/// The program.
pub const TARGET: Target = Target {
    name: "log",
    decoders: &[
        ("tile path", tile_path),
        ("tile", tile),
        ("bundle", bundle),
        ("inclusion", inclusion),
        ("consistency", consistency),
        ("any proof", any_proof),
        ("partial tiles", partial_tiles),
        ("stream of cells", cells),
        ("plaintext cell", plaintext_cell),
    ],
};

/// Is the one way to write it, and a tile that some tree has.
fn tile_path(bytes: &[u8]) {
    let Some(path) = text(bytes) else { return };
    let Ok(tile) = path.parse::<Tile>() else { return };
    assert_eq!(tile.to_string(), path);
    let end = tile.start() + u64::from(tile.width);
    let level = match tile.content {
        Content::Hashes(level) => level,
        Content::Entries => 0,
    };
    assert!(level < TILE_LEVELS);
    let shift = u32::from(level * TILE_HEIGHT);
    if end.leading_zeros() >= shift {
        let size = end << shift;
        assert_eq!(Tile::in_tree(tile.content, tile.index, size), Some(tile));
        assert_eq!(Tile::in_tree(tile.content, tile.index, tile.start() << shift), None);
    }
}

/// Encodes to the same bytes. The first two say how many hashes are due.
fn tile(bytes: &[u8]) {
    let Some((width, bytes)) = bytes.split_first_chunk() else { return };
    let width = u16::from_be_bytes(*width);
    if let Ok(hashes) = decode_hashes(bytes, width) {
        assert_eq!(hashes.len(), usize::from(width));
        assert_eq!(encode_hashes(&hashes), bytes);
    }
}

fn bundle(bytes: &[u8]) {
    let Ok(cells) = decode_entries(bytes) else { return };
    assert!(cells.len() <= bytes.len() / 2);
    let mut out = Vec::new();
    cells.iter().for_each(|cell| put_entry(&mut out, cell));
    assert_eq!(out, bytes);
}

/// A tree of so many leaves, each another one.
fn tree(size: u8) -> (Tree, Edge) {
    let mut tree = Tree::default();
    (0..size).for_each(|leaf| tree.push(NodeHash([leaf; 32])));
    let edge = Edge::new(size.into(), &tree).unwrap();
    (tree, edge)
}

/// Changes a proof as the bytes say: two for each change, which and where.
fn change(nodes: &mut Vec<NodeHash>, bytes: &[u8]) {
    for change in bytes.as_chunks::<2>().0.iter().take(8) {
        let place = usize::from(change[1]) % (nodes.len() + 1);
        match change[0] % 5 {
            0 => nodes.insert(place, NodeHash([change[0]; 32])),
            1 if place < nodes.len() => drop(nodes.remove(place)),
            2 if place < nodes.len() => nodes[place].0[usize::from(change[0]) % 32] ^= change[1],
            3 if place < nodes.len() => nodes.rotate_left(place),
            _ => {}
        }
    }
}

/// Holds for the leaf that it was made for, unchanged, and for nothing else.
fn inclusion(bytes: &[u8]) {
    let [size, index, claimed, changes @ ..] = bytes else { return };
    let (size, index) = (size.max(&1), index % size.max(&1));
    let (tree, edge) = tree(*size);
    let honest = InclusionProof::new(index.into(), &edge, &tree).unwrap();
    let mut changed = honest.clone();
    change(&mut changed.0, changes);
    let leaf = tree.node(0, index.into()).unwrap();
    let verified = changed.verify((*claimed).into(), leaf, (*size).into(), edge.root()).is_ok();
    assert_eq!(verified, changed == honest && *claimed == index);
}

/// Holds between the trees that it was made for, unchanged, and between no others.
fn consistency(bytes: &[u8]) {
    let [old, size, other, changes @ ..] = bytes else { return };
    let old = old.min(size);
    let (old_edge, (tree, edge)) = (tree(*old).1, tree(*size));
    let honest = ConsistencyProof::new((*old).into(), &edge, &tree).unwrap();
    let mut changed = honest.clone();
    change(&mut changed.0, changes);
    let old_root = match other {
        0 => old_edge.root(),
        other => NodeHash([*other; 32]),
    };
    let verified = changed.verify((*old).into(), old_root, (*size).into(), edge.root()).is_ok();
    assert_eq!(verified, changed == honest && *other == 0);
}

/// Numbers of any size and nodes that are none: an end, and no root that was not computed.
fn any_proof(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first_chunk() else { return };
    let Some((second, rest)) = rest.split_first_chunk() else { return };
    let (first, second) = (u64::from_be_bytes(*first), u64::from_be_bytes(*second));
    let nodes: Vec<_> = rest.as_chunks().0.iter().copied().map(NodeHash).collect();
    let root = NodeHash([0xaa; 32]);
    let leaf = NodeHash([0; 32]);
    assert!(InclusionProof(nodes.clone()).verify(first, leaf, second, root).is_err());
    let proof = ConsistencyProof(nodes);
    let taken = proof.verify(first, leaf, second, root).is_ok();
    assert!(!taken, "a log of {first} that is none, in one of {second}");
    let same = proof.verify(first, root, second, root).is_ok();
    assert_eq!(same, first == second && first != 0 && proof.0.is_empty());
}

/// A tree of them is there only if they are all that it takes; then it has a root and proofs.
fn partial_tiles(bytes: &[u8]) {
    let Some((size, widths)) = bytes.split_first_chunk() else { return };
    let size = u64::from_be_bytes(*size);
    let tiles: Vec<Vec<NodeHash>> = widths
        .iter()
        .take(12)
        .map(|width| (0..*width).map(|node| NodeHash([node; 32])).collect())
        .collect();
    let Some(mut tree) = Tree::of_partial_tiles(size, &tiles) else { return };
    assert_eq!(tree.size(), size);
    let edge = Edge::new(size, &tree).expect("partial tiles have all of the edge");
    if size == u64::MAX {
        return;
    }
    tree.push(NodeHash([0xff; 32]));
    let grown = Edge::new(size + 1, &tree).expect("it grew");
    let proof = ConsistencyProof::new(size, &grown, &tree).expect("the edge has all of it");
    proof.verify(size, edge.root(), size + 1, grown.root()).expect("it only grew");
    let proof = InclusionProof::new(size, &grown, &tree).expect("its siblings are at the edge");
    proof.verify(size, NodeHash([0xff; 32]), size + 1, grown.root()).expect("it is the last");
}

/// Gives the same cells however the stream is cut, all that is whole, and keeps the rest.
fn cells(bytes: &[u8]) {
    let [cell_bytes, cut, stream @ ..] = bytes else { return };
    let (cell_bytes, cut) = (usize::from(*cell_bytes), usize::from(*cut).max(1));
    let whole = CellDecoder::new(cell_bytes).push(stream);
    let mut decoder = CellDecoder::new(cell_bytes);
    let cells: Vec<_> = stream.chunks(cut).flat_map(|chunk| decoder.push(chunk)).collect();
    assert_eq!(cells, whole);
    let frame = STREAM_HEADER_BYTES + cell_bytes;
    assert_eq!(cells.len(), stream.len() / frame);
    assert_eq!(decoder.is_empty(), stream.len() % frame == 0);
    let again: Vec<u8> =
        cells.iter().flat_map(|(seq, cell)| [&seq.to_be_bytes(), &cell[..]].concat()).collect();
    assert_eq!(again, stream[..again.len()]);
}

fn plaintext_cell(bytes: &[u8]) {
    if let Ok(text) = unpack(bytes) {
        assert_eq!(pack(text, bytes.len()).unwrap(), bytes);
    }
}
