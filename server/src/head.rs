//! The newest sequence, as far as this process knows: what wakes readers that follow.

use tokio::sync::watch;

/// Told by whoever learns of new messages; only rises.
#[derive(Clone)]
pub struct Head(watch::Sender<Option<u64>>);

impl Default for Head {
    /// Nothing is known yet.
    fn default() -> Self {
        Self(watch::channel(None).0)
    }
}

impl Head {
    /// There are messages up to this sequence. Those who follow wake if that is news.
    pub fn raise(&self, newest: u64) {
        self.0.send_if_modified(|head| {
            let risen = head.is_none_or(|head| head < newest);
            if risen {
                *head = Some(newest);
            }
            risen
        });
    }

    /// Wakes when it rises. The value is None until anything is known.
    pub fn subscribe(&self) -> watch::Receiver<Option<u64>> {
        self.0.subscribe()
    }

    /// Whether anybody waits for it.
    pub fn is_watched(&self) -> bool {
        self.0.receiver_count() > 0
    }
}
