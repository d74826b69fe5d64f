//! What the operator sees, on a listener of its own: `/metrics`, and a status page at `/`.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use prometheus_client::registry::Registry;

use crate::listen::Listener;
use crate::metrics::{self, History, SAMPLE_INTERVAL};
use crate::page::{self, Section};
use crate::serve::Server;

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

/// Serves the operator for ever. `hosts` are names by which the listeners are reached, beside those of
/// this machine.
pub async fn serve(server: Server, listeners: Vec<Listener>, router: Router, hosts: Vec<String>) {
    let (unix, tcp) = listeners.into_iter().partition(Listener::is_unix);
    let serve = |listeners, names| {
        server.clone().serve(listeners, guarded(router.clone(), names), std::future::pending())
    };
    let tcp = serve(tcp, Names { hosts: hosts.clone(), any_plain: false });
    tokio::join!(tcp, serve(unix, Names { hosts, any_plain: true }));
}

/// The names that a listener answers to.
struct Names {
    hosts: Vec<String>,
    /// Whether any name without a dot is one of them: programs that use a unix socket make one up,
    /// and no stranger can have one that a browser finds here.
    any_plain: bool,
}

/// Adds what keeps a browser from doing with these pages what others want.
fn guarded(router: Router, names: Names) -> Router {
    let names = Arc::new(names);
    router.layer(middleware::from_fn(move |request, next| guard(names.clone(), request, next)))
}

/// A page of somebody else's may have its own name point to this machine (DNS rebinding): then the
/// browser shows it what is here, but says the page's name.
fn refusal(names: &Names, request: &Request) -> Option<(StatusCode, String)> {
    let mut said = request.headers().get_all(header::HOST).iter();
    let authority = match (request.uri().authority(), said.next(), said.next()) {
        (_, _, Some(_)) => None,
        (Some(authority), _, _) => Some(authority.as_str()),
        (None, host, None) => host.and_then(|host| host.to_str().ok()),
    };
    let Some(host) = authority.and_then(host_of).filter(|host| names.has(host)) else {
        let text = format!(
            "this listener answers to the names of this machine only, not to {:?}: use 127.0.0.1 or \
             localhost, or add the name to admin.hosts in the settings\n",
            authority.unwrap_or_default()
        );
        return Some((StatusCode::MISDIRECTED_REQUEST, text));
    };
    let mut origins = request.headers().get_all(header::ORIGIN).iter();
    let is_same = |origin: &header::HeaderValue| {
        let origin = origin.to_str().unwrap_or_default();
        let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        rest.and_then(host_of).is_some_and(|of| of == host) && rest == authority
    };
    match origins.all(is_same) {
        true => None,
        false => {
            Some((StatusCode::FORBIDDEN, "another site's page may not ask for this\n".to_owned()))
        }
    }
}

/// The host in `HOST` or `HOST:PORT`, in lower case; None if it is none.
fn host_of(authority: &str) -> Option<String> {
    let authority: axum::http::uri::Authority = authority.parse().ok()?;
    // A user in it is no part of any that a browser sends.
    let is_plain = !authority.as_str().contains('@');
    is_plain.then(|| authority.host().to_ascii_lowercase())
}

/// An IPv6 address without its brackets.
fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

/// Refuses what can be the name of no host: one with a port, for example.
pub fn check_hosts(hosts: &[String]) -> Result<(), String> {
    let is_host = |host: &str| {
        host.parse::<IpAddr>().is_ok()
            || host_of(host).is_some_and(|of| of.eq_ignore_ascii_case(host))
    };
    match hosts.iter().find(|host| !is_host(unbracketed(host))) {
        None => Ok(()),
        Some(host) => Err(format!("admin.hosts: {host:?} is no host name; give it without a port")),
    }
}

impl Names {
    fn has(&self, host: &str) -> bool {
        let is_loopback =
            unbracketed(host).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        is_loopback
            || host == "localhost"
            || self.any_plain
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
            || self
                .hosts
                .iter()
                .any(|ours| unbracketed(ours).eq_ignore_ascii_case(unbracketed(host)))
    }
}

async fn guard(names: Arc<Names>, request: Request, next: Next) -> Response {
    let mut response = match refusal(&names, &request) {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    let policy = "default-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // With `no-referrer` browsers say `Origin: null` in forms of our own.
        (header::REFERRER_POLICY, "same-origin"),
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use tower_service::Service;

    async fn status(headers: &[(&'static str, &str)], uri: &str) -> u16 {
        status_at(false, headers, uri).await
    }

    async fn status_at(unix: bool, headers: &[(&'static str, &str)], uri: &str) -> u16 {
        let router = Router::new().route("/metrics", get(|| async { "all of it" }));
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let hosts = vec!["Metrics.example".to_owned()];
        let mut guarded = guarded(router, Names { hosts, any_plain: unix });
        let answer = guarded.call(request.body(Body::empty()).unwrap()).await.unwrap();
        answer.status().as_u16()
    }

    #[tokio::test]
    async fn only_names_of_this_machine_and_of_the_settings_are_answered() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:7812",
            "127.9.9.9:1",
            "[::1]:7812",
            "LocalHost",
            "localhost:7812",
            "metrics.example:80",
        ] {
            assert_eq!(status(&[("host", host)], "/metrics").await, 200, "{host}");
        }
        for host in [
            "rebind.attacker.example",
            "rebind.attacker.example:7812",
            "localhost.attacker.example",
            "127.0.0.1.attacker.example",
            "user@localhost",
            "192.0.2.1",
            "[2001:db8::1]",
            "",
            "localhost:7812, attacker.example",
        ] {
            assert_eq!(status(&[("host", host)], "/metrics").await, 421, "{host}");
        }
        assert_eq!(status(&[], "/metrics").await, 421, "no name at all");
        let both = [("host", "localhost"), ("host", "attacker.example")];
        assert_eq!(status(&both, "/metrics").await, 421);
        let absolute = "http://attacker.example/metrics";
        assert_eq!(status(&[("host", "localhost")], absolute).await, 421);
    }

    #[test]
    fn hosts_of_the_settings_are_hosts() {
        let check = |host: &str| check_hosts(&[host.to_owned()]);
        for good in ["metrics.example", "192.0.2.1", "2001:db8::1", "[2001:db8::1]", "Prom"] {
            check(good).unwrap();
            assert!(
                Names { hosts: vec![good.to_owned()], any_plain: false }
                    .has(&good.trim_matches(['[', ']']).to_ascii_lowercase())
            );
        }
        for bad in ["", "metrics.example:7811", "http://metrics.example", "a b", "[::1]:1", "a@b"] {
            check(bad).unwrap_err();
        }
    }

    #[tokio::test]
    async fn over_a_unix_socket_any_name_will_do_that_is_no_strangers() {
        for (host, status) in
            [("issuer", 200), ("my_host", 200), ("metrics.example", 200), ("rebind.example", 421)]
        {
            assert_eq!(status_at(true, &[("host", host)], "/metrics").await, status, "{host}");
        }
        assert_eq!(status(&[("host", "issuer")], "/metrics").await, 421);
    }

    #[tokio::test]
    async fn pages_of_other_sites_are_refused() {
        let from = async |origin| {
            status(&[("host", "localhost:7812"), ("origin", origin)], "/metrics").await
        };
        assert_eq!(from("http://localhost:7812").await, 200);
        for origin in ["null", "http://attacker.example", "http://localhost:8080", "localhost:7812"]
        {
            assert_eq!(from(origin).await, 403, "{origin}");
        }
    }
}
