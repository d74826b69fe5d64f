//! Routes of the issuer, and the one place where domain errors become problem documents.

mod directory;
mod health;
pub mod openapi;
pub mod operator;
#[cfg(feature = "pow")]
mod pow;
#[cfg(not(feature = "pow"))]
#[path = "http/pow_absent.rs"]
mod pow;
mod token_request;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use tocyn_protocol::directory::DIRECTORY_PATH;
use tocyn_protocol::error::DecodeError;
use tocyn_protocol::media_type;
use tocyn_protocol::problem::{Problem, ProblemType};
use tocyn_protocol::schedule::ScheduleError;
use tocyn_service::cors::open_to_all_origins;
use tocyn_service::metrics::Refused;
use tocyn_service::settled::SettledClock;
use tocyn_service::tally::Tally;
use tocyn_service::writing::PATIENCE;
use tokio::sync::watch;

use crate::Clock;
use crate::attester::effort::Effort;
use crate::attester::{Attester, Attesters};
use crate::config::{Config, Limits};
use crate::keyring::Keyring;
use crate::metrics::Metrics;
use crate::pipeline::{IssueError, Pipeline};
use crate::secrets::Secrets;
use crate::store::{Refusal, Store, StoreError};

/// Where token requests are sent.
pub const TOKEN_REQUEST_PATH: &str = "/token-request";
/// Seconds after which a client may try again when the service is busy or its database down.
const RETRY_AFTER_SECONDS: u64 = 2;
const DEMAND_INTERVAL: Duration = Duration::from_secs(2);

/// What the handlers share.
#[derive(Clone)]
pub struct AppState {
    limits: Limits,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) store: Store,
    clock: Clock,
    pub(crate) pipeline: Arc<Pipeline>,
    metrics: Metrics,
    pub(crate) attesters: Attesters,
    pub(crate) secrets: Secrets,
    /// The clock that deletions go by.
    pub(crate) settled: Arc<SettledClock>,
    /// Vouchers whose requests were refused: an empty one buys no decoding without end.
    pub(crate) refused: Arc<Tally>,
    demand: Arc<Mutex<Demand>>,
    /// True once the service has been told to stop.
    leaving: watch::Receiver<bool>,
}

impl AppState {
    /// The state of a service that starts. Starts the threads of its pipeline.
    pub fn new(
        config: &Config,
        keyring: Keyring,
        store: Store,
        clock: Clock,
        leaving: watch::Receiver<bool>,
    ) -> Self {
        let (limits, keyring) = (config.limits.clone(), Arc::new(keyring));
        let (metrics, attesters) = (Metrics::default(), config.attesters.clone());
        let effort = Effort::new(&attesters.pow, keyring.pairing().schedule().epoch_seconds);
        let pipeline = Pipeline::start(
            &limits,
            attesters.budgets(),
            keyring.clone(),
            store.clone(),
            clock.clone(),
            metrics.clone(),
        );
        Self {
            limits,
            secrets: Secrets::new(store.clone()),
            settled: Arc::new(SettledClock::new(config.clock_patience)),
            refused: Arc::new(Tally::new(config.limits.max_refusals_per_voucher)),
            keyring,
            store,
            clock,
            pipeline: Arc::new(pipeline),
            metrics,
            attesters,
            demand: Arc::new(Mutex::new(Demand { effort, counted: None })),
            leaving,
        }
    }

    /// What a proof of work must show now.
    pub(crate) fn current_effort(&self) -> u32 {
        let mut demand = self.demand.lock().expect("no panic under the lock");
        // Before the first count, what was handed out long ago would look like a burst.
        if let Some(counted) = &demand.counted {
            // What this process has charged since, so that a burst is dearer at once.
            let since = self.store.handed_out(Attester::Pow).saturating_sub(counted.own);
            let handed_out = counted.tokens + since;
            demand.effort.observe(self.now(), handed_out);
        }
        demand.effort.current()
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Returns once the writer has ended.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + use<> {
        self.pipeline.ended()
    }

    /// Why no request can be charged now, as the last one could not; None if they can be. Where
    /// none came for some time, tries a write of its own.
    pub(crate) async fn charges_nothing(&self) -> Option<Arc<StoreError>> {
        let write = async |failed: Option<Arc<StoreError>>| {
            let was_full = matches!(failed.as_deref(), Some(StoreError::Full));
            let tried = tokio::time::timeout(PATIENCE, self.store.try_write(was_full)).await;
            tried.unwrap_or(Err(StoreError::Busy))
        };
        self.pipeline.writing().check(write).await
    }

    /// Whether this process can do its work, if its database can.
    pub(crate) async fn lives(&self) -> bool {
        self.pipeline.is_alive()
    }

    pub(crate) fn now(&self) -> u64 {
        (self.clock)()
    }
}

/// The routes. A test holds them against `openapi.json`.
fn routes() -> [(&'static str, MethodRouter<AppState>); 6] {
    [
        (DIRECTORY_PATH, get(directory::get)),
        (TOKEN_REQUEST_PATH, post(token_request::post)),
        ("/v1/pow", get(pow::get)),
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
        .with_state(state)
}

/// Tokens that are handed out for work, and their price. Only what was charged counts: not what is
/// asked for in vain, nor what is asked for again.
struct Demand {
    effort: Effort,
    /// When they were counted last; None before the first time.
    counted: Option<Counted>,
}

struct Counted {
    /// By all issuers, in all epochs.
    tokens: u64,
    /// By this process since its start, as of then.
    own: u64,
}

/// Lets the price of tokens follow the demand for them, at all issuers of the pairing together.
pub async fn watch_demand_forever(state: AppState) {
    if !state.attesters.pow.enabled {
        return;
    }
    loop {
        let own = state.store.handed_out(Attester::Pow);
        match state.store.issued(0).await {
            Ok(issued) => {
                let of_pow = issued.iter().filter(|issued| issued.attester == Attester::Pow);
                let tokens = of_pow.map(|issued| issued.tokens).sum();
                let mut demand = state.demand.lock().expect("no panic under the lock");
                demand.counted = Some(Counted { tokens, own });
            }
            Err(error) => tracing::warn!(%error, "cannot count what was handed out for work"),
        }
        state.current_effort();
        tokio::time::sleep(DEMAND_INTERVAL).await;
    }
}

/// A refusal on its way to the client.
pub(crate) struct ApiError {
    problem: Box<Problem>,
    retry_after_seconds: Option<u64>,
}

impl ApiError {
    pub(crate) fn new(problem_type: ProblemType, detail: impl Into<String>) -> Self {
        let retry = matches!(problem_type, ProblemType::Busy | ProblemType::DatabaseDown);
        Self {
            problem: Box::new(Problem::new(problem_type, detail)),
            retry_after_seconds: retry.then_some(RETRY_AFTER_SECONDS),
        }
    }

    fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// Whether the client must do something else than wait.
    fn is_clients_fault(&self) -> bool {
        (400..500).contains(&self.problem.status)
    }

    fn limit(mut self, limit: usize) -> Self {
        self.problem.limit = Some(limit as u64);
        self
    }

    fn balance(mut self, balance: u64) -> Self {
        self.problem.balance = Some(balance);
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
        let media_type = HeaderValue::from_static(media_type::PROBLEM);
        headers.insert(header::CONTENT_TYPE, media_type);
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        error.log();
        Self::from(&error)
    }
}

impl From<&StoreError> for ApiError {
    fn from(error: &StoreError) -> Self {
        let (problem_type, detail) = match error {
            StoreError::Full => (ProblemType::StorageFull, "the issuer's disk is full"),
            StoreError::Busy => (ProblemType::Busy, "the issuer's database is busy"),
            StoreError::PairingReplaced => (
                ProblemType::DatabaseDown,
                "this issuer has an old pairing and waits for its operator",
            ),
            _ => (ProblemType::DatabaseDown, "the issuer's database failed"),
        };
        Self::new(
            problem_type,
            format!("{detail}; send the same request again: it is charged at most once"),
        )
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let problem = |problem_type| Self::new(problem_type, refusal.to_string());
        match refusal {
            Refusal::TooManyReplays(wait) => problem(ProblemType::TooManyReplays).retry_after(wait),
            Refusal::UnknownKey => problem(ProblemType::UnknownTokenKey),
            Refusal::Unknown => problem(ProblemType::VoucherUnknown),
            Refusal::Revoked => problem(ProblemType::VoucherRevoked),
            Refusal::Expired => problem(ProblemType::VoucherExpired),
            Refusal::Exhausted(left) => problem(ProblemType::VoucherExhausted).balance(left),
            Refusal::Off(_) => problem(ProblemType::AttesterOff),
            Refusal::BudgetSpent(left) => problem(ProblemType::BudgetSpent).balance(left),
        }
    }
}

impl From<DecodeError> for ApiError {
    fn from(error: DecodeError) -> Self {
        Self::new(ProblemType::MalformedTokenRequest, error.to_string())
    }
}

impl From<IssueError> for ApiError {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::Malformed(error) => error.into(),
            IssueError::Refused(refusal) => refusal.into(),
            IssueError::BudgetSpent(left, wait) => {
                Self::from(Refusal::BudgetSpent(left)).retry_after(wait)
            }
            IssueError::Schedule(error) => error.into(),
            // The writer has told the operator, once for all of the batch.
            IssueError::Store(error) => Self::from(&*error),
            IssueError::Unsolved => Self::new(ProblemType::PowUnsolved, error.to_string()),
            IssueError::Busy => Self::new(ProblemType::Busy, error.to_string()),
            IssueError::Internal => Self::new(ProblemType::Internal, error.to_string()),
        }
    }
}

impl From<ScheduleError> for ApiError {
    fn from(error: ScheduleError) -> Self {
        tracing::error!(%error, "no epoch");
        // Nothing has failed: it goes on once its operator has done what the log says.
        let detail = match error {
            ScheduleError::Ended { .. } => {
                "the issuer's keys have ended; its operator must renew the pairing"
            }
            _ => "the issuer's clock is wrong; try again once it is set",
        };
        Self::new(ProblemType::Busy, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_issuer_says_when_to_come_again() {
        let response = ApiError::from(IssueError::Busy).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], RETRY_AFTER_SECONDS.to_string());
    }
}
