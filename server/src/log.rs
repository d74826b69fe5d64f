//! The tree over all messages, signed as it grows. It follows from the order of the log alone, so
//! each of several relays keeps it by itself, and all sign the same.

use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::evidence::SignedProof;
use tocyn_protocol::log::note::{LogKey, VerifierKey};
use tocyn_protocol::log::proof::InclusionProof;
use tocyn_protocol::log::tile::{
    Content, TILE_HEIGHT, TILE_LEVELS, TILE_WIDTH, Tile, Tiles, encode_hashes, node_above,
};
use tocyn_protocol::log::tree::{Edge, NodeHash, Nodes, Tree};
use tocyn_protocol::pairing::Pairing;
use tocyn_protocol::relay::{MessageId, PostReceipt, ProvenReceipt, STREAM_HEADER_BYTES};

use tokio::sync::{Mutex, watch};

use crate::config::Config;
use crate::statements::Statements;
use crate::store::{FullTile, Leaves, Store, StoreError};

/// Messages that are read in one piece where a log from before there was a tree is given one.
const OLD_MESSAGES: u64 = 4096;
/// Leaves that are put away in one piece.
const PUT_LEAVES: u64 = 65_536;

/// The tree, and the key that signs it.
pub struct Log {
    key: LogKey,
    verifier: VerifierKey,
    store: Store,
    statements: Statements,
    cell_bytes: usize,
    state: Mutex<State>,
    /// Messages that the newest signed checkpoint is of.
    signed: watch::Sender<u64>,
}

struct State {
    /// In memory are its partial tiles, and those that are not put away yet.
    tree: Tree,
    /// Leaves that are in tiles which were put away.
    tiled: u64,
    edge: Edge,
    /// The checkpoint of that edge.
    checkpoint: Checkpoint,
    /// The same, signed.
    note: String,
}

impl Log {
    /// Loads the end of the tree, and catches up with the log. The key is the one that the store was
    /// opened with: a log is signed with one key for ever. If pairing or addresses are new, a statement of keys is
    /// signed.
    pub async fn open(
        store: Store,
        key: LogKey,
        pairing: &Pairing,
        config: &Config,
        now: u64,
    ) -> Result<Self, StoreError> {
        let verifier = key.verifier();
        let statements = Statements::publish(&store, &key, pairing, config, now).await?;
        let cell_bytes = config.cell_bytes;
        let tiled = store.tiled().await? * TILE_WIDTH;
        let tree = load(&store, tiled).await?;
        let edge = Edge::new(tree.size(), &tree).ok_or(StoreError::Tree)?;
        let (size, root) = (edge.size(), edge.root());
        let checkpoint = Checkpoint { size, root, keys: statements.named_at(size) };
        let note = checkpoint.sign(&key);
        let state = Mutex::new(State { tree, tiled, edge, checkpoint, note });
        let signed = watch::Sender::new(size);
        let log = Self { key, verifier, store, statements, cell_bytes, state, signed };
        log.plant().await?;
        Ok(log)
    }

    /// Whose signature the log has.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The size of the newest signed checkpoint, as it grows. Closed when the log is no more.
    pub fn signed(&self) -> watch::Receiver<u64> {
        self.signed.subscribe()
    }

    /// The statements of keys.
    pub fn statements(&self) -> &Statements {
        &self.statements
    }

    /// Gives a log a tree that was begun before there were any.
    async fn plant(&self) -> Result<(), StoreError> {
        let head = self.store.range().await?.head;
        loop {
            let size = {
                let mut state = self.state.lock().await;
                if state.tree.size() < head && self.catch_up_a_little(&mut state.tree).await? {
                    None
                } else {
                    Some(state.tree.size())
                }
            };
            self.put_away().await?;
            let size = match size {
                None => continue,
                Some(size) if size >= head => return Ok(()),
                Some(size) => size,
            };
            let page = self.store.read_after(size, OLD_MESSAGES).await?;
            let Some(page) = page.filter(|page| page.last == size + page.messages) else {
                let database = "the relay's database".to_owned();
                let reason = "its first messages were deleted before this version of tocyn-relay, \
                     which signs the log from its first message on, was started; begin a new database"
                    .to_owned();
                return Err(StoreError::Open { database, reason });
            };
            let frames = page.bytes.chunks_exact(STREAM_HEADER_BYTES + self.cell_bytes);
            let hash = |frame: &[u8]| MessageId::of(&frame[STREAM_HEADER_BYTES..]).into();
            let leaves = Leaves { first_seq: size + 1, hashes: frames.map(hash).collect() };
            self.store.put_old_leaves(&leaves).await?;
        }
    }

    /// Receipts of messages that were stored just now, with proofs.
    pub async fn prove_new(
        &self,
        stored: &[PostReceipt],
    ) -> Result<Vec<ProvenReceipt>, StoreError> {
        let mut state = self.state.lock().await;
        for receipt in stored {
            // Between them may be messages of other relays.
            self.catch_up(&mut state, receipt.seq - 1).await?;
            if receipt.seq == state.tree.size() + 1 {
                state.tree.push(receipt.message_id.into());
            }
        }
        self.sign(&mut state).await?;
        stored.iter().map(|receipt| state.prove(*receipt, &state.tree)).collect()
    }

    /// The receipt of any message, with a proof of now.
    pub async fn prove(&self, receipt: PostReceipt) -> Result<ProvenReceipt, StoreError> {
        // Up to the head, so that nobody is shown a shorter log here than elsewhere before.
        let head = self.store.range().await?.head.max(receipt.seq);
        {
            let mut state = self.state.lock().await;
            self.catch_up(&mut state, head).await?;
            self.sign(&mut state).await?;
            if let Ok(proven) = state.prove(receipt, &state.tree) {
                return Ok(proven);
            }
        }
        // A tile may fill and leave memory between two looks, so there is a second try.
        match self.prove_old(receipt).await {
            Err(StoreError::Tree) => self.prove_old(receipt).await,
            proven => proven,
        }
    }

    /// Full tiles do not change, so the state need not be held while they are read.
    async fn prove_old(&self, receipt: PostReceipt) -> Result<ProvenReceipt, StoreError> {
        let mut tiles = Tiles::default();
        for level in 0..TILE_LEVELS {
            let tile = (receipt.seq - 1) >> (u32::from(level + 1) * u32::from(TILE_HEIGHT)).min(63);
            let Some(hashes) = self.store.tile(level, tile).await? else { break };
            tiles.0.insert((level, tile), hashes);
        }
        let state = self.state.lock().await;
        state.prove(receipt, &Known { tree: &state.tree, tiles: &tiles })
    }

    /// The newest checkpoint: of all that is durable now.
    pub async fn checkpoint(&self) -> Result<String, StoreError> {
        let head = self.store.range().await?.head;
        let mut state = self.state.lock().await;
        self.catch_up(&mut state, head).await?;
        self.sign(&mut state).await?;
        Ok(state.note.clone())
    }

    /// The bytes of a tile of hashes. None if the log has no such tile, or not yet.
    pub async fn tile(&self, tile: Tile) -> Result<Option<Vec<u8>>, StoreError> {
        let Content::Hashes(level) = tile.content else { return Ok(None) };
        let width = usize::from(tile.width);
        {
            let size = self.state.lock().await.tree.size();
            // Not asked for under the lock: the writer needs that.
            let head = match is_there(tile, size) {
                true => 0,
                false => self.store.range().await?.head,
            };
            let mut state = self.state.lock().await;
            if !is_there(tile, state.tree.size().max(head)) {
                return Ok(None);
            }
            self.catch_up(&mut state, head).await?;
            let node = |n| state.tree.node(level * TILE_HEIGHT, tile.start() + n);
            let hashes: Option<Vec<_>> = (0..u64::from(tile.width)).map(node).collect();
            if let Some(hashes) = hashes {
                return Ok(Some(encode_hashes(&hashes)));
            }
        }
        let full = self.store.tile(level, tile.index).await?.ok_or(StoreError::Tree)?;
        Ok(Some(encode_hashes(&full[..width])))
    }

    /// Takes in what other relays have stored, and puts full tiles away, from memory into the
    /// database: in pieces, so that neither takes long.
    pub async fn put_away(&self) -> Result<(), StoreError> {
        let head = self.store.range().await?.head;
        loop {
            let (tiles, tiled) = {
                let mut state = self.state.lock().await;
                if state.tree.size() < head {
                    self.catch_up_a_little(&mut state.tree).await?;
                }
                let tiled =
                    state.tree.size().min(state.tiled + PUT_LEAVES) / TILE_WIDTH * TILE_WIDTH;
                (state.full_tiles(tiled).ok_or(StoreError::Tree)?, tiled)
            };
            if tiles.is_empty() {
                return Ok(());
            }
            self.store.put_tiles(&tiles, tiled).await?;
            let mut state = self.state.lock().await;
            state.tiled = tiled;
            state.tree.forget_full_tiles(tiled);
        }
    }

    /// Takes in the leaves of messages that others have stored, up to this sequence at least.
    async fn catch_up(&self, state: &mut State, upto: u64) -> Result<(), StoreError> {
        while state.tree.size() < upto {
            if !self.catch_up_a_little(&mut state.tree).await? {
                return Err(StoreError::Tree);
            }
        }
        Ok(())
    }

    /// Signs the tree as it is, if it has grown, or there is a newer statement of keys.
    async fn sign(&self, state: &mut State) -> Result<(), StoreError> {
        self.statements.refresh().await?;
        if state.edge.size() != state.tree.size() {
            state.edge = Edge::new(state.tree.size(), &state.tree).ok_or(StoreError::Tree)?;
        }
        let (size, root) = (state.edge.size(), state.edge.root());
        let checkpoint = Checkpoint { size, root, keys: self.statements.named_at(size) };
        if checkpoint != state.checkpoint {
            state.note = checkpoint.sign(&self.key);
            state.checkpoint = checkpoint;
            self.signed.send_replace(size);
        }
        Ok(())
    }

    /// Says whether there was anything.
    async fn catch_up_a_little(&self, tree: &mut Tree) -> Result<bool, StoreError> {
        let before = tree.size();
        // From the last one that is known on: if that is another one, this is another log.
        for leaves in self.store.leaves_after(before.saturating_sub(1)).await? {
            for (index, hash) in (leaves.first_seq - 1..).zip(&leaves.hashes) {
                take(tree, index, *hash)?;
            }
        }
        if tree.size() == before {
            // Another relay may have put them away meanwhile.
            let first = before / TILE_WIDTH;
            let Some(tile) = self.store.tile(0, first).await? else { return Ok(false) };
            for (index, hash) in (first * TILE_WIDTH..).zip(tile) {
                take(tree, index, hash)?;
            }
        }
        Ok(tree.size() > before)
    }
}

/// Takes in a leaf, if it is the next one. Another one than is known is of another log.
fn take(tree: &mut Tree, index: u64, leaf: NodeHash) -> Result<(), StoreError> {
    if index == tree.size() {
        tree.push(leaf);
    }
    match tree.node(0, index) {
        Some(known) if known != leaf => Err(StoreError::WentBack),
        _ => Ok(()),
    }
}

/// Whether a log of so many messages has this tile, or the part of it that was asked for.
pub(crate) fn is_there(tile: Tile, size: u64) -> bool {
    let whole = Tile::in_tree(tile.content, tile.index, size);
    whole.is_some_and(|whole| whole.width >= tile.width)
}

/// The tree up to the last tile that was put away.
async fn load(store: &Store, tiled: u64) -> Result<Tree, StoreError> {
    let mut partial_tiles = vec![Vec::new()];
    let mut nodes = tiled / TILE_WIDTH;
    for level in 1..TILE_LEVELS {
        let mut partial = Vec::new();
        for node in nodes - nodes % TILE_WIDTH..nodes {
            let below = store.tile(level - 1, node).await?.ok_or(StoreError::Tree)?;
            partial.push(node_above(&below));
        }
        partial_tiles.push(partial);
        nodes /= TILE_WIDTH;
    }
    Tree::of_partial_tiles(tiled, &partial_tiles).ok_or(StoreError::Tree)
}

impl State {
    fn prove(&self, receipt: PostReceipt, nodes: &impl Nodes) -> Result<ProvenReceipt, StoreError> {
        let index = receipt.seq - 1;
        if nodes.node(0, index).is_some_and(|leaf| leaf != receipt.message_id.into()) {
            return Err(StoreError::WentBack);
        }
        let inclusion = InclusionProof::new(index, &self.edge, nodes).ok_or(StoreError::Tree)?;
        let proof = SignedProof { index, inclusion, checkpoint: self.note.clone() };
        Ok(ProvenReceipt { receipt, proof: proof.to_text() })
    }

    /// Those that are full with the first `upto` leaves, and were not put away.
    fn full_tiles(&self, upto: u64) -> Option<Vec<FullTile>> {
        let mut tiles = Vec::new();
        for level in 0..TILE_LEVELS {
            let full = |leaves: u64| {
                leaves.checked_shr(u32::from(level) * u32::from(TILE_HEIGHT)).unwrap_or(0)
                    / TILE_WIDTH
            };
            for index in full(self.tiled)..full(upto) {
                let node = |n| self.tree.node(level * TILE_HEIGHT, index * TILE_WIDTH + n);
                let hashes = (0..TILE_WIDTH).map(node).collect::<Option<_>>()?;
                tiles.push(FullTile { level, index, hashes });
            }
        }
        Some(tiles)
    }
}

/// What is in memory, and some tiles that are not.
struct Known<'a> {
    tree: &'a Tree,
    tiles: &'a Tiles,
}

impl Nodes for Known<'_> {
    fn node(&self, level: u8, index: u64) -> Option<NodeHash> {
        self.tree.node(level, index).or_else(|| self.tiles.node(level, index))
    }
}
