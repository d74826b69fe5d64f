//! What the operator calls vouchers. It is kept apart from what they are used for: the service never
//! reads it, no list shows both, and it can be left out.

use std::collections::BTreeMap;

use super::{Backend, Hash, Store, StoreError, VOUCHER_ID_BYTES, on_backend};

pub(super) const LABELS: &str = "SELECT voucher, label FROM labels ORDER BY voucher";
pub(super) const LABEL: &str = "INSERT INTO labels (voucher, label) VALUES ($1, $2)
     ON CONFLICT (voucher) DO UPDATE SET label = excluded.label";

impl Store {
    /// Calls vouchers something.
    pub async fn label_vouchers(
        &self,
        code_hashes: &[Hash],
        label: &str,
    ) -> Result<(), StoreError> {
        for hash in code_hashes {
            on_backend!(self.put_label(&hash[..VOUCHER_ID_BYTES], label))?;
        }
        Ok(())
    }

    /// All labels, by the id of their voucher.
    pub async fn labels(&self) -> Result<BTreeMap<String, String>, StoreError> {
        let rows: Vec<(Vec<u8>, String)> = on_backend!(self.labels())?;
        Ok(rows.into_iter().map(|(id, label)| (hex::encode(id), label)).collect())
    }
}
