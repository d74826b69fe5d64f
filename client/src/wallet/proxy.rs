//! The proxy that a wallet goes through, in a file of its own: commands that need no wallet read it too.
//! Whoever forgets `--proxy` once would show its address, and the name of an onion service.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::WalletError;
use crate::transport::Transport;

const FILE: &str = "proxy";

/// The proxy that is kept with the wallet in this folder; None if there is none.
pub fn kept_proxy(dir: &Path) -> Result<Option<Transport>, WalletError> {
    let path = dir.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse::<Transport>() {
            Ok(transport) => Ok(Some(transport.kept())),
            Err(_) => Err(WalletError::Proxy(path)),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(WalletError::Io { path, source }),
    }
}

/// Keeps a proxy with the wallet in this folder, in place of an earlier one.
pub fn keep_proxy(dir: &Path, proxy: &Transport) -> Result<(), WalletError> {
    let text = format!("{proxy}\n");
    let path = dir.join(FILE);
    if std::fs::read_to_string(&path).is_ok_and(|kept| kept == text) {
        return Ok(());
    }
    let fresh = dir.join("proxy.new");
    let write = || {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&fresh, &path)?;
        std::fs::File::open(dir)?.sync_all()
    };
    write().map_err(|source| WalletError::Io { path, source })
}
