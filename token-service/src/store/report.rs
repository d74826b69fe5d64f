//! What an operator may ask of the database: how much is in it, and whether it is sound.

use serde::Serialize;
use tocyn_protocol::pairing::Epoch;

use super::{Backend, Store, StoreError, on_backend};

/// How much is in the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Vouchers, used up, expired and revoked ones too.
    pub vouchers: u64,
    /// Tokens that they were made for.
    pub granted: u64,
    /// Tokens that are left on them.
    pub left: u64,
    /// Requests that were charged and whose repeats are answered.
    pub charges: u64,
    /// Charges of epochs below this are forgotten.
    pub closed_below: Epoch,
    /// Bytes on disk of all tables and indexes.
    pub bytes: u64,
    /// Bytes of SQLite's write-ahead log.
    pub wal_bytes: u64,
}

impl Store {
    /// Counts what is in the database.
    pub async fn stats(&self) -> Result<Stats, StoreError> {
        on_backend!(self.stats())
    }

    /// What is wrong with the database; empty if nothing is. Reads all of it.
    pub async fn check(&self) -> Result<Vec<String>, StoreError> {
        on_backend!(self.check())
    }
}

/// The counts of [`Stats`] but for bytes.
pub(super) const COUNTS: &str = "SELECT (SELECT count(*) FROM vouchers WHERE attester < 3),
    (SELECT CAST(coalesce(sum(granted), 0) AS bigint) FROM vouchers),
    (SELECT CAST(coalesce(sum(balance), 0) AS bigint) FROM vouchers),
    (SELECT count(*) FROM charges), closed_below FROM issuer";

/// What any database must satisfy: what is wrong otherwise, and the query for how often.
pub(super) const RULES: [(&str, &str); 4] = [
    (
        "vouchers have less than nothing, or more than was granted, left on them",
        "SELECT count(*) FROM vouchers WHERE balance < 0 OR balance > granted",
    ),
    (
        "vouchers were charged for fewer tokens than their requests asked for",
        "SELECT count(*) FROM vouchers WHERE attester IN (0, 2) AND granted - balance <
             (SELECT coalesce(sum(tokens), 0) FROM charges WHERE voucher_id = vouchers.id)",
    ),
    (
        "epochs have fewer tokens handed out than their requests asked for",
        "SELECT count(*) FROM (SELECT epoch, sum(tokens) AS charged FROM charges GROUP BY epoch) AS c
         WHERE charged > (SELECT coalesce(sum(tokens), 0) FROM issued WHERE issued.epoch = c.epoch)",
    ),
    (
        "charges are of vouchers that are not there",
        "SELECT count(*) FROM charges WHERE voucher_id NOT IN (SELECT id FROM vouchers)",
    ),
];

/// From the row of [`COUNTS`].
pub(super) fn stats(counts: (i64, i64, i64, i64, i64), bytes: i64, wal_bytes: u64) -> Stats {
    Stats {
        vouchers: counts.0 as u64,
        granted: counts.1 as u64,
        left: counts.2 as u64,
        charges: counts.3 as u64,
        closed_below: counts.4 as u64,
        bytes: bytes as u64,
        wal_bytes,
    }
}

/// One line for a rule that is broken so often. None if it is kept.
pub(super) fn broken(rule: &str, times: i64) -> Option<String> {
    (times > 0).then(|| format!("{times} {rule}"))
}
