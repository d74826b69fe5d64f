//! `tocyn balance`.

use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use crate::cli::{CliResult, Globals, now};
use crate::output::stdout;

pub(crate) async fn run(globals: &Globals) -> CliResult {
    let wallet = globals.wallet().await?;
    let balances = wallet.balance(now()).await?;
    wallet.close().await;
    let mut out = stdout();
    if globals.json() {
        writeln!(out, "{}", serde_json::to_string(&balances)?)?;
        return Ok(());
    }
    if balances.is_empty() {
        writeln!(out, "the wallet is empty; buy tokens with `tocyn request`")?;
    }
    for b in balances {
        let (name, issuer, addresses) = (&b.origin_name, &b.issuer_name, b.addresses.join(", "));
        write!(out, "{name} at {addresses} (issued by {issuer}): {} unspent", b.unspent)?;
        let others = [
            (b.pending, "pending (run `tocyn request` again)"),
            (b.reserved, "reserved (run `tocyn post --resume`)"),
            (b.spent, "spent"),
            (b.expired, "expired"),
            (b.given_up, "given up"),
        ];
        for (number, state) in others.into_iter().filter(|(number, _)| *number > 0) {
            write!(out, ", {number} {state}")?;
        }
        match b.next_expiry.map(|at| UNIX_EPOCH + Duration::from_secs(at.min(253_402_300_799))) {
            Some(at) => writeln!(out, "; good until {}", humantime::format_rfc3339_seconds(at))?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}
