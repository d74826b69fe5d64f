//! An issuer that does wrong, in front of the real one: it changes the directory, and remembers what
//! it was shown.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tocyn_protocol::directory::{DIRECTORY_PATH, IssuerDirectory, TOKEN_REQUEST_PATH};
use tocyn_protocol::problem::{Problem, ProblemType};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::bearer::http_client;

/// Changes a directory for the reader of this number, from 0.
pub type ChangeDirectory = Arc<dyn Fn(usize, &mut IssuerDirectory) + Send + Sync>;

#[derive(Clone)]
struct Shared {
    real: String,
    change: Arc<Mutex<Option<ChangeDirectory>>>,
    is_busy: Arc<Mutex<bool>>,
    looks: Arc<Mutex<usize>>,
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

/// A running issuer. Dropping it ends it.
pub struct WrongIssuer {
    url: String,
    shared: Shared,
    task: AbortHandle,
}

impl WrongIssuer {
    /// In front of the real one.
    pub async fn start(real: &str) -> Self {
        let shared = Shared {
            real: real.to_owned(),
            change: Arc::default(),
            is_busy: Arc::default(),
            looks: Arc::default(),
            asked: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let router = Router::new()
            .route(DIRECTORY_PATH, get(directory))
            .fallback(request)
            .with_state(shared.clone());
        let serve = axum::serve(listener, router).into_future();
        let task = tokio::spawn(async move { serve.await.expect("it serves") }).abort_handle();
        Self { url, shared, task }
    }

    /// `http://ADDR:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on the directory is changed so.
    pub fn change(&self, change: impl Fn(usize, &mut IssuerDirectory) + Send + Sync + 'static) {
        let mut place = self.shared.change.lock().expect("no panic under the lock");
        *place = Some(Arc::new(change));
    }

    /// Whether token requests are answered 503.
    pub fn set_busy(&self, is_busy: bool) {
        *self.shared.is_busy.lock().expect("no panic under the lock") = is_busy;
    }

    /// Paths that were posted to, each with what was to pay.
    pub fn asked(&self) -> Vec<(String, String)> {
        self.shared.asked.lock().expect("no panic under the lock").clone()
    }
}

impl Drop for WrongIssuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn directory(State(shared): State<Shared>) -> Response {
    let answer = http_client().get(format!("{}{DIRECTORY_PATH}", shared.real)).send().await;
    let mut directory: IssuerDirectory =
        answer.expect("an answer").json().await.expect("a directory");
    let number = {
        let mut looks = shared.looks.lock().expect("no panic under the lock");
        *looks += 1;
        *looks - 1
    };
    if let Some(change) = shared.change.lock().expect("no panic under the lock").clone() {
        change(number, &mut directory);
    }
    axum::Json(directory).into_response()
}

async fn request(
    State(shared): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let paid = headers.get(header::AUTHORIZATION).map(|value| value.to_str().expect("text"));
    let asked = (uri.path().to_owned(), paid.unwrap_or_default().to_owned());
    shared.asked.lock().expect("no panic under the lock").push(asked);
    let problem = [(header::CONTENT_TYPE, "application/problem+json")];
    if *shared.is_busy.lock().expect("no panic under the lock") {
        let busy = Problem::new(ProblemType::Busy, "try again some time");
        let body = serde_json::to_vec(&busy).expect("plain data");
        return (StatusCode::SERVICE_UNAVAILABLE, problem, body).into_response();
    }
    let mut real = http_client().post(format!("{}{TOKEN_REQUEST_PATH}", shared.real));
    for name in [header::AUTHORIZATION, header::CONTENT_TYPE] {
        if let Some(value) = headers.get(&name) {
            real = real.header(name.as_str(), value.as_bytes());
        }
    }
    let answer = real.body(body.to_vec()).send().await.expect("an answer");
    let status = StatusCode::from_u16(answer.status().as_u16()).expect("a status");
    let kind = answer.headers().get(header::CONTENT_TYPE.as_str()).cloned();
    let kind = kind.map(|kind| kind.to_str().expect("text").to_owned()).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, kind)], answer.bytes().await.expect("a body")).into_response()
}
