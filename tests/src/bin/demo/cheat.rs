//! What the relay does with a retry, with a token that is spent twice, and with a message that
//! was altered on the way.

use std::time::Instant;

use tocyn_e2e::bearer::{bound, cell, draw, http_client, post};
use tocyn_e2e::service::Service;
use tocyn_e2e::world::World;
use tocyn_protocol::problem::Problem;

use crate::report::Report;
use crate::{DemoResult, tocyn};

pub(crate) async fn run(report: &mut Report, world: &World, relay: &Service) -> DemoResult {
    let wallet = world.wallet();
    let (honest, other) = (cell("an honest message"), cell("another message"));
    let token = draw(&wallet, relay.url(), &honest).await;
    let authorization = bound(&token, &honest);

    let start = Instant::now();
    let (first, receipt) = send(relay, &authorization, &honest).await?;
    let (again, same) = send(relay, &authorization, &honest).await?;
    expect("a post and its repeat", (first, again), (201, 200))?;
    expect("their receipts", &receipt, &same)?;
    report.print(
        "a post is sent twice, as after a lost answer",
        &format!("201, then 200 with the same receipt: {receipt}"),
        start.elapsed(),
    );

    let start = Instant::now();
    let (status, body) = send(relay, &bound(&token, &other), &other).await?;
    expect("a double spend", status, 409)?;
    report.print("the same token on another message", &refusal(status, &body)?, start.elapsed());

    let token = draw(&wallet, relay.url(), &honest).await;
    let start = Instant::now();
    let (status, body) = send(relay, &bound(&token, &honest), &other).await?;
    expect("an altered message", status, 401)?;
    report.print("a message altered on the way", &refusal(status, &body)?, start.elapsed());

    let start = Instant::now();
    let (status, receipt) = send(relay, &bound(&token, &honest), &honest).await?;
    expect("the message as it was", status, 201)?;
    report.print(
        "its token was not spent: unaltered, it is stored",
        &format!("201: {receipt}"),
        start.elapsed(),
    );
    // Both tokens were drawn from the wallet and their posts are stored: this books them.
    tocyn(world, &["post", "--relay", relay.url(), "--resume"], None)?;
    Ok(())
}

/// Posts; gives status and body.
async fn send(relay: &Service, authorization: &str, cell: &[u8]) -> DemoResult<(u16, String)> {
    let answer = post(&http_client(), relay.url(), authorization, cell).await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

/// A problem document as one line.
pub(crate) fn refusal(status: u16, body: &str) -> DemoResult<String> {
    let problem: Problem = serde_json::from_str(body)?;
    Ok(format!("{status} {}: {}", problem.urn, problem.detail))
}

pub(crate) fn expect<T: PartialEq + std::fmt::Debug>(what: &str, got: T, wanted: T) -> DemoResult {
    match got == wanted {
        true => Ok(()),
        false => Err(format!("{what}: {got:?} instead of {wanted:?}").into()),
    }
}
