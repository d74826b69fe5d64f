//! The data folder's files: the pairing and the log's key.

use std::fs;
use std::io::ErrorKind;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use crate::restored::{CUT_SHORT, Restored};
use getrandom::SysRng;
use rand_core::UnwrapErr;
use tocyn_durable::names;
use tocyn_protocol::log::note::LogKey;
use tocyn_protocol::pairing::{Pairing, PairingId};
use tocyn_service::folder::kind::{ISSUER, RELAY};
use tocyn_service::folder::{Folder, FolderError, pairing_text, read_toml, replace};

/// A data folder.
#[derive(Clone, Debug)]
pub struct DataDir(Folder);

impl Deref for DataDir {
    type Target = Folder;

    fn deref(&self) -> &Folder {
        &self.0
    }
}

impl DataDir {
    /// The folder at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(Folder::new(path, INIT_HINT))
    }

    /// `config.toml`.
    pub fn config_path(&self) -> PathBuf {
        self.file("config.toml")
    }

    /// `pairing.toml`.
    pub fn pairing_path(&self) -> PathBuf {
        self.file("pairing.toml")
    }

    /// `log.key`.
    pub fn log_key_path(&self) -> PathBuf {
        self.file("log.key")
    }

    /// `log.size`, with what was signed last.
    pub fn signed_path(&self) -> PathBuf {
        self.file("log.size")
    }

    /// Reads `log.key`, with which this relay signs its log; makes it if it is not there.
    pub fn log_key(&self, origin_name: &str) -> Result<LogKey, FolderError> {
        let path = self.log_key_path();
        if !path.exists() {
            self.make_log_key(&path, origin_name)
                .map_err(|source| FolderError::io(&path, source, ""))?;
        }
        let text =
            fs::read_to_string(&path).map_err(|source| FolderError::io(&path, source, ""))?;
        let text = zeroize::Zeroizing::new(text);
        let invalid = |reason: String| FolderError::invalid(&path, reason);
        let key =
            LogKey::from_secret_text(text.trim()).map_err(|error| invalid(error.to_string()))?;
        match key.name() == origin_name {
            true => Ok(key),
            false => Err(invalid(format!(
                "it is of relay {}, but the pairing is for {origin_name}; nothing was changed",
                key.name()
            ))),
        }
    }

    /// Whole or not at all, and never in place of one that another process has just made.
    fn make_log_key(&self, path: &Path, origin_name: &str) -> std::io::Result<()> {
        let key = LogKey::generate(origin_name, &mut UnwrapErr(SysRng)).to_secret_text();
        let fresh = self.file(&format!("log.key.{}", std::process::id()));
        names::replace(&fresh, 0o600, key.as_bytes())?; // a crash may have left one
        let linked = names::hard_link(&fresh, path);
        names::remove_file(&fresh)?; // syncs the name too that another process has made
        match linked {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    }

    /// Refuses a folder that is no relay's, and one that a restore has left half done.
    pub fn check(&self) -> Result<(), FolderError> {
        match self.restored()? {
            Some(restored) if !restored.complete => {
                Err(FolderError::invalid(self.path(), CUT_SHORT))
            }
            _ => self.check_kind(&RELAY, &ISSUER),
        }
    }

    /// Refuses a folder without a relay's own files: with a pairing it would become a relay that
    /// has no message and has forgotten every token.
    pub fn check_initialized(&self) -> Result<(), FolderError> {
        let own = [self.restored_path(), self.pairing_path(), self.log_key_path()];
        match own.iter().any(|path| path.exists()) {
            true => Ok(()),
            false => Err(self.is_none_of(&RELAY)),
        }
    }

    /// `restored.toml`, where the folder came out of a backup.
    pub fn restored_path(&self) -> PathBuf {
        self.file("restored.toml")
    }

    /// What a restore asks of the pairing; None if there was none.
    pub fn restored(&self) -> Result<Option<Restored>, FolderError> {
        Restored::read(&self.restored_path())
    }

    /// `log`, a folder.
    pub fn log_folder_path(&self) -> PathBuf {
        self.file("log")
    }

    /// `relay.sqlite`.
    pub fn database_path(&self) -> PathBuf {
        self.file("relay.sqlite")
    }

    /// Reads `pairing.toml`, which the supervisor may pass on.
    pub fn pairing(&self) -> Result<Pairing, FolderError> {
        let path = self.secret_file("pairing.toml");
        check_pairing(&path, self.read_toml(&path)?)
    }

    /// The pairing file at `from` as it may take the place of the one that is here, if any. It names
    /// that one as replaced, and `bound`, the one that the database is tied to.
    ///
    /// The names must stay: clients know the relay by them, and they are in every token. An older
    /// one is refused, and one that has nothing in common with these unless the issuer is new.
    pub fn replacement(
        &self,
        from: &Path,
        bound: Option<PairingId>,
        new_issuer: bool,
    ) -> Result<Pairing, FolderError> {
        let pairing = read_pairing(from)?;
        let refuse = |reason: String| Err(FolderError::invalid(from, reason));
        let old = self.pairing_path().exists().then(|| self.pairing()).transpose()?;
        if let Some(old) = &old {
            let names = (old.issuer_name(), old.origin_name());
            if names != (pairing.issuer_name(), pairing.origin_name()) {
                return refuse(format!(
                    "it is for relay {} and issuer {}, but this relay is {} with issuer {}; make a \
                     new data folder for other names",
                    pairing.origin_name(),
                    pairing.issuer_name(),
                    names.1,
                    names.0
                ));
            }
            if old.replaces().contains(&pairing.id()) {
                return refuse(
                    "this pairing was replaced before by the one that is here; install the issuer's \
                     newest pairing.toml, or run `tocyn-issuer pairing renew` there"
                        .to_owned(),
                );
            }
        }
        let line = |pairing: &Pairing| [&[pairing.id()], pairing.replaces()].concat();
        let known = bound.into_iter().chain(old.as_ref().into_iter().flat_map(line));
        let known: Vec<PairingId> = known.collect();
        let is_kin = line(&pairing).iter().any(|id| known.contains(id));
        if !known.is_empty() && !is_kin && !new_issuer {
            return refuse(
                "this pairing has the right names, and names none of those that this relay had \
                 before: it is of another issuer, or one that was begun anew. If that is meant, add \
                 --new-issuer; all tokens of the old one become worthless for good"
                    .to_owned(),
            );
        }
        Ok(pairing.replacing(bound).replacing(old.map(|old| old.id())))
    }

    /// Puts this pairing in place of the one that is here, if any.
    pub fn put_pairing(&self, pairing: &Pairing) -> Result<(), FolderError> {
        replace(&self.pairing_path(), pairing_text(pairing).as_bytes())
    }
}

const INIT_HINT: &str = "; make the data folder with `tocyn-relay --data DIR init --pairing FILE` first, with the \
     pairing.toml that `tocyn-issuer init` wrote";

/// Reads and checks a pairing file.
pub fn read_pairing(path: &Path) -> Result<Pairing, FolderError> {
    check_pairing(path, read_toml(path)?)
}

fn check_pairing(path: &Path, pairing: Pairing) -> Result<Pairing, FolderError> {
    match pairing.validate() {
        Ok(()) => Ok(pairing),
        Err(error) => Err(FolderError::invalid(path, error)),
    }
}
