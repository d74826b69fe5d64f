//! Takes connections, bounds them in number and time, and drains them at the end.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Method, Request, Response, StatusCode, header};
use futures_util::future::join_all;
use http_body::Frame;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tocyn_protocol::media_type;
use tocyn_protocol::problem::{Problem, ProblemType};
use tokio::sync::watch;
use tokio_io_timeout::TimeoutStream;
use tower_service::Service;

use crate::clients::{Budget, Clients, Guest};
pub use crate::connections::Connection;
use crate::connections::{Connections, Place, Waiting};
use crate::listen::Listener;
use crate::metrics::{Refusals, Refused};
use crate::open_files;
use crate::proxy;
use crate::stream::{Stream, Watched};

/// The longest head of a request. A token takes 300 bytes of it.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Bounds on connections.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Open at once.
    pub connections: usize,
    /// Until a request's head is there.
    pub header_timeout: Duration,
    /// While the client takes none of its answer.
    pub write_timeout: Duration,
    /// Memory of the kernel for what a client has not taken, in bytes.
    pub send_buffer: usize,
    /// For requests in flight at the end.
    pub drain_timeout: Duration,
    /// For each client, where the first line of a connection says whose it is (PROXY protocol).
    pub per_client: Option<Budget>,
}

/// The connections of a service.
#[derive(Clone)]
pub struct Server {
    bounds: Bounds,
    connections: Arc<Connections>,
    clients: Option<Arc<Clients>>,
    refusals: Refusals,
}

impl Server {
    /// Without connections yet. Refusals are counted in `refusals`.
    pub fn new(mut bounds: Bounds, refusals: Refusals) -> Self {
        bounds.connections = bounds.connections.min(open_files::places());
        let connections = Connections::new(bounds.connections);
        let clients = bounds.per_client.map(Clients::new);
        Self { bounds, connections, clients, refusals }
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.connections.open()
    }

    /// Connections that were closed because others needed their places.
    pub fn evicted(&self) -> u64 {
        self.connections.evicted()
    }

    /// Serves `router` until `shutdown` is ready; then takes no more connections and gives those
    /// in flight `drain_timeout` to end.
    pub async fn serve(
        self,
        listeners: Vec<Listener>,
        router: Router,
        shutdown: impl Future<Output = ()>,
    ) {
        let graceful = GracefulShutdown::new();
        let (stop, stopped) = watch::channel(false);
        let taking = listeners
            .into_iter()
            .map(|listener| self.take_from(listener, &router, &graceful, stopped.clone()));
        let stop = async {
            shutdown.await;
            stop.send_replace(true);
        };
        tokio::join!(join_all(taking), stop);
        tracing::info!("stopping: no new connections, requests in flight are answered");
        let drained = tokio::time::timeout(self.bounds.drain_timeout, graceful.shutdown()).await;
        if drained.is_err() {
            tracing::warn!("some requests did not end in time and were cut off");
        }
    }

    async fn take_from(
        &self,
        listener: Listener,
        router: &Router,
        graceful: &GracefulShutdown,
        mut stopped: watch::Receiver<bool>,
    ) {
        let mut warned = false;
        loop {
            let taken = async {
                let stream = listener.accept(self.bounds.send_buffer).await?;
                Ok::<_, std::io::Error>((stream, self.connections.enter().await))
            };
            let (stream, place) = tokio::select! {
                biased;
                () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => return,
                taken = taken => match taken {
                    Ok(taken) => taken,
                    Err(error) => {
                        // Mostly: no file descriptors left. Who keeps us waiting lets go of one.
                        let pause = match self.connections.evict_one() {
                            true => Duration::from_millis(1),
                            false => Duration::from_millis(100),
                        };
                        if !std::mem::replace(&mut warned, true) {
                            tracing::warn!(%error, "cannot take a connection: is the limit on open \
                                files too low (LimitNOFILE, ulimit -n)? This is said once");
                        }
                        tokio::time::sleep(pause).await;
                        continue;
                    }
                },
            };
            let (server, router, watcher) = (self.clone(), router.clone(), graceful.watcher());
            tokio::spawn(async move { server.serve_one(stream, place, router, watcher).await });
        }
    }

    async fn serve_one(&self, stream: Stream, mut place: Place, router: Router, watcher: Watcher) {
        let waiting = place.waiting.clone();
        tokio::select! {
            () = self.talk(stream, waiting.clone(), router, watcher) => {}
            _ = &mut place.closed => {}
            () = waiting.hung_up() => {}
        }
    }

    /// A client that goes away in the middle is no event worth a line.
    async fn talk(
        &self,
        mut stream: Stream,
        waiting: Arc<Waiting>,
        router: Router,
        watcher: Watcher,
    ) {
        let guest = match &self.clients {
            None => None,
            Some(clients) => {
                let source = proxy::read_source(&mut stream);
                match tokio::time::timeout(self.bounds.header_timeout, source).await {
                    Ok(Ok(None)) => None,
                    Ok(Ok(Some(source))) => match clients.enter(source) {
                        Some(guest) => Some(Arc::new(guest)),
                        None => return self.refusals.count("too-many-connections"),
                    },
                    Ok(Err(_)) | Err(_) => return self.refusals.count("no-proxy-line"),
                }
            }
        };
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.bounds.header_timeout)
            .max_headers(64)
            .max_buf_size(MAX_HEAD_BYTES);
        let mut stream = TimeoutStream::new(Watched::new(stream, waiting.clone()));
        stream.set_write_timeout(Some(self.bounds.write_timeout));
        let service = service_fn(|request| {
            answer(request, router.clone(), &waiting, guest.clone(), self.refusals.clone())
        });
        let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), service);
        let _ = watcher.watch(connection).await;
    }
}

/// Answers one request, and notes while it does whether its client keeps us waiting.
fn answer(
    request: Request<Incoming>,
    mut router: Router,
    waiting: &Arc<Waiting>,
    guest: Option<Arc<Guest>>,
    refusals: Refusals,
) -> impl Future<Output = Result<Response<Body>, Infallible>> + use<> {
    let waiting = waiting.clone();
    let counts = request.method() == Method::POST;
    waiting.to_read(!request.body().is_end_stream());
    let reading = waiting.clone();
    let mut request =
        request.map(|body| Body::new(Followed { body, at_end: AtEnd(reading, false) }));
    request.extensions_mut().insert(Connection(waiting.clone()));
    async move {
        let mut response =
            match guest.as_ref().filter(|_| counts).and_then(|guest| guest.must_wait()) {
                Some(wait) => too_many_refusals(wait),
                None => match router.call(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                },
            };
        if let Some(Refused(name)) = response.extensions().get() {
            refusals.count(name);
        }
        if let Some(guest) = guest.filter(|_| counts && is_clients_fault(response.status())) {
            guest.was_refused();
        }
        waiting.to_read(false);
        if waiting.is_last() {
            let close = header::HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        Ok(response.map(|body| Body::new(Followed { body, at_end: AtEnd(waiting, true) })))
    }
}

/// What a client is to blame for. Limits of ours are not.
fn is_clients_fault(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 401 | 403 | 408 | 409 | 413 | 415 | 422)
}

fn too_many_refusals(wait: Duration) -> Response<Body> {
    let problem_type = ProblemType::TooManyRefusals;
    let problem = Problem::new(problem_type, "too many requests of this client were refused");
    let mut response =
        Response::new(Body::from(serde_json::to_vec(&problem).expect("a problem is plain data")));
    *response.status_mut() =
        StatusCode::from_u16(problem.status).expect("the table has real statuses");
    response.extensions_mut().insert(Refused(problem_type.name()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type::PROBLEM));
    headers.insert(header::RETRY_AFTER, (wait.as_secs() + 1).into());
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, header::HeaderValue::from_static("*"));
    response
}

/// A body that tells when it has ended.
struct Followed<B> {
    body: B,
    at_end: AtEnd,
}

/// At the end of a body: whether we wait for the client's next bytes.
struct AtEnd(Arc<Waiting>, bool);

impl Drop for AtEnd {
    fn drop(&mut self) {
        if self.1 {
            self.0.to_read(true);
        }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Followed<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if !self.at_end.1 && (matches!(frame, Poll::Ready(None)) || self.body.is_end_stream()) {
            self.at_end.0.to_read(false);
        } else if !self.at_end.1 && frame.is_ready() {
            self.at_end.0.to_read(true); // it makes progress; the body's own time bounds that
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// Ready at the first SIGTERM or SIGINT.
pub fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
