//! `tocyn-issuer voucher`.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use getrandom::SysRng;
use rand_core::UnwrapErr;
use serde_json::json;
use tocyn_durable::names;
use tocyn_service::folder::create;
use tocyn_service::output::{print, stdout, tell};

use super::own::open_own;
use super::{CliResult, Settings};
use crate::attester::Attester;
use crate::data_dir::DataDir;
use crate::sheet::Sheet;
use crate::store::{Store, StoreError, VOUCHER_ID_BYTES, VoucherRow};
use crate::voucher::VoucherCode;
use tocyn_service::time_text;

/// The smallest batch that our client asks for.
const SMALLEST_BATCH: u64 = 16;

#[derive(Subcommand)]
pub(super) enum VoucherCommand {
    /// Make vouchers and print their codes, one a line. They are not shown again.
    Create(Create),
    /// List vouchers with what is left on them. Codes are not kept, so they are not shown.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List vouchers with their labels; what they were used for is not shown beside these.
    Labels {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make vouchers unusable, for good.
    Revoke {
        /// Its id, as `list` shows it, or its code; `-` reads it from standard input.
        #[arg(required_unless_present = "label")]
        voucher: Option<String>,
        /// All vouchers with this label.
        #[arg(long, value_name = "TEXT", conflicts_with = "voucher")]
        label: Option<String>,
    },
}

#[derive(clap::Args)]
pub(super) struct Create {
    /// Tokens on each voucher.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    tokens: u64,
    /// How many vouchers.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
    /// How long they can be used.
    #[arg(long, default_value = "30d", value_parser = humantime::parse_duration)]
    expires: Duration,
    /// Fill each voucher up to --tokens again in every epoch.
    #[arg(long)]
    allowance: bool,
    /// What you call them. It is kept, beside the vouchers and not beside their use; leave out
    /// what nobody should find who takes the machine.
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// Print a table for other programs: code,id,tokens,expires.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Also write a page to print, with a QR code for each.
    #[arg(long, value_name = "FILE.html")]
    sheet: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How `create` fails once codes may have been printed.
#[derive(Debug, thiserror::Error)]
enum CreateError {
    /// They could not be printed, or the database failed.
    #[error("no voucher was made, and codes that were printed are not valid: {0}")]
    NotMade(#[source] Box<dyn std::error::Error>),
    /// The database failed after that.
    #[error("the vouchers were made, and their codes are valid, but not all have the label: {0}")]
    NotLabelled(#[source] StoreError),
}

impl VoucherCommand {
    pub(super) async fn run(self, data: &DataDir, settings: Settings, now: u64) -> CliResult {
        let store = open_own(data, &settings.database).await?;
        match self {
            Self::Create(create) => create.run(data, &settings, &store, now).await?,
            Self::List { json: true } => {
                print(serde_json::to_string(&store.list_vouchers().await?)?)?;
            }
            Self::List { json: false } => list(&store.list_vouchers().await?, now)?,
            Self::Labels { json } => labels(&store, json, now).await?,
            Self::Revoke { voucher, label } => revoke(&store, voucher, label, now).await?,
        }
        store.close().await;
        Ok(())
    }
}

impl Create {
    async fn run(self, data: &DataDir, settings: &Settings, store: &Store, now: u64) -> CliResult {
        let tokens = self.tokens;
        if !tokens.is_multiple_of(SMALLEST_BATCH) {
            let rest = tokens % SMALLEST_BATCH;
            tell(format_args!(
                "note: tocyn asks for {SMALLEST_BATCH} tokens at a time; it cannot draw the last {rest} of {tokens}"
            ));
        }
        if self.expires.as_secs() == 0 {
            return Err("--expires must be at least 1s".into());
        }
        let attester = if self.allowance { Attester::Allowance } else { Attester::Voucher };
        if settings.config.attesters.budgets().each[attester as usize].is_none() {
            return Err(format!(
                "attesters.{}.enabled is false: such vouchers would not be taken",
                attester.name()
            )
            .into());
        }
        let codes: Vec<VoucherCode> =
            (0..self.count).map(|_| VoucherCode::random(&mut UnwrapErr(SysRng))).collect();
        let hashes: Vec<[u8; 32]> = codes.iter().map(VoucherCode::hash).collect();
        let expires_at = now.saturating_add(self.expires.as_secs()).min(i64::MAX as u64);
        if let Some(path) = &self.sheet {
            // Before the vouchers are made: a file that cannot be written costs none.
            let pairing = data.pairing()?;
            let sheet = Sheet { issuer: pairing.issuer_name(), attester, tokens, expires_at };
            create(path, sheet.page(&codes).as_bytes())?;
            tell(format_args!("note: whoever reads {} can use its vouchers", path.display()));
        }
        // Printed before they are made: a voucher whose code nobody has seen could never be used.
        let made: CliResult = match self.print(&codes, expires_at) {
            Ok(()) => {
                let made = store.create_vouchers(&hashes, attester, tokens, expires_at).await;
                made.map_err(Into::into)
            }
            Err(error) => Err(error.into()),
        };
        if let Err(error) = made {
            if let Some(path) = &self.sheet {
                let _ = names::remove_file(path); // its codes are not valid either
            }
            return Err(CreateError::NotMade(error).into());
        }
        if let Some(label) = &self.label {
            store.label_vouchers(&hashes, label).await.map_err(CreateError::NotLabelled)?;
        }
        Ok(())
    }

    /// Prints all codes, and flushes them.
    fn print(&self, codes: &[VoucherCode], expires_at: u64) -> std::io::Result<()> {
        let (mut out, tokens) = (stdout(), self.tokens);
        if self.csv {
            writeln!(out, "code,id,tokens,expires")?;
        }
        for voucher in codes {
            let (code, id) = (voucher.text(), hex::encode(&voucher.hash()[..VOUCHER_ID_BYTES]));
            if self.json {
                let row =
                    json!({"id": id, "code": *code, "tokens": tokens, "expires_at": expires_at});
                writeln!(out, "{row}")?;
            } else if self.csv {
                writeln!(out, "{},{id},{tokens},{}", *code, time_text(expires_at))?;
            } else {
                writeln!(out, "{}", *code)?;
            }
        }
        out.flush()
    }
}

fn list(rows: &[VoucherRow], now: u64) -> std::io::Result<()> {
    let mut out = stdout();
    writeln!(
        out,
        "{:<16}  {:<9}  {:>10}  {:>10}  {:<20}  state",
        "id", "kind", "granted", "left", "expires"
    )?;
    for row in rows {
        writeln!(
            out,
            "{:<16}  {:<9}  {:>10}  {:>10}  {:<20}  {}",
            row.id,
            row.attester.name(),
            row.granted,
            row.balance,
            time_text(row.expires_at),
            row.state(now)
        )?;
    }
    Ok(())
}

async fn labels(store: &Store, json: bool, now: u64) -> CliResult {
    let (labels, rows) = (store.labels().await?, store.list_vouchers().await?);
    let labelled = rows.iter().filter_map(|row| Some((row, labels.get(&row.id)?)));
    if json {
        let rows: Vec<_> = labelled
            .map(|(row, label)| json!({"id": row.id, "label": label, "revoked": row.revoked_at.is_some()}))
            .collect();
        return Ok(print(serde_json::to_string(&rows)?)?);
    }
    let mut out = stdout();
    writeln!(out, "{:<16}  {:<20}  {:<8}  label", "id", "expires", "state")?;
    for (row, label) in labelled {
        let (expires, state) = (time_text(row.expires_at), row.validity(now));
        writeln!(out, "{:<16}  {expires:<20}  {state:<8}  {label}", row.id)?;
    }
    Ok(())
}

async fn revoke(
    store: &Store,
    voucher: Option<String>,
    label: Option<String>,
    now: u64,
) -> CliResult {
    let unknown = "this issuer has no such voucher; `voucher list` shows their ids";
    if let Some(label) = label {
        let labels = store.labels().await?;
        let ids: Vec<&String> =
            labels.iter().filter(|(_, l)| **l == label).map(|(id, _)| id).collect();
        if ids.is_empty() {
            return Err("no voucher has this label; `voucher labels` shows them".into());
        }
        for id in &ids {
            store.revoke_voucher(&hex::decode(id)?, now).await?;
        }
        for id in ids {
            print(format_args!("revoked {id}"))?;
        }
        return Ok(());
    }
    let voucher = match voucher.as_deref() {
        None | Some("-") => std::io::read_to_string(std::io::stdin())?,
        Some(voucher) => voucher.to_owned(),
    };
    let mut id = [0; VOUCHER_ID_BYTES];
    let hash_prefix = match hex::decode_to_slice(voucher.trim(), &mut id) {
        Ok(()) => id.to_vec(),
        Err(_) => VoucherCode::parse(&voucher)?.hash().to_vec(),
    };
    if store.revoke_voucher(&hash_prefix, now).await? == 0 {
        return Err(unknown.into());
    }
    print(format_args!("revoked {}", hex::encode(&hash_prefix[..VOUCHER_ID_BYTES])))?;
    Ok(())
}
