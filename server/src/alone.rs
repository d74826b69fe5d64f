//! Two SQLite relays with one pairing would each take every token once. On one machine the second one
//! notices: a name in the kernel says that the first one runs. It goes with the process.

use std::os::unix::net::UnixListener;

use tocyn_protocol::pairing::Pairing;

/// A relay on this machine runs with this pairing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "another relay on this machine serves this pairing from another database, and both would take \
     each token once. Stop that one, or give this one a pairing of its own; several relays of one \
     pairing share a PostgreSQL database"
)]
pub struct NotAlone;

/// While it is there, another relay on this machine that asks for the same pairing is refused.
#[derive(Debug)]
pub struct Alone {
    _name: Option<UnixListener>,
}

/// Takes the pairing for this process, on Linux. Where sockets are not allowed nothing is taken.
#[cfg(target_os = "linux")]
pub fn take(pairing: &Pairing) -> Result<Alone, NotAlone> {
    match UnixListener::bind_addr(&address(pairing)) {
        Ok(listener) => Ok(Alone { _name: Some(listener) }),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(NotAlone),
        Err(error) => {
            tracing::debug!(%error, "a second relay with this pairing would not be noticed");
            Ok(Alone { _name: None })
        }
    }
}

/// Sees that no other process has taken the pairing, and takes it for none.
#[cfg(target_os = "linux")]
pub fn check(pairing: &Pairing) -> Result<(), NotAlone> {
    use std::os::unix::net::UnixStream;
    match UnixStream::connect_addr(&address(pairing)) {
        Ok(_) => Err(NotAlone),
        Err(_) => Ok(()),
    }
}

/// The id of a pairing is no secret. Who knows it may take the name to keep the relay from starting,
/// but must be on this machine for that.
#[cfg(target_os = "linux")]
fn address(pairing: &Pairing) -> std::os::unix::net::SocketAddr {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    let name = format!("tocyn-relay/{}", hex::encode(pairing.id().0));
    SocketAddr::from_abstract_name(name).expect("it is shorter than 108 bytes")
}

/// Other systems have no such names.
#[cfg(not(target_os = "linux"))]
pub fn take(_: &Pairing) -> Result<Alone, NotAlone> {
    Ok(Alone { _name: None })
}

/// Other systems have no such names.
#[cfg(not(target_os = "linux"))]
pub fn check(_: &Pairing) -> Result<(), NotAlone> {
    Ok(())
}
