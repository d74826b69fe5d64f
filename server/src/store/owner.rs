//! Whose a database is. Checked under the lock that ties it to a pairing, before anything is written:
//! a relay that is led to another one's database by mistake leaves it as it is.

use tocyn_protocol::log::note::VerifierKey;
use tocyn_protocol::pairing::{Pairing, PairingId};

/// The relay that serves from a database.
#[derive(Clone, Copy)]
pub(super) struct Owner<'a> {
    pub(super) pairing: &'a Pairing,
    /// The key that signs the log; the origin's name is in it.
    pub(super) key: &'a VerifierKey,
    pub(super) cell_bytes: usize,
}

/// The row of a database that says whose it is.
#[derive(sqlx::FromRow)]
pub(super) struct Bound {
    cell_bytes: i64,
    pairing_id: Vec<u8>,
    /// None before the first start.
    verifier_key: Option<String>,
    /// Whether the pairing that is asked for was replaced before.
    retired: bool,
}

/// The query for [`Bound`], by the id of the pairing that is asked for.
pub(super) const BOUND: &str = "SELECT CAST(cell_bytes AS bigint) AS cell_bytes, pairing_id,
         verifier_key,
         EXISTS (SELECT 1 FROM retired_pairings WHERE pairing_id = $1) AS retired
     FROM log";

/// Change that a relay makes to its database before it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    /// It has no key yet.
    Key,
    /// The pairing is new: the spent set of the one before is forgotten.
    Pairing,
}

impl Owner<'_> {
    /// The change with which this relay may serve from the database.
    ///
    /// # Errors
    /// Why it may not, and what to do.
    pub(super) fn claim(&self, bound: &Bound) -> Result<Change, String> {
        if let Some(other) = &bound.verifier_key
            && *other != self.key.to_string()
        {
            return Err(format!(
                "its log is signed with the key {other}, but log.key in this data folder belongs to \
                 {}; nothing was changed. If the database is this relay's, put the log.key back that \
                 the log was begun with; if not, set database.url right",
                self.key
            ));
        }
        let stored = bound.cell_bytes as usize;
        if stored != self.cell_bytes {
            return Err(format!(
                "its messages have {stored} bytes, but cell_bytes is {}; set it back, or start with a \
                 new database",
                self.cell_bytes
            ));
        }
        let id = self.pairing.id();
        if bound.pairing_id == id.0 {
            return Ok(if bound.verifier_key.is_none() { Change::Key } else { Change::None });
        }
        if bound.retired {
            return Err(PAIRING_WAS_REPLACED.to_owned());
        }
        if self.pairing.replaces().iter().any(|old| old.0[..] == bound.pairing_id) {
            return Ok(Change::Pairing);
        }
        let other = bound.pairing_id();
        Err(format!(
            "it is tied to the pairing {other}, which this one ({id}) does not name as replaced; nothing \
             was changed. If the database is this relay's, run `tocyn-relay pairing install FILE` with \
             the issuer's newest pairing.toml; if not, set database.url right"
        ))
    }
}

impl Bound {
    fn pairing_id(&self) -> PairingId {
        PairingId(self.pairing_id.as_slice().try_into().unwrap_or_default())
    }
}

/// Why the pairing of another time is refused.
const PAIRING_WAS_REPLACED: &str = "this pairing was replaced before, and which of its tokens were \
    spent is forgotten; install the one that replaced it, or make a new one with `tocyn-issuer \
    pairing renew`";
