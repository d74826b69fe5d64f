//! `GET /v1/messages`: everything, or everything since a given message, to anyone.
//!
//! A page is read only when the connection takes it, so a reader holds one page of memory, of a budget
//! that all share (`readers`). One that takes nothing for `limits.write_timeout` is cut off, and can go
//! on from the last sequence it has.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, State};
use axum::http::header::{self, HeaderName};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use tocyn_protocol::media_type;
use tocyn_protocol::problem::ProblemType;
use tocyn_protocol::relay::STREAM_HEADER_BYTES;
use tocyn_service::serve::Connection;
use tokio::sync::watch;

use super::{ApiError, AppState};
use crate::Stopping;
use crate::followers::Follower;
use crate::messages::Messages;
use crate::readers::{PAGE_BYTES, Readers};
use crate::store::{LogRange, StoreError};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Query {
    after: Option<u64>,
    limit: Option<u64>,
    #[serde(default)]
    follow: bool,
}

pub(crate) async fn get(
    State(state): State<AppState>,
    query: Result<axum::extract::Query<Query>, QueryRejection>,
    connection: Option<Extension<Connection>>,
) -> Result<Response, ApiError> {
    let axum::extract::Query(query) = query.map_err(|error| {
        let detail = format!("{}; use after=SEQ, limit=N, follow=true", error.body_text());
        ApiError::new(ProblemType::MalformedRequest, detail)
    })?;
    // Subscribed before the first look, so that nothing stored in between is missed.
    let head = state.relay.head.subscribe();
    let range = state.relay.store.range().await?;
    state.relay.head.raise(range.head);
    let after = start(query.after, range)?;
    let follow = match query.follow {
        false => None,
        true => {
            Some(Follow { head, stopping: state.stopping.clone(), place: state.followers.enter() })
        }
    };
    let left = query.limit.unwrap_or(u64::MAX);
    let (messages, readers) = (state.relay.messages.clone(), state.readers.clone());
    let connection = connection.map(|Extension(connection)| connection);
    let reader = Reader { messages, readers, connection, after, left, follow };
    let pages = stream::try_unfold(reader, |mut reader| async move {
        let page = reader.next_page().await.inspect_err(StoreError::log_cut);
        let page = page.map_err(io::Error::other)?;
        Ok::<_, io::Error>(page.map(|page| (page, reader)))
    });
    let headers = [
        (header::CONTENT_TYPE, media_type::CELLS),
        (header::CACHE_CONTROL, "no-store"),
        // Else nginx keeps the newest messages until more come.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(pages)).into_response())
}

/// The sequence to start after. Without one asked for: everything that is kept.
fn start(after: Option<u64>, range: LogRange) -> Result<u64, ApiError> {
    let before_oldest = range.oldest - 1;
    match after {
        None => Ok(before_oldest),
        Some(after) if after < before_oldest => {
            let detail = format!(
                "messages before {} are no longer kept; read on with after={before_oldest}",
                range.oldest
            );
            Err(ApiError::new(ProblemType::CursorGone, detail).oldest(range.oldest))
        }
        Some(after) if after > range.head => {
            let detail = format!(
                "the newest message is {}; if you have seen a later one, this relay has lost it",
                range.head
            );
            Err(ApiError::new(ProblemType::MalformedRequest, detail))
        }
        Some(after) => Ok(after),
    }
}

struct Reader {
    messages: Arc<Messages>,
    readers: Arc<Readers>,
    connection: Option<Connection>,
    after: u64,
    left: u64,
    follow: Option<Follow>,
}

struct Follow {
    head: watch::Receiver<Option<u64>>,
    stopping: watch::Receiver<Stopping>,
    place: Follower,
}

impl Reader {
    /// The next page; waits for it if the reader follows. None at the end.
    async fn next_page(&mut self) -> Result<Option<Bytes>, StoreError> {
        while self.left > 0 {
            // Of those who follow, none that has all asks the store in vain.
            let mut has_all = false;
            if let Some(follow) = &mut self.follow {
                let newest = *follow.head.borrow_and_update();
                has_all = newest.is_some_and(|newest| newest <= self.after);
                if *follow.stopping.borrow_and_update() == Stopping::Draining {
                    return Ok(None);
                }
            }
            if !has_all && let Some(page) = self.look().await? {
                return Ok(Some(page));
            }
            let Some(follow) = &mut self.follow else { return Ok(None) };
            tokio::select! {
                changed = follow.head.changed() => if changed.is_err() { return Ok(None) },
                changed = follow.stopping.changed() => if changed.is_err() { return Ok(None) },
                _ = &mut follow.place.ended => return Ok(None),
            }
        }
        Ok(None)
    }

    /// The next page, if there is one.
    async fn look(&mut self) -> Result<Option<Bytes>, StoreError> {
        let frame_bytes = STREAM_HEADER_BYTES + self.messages.cell_bytes();
        let most = (PAGE_BYTES / frame_bytes).max(1);
        let room = self.readers.room(most * frame_bytes, self.connection.clone()).await;
        let most = self.left.min(most as u64);
        let Some(page) = self.messages.read_after(self.after, most).await? else {
            return Ok(None);
        };
        self.after = page.last;
        self.left -= page.messages;
        Ok(Some(room.fill(&page.bytes)))
    }
}

#[cfg(test)]
mod tests {
    use getrandom::SysRng;
    use rand_core::UnwrapErr;
    use sqlx::Connection;
    use tocyn_protocol::log::note::LogKey;
    use tocyn_protocol::pairing::Pairing;

    use super::*;
    use crate::store::Store;

    #[tokio::test]
    async fn a_reader_is_cut_off_when_all_that_it_lacks_was_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.sqlite");
        let pairing = Pairing::generate("issuer", "relay", 0, 100, &mut UnwrapErr(SysRng)).unwrap();
        let key = LogKey::generate("relay", &mut UnwrapErr(SysRng)).verifier();
        let store = Store::open(&path.as_path().into(), &pairing, &key, 64).await.unwrap();
        let messages = Arc::new(Messages::open(store, None, &key, 64).await.unwrap());
        let url = format!("sqlite://{}", path.display());
        let mut db = sqlx::SqliteConnection::connect(&url).await.unwrap();
        // Ten messages were stored, and none is kept.
        sqlx::query("UPDATE log SET head = 10").execute(&mut db).await.unwrap();
        for (after, overtaken) in [(5, true), (9, true), (10, false)] {
            let (messages, readers) = (messages.clone(), Readers::new(1 << 20));
            let mut reader =
                Reader { messages, readers, connection: None, after, left: 100, follow: None };
            match reader.next_page().await {
                Err(StoreError::Overtaken) => assert!(overtaken, "after {after}"),
                page => assert!(!overtaken && page.unwrap().is_none(), "after {after}"),
            }
        }
    }
}
