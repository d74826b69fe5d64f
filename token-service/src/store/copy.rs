//! Moving a stopped issuer from SQLite to PostgreSQL: all or nothing, and compared afterwards.

use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnectOptions;

use super::issued::IssuedRow;
use super::postgres::Target;
use super::{Backend, Store, StoreError, VoucherRecord};
use tocyn_service::database::Database;

/// What was moved; the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// Vouchers.
    pub vouchers: u64,
    /// Requests that were charged.
    pub charges: u64,
    /// SHA-256 over all of it, in hexadecimal digits.
    pub digest: String,
}

/// How the move went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copying {
    /// It is done now.
    Done(Copied),
    /// The target had all of it already: an earlier move was complete.
    DoneBefore(Copied),
    /// They were moved there before, and have been used there since.
    GoneOn,
    /// They were moved to this other place before, or the move was begun.
    Elsewhere(String),
    /// The target has something else.
    NotEmpty,
    /// What was written does not read as what was to be written; nothing was kept.
    Differs,
}

/// All that the database holds: a few hundred bytes for each voucher and charge.
#[derive(Default, Serialize)]
pub(super) struct Contents {
    pub(super) issuer: IssuerRecord,
    /// Sorted.
    pub(super) retired_pairings: Vec<Vec<u8>>,
    /// The oldest first.
    pub(super) vouchers: Vec<VoucherRecord>,
    /// By voucher and body.
    pub(super) charges: Vec<ChargeRecord>,
    /// The oldest first.
    pub(super) issued: Vec<IssuedRow>,
    /// Epoch, tokens, when reported; the oldest first.
    pub(super) redeemed: Vec<(i64, i64, i64)>,
    /// By voucher.
    pub(super) labels: Vec<(Vec<u8>, String)>,
    /// Purpose, number, secret, by the first two.
    pub(super) secrets: Vec<(i16, i64, Vec<u8>)>,
    /// Hash of the id, number of the secret, when, by the first.
    pub(super) grants: Vec<(Vec<u8>, i64, i64)>,
}

/// Whose it is.
#[derive(Default, Serialize, sqlx::FromRow)]
pub(super) struct IssuerRecord {
    pub(super) issuer_name: Option<String>,
    pub(super) origin_name: Option<String>,
    pub(super) pairing_id: Option<Vec<u8>>,
    pub(super) keys_id: Option<Vec<u8>>,
    pub(super) closed_below: i64,
}

/// A charge in the database.
#[derive(Serialize, sqlx::FromRow)]
pub(super) struct ChargeRecord {
    pub(super) code_hash: Vec<u8>,
    pub(super) body_hash: Vec<u8>,
    pub(super) epoch: i64,
    pub(super) tokens: i64,
    pub(super) replays: i64,
    pub(super) window_start: i64,
}

/// The queries for [`Contents`], the same in both databases.
pub(super) const ISSUER: &str =
    "SELECT issuer_name, origin_name, pairing_id, keys_id, closed_below FROM issuer";
pub(super) const RETIRED: &str = "SELECT pairing_id FROM retired_pairings ORDER BY pairing_id";
pub(super) const SECRETS: &str =
    "SELECT purpose, number, secret FROM secrets ORDER BY purpose, number";
pub(super) const GRANTS: &str = "SELECT id_hash, number, granted_at FROM grants ORDER BY id_hash";
pub(super) const CHARGES: &str = "SELECT code_hash, body_hash, epoch, tokens, replays, window_start
     FROM charges JOIN vouchers ON voucher_id = id ORDER BY id, body_hash";

impl Contents {
    fn copied(&self) -> Copied {
        let text = serde_json::to_vec(self).expect("numbers and bytes");
        Copied {
            vouchers: self.vouchers.len() as u64,
            charges: self.charges.len() as u64,
            digest: hex::encode(Sha256::digest(text)),
        }
    }

    /// Whether nobody has used the database yet.
    fn is_empty(&self) -> bool {
        self.vouchers.is_empty() && self.issuer.pairing_id.is_none()
    }
}

impl Store {
    /// Copies all of an SQLite database into an empty PostgreSQL one, in one transaction there, and
    /// reads it back. Right before that is committed this database is marked, so that no issuer
    /// serves it again: it would give tokens for the same vouchers twice. Meanwhile nobody can
    /// change it. If this is cut short, the same call finds out how far it came.
    ///
    /// # Panics
    /// If this is no SQLite database.
    pub async fn move_to(
        &self,
        server: &PgConnectOptions,
        now: u64,
    ) -> Result<Copying, StoreError> {
        let Backend::Sqlite(from) = &self.backend else {
            panic!("moves go from SQLite to PostgreSQL")
        };
        let to = Database::Postgres(Box::new(server.clone())).to_string();
        let mut from = from.begin_to_move().await?;
        let moved_to = from.moved_to().await?;
        if let Some(elsewhere) =
            moved_to.clone().filter(|before| !before.is_empty() && *before != to)
        {
            return Ok(Copying::Elsewhere(elsewhere));
        }
        let contents = from.contents().await?;
        let expected = contents.copied();
        let mut target = Target::open(server).await?;
        let there = target.contents().await?;
        if !there.is_empty() {
            return Ok(match there.copied() == expected {
                true => {
                    from.mark_moved(&to, now).await?;
                    Copying::DoneBefore(expected)
                }
                false if moved_to.is_some() => Copying::GoneOn,
                false => Copying::NotEmpty,
            });
        }
        target.put(&contents).await?;
        if target.contents().await?.copied() != expected {
            return Ok(Copying::Differs);
        }
        from.mark_moved(&to, now).await?;
        target.commit().await?;
        Ok(Copying::Done(expected))
    }
}
