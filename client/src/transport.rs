//! Connections. A client, with its TLS session and its connections, is made where a secret is used:
//! one for each message, voucher, look at an origin's keys, and read. Through a SOCKS proxy each has
//! credentials of its own, which Tor takes as the wish for a circuit of its own.

use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use reqwest::header::{self, HeaderMap};
use reqwest::{Client, Proxy, Response, Url, redirect};
use tocyn_protocol::media_type;
use tocyn_protocol::problem::{Problem, ProblemType};
use tocyn_protocol::statement::address::Address;

use crate::printable::Printable;

/// The most bytes of a JSON document that are read.
pub(crate) const MAX_DOCUMENT_BYTES: usize = 512 * 1024;
/// Time to connect; circuits through Tor take long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);
/// The other side must send something within this time.
pub(crate) const SILENCE: Duration = Duration::from_secs(60);

/// Why there is no usable answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The URL cannot be used.
    #[error("{url}: {why}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The proxy cannot be used.
    #[error(
        "{0:?} is no proxy; give socks5h://HOST:PORT, as in socks5h://127.0.0.1:9050, to --proxy or \
         in TOCYN_PROXY"
    )]
    Proxy(String),
    /// TLS cannot be set up.
    #[error("cannot set up TLS ({0}); is the package ca-certificates installed?")]
    Tls(String),
    /// No answer, or half of one.
    #[error("{url} does not answer: {why}")]
    Unreachable {
        /// Where to.
        url: String,
        /// The innermost cause.
        why: String,
    },
    /// A problem document.
    #[error("{url} refuses: {detail}", detail = Printable(&problem.detail))]
    Refused {
        /// Who.
        url: String,
        /// Why.
        problem: Box<Problem>,
        /// From the `Retry-After` header, in seconds.
        retry_after: Option<u64>,
    },
    /// An onion service, and no proxy.
    #[error(
        "{0} is an onion service, which only Tor reaches: give Tor's SOCKS port, with --proxy \
         socks5h://127.0.0.1:9050 or in TOCYN_PROXY. Its name was looked up nowhere"
    )]
    OnionWithoutProxy(String),
    /// A status without a problem document, a redirect for example.
    #[error("{url} answers with HTTP status {status}: {}", advice(*status))]
    Status {
        /// Who.
        url: String,
        /// The status.
        status: u16,
    },
    /// An answer that this program cannot read.
    #[error("{url} gives an answer that makes no sense: {}", Printable(why))]
    Answer {
        /// Who.
        url: String,
        /// What is wrong.
        why: String,
    },
}

impl HttpError {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { problem, .. } => is_transient_status(problem.status),
            Self::Status { status, .. } => is_transient_status(*status),
            _ => false,
        }
    }
}

/// What a status without a problem document mostly means.
fn advice(status: u16) -> &'static str {
    match status {
        413 => {
            "a proxy in front of it takes no body of this size: its operator must let it (nginx: \
             client_max_body_size)"
        }
        502..=504 => {
            "a proxy in front of it gets no answer from it: try again later, and if this stays, tell \
             its operator"
        }
        401 | 403 => "a server in front of it lets nobody in there: is this the right address?",
        _ => "is this the right address, or are issuer and relay swapped?",
    }
}

fn is_transient_status(status: u16) -> bool {
    status >= 500 || status == 408 || status == 429
}

/// The address of an issuer or relay: `http` or `https`, host, and a path that ends in `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceUrl(Url);

impl FromStr for ServiceUrl {
    type Err = HttpError;

    fn from_str(text: &str) -> Result<Self, HttpError> {
        let refuse = |why| HttpError::Url { url: text.to_owned(), why };
        let mut url =
            Url::parse(text).map_err(|_| refuse("give http://HOST:PORT or https://HOST"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(refuse("give http://HOST:PORT or https://HOST"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("leave user and password out"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("leave everything from '?' or '#' on out"));
        }
        if url.path().contains("//") {
            // It would be shown without them, and they could mark who was given it.
            return Err(refuse("write one '/' where there are several"));
        }
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        Ok(Self(url))
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl ServiceUrl {
    /// The address of a path of this service.
    pub(crate) fn at(&self, path: &str) -> Url {
        self.0.join(path.trim_start_matches('/')).expect("paths of the protocol are valid")
    }

    /// The address as statements of keys write it. None where no statement can: it has a user, an
    /// unusual host, or an escaped path.
    pub fn address(&self) -> Option<Address> {
        self.to_string().parse().ok()
    }

    /// Whether it is on this machine.
    pub fn is_loopback(&self) -> bool {
        self.address().is_some_and(|address| address.is_loopback())
    }

    /// Whether what is sent can be read on the way: not TLS, not an onion service, and not
    /// this machine.
    pub fn is_readable_on_the_way(&self) -> bool {
        self.0.scheme() == "http" && !self.is_loopback() && !self.is_onion()
    }

    /// Whether it is an onion service, whose name no resolver may be asked for (RFC 7686 section 2).
    pub fn is_onion(&self) -> bool {
        is_onion(self.0.host_str().unwrap_or_default())
    }
}

/// Whether the last label of a name is `onion`, in whatever case, and with a dot at the end or not.
fn is_onion(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.rsplit('.').next().is_some_and(|label| label.eq_ignore_ascii_case("onion"))
}

/// How to reach services: directly, or through a SOCKS5 proxy. Environment variables such as
/// `HTTP_PROXY` are not heeded.
#[derive(Clone, Debug, Default)]
pub struct Transport {
    proxy: Option<Url>,
    /// Whether the person did not say so this time: then it is not for services on this machine.
    is_kept: bool,
}

impl FromStr for Transport {
    type Err = HttpError;

    /// Through the proxy at this URL.
    fn from_str(text: &str) -> Result<Self, HttpError> {
        match Url::parse(text) {
            // With plain socks5 this machine would look names up, in the clear.
            Ok(url)
                if url.scheme() == "socks5h"
                    && url.host_str().is_some_and(|host| !is_onion(host))
                    && url.username().is_empty() =>
            {
                Ok(Self { proxy: Some(url), is_kept: false })
            }
            _ => Err(HttpError::Proxy(text.to_owned())),
        }
    }
}

/// The proxy's URL; nothing without one.
impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.proxy.as_ref().map_or(Ok(()), |proxy| proxy.fmt(f))
    }
}

impl Transport {
    /// The same, as one that was kept from an earlier command.
    pub(crate) fn kept(self) -> Self {
        Self { is_kept: true, ..self }
    }

    /// How it reaches a service: a proxy that was kept is not for this machine, where it could not
    /// reach it and where nobody is to be hidden from.
    pub(crate) fn towards(&self, service: &ServiceUrl) -> Self {
        match self.is_kept && service.is_loopback() {
            true => Self::default(),
            false => self.clone(),
        }
    }

    /// Whether a proxy hides who asks, so that looks on fresh connections mean something.
    pub fn is_proxied(&self) -> bool {
        self.proxy.is_some()
    }

    /// Waits at random for 2 to 20 seconds, so that two connections are not tied by their time;
    /// without a proxy not at all: the address of this machine ties them.
    pub(crate) async fn gap(&self) {
        if self.is_proxied() {
            tokio::time::sleep(random_gap()).await;
        }
    }

    /// A client for one purpose. It shares no connection with any other, and gives up when
    /// the service sends nothing for as long as `silence`.
    pub(crate) fn client(
        &self,
        service: &ServiceUrl,
        silence: Duration,
    ) -> Result<Client, HttpError> {
        if self.proxy.is_none() && service.is_onion() {
            return Err(HttpError::OnionWithoutProxy(service.to_string()));
        }
        // Fails only if one is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(silence);
        if service.0.scheme() == "http" {
            builder = builder.tls_certs_only([]); // spares reading the system's certificates
        }
        if let Some(mut proxy) = self.proxy.clone() {
            let set =
                proxy.set_username(&random_text()).and(proxy.set_password(Some(&random_text())));
            set.expect("a URL with a host takes them");
            builder = builder.proxy(Proxy::all(proxy).map_err(|e| HttpError::Tls(cause(&e)))?);
        }
        builder.build().map_err(|error| HttpError::Tls(cause(&error)))
    }
}

/// From 2 to 20 seconds.
fn random_gap() -> Duration {
    Duration::from_secs(2) + random_up_to(Duration::from_secs(18))
}

/// A time from 0 to `longest`, each as likely as the others.
pub(crate) fn random_up_to(longest: Duration) -> Duration {
    longest.mul_f64(f64::from(UnwrapErr(SysRng).next_u32()) / f64::from(u32::MAX))
}

fn random_text() -> String {
    let mut bytes = [0; 18];
    UnwrapErr(SysRng).fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The innermost cause: the outer ones say only that something failed.
fn cause(error: &(dyn Error + 'static)) -> String {
    std::iter::successors(Some(error), |e| (*e).source()).last().expect("at least one").to_string()
}

pub(crate) fn unreachable(url: &Url, error: &reqwest::Error) -> HttpError {
    let why = match cause(error) {
        _ if error.is_timeout() => "it took too long".to_owned(),
        why if why.starts_with("SOCKS") => format!("{why}; is the proxy, Tor for one, running?"),
        why if why.contains("InvalidContentType") => {
            "it does not speak TLS; try http://".to_owned()
        }
        why => why,
    };
    HttpError::Unreachable { url: origin(url), why }
}

/// What errors name: where the other side is, without path and query.
pub(crate) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// The answer if it is a success, else the refusal.
pub(crate) async fn success(response: Response) -> Result<Response, HttpError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let (url, retry_after) = (response.url().clone(), retry_after(response.headers()));
    let is_problem = content_type(response.headers()).eq_ignore_ascii_case(media_type::PROBLEM);
    let body = read_bounded(response, MAX_DOCUMENT_BYTES).await?;
    match serde_json::from_slice::<Problem>(&body) {
        // The status on the wire decides; the one in the body is only a copy.
        Ok(mut problem) if is_problem && problem.problem_type() != Some(ProblemType::NotFound) => {
            problem.status = status.as_u16();
            Err(HttpError::Refused { url: origin(&url), problem: Box::new(problem), retry_after })
        }
        _ => Err(HttpError::Status { url: origin(&url), status: status.as_u16() }),
    }
}

fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().split(';').next().unwrap_or_default().trim()
}

fn retry_after(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()
}

/// The body, if it has at most `limit` bytes.
pub(crate) async fn read_bounded(
    mut response: Response,
    limit: usize,
) -> Result<Vec<u8>, HttpError> {
    let url = response.url().clone();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| unreachable(&url, &e))? {
        if body.len() + chunk.len() > limit {
            let why = format!("it has more than {limit} bytes");
            return Err(HttpError::Answer { url: origin(&url), why });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Fetches a JSON document.
pub(crate) async fn get_json<T: serde::de::DeserializeOwned>(
    client: &Client,
    url: Url,
) -> Result<T, HttpError> {
    let response = client.get(url.clone()).send().await.map_err(|e| unreachable(&url, &e))?;
    let body = read_bounded(success(response).await?, MAX_DOCUMENT_BYTES).await?;
    serde_json::from_slice(&body)
        .map_err(|error| HttpError::Answer { url: origin(&url), why: error.to_string() })
}
