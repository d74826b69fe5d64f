//! The time up to which the clock was believed, for [`tocyn_service::settled::SettledClock`].

use super::{Backend, Store, StoreError, on_backend};

/// Valid for SQLite and PostgreSQL.
pub(super) const SETTLED: &str = "SELECT settled_at FROM issuer";
pub(super) const SETTLE: &str = "UPDATE issuer SET settled_at = $1";

impl Store {
    /// The time up to which issuers have believed their clocks, in unix seconds; None before the
    /// first start.
    pub async fn settled_at(&self) -> Result<Option<u64>, StoreError> {
        let at: Option<i64> = on_backend!(self.settled_at())?;
        Ok(at.and_then(|at| u64::try_from(at).ok()))
    }

    /// Notes the time up to which the clock is believed, in unix seconds.
    pub async fn note_settled(&self, at: u64) -> Result<(), StoreError> {
        let at = at.min(i64::MAX as u64) as i64;
        on_backend!(self.note_settled(at))
    }
}
