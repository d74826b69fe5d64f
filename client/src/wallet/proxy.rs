//! The proxy that a wallet goes through, in a file of its own: commands that need no wallet read it too.
//! Whoever forgets `--proxy` once would show its address, and the name of an onion service.

use std::io::ErrorKind;
use std::path::Path;

use tocyn_durable::names;

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
    names::create_dir(dir, 0o700)
        .and_then(|()| names::replace(&path, 0o600, text.as_bytes()))
        .map_err(|source| WalletError::Io { path, source })
}
