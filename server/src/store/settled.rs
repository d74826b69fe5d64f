//! The time up to which the clock was believed, for [`tocyn_service::settled::SettledClock`].

use super::{Store, StoreError};

/// Valid for SQLite and PostgreSQL.
pub(super) const SETTLED: &str = "SELECT settled_at FROM settled";
pub(super) const SETTLE: &str = "INSERT INTO settled (id, settled_at) VALUES (1, $1)
     ON CONFLICT (id) DO UPDATE SET settled_at = excluded.settled_at";

impl Store {
    /// The time up to which relays have believed their clocks, in unix seconds; None before the
    /// first start.
    pub async fn settled_at(&self) -> Result<Option<u64>, StoreError> {
        let at = match self {
            Self::Sqlite(store) => store.settled_at().await?,
            Self::Postgres(store) => store.settled_at().await?,
        };
        Ok(at.and_then(|at| u64::try_from(at).ok()))
    }

    /// Notes the time up to which the clock is believed, in unix seconds.
    pub async fn note_settled(&self, at: u64) -> Result<(), StoreError> {
        let at = at.min(i64::MAX as u64) as i64;
        match self {
            Self::Sqlite(store) => store.note_settled(at).await,
            Self::Postgres(store) => store.note_settled(at).await,
        }
    }
}
