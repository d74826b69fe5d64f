//! Messages, wherever they lie: the newest in the database, the others in sealed bundles.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tocyn_durable::names::Batch;
use tocyn_protocol::log::note::VerifierKey;
use tocyn_protocol::log::tile::{Content, ENTRY_HEADER_BYTES, TILE_WIDTH, Tile, put_entry};
use tocyn_protocol::log::tree::HASH_BYTES;
use tocyn_protocol::relay::STREAM_HEADER_BYTES;
use tokio::sync::Semaphore;

use crate::bundles::{Folder, FolderError, open};
use crate::log::is_there;
use crate::store::{ReadPage, Store, StoreError, block_messages};

/// Files that are read at once; more wait. A folder on a network may hang, and each read then keeps a
/// thread of those that everything else needs too.
const READS: usize = 64;
/// How long a read may take, with the wait for its turn, before the reader is cut off.
const PATIENCE: Duration = Duration::from_secs(30);

/// The messages that are kept.
pub struct Messages {
    store: Store,
    cell_bytes: usize,
    folder: Option<Folder>,
    reads: Arc<Semaphore>,
    /// The bundles that were sealed when the database was last asked.
    sealed: Mutex<Range<u64>>,
    /// Bundles before this one have no files any more.
    removed: AtomicU64,
}

impl Messages {
    /// With the folder that sealed bundles are in, made if it is not there and repaired after a
    /// crash. Refuses one of another log, and one that lacks a bundle. Without a folder nothing
    /// is sealed; that is refused where something was.
    pub async fn open(
        store: Store,
        folder: Option<&Path>,
        key: &VerifierKey,
        cell_bytes: usize,
    ) -> Result<Self, StoreError> {
        let sealed = store.sealed().await?;
        let folder = folder.map(|path| Folder::new(path.to_owned(), cell_bytes));
        match folder.clone() {
            Some(folder) => {
                let (opening, key, expected) = (folder.clone(), key.to_string(), sealed.clone());
                let is_new = store.range().await?.head == 0;
                let open = move || open::open(&opening, &key, expected, is_new);
                let mut missing = blocking(open).await?;
                if !missing.is_empty() {
                    // Another relay may have dropped them meanwhile.
                    let now = store.sealed().await?;
                    missing.retain(|bundle| now.contains(bundle));
                }
                if !missing.is_empty() {
                    return Err(open::lacks(&folder, &sealed, &missing));
                }
            }
            None if sealed.is_empty() => {}
            None => {
                let database = "the relay's database".to_owned();
                let reason = format!(
                    "its {} are sealed in files, and log.folder does not say where: set it in \
                     config.toml to the folder of the relay that sealed them, by default log in its \
                     data folder",
                    sequences(&sealed)
                );
                return Err(StoreError::Open { database, reason });
            }
        }
        let removed = sealed.start.into();
        let (reads, sealed) = (Arc::new(Semaphore::new(READS)), Mutex::new(sealed));
        Ok(Self { store, cell_bytes, folder, reads, sealed, removed })
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Where sealed bundles are, if any are made.
    pub fn folder(&self) -> Option<&Folder> {
        self.folder.as_ref()
    }

    /// Size of every cell.
    pub fn cell_bytes(&self) -> usize {
        self.cell_bytes
    }

    fn sealed(&self) -> Range<u64> {
        self.sealed.lock().expect("no panic under the lock").clone()
    }

    /// Asks the database which bundles are sealed.
    pub async fn look(&self) -> Result<Range<u64>, StoreError> {
        let sealed = self.store.sealed().await?;
        *self.sealed.lock().expect("no panic under the lock") = sealed.clone();
        Ok(sealed)
    }

    /// Fails where messages are sealed in a folder that this relay was not told of.
    pub async fn ready(&self) -> Result<(), StoreError> {
        match self.folder {
            None if !self.look().await?.is_empty() => Err(StoreError::NoFolder),
            _ => Ok(()),
        }
    }

    /// Removes the file of a bundle that was dropped, for good once `names` are synced; returns
    /// whether there may be more.
    pub async fn remove_one_dropped(&self, names: &mut Batch) -> Result<bool, StoreError> {
        let Some(folder) = self.folder.clone() else { return Ok(false) };
        let start = self.look().await?.start;
        // Should the database say so, files of earlier ones are to come.
        let bundle = self.removed.fetch_min(start, Ordering::Relaxed);
        if bundle >= start {
            return Ok(false);
        }
        let mut removing = std::mem::take(names);
        let remove = move || folder.remove(&mut removing, bundle).map(|()| removing);
        *names = blocking(move || Ok(remove()?)).await?;
        self.removed.store(bundle + 1, Ordering::Relaxed);
        Ok(true)
    }

    /// At most `limit` messages after the sequence `after`; None if there is none yet.
    /// [`StoreError::Overtaken`] if the one right after it is no longer kept.
    pub async fn read_after(&self, after: u64, limit: u64) -> Result<Option<ReadPage>, StoreError> {
        if limit == 0 {
            return Ok(None);
        }
        let bundle = after / TILE_WIDTH;
        let mut sealed = self.sealed();
        loop {
            let page = match sealed.contains(&bundle) {
                true => self.read_files(after, limit, sealed.end).await?,
                false => self.store.read_after(after, limit).await?,
            };
            if page.as_ref().is_some_and(|page| page.last - page.messages == after) {
                return Ok(page);
            }
            // It may have been sealed or dropped since.
            let now = self.look().await?;
            if now == sealed {
                return self.not_there(after, page.is_some(), sealed).await;
            }
            sealed = now;
        }
    }

    /// Why there is no message right after this one: None if it is not stored yet.
    async fn not_there(
        &self,
        after: u64,
        jump: bool,
        sealed: Range<u64>,
    ) -> Result<Option<ReadPage>, StoreError> {
        if let Some(folder) = &self.folder
            && sealed.contains(&(after / TILE_WIDTH))
        {
            let path = folder.bundle_path(after / TILE_WIDTH);
            let source = std::io::ErrorKind::NotFound.into();
            return Err(FolderError { path, source }.into());
        }
        match self.store.range().await?.oldest > after.saturating_add(1) {
            true => Err(StoreError::Overtaken),
            false if jump => Err(StoreError::Tree),
            false => Ok(None),
        }
    }

    /// The same from files, of bundles up to `end`. None if the first one is not there.
    async fn read_files(
        &self,
        after: u64,
        limit: u64,
        end: u64,
    ) -> Result<Option<ReadPage>, StoreError> {
        let folder = self.folder.clone().ok_or(StoreError::NoFolder)?;
        let frame_bytes = STREAM_HEADER_BYTES + self.cell_bytes;
        let most = limit.min(block_messages(frame_bytes) as u64);
        let end = (end * TILE_WIDTH).min(after.saturating_add(most));
        let entry_bytes = ENTRY_HEADER_BYTES + self.cell_bytes;
        self.read_file(folder.bundle_path(after / TILE_WIDTH), move || {
            let mut frames = BytesMut::with_capacity((end - after) as usize * frame_bytes);
            let mut last = after;
            while last < end {
                let (bundle, from) = (last / TILE_WIDTH, last % TILE_WIDTH);
                let upto = TILE_WIDTH.min(from + end - last);
                let Some(entries) = folder.entries(bundle, from..upto)? else { break };
                for entry in entries.chunks_exact(entry_bytes) {
                    last += 1;
                    frames.put_u64(last);
                    frames.put_slice(&entry[ENTRY_HEADER_BYTES..]);
                }
            }
            let page = ReadPage { bytes: frames.freeze(), messages: last - after, last };
            Ok((page.messages > 0).then_some(page))
        })
        .await
    }

    /// Bytes of a tile or a bundle.
    pub fn file_bytes(&self, tile: Tile) -> usize {
        usize::from(tile.width)
            * match tile.content {
                Content::Hashes(_) => HASH_BYTES,
                Content::Entries => ENTRY_HEADER_BYTES + self.cell_bytes,
            }
    }

    /// Whether the log has the cells of this bundle, and still keeps them.
    pub async fn has_entries(&self, tile: Tile) -> Result<bool, StoreError> {
        let range = self.store.range().await?;
        match is_there(tile, range.head) {
            true if tile.start() + 1 < range.oldest => Err(StoreError::Overtaken),
            has => Ok(has),
        }
    }

    /// At most `most` entries of a bundle after the message `after`, and the last message in them.
    /// None at the end.
    pub async fn entries(
        &self,
        tile: Tile,
        after: u64,
        most: u64,
    ) -> Result<Option<(Bytes, u64)>, StoreError> {
        let end = tile.start() + u64::from(tile.width);
        if after >= end {
            return Ok(None);
        }
        let entry_bytes = ENTRY_HEADER_BYTES + self.cell_bytes;
        if let Some(folder) = self.folder.clone().filter(|_| self.sealed().contains(&tile.index)) {
            let last = end.min(after + most);
            let cells = after - tile.start()..last - tile.start();
            let path = folder.bundle_path(tile.index);
            let read = move || Ok(folder.entries(tile.index, cells)?);
            let entries = self.read_file(path, read).await?;
            if let Some(entries) = entries {
                return Ok(Some((entries.into(), last)));
            }
        }
        let page =
            self.read_after(after, most.min(end - after)).await?.ok_or(StoreError::Overtaken)?;
        let mut entries = Vec::with_capacity(page.messages as usize * entry_bytes);
        let frames = page.bytes.chunks_exact(STREAM_HEADER_BYTES + self.cell_bytes);
        frames.for_each(|frame| put_entry(&mut entries, &frame[STREAM_HEADER_BYTES..]));
        Ok(Some((entries.into(), page.last)))
    }
}

impl Messages {
    /// Reads a file when it is its turn, and not for ever. Who is stuck keeps the turn.
    async fn read_file<T: Send + 'static>(
        &self,
        path: PathBuf,
        read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let reading = async {
            let turn = self.reads.clone().acquire_owned().await.expect("never closed");
            blocking(move || {
                let read = read();
                drop(turn);
                read
            })
            .await
        };
        let late = |_| FolderError { path, source: std::io::ErrorKind::TimedOut.into() };
        tokio::time::timeout(PATIENCE, reading).await.map_err(late)?
    }
}

/// Runs what waits for the disk.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|died| std::panic::resume_unwind(died.into_panic()))
}

fn sequences(bundles: &Range<u64>) -> String {
    format!("messages {} to {}", bundles.start * TILE_WIDTH + 1, bundles.end * TILE_WIDTH)
}
