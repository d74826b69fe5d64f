//! A copy of a relay's log in a folder, for any file server to hand out. Whoever reads it checks it,
//! so nobody need trust who made it; that it was checked here too spares its readers trouble.
//!
//! | file | |
//! |---|---|
//! | `checkpoint`, `tile/...` | as at the relay (c2sp.org/tlog-tiles) |
//! | `v1/info` | the relay's info document, with the range of messages that are here |
//!
//! The checkpoint is replaced last, in one step, so that whatever it names is there.

use std::fs::File;
use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use tocyn_durable::names::{self, Batch};
use tocyn_protocol::error::DecodeError;
use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::note::NoteError;
use tocyn_protocol::log::tile::{
    Content, TILE_LEVELS, TILE_WIDTH, Tile, decode_entries, decode_hashes, encode_hashes, put_entry,
};
use tocyn_protocol::log::tree::{Edge, NodeHash, Nodes, Tree};
use tocyn_protocol::problem::ProblemType;
use tocyn_protocol::relay::{MessageId, RelayInfo};

use crate::log::files::{CHECKPOINT_PATH, LogFiles, TileSource};
use crate::log::follow::{add, check_growth, leaf_tiles};
use crate::log::{LogError, nodes};
use crate::relay::INFO_PATH;
use crate::transport::HttpError;

/// Why the copy is not up to date. What was there before is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MirrorError {
    /// The folder.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something else is in the folder.
    #[error("{0} has other files than those of a mirror; give an empty folder")]
    NotEmpty(PathBuf),
    /// Another run.
    #[error("{0} is being written by another `tocyn mirror`")]
    InUse(PathBuf),
    /// What is in the folder is no copy of a log.
    #[error("{path} is no file of a mirror ({error}); give an empty folder, or remove it")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: String,
    },
    /// The folder has another log.
    #[error(
        "this folder has the log of {here}, the relay has that of {there}; give another folder"
    )]
    OtherLog {
        /// In the folder.
        here: String,
        /// The relay's.
        there: String,
    },
    /// The relay's checkpoint.
    #[error("the relay's checkpoint cannot be used: {0}")]
    Checkpoint(#[from] NoteError),
    /// The relay's log does not go on from what is here.
    #[error(
        "what the relay hands out does not go on from the {here} messages that are here to the \
         {there} that it has signed: it has another log now, or lies. The copy stays as it is; keep \
         its file `checkpoint`, which shows it"
    )]
    Other {
        /// Messages here.
        here: u64,
        /// Messages that the relay has signed.
        there: u64,
    },
    /// A message that is not the one in the tree.
    #[error("{url} hands out another message {seq} than is in the log; the copy stays as it is")]
    Altered {
        /// Who.
        url: String,
        /// Which one.
        seq: u64,
    },
    /// The relay's log cannot be had.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl From<HttpError> for MirrorError {
    fn from(error: HttpError) -> Self {
        LogError::from(error).into()
    }
}

fn is_gone(error: &HttpError) -> bool {
    let HttpError::Refused { problem, .. } = error else { return false };
    problem.problem_type() == Some(ProblemType::CursorGone)
}

/// What is in the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Mirrored {
    /// The first message whose bundle is here.
    pub oldest: u64,
    /// Messages in the log.
    pub size: u64,
    /// Messages that came now.
    pub new: u64,
}

/// A folder with a copy.
pub struct Mirror {
    dir: PathBuf,
}

impl TileSource for Mirror {
    type Error = MirrorError;

    async fn hashes(&self, tile: Tile) -> Result<Vec<NodeHash>, MirrorError> {
        let bytes = self.read(&tile.to_string())?.unwrap_or_default();
        decode_hashes(&bytes, tile.width).map_err(|error| self.damaged(&tile.to_string(), error))
    }
}

impl Mirror {
    /// The folder, which may be empty.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Fetches what is new and checks it.
    pub async fn update(&self, relay: &LogFiles) -> Result<Mirrored, MirrorError> {
        let _lock = self.lock()?;
        let mut info = relay.info().await?;
        let note = relay.checkpoint().await?;
        let shown = Checkpoint::open(&note, &info.log_key)?;
        let here = self.info()?;
        if here.is_none() && !self.is_empty()? {
            return Err(MirrorError::NotEmpty(self.dir.clone()));
        }
        if let Some(here) = here.as_ref().filter(|here| here.log_key != info.log_key) {
            let (here, there) = (here.log_key.to_string(), info.log_key.to_string());
            return Err(MirrorError::OtherLog { here, there });
        }
        let old_size = self.size(&info)?;
        let mut tree = nodes::tree(self, old_size).await?;
        let tree = tree.get_or_insert_default();
        let not_on = MirrorError::Other { here: old_size, there: shown.size };
        if shown.size < old_size {
            return Err(not_on);
        }
        check_growth(old_size, shown.size, relay)?;
        let mut tiles = leaf_tiles(relay, old_size, shown.size);
        while let Some((tile, hashes)) = tiles.try_next().await? {
            add(tree, tile, hashes);
        }
        let edge = Edge::new(shown.size, tree);
        if edge.is_none_or(|edge| edge.root() != shown.root) {
            return Err(not_on);
        }
        // Bundles are whole: one that has lost its first messages is passed over.
        let oldest = here.map_or(info.oldest, |here| here.oldest);
        let oldest = (oldest - 1).div_ceil(TILE_WIDTH) * TILE_WIDTH + 1;
        let oldest =
            self.fetch_bundles(relay, &info, tree, old_size, oldest).await?.min(shown.size + 1);
        for (tile, hashes) in nodes::changed_tiles(tree, old_size).unwrap_or_default() {
            self.write(&tile.to_string(), &encode_hashes(&hashes))?;
        }
        (info.oldest, info.head) = (oldest, shown.size);
        self.write(INFO_PATH, &serde_json::to_vec_pretty(&info).expect("it is plain data"))?;
        self.write(CHECKPOINT_PATH, note.as_bytes())?;
        self.drop_partial(old_size, shown.size)?;
        Ok(Mirrored { oldest, size: shown.size, new: shown.size - old_size })
    }

    /// Fetches the bundles that are new, or longer than they were; gives the first message of those that
    /// are here without a gap.
    async fn fetch_bundles(
        &self,
        relay: &LogFiles,
        info: &RelayInfo,
        tree: &Tree,
        old_size: u64,
        mut oldest: u64,
    ) -> Result<u64, MirrorError> {
        for index in old_size.max(oldest - 1) / TILE_WIDTH..tree.size().div_ceil(TILE_WIDTH) {
            let bundle = Tile::in_tree(Content::Entries, index, tree.size());
            let Some(bundle) = bundle.filter(|bundle| bundle.start() + 1 >= oldest) else {
                continue;
            };
            let Some(cells) = self.fetch_bundle(relay, info, bundle, old_size).await? else {
                // Some of its cells can no longer be had.
                oldest = (index + 1) * TILE_WIDTH + 1;
                continue;
            };
            let mut bytes = Vec::new();
            for (place, cell) in (bundle.start()..).zip(cells) {
                let leaf = tree.node(0, place).map(MessageId::from);
                if leaf != Some(MessageId::of(&cell)) {
                    let url = relay.url().to_string();
                    return Err(MirrorError::Altered { url, seq: place + 1 });
                }
                put_entry(&mut bytes, &cell);
            }
            self.write(&bundle.to_string(), &bytes)?;
        }
        Ok(oldest)
    }

    /// The cells of a bundle. Where its first ones are gone at the relay, but are here, the rest.
    async fn fetch_bundle(
        &self,
        relay: &LogFiles,
        info: &RelayInfo,
        bundle: Tile,
        old_size: u64,
    ) -> Result<Option<Vec<Vec<u8>>>, MirrorError> {
        match relay.cells(bundle).await {
            Err(error) if is_gone(&error) => {}
            cells => return Ok(Some(cells?)),
        }
        let Some(here) = Tile::in_tree(Content::Entries, bundle.index, old_size) else {
            return Ok(None);
        };
        let bytes = self.read(&here.to_string())?.unwrap_or_default();
        let cells = decode_entries(&bytes);
        let cells = cells.map_err(|error| self.damaged(&here.to_string(), error))?;
        let mut cells: Vec<Vec<u8>> = cells.into_iter().map(<[u8]>::to_vec).collect();
        let number = usize::from(bundle.width).saturating_sub(cells.len());
        let after = bundle.start() + cells.len() as u64;
        match relay.cells_after(after, number, info.cell_bytes as usize).await {
            Err(error) if is_gone(&error) => Ok(None),
            rest => {
                cells.extend(rest?);
                Ok(Some(cells))
            }
        }
    }

    /// Partial tiles that a full one has replaced. Readers that want them take the full one.
    fn drop_partial(&self, old_size: u64, size: u64) -> Result<(), MirrorError> {
        let mut names = Batch::default();
        let full = |level: u32, size: u64| size.checked_shr(8 * level).unwrap_or(0) / TILE_WIDTH;
        for (level, content) in (0..TILE_LEVELS)
            .map(|level| (level, Content::Hashes(level)))
            .chain(std::iter::once((0, Content::Entries)))
        {
            for index in full(level.into(), old_size)..full(level.into(), size) {
                let tile = Tile { content, index, width: TILE_WIDTH as u16 };
                let path = self.dir.join(format!("{tile}.p"));
                match names.remove_dir_all(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(MirrorError::Io { path, source: error });
                    }
                    _ => {}
                }
            }
        }
        names.sync().map_err(|source| MirrorError::Io { path: self.dir.clone(), source })
    }

    /// Whether nothing is in the folder but what this run has put there.
    fn is_empty(&self) -> Result<bool, MirrorError> {
        let failed = |source| MirrorError::Io { path: self.dir.clone(), source };
        for entry in std::fs::read_dir(&self.dir).map_err(failed)? {
            // The first run may have been cut short before it wrote `v1/info`.
            let name = entry.map_err(failed)?.file_name();
            if !["lock", "tile", "v1"].iter().any(|ours| name == *ours) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// So that two runs do not write into one folder.
    fn lock(&self) -> Result<File, MirrorError> {
        let path = self.dir.join("lock");
        let open = || {
            make_dir(&self.dir)?;
            names::open_or_create(&path, 0o666)
        };
        let file = open().map_err(|source| MirrorError::Io { path: path.clone(), source })?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(_) => Err(MirrorError::InUse(self.dir.clone())),
        }
    }

    fn info(&self) -> Result<Option<RelayInfo>, MirrorError> {
        let Some(bytes) = self.read(INFO_PATH)? else { return Ok(None) };
        let info = serde_json::from_slice(&bytes);
        info.map(Some).map_err(|error| self.damaged(INFO_PATH, error))
    }

    /// Messages in the copy.
    fn size(&self, info: &RelayInfo) -> Result<u64, MirrorError> {
        let Some(note) = self.read(CHECKPOINT_PATH)? else { return Ok(0) };
        let opened = Checkpoint::open(&String::from_utf8_lossy(&note), &info.log_key);
        opened.map(|here| here.size).map_err(|error| self.damaged(CHECKPOINT_PATH, error))
    }

    fn damaged(&self, path: &str, error: impl ToString) -> MirrorError {
        let path = self.dir.join(path.trim_start_matches('/'));
        MirrorError::Damaged { path, error: error.to_string() }
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, MirrorError> {
        let path = self.dir.join(path.trim_start_matches('/'));
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(MirrorError::Io { path, source }),
        }
    }

    /// In one step, so that no reader gets half a file.
    fn write(&self, path: &str, bytes: &[u8]) -> Result<(), MirrorError> {
        let path = self.dir.join(path.trim_start_matches('/'));
        let write = || {
            make_dir(path.parent().unwrap_or(&self.dir))?;
            // For the file server, which may be another user.
            names::replace(&path, 0o644, bytes)
        };
        write().map_err(|source| MirrorError::Io { path: path.clone(), source })
    }
}

/// Makes a folder, and those above it, which the file server may enter whatever the umask is.
fn make_dir(dir: &Path) -> std::io::Result<()> {
    if dir.is_dir() {
        // A run may have been killed before it synced the name.
        return names::create_dir(dir, 0o755);
    }
    if let Some(above) = dir.parent().filter(|above| !above.as_os_str().is_empty()) {
        make_dir(above)?;
    }
    names::create_dir(dir, 0o755)?;
    std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755))
}

impl From<DecodeError> for MirrorError {
    fn from(error: DecodeError) -> Self {
        NoteError::from(error).into()
    }
}
