//! `tocyn info`.

use std::io::Write;
use std::time::Duration;

use tocyn_client::printable::Printable;
use tocyn_client::transport::ServiceUrl;
use tocyn_protocol::relay::ProvenKey;
use tocyn_protocol::statement::chain::Chain;

use crate::cli::{CliResult, Globals};
use crate::output::stdout;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The relay.
    #[arg(value_name = "URL")]
    relay: ServiceUrl,
}

pub(crate) async fn run(globals: &Globals, args: Args) -> CliResult {
    let info = globals.relay(&args.relay)?.info().await?;
    let mut out = stdout();
    if globals.json() {
        writeln!(out, "{}", serde_json::to_string(&info)?)?;
        return Ok(());
    }
    let age = match info.retention.max_age_seconds {
        0 => "for ever".to_owned(),
        seconds if seconds % 86_400 == 0 => format!("{} days", seconds / 86_400),
        seconds => humantime::format_duration(Duration::from_secs(seconds)).to_string(),
    };
    let bytes = match info.retention.max_bytes {
        0 => String::new(),
        bytes => format!(", up to {bytes} bytes"),
    };
    writeln!(out, "relay      {}", Printable(&info.origin_name))?;
    writeln!(out, "issuer     {}", Printable(&info.issuer_name))?;
    writeln!(out, "cell       {} bytes", info.cell_bytes)?;
    match info.head {
        0 => writeln!(out, "messages   none yet")?,
        head => writeln!(out, "messages   {} to {head}", info.oldest)?,
    }
    writeln!(out, "kept       {age}{bytes}")?;
    writeln!(out, "epoch      {}", info.epoch)?;
    for ProvenKey { key, .. } in &info.token_keys {
        writeln!(out, "key        epoch {}: {}", key.epoch, Printable(&key.token_key))?;
    }
    writeln!(out, "origin key {}", info.log_key)?;
    let newest = Chain::open(&info.statements, &info.log_key)?.newest().clone();
    writeln!(out, "statement  number {}, hash {}", newest.serial, newest.commitment().hash)?;
    for address in &newest.addresses {
        writeln!(out, "address    {address}")?;
    }
    if let Some(issuer) = &newest.issuer_address {
        writeln!(out, "issued at  {issuer}")?;
    }
    writeln!(out, "bearer     {}", if info.bearer { "taken" } else { "not taken" })?;
    writeln!(out, "version    {}", Printable(&info.versions.relay))?;
    Ok(())
}
