//! Messages and spent tokens in SQLite: one verb that spends and appends, one that reads.

mod blocks;
mod error;
mod open;
mod spent;
mod tail;
mod writer;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use sqlx::sqlite::SqlitePool;
use sqlx::{Connection, Row, SqliteConnection};
use tocyn_protocol::pairing::Epoch;
use tocyn_protocol::redemption::Redeemed;
use tocyn_protocol::relay::{MessageId, PostReceipt};

pub use blocks::ReadPage;
pub use error::StoreError;
use spent::{Nonce, Slot};
use tail::Tail;
use writer::Writer;

/// A cell with its id.
#[derive(Clone, Debug)]
pub struct Message {
    id: MessageId,
    cell: Bytes,
}

impl Message {
    /// Hashes the cell.
    pub fn new(cell: Bytes) -> Self {
        Self { id: MessageId::of(&cell), cell }
    }

    /// The id.
    pub fn id(&self) -> MessageId {
        self.id
    }
}

/// What became of a token and its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpendOutcome {
    /// The token is spent and the message stored.
    Stored(PostReceipt),
    /// The token had paid for this very message before; its first receipt.
    StoredBefore(PostReceipt),
    /// The token had paid for another message.
    SpentOnAnother,
    /// The token's epoch was closed in between.
    EpochClosed,
}

impl SpendOutcome {
    /// The sequence of a message that was stored now.
    pub fn stored_seq(&self) -> Option<u64> {
        match self {
            Self::Stored(receipt) => Some(receipt.seq),
            _ => None,
        }
    }
}

/// The range of the log that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRange {
    /// The oldest sequence kept; `head + 1` where nothing is kept.
    pub oldest: u64,
    /// The newest sequence ever stored, 0 before the first.
    pub head: u64,
}

/// The database.
#[derive(Clone)]
pub struct Store {
    writer: Arc<Writer>,
    readers: SqlitePool,
    tail: Arc<Tail>,
    /// Bytes of one message over the wire.
    frame_bytes: usize,
}

impl Store {
    /// Spends each token and stores its message, in one transaction, and answers for each in
    /// order. A token that was spent before, earlier in this batch too, stores nothing.
    ///
    /// When this returns `Ok` all of it is durable; on an error nothing happened.
    pub async fn spend_and_append(
        &self,
        batch: &[(Redeemed, Message)],
        now: u64,
    ) -> Result<Vec<SpendOutcome>, StoreError> {
        let mut writer = self.writer.turn().await?;
        let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
        let (mut slots, old_head) = spent::Slots::load(&mut tx).await?;
        let mut spending = Spending::begin(&mut tx, &mut slots, batch).await?;
        let mut appended: Vec<&Message> = Vec::new();
        let mut outcomes = Vec::with_capacity(batch.len());
        for (redeemed, message) in batch {
            assert_eq!(redeemed.message_id(), message.id, "a token pays for the message it names");
            let seq = old_head + appended.len() as u64 + 1;
            let receipt = PostReceipt { seq, message_id: message.id, received_at: now };
            let outcome = spending.spend(redeemed, receipt);
            if let SpendOutcome::Stored(_) = outcome {
                appended.push(message);
            }
            outcomes.push(outcome);
        }
        spending.insert(&mut tx, now).await?;
        let blocks =
            blocks::append(&mut tx, &appended, old_head + 1, now, self.frame_bytes).await?;
        tx.commit().await?;
        self.writer.committed(appended.len(), self.frame_bytes);
        self.tail.push(&blocks);
        Ok(outcomes)
    }

    /// What is kept of the log.
    pub async fn range(&self) -> Result<LogRange, StoreError> {
        let row = sqlx::query(
            "SELECT head, coalesce((SELECT min(first_seq) FROM blocks), head + 1) AS oldest FROM log",
        )
        .fetch_one(&self.readers)
        .await?;
        Ok(LogRange {
            oldest: row.try_get::<i64, _>("oldest")? as u64,
            head: row.try_get::<i64, _>("head")? as u64,
        })
    }

    /// At most `limit` messages after the sequence `after`; None if there is none. Where the
    /// messages right after it are deleted, the page begins with the oldest one that is kept.
    pub async fn read_after(&self, after: u64, limit: u64) -> Result<Option<ReadPage>, StoreError> {
        let most = blocks::block_messages(self.frame_bytes) as u64;
        let blocks = match self.tail.after(after, most) {
            Some(blocks) => blocks,
            None => blocks::after(&self.readers, after, most).await?,
        };
        Ok(ReadPage::cut(&blocks, after, limit, self.frame_bytes))
    }

    /// Deletes the oldest messages: those below `keep_from`, and those before the first one
    /// that was received at `received_from` or later, but for those that share a block with
    /// one that stays. Gives how many. A large number takes several transactions.
    pub async fn trim(&self, keep_from: u64, received_from: u64) -> Result<u64, StoreError> {
        let keep_from = blocks::keep_from(&self.readers, keep_from, received_from).await?;
        self.tail.trim(keep_from);
        Ok(blocks::trim(&self.writer, keep_from).await?)
    }

    /// Drops the spent sets of every epoch below `epoch`, for good; gives which. From the first
    /// transaction on none of their tokens is taken; their rows go in several more.
    pub async fn close_epochs_below(&self, epoch: Epoch) -> Result<Vec<Epoch>, StoreError> {
        let mut writer = self.writer.turn().await?;
        let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
        let closed = spent::close_below(&mut tx, epoch).await?;
        tx.commit().await?;
        drop(writer);
        for (slot, epoch) in &closed {
            slot.empty(&self.writer, &self.readers, *epoch).await?;
        }
        Ok(closed.into_iter().map(|(_, epoch)| epoch).collect())
    }
}

/// What a batch needs of the spent set: for each of its epochs the slot, the nonces that were
/// spent before, and those that this batch spends.
struct Spending(HashMap<Epoch, Option<OpenSlot>>);

struct OpenSlot {
    slot: Slot,
    spent: HashMap<Nonce, PostReceipt>,
    fresh: Vec<(Nonce, PostReceipt)>,
}

impl Spending {
    async fn begin(
        tx: &mut SqliteConnection,
        slots: &mut spent::Slots,
        batch: &[(Redeemed, Message)],
    ) -> Result<Self, sqlx::Error> {
        let mut nonces: BTreeMap<Epoch, Vec<Nonce>> = BTreeMap::new();
        for (redeemed, _) in batch {
            nonces.entry(redeemed.epoch()).or_default().push(redeemed.spend_key().nonce);
        }
        let mut open = HashMap::new();
        // The highest first: opening it may close a lower one.
        for (epoch, mut nonces) in nonces.into_iter().rev() {
            let slot = match slots.open(tx, epoch).await? {
                None => None,
                Some(slot) => {
                    let spent = slot.receipts(tx, &mut nonces).await?;
                    Some(OpenSlot { slot, spent, fresh: Vec::new() })
                }
            };
            open.insert(epoch, slot);
        }
        Ok(Self(open))
    }

    /// What becomes of a token that would get this receipt.
    fn spend(&mut self, redeemed: &Redeemed, receipt: PostReceipt) -> SpendOutcome {
        let Some(Some(slot)) = self.0.get_mut(&redeemed.epoch()) else {
            return SpendOutcome::EpochClosed;
        };
        match slot.spent.entry(redeemed.spend_key().nonce) {
            Entry::Occupied(first) if first.get().message_id == receipt.message_id => {
                SpendOutcome::StoredBefore(*first.get())
            }
            Entry::Occupied(_) => SpendOutcome::SpentOnAnother,
            Entry::Vacant(place) => {
                place.insert(receipt);
                slot.fresh.push((redeemed.spend_key().nonce, receipt));
                SpendOutcome::Stored(receipt)
            }
        }
    }

    async fn insert(self, tx: &mut SqliteConnection, now: u64) -> Result<(), sqlx::Error> {
        for slot in self.0.into_values().flatten().filter(|slot| !slot.fresh.is_empty()) {
            slot.slot.insert(tx, slot.fresh, now).await?;
        }
        Ok(())
    }
}
