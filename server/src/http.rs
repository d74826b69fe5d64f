//! Routes of the relay, and the one place where domain errors become problem documents.

mod health;
mod info;
mod log;
pub mod openapi;
mod post;
mod read;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use tocyn_protocol::media_type;
use tocyn_protocol::problem::{Problem, ProblemType};
use tocyn_protocol::schedule::ScheduleError;
use tocyn_service::cors::open_to_all_origins;
use tocyn_service::metrics::Refused;
use tokio::sync::watch;

use crate::Stopping;
use crate::config::Config;
use crate::followers::Followers;
use crate::readers::Readers;
use crate::relay::{PostError, Relay};
use crate::store::StoreError;

/// Seconds after which a client may try again when the service is busy or its database down.
const RETRY_AFTER_SECONDS: u64 = 2;

/// What the handlers share.
#[derive(Clone)]
pub struct AppState {
    relay: Arc<Relay>,
    followers: Arc<Followers>,
    readers: Arc<Readers>,
    stopping: watch::Receiver<Stopping>,
}

impl AppState {
    /// The state of a service that starts.
    pub fn new(config: &Config, relay: Arc<Relay>, stopping: watch::Receiver<Stopping>) -> Self {
        let followers = Followers::new(config.limits.max_followers);
        let readers = Readers::new(config.limits.reader_bytes);
        Self { relay, followers, readers, stopping }
    }

    /// Places for readers that follow.
    pub(crate) fn followers(&self) -> Arc<Followers> {
        self.followers.clone()
    }

    /// Whether this process can do its work, if its database can.
    pub(crate) async fn lives(&self) -> bool {
        self.relay.is_alive()
    }
}

/// The routes, but for `POST /v1/messages`. A test compares their paths with `openapi.json`.
fn routes() -> [(&'static str, MethodRouter<AppState>); 7] {
    [
        ("/v1/messages", get(read::get)),
        ("/v1/info", get(info::get)),
        ("/checkpoint", get(log::checkpoint)),
        ("/tile/{*path}", get(log::tile)),
        ("/healthz", get(health::healthz)),
        ("/readyz", get(health::readyz)),
        ("/openapi.json", get(openapi::public)),
    ]
}

/// What serves clients.
pub fn router(state: AppState) -> Router {
    routes()
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods))
        .fallback(|| async { ApiError::new(ProblemType::NotFound, "no such path") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(ProblemType::MethodNotAllowed, "this path takes another method")
        })
        .layer(open_to_all_origins())
        // Past the layer above: it answers for itself.
        .route("/v1/messages", post(post::post))
        .with_state(state)
}

/// A refusal on its way to the client.
pub(crate) struct ApiError {
    problem: Box<Problem>,
    www_authenticate: Option<HeaderValue>,
    retry_after_seconds: Option<u64>,
}

impl ApiError {
    pub(crate) fn new(problem_type: ProblemType, detail: impl Into<String>) -> Self {
        let problem = Box::new(Problem::new(problem_type, detail));
        let is_busy = problem.status == StatusCode::SERVICE_UNAVAILABLE.as_u16();
        let retry_after_seconds = is_busy.then_some(RETRY_AFTER_SECONDS);
        Self { problem, www_authenticate: None, retry_after_seconds }
    }

    fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    fn limit(mut self, limit: usize) -> Self {
        self.problem.limit = Some(limit as u64);
        self
    }

    fn oldest(mut self, oldest: u64) -> Self {
        self.problem.oldest = Some(oldest);
        self
    }

    /// Tells a client that was refused for its token which token to bring.
    fn with_challenge(mut self, relay: &Relay) -> Self {
        if self.problem.status == 401
            && let Ok(published) = relay.epochs.published((relay.clock)())
        {
            self.www_authenticate = HeaderValue::from_str(&published.www_authenticate).ok();
        }
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.problem.status).expect("the table has real statuses");
        let body = serde_json::to_vec(&self.problem).expect("a problem is plain data");
        let mut response = (status, body).into_response();
        if let Some(problem_type) = self.problem.problem_type() {
            response.extensions_mut().insert(Refused(problem_type.name()));
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type::PROBLEM));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(value) = self.www_authenticate {
            headers.insert(header::WWW_AUTHENTICATE, value);
        }
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<&StoreError> for ApiError {
    fn from(error: &StoreError) -> Self {
        let problem_type = match error {
            StoreError::Full => ProblemType::StorageFull,
            StoreError::Busy => ProblemType::Busy,
            _ => ProblemType::DatabaseDown,
        };
        Self::new(problem_type, error.to_string())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        error.log();
        Self::from(&error)
    }
}

impl From<ScheduleError> for ApiError {
    fn from(error: ScheduleError) -> Self {
        tracing::error!(%error, "no epoch");
        // Nothing has failed: it goes on once its operator has done what the log says.
        let detail = match error {
            ScheduleError::Ended { .. } => {
                "the relay's keys have ended; its operator must renew the pairing"
            }
            _ => "the relay's clock is wrong; try again once it is set",
        };
        Self::new(ProblemType::Busy, detail)
    }
}

impl From<PostError> for ApiError {
    fn from(error: PostError) -> Self {
        let problem_type = match error {
            PostError::Authorization(ref error) => error.problem_type(),
            PostError::BearerOff => ProblemType::NoToken,
            PostError::Redeem(error) => error.problem_type(),
            PostError::Spent => ProblemType::TokenSpent,
            PostError::TooManyRepeats(wait) => {
                let problem = Self::new(ProblemType::TooManyReplays, error.to_string());
                return problem.retry_after(wait.as_secs() + 1);
            }
            PostError::Busy => ProblemType::Busy,
            PostError::Internal => ProblemType::Internal,
            PostError::Schedule(error) => return error.into(),
            PostError::Store(error) => return Self::from(&*error),
        };
        Self::new(problem_type, error.to_string())
    }
}
