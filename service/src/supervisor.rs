//! Tells systemd that the service is ready, and that it lives. Without systemd this does nothing.

use std::future::Future;

use sd_notify::NotifyState;

/// The service takes requests.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// The service ends.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot tell systemd how the service is");
    }
}

/// While `lives` says so, tells systemd's watchdog twice in its time; ends at once if it is off.
/// A service that hangs is started again.
pub async fn watch_forever<F: Future<Output = bool>>(lives: impl Fn() -> F) {
    let Some(time) = sd_notify::watchdog_enabled() else { return };
    loop {
        if lives().await {
            tell(NotifyState::Watchdog);
        }
        tokio::time::sleep(time / 2).await;
    }
}
