//! Batches that were asked for and did not arrive yet.

use sqlx::{Row, SqliteConnection};
use tocyn_protocol::issuance::{PENDING_TOKEN_BYTES, PendingBatch};
use tocyn_protocol::log::note::VerifierKey;
use tocyn_protocol::token::Token;
use zeroize::Zeroizing;

use super::{Wallet, WalletError, epoch_key};
use crate::issuer::Paid;
use crate::keys::EpochKey;

/// A batch that was asked for.
pub struct SavedBatch {
    id: i64,
    /// The key that it was asked for under.
    pub key: EpochKey,
    /// What pays for it.
    pub paid: Paid,
    /// What [`PendingBatch::to_bytes`] gave.
    pub secrets: Zeroizing<Vec<u8>>,
}

/// What begins a proof of work in the place of a voucher. No code begins like this.
const WORK: &str = "work:";
/// In the place of a voucher where none was needed.
const NOTHING: &str = "open";

fn text_of(paid: &Paid) -> Zeroizing<String> {
    match paid {
        Paid::Voucher(code) => code.clone(),
        Paid::Work(proof) => Zeroizing::new(format!("{WORK}{proof}")),
        Paid::Nothing => Zeroizing::new(NOTHING.to_owned()),
    }
}

fn paid_of(text: Zeroizing<String>) -> Paid {
    match text.strip_prefix(WORK) {
        Some(proof) => Paid::Work(proof.to_owned()),
        None if *text == NOTHING => Paid::Nothing,
        None => Paid::Voucher(text),
    }
}

impl SavedBatch {
    /// Tokens in it.
    pub fn tokens(&self) -> u64 {
        (self.secrets.len() / PENDING_TOKEN_BYTES) as u64
    }
}

impl Wallet {
    /// Saves a batch as pending. Do this before the request is sent.
    pub async fn save_batch(
        &self,
        origin: &VerifierKey,
        key: &EpochKey,
        issuer_url: &str,
        paid: Paid,
        batch: &PendingBatch,
    ) -> Result<SavedBatch, WalletError> {
        let secrets = batch.to_bytes();
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let key_id = key_id(&mut tx, origin, key).await?;
        let done = sqlx::query(
            "INSERT INTO batches (key_id, issuer_url, voucher, tokens, secrets)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )
        .bind(key_id)
        .bind(issuer_url)
        .bind(text_of(&paid).as_str())
        .bind((secrets.len() / PENDING_TOKEN_BYTES) as i64)
        .bind(secrets.as_slice())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(SavedBatch { id: done.last_insert_rowid(), key: key.clone(), paid, secrets })
    }

    /// The pending batches that were asked for at this issuer for this origin, the oldest first.
    pub async fn pending(
        &self,
        origin: &VerifierKey,
        issuer_url: &str,
    ) -> Result<Vec<SavedBatch>, WalletError> {
        let rows = sqlx::query(
            "SELECT batches.id, voucher, secrets, token_key, epoch, not_before, not_after
             FROM batches JOIN token_keys ON token_keys.id = key_id
             WHERE origin_key = ?1 AND issuer_url = ?2 ORDER BY batches.id",
        )
        .bind(origin.to_string())
        .bind(issuer_url)
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(SavedBatch {
                    id: row.try_get("id")?,
                    key: epoch_key(row)?,
                    paid: paid_of(Zeroizing::new(row.try_get("voucher")?)),
                    secrets: Zeroizing::new(row.try_get("secrets")?),
                })
            })
            .collect()
    }

    /// The tokens of a pending batch arrived: they become unspent, in one transaction.
    pub async fn finish_batch(
        &self,
        batch: &SavedBatch,
        tokens: &[Token],
    ) -> Result<(), WalletError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let key_id: Option<i64> =
            sqlx::query_scalar("DELETE FROM batches WHERE id = ?1 RETURNING key_id")
                .bind(batch.id)
                .fetch_optional(&mut *tx)
                .await?;
        // Gone already: its tokens are here, and some of them may be spent.
        let Some(key_id) = key_id else { return Ok(()) };
        for token in tokens {
            sqlx::query("INSERT INTO tokens (nonce, key_id, token) VALUES (?1, ?2, ?3)")
                .bind(&token.nonce()[..])
                .bind(key_id)
                .bind(token.to_bytes().as_slice())
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    /// Forgets a batch that the issuer refused for good.
    pub async fn drop_batch(&self, batch: &SavedBatch) -> Result<(), WalletError> {
        sqlx::query("DELETE FROM batches WHERE id = ?1").bind(batch.id).execute(&self.pool).await?;
        Ok(())
    }
}

async fn key_id(
    tx: &mut SqliteConnection,
    origin: &VerifierKey,
    key: &EpochKey,
) -> Result<i64, WalletError> {
    // The update changes nothing; it makes the row that is there come back.
    let id = sqlx::query_scalar(
        "INSERT INTO token_keys (origin_key, token_key, epoch, not_before, not_after)
         VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET epoch = excluded.epoch RETURNING id",
    )
    .bind(origin.to_string())
    .bind(&key.key.to_bytes()[..])
    .bind(key.epoch as i64)
    .bind(key.not_before as i64)
    .bind(key.not_after as i64)
    .fetch_one(tx)
    .await?;
    Ok(id)
}
