//! Addresses to listen on: TCP, unix sockets, and sockets that systemd passes on.

use std::fmt;
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::Mode;
use rustix::net::sockopt::set_socket_send_buffer_size;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UnixListener};

use crate::output::print;
use crate::stream::Stream;

/// `127.0.0.1:7801`, with port 0 for a free one, or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A unix socket; a relative path is in the data folder.
    Unix(PathBuf),
}

impl Address {
    /// `admin.sock` becomes `admin-PID.sock`.
    fn of_this_process(&self) -> Self {
        match self {
            Self::Unix(path) => {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                Self::Unix(path.with_file_name(format!("{name}-{}.sock", std::process::id())))
            }
            tcp => tcp.clone(),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            format!(
                "{text:?} is no address to listen on; give ADDR:PORT, where ADDR is an IP address, or \
                 unix:PATH"
            )
        })
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// One address, or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "OneOrMany", into = "Vec<Address>")]
pub struct Addresses(pub Vec<Address>);

impl Addresses {
    /// Those that other machines may reach.
    pub fn open_to_others(&self) -> impl Iterator<Item = &SocketAddr> {
        self.0.iter().filter_map(|address| match address {
            Address::Tcp(address) if !address.ip().is_loopback() => Some(address),
            _ => None,
        })
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "give \"ADDR:PORT\", \"unix:PATH\", or a list of these")]
enum OneOrMany {
    One(Address),
    Many(Vec<Address>),
}

impl From<OneOrMany> for Addresses {
    fn from(addresses: OneOrMany) -> Self {
        match addresses {
            OneOrMany::One(address) => Self(vec![address]),
            OneOrMany::Many(addresses) => Self(addresses),
        }
    }
}

impl From<Addresses> for Vec<Address> {
    fn from(addresses: Addresses) -> Self {
        addresses.0
    }
}

/// Who may connect to a unix socket that we make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Mode 0660: the group too, which tor or a proxy may be in.
    Group,
    /// Mode 0600.
    Owner,
}

/// An open socket that takes connections. A unix socket's file goes with it.
pub struct Listener {
    socket: Socket,
    /// The file to remove.
    file: Option<PathBuf>,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Opens a socket; a relative path begins in `folder`.
    pub async fn bind(address: &Address, folder: &Path, access: Access) -> Result<Self, String> {
        let opened = match address {
            Address::Tcp(address) => {
                let socket = TcpListener::bind(address).await;
                socket.map(|socket| Self { socket: Socket::Tcp(socket), file: None })
            }
            Address::Unix(path) => Self::bind_unix(&folder.join(path), access),
        };
        opened.map_err(|error| format!("cannot listen on {address}: {error}"))
    }

    #[expect(clippy::disallowed_methods, reason = "a socket is worth nothing after a power cut")]
    fn bind_unix(path: &Path, access: Access) -> std::io::Result<Self> {
        // One that a killed process has left behind takes no connections; any other is in use.
        if std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
            match std::os::unix::net::UnixStream::connect(path) {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path)?;
                }
                _ => return Err(Error::new(ErrorKind::AddrInUse, "a running process has it")),
            }
        }
        // Nobody else from the first moment on; the group, where it may, a moment later.
        let umask = rustix::process::umask(Mode::RWXG | Mode::RWXO);
        let socket = UnixListener::bind(path);
        rustix::process::umask(umask);
        let socket = socket?;
        let mode = match access {
            Access::Group => 0o660,
            Access::Owner => 0o600,
        };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        Ok(Self { socket: Socket::Unix(socket), file: Some(path.to_owned()) })
    }

    pub(crate) fn is_unix(&self) -> bool {
        matches!(self.socket, Socket::Unix(_))
    }

    /// A connection, for which the kernel keeps at most `send_buffer` bytes that its client has not
    /// taken.
    pub(crate) async fn accept(&self, send_buffer: usize) -> std::io::Result<Stream> {
        // Linux takes twice as much as it is told, for its own records.
        let told = send_buffer / 2;
        match &self.socket {
            Socket::Tcp(socket) => {
                let (stream, _) = socket.accept().await?;
                let _ = stream.set_nodelay(true);
                let _ = set_socket_send_buffer_size(&stream, told);
                Ok(Stream::Tcp(stream))
            }
            Socket::Unix(socket) => {
                let (stream, _) = socket.accept().await?;
                let _ = set_socket_send_buffer_size(&stream, told);
                Ok(Stream::Unix(stream))
            }
        }
    }
}

impl Drop for Listener {
    #[expect(clippy::disallowed_methods, reason = "a socket that comes back is removed at a start")]
    fn drop(&mut self) {
        if let Some(path) = &self.file {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// `http://ADDR:PORT` or `unix:PATH`.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.socket {
            Socket::Tcp(socket) => {
                let address = socket.local_addr().map_err(|_| fmt::Error)?;
                write!(f, "http://{address}")
            }
            Socket::Unix(socket) => {
                let address = socket.local_addr().map_err(|_| fmt::Error)?;
                let path = address.as_pathname().unwrap_or(Path::new("(no name)"));
                write!(f, "unix:{}", path.display())
            }
        }
    }
}

/// What is wrong with an operator's listener on such an address.
pub(crate) const OPEN_TO_OTHERS: &str = "other machines may reach the metrics and the status page \
    here; give a unix socket or an address on loopback";

/// The sockets of a service.
#[derive(Default)]
pub struct Listeners {
    /// For clients.
    pub public: Vec<Listener>,
    /// For the operator.
    pub admin: Vec<Listener>,
}

impl Listeners {
    /// Those that systemd passes on, and the addresses of the settings where it passes none on.
    /// Relative paths begin in `folder`. If several processes share it, the operator's sockets get
    /// the process id into their names once the names are taken.
    pub async fn open(
        public: &Addresses,
        admin: &Addresses,
        folder: &Path,
        shared: bool,
    ) -> Result<Self, String> {
        let mut listeners = Self::from_systemd()?;
        if listeners.public.is_empty() {
            for address in &public.0 {
                let listener = Listener::bind(address, folder, Access::Group).await?;
                listeners.public.push(listener);
            }
        }
        if listeners.admin.is_empty() {
            for address in admin.open_to_others() {
                tracing::warn!(%address, "admin.listen: {OPEN_TO_OTHERS}");
            }
            for address in &admin.0 {
                let listener = match Listener::bind(address, folder, Access::Owner).await {
                    Err(_) if shared => {
                        Listener::bind(&address.of_this_process(), folder, Access::Owner).await?
                    }
                    opened => opened?,
                };
                listeners.admin.push(listener);
            }
        }
        Ok(listeners)
    }

    /// Says on stdout where the service listens; scripts wait for the first line.
    pub fn announce(&self) -> std::io::Result<()> {
        let public = self.public.iter().map(|one| format!("listening on {one}"));
        let admin = self.admin.iter().map(|one| format!("metrics and status page on {one}"));
        print(public.chain(admin).collect::<Vec<_>>().join("\n"))
    }

    /// Those that systemd passes on: the one named `admin` (`FileDescriptorName=`) is for the
    /// operator, the others are for clients. None of both if it passes none on.
    pub fn from_systemd() -> Result<Self, String> {
        let mut passed = listenfd::ListenFd::from_env();
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut listeners = Self::default();
        for index in 0..passed.len() {
            let is_admin = names.next() == Some("admin");
            let socket = take(&mut passed, index).map_err(|error| {
                format!("socket {index} that systemd passes on cannot be used: {error}")
            })?;
            let listener = Listener { socket, file: None };
            if is_admin { &mut listeners.admin } else { &mut listeners.public }.push(listener);
        }
        Ok(listeners)
    }
}

fn take(passed: &mut listenfd::ListenFd, index: usize) -> std::io::Result<Socket> {
    if let Ok(Some(socket)) = passed.take_tcp_listener(index) {
        socket.set_nonblocking(true)?;
        return TcpListener::from_std(socket).map(Socket::Tcp);
    }
    let socket = passed.take_unix_listener(index)?;
    let socket = socket.ok_or_else(|| Error::other("it is no stream socket"))?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(socket).map(Socket::Unix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_they_are_written() {
        for text in ["127.0.0.1:0", "[::1]:7801", "unix:/run/x.sock", "unix:admin.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["", "7801", "localhost:1", "unix:", "127.0.0.1"] {
            assert!(text.parse::<Address>().unwrap_err().contains("ADDR:PORT"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let address = Address::Unix("x.sock".into());
        let bind = || Listener::bind(&address, dir.path(), Access::Owner);
        let path = dir.path().join("x.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "as after a kill");
        let first = bind().await.unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = bind().await.map(|_| ()).unwrap_err();
        assert!(error.contains("a running process has it"), "{error}");
        drop(first);
        assert!(!path.exists());
        std::fs::write(&path, "no socket").unwrap();
        assert!(bind().await.is_err(), "a file is never removed");
        assert!(path.exists());
    }
}
