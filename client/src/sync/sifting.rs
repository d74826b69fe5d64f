//! Which of all cells are of one's groups.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use tocyn_protocol::log::evidence::SignedProof;
use tocyn_protocol::log::note::VerifierKey;
use tocyn_protocol::relay::MessageId;

use super::SyncError;
use crate::evidence::Fault;
use crate::group::cell::CellKeys;
use crate::group::parts::Part;
use crate::log::{LogError, nodes};
use crate::wallet::{CheckedLog, Group, Taken, Wallet};

/// Finds the groups' cells.
pub(super) struct Sifting<'a> {
    pub(super) wallet: &'a Wallet,
    pub(super) key: &'a VerifierKey,
    pub(super) groups: Vec<Group>,
    pub(super) keys: Vec<CellKeys>,
    pub(super) ids: Vec<[u8; 32]>,
    pub(super) before: Option<CheckedLog>,
    pub(super) served_by: String,
    pub(super) is_mirror: bool,
}

impl Sifting<'_> {
    /// Where the group that has read the least goes on; None when all have read all.
    pub(super) fn next(&self, size: u64) -> Option<u64> {
        self.groups.iter().map(|group| group.read_to).min().filter(|from| *from < size)
    }

    /// Takes consecutive cells in; gives how many messages are new.
    pub(super) async fn sift(&mut self, from: u64, cells: &[Vec<u8>]) -> Result<u64, SyncError> {
        let leaves = self.wallet.leaves(self.key, from, cells.len() as u64).await?;
        let mut found = Vec::new();
        for ((index, cell), leaf) in (from..).zip(cells).zip(leaves) {
            if MessageId::of(cell) != leaf.into() {
                return Err(self.altered(index, cell).await?.into());
            }
            for (group, keys) in self.keys.iter().enumerate() {
                if keys.claims(cell) && self.groups[group].read_to <= index {
                    let part =
                        keys.open(cell).and_then(|plain| Part::open(&plain, &self.ids[group]).ok());
                    found.push(Taken { group, seq: index + 1, part });
                }
            }
        }
        let read_to = from + cells.len() as u64;
        let new = self.wallet.take(&self.groups, &found, read_to, self.before.as_ref()).await?;
        for group in &mut self.groups {
            group.read_to = group.read_to.max(read_to);
        }
        Ok(new)
    }

    /// Other bytes than those in the log.
    async fn altered(&self, index: u64, cell: &[u8]) -> Result<LogError, SyncError> {
        if self.is_mirror {
            // That says nothing about the relay.
            return Ok(LogError::BadCopy { url: self.served_by.clone(), seq: index + 1 });
        }
        let log = self.wallet.checked_log(self.key).await?;
        let size = log.as_ref().map_or(0, |log| log.size);
        let proof = nodes::leaf(&self.wallet.tiles(self.key), index, size).await?;
        let (Some(log), Some((leaf, inclusion))) = (log, proof) else {
            return Ok(LogError::Tiles(self.served_by.clone()));
        };
        let proof = SignedProof { index, inclusion, checkpoint: log.checkpoint }.to_string();
        let fault = Fault::Altered {
            proof,
            message_id: leaf.into(),
            served: BASE64.encode(cell),
            served_by: self.served_by.clone(),
        };
        Ok(LogError::fault(self.wallet, self.key, fault).await)
    }
}
