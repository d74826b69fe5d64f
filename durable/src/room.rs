//! Test write for free space: file systems do not report quotas.

use std::io::{self, Write};
use std::path::Path;

/// Writes and syncs `bytes` bytes in this folder, in a file without a name.
///
/// # Errors
/// `StorageFull`, `QuotaExceeded`, or any other I/O error.
pub fn check(folder: &Path, bytes: usize) -> io::Result<()> {
    let mut file = tempfile::tempfile_in(folder)?;
    file.write_all(&vec![0xa5; bytes])?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        check(dir.path(), 1 << 16).unwrap();
        assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
        assert!(check(&dir.path().join("none"), 1).is_err());
    }
}
