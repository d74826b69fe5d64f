//! A plain file server: it hands out what is in a folder and knows nothing of logs.

use std::path::{Path, PathBuf};

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// A running server. Dropping it ends it.
pub struct FileServer {
    url: String,
    task: AbortHandle,
}

impl FileServer {
    /// Serves this folder.
    pub async fn start(dir: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let router = Router::new().route("/{*path}", get(file)).with_state(dir.to_owned());
        let serve = axum::serve(listener, router).into_future();
        let task = tokio::spawn(async move { serve.await.expect("it serves") }).abort_handle();
        Self { url, task }
    }

    /// `http://ADDR:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn file(State(dir): State<PathBuf>, UrlPath(path): UrlPath<String>) -> Response {
    match tokio::fs::read(dir.join(path)).await {
        Ok(bytes) => bytes.into_response(),
        Err(_) => (StatusCode::NOT_FOUND, "<h1>Not found</h1>").into_response(),
    }
}
