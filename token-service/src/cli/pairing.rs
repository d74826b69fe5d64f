//! `tocyn-issuer pairing` and `key`.

use std::io::Write;
use std::time::Duration;

use getrandom::SysRng;
use rand_core::UnwrapErr;
use serde_json::json;
use tocyn_protocol::directory::TokenKey;
use tocyn_protocol::pairing::Pairing;
use tocyn_service::database::Database;
use tocyn_service::output::{print, stdout};
use tocyn_service::time_text;

use super::CliResult;
use crate::Clock;
use crate::data_dir::DataDir;
use crate::store::Store;

pub(super) fn show(data: &DataDir, json: bool, now: u64) -> CliResult {
    let pairing = data.pairing()?;
    let epoch = pairing.schedule().epoch_at(now)?;
    if json {
        print(json!({
            "issuer_name": pairing.issuer_name(),
            "origin_name": pairing.origin_name(),
            "genesis": pairing.schedule().genesis,
            "epoch_seconds": pairing.schedule().epoch_seconds,
            "epoch": epoch,
            "epochs": pairing.schedule().count,
            "renewed_at": pairing.renewed_at(),
        }))?;
        return Ok(());
    }
    let mut out = stdout();
    writeln!(out, "issuer   {}", pairing.issuer_name())?;
    writeln!(out, "origin   {}", pairing.origin_name())?;
    writeln!(out, "genesis  {}", time_text(pairing.schedule().genesis))?;
    let length = humantime::format_duration(Duration::from_secs(pairing.schedule().epoch_seconds));
    let end = time_text(pairing.schedule().end(epoch));
    writeln!(out, "epoch    {epoch}, of {length}, until {end}")?;
    writeln!(out, "keys     until {}", time_text(pairing.schedule().last_end()))?;
    if let Some(below) = pairing.renewed_at() {
        let start = time_text(pairing.schedule().start(below));
        writeln!(out, "renewed  as planned, with new keys from epoch {below} on, from {start}")?;
    }
    writeln!(out, "secret   not shown; it is in {}", data.pairing_path().display())?;
    Ok(())
}

/// A pairing that begins now, for the same names; and when that is.
pub(super) fn renewed(old: &Pairing, clock: &Clock) -> CliResult<(Pairing, u64)> {
    // Clients tell the epochs of two pairings apart by their start.
    if clock() == old.schedule().genesis {
        std::thread::sleep(Duration::from_secs(1));
    }
    let now = clock();
    Ok((old.successor(now, &mut UnwrapErr(SysRng))?, now))
}

pub(super) async fn renew(data: &DataDir, database: &Database, clock: &Clock) -> CliResult {
    let _lock = data.lock()?;
    let old = data.pairing()?;
    let (fresh, now) = renewed(&old, clock)?;
    // The database may be tied to another one still, as after a restore. Where it cannot be asked
    // now, `serve` asks it.
    let mut bound = None;
    if let Ok(Some(store)) = Store::look_at(database).await {
        bound = store.tied_to(&old).await?;
        store.close().await;
    }
    let kept = data.replace_pairing(&fresh.replacing(bound), now)?;
    print(format_args!(
        "wrote a new {}; the old one is {}",
        data.pairing_path().display(),
        kept.display()
    ))?;
    print(
        "copy it to every other issuer's data folder, and to the relay's machine for `tocyn-relay pairing install FILE` (or to /etc/tocyn there, where a unit takes it from); then start all again. Tokens handed out so far are void",
    )?;
    Ok(())
}

/// A new secret from a later epoch on.
pub(super) fn plan_renewal(data: &DataDir, now: u64) -> CliResult {
    let _lock = data.lock()?;
    let old = data.pairing()?;
    let fresh = old.renewed(now, &mut UnwrapErr(SysRng))?;
    let kept = data.replace_pairing(&fresh, now)?;
    let below = fresh.renewed_at().expect("it was renewed just now");
    print(format_args!(
        "wrote a new {}; the old one is {}",
        data.pairing_path().display(),
        kept.display()
    ))?;
    print(format_args!(
        "copy it to every other issuer's data folder, and to the relay's machine for `tocyn-relay \
         pairing install FILE` (or to /etc/tocyn there, where a unit takes it from); then start all \
         again, before {}: then epoch {below} begins, whose keys come from the new secret. All tokens \
         stay good",
        time_text(fresh.schedule().start(below))
    ))?;
    if fresh.schedule().count == old.schedule().count {
        print(format_args!(
            "the keys end at {} as before: a pairing has no more epochs than that. Before then, run \
             `tocyn-issuer pairing renew`, which voids all tokens",
            time_text(fresh.schedule().last_end())
        ))?;
    }
    Ok(())
}

pub(super) fn list_keys(data: &DataDir, json: bool, now: u64) -> CliResult {
    let pairing = data.pairing()?;
    let keys: Vec<TokenKey> = pairing
        .schedule()
        .listed_by_issuer(now)?
        .into_iter()
        .map(|epoch| TokenKey::for_epoch(&pairing, epoch))
        .collect();
    if json {
        return Ok(print(serde_json::to_string(&keys)?)?);
    }
    for key in keys {
        let (from, to) = (time_text(key.not_before), time_text(key.not_after));
        print(format_args!("epoch {}  {}  from {from} to {to}", key.epoch, key.token_key))?;
    }
    Ok(())
}
