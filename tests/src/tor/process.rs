//! One process of `tor`, stopped by its own process id.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The longest that anything in the network may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// Lines of its log that a failed test shows.
const LINES_SHOWN: usize = 25;

/// A running `tor`. Dropping it kills it, and shows its log if that is because a test failed.
pub struct Tor {
    child: Child,
    dir: PathBuf,
}

impl Tor {
    /// Starts it on a folder with this configuration.
    pub fn start(dir: &Path, torrc: &str) -> Self {
        private_folder(dir);
        let file = dir.join("torrc");
        let log = dir.join("log");
        // If this program is killed, so that nothing is dropped, `tor` ends by itself.
        let common = format!(
            "DataDirectory {}\nLog notice file {}\n__OwningControllerProcess {}\n",
            dir.display(),
            log.display(),
            std::process::id()
        );
        std::fs::write(&file, common + torrc).expect("the folder can be written");
        let output = File::create(dir.join("output")).expect("the folder can be written");
        let child = command()
            .arg("-f")
            .arg(&file)
            .stdin(Stdio::null())
            .stderr(output.try_clone().expect("a file"))
            .stdout(output)
            .spawn()
            .expect("tor starts: it is Debian's package tor");
        Self { child, dir: dir.to_owned() }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// The content of a file that it writes sooner or later.
    ///
    /// # Panics
    /// If it ends, or the file does not come.
    pub fn wait_for_file(&mut self, path: &Path) -> String {
        let path = self.dir.join(path);
        self.wait_for(&path.display().to_string(), || {
            std::fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'))
        })
    }

    /// Waits until it knows the network and can build circuits.
    ///
    /// # Panics
    /// If it ends, or does not get there.
    pub fn wait_for_circuits(&mut self) {
        let log = self.dir.join("log");
        self.wait_for("Bootstrapped 100%", || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            text.contains("Bootstrapped 100%").then_some(())
        });
    }

    fn wait_for<T>(&mut self, what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = poll() {
                return found;
            }
            let ended = self.child.try_wait().expect("it can be waited for");
            assert!(ended.is_none(), "tor in {} ended: {ended:?}", self.dir.display());
            assert!(start.elapsed() < PATIENCE, "{}: no {what}", self.dir.display());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The last lines of what it said.
    fn last_lines(&self) -> String {
        let said = ["output", "log"].map(|name| {
            let text = std::fs::read_to_string(self.dir.join(name)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
        });
        said.join("\n")
    }
}

impl Drop for Tor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- tor in {}\n{}", self.dir.display(), self.last_lines());
        }
    }
}

/// `tor` without the machine's own configuration.
pub fn command() -> Command {
    let mut command = Command::new("tor");
    command.args(["--defaults-torrc", "/dev/null"]);
    command
}

/// A folder that nobody else may look into: Tor takes no other.
pub fn private_folder(dir: &Path) {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.expect("the folder can be made");
}
