//! Old messages and closed epochs go.

use std::sync::Arc;
use std::time::Duration;

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

/// One round at `now` (unix seconds). A part that fails keeps no other one from its turn.
pub async fn run_once(relay: &Relay, now: u64) -> Result<Removed, StoreError> {
    relay.store.check_clock(now).await?;
    let epochs = change_epochs(relay, now).await;
    let messages = trim(relay, now).await;
    Ok(Removed { messages: messages?, epochs: epochs? })
}

/// Makes room for the epochs to come, and drops those that are over.
async fn change_epochs(relay: &Relay, now: u64) -> Result<Vec<u64>, StoreError> {
    let Ok(live) = relay.epochs.pairing().schedule().redeemable_epochs(now) else {
        return Ok(Vec::new());
    };
    let next = live.last().map(|newest| newest + 1);
    let to_come: Vec<_> = live.iter().copied().chain(next).collect();
    let prepared = relay.store.prepare_epochs(&to_come).await;
    let closed = relay.store.close_epochs_below(live[0]).await;
    prepared.and(closed)
}

/// The files of sealed bundles are removed by [`crate::seal::remove_forever`].
async fn trim(relay: &Relay, now: u64) -> Result<u64, StoreError> {
    let retention = &relay.config.retention;
    let keep_from = match retention.max_bytes / relay.config.cell_bytes as u64 {
        0 => 0,
        most => (relay.store.range().await?.head + 1).saturating_sub(most),
    };
    let received_from = match retention.max_age.as_secs() {
        0 => 0,
        age => now.saturating_sub(age),
    };
    relay.store.trim(keep_from, received_from).await
}

/// A round at once, then one every 30 seconds, or every epoch where that is shorter.
pub async fn run_forever(relay: Arc<Relay>) {
    let epoch = Duration::from_secs(relay.epochs.pairing().schedule().epoch_seconds);
    loop {
        match run_once(&relay, (relay.clock)()).await {
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
