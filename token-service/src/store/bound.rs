//! The pairing that a database is tied to, and whose it is. Checked under the lock that ties it, before
//! anything is written: an issuer that is led to another one's database by mistake leaves it as it is.

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
#[derive(Clone)]
pub(super) struct Bound {
    pub(super) pairing_id: Hash,
    pub(super) keys_id: Hash,
    pub(super) issuer_name: String,
    pub(super) origin_name: String,
    /// Of the secret that a planned renewal has replaced.
    previous_keys_id: Option<Hash>,
    /// Pairings whose charges may be forgotten for this one.
    replaces: Vec<Hash>,
}

/// The same in a database; None before the first start.
#[derive(sqlx::FromRow)]
pub(super) struct Stored {
    pairing_id: Option<Vec<u8>>,
    keys_id: Option<Vec<u8>>,
    issuer_name: Option<String>,
    origin_name: Option<String>,
}

/// The query for [`Stored`].
pub(super) const STORED: &str = "SELECT pairing_id, keys_id, issuer_name, origin_name FROM issuer";

/// The query for which of the two ids of a pairing are retired.
pub(super) const RETIRED: &str =
    "SELECT pairing_id FROM retired_pairings WHERE pairing_id IN ($1, $2)";

/// Change that an issuer makes to its database before it serves.
#[derive(Debug)]
pub(super) enum Change {
    None,
    /// A planned renewal: nothing is forgotten. Keys that it replaces are retired.
    Keys(Option<Vec<u8>>),
    /// The first pairing, or a new one: charges under the one before, if any, are forgotten, and it is
    /// retired.
    Pairing(Option<Vec<u8>>),
}

impl Stored {
    fn names(&self) -> Option<(&str, &str)> {
        self.issuer_name.as_deref().zip(self.origin_name.as_deref())
    }
}

impl Bound {
    pub(super) fn of(pairing: &Pairing) -> Self {
        Self {
            pairing_id: pairing.id().0,
            keys_id: pairing.keys_id().0,
            issuer_name: pairing.issuer_name().to_owned(),
            origin_name: pairing.origin_name().to_owned(),
            previous_keys_id: pairing.previous_keys_id().map(|id| id.0),
            replaces: pairing.replaces().iter().map(|id| id.0).collect(),
        }
    }

    /// The change with which this pairing may be used with the database; `retired` are its ids that
    /// are retired there.
    ///
    /// # Errors
    /// Why it may not, and what to do.
    pub(super) fn claim(&self, stored: &Stored, retired: &[Vec<u8>]) -> Result<Change, String> {
        if let Some((issuer, origin)) = stored.names()
            && (issuer, origin) != self.names()
        {
            return Err(format!(
                "it belongs to issuer {issuer} for origin {origin}, but the pairing in this data folder \
                 is of issuer {} for origin {}; nothing was changed. Set database.url right, or use the \
                 data folder that goes with it",
                self.issuer_name, self.origin_name
            ));
        }
        let is_retired = |id: &Hash| retired.iter().any(|retired| retired[..] == *id);
        if self.has_pairing(stored) {
            return match stored.keys_id.as_deref() {
                Some(keys) if *keys == self.keys_id => Ok(Change::None),
                _ if is_retired(&self.keys_id) => Err(KEYS_WERE_REPLACED.to_owned()),
                // Of two renewals of the same keys, made by mistake, either may be the one that relays
                // have: only keys that this was renewed from are retired.
                keys => {
                    let replaced = self.previous_keys_id.as_ref();
                    Ok(Change::Keys(
                        replaced.filter(|id| keys == Some(&id[..])).map(|id| id.to_vec()),
                    ))
                }
            };
        }
        if is_retired(&self.pairing_id) {
            return Err(PAIRING_WAS_REPLACED.to_owned());
        }
        match &stored.pairing_id {
            Some(other) if !self.replaces.iter().any(|old| old[..] == other[..]) => Err(format!(
                "it is tied to the pairing {}, which the one in this data folder ({}) does not name as \
                 replaced; nothing was changed. If the database is this issuer's, run `tocyn-issuer \
                 pairing renew`; if not, set database.url right",
                hex::encode(other),
                hex::encode(self.pairing_id)
            )),
            other => Ok(Change::Pairing(other.clone())),
        }
    }

    fn names(&self) -> (&str, &str) {
        (&self.issuer_name, &self.origin_name)
    }

    /// The pairing in the database, if it is for the same names.
    pub(super) fn tied_to(&self, stored: &Stored) -> Option<Hash> {
        stored.names().filter(|names| *names == self.names())?;
        stored.pairing_id.as_deref()?.try_into().ok()
    }

    /// Whether it is the one in the database, or a planned renewal of it.
    fn has_pairing(&self, stored: &Stored) -> bool {
        stored.pairing_id.as_deref() == Some(&self.pairing_id)
    }

    /// Whether it is the one in the database, with the same keys.
    pub(super) fn is(&self, stored: &Stored) -> bool {
        self.has_pairing(stored) && stored.keys_id.as_deref() == Some(&self.keys_id)
    }

    /// How the database stands to it.
    pub(super) fn standing(&self, stored: &Stored, retired: &[Vec<u8>]) -> Standing {
        let is_retired = |id: &Hash| retired.iter().any(|retired| retired[..] == *id);
        match self.claim(stored, retired) {
            _ if is_retired(&self.pairing_id) || is_retired(&self.keys_id) => Standing::Replaced,
            Ok(_) if stored.pairing_id.is_none() => Standing::Unused,
            Ok(Change::None) => Standing::InUse,
            Ok(Change::Keys(_)) => Standing::Planned,
            Ok(Change::Pairing(_)) => Standing::Renewed,
            Err(_) => Standing::Foreign,
        }
    }
}
