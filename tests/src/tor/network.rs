//! Three directory authorities, five relays, a client, and a `tor` that has the onion services.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::tor::control::Control;
use crate::tor::process::{Tor, command, private_folder};

const AUTHORITIES: usize = 3;
/// With the authorities they are eight. Circuits to an onion service have four hops of which no
/// two neighbours may be the same; with fewer relays many of them fail and are built again.
const RELAYS: usize = 5;

/// Authorities vote every ten seconds, the shortest that Tor takes.
const VOTES: &str = "\
    TestingV3AuthInitialVotingInterval 10 seconds\n\
    TestingV3AuthInitialVoteDelay 2 seconds\n\
    TestingV3AuthInitialDistDelay 2 seconds\n\
    V3AuthVotingInterval 10 seconds\n\
    V3AuthVoteDelay 2 seconds\n\
    V3AuthDistDelay 2 seconds\n\
    TestingDirAuthVoteGuard *\n\
    TestingDirAuthVoteHSDir *\n";

/// What every relay says. None is an exit: onion services need none.
const RELAY: &str = "\
    SocksPort 0\nAddress 127.0.0.1\nAssumeReachable 1\nExitRelay 0\nExitPolicy reject *:*\n\
    ContactInfo nobody\nShutdownWaitLength 0\n";

/// A running network. Dropping it kills all its processes.
pub struct Network {
    /// What tells each process about the network.
    common: String,
    _relays: Vec<Tor>,
    // Last: the processes are gone before their folders are.
    dir: TempDir,
}

/// Keys and ports of an authority that does not run yet.
struct Authority {
    dir: PathBuf,
    nickname: String,
    or_port: u16,
    dir_port: u16,
    line: String,
}

impl Default for Network {
    /// Starts authorities and relays.
    fn default() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let ports = free_ports(2 * AUTHORITIES);
        let authorities: Vec<Authority> =
            ports.chunks(2).enumerate().map(|(n, p)| authority(dir.path(), n, p)).collect();
        let lines: String = authorities.iter().map(|authority| authority.line.as_str()).collect();
        let common = format!("TestingTorNetwork 1\n{lines}");
        let mut relays: Vec<Tor> = authorities
            .iter()
            .map(|Authority { dir, nickname, or_port, dir_port, .. }| {
                let own = format!(
                    "Nickname {nickname}\nAuthoritativeDirectory 1\nV3AuthoritativeDirectory 1\n\
                     ORPort 127.0.0.1:{or_port}\nDirPort 127.0.0.1:{dir_port}\n"
                );
                Tor::start(dir, &[&common, RELAY, VOTES, &own].concat())
            })
            .collect();
        relays.extend((0..RELAYS).map(|n| {
            let own = format!("Nickname relay{n}\nORPort 127.0.0.1:auto\n");
            Tor::start(
                &dir.path().join(format!("relay{n}")),
                &[common.as_str(), RELAY, &own].concat(),
            )
        }));
        Self { common, _relays: relays, dir }
    }
}

impl Network {
    /// Starts a client, and waits until it can build circuits.
    pub fn client(&self) -> Client {
        // The second port is what a Tor without isolation would be, to see that we would notice.
        let ports = "SocksPort 127.0.0.1:auto\nSocksPort 127.0.0.1:auto NoIsolateSOCKSAuth\n";
        let keys = self.dir.path().join("client").join("keys of closed services");
        private_folder(&keys);
        let keys_setting = format!("ClientOnionAuthDir {}\n", keys.display());
        let (mut tor, control) = self.controlled("client", &[ports, &keys_setting].concat());
        tor.wait_for_circuits();
        let listeners = control.get_info("net/listeners/socks");
        let listeners: Vec<String> =
            listeners.split_whitespace().map(|one| one.trim_matches('"').to_owned()).collect();
        let [isolating, sharing] = listeners.try_into().expect("two SOCKS ports");
        Client { isolating, sharing, control, keys, tor }
    }

    /// Starts a `tor` with these onion services.
    pub fn services(&self, torrc: &str) -> Services {
        let own = format!("SocksPort 0\n{torrc}");
        let (tor, control) = self.controlled("services", &own);
        Services { tor, _control: control }
    }

    fn controlled(&self, name: &str, torrc: &str) -> (Tor, Control) {
        let dir = self.dir.path().join(name);
        let file = dir.join("control");
        let port = format!(
            "ControlPort 127.0.0.1:auto\nControlPortWriteToFile {}\nCookieAuthentication 1\n",
            file.display()
        );
        let mut tor = Tor::start(&dir, &[self.common.as_str(), &port, torrc].concat());
        let address = tor.wait_for_file(&file);
        let address = address.trim().strip_prefix("PORT=").expect("its address").to_owned();
        let cookie = std::fs::read(dir.join("control_auth_cookie")).expect("the cookie");
        (tor, Control::connect(&address, &cookie))
    }
}

/// A member's Tor.
pub struct Client {
    /// `ADDR:PORT` of SOCKS as it comes: streams of other credentials take another circuit.
    pub isolating: String,
    /// `ADDR:PORT` of SOCKS where credentials mean nothing.
    pub sharing: String,
    /// Its control port.
    pub control: Control,
    /// The folder of its keys for services that are closed to others.
    pub keys: PathBuf,
    tor: Tor,
}

impl Client {
    /// What it has logged.
    pub fn log(&self) -> String {
        self.tor.log()
    }
}

/// An operator's Tor.
pub struct Services {
    tor: Tor,
    _control: Control,
}

impl Services {
    /// `http://....onion` of the service with this folder.
    pub fn url(&mut self, dir: &Path) -> String {
        format!("http://{}", self.tor.wait_for_file(&dir.join("hostname")).trim())
    }

    /// Waits until it knows the network and can build circuits.
    pub fn wait_for_circuits(&mut self) {
        self.tor.wait_for_circuits();
    }
}

/// Makes the keys of an authority, and the line by which all others know it.
fn authority(network: &Path, number: usize, ports: &[u16]) -> Authority {
    let (nickname, dir) =
        (format!("authority{number}"), network.join(format!("authority{number}")));
    let (or_port, dir_port) = (ports[0], ports[1]);
    let keys = dir.join("keys");
    private_folder(&keys);
    private_folder(&dir);
    let mut gencert = Command::new("tor-gencert");
    gencert.args(["--create-identity-key", "-m", "12", "--passphrase-fd", "0", "-a"]);
    gencert.arg(format!("127.0.0.1:{dir_port}")).current_dir(&keys).stdin(Stdio::null());
    let made = gencert.output().expect("tor-gencert starts: it is in Debian's package tor");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let certificate = keys.join("authority_certificate");
    let certificate = std::fs::read_to_string(certificate).expect("it was made");
    let v3ident = certificate.lines().find_map(|line| line.strip_prefix("fingerprint "));
    let v3ident = v3ident.expect("it is in the certificate");

    // Its other fingerprint; Tor wants to know of some authority even to make keys.
    let mut list = command();
    list.args(["-f", "/dev/null", "--ignore-missing-torrc", "--quiet", "--Nickname", &nickname]);
    list.args(["--ORPort", "127.0.0.1:1", "--DirAuthority"]);
    list.arg(format!("none 127.0.0.1:1 {}", "F".repeat(40))).arg("--DataDirectory").arg(&dir);
    list.arg("--list-fingerprint"); // last: it would take a name after it for a kind of key
    let listed = list.output().expect("tor starts");
    let listed = String::from_utf8(listed.stdout).expect("it is text");
    let fingerprint = listed.trim().strip_prefix(&nickname);
    let fingerprint = fingerprint.unwrap_or_else(|| panic!("{nickname}: {listed}"));

    let line = format!(
        "DirAuthority {nickname} orport={or_port} no-v2 v3ident={v3ident} \
         127.0.0.1:{dir_port} {}\n",
        fingerprint.replace(' ', "")
    );
    Authority { dir, nickname, or_port, dir_port, line }
}

/// Ports that were all free at once. Authorities must be told of each other before they run.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    listeners.iter().map(|l| l.local_addr().expect("it is bound").port()).collect()
}
