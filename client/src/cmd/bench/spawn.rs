//! A pair of services of its own for a benchmark, as a user would start them: with defaults, on
//! loopback, in a temporary folder.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use tempfile::TempDir;

use crate::cli::CliResult;

/// The database that relays share.
#[cfg(feature = "postgres")]
type Shared = Option<super::scratch::Scratch>;
#[cfg(not(feature = "postgres"))]
type Shared = Option<std::convert::Infallible>;

/// A running issuer and its relays. Dropping it stops them and removes their folder and database.
pub(crate) struct Pair {
    pub(crate) issuer_url: String,
    pub(crate) voucher: String,
    issuer: Service,
    relays: Vec<Service>,
    shared: Shared,
    _dir: TempDir,
}

struct Service {
    child: Child,
    url: String,
    _stdout: BufReader<ChildStdout>,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Pair {
    /// The issuer's process.
    pub(crate) fn issuer_id(&self) -> u32 {
        self.issuer.child.id()
    }

    /// The relays' processes.
    pub(crate) fn relay_ids(&self) -> Vec<u32> {
        self.relays.iter().map(|relay| relay.child.id()).collect()
    }

    pub(crate) fn relay_url(&self, relay: usize) -> &str {
        &self.relays[relay].url
    }

    pub(crate) fn relay_urls(&self) -> impl Iterator<Item = &str> {
        self.relays.iter().map(|relay| relay.url.as_str())
    }

    /// The database that the relays share.
    pub(crate) fn database_url(&self) -> Option<&str> {
        url_of(&self.shared)
    }
}

fn url_of(shared: &Shared) -> Option<&str> {
    #[cfg(feature = "postgres")]
    return shared.as_ref().map(|scratch| scratch.url());
    #[cfg(not(feature = "postgres"))]
    return shared.as_ref().map(|never| match *never {});
}

/// As many tokens as a voucher can have: more than any benchmark uses.
const TOKENS: &str = "1000000000";

/// Starts an issuer and so many relays, with a voucher, their data below `folder`.
pub(crate) fn pair(folder: &Path, relays: usize, shared: Shared) -> CliResult<Pair> {
    let dir = tempfile::Builder::new()
        .prefix("tocyn-bench-")
        .tempdir_in(folder)
        .map_err(|error| format!("{}: {error}; give --folder DIR", folder.display()))?;
    let (issuer, relay) = (dir.path().join("issuer"), dir.path().join("relay"));
    let names = ["--issuer-name", "issuer.bench", "--origin-name", "relay.bench"];
    output(program("tocyn-issuer")?.arg("--data").arg(&issuer).arg("init").args(names))?;
    let mut init = program("tocyn-relay")?;
    output(
        init.arg("--data").arg(&relay).args(["init", "--pairing"]).arg(issuer.join("pairing.toml")),
    )?;
    let mut create = program("tocyn-issuer")?;
    create.arg("--data").arg(&issuer).args(["voucher", "create", "--tokens", TOKENS]);
    let voucher = output(&mut create)?.trim().to_owned();
    let issuer = serve("tocyn-issuer", &issuer, None)?;
    let relays = (0..relays).map(|_| serve("tocyn-relay", &relay, url_of(&shared)));
    let relays = relays.collect::<CliResult<Vec<_>>>()?;
    Ok(Pair { issuer_url: issuer.url.clone(), voucher, issuer, relays, shared, _dir: dir })
}

/// The program of this name beside this one.
fn program(name: &str) -> CliResult<Command> {
    let path: PathBuf = std::env::current_exe()?.with_file_name(name);
    if !path.exists() {
        let why = "build all programs with `cargo build --release --workspace --bins`, or name running services in place of --spawn";
        return Err(format!("{} is not there; {why}", path.display()).into());
    }
    Ok(Command::new(path))
}

fn output(command: &mut Command) -> CliResult<String> {
    let output = command.output()?;
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout)?),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
    }
}

fn serve(name: &str, data: &Path, database: Option<&str>) -> CliResult<Service> {
    let mut command = program(name)?;
    command.arg("--data").arg(data).args(["serve", "--listen", "127.0.0.1:0"]);
    command.args(database.iter().flat_map(|url| ["--database", url]));
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).env("RUST_LOG", "warn").spawn()?;
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    let url = line.trim().strip_prefix("listening on ").unwrap_or_default().to_owned();
    let service = Service { child, url, _stdout: stdout };
    match service.url.is_empty() {
        false => Ok(service),
        true => Err(format!("{name} does not start").into()),
    }
}
