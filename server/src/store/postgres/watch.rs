//! Learning what other relays have appended.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnection, PgListener};
use tokio::sync::Notify;

use super::{LogRow, PostgresStore, StoreError, in_time};
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
        let mut connection = None;
        loop {
            if head.is_watched() {
                let seen = self.seen_head();
                match in_time(self.look(connection.take())).await {
                    Ok((row, good)) => match self.read_head(row, seen).await {
                        Ok(newest) => {
                            connection = Some(good);
                            head.raise(newest);
                        }
                        // Those who follow wake, and are cut off.
                        Err(StoreError::WentBack) => head.raise(u64::MAX),
                        Err(error) => tracing::debug!(%error, "cannot look for new messages"),
                    },
                    Err(error) => tracing::debug!(%error, "cannot look for new messages"),
                }
            }
            let _ = tokio::time::timeout(POLL_INTERVAL, woken.notified()).await;
        }
    }

    /// The log's row, and the connection that told it.
    async fn look(
        &self,
        connection: Option<PgConnection>,
    ) -> Result<(LogRow, PgConnection), sqlx::Error> {
        let mut connection = match connection {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let row = "SELECT head, keys_serial, went_back, pg_is_in_recovery() AS standby FROM log";
        let row = sqlx::query_as(row).fetch_one(&mut connection).await?;
        Ok((row, connection))
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
    let mut listener = PgListener::connect_with(&store.0.pool).await?;
    listener.listen("tocyn_head").await?;
    // Until the connection is lost. What came meanwhile is found by looking.
    while listener.try_recv().await?.is_some() {
        while listener.next_buffered().is_some() {}
        woken.notify_one();
    }
    Ok(())
}
