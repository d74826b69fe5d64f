//! Full bundles leave the database for files, and old ones are dropped. Each message that is kept is
//! in a file or in the database at any time, whenever this is cut short.

use std::sync::Arc;
use std::time::Duration;

use tocyn_durable::names::Batch;
use tocyn_protocol::log::tile::{TILE_WIDTH, put_entry};
use tocyn_protocol::relay::{MessageId, STREAM_HEADER_BYTES};

use crate::bundles::{Folder, FolderError, FreshBundle, Named};
use crate::messages::{Messages, blocking};
use crate::store::{FullTile, StoreError};

/// Bundles that leave the database in one transaction: posts wait for it.
const BATCH: u64 = 4;
/// How often to look for full bundles, and for dropped ones.
const INTERVAL: Duration = Duration::from_secs(1);
/// The longest wait after sealing failed. It writes files each time.
const INTERVAL_AT_MOST: Duration = Duration::from_secs(60);
/// Rounds after which files are looked for that a crash has left unfinished.
const ROUNDS: u32 = 600;

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
    /// The file of a bundle that was dropped is gone.
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
        let (mut next, mut names) = (first, Batch::default());
        let mut tiles = Vec::new();
        while next < first + BATCH
            && let Some((tile, bytes)) = read(messages, next).await?
        {
            let writing = folder.clone();
            let fresh = blocking(move || Ok(writing.write_new(&bytes)?)).await?;
            done(Step::Written);
            let fresh = blocking(move || Ok(fresh.sync().map(|()| fresh)?)).await?;
            done(Step::Synced);
            let naming = folder.clone();
            let name = move || naming.name(&mut names, fresh, next).map(|named| (named, names));
            let named;
            (named, names) = blocking(move || Ok(name()?)).await?;
            if let Named::Taken(fresh) = named {
                replace(messages, &tile, fresh).await?;
            }
            done(Step::Named);
            tiles.push(tile);
            next += 1;
        }
        if next == first {
            return Ok(sealed);
        }
        sync(folder, names).await?;
        done(Step::NamesSynced);
        let put = messages.store().put_sealed(&tiles).await?;
        done(Step::Recorded);
        sealed += put;
        if put < next - first {
            // Another relay was faster, or retention, which may have looked for the files before
            // they had their names.
            let start = messages.look().await?.start;
            let (removing, late) = (folder.clone(), first + put..next.min(start));
            let mut names = Batch::default();
            let remove = move || {
                late.into_iter().try_for_each(|bundle| removing.remove(&mut names, bundle))?;
                Ok(names)
            };
            sync(folder, blocking(remove).await?).await?;
            return Ok(sealed);
        }
    }
}

async fn sync(folder: &Folder, mut names: Batch) -> Result<(), StoreError> {
    let path = folder.path().to_owned();
    let sync = move || names.sync().map_err(|source| FolderError { path, source });
    blocking(move || Ok(sync()?)).await
}

/// Puts a file in place of another one with the bundle's name, which a crash has left of a log that
/// is no more. A sealed one stays: messages are in it that may be nowhere else.
async fn replace(
    messages: &Messages,
    tile: &FullTile,
    fresh: FreshBundle,
) -> Result<(), StoreError> {
    let Some(folder) = messages.folder().cloned() else { return Ok(()) };
    let bundle = tile.index;
    if messages.store().tile(0, bundle).await?.as_ref() != Some(&tile.hashes) {
        return Err(StoreError::Tree);
    }
    if messages.look().await?.contains(&bundle) {
        let what = "this sealed file has other messages than the database had; find out with \
            `tocyn-relay db check` whether it is damaged, and restore it if so";
        let source = std::io::Error::other(what);
        return Err(FolderError { path: folder.bundle_path(bundle), source }.into());
    }
    blocking(move || Ok(folder.replace(fresh, bundle)?)).await
}

/// The bytes of a bundle out of the database, and the tile that they were checked against. None if it
/// is not full, its tile was not put away, or it is not in the database any more.
async fn read(messages: &Messages, bundle: u64) -> Result<Option<(FullTile, Vec<u8>)>, StoreError> {
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
    Ok(Some((FullTile { level: 0, index: bundle, hashes: tile }, entries)))
}

/// Removes the files of the bundles that retention has dropped, here or in another relay.
pub async fn remove_dropped(messages: &Messages, done: Observer<'_>) -> Result<(), StoreError> {
    let Some(folder) = messages.folder() else { return Ok(()) };
    let mut names = Batch::default();
    while messages.remove_one_dropped(&mut names).await? {
        done(Step::Removed);
    }
    sync(folder, names).await
}

/// Seals every second; where that fails, less and less often.
pub async fn seal_forever(messages: Arc<Messages>) {
    let mut wait = INTERVAL;
    loop {
        tokio::time::sleep(wait).await;
        match seal(&messages, &|_| ()).await {
            Ok(_) => wait = INTERVAL,
            Err(error) => {
                wait = longer(wait);
                let (source, seconds) = (error.reason(), wait.as_secs());
                tracing::warn!(%error, source, seconds, "cannot seal messages; tried again later");
            }
        }
    }
}

fn longer(wait: Duration) -> Duration {
    (wait * 2).min(INTERVAL_AT_MOST)
}

/// Removes the files of bundles that retention has dropped, here or elsewhere, and what a crash has
/// left unfinished. By itself: a folder that hangs must not keep epochs from being closed.
pub async fn remove_forever(messages: Arc<Messages>) {
    let (mut wait, mut round) = (INTERVAL, 0u32);
    loop {
        tokio::time::sleep(wait).await;
        round = round.wrapping_add(1);
        let removed = async {
            remove_dropped(&messages, &|_| ()).await?;
            match messages.folder().cloned().filter(|_| round.is_multiple_of(ROUNDS)) {
                Some(folder) => blocking(move || Ok(folder.clean_fresh()?)).await,
                None => Ok(()),
            }
        };
        match removed.await {
            Ok(()) => wait = INTERVAL,
            Err(error) => {
                wait = longer(wait);
                let source = error.reason();
                tracing::warn!(%error, source, "cannot remove the files of dropped messages");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_tried_less_often_but_at_least_each_minute() {
        let waits = std::iter::successors(Some(INTERVAL), |wait| Some(longer(*wait)));
        let seconds: Vec<_> = waits.take(9).map(|wait| wait.as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }
}
