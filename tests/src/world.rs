//! The folders of an issuer, its relay and a wallet.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::programs::program;
use crate::service::Service;

/// Name of the issuer in all tests.
pub const ISSUER_NAME: &str = "issuer.example";
/// Name of the relay in all tests.
pub const RELAY_NAME: &str = "relay.example";

/// Where the relay of all tests says that it is, beside loopback.
pub const RELAY_ADDRESS: &str = "http://relay.example";
/// Where it says that its issuer is.
pub const ISSUER_ADDRESS: &str = "http://issuer.example";

/// A temporary folder with all that is needed to start an issuer and its relay.
pub struct World {
    dir: TempDir,
}

impl Default for World {
    fn default() -> Self {
        Self::with_epoch("7d")
    }
}

impl World {
    /// Runs `init` of both services with this epoch length.
    pub fn with_epoch(epoch: &str) -> Self {
        let world = Self { dir: tempfile::tempdir().expect("a temporary folder") };
        let issuer = ["--issuer-name", ISSUER_NAME, "--origin-name", RELAY_NAME, "--epoch", epoch];
        world.issuer_command(&[&["init"][..], &issuer].concat());
        let pairing = world.pairing_file();
        let pairing = pairing.to_str().expect("temporary paths are text");
        let addresses = ["--address", RELAY_ADDRESS, "--issuer-address", ISSUER_ADDRESS];
        world.relay_command(&[&["init", "--pairing", pairing], &addresses[..]].concat());
        world
    }

    /// Sets the addresses that the relay signs at its next start: its own, and the issuer's.
    pub fn set_addresses(&self, addresses: &[&str], issuer: &str) {
        let path = self.relay_data().join("config.toml");
        let text = std::fs::read_to_string(&path).expect("the settings");
        let line = |line: &str| match line.split(" = ").next() {
            Some("addresses") => format!("addresses = {addresses:?}"),
            Some("issuer_address") => format!("issuer_address = {issuer:?}"),
            _ => line.to_owned(),
        };
        let lines: Vec<String> = text.lines().map(line).collect();
        std::fs::write(&path, lines.join("\n") + "\n").expect("the settings");
    }

    /// The folder of everything.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Leaves the folder in place when this program ends.
    pub fn keep(self) -> PathBuf {
        self.dir.keep()
    }

    /// The issuer's data folder.
    pub fn issuer_data(&self) -> PathBuf {
        self.path().join("issuer")
    }

    /// The relay's data folder.
    pub fn relay_data(&self) -> PathBuf {
        self.path().join("relay")
    }

    /// The issuer's pairing file.
    pub fn pairing_file(&self) -> PathBuf {
        self.issuer_data().join("pairing.toml")
    }

    /// The wallet's folder.
    pub fn wallet(&self) -> PathBuf {
        self.path().join("wallet")
    }

    /// Starts the issuer on a free port.
    pub fn start_issuer(&self) -> Service {
        Service::start("tocyn-issuer", &self.issuer_data())
    }

    /// Starts the relay on a free port.
    pub fn start_relay(&self) -> Service {
        Service::start("tocyn-relay", &self.relay_data())
    }

    /// Stops the relay and starts it at another address.
    pub fn start_relay_after(&self, relay: Service) -> Service {
        assert_eq!(relay.stop().code(), Some(0));
        self.start_relay()
    }

    /// Runs a command of the issuer that must succeed; gives its stdout.
    pub fn issuer_command(&self, args: &[&str]) -> String {
        let mut command = Command::new(program("tocyn-issuer"));
        succeed(command.arg("--data").arg(self.issuer_data()).args(args))
    }

    /// Runs a command of the relay that must succeed; gives its stdout.
    pub fn relay_command(&self, args: &[&str]) -> String {
        let mut command = Command::new(program("tocyn-relay"));
        succeed(command.arg("--data").arg(self.relay_data()).args(args))
    }

    /// A new voucher of so many tokens.
    pub fn voucher(&self, tokens: u64) -> String {
        let text = self.issuer_command(&["voucher", "create", "--tokens", &tokens.to_string()]);
        text.trim().to_owned()
    }

    /// Tokens left on all vouchers.
    pub fn vouchers_left(&self) -> u64 {
        let text = self.issuer_command(&["voucher", "list", "--json"]);
        let rows: Vec<serde_json::Value> = serde_json::from_str(&text).expect("it is JSON");
        rows.iter().map(|row| row["balance"].as_u64().expect("a number")).sum()
    }

    /// `tocyn` on this world's wallet.
    pub fn tocyn(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program("tocyn"));
        command.arg("--wallet").arg(self.wallet()).args(args);
        command
    }

    /// `tocyn` on the wallet of one of several people.
    pub fn tocyn_of(&self, person: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program("tocyn"));
        command.arg("--wallet").arg(self.path().join(person)).args(args);
        command
    }

    /// The wallet's one line of numbers.
    pub fn balance(&self) -> serde_json::Value {
        let text = succeed(&mut self.tocyn(&["balance", "--json"]));
        let rows: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        rows[0].clone()
    }
}

/// Runs a command to its end.
pub fn output(command: &mut Command) -> Output {
    command.output().expect("the program starts")
}

/// Runs a command that must succeed; gives its stdout.
///
/// # Panics
/// If it fails; what it said is in the message.
pub fn succeed(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("stdout is text")
}
