//! What this member says, on its way to the relay: saved whole before anything is sent, and sent in
//! its order, so that no message is in the log before one that it answers to.

use sqlx::Row;
use tocyn_protocol::relay::MessageId;

use super::messages::insert_message;
use super::{Group, Wallet, WalletError, bytes32};
use crate::group::message::{Id, MAX_PARENTS, Message};

/// A cell that waits for its receipt.
pub struct Waiting {
    /// The message that it is of.
    pub said: Id,
    /// The cell's id.
    pub message_id: MessageId,
    /// The cell.
    pub cell: Vec<u8>,
}

impl Wallet {
    /// The messages that a new one answers to: those that no other one does, the newest first.
    pub async fn heads(&self, group: &Group) -> Result<Vec<Id>, WalletError> {
        let rows = sqlx::query(
            "SELECT id FROM messages WHERE group_id = ?1 AND NOT EXISTS (
                 SELECT 1 FROM parents WHERE group_id = ?1 AND parent = messages.id)
             ORDER BY seq IS NULL DESC, seq DESC LIMIT ?2",
        )
        .bind(group.id)
        .bind(MAX_PARENTS as i64)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| Ok(Id(bytes32(row, "id")?))).collect()
    }

    /// Saves a message of this member with its cells, to be sent.
    pub async fn queue(
        &self,
        group: &Group,
        message: &Message,
        cells: &[Vec<u8>],
    ) -> Result<(), WalletError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("UPDATE groups SET counter = ?2 WHERE id = ?1")
            .bind(group.id)
            .bind(message.content.counter as i64)
            .execute(&mut *tx)
            .await?;
        insert_message(&mut tx, group.id, message, None, 0).await?;
        for cell in cells {
            sqlx::query(
                "INSERT INTO outbox (group_id, said, message_id, cell) VALUES (?1, ?2, ?3, ?4)",
            )
            .bind(group.id)
            .bind(&message.id.0[..])
            .bind(&MessageId::of(cell).as_bytes()[..])
            .bind(cell)
            .execute(&mut *tx)
            .await?;
        }
        Ok(tx.commit().await?)
    }

    /// How many cells of a group wait that have a token reserved for them already.
    pub async fn begun(&self, group: &Group) -> Result<u64, WalletError> {
        let begun: i64 = sqlx::query_scalar(
            "SELECT count(DISTINCT message_id) FROM tokens
             WHERE message_id IN (SELECT message_id FROM outbox WHERE group_id = ?1)",
        )
        .bind(group.id)
        .fetch_one(&self.pool)
        .await?;
        Ok(begun as u64)
    }

    /// The cells of a group that wait, in the order in which they are to be sent.
    pub async fn waiting(&self, group: &Group) -> Result<Vec<Waiting>, WalletError> {
        let rows = sqlx::query(
            "SELECT said, message_id, cell FROM outbox WHERE group_id = ?1 ORDER BY id",
        );
        let rows = rows.bind(group.id).fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| {
                let message_id = MessageId::from_bytes(bytes32(row, "message_id")?);
                Ok(Waiting {
                    said: Id(bytes32(row, "said")?),
                    message_id,
                    cell: row.try_get("cell")?,
                })
            })
            .collect()
    }
}
