//! SQLite: one file, one process, one writer.

mod blocks;
mod bundles;
mod copy;
mod open;
mod report;
mod spent;
mod statements;
mod tree;
mod writer;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use std::path::PathBuf;

use sqlx::sqlite::SqlitePool;
use sqlx::{Connection, Row, SqliteConnection};
use tocyn_protocol::pairing::Epoch;
use tocyn_protocol::redemption::Redeemed;
use tocyn_protocol::relay::PostReceipt;
use tocyn_service::writing::{check_room, is_full};

use super::page::{ReadPage, block_messages};
use super::tail::Tail;
use super::{LogRange, Message, Nonce, SpendOutcome, StoreError};
use spent::Slot;
use writer::Writer;

/// A database file.
#[derive(Clone)]
pub struct SqliteStore {
    writer: Arc<Writer>,
    readers: SqlitePool,
    tail: Arc<Tail>,
    /// Bytes of one message over the wire.
    frame_bytes: usize,
}

impl SqliteStore {
    pub(crate) fn file(&self) -> PathBuf {
        self.readers.connect_options().get_filename().to_owned()
    }

    pub(crate) async fn spend_and_append(
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
            let seq = old_head + appended.len() as u64 + 1;
            let receipt = PostReceipt { seq, message_id: message.id, received_at: now };
            let outcome = spending.spend(redeemed, message, receipt);
            if let SpendOutcome::Stored(_) = outcome {
                appended.push(message);
            }
            outcomes.push(outcome);
        }
        spending.insert(&mut tx, now).await?;
        tree::append(&mut tx, &appended, old_head + 1).await?;
        let blocks =
            blocks::append(&mut tx, &appended, old_head + 1, now, self.frame_bytes).await?;
        tx.commit().await?;
        self.writer.committed(appended.len(), self.frame_bytes);
        self.tail.push(&blocks);
        Ok(outcomes)
    }

    pub(crate) async fn try_write(&self, was_full: bool) -> Result<(), StoreError> {
        if was_full {
            check_room(self.file()).await.map_err(|error| match is_full(&error) {
                true => StoreError::Full,
                false => StoreError::Database(sqlx::Error::Io(error)),
            })?;
        }
        let mut writer = self.writer.turn().await?;
        let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
        // Twice, because SQLite writes no page whose bytes stay the same.
        for change in ["UPDATE log SET head = head + 1", "UPDATE log SET head = head - 1"] {
            sqlx::query(change).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        self.writer.committed(1, 0);
        Ok(())
    }

    pub(crate) async fn range(&self) -> Result<LogRange, StoreError> {
        let row = sqlx::query(
            "SELECT head, max(coalesce((SELECT min(first) FROM (
                 SELECT min(first_seq) AS first FROM blocks
                 UNION ALL SELECT min(bundle) * 256 + 1 FROM bundles)), head + 1),
                 (SELECT below * 256 + 1 FROM dropped)) AS oldest
             FROM log",
        )
        .fetch_one(&self.readers)
        .await?;
        Ok(LogRange {
            oldest: row.try_get::<i64, _>("oldest")? as u64,
            head: row.try_get::<i64, _>("head")? as u64,
        })
    }

    pub(crate) async fn read_after(
        &self,
        after: u64,
        limit: u64,
    ) -> Result<Option<ReadPage>, StoreError> {
        let most = block_messages(self.frame_bytes) as u64;
        let blocks = match self.tail.after(after, most) {
            Some(blocks) => blocks,
            None => blocks::after(&self.readers, after, most).await?,
        };
        Ok(ReadPage::cut(&blocks, after, limit, self.frame_bytes))
    }

    pub(crate) async fn trim(&self, keep_from: u64, received_from: u64) -> Result<(), StoreError> {
        let keep_from = blocks::keep_from(&self.readers, keep_from, received_from).await?;
        self.tail.trim(keep_from);
        Ok(blocks::trim(&self.writer, keep_from).await?)
    }

    pub(crate) async fn close_epochs_below(&self, epoch: Epoch) -> Result<Vec<Epoch>, StoreError> {
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
    fn spend(
        &mut self,
        redeemed: &Redeemed,
        message: &Message,
        receipt: PostReceipt,
    ) -> SpendOutcome {
        let Some(Some(slot)) = self.0.get_mut(&redeemed.epoch()) else {
            return SpendOutcome::EpochClosed;
        };
        match slot.spent.entry(redeemed.spend_key().nonce) {
            Entry::Occupied(first) => SpendOutcome::spent_before(*first.get(), message),
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
