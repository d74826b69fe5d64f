//! A closed loop: each connection sends its next post when the last one is answered.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use indicatif::ProgressBar;
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use super::mix::Sort;
use crate::cli::CliResult;

/// One post, made before the clock runs.
#[derive(Clone)]
pub(crate) struct Post {
    pub(crate) sort: Sort,
    pub(crate) authorization: String,
    pub(crate) cell: Bytes,
}

/// What a run showed.
pub(crate) struct Run {
    pub(crate) took: Duration,
    /// Answers to each sort, in the order of [`Sort::ALL`].
    pub(crate) answers: [u64; 4],
    /// Answers with another status than they should have: sort, status.
    pub(crate) wrong: Vec<(Sort, u16)>,
    /// Microseconds from sending to the whole answer, of valid posts.
    pub(crate) latency_us: Histogram<u64>,
}

/// Sends `posts` over so many connections to `ADDR:PORT`. Each connection takes the next one, so
/// that a retry comes after what it repeats.
pub(crate) async fn closed_loop(
    address: &str,
    connections: usize,
    posts: Vec<Vec<Post>>,
    bar: ProgressBar,
) -> CliResult<Run> {
    let run = Rc::new(RefCell::new(Run {
        took: Duration::ZERO,
        answers: [0; 4],
        wrong: Vec::new(),
        latency_us: Histogram::new(3).expect("three digits are possible"),
    }));
    let local = LocalSet::new();
    let mut senders = Vec::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        local.spawn_local(connection);
        senders.push(sender);
    }
    let start = Instant::now();
    let tasks: Vec<_> = senders
        .into_iter()
        .zip(posts)
        .map(|(sender, posts)| {
            let (run, bar, address) = (run.clone(), bar.clone(), address.to_owned());
            local.spawn_local(connection_loop(sender, address, posts, run, bar))
        })
        .collect();
    local
        .run_until(async {
            for task in tasks {
                task.await.map_err(|error| error.to_string())??;
            }
            Ok::<_, String>(())
        })
        .await?;
    drop(local);
    let mut run = Rc::into_inner(run).expect("all connections have ended").into_inner();
    run.took = start.elapsed();
    Ok(run)
}

async fn connection_loop(
    mut sender: http1::SendRequest<Full<Bytes>>,
    address: String,
    posts: Vec<Post>,
    run: Rc<RefCell<Run>>,
    bar: ProgressBar,
) -> Result<(), String> {
    for post in posts {
        let request = Request::post("/v1/messages")
            .header(HOST, &address)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(AUTHORIZATION, post.authorization)
            .body(Full::new(post.cell))
            .map_err(|error| error.to_string())?;
        let sent = Instant::now();
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        answer.into_body().collect().await.map_err(|error| error.to_string())?;
        let took = sent.elapsed();
        let mut run = run.borrow_mut();
        run.answers[post.sort as usize] += 1;
        if status != post.sort.status() {
            run.wrong.push((post.sort, status));
        }
        if post.sort == Sort::Valid {
            run.latency_us.record(took.as_micros() as u64).expect("the histogram grows");
        }
        bar.inc(1);
    }
    Ok(())
}
