//! The verb that spends and appends.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use bytes::{BufMut, BytesMut};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use tocyn_protocol::pairing::Epoch;
use tocyn_protocol::redemption::Redeemed;
use tocyn_protocol::relay::{MessageId, PostReceipt};

use super::{
    LastSpent, Message, Nonce, PostgresStore, SpendOutcome, StoreError, in_time, unsigned,
};
use crate::store::page::{SEQUENCE_BYTES, block_messages};

/// A token, as the spent set knows it.
type SpendKey = (Epoch, Nonce);

/// What one call came to.
enum Appended {
    /// All is stored, from this sequence on.
    From(u64),
    /// Nothing is stored, because of these tokens: what they had paid for before.
    SpentBefore(HashMap<SpendKey, PostReceipt>),
    /// Nothing is stored, because epochs below this one are closed.
    ClosedBelow(Epoch),
}

fn key(redeemed: &Redeemed) -> SpendKey {
    (redeemed.epoch(), redeemed.spend_key().nonce)
}

/// Waits for a standby, and no longer for a lock, as the procedure does.
const TRY_WRITE: &str = "BEGIN; SET LOCAL lock_timeout = '5s'; \
     SELECT set_config('synchronous_commit', 'on', true) \
     WHERE current_setting('synchronous_commit') IN ('off', 'local'); \
     UPDATE log SET head = head; COMMIT";

impl PostgresStore {
    pub(crate) async fn spend_and_append(
        &self,
        batch: &[(Redeemed, Message)],
        now: u64,
    ) -> Result<Vec<SpendOutcome>, StoreError> {
        // Of several posts with one token the first counts.
        let mut receipts: HashMap<SpendKey, Option<PostReceipt>> = HashMap::new();
        let mut open: Vec<usize> = Vec::new();
        for (place, (redeemed, _)) in batch.iter().enumerate() {
            if let Entry::Vacant(new) = receipts.entry(key(redeemed)) {
                new.insert(None);
                open.push(place);
            }
        }
        let mut stored = None;
        while !open.is_empty() && stored.is_none() {
            let posts: Vec<_> = open.iter().map(|place| &batch[*place]).collect();
            match self.append(&posts, now).await? {
                Appended::From(first_seq) => {
                    for (seq, (redeemed, message)) in (first_seq..).zip(posts) {
                        let receipt = PostReceipt { seq, message_id: message.id, received_at: now };
                        receipts.insert(key(redeemed), Some(receipt));
                    }
                    stored = Some(first_seq);
                }
                Appended::SpentBefore(spent) => {
                    open.retain(|place| !spent.contains_key(&key(&batch[*place].0)));
                    receipts.extend(spent.into_iter().map(|(key, first)| (key, Some(first))));
                }
                Appended::ClosedBelow(epoch) => {
                    open.retain(|place| batch[*place].0.epoch() >= epoch)
                }
            }
        }
        let outcome = |(place, (redeemed, message)): (usize, &(Redeemed, Message))| {
            match receipts[&key(redeemed)] {
                None => SpendOutcome::EpochClosed,
                // Those that were not left out, in order, are those that were stored.
                Some(receipt) if stored.is_some() && open.binary_search(&place).is_ok() => {
                    SpendOutcome::Stored(receipt)
                }
                Some(first) => SpendOutcome::spent_before(first, message),
            }
        };
        Ok(batch.iter().enumerate().map(outcome).collect())
    }

    /// One call. An epoch that is new to the database is made known to it first.
    async fn append(
        &self,
        posts: &[&(Redeemed, Message)],
        now: u64,
    ) -> Result<Appended, StoreError> {
        match self.call(posts, now).await {
            Err(StoreError::EpochUnknown) => {
                let epochs: Vec<Epoch> = posts.iter().map(|post| post.0.epoch()).collect();
                self.prepare_epochs(&epochs).await?;
                self.call(posts, now).await
            }
            done => done,
        }
    }

    /// Calls the procedure. After an error the connection is not used again: who knows what
    /// is still to come on it.
    async fn call(&self, posts: &[&(Redeemed, Message)], now: u64) -> Result<Appended, StoreError> {
        let writers = || self.0.writers.lock().expect("no panic under the lock");
        let idle = writers().pop();
        let called = in_time(async {
            let mut connection: PgConnection = match idle {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let row = self.query(posts, now).fetch_one(&mut connection).await?;
            Ok::<_, sqlx::Error>((connection, row))
        })
        .await
        .map_err(StoreError::from);
        if let Err(StoreError::WentBack) = called {
            self.found_gone_back().await;
        }
        let (connection, row) = called?;
        writers().push(connection);
        let appended = decode(&row)?;
        if let (Appended::From(first_seq), Some((redeemed, _))) = (&appended, posts.last()) {
            let seq = first_seq + posts.len() as u64 - 1;
            // Before the caller signs a log that has these: it must name the newest statement.
            self.saw_statement(row.try_get("now_keys_serial")?);
            self.saw_head(seq);
            let (epoch, nonce) = key(redeemed);
            let mut last = self.0.last_spent.lock().expect("no panic under the lock");
            *last = Some(LastSpent { epoch, nonce, seq });
        }
        Ok(appended)
    }

    /// Changes the log's row to itself, over a connection that appends.
    pub(crate) async fn try_write(&self) -> Result<(), StoreError> {
        let writers = || self.0.writers.lock().expect("no panic under the lock");
        let idle = writers().pop();
        let write = async |mut connection: PgConnection| {
            sqlx::raw_sql(TRY_WRITE).execute(&mut connection).await.map(|_| connection)
        };
        let connection = in_time(async {
            // The server may have ended an idle one, which says nothing about writes.
            if let Some(idle) = idle
                && let Ok(connection) = write(idle).await
            {
                return Ok::<_, sqlx::Error>(connection);
            }
            write(self.connect().await?).await
        })
        .await?;
        writers().push(connection);
        Ok(())
    }

    fn query(
        &self,
        posts: &[&(Redeemed, Message)],
        now: u64,
    ) -> sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments> {
        let epochs: Vec<i64> = posts.iter().map(|post| post.0.epoch() as i64).collect();
        let nonces: Vec<Nonce> = posts.iter().map(|post| post.0.spend_key().nonce).collect();
        let message_ids: Vec<[u8; 32]> = posts.iter().map(|post| *post.1.id.as_bytes()).collect();
        let last = self.last_spent();
        let mut cells = BytesMut::with_capacity(posts.len() * self.0.cell_bytes);
        posts.iter().for_each(|post| cells.put_slice(&post.1.cell));
        sqlx::query(
            "CALL spend_and_append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
                 NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        )
        .bind(self.0.pairing_id)
        .bind(self.0.keys_root.get().copied())
        .bind(self.seen_head() as i64)
        .bind(last.map(|last| last.epoch as i64))
        .bind(last.map(|last| last.nonce))
        .bind(last.map(|last| last.seq as i64))
        .bind(now as i64)
        .bind(epochs)
        .bind(nonces)
        .bind(message_ids)
        .bind(Vec::from(cells))
        .bind(block_messages(SEQUENCE_BYTES + self.0.cell_bytes) as i32)
    }
}

fn decode(row: &PgRow) -> Result<Appended, sqlx::Error> {
    if let Some(first_seq) = row.try_get::<Option<i64>, _>("first_seq")? {
        return Ok(Appended::From(unsigned(first_seq)));
    }
    if let Some(epoch) = row.try_get::<Option<i64>, _>("now_closed_below")? {
        return Ok(Appended::ClosedBelow(unsigned(epoch)));
    }
    let (epochs, seqs): (Vec<i64>, Vec<i64>) =
        (row.try_get("spent_epochs")?, row.try_get("spent_seqs")?);
    let received_at: Vec<i64> = row.try_get("spent_received_at")?;
    let nonces: Vec<Nonce> = row.try_get("spent_nonces")?;
    let message_ids: Vec<[u8; 32]> = row.try_get("spent_message_ids")?;
    let keys = epochs.into_iter().map(unsigned).zip(nonces);
    let receipt = |((seq, received_at), message_id): ((i64, i64), [u8; 32])| PostReceipt {
        seq: unsigned(seq),
        message_id: MessageId::from_bytes(message_id),
        received_at: unsigned(received_at),
    };
    let receipts = seqs.into_iter().zip(received_at).zip(message_ids).map(receipt);
    Ok(Appended::SpentBefore(keys.zip(receipts).collect()))
}
