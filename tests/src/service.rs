//! A running issuer or relay, stopped by its own process id.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::programs::program;

/// A process that serves. Dropping it kills it.
pub struct Service {
    child: Child,
    url: String,
    log: PathBuf,
    stdout: BufReader<ChildStdout>,
}

impl Service {
    /// Starts `serve` on a free loopback port and waits until it listens.
    pub fn start(program_name: &str, data: &Path) -> Self {
        Self::start_at(program_name, data, "127.0.0.1:0")
    }

    /// Starts `serve` at an address.
    pub fn start_at(program_name: &str, data: &Path, address: &str) -> Self {
        Self::run(&mut serve(program_name, data, address), data)
    }

    /// Runs a command that [`serve`] made, with its log in the data folder, and waits until it
    /// listens.
    ///
    /// # Panics
    /// If it does not come to listen; its log is in the message.
    pub fn run(command: &mut Command, data: &Path) -> Self {
        Self::try_run(command, data).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same, but says why it does not come to listen.
    pub fn try_run(command: &mut Command, data: &Path) -> Result<Self, String> {
        let log = data.join("stderr");
        let stderr = OpenOptions::new().create(true).append(true).open(&log).expect("a log file");
        let mut child =
            command.stdout(Stdio::piped()).stderr(stderr).spawn().expect("the program starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("stdout is text");
        let Some(url) = line.trim().strip_prefix("listening on ").map(str::to_owned) else {
            let status = child.wait();
            return Err(format!("{command:?} does not serve ({status:?}): {line}{}", read(&log)));
        };
        Ok(Self { child, url, log, stdout })
    }

    /// `http://ADDR:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `ADDR:PORT`.
    pub fn address(&self) -> &str {
        self.url.strip_prefix("http://").expect("it says so itself")
    }

    /// Where metrics and the status page are, as the next line of its stdout says. It can be asked
    /// once, and only of a service whose operator's listener is on TCP.
    pub fn read_operator_url(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("stdout is text");
        let url = line.trim().strip_prefix("metrics and status page on ");
        url.unwrap_or_else(|| panic!("no operator's listener: {line}")).to_owned()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it and its predecessors on the same folder have logged.
    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("it can be waited for").is_none()
    }

    /// SIGKILL: what a crash or a power cut does to the process.
    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it can be waited for");
    }

    /// SIGTERM, without waiting.
    pub fn signal_stop(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGSTOP.
    pub fn signal_pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn signal_resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it can be signalled");
    }

    /// SIGTERM, and how it ends.
    pub fn stop(mut self) -> ExitStatus {
        self.signal_stop();
        self.child.wait().expect("it can be waited for")
    }

    /// Lets it run on after this program ends. Gives its process id.
    pub fn leave_running(self) -> u32 {
        let id = self.child.id();
        std::mem::forget(self);
        id
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command that serves, with everything that it could log.
pub fn serve(program_name: &str, data: &Path, address: &str) -> Command {
    let mut command = Command::new(program(program_name));
    command.arg("--data").arg(data).args(["serve", "--listen", address]);
    command.env("RUST_LOG", "debug").stdin(Stdio::null());
    command
}

fn read(path: &Path) -> String {
    let file = File::open(path).expect("the log file is there");
    std::io::read_to_string(file).expect("the log is text")
}
