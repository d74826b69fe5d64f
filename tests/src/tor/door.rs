//! The unix socket that an onion service leads to, and behind it the one that the service listens
//! on. Everything passes as it is; on the way the circuits are noted that Tor names in its PROXY
//! line (`HiddenServiceExportCircuitID haproxy`).

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::AbortHandle;

/// The longest line that the PROXY protocol has.
const MAX_LINE_BYTES: usize = 107;

/// An open door. Dropping it closes it.
pub struct Door {
    circuits: Arc<Mutex<Vec<u32>>>,
    task: AbortHandle,
}

impl Door {
    /// Opens a socket at this path, before the one that a service listens on.
    pub fn open(path: &Path, service: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a socket in a folder of our own");
        let (service, circuits) = (service.to_owned(), Arc::<Mutex<Vec<u32>>>::default());
        let recorded = circuits.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, service.clone(), recorded.clone()));
            }
        });
        Self { circuits, task: task.abort_handle() }
    }

    /// Of the connections since the last call: how many they were, and how many circuits.
    pub fn take_counts(&self) -> (usize, usize) {
        let circuits = std::mem::take(&mut *self.circuits.lock().expect("no panic"));
        (circuits.len(), circuits.iter().collect::<BTreeSet<_>>().len())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(
    mut client: UnixStream,
    service: PathBuf,
    circuits: Arc<Mutex<Vec<u32>>>,
) -> io::Result<()> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        assert!(line.len() < MAX_LINE_BYTES, "no PROXY line");
        line.push(client.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&line);
    circuits.lock().expect("no panic").push(circuit_id(&text).expect("the line of Tor's manual"));
    let mut service = UnixStream::connect(service).await?;
    service.write_all(&line).await?;
    tokio::io::copy_bidirectional(&mut client, &mut service).await?;
    Ok(())
}

/// The last 32 bits of the first address, as Tor's manual has it.
fn circuit_id(line: &str) -> Option<u32> {
    let mut words = line.strip_prefix("PROXY TCP6 ")?.split(' ');
    let address: std::net::Ipv6Addr = words.next()?.parse().ok()?;
    let bytes = address.octets();
    let is_tors = bytes.starts_with(&[0xfc, 0, 0xde, 0xad, 0xbe, 0xef, 0x4d, 0xad]);
    is_tors.then(|| u32::from_be_bytes(bytes[12..].try_into().expect("four bytes")))
}

#[cfg(test)]
mod tests {
    use super::circuit_id;

    #[test]
    fn the_examples_of_tors_manual() {
        let line = "PROXY TCP6 fc00:dead:beef:4dad::ffff:ffff ::1 65535 42\r\n";
        assert_eq!(circuit_id(line), Some(4_294_967_295));
        let line = "PROXY TCP6 fc00:dead:beef:4dad::AABB:CCDD ::1 65535 42\r\n";
        assert_eq!(circuit_id(line), Some(0xaabb_ccdd));
        assert_eq!(circuit_id("PROXY TCP6 ::1 ::1 65535 42\r\n"), None);
        assert_eq!(circuit_id("GET / HTTP/1.1\r\n"), None);
    }
}
