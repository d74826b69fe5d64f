//! Full bundles leave the database for files, and old ones are dropped. Each message that is kept is
//! in a file or in the database at any time, whenever this is cut short.

use tocyn_protocol::log::tile::{TILE_WIDTH, put_entry};
use tocyn_protocol::relay::{MessageId, STREAM_HEADER_BYTES};

use crate::messages::{Messages, blocking};
use crate::store::StoreError;

/// Bundles that leave the database in one transaction: posts wait for it.
const BATCH: u64 = 4;

/// What has just been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A bundle is in a file, which has no name yet and may be lost.
    Written,
    /// The file is durable.
    Synced,
    /// It has the bundle's name, which may be lost.
    Named,
    /// The names of some bundles are durable.
    NamesSynced,
    /// The database says that they are sealed, and does not have their messages any more.
    Recorded,
    /// The database says that old messages are gone.
    Dropped,
    /// The file of a bundle is gone.
    Removed,
}

/// Told of each step. Tests end the process there.
pub type Observer<'a> = &'a (dyn Fn(Step) + Sync);

/// Seals every full bundle whose tile was put away; gives how many. Where another relay does the
/// same, the same comes out.
pub async fn seal(messages: &Messages, done: Observer<'_>) -> Result<u64, StoreError> {
    let Some(folder) = messages.folder() else { return Ok(0) };
    let mut sealed = 0;
    loop {
        let first = messages.look().await?.end;
        let mut next = first;
        while next < first + BATCH
            && let Some(bytes) = read(messages, next).await?
        {
            let writing = folder.clone();
            let fresh = blocking(move || Ok(writing.write_new(&bytes)?)).await?;
            done(Step::Written);
            let fresh = blocking(move || Ok(fresh.sync().map(|()| fresh)?)).await?;
            done(Step::Synced);
            let naming = folder.clone();
            blocking(move || Ok(naming.name(fresh, next)?)).await?;
            done(Step::Named);
            next += 1;
        }
        if next == first {
            return Ok(sealed);
        }
        let syncing = folder.clone();
        blocking(move || Ok(syncing.sync_names(first..next)?)).await?;
        done(Step::NamesSynced);
        let put = messages.store().put_sealed(first..next).await?;
        done(Step::Recorded);
        sealed += put;
        if put < next - first {
            // Another relay was faster, or retention.
            return Ok(sealed);
        }
    }
}

/// The bytes of a bundle out of the database, checked against the tree. None if it is not full, its
/// tile was not put away, or it is not in the database any more.
async fn read(messages: &Messages, bundle: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let store = messages.store();
    let Some(tile) = store.tile(0, bundle).await? else { return Ok(None) };
    let (mut after, end) = (bundle * TILE_WIDTH, (bundle + 1) * TILE_WIDTH);
    let mut entries = Vec::new();
    let mut hashes = tile.iter();
    while after < end {
        let page = store.read_after(after, end - after).await?;
        let Some(page) = page.filter(|page| page.last - page.messages == after) else {
            return Ok(None);
        };
        for frame in page.bytes.chunks_exact(STREAM_HEADER_BYTES + messages.cell_bytes()) {
            let cell = &frame[STREAM_HEADER_BYTES..];
            if hashes.next() != Some(&MessageId::of(cell).into()) {
                return Err(StoreError::Tree);
            }
            put_entry(&mut entries, cell);
        }
        after = page.last;
    }
    Ok(Some(entries))
}

/// Deletes the oldest messages as [`crate::store::Store::trim`] does, then the files of the bundles that
/// are gone, here or by another relay; gives how many messages.
pub async fn drop_old(
    messages: &Messages,
    keep_from: u64,
    received_from: u64,
    done: Observer<'_>,
) -> Result<u64, StoreError> {
    let dropped = messages.store().trim(keep_from, received_from).await?;
    done(Step::Dropped);
    while messages.remove_one_dropped().await? {
        done(Step::Removed);
    }
    Ok(dropped)
}
