//! What relays have shown of their logs.

use tocyn_protocol::log::note::VerifierKey;

use super::{Wallet, WalletError};
use crate::keys::Pair;

/// What is known of a relay's log.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct KnownLog {
    /// Whose signature it has, as it was shown first.
    pub log_key: String,
    /// The newest checkpoint that was shown, a signed note.
    pub checkpoint: Option<String>,
}

impl Wallet {
    /// What is known of the relay's log; from now on this key, if nothing was.
    pub async fn known_log(&self, pair: &Pair, key: &VerifierKey) -> Result<KnownLog, WalletError> {
        sqlx::query(
            "INSERT OR IGNORE INTO logs (relay_name, relay_url, log_key) VALUES (?1, ?2, ?3)",
        )
        .bind(&pair.relay_name)
        .bind(&pair.relay_url)
        .bind(key.to_string())
        .execute(&self.pool)
        .await?;
        let known = sqlx::query_as(
            "SELECT log_key, checkpoint FROM logs WHERE relay_name = ?1 AND relay_url = ?2",
        );
        Ok(known.bind(&pair.relay_name).bind(&pair.relay_url).fetch_one(&self.pool).await?)
    }

    /// Keeps the newest checkpoint.
    pub async fn keep_checkpoint(&self, pair: &Pair, note: &str) -> Result<(), WalletError> {
        sqlx::query("UPDATE logs SET checkpoint = ?3 WHERE relay_name = ?1 AND relay_url = ?2")
            .bind(&pair.relay_name)
            .bind(&pair.relay_url)
            .bind(note)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}
