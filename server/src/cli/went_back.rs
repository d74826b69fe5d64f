//! A database that has fewer messages than this relay has signed, or sealed, is served only with a
//! pairing that replaces the one that was served with.

use tocyn_protocol::log::note::VerifierKey;
use tocyn_protocol::log::tile::TILE_WIDTH;
use tocyn_protocol::pairing::{Pairing, PairingId};
use tocyn_service::database::Database;
use tocyn_service::folder::FolderError;

use super::{CliResult, Settings};
use crate::bundles::Folder;
use crate::data_dir::DataDir;
use crate::signed::{Signed, SignedFile};

/// Evidence of the size of the log outside of its database.
pub(super) struct Known {
    signed: Option<Signed>,
    folder: Option<Folder>,
    /// The bundles that are sealed in it. One is sealed only after its messages were durable.
    bundles: Vec<u64>,
}

impl Known {
    /// Read this before the head of the database, which other relays may raise.
    pub(super) fn of(
        data: &DataDir,
        settings: &Settings,
        key: Option<&VerifierKey>,
    ) -> CliResult<Self> {
        let signed = Signed::read(&data.signed_path())?;
        let folder = settings.log_folder(data);
        let folder = folder.map(|path| Folder::new(path, settings.config.cell_bytes));
        // A folder of another log is refused later.
        let is_own = |folder: &Folder| match (folder.key(), key) {
            (Ok(Some(found)), Some(key)) => found == key.to_string(),
            _ => false,
        };
        let folder = folder.filter(is_own);
        let bundles = folder.as_ref().map(Folder::bundles).transpose()?.unwrap_or_default();
        Ok(Self { signed, folder, bundles })
    }

    /// Messages that the log had, at least.
    fn size(&self) -> u64 {
        let sealed = self.bundles.iter().max().map_or(0, |newest| end(*newest));
        self.signed.map_or(0, |signed| signed.size).max(sealed)
    }

    /// Whether a database with `head` messages has lost some.
    pub(super) fn is_ahead_of(&self, head: u64) -> bool {
        self.size() > head
    }

    /// Why this pairing is not served from a database that has `head` messages and is tied to the
    /// pairing `bound`. None if it is.
    pub(super) fn refusal(&self, head: u64, bound: PairingId, pairing: &Pairing) -> Option<String> {
        let served = self.signed.map_or(bound, |signed| signed.pairing);
        Signed { size: self.size(), pairing: served }.refusal(head, pairing)
    }

    /// [`Self::refusal`] as an error.
    pub(super) fn check(
        &self,
        data: &DataDir,
        head: u64,
        bound: PairingId,
        pairing: &Pairing,
    ) -> CliResult {
        match self.refusal(head, bound, pairing) {
            Some(why) => Err(FolderError::invalid(data.path(), why).into()),
            None => Ok(()),
        }
    }

    /// Refuses a database without anything in it for a log that has messages.
    pub(super) fn check_new(&self, data: &DataDir, database: &Database) -> CliResult {
        if !self.is_ahead_of(0) {
            return Ok(());
        }
        let reason = format!(
            "this relay has signed a log of {} messages, but in {database} there is nothing. Put the \
             database back, or make a data folder of a backup with `tocyn-relay --data DIR restore`. \
             Without either this log cannot go on: make a new data folder",
            self.size()
        );
        Err(FolderError::invalid(data.path(), reason).into())
    }

    /// The log goes on from message `head`, with a pairing that passes [`Self::check`]. After a
    /// crash the next start does all of it again.
    pub(super) fn accept(
        &self,
        data: &DataDir,
        head: u64,
        pairing: &Pairing,
        now: u64,
    ) -> CliResult {
        let is_beyond = |bundle: &u64| end(*bundle) > head;
        let lost: Vec<u64> = self.bundles.iter().copied().filter(is_beyond).collect();
        if let Some(folder) = &self.folder {
            folder.set_aside(&lost, now)?;
        }
        let path = data.signed_path();
        let now_signed = Signed { size: head, pairing: pairing.id() };
        let gone_back = SignedFile::open(&path, pairing.id())?.go_back(now_signed);
        gone_back.map_err(|source| FolderError::io(&path, source, ""))?;
        tracing::warn!(
            signed = self.size(),
            head,
            files_set_aside = lost.len(),
            "the database went back: the log goes on with a new pairing"
        );
        Ok(())
    }
}

/// The last message of a bundle.
fn end(bundle: u64) -> u64 {
    bundle.saturating_add(1).saturating_mul(TILE_WIDTH)
}
