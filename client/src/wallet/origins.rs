//! The origins that this wallet has met: what it has pinned of each, and what each has signed.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use tocyn_protocol::log::note::VerifierKey;
use tocyn_protocol::statement::{Commitment, Signed, StatementHash};

use super::{Wallet, WalletError, bytes32, count};

/// What is pinned of an origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The origin key.
    pub key: VerifierKey,
    /// The statement under which tokens are bought and spent.
    pub statement: Signed,
    /// Unix seconds.
    pub pinned_at: u64,
    /// Size of its cells in bytes.
    pub cell_bytes: u64,
    /// A later statement that is not accepted yet.
    pub offer: Option<Offer>,
}

/// A statement that goes on from the pinned one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The statement.
    pub statement: Signed,
    /// Unix seconds: when it was shown first.
    pub shown_at: u64,
}

/// How far an origin's log was seen to have only grown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrownLog {
    /// The checkpoint, a signed note.
    pub checkpoint: String,
    /// Root of the tree over its whole bundles of 256 messages.
    pub bundles: [u8; 32],
}

fn pin(row: &SqliteRow) -> Result<Pin, WalletError> {
    let key: VerifierKey = row.try_get::<String, _>("origin_key")?.parse()?;
    let open = |note: &str| Signed::open(note, &key).map_err(super::damaged_note);
    let offer: Option<String> = row.try_get("offer")?;
    let offer = match offer {
        None => None,
        Some(note) => Some(Offer {
            statement: open(&note)?,
            shown_at: row.try_get::<i64, _>("offered_at")? as u64,
        }),
    };
    Ok(Pin {
        statement: open(row.try_get("statement")?)?,
        pinned_at: row.try_get::<i64, _>("pinned_at")? as u64,
        cell_bytes: row.try_get::<i64, _>("cell_bytes")? as u64,
        offer,
        key,
    })
}

impl Wallet {
    /// All pins, in the order in which they were made.
    pub async fn pins(&self) -> Result<Vec<Pin>, WalletError> {
        let rows = sqlx::query("SELECT * FROM origins ORDER BY rowid");
        rows.fetch_all(&self.pool).await?.iter().map(pin).collect()
    }

    /// The pin of an origin key.
    pub async fn pin(&self, key: &VerifierKey) -> Result<Option<Pin>, WalletError> {
        let row = sqlx::query("SELECT * FROM origins WHERE origin_key = ?1").bind(key.to_string());
        row.fetch_optional(&self.pool).await?.as_ref().map(pin).transpose()
    }

    /// Keeps what is pinned of an origin at first sight.
    pub async fn pin_first(&self, pin: &Pin) -> Result<(), WalletError> {
        let insert = "INSERT INTO origins (origin_key, statement, pinned_at, cell_bytes)
             VALUES (?1, ?2, ?3, ?4)";
        sqlx::query(insert)
            .bind(pin.key.to_string())
            .bind(pin.statement.note())
            .bind(pin.pinned_at as i64)
            .bind(pin.cell_bytes as i64)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Keeps a later statement until it is accepted; returns when it was shown first.
    pub async fn offer(
        &self,
        key: &VerifierKey,
        offer: &Signed,
        now: u64,
    ) -> Result<u64, WalletError> {
        let shown_at: i64 = sqlx::query_scalar(
            "UPDATE origins SET offer = ?2,
                 offered_at = CASE WHEN offer IS ?2 THEN offered_at ELSE ?3 END
             WHERE origin_key = ?1 RETURNING offered_at",
        )
        .bind(key.to_string())
        .bind(offer.note())
        .bind(now as i64)
        .fetch_one(&self.pool)
        .await?;
        Ok(shown_at as u64)
    }

    /// Pins the statement that was offered. Where its times are others, unspent tokens and pending
    /// batches from before are void and go; returns how many tokens did. Messages stay.
    pub async fn accept_offer(&self, pin: &Pin, now: u64) -> Result<u64, WalletError> {
        let Some(offer) = &pin.offer else { return Ok(0) };
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(
            "UPDATE origins SET statement = ?2, pinned_at = ?3, offer = NULL, offered_at = NULL
             WHERE origin_key = ?1",
        )
        .bind(pin.key.to_string())
        .bind(offer.statement.note())
        .bind(now as i64)
        .execute(&mut *tx)
        .await?;
        let mut void = 0;
        if offer.statement.schedule.genesis != pin.statement.schedule.genesis {
            let ours = "key_id IN (SELECT id FROM token_keys WHERE origin_key = ?1)";
            let tokens = format!("DELETE FROM tokens WHERE cell IS NULL AND {ours}");
            let tokens = sqlx::query(sqlx::AssertSqlSafe(tokens)).bind(pin.key.to_string());
            void += tokens.execute(&mut *tx).await?.rows_affected();
            let batches = format!("DELETE FROM batches WHERE {ours} RETURNING tokens");
            let batches = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(batches));
            let pending = batches.bind(pin.key.to_string()).fetch_all(&mut *tx).await?;
            void += pending.iter().sum::<i64>() as u64;
        }
        count(&mut tx, &pin.key, 0, void).await?;
        tx.commit().await?;
        Ok(void)
    }

    /// Forgets an origin with all its tokens; returns how many these were. What it has signed is kept
    /// as evidence.
    pub async fn forget_origin(&self, key: &VerifierKey) -> Result<u64, WalletError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let tokens: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM tokens JOIN token_keys ON token_keys.id = key_id
             WHERE origin_key = ?1",
        )
        .bind(key.to_string())
        .fetch_one(&mut *tx)
        .await?;
        for statement in [
            "DELETE FROM origins WHERE origin_key = ?1",
            "DELETE FROM mirrors WHERE origin_key = ?1",
        ] {
            sqlx::query(statement).bind(key.to_string()).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(tokens as u64)
    }

    /// The key of the origin that was met at this address.
    pub async fn origin_at(&self, url: &str) -> Result<Option<String>, WalletError> {
        let key = sqlx::query_scalar("SELECT origin_key FROM addresses WHERE url = ?1");
        Ok(key.bind(url).fetch_optional(&self.pool).await?)
    }

    /// Remembers that the origin answers at this address.
    pub async fn add_address(&self, key: &VerifierKey, url: &str) -> Result<(), WalletError> {
        sqlx::query("INSERT OR IGNORE INTO addresses (url, origin_key) VALUES (?1, ?2)")
            .bind(url)
            .bind(key.to_string())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The addresses at which it was met.
    pub async fn addresses(&self, key: &VerifierKey) -> Result<Vec<String>, WalletError> {
        let urls =
            sqlx::query_scalar("SELECT url FROM addresses WHERE origin_key = ?1 ORDER BY url");
        Ok(urls.bind(key.to_string()).fetch_all(&self.pool).await?)
    }

    /// Notes that a signed note names a statement: a checkpoint of a log of this size, or, without a
    /// size, the statement itself. Returns an earlier note that contradicts it: one that names another
    /// statement under this serial, or a checkpoint, where the longer log names the earlier serial.
    /// Then only the earlier one is kept.
    pub async fn name(
        &self,
        key: &VerifierKey,
        commitment: Commitment,
        size: Option<u64>,
        note: &str,
    ) -> Result<Option<String>, WalletError> {
        let (key, serial) = (key.to_string(), commitment.serial as i64);
        let size = size.map(|size| size as i64);
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let contradicts: Option<String> = sqlx::query_scalar(
            "SELECT CASE WHEN serial = ?2 THEN note WHEN serial > ?2 THEN shortest ELSE longest END
             FROM named WHERE origin_key = ?1 AND (
                 serial = ?2 AND hash <> ?3
                 OR serial > ?2 AND shortest_size < ?4
                 OR serial < ?2 AND longest_size > ?4)
             ORDER BY serial <> ?2 LIMIT 1",
        )
        .bind(&key)
        .bind(serial)
        .bind(&commitment.hash.0[..])
        .bind(size)
        .fetch_optional(&mut *tx)
        .await?;
        if contradicts.is_some() {
            return Ok(contradicts);
        }
        sqlx::query(
            "INSERT INTO named (origin_key, serial, hash, note) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO NOTHING",
        )
        .bind(&key)
        .bind(serial)
        .bind(&commitment.hash.0[..])
        .bind(note)
        .execute(&mut *tx)
        .await?;
        if let Some(size) = size {
            for (column, is_further) in [("shortest", ">"), ("longest", "<")] {
                let keep = format!(
                    "UPDATE named SET {column} = ?3, {column}_size = ?4
                     WHERE origin_key = ?1 AND serial = ?2
                         AND ({column} IS NULL OR {column}_size {is_further} ?4)"
                );
                let keep = sqlx::query(sqlx::AssertSqlSafe(keep)).bind(&key).bind(serial);
                keep.bind(note).bind(size).execute(&mut *tx).await?;
            }
        }
        tx.commit().await?;
        Ok(None)
    }

    /// Whether a signed note was seen that names this statement.
    pub async fn is_named(
        &self,
        key: &VerifierKey,
        hash: StatementHash,
    ) -> Result<bool, WalletError> {
        let named = "SELECT EXISTS (SELECT 1 FROM named WHERE origin_key = ?1 AND hash = ?2)";
        let named = sqlx::query_scalar(named).bind(key.to_string()).bind(&hash.0[..]);
        Ok(named.fetch_one(&self.pool).await?)
    }

    /// The newest checkpoint of the origin's log that this wallet was shown.
    pub async fn checkpoint(&self, key: &VerifierKey) -> Result<Option<String>, WalletError> {
        let note = sqlx::query_scalar("SELECT checkpoint FROM origins WHERE origin_key = ?1");
        let note: Option<Option<String>> =
            note.bind(key.to_string()).fetch_optional(&self.pool).await?;
        Ok(note.flatten())
    }

    /// Keeps the newest checkpoint.
    pub async fn keep_checkpoint(&self, key: &VerifierKey, note: &str) -> Result<(), WalletError> {
        sqlx::query("UPDATE origins SET checkpoint = ?2 WHERE origin_key = ?1")
            .bind(key.to_string())
            .bind(note)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// How far the origin's log was seen to have only grown.
    pub async fn grown_log(&self, key: &VerifierKey) -> Result<Option<GrownLog>, WalletError> {
        let row = sqlx::query(
            "SELECT grown, bundles FROM origins WHERE origin_key = ?1 AND grown IS NOT NULL",
        );
        let row = row.bind(key.to_string()).fetch_optional(&self.pool).await?;
        let Some(row) = row else { return Ok(None) };
        let bundles = bytes32(&row, "bundles")?;
        Ok(Some(GrownLog { checkpoint: row.try_get("grown")?, bundles }))
    }

    /// Keeps how far it was seen.
    pub async fn keep_grown_log(
        &self,
        key: &VerifierKey,
        grown: &GrownLog,
    ) -> Result<(), WalletError> {
        sqlx::query("UPDATE origins SET grown = ?2, bundles = ?3 WHERE origin_key = ?1")
            .bind(key.to_string())
            .bind(&grown.checkpoint)
            .bind(&grown.bundles[..])
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Remembers a copy of the origin's log.
    pub async fn add_mirror(&self, key: &VerifierKey, url: &str) -> Result<(), WalletError> {
        sqlx::query("INSERT OR REPLACE INTO mirrors (url, origin_key) VALUES (?1, ?2)")
            .bind(url)
            .bind(key.to_string())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Copies of the origin's log that were read from.
    pub async fn mirrors(&self, key: &VerifierKey) -> Result<Vec<String>, WalletError> {
        let urls = sqlx::query_scalar("SELECT url FROM mirrors WHERE origin_key = ?1 ORDER BY url");
        Ok(urls.bind(key.to_string()).fetch_all(&self.pool).await?)
    }
}
