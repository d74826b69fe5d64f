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

    /// Tokens that were handed out and not redeemed: so many forged ones would not show.
    pub fn unspent(&self) -> u64 {
        self.issued.saturating_sub(self.redeemed.unwrap_or(0))
    }
}

/// Fewer tokens than this say nothing about how people spend them.
const MIN_ISSUED: u64 = 1000;
/// Closed epochs that there must be before one.
const MIN_BEFORE: usize = 2;

/// Of the epochs that are closed, those below `end`: the ones whose tokens were left unspent to less
/// than a third of the part that the epochs before left. Forged tokens are spent to the last one, and
/// take the room that people leave. Returns each with its unspent part, and the one of before.
pub fn out_of_line(ledger: &[LedgerRow], end: Epoch) -> Vec<(Epoch, f64, f64)> {
    let part = |unspent: u64, issued: u64| unspent as f64 / issued as f64;
    let (mut found, mut before) = (Vec::new(), (0, 0, 0));
    let counts = |row: &&LedgerRow| row.redeemed.is_some() && row.issued >= MIN_ISSUED;
    for row in ledger.iter().filter(|row| row.epoch < end).filter(counts) {
        let (epochs, unspent, issued) = before;
        let now = part(row.unspent(), row.issued);
        if epochs >= MIN_BEFORE && now < part(unspent, issued) / 3.0 {
            found.push((row.epoch, now, part(unspent, issued)));
        } else {
            before = (epochs + 1, unspent + row.unspent(), issued + row.issued);
        }
    }
    found
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(epoch: Epoch, issued: u64, redeemed: u64) -> LedgerRow {
        LedgerRow { epoch, issued, redeemed: Some(redeemed), reported_at: Some(1) }
    }

    #[test]
    fn an_epoch_that_leaves_little_unspent_stands_out() {
        let usual = [row(0, 10_000, 7000), row(1, 10_000, 6800), row(2, 9000, 6500)];
        assert_eq!(out_of_line(&usual, 9), []);
        let ledger = [&usual[..], &[row(3, 10_000, 9500), row(4, 10_000, 7000)]].concat();
        let found = out_of_line(&ledger, 9);
        assert_eq!(found.iter().map(|found| found.0).collect::<Vec<_>>(), [3]);
        assert_eq!(found[0].1, 0.05);
        assert_eq!(out_of_line(&ledger, 3), [], "one that is not closed may still change");
        // Few tokens, and too few epochs to compare with, say nothing.
        assert_eq!(out_of_line(&[row(0, 10, 5), row(1, 10, 5), row(2, 10, 10)], 9), []);
        assert_eq!(out_of_line(&[row(0, 10_000, 5000), row(1, 10_000, 9999)], 9), []);
    }
}
