//! `tocyn-issuer ledger`: no more tokens may be redeemed under a key than were handed out under it.

use std::path::PathBuf;

use clap::Subcommand;
use tocyn_protocol::pairing::Pairing;

use super::own::open_own;
use super::{CliResult, Settings};
use crate::data_dir::DataDir;
use crate::observed::key_text;
use crate::store::{LedgerRow, out_of_line};
use tocyn_service::output::{print, tell};
use tocyn_service::time_text;

/// The relay's metric: spent tokens by epoch and key.
const METRIC: &str = "tocyn_relay_spent_tokens{";

/// When they were counted, in unix seconds; 0 before the first time.
const COUNTED_AT: &str = "tocyn_relay_spent_tokens_counted_timestamp_seconds ";
/// Older counts say nothing.
const MAX_AGE_SECONDS: u64 = 3600;

#[derive(Subcommand)]
pub(super) enum LedgerCommand {
    /// Show, for each key, what was handed out and what the relay has redeemed.
    Show {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Note what the relay has redeemed, from the text of its /metrics.
    Read {
        /// A file; `-` is standard input, as in
        /// `curl --unix-socket RELAY/admin.sock http://relay/metrics | tocyn-issuer ... ledger read -`.
        file: PathBuf,
    },
    /// Note what the relay has redeemed under one key, as `tocyn-relay db stats` says.
    Report {
        /// The key's epoch.
        #[arg(long)]
        epoch: u64,
        /// Tokens spent in it.
        #[arg(long)]
        redeemed: u64,
        /// An earlier report was wrong: take this one though it is lower.
        #[arg(long)]
        correct: bool,
    },
}

impl LedgerCommand {
    /// Ends in an error if there is an excess, so that a timer can tell.
    pub(super) async fn run(self, data: &DataDir, settings: Settings, now: u64) -> CliResult {
        let pairing = data.pairing()?;
        let store = open_own(data, &settings.database).await?;
        let mut json = false;
        match self {
            Self::Show { json: as_json } => json = as_json,
            Self::Read { file } => {
                let text = match file.to_str() {
                    Some("-") => std::io::read_to_string(std::io::stdin())?,
                    _ => std::fs::read_to_string(&file)
                        .map_err(|error| format!("{}: {error}", file.display()))?,
                };
                for (epoch, tokens) in spent(&text, &pairing, now)? {
                    store.report_redeemed(epoch, tokens, false, now).await?;
                }
            }
            Self::Report { epoch, redeemed, correct } => {
                let current = pairing.schedule().epoch_at(now)?;
                if epoch > current {
                    return Err(
                        format!("epoch {epoch} has not begun; it is epoch {current} now").into()
                    );
                }
                if !store.report_redeemed(epoch, redeemed, correct, now).await? {
                    return Err(format!(
                        "more than {redeemed} was reported for epoch {epoch} before, and what was \
                         redeemed never falls; if that report was wrong, add --correct"
                    )
                    .into());
                }
            }
        }
        let ledger = store.ledger().await?;
        store.close().await;
        let printed = print(match json {
            true => serde_json::to_string(&ledger)?,
            false => table(&ledger),
        });
        let current = pairing.schedule().epoch_at(now).unwrap_or(0);
        for warning in warnings(&ledger, current) {
            tell(format_args!("tocyn-issuer: {warning}"));
        }
        // An excess is said first, whatever became of the table.
        check(&ledger)?;
        Ok(printed?)
    }
}

/// What the ledger cannot show, and epochs that stand out.
fn warnings(ledger: &[LedgerRow], current: u64) -> Vec<String> {
    let mut warnings = Vec::new();
    let live = ledger.iter().filter(|row| row.epoch + 1 >= current && row.redeemed.is_some());
    let unspent: u64 = live.map(LedgerRow::unspent).sum();
    if unspent > 0 {
        warnings.push(format!(
            "{unspent} tokens that are good now were handed out and not redeemed: up to so many \
             forged ones would not show here"
        ));
    }
    for (epoch, now, before) in out_of_line(ledger, current.saturating_sub(1)) {
        warnings.push(format!(
            "of epoch {epoch}, {:.0}% of the tokens were left unspent, and {:.0}% of the epochs \
             before: forged ones may have taken their room. See docs/OPERATIONS.md, The ledger",
            100.0 * now,
            100.0 * before
        ));
    }
    warnings
}

/// An excess, what it means, and what to do.
pub(super) fn check(ledger: &[LedgerRow]) -> Result<(), String> {
    match ledger.iter().map(LedgerRow::excess).sum::<u64>() {
        0 => Ok(()),
        excess => Err(format!(
            "{excess} tokens were redeemed that this issuer never handed out: somebody else can \
             make tokens. The pairing's secret has leaked, here or at the relay, or the database \
             was restored without renewing the pairing. Find out how, then run `tocyn-issuer \
             pairing renew` and install the new pairing at the relay. If a number was only typed \
             wrongly, `ledger report --correct` puts it right"
        )),
    }
}

fn table(ledger: &[LedgerRow]) -> String {
    let head = format!("{:>6}  {:>12}  {:>12}  reported", "epoch", "issued", "redeemed");
    let rows = ledger.iter().map(|row| {
        let redeemed = row.redeemed.map_or("-".to_owned(), |tokens| tokens.to_string());
        let reported = row.reported_at.map_or("never".to_owned(), time_text);
        format!("{:>6}  {:>12}  {redeemed:>12}  {reported}", row.epoch, row.issued)
    });
    std::iter::once(head).chain(rows).collect::<Vec<_>>().join("\n")
}

/// The relay's counts by epoch, if they are of this pairing's keys.
fn spent(text: &str, pairing: &Pairing, now: u64) -> Result<Vec<(u64, u64)>, String> {
    let mut counts = Vec::new();
    let lines = text.lines().filter_map(|line| line.strip_prefix(METRIC));
    for line in lines {
        let (labels, value) = line.rsplit_once("} ").ok_or("a line of the metrics is cut short")?;
        let label = |name: &str| {
            let (_, rest) = labels.split_once(&format!("{name}=\""))?;
            rest.split('"').next()
        };
        let epoch = label("epoch").and_then(|text| text.parse().ok());
        let tokens = value.trim().parse().ok();
        let (Some(epoch), Some(tokens)) = (epoch, tokens) else {
            return Err(format!("this is no count of spent tokens: {METRIC}{line}"));
        };
        if label("key") != Some(&key_text(pairing, epoch)) {
            return Err(format!(
                "the relay's key of epoch {epoch} is not this issuer's: the pairings differ, or \
                 these metrics are of another relay"
            ));
        }
        counts.push((epoch, tokens));
    }
    let counted_at =
        text.lines().find_map(|line| line.strip_prefix(COUNTED_AT)?.trim().parse().ok());
    let Some(counted_at) = counted_at else {
        return Err("there are no metrics of a tocyn-relay in this text".to_owned());
    };
    if now.saturating_sub(counted_at) > MAX_AGE_SECONDS {
        return Err(
            "the relay has not counted its spent tokens for more than an hour: look at its \
            log, and at both clocks"
                .to_owned(),
        );
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use getrandom::SysRng;
    use rand_core::UnwrapErr;

    #[test]
    fn counts_are_read_if_the_keys_are_ours() {
        let pairing = Pairing::generate("i", "r", 0, 1000, &mut UnwrapErr(SysRng)).unwrap();
        let other = Pairing::generate("i", "r", 0, 1000, &mut UnwrapErr(SysRng)).unwrap();
        let line = |p: &Pairing, epoch| {
            format!("{METRIC}epoch=\"{epoch}\",key=\"{}\"}} 7\n", key_text(p, epoch))
        };
        let head = "tocyn_relay_spent_tokens_counted_timestamp_seconds 9000\n";
        let text = format!("{head}{}{}# EOF\n", line(&pairing, 3), line(&pairing, 4));
        assert_eq!(spent(&text, &pairing, 9100).unwrap(), [(3, 7), (4, 7)]);
        assert_eq!(spent(head, &pairing, 9100).unwrap(), []);
        assert!(spent(&line(&other, 3), &pairing, 9100).unwrap_err().contains("pairings differ"));
        assert!(spent("<html>", &pairing, 9100).unwrap_err().contains("no metrics"));
        assert!(spent(head, &pairing, 20_000).unwrap_err().contains("more than an hour"));
        assert!(spent(&format!("{METRIC}epoch=\"x\"}} 1\n"), &pairing, 9100).is_err());
    }
}
