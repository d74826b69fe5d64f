//! Sealed bundles, as the database knows them: which there are, and since when. Their messages are
//! in files ([`crate::bundles`]).

use std::ops::Range;

use tocyn_protocol::log::tile::TILE_WIDTH;

use super::{FullTile, Store, StoreError};

/// Deletes the blocks that lie wholly in sealed bundles.
pub(super) const DELETE_SEALED_BLOCKS: &str = "DELETE FROM blocks
    WHERE first_seq > (SELECT min(bundle) FROM bundles) * 256
        AND first_seq <= (SELECT max(bundle) FROM bundles) * 256 + 256
        AND first_seq + messages <= (SELECT max(bundle) FROM bundles) * 256 + 257";

/// A sealed bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BundleRow {
    pub(super) bundle: i64,
    pub(super) received_at: i64,
}

/// Which bundles are sealed: from the first to the last one that the table has. Where it has none,
/// an empty range that begins with the first bundle of which no message was deleted: not before
/// `dropped_below`, since a large block may have all messages of a bundle that was dropped.
pub(super) fn sealed(
    first: Option<i64>,
    last: Option<i64>,
    oldest: u64,
    dropped_below: i64,
) -> Range<u64> {
    match (first, last) {
        (Some(first), Some(last)) => first as u64..last as u64 + 1,
        _ => {
            let whole = (oldest - 1).div_ceil(TILE_WIDTH).max(dropped_below as u64);
            whole..whole
        }
    }
}

impl Store {
    /// The bundles that are sealed and kept. If the range is empty, it stands where the first one
    /// will be.
    pub async fn sealed(&self) -> Result<Range<u64>, StoreError> {
        match self {
            Self::Sqlite(store) => store.sealed().await,
            Self::Postgres(store) => store.sealed().await,
        }
    }

    /// Takes note that the bundles of these tiles of level 0 are sealed, which must be durable by now,
    /// and deletes the blocks that lie wholly in sealed ones. Stops at one that does not follow the
    /// last one, or of which messages were deleted meanwhile. Gives how many it has taken note of.
    ///
    /// The files were checked against these tiles. Where the database has others by now, or does
    /// not reach as far, the files are of a log that is no more, and this fails.
    pub async fn put_sealed(&self, bundles: &[FullTile]) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(store) => store.put_sealed(bundles).await,
            Self::Postgres(store) => store.put_sealed(bundles).await,
        }
    }
}
