//! Learning what other relays have appended.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::sync::Notify;

use super::{PostgresStore, in_time, unsigned};
use crate::head::Head;

/// How often to look at the head without having been woken: a notification can be lost, and
/// behind a pooler none comes.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How long to wait before listening again after it failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

impl PostgresStore {
    /// Tells `head` of every new message, for ever. A notification is only the wake-up: what is
    /// told comes from the database.
    pub(crate) async fn watch_forever(&self, head: Head) {
        let woken = Arc::new(Notify::new());
        // Ended with this future.
        let mut listening = tokio::task::JoinSet::new();
        listening.spawn(listen_forever(self.clone(), woken.clone()));
        loop {
            if head.is_watched() {
                let query = sqlx::query_scalar("SELECT head FROM log");
                match in_time(query.fetch_one(&self.0.readers)).await {
                    Ok(newest) => {
                        self.saw_head(unsigned(newest));
                        head.raise(unsigned(newest));
                    }
                    Err(error) => tracing::debug!(%error, "cannot look for new messages"),
                }
            }
            let _ = tokio::time::timeout(POLL_INTERVAL, woken.notified()).await;
        }
    }
}

async fn listen_forever(store: PostgresStore, woken: Arc<Notify>) {
    loop {
        if let Err(error) = listen(&store, &woken).await {
            tracing::debug!(%error, "no notifications from PostgreSQL; looking every 0.2 s instead");
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

async fn listen(store: &PostgresStore, woken: &Notify) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(&store.0.readers).await?;
    listener.listen("tocyn_head").await?;
    // Until the connection is lost. What came meanwhile is found by looking.
    while listener.try_recv().await?.is_some() {
        while listener.next_buffered().is_some() {}
        woken.notify_one();
    }
    Ok(())
}
