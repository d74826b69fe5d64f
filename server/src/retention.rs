//! Old messages and closed epochs go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tocyn_service::settled::TOLERANCE_SECONDS;

use crate::relay::Relay;
use crate::store::StoreError;

const INTERVAL: Duration = Duration::from_secs(30);

/// What one round removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Messages.
    pub messages: u64,
    /// Epochs whose spent sets were dropped.
    pub epochs: Vec<u64>,
}

/// One round at `now` (unix seconds), read at `at`. A part that fails keeps no other one from its
/// turn.
pub async fn run_once(relay: &Relay, now: u64, at: Instant) -> Result<Removed, StoreError> {
    relay.store.check_clock(now).await?;
    let prepared = prepare_epochs(relay, now).await;
    let settled = settle(relay, now, at).await?;
    let epochs = close_epochs(relay, settled).await;
    let messages = trim(relay, settled).await;
    prepared?;
    Ok(Removed { messages: messages?, epochs: epochs? })
}

/// The time by which things may be deleted for ever, in unix seconds.
async fn settle(relay: &Relay, now: u64, at: Instant) -> Result<u64, StoreError> {
    let noted = relay.store.settled_at().await?;
    // A machine that starts in 1970 will be set right soon, which is no jump.
    if relay.epochs.pairing().schedule().epoch_at(now).is_err() {
        return Ok(noted.map_or(now, |noted| noted.min(now)));
    }
    let settled = relay.settled.settle(now, at, noted);
    if let Some(to_note) = settled.to_note
        && let Err(error) = relay.store.note_settled(to_note).await
    {
        // The next start waits for longer; a full disk gets its room all the same.
        let source = error.reason();
        tracing::warn!(%error, source, "cannot note how far the clock is believed");
    }
    Ok(settled.time)
}

/// Makes room for the epochs to come.
async fn prepare_epochs(relay: &Relay, now: u64) -> Result<(), StoreError> {
    let Ok(live) = relay.epochs.pairing().schedule().redeemable_epochs(now) else {
        return Ok(());
    };
    let next = live.last().map(|newest| newest + 1);
    let to_come: Vec<_> = live.iter().copied().chain(next).collect();
    relay.store.prepare_epochs(&to_come).await
}

/// Drops the epochs that are over.
async fn close_epochs(relay: &Relay, settled: u64) -> Result<Vec<u64>, StoreError> {
    match relay.epochs.pairing().schedule().redeemable_epochs(settled) {
        Ok(live) => relay.store.close_epochs_below(live[0]).await,
        Err(_) => Ok(Vec::new()),
    }
}

/// The files of sealed bundles are removed by [`crate::seal::remove_forever`].
async fn trim(relay: &Relay, settled: u64) -> Result<u64, StoreError> {
    let retention = &relay.config.retention;
    let keep_from = match retention.max_bytes / relay.config.cell_bytes as u64 {
        0 => 0,
        most => (relay.store.range().await?.head + 1).saturating_sub(most),
    };
    let young = match retention.max_age.as_secs() {
        0 => 0..=u64::MAX,
        age => settled.saturating_sub(age)..=settled.saturating_add(TOLERANCE_SECONDS),
    };
    relay.store.trim(keep_from, young).await
}

/// A round at once, then one every 30 seconds, or every epoch where that is shorter.
pub async fn run_forever(relay: Arc<Relay>) {
    let epoch = Duration::from_secs(relay.epochs.pairing().schedule().epoch_seconds);
    loop {
        match run_once(&relay, (relay.clock)(), Instant::now()).await {
            Ok(removed) if removed == Removed::default() => {}
            Ok(removed) => tracing::info!(
                messages = removed.messages,
                epochs = ?removed.epochs,
                "removed old messages and closed epochs"
            ),
            Err(error) => {
                let source = error.reason();
                tracing::warn!(%error, source, "cannot remove old messages and closed epochs");
            }
        }
        tokio::time::sleep(INTERVAL.min(epoch)).await;
    }
}
