//! Secrets of the issuer, and ids for which codes were given, as the database keeps them.

use super::{Backend, Hash, Store, StoreError, on_backend};
use crate::secrets::Purpose;

impl Store {
    /// The secret of a purpose and a number; `fresh` becomes it if there is none yet. Of several
    /// issuers all get the same. None if it is wiped.
    pub(crate) async fn secret(
        &self,
        purpose: Purpose,
        number: u64,
        fresh: &Hash,
    ) -> Result<Option<Hash>, StoreError> {
        on_backend!(self.secret(purpose as i16, number as i64, fresh))
    }

    /// The secret of a purpose and a number, if there is one.
    pub(crate) async fn find_secret(
        &self,
        purpose: Purpose,
        number: u64,
    ) -> Result<Option<Hash>, StoreError> {
        on_backend!(self.find_secret(purpose as i16, number as i64))
    }

    /// Notes that a code is given for an id, from the secret of this number; returns the number that
    /// was noted first.
    pub(crate) async fn note_grant(
        &self,
        id_hash: &Hash,
        number: u64,
        now: u64,
    ) -> Result<u64, StoreError> {
        on_backend!(self.note_grant(id_hash, number as i64, now as i64)).map(|number| number as u64)
    }

    /// Wipes the secrets of a purpose below a number; returns how many there were. That they were
    /// there stays known.
    pub(crate) async fn wipe_secrets(
        &self,
        purpose: Purpose,
        below: u64,
    ) -> Result<u64, StoreError> {
        on_backend!(self.wipe_secrets(purpose as i16, below as i64))
    }

    /// Forgets that there were secrets of a purpose below a number.
    pub(crate) async fn forget_secrets(
        &self,
        purpose: Purpose,
        below: u64,
    ) -> Result<u64, StoreError> {
        on_backend!(self.forget_secrets(purpose as i16, below as i64))
    }

    /// Has what was wiped overwritten where a copy of it may still be; false if that must be tried
    /// again, since somebody reads there.
    pub(crate) async fn flush_wiped(&self) -> Result<bool, StoreError> {
        match &self.backend {
            Backend::Sqlite(store) => store.flush_wiped().await,
            // The server does it when it vacuums.
            Backend::Postgres(_) => Ok(true),
        }
    }

    /// Forgets the ids of codes that were given before this time, in unix seconds.
    pub(crate) async fn forget_grants(&self, before: u64) -> Result<u64, StoreError> {
        on_backend!(self.forget_grants(before as i64))
    }
}
