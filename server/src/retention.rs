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

/// One round at `now` (unix seconds).
pub async fn run_once(relay: &Relay, now: u64) -> Result<Removed, StoreError> {
    let mut removed = Removed::default();
    if let Ok(live) = relay.epochs.pairing().redeemable_epochs(now) {
        removed.epochs = relay.store.close_epochs_below(live[0]).await?;
        let next = live.last().map(|newest| newest + 1);
        relay.store.prepare_epochs(&live.into_iter().chain(next).collect::<Vec<_>>()).await?;
    }
    let retention = &relay.config.retention;
    let keep_from = match retention.max_bytes / relay.config.cell_bytes as u64 {
        0 => 0,
        most => (relay.store.range().await?.head + 1).saturating_sub(most),
    };
    let received_from = match retention.max_age.as_secs() {
        0 => 0,
        age => now.saturating_sub(age),
    };
    removed.messages = relay.store.trim(keep_from, received_from).await?;
    Ok(removed)
}

/// A round at once, then one every 30 seconds, or every epoch where that is shorter.
pub async fn run_forever(relay: Arc<Relay>) {
    let epoch = Duration::from_secs(relay.epochs.pairing().epoch_seconds());
    loop {
        match run_once(&relay, (relay.clock)()).await {
            Ok(removed) if removed == Removed::default() => {}
            Ok(removed) => tracing::info!(
                messages = removed.messages,
                epochs = ?removed.epochs,
                "removed old messages and closed epochs"
            ),
            Err(error) => tracing::warn!(%error, "cannot remove old messages"),
        }
        tokio::time::sleep(INTERVAL.min(epoch)).await;
    }
}
