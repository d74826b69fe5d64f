//! After a restore. The database has forgotten which tokens were spent since the backup, and would
//! take them again. So no pairing from before the restore is served from then on: not the one in
//! the backup, nor one that came after it, which the lost relay may have served with.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tocyn_protocol::pairing::Pairing;
use tocyn_service::backup::{DatabaseKind, pairing_id};
use tocyn_service::folder::{FolderError, read_toml, replace};

/// Of a folder in which not all of the backup is.
pub(crate) const CUT_SHORT: &str =
    "the restore into this folder was cut short; remove the folder, and restore again";

/// `restored.toml` in the data folder. It stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restored {
    /// The pairing in the backup, by [`pairing_id`].
    pub pairing_id: String,
    /// When the restore was begun, in unix seconds.
    pub restored_at: u64,
    /// When the backup was made, for people.
    pub backup_made: String,
    /// Where the database is.
    pub database: DatabaseKind,
    /// Whether all of the backup is in the folder.
    pub complete: bool,
    /// A pairing from before the restore of which the operator said that nothing was forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<String>,
}

impl Restored {
    /// Reads the file; None if the folder was never restored.
    pub fn read(path: &Path) -> Result<Option<Self>, FolderError> {
        if path.exists() { read_toml(path).map(Some) } else { Ok(None) }
    }

    /// Writes the file, in place of one that is there.
    pub fn write(&self, path: &Path) -> Result<(), FolderError> {
        let text = toml::to_string(self).expect("it is plain data");
        let text = format!(
            "# This folder was restored from a backup: no pairing from before that is served from it.\n\
             # Without this file tokens could be spent twice.\n{text}"
        );
        replace(path, text.as_bytes())
    }

    /// Why this pairing is not served, and what to do. None if it is.
    pub fn refusal(&self, pairing: &Pairing) -> Option<String> {
        if !self.complete {
            return Some(CUT_SHORT.to_owned());
        }
        let id = pairing_id(pairing);
        if self.allowed.as_ref() == Some(&id) {
            return None;
        }
        let is_of_backup = id == self.pairing_id;
        if !is_of_backup && pairing.schedule().genesis > self.restored_at {
            return None;
        }
        let which = match is_of_backup {
            true => "its pairing is that of the backup",
            false => {
                "its pairing was made before the restore by this machine's clock, so that the lost \
                 relay may have served with it"
            }
        };
        let why = match self.database {
            DatabaseKind::Sqlite => "which tokens were spent since the backup is forgotten",
            DatabaseKind::Postgres => {
                "if its PostgreSQL database was restored too, or a standby took over, which tokens \
                 were spent since is forgotten"
            }
        };
        let unless = match self.database {
            DatabaseKind::Sqlite => "If no relay has served since the backup was made",
            DatabaseKind::Postgres => "If the PostgreSQL database has lost nothing",
        };
        Some(format!(
            "this folder was restored from a backup of {}; {which}, and {why}. Run `tocyn-issuer \
             pairing renew` now, and `tocyn-relay pairing install FILE` with the new pairing.toml. \
             {unless}, run `tocyn-relay pairing install --nothing-forgotten FILE` with the \
             issuer's pairing.toml instead",
            self.backup_made
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use getrandom::SysRng;
    use rand_core::UnwrapErr;

    #[test]
    fn only_a_pairing_made_after_the_restore_is_served() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("restored.toml");
        let made =
            |genesis| Pairing::generate("i", "r", genesis, 1000, &mut UnwrapErr(SysRng)).unwrap();
        let (old, between, new) = (made(10), made(100), made(101));
        let mut restored = Restored {
            pairing_id: pairing_id(&old),
            restored_at: 100,
            backup_made: "then".to_owned(),
            database: DatabaseKind::Sqlite,
            complete: false,
            allowed: None,
        };
        assert!(restored.refusal(&new).unwrap().contains("cut short"));
        restored.complete = true;
        assert!(restored.refusal(&old).unwrap().contains("is that of the backup"));
        assert!(restored.refusal(&between).unwrap().contains("made before the restore"));
        assert_eq!(restored.refusal(&new), None);
        restored.allowed = Some(pairing_id(&between));
        assert_eq!(restored.refusal(&between), None);
        assert!(restored.refusal(&old).is_some());
        restored.database = DatabaseKind::Postgres;
        assert!(restored.refusal(&old).unwrap().contains("PostgreSQL database has lost nothing"));
        assert_eq!(Restored::read(&path).unwrap(), None);
        restored.write(&path).unwrap();
        restored.write(&path).unwrap();
        assert_eq!(Restored::read(&path).unwrap(), Some(restored));
    }
}
