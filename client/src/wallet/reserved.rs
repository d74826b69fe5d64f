//! Tokens that are reserved for a message, until its receipt comes.

use sqlx::{Row, SqliteConnection};
use tocyn_protocol::log::note::VerifierKey;
use tocyn_protocol::relay::{MessageId, ProvenReceipt};
use tocyn_protocol::token::Token;
use zeroize::Zeroizing;

use super::{Wallet, WalletError, bytes32, count, epoch_key};
use crate::keys::EpochKey;

/// A token that is reserved for a message.
pub struct Reserved {
    /// The token.
    pub token: Token,
    /// The key that it was issued under.
    pub key: EpochKey,
    /// The message's id.
    pub message_id: MessageId,
    /// The message.
    pub cell: Vec<u8>,
    /// The relay says that the token paid for another message.
    pub disputed: bool,
    /// The message is a cell that waits to go to a group.
    pub is_to_group: bool,
}

impl Wallet {
    /// Reserves an unspent token of the origin for a message: one at random among those that
    /// expire first. Only keys that the relay `shows` now are drawn from. None if there is none.
    /// Do this before the post is sent.
    pub async fn reserve(
        &self,
        origin: &VerifierKey,
        shows: &[EpochKey],
        cell: &[u8],
        now: u64,
    ) -> Result<Option<Reserved>, WalletError> {
        let message_id = MessageId::of(cell);
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let keys = sqlx::query(
            "SELECT id, token_key, epoch, not_before, not_after FROM token_keys
             WHERE origin_key = ?1 AND not_after > ?2 ORDER BY not_after",
        )
        .bind(origin.to_string())
        .bind(now as i64)
        .fetch_all(&mut *tx)
        .await?;
        for row in &keys {
            let key = epoch_key(row)?;
            if !shows.contains(&key) {
                continue;
            }
            let token: Option<Vec<u8>> = sqlx::query_scalar(
                "UPDATE tokens SET message_id = ?2, cell = ?3 WHERE nonce =
                     (SELECT nonce FROM tokens WHERE key_id = ?1 AND cell IS NULL
                      ORDER BY random() LIMIT 1)
                 RETURNING token",
            )
            .bind(row.try_get::<i64, _>("id")?)
            .bind(&message_id.as_bytes()[..])
            .bind(cell)
            .fetch_optional(&mut *tx)
            .await?;
            if let Some(token) = token.map(Zeroizing::new) {
                tx.commit().await?;
                let (token, cell) = (Token::from_bytes(&token)?, cell.to_vec());
                let (disputed, is_to_group) = (false, false);
                return Ok(Some(Reserved { token, key, message_id, cell, disputed, is_to_group }));
            }
        }
        Ok(None)
    }

    /// The reserved tokens of an origin: messages whose receipt has not come.
    pub async fn reserved(&self, origin: &VerifierKey) -> Result<Vec<Reserved>, WalletError> {
        let rows = sqlx::query(
            "SELECT token, message_id, cell, disputed, token_key, epoch, not_before, not_after,
                 message_id IN (SELECT message_id FROM outbox) AS is_to_group
             FROM tokens JOIN token_keys ON token_keys.id = key_id
             WHERE origin_key = ?1 AND cell IS NOT NULL",
        )
        .bind(origin.to_string())
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Reserved {
                    token: Token::from_bytes(&Zeroizing::new(row.try_get::<Vec<u8>, _>("token")?))?,
                    key: epoch_key(row)?,
                    message_id: MessageId::from_bytes(bytes32(row, "message_id")?),
                    cell: row.try_get("cell")?,
                    disputed: row.try_get("disputed")?,
                    is_to_group: row.try_get("is_to_group")?,
                })
            })
            .collect()
    }

    /// The receipt came, and proves what it should: deletes token and message. The receipt is kept
    /// until the message is found in the log.
    pub async fn spend(
        &self,
        origin: &VerifierKey,
        token: &Token,
        proven: &ProvenReceipt,
    ) -> Result<(), WalletError> {
        let message_id = &proven.receipt.message_id.as_bytes()[..];
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("DELETE FROM outbox WHERE message_id = ?1")
            .bind(message_id)
            .execute(&mut *tx)
            .await?;
        let number = remove(&mut tx, token).await?;
        sqlx::query(
            "INSERT OR IGNORE INTO receipts (log_key, seq, message_id, proof)
             VALUES (?1, ?2, ?3, ?4)",
        )
        .bind(origin.to_string())
        .bind(proven.receipt.seq as i64)
        .bind(message_id)
        .bind(&proven.proof)
        .execute(&mut *tx)
        .await?;
        count(&mut tx, origin, number, 0).await?;
        Ok(tx.commit().await?)
    }

    /// Gives a token up with its message.
    pub async fn give_up(&self, origin: &VerifierKey, token: &Token) -> Result<(), WalletError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let number = remove(&mut tx, token).await?;
        count(&mut tx, origin, 0, number).await?;
        Ok(tx.commit().await?)
    }

    /// The relay says that the token paid for another message. It stays with its message, which
    /// may be paid for with another token.
    pub async fn dispute(&self, token: &Token) -> Result<(), WalletError> {
        sqlx::query("UPDATE tokens SET disputed = 1 WHERE nonce = ?1")
            .bind(&token.nonce()[..])
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

async fn remove(tx: &mut SqliteConnection, token: &Token) -> Result<u64, sqlx::Error> {
    let done = sqlx::query("DELETE FROM tokens WHERE nonce = ?1").bind(&token.nonce()[..]);
    Ok(done.execute(tx).await?.rows_affected())
}
