//! What was handed out under each epoch's key, and what the relay has redeemed of it.

use serde::Serialize;
use tocyn_protocol::pairing::Epoch;

use super::{Backend, Store, StoreError, on_backend};
use crate::attester::Attester;

/// Tokens handed out under one epoch's key by one attester.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Issued {
    /// The epoch.
    pub epoch: Epoch,
    /// Who decided.
    pub attester: Attester,
    /// How many.
    pub tokens: u64,
}

/// One epoch's key in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LedgerRow {
    /// The epoch.
    pub epoch: Epoch,
    /// Tokens that were handed out.
    pub issued: u64,
    /// Tokens that the relay has redeemed, if somebody reported it.
    pub redeemed: Option<u64>,
    /// When, in unix seconds.
    pub reported_at: Option<u64>,
}

impl LedgerRow {
    /// Tokens that were redeemed and never handed out: somebody else has the key.
    pub fn excess(&self) -> u64 {
        self.redeemed.unwrap_or(0).saturating_sub(self.issued)
    }
}

/// Epoch, attester, tokens.
pub(super) type IssuedRow = (i64, i64, i64);

/// Those from an epoch on, the oldest first, the same in both databases.
pub(super) const ISSUED: &str = "SELECT epoch, CAST(attester AS bigint), tokens FROM issued
     WHERE epoch >= $1 ORDER BY epoch, attester";
pub(super) const REDEEMED: &str = "SELECT epoch, tokens, reported_at FROM redeemed ORDER BY epoch";
pub(super) const REPORT: &str =
    "INSERT INTO redeemed (epoch, tokens, reported_at) VALUES ($1, $2, $3)
     ON CONFLICT (epoch) DO UPDATE SET tokens = excluded.tokens, reported_at = excluded.reported_at
     WHERE $4 OR redeemed.tokens <= excluded.tokens";

pub(super) fn attester(number: i64) -> Result<Attester, sqlx::Error> {
    Attester::from_number(number)
        .ok_or_else(|| sqlx::Error::Decode(format!("there is no attester {number}").into()))
}

pub(super) fn issued_row(row: IssuedRow) -> Result<((Epoch, Attester), u64), sqlx::Error> {
    Ok(((row.0 as u64, attester(row.1)?), row.2 as u64))
}

impl Store {
    /// What was handed out from this epoch on, the oldest first.
    pub async fn issued(&self, from: Epoch) -> Result<Vec<Issued>, StoreError> {
        let rows: Vec<IssuedRow> = on_backend!(self.issued(from))?;
        let issued = rows.into_iter().map(|row| {
            let ((epoch, attester), tokens) = issued_row(row)?;
            Ok(Issued { epoch, attester, tokens })
        });
        issued.collect::<Result<_, sqlx::Error>>().map_err(StoreError::from)
    }

    /// Notes what the relay has redeemed under an epoch's key. Less than was reported before
    /// changes nothing, and is answered false, unless it `corrects` that.
    pub async fn report_redeemed(
        &self,
        epoch: Epoch,
        tokens: u64,
        corrects: bool,
        now: u64,
    ) -> Result<bool, StoreError> {
        Ok(on_backend!(self.report_redeemed(epoch, tokens, corrects, now))? > 0)
    }

    /// Every key of this pairing under which anything was handed out or redeemed.
    pub async fn ledger(&self) -> Result<Vec<LedgerRow>, StoreError> {
        let mut rows: std::collections::BTreeMap<Epoch, LedgerRow> = Default::default();
        let empty = |epoch| LedgerRow { epoch, issued: 0, redeemed: None, reported_at: None };
        for issued in self.issued(0).await? {
            rows.entry(issued.epoch).or_insert_with(|| empty(issued.epoch)).issued += issued.tokens;
        }
        let redeemed: Vec<(i64, i64, i64)> = on_backend!(self.redeemed())?;
        for (epoch, tokens, reported_at) in redeemed {
            let row = rows.entry(epoch as u64).or_insert_with(|| empty(epoch as u64));
            row.redeemed = Some(tokens as u64);
            row.reported_at = Some(reported_at as u64);
        }
        Ok(rows.into_values().collect())
    }
}
