//! Tokens that are reserved for a message, until its receipt comes.

use sqlx::{Row, SqliteConnection};
use tocyn_protocol::relay::{MessageId, ProvenReceipt};
use tocyn_protocol::token::Token;
use zeroize::Zeroizing;

use super::{Wallet, WalletError, bytes32, count, epoch_key};
use crate::keys::{EpochKey, Pair};

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
    /// Reserves an unspent token of the pair for a message: one at random among those that
    /// expire first. Only keys that the relay `shows` now are drawn from. None if there is none.
    /// Do this before the post is sent.
    pub async fn reserve(
        &self,
        pair: &Pair,
        shows: &[EpochKey],
        cell: &[u8],
        now: u64,
    ) -> Result<Option<Reserved>, WalletError> {
        let message_id = MessageId::of(cell);
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let keys = sqlx::query(
            "SELECT id, token_key, epoch, not_before, not_after FROM token_keys
             WHERE issuer_name = ?1 AND relay_name = ?2 AND relay_url = ?3 AND not_after > ?4
             ORDER BY not_after",
        )
        .bind(&pair.issuer_name)
        .bind(&pair.relay_name)
        .bind(&pair.relay_url)
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

    /// The reserved tokens of a pair: messages whose receipt has not come.
    pub async fn reserved(&self, pair: &Pair) -> Result<Vec<Reserved>, WalletError> {
        let rows = sqlx::query(
            "SELECT token, message_id, cell, disputed, token_key, epoch, not_before, not_after,
                 message_id IN (SELECT message_id FROM outbox) AS is_to_group
             FROM tokens JOIN token_keys ON token_keys.id = key_id
             WHERE issuer_name = ?1 AND relay_name = ?2 AND relay_url = ?3 AND cell IS NOT NULL",
        )
        .bind(&pair.issuer_name)
        .bind(&pair.relay_name)
        .bind(&pair.relay_url)
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

    /// The receipt came, and proves what it should: deletes token and message. Of a cell to a group the
    /// receipt is kept until the cell is found in the log, and tokens that were reserved for it at
    /// another address of the relay go too.
    pub async fn spend(
        &self,
        pair: &Pair,
        token: &Token,
        proven: &ProvenReceipt,
    ) -> Result<(), WalletError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let log_key: Option<String> = sqlx::query_scalar(
            "DELETE FROM outbox WHERE message_id = ?1
             RETURNING (SELECT log_key FROM groups WHERE id = group_id)",
        )
        .bind(&proven.receipt.message_id.as_bytes()[..])
        .fetch_optional(&mut *tx)
        .await?;
        let number = remove(&mut tx, token).await?;
        let mut others = 0;
        if let Some(log_key) = log_key {
            others = sqlx::query("DELETE FROM tokens WHERE message_id = ?1")
                .bind(&proven.receipt.message_id.as_bytes()[..])
                .execute(&mut *tx)
                .await?
                .rows_affected();
            sqlx::query(
                "INSERT OR IGNORE INTO receipts (log_key, seq, message_id, proof)
                 VALUES (?1, ?2, ?3, ?4)",
            )
            .bind(log_key)
            .bind(proven.receipt.seq as i64)
            .bind(&proven.receipt.message_id.as_bytes()[..])
            .bind(&proven.proof)
            .execute(&mut *tx)
            .await?;
        }
        count(&mut tx, pair, number, others).await?;
        Ok(tx.commit().await?)
    }

    /// Gives a token up with its message.
    pub async fn give_up(&self, pair: &Pair, token: &Token) -> Result<(), WalletError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let number = remove(&mut tx, token).await?;
        count(&mut tx, pair, 0, number).await?;
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
