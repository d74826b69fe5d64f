//! The pairing that a database is tied to.

use tocyn_protocol::pairing::Pairing;
use tocyn_service::doctor::Standing;

use super::Hash;

/// Why the pairing of another time is refused.
const PAIRING_WAS_REPLACED: &str = "this pairing was replaced before, and what was charged under it \
    is forgotten; use the one that replaced it, or make a new one with `tocyn-issuer pairing renew`";

/// Why the keys of another time are refused.
const KEYS_WERE_REPLACED: &str = "this pairing.toml is from before a planned renewal that was in use \
    here, and clients would refuse its keys; use the renewed one";

/// A pairing and its newest secret: a planned renewal keeps the first, and replaces the second.
#[derive(Clone, Copy)]
pub(super) struct Bound {
    pub(super) pairing_id: Hash,
    pub(super) keys_id: Hash,
    /// Of the secret that a planned renewal has replaced.
    previous_keys_id: Option<Hash>,
}

/// The same in a database; None before the first start.
pub(super) type Stored = (Option<Vec<u8>>, Option<Vec<u8>>);

/// The query for [`Stored`].
pub(super) const STORED: &str = "SELECT pairing_id, keys_id FROM issuer";

impl Bound {
    pub(super) fn of(pairing: &Pairing) -> Self {
        let previous_keys_id = pairing.previous_keys_id().map(|id| id.0);
        Self { pairing_id: pairing.id().0, keys_id: pairing.keys_id().0, previous_keys_id }
    }

    /// Whether it is the one in the database.
    pub(super) fn is(&self, stored: &Stored) -> bool {
        self.has_pairing(stored) && stored.1.as_deref() == Some(&self.keys_id)
    }

    /// Whether it is the one in the database, or a planned renewal of it: then nothing is forgotten.
    pub(super) fn has_pairing(&self, stored: &Stored) -> bool {
        stored.0.as_deref() == Some(&self.pairing_id)
    }

    /// What is new in it. If this is among the retired ids, it is refused, and why.
    pub(super) fn new_id(&self, stored: &Stored) -> (&Hash, &'static str) {
        match self.has_pairing(stored) {
            true => (&self.keys_id, KEYS_WERE_REPLACED),
            false => (&self.pairing_id, PAIRING_WAS_REPLACED),
        }
    }

    /// What is retired when it takes the place of the one in the database: keys only where this was
    /// renewed from them. Of two renewals of the same keys, made by mistake, either may be the one
    /// that relays have.
    pub(super) fn replaces(&self, stored: Stored) -> Option<Vec<u8>> {
        match self.has_pairing(&stored) {
            true => stored
                .1
                .filter(|keys| self.previous_keys_id.as_ref().is_some_and(|id| id[..] == keys[..])),
            false => stored.0,
        }
    }

    /// How the database stands to it; `retired` are the ids of its that are retired.
    pub(super) fn standing(&self, stored: &Stored, retired: &[Vec<u8>]) -> Standing {
        let is_retired = |id: &Hash| retired.iter().any(|retired| retired[..] == *id);
        match () {
            () if is_retired(&self.pairing_id) || is_retired(&self.keys_id) => Standing::Replaced,
            () if stored.0.is_none() => Standing::Unused,
            () if self.is(stored) => Standing::InUse,
            () if self.has_pairing(stored) => Standing::Planned,
            () => Standing::Renewed,
        }
    }
}
