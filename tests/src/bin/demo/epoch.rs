//! A pairing whose epochs last seconds: old tokens are refused, and what the relay remembered of
//! them is dropped.

use std::time::{Duration, Instant};

use tocyn_e2e::bearer::{bound, buy, cell, http_client, post};
use tocyn_e2e::world::World;

use crate::cheat::{expect, refusal};
use crate::report::Report;
use crate::{DemoResult, start};

const EPOCH_SECONDS: u64 = 2;
/// What the relay logs when it has dropped an epoch's spent set.
const DROPPED: &str = "removed old messages and closed epochs";

pub(crate) async fn run(report: &mut Report) -> DemoResult {
    let world = World::with_epoch(&format!("{EPOCH_SECONDS}s"));
    let (issuer, relay) = start(&world);
    let http = http_client();

    let begun = Instant::now();
    let tokens = buy(&http, issuer.url(), &world.voucher(16), 16).await;
    let (early, late) = (cell("in time"), cell("too late"));
    let answer = post(&http, relay.url(), &bound(&tokens[0], &early), &early).await?;
    expect("a post in its own epoch", answer.status().as_u16(), 201)?;
    // A token lives to the end of the epoch after its own.
    tokio::time::sleep(Duration::from_secs(2 * EPOCH_SECONDS)).await;
    let answer = post(&http, relay.url(), &bound(&tokens[1], &late), &late).await?;
    let status = answer.status().as_u16();
    let body = answer.text().await?;
    expect("a token of a closed epoch", status, 401)?;
    let what = format!("a pairing with epochs of {EPOCH_SECONDS} s: an old token");
    report.print(&what, &refusal(status, &body)?, begun.elapsed());

    let begun = Instant::now();
    while !relay.log().contains(DROPPED) {
        if begun.elapsed() > Duration::from_secs(60) {
            return Err("the relay did not drop the spent set of a closed epoch".into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let log = relay.log();
    let line = log.lines().find(|line| line.contains(DROPPED)).unwrap_or_default();
    let said = line.split_once(": ").map_or(line, |(_, said)| said);
    report.print(
        "its spent set is dropped whole",
        &format!("the relay logs: {said}"),
        begun.elapsed(),
    );
    Ok(())
}
