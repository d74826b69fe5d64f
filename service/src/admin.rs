//! What the operator sees, on a listener of its own: `/metrics`, and a status page at `/`.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use prometheus_client::registry::Registry;

use crate::metrics::{self, History, SAMPLE_INTERVAL};
use crate::page::{self, Section};

/// A service as its operator sees it.
pub trait Observed: Send + Sync + 'static {
    /// Brings up to date what is known only by asking: the database, the disk.
    fn observe(&self) -> impl Future<Output = ()> + Send;

    /// The metrics.
    fn registry(&self) -> &Registry;

    /// Counters whose growth is worth seeing, by name.
    fn totals(&self) -> Vec<(&'static str, u64)>;

    /// Refused requests by reason.
    fn refusals(&self) -> Vec<(&'static str, u64)>;

    /// The tables of the status page but for the counters.
    fn sections(&self) -> Vec<Section>;

    /// The title of the status page.
    fn title(&self) -> String;
}

/// The operator's view of a service.
pub struct Admin<O> {
    observed: O,
    history: History,
}

impl<O: Observed> Admin<O> {
    /// A view that begins now.
    pub fn new(observed: O) -> Arc<Self> {
        Arc::new(Self { observed, history: History::default() })
    }

    /// The service.
    pub fn observed(&self) -> &O {
        &self.observed
    }

    /// Notes the counters, for rates.
    pub async fn sample_forever(self: Arc<Self>) {
        loop {
            let mut totals = self.observed.totals();
            totals.extend(self.observed.refusals());
            self.history.note(totals);
            tokio::time::sleep(SAMPLE_INTERVAL).await;
        }
    }

    async fn sections(&self) -> Vec<Section> {
        self.observed.observe().await;
        let mut sections = self.observed.sections();
        sections.push(page::rates(
            "Counted since the start",
            &self.observed.totals(),
            &self.history,
        ));
        sections.push(page::rates(
            "Refused since the start",
            &self.observed.refusals(),
            &self.history,
        ));
        sections
    }

    /// The status page, with `more` at its end.
    pub async fn status(&self, more: Markup) -> Html<String> {
        Html(page::status(&self.observed.title(), &self.sections().await, more))
    }
}

/// The routes that every service has, but for the status page at `/`.
pub fn routes<O: Observed>(admin: Arc<Admin<O>>) -> Router {
    Router::new()
        .route("/metrics", get(metrics_text::<O>))
        .route("/status.json", get(status_json::<O>))
        .route("/style.css", get(|| async { ([(header::CONTENT_TYPE, "text/css")], page::STYLE) }))
        .route(
            "/live.js",
            get(|| async { ([(header::CONTENT_TYPE, "text/javascript")], page::SCRIPT) }),
        )
        // Browsers ask for it by themselves, and call an error what they are told otherwise.
        .route("/favicon.ico", get(|| async { StatusCode::NO_CONTENT }))
        .with_state(admin)
}

/// The status page at `/`, for a service that offers nothing beside it.
pub fn plain_status<O: Observed>(admin: Arc<Admin<O>>) -> Router {
    let page = async |State(admin): State<Arc<Admin<O>>>| admin.status(html! {}).await;
    Router::new().route("/", get(page)).with_state(admin)
}

/// Adds what keeps a browser from doing with these pages what others want.
pub fn guarded(router: Router) -> Router {
    router.layer(middleware::from_fn(guard))
}

async fn guard(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let policy = "default-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        // A page that needs another policy has said so.
        headers.entry(name).or_insert(header::HeaderValue::from_static(value));
    }
    response
}

async fn metrics_text<O: Observed>(State(admin): State<Arc<Admin<O>>>) -> impl IntoResponse {
    admin.observed.observe().await;
    ([(header::CONTENT_TYPE, metrics::MEDIA_TYPE)], metrics::text(admin.observed.registry()))
}

async fn status_json<O: Observed>(State(admin): State<Arc<Admin<O>>>) -> impl IntoResponse {
    axum::Json(page::live(&admin.sections().await))
}
