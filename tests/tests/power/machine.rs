//! A machine with one disk that may lose power, and the processes on it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tocyn_e2e::disk::{Disk, Plan, Rules, Strategy};
use tocyn_e2e::faults::Dice;
use tocyn_e2e::programs::program;

use crate::runs::Tally;

/// How long a process may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts of a service that ends because the disk refuses something; each forgets the plan.
const STARTS: u32 = 4;

/// How a command on the machine ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// By itself; with what it wrote to stdout and stderr.
    Exited(ExitStatus, String),
    /// The disk froze, and it was killed.
    Killed,
}

/// A machine. Its processes die with it.
pub(crate) struct Machine {
    /// Logs, which are not on the disk.
    outside: TempDir,
    disk: Option<Disk>,
    running: Vec<Child>,
    /// Choices of this run.
    pub(crate) dice: Dice,
    /// Cuts so far.
    pub(crate) tally: Tally,
    /// Since the last cut a process was killed, and then another one has run.
    was_killed: bool,
    has_restarted: bool,
}

impl Machine {
    /// A machine whose disk has copies of these folders.
    pub(crate) fn new(rules: Rules, folders: &[&Path], dice: Dice) -> Self {
        let outside = tempfile::tempdir().expect("a temporary folder");
        let path = outside.path().join("disk");
        std::fs::create_dir(&path).expect("it is ours");
        let disk = Disk::with(&path, rules, folders).expect("it can be mounted");
        Self {
            outside,
            disk: Some(disk),
            running: Vec::new(),
            dice,
            tally: Tally::default(),
            was_killed: false,
            has_restarted: false,
        }
    }

    /// A machine whose disk has all that is on the disk of another one, which runs nothing.
    pub(crate) fn like(other: &Self, rules: Rules, dice: Dice) -> Self {
        assert!(other.running.is_empty(), "its processes have ended");
        let mut machine = Self::new(rules, &[], dice);
        machine.disk = None; // unmounts it
        let path = machine.path("");
        let disk = Disk::of(&path, rules, &other.disk().image()).expect("it can be mounted");
        machine.disk = Some(disk);
        machine
    }

    pub(crate) fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("only a cut takes it")
    }

    /// A path on the disk.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.outside.path().join("disk").join(name)
    }

    /// A path that is not on the disk.
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        self.outside.path().join(name)
    }

    /// Starts `serve` on a folder of the disk; returns its URL. An error is its output where it
    /// ends, or None where the disk froze before it was up.
    pub(crate) fn serve(&mut self, name: &str, folder: &str) -> Result<String, Option<String>> {
        let log = self.outside.path().join(format!("{}.stderr", folder.replace('/', "-")));
        let mut options = std::fs::OpenOptions::new();
        let stderr = options.create(true).append(true).open(&log).expect("a log file");
        let before = stderr.metadata().expect("a log file").len() as usize;
        let mut command = Command::new(program(name));
        command.arg("--data").arg(self.path(folder)).args(["serve", "--listen", "127.0.0.1:0"]);
        command.env("RUST_LOG", "info").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().expect("the program starts");
        let stdout = child.stdout.take().expect("it is piped");
        self.running.push(child);
        let (line, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines();
            let _ = line.send(lines.next().and_then(Result::ok));
            lines.for_each(drop);
        });
        let since = Instant::now();
        loop {
            match lines.recv_timeout(Duration::from_millis(2)) {
                Ok(Some(line)) => {
                    self.has_restarted |= self.was_killed;
                    let url = line.strip_prefix("listening on ").expect("that comes first");
                    return Ok(url.to_owned());
                }
                Ok(None) | Err(mpsc::RecvTimeoutError::Disconnected) => {
                    if self.disk().wait_frozen(Duration::ZERO) {
                        return Err(None);
                    }
                    let said = std::fs::read(&log).expect("a log file");
                    return Err(Some(String::from_utf8_lossy(&said[before..]).into_owned()));
                }
                Err(_) if self.disk().wait_frozen(Duration::ZERO) => return Err(None),
                Err(_) => assert!(since.elapsed() < PATIENCE, "{name} neither serves nor ends"),
            }
        }
    }

    /// Starts `serve` as a supervisor does: again, where it ends because the plan refuses something.
    /// None if the disk froze meanwhile, an error if something must be done by hand.
    pub(crate) fn start(&mut self, name: &str, folder: &str) -> Result<Option<String>, String> {
        for _ in 0..STARTS {
            match self.serve(name, folder) {
                Ok(url) => return Ok(Some(url)),
                Err(None) => return Ok(None),
                Err(Some(_)) if self.disk().counts().refused > 0 => self.kill_and_thaw(),
                Err(Some(said)) => return Err(format!("it does not start: {said}")),
            }
        }
        Err("it does not start, and nothing is refused any more".to_owned())
    }

    /// Runs a command to its end, or until the disk freezes.
    pub(crate) fn run(&mut self, command: &mut Command) -> Ended {
        let said = self.outside.path().join("said");
        let file = std::fs::File::create(&said).expect("a file");
        let both = (file.try_clone().expect("a file"), file);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(both.0)
            .stderr(both.1)
            .spawn()
            .expect("the program starts");
        self.has_restarted |= self.was_killed;
        let since = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("it can be waited for") {
                let said = std::fs::read(&said).expect("a file");
                return Ended::Exited(status, String::from_utf8_lossy(&said).into_owned());
            }
            if self.disk().wait_frozen(Duration::from_millis(1)) {
                self.running.push(child);
                self.kill();
                return Ended::Killed;
            }
            assert!(since.elapsed() < PATIENCE, "{command:?} does not end");
        }
    }

    /// A command of a service on a folder of the disk, which must succeed; returns its output.
    pub(crate) fn service(
        &mut self,
        name: &str,
        folder: &str,
        args: &[&str],
    ) -> Result<String, String> {
        match self.command(name, folder, args) {
            Ended::Exited(status, said) if status.success() => Ok(said),
            ended => Err(format!("{name} {args:?}: {ended:?}")),
        }
    }

    /// A command of a service on a folder of the disk, to its end or until the disk freezes.
    pub(crate) fn command(&mut self, name: &str, folder: &str, args: &[&str]) -> Ended {
        let mut command = Command::new(program(name));
        command.arg("--data").arg(self.path(folder)).args(args);
        self.run(&mut command)
    }

    /// Whether a process has ended by itself.
    pub(crate) fn has_lost_one(&mut self) -> bool {
        self.running.iter_mut().any(|child| child.try_wait().is_ok_and(|ended| ended.is_some()))
    }

    /// SIGKILL for every process. The disk keeps what is in the page cache.
    pub(crate) fn kill(&mut self) {
        for child in &mut self.running {
            self.was_killed |= child.try_wait().is_ok_and(|ended| ended.is_none());
            let _ = child.kill();
        }
        let since = Instant::now();
        for mut child in self.running.drain(..) {
            while child.try_wait().expect("it can be waited for").is_none() {
                let disk = self.disk.as_ref().expect("only a cut takes it");
                if disk.wait_frozen(Duration::from_millis(1)) {
                    disk.release();
                }
                assert!(since.elapsed() < PATIENCE, "a process outlives SIGKILL");
            }
        }
    }

    /// SIGTERM for every process, and the wait for its end.
    pub(crate) fn stop(&mut self) {
        use rustix::process::{Pid, Signal, kill_process};
        for mut child in self.running.drain(..) {
            let _ = kill_process(Pid::from_child(&child), Signal::TERM);
            child.wait().expect("it can be waited for");
        }
    }

    /// SIGKILL, and the machine goes on with what is in its page cache.
    pub(crate) fn kill_and_thaw(&mut self) {
        self.kill();
        self.disk().thaw();
    }

    /// The power goes, and comes back.
    pub(crate) fn cut(&mut self, strategy: Strategy) {
        self.disk().freeze();
        self.tally.cuts += 1;
        self.tally.after_kill += u64::from(self.has_restarted);
        self.tally.after_failure += u64::from(self.disk().counts().failed_syncs > 0);
        self.kill();
        (self.was_killed, self.has_restarted) = (false, false);
        let disk = self.disk.take().expect("only this takes it");
        self.disk = Some(disk.cut(strategy, &mut self.dice).expect("it can be mounted again"));
    }

    /// A cut of which anything may survive.
    pub(crate) fn cut_somehow(&mut self) {
        let strategy = Strategy::draw(&mut self.dice);
        self.cut(strategy);
    }

    /// Puts a plan in place of the last one.
    pub(crate) fn plan(&self, plan: Plan) {
        self.disk().plan(plan);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.disk.is_some() {
            self.kill();
        }
    }
}
