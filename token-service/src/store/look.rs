//! Looking at a database without changing its tables.

use tocyn_protocol::pairing::{Pairing, PairingId};
use tocyn_service::database::Database;
use tocyn_service::doctor::Standing;

use super::bound::Bound;
use super::postgres::{PostgresStore, Tables};
use super::sqlite::SqliteStore;
use super::{Backend, Store, StoreError};

/// Why tables of an older version are not looked at.
const NOT_UP_TO_DATE: &str = "its tables are of an older version; `tocyn-issuer db migrate` brings \
    them up to date, but older issuers that use them cannot start again then";

impl Store {
    /// Opens a database whose tables are up to date; None where there are none yet.
    pub async fn look_at(database: &Database) -> Result<Option<Self>, StoreError> {
        let refuse = |reason: String| StoreError::Open { database: database.to_string(), reason };
        match database {
            Database::Sqlite(path) => {
                // A file without a byte is of an issuer that was stopped as it began.
                if !std::fs::metadata(path).is_ok_and(|file| file.len() > 0) {
                    return Ok(None);
                }
                let current = SqliteStore::is_current(path).await;
                if !current.map_err(|error| refuse(error.to_string()))? {
                    return Err(refuse(NOT_UP_TO_DATE.to_owned()));
                }
            }
            Database::Postgres(server) => match PostgresStore::tables(server).await? {
                Tables::Missing => return Ok(None),
                Tables::Old => return Err(refuse(NOT_UP_TO_DATE.to_owned())),
                Tables::Current => {}
            },
        }
        Self::open(database).await.map(Some)
    }

    /// How the database stands to a pairing.
    pub async fn standing(&self, pairing: &Pairing) -> Result<Standing, StoreError> {
        let bound = Bound::of(pairing);
        let (stored, retired) = match &self.backend {
            Backend::Sqlite(store) => store.bound(&bound).await?,
            Backend::Postgres(store) => store.bound(&bound).await?,
        };
        Ok(bound.standing(&stored, &retired))
    }

    /// The pairing that the database is tied to, if it is one for the names of this one.
    pub async fn tied_to(&self, pairing: &Pairing) -> Result<Option<PairingId>, StoreError> {
        let bound = Bound::of(pairing);
        let (stored, _) = match &self.backend {
            Backend::Sqlite(store) => store.bound(&bound).await?,
            Backend::Postgres(store) => store.bound(&bound).await?,
        };
        Ok(bound.tied_to(&stored).map(PairingId))
    }
}
