//! The load generator: many connections on one thread, in a closed or an open loop.

mod head;
pub(crate) mod latency;
mod pace;
pub(crate) mod wire;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use tokio::task::LocalSet;

use self::pace::Pace;
use self::wire::Connection;
use crate::cli::CliResult;

/// Throughput over time is counted in slots of this length.
pub(crate) const SLOT: Duration = Duration::from_millis(100);
/// When no connection gets an answer for so long, the run has failed.
const SILENCE: Duration = Duration::from_secs(60);

/// How requests are sent.
pub(crate) struct Plan<'a> {
    /// `ADDR:PORT` of each relay or issuer; the connections are shared out among them.
    pub(crate) addresses: &'a [String],
    pub(crate) connections: usize,
    /// Requests a second; without it each connection sends when it has its last answer.
    pub(crate) rate: Option<f64>,
    /// When to stop sending, if the requests last that long.
    pub(crate) seconds: Option<f64>,
    /// The most requests.
    pub(crate) requests: u64,
}

impl Plan<'_> {
    /// Steps of its progress bar: of time where it ends by time, else requests.
    pub(crate) fn steps(&self) -> u64 {
        match self.seconds {
            Some(seconds) => (seconds / SLOT.as_secs_f64()) as u64,
            None => self.requests,
        }
    }
}

/// A request, as the bytes on the wire, in two parts so that many can share the second.
#[derive(Clone)]
pub(crate) struct Request {
    /// Which of the source's kinds it is.
    pub(crate) kind: usize,
    pub(crate) head: Arc<[u8]>,
    pub(crate) tail: Arc<[u8]>,
}

/// An answer.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

/// What an answer is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As it must be.
    Good,
    /// 503: the service says that it is at its limit.
    Busy,
    Wrong,
}

/// Where requests come from. They are made before the clock runs, or cost next to nothing.
pub(crate) trait Source {
    /// Names of the kinds.
    const KINDS: &'static [&'static str];
    /// The next request; a connection asks when it has the answer to its last one.
    fn next(&mut self, connection: usize) -> Option<Request>;
    /// Judges the answer that a connection got.
    fn check(&mut self, connection: usize, request: &Request, answer: &Answer<'_>) -> Verdict;
}

/// What a run showed of one kind of request.
pub(crate) struct Kind {
    pub(crate) good: u64,
    pub(crate) busy: u64,
    pub(crate) wrong: u64,
    /// Of good answers, from the moment of sending.
    pub(crate) from_sent: Histogram<u64>,
    /// Of good answers, from the moment at which the request was due.
    pub(crate) from_due: Histogram<u64>,
    /// Good answers in each [`SLOT`].
    pub(crate) over_time: Vec<u64>,
}

/// What a run showed.
pub(crate) struct Run {
    pub(crate) took: Duration,
    /// In the order of [`Source::KINDS`].
    pub(crate) kinds: Vec<Kind>,
    /// The first wrong answer: kind, status, body.
    pub(crate) first_wrong: Option<(usize, u16, String)>,
    /// Connections that the other side closed between two requests.
    pub(crate) reconnects: u64,
}

impl Run {
    fn new(kinds: usize) -> Self {
        let kind = || Kind {
            good: 0,
            busy: 0,
            wrong: 0,
            from_sent: latency::histogram(),
            from_due: latency::histogram(),
            over_time: Vec::new(),
        };
        let kinds = (0..kinds).map(|_| kind()).collect();
        Self { took: Duration::ZERO, kinds, first_wrong: None, reconnects: 0 }
    }

    pub(crate) fn good(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.good).sum()
    }

    pub(crate) fn busy(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.busy).sum()
    }

    pub(crate) fn wrong(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.wrong).sum()
    }

    /// All answers.
    pub(crate) fn answers(&self) -> u64 {
        self.good() + self.busy() + self.wrong()
    }
}

struct Shared<S> {
    source: S,
    run: Run,
    start: Instant,
    last_answer: Instant,
}

impl<S: Source> Shared<S> {
    /// Counts an answer to a request that was due and sent at these times.
    fn record(
        &mut self,
        verdict: Verdict,
        request: &Request,
        answer: &Answer<'_>,
        times: [Instant; 2],
    ) {
        let (now, [due, sent]) = (Instant::now(), times);
        self.last_answer = now;
        let kind = &mut self.run.kinds[request.kind];
        match verdict {
            Verdict::Good => {
                kind.good += 1;
                latency::record(&mut kind.from_sent, now - sent);
                latency::record(&mut kind.from_due, now - due);
                let slot = (now - self.start).as_millis() / SLOT.as_millis();
                let slot = slot as usize;
                if kind.over_time.len() <= slot {
                    kind.over_time.resize(slot + 1, 0);
                }
                kind.over_time[slot] += 1;
            }
            Verdict::Busy => kind.busy += 1,
            Verdict::Wrong => {
                kind.wrong += 1;
                self.run.first_wrong.get_or_insert_with(|| {
                    let start = &answer.body[..answer.body.len().min(500)];
                    (request.kind, answer.status, String::from_utf8_lossy(start).into_owned())
                });
            }
        }
    }
}

/// Sends what `source` gives, and gives it back.
pub(crate) async fn run<S: Source + 'static>(
    plan: &Plan<'_>,
    source: S,
    bar: &ProgressBar,
) -> CliResult<(Run, S)> {
    let mut connections = Vec::with_capacity(plan.connections);
    let all = plan.addresses.join(", ");
    for address in plan.addresses.iter().cycle().take(plan.connections) {
        let connection = Connection::open(address).await;
        connections.push(connection.map_err(|error| failed(address, &error))?);
    }
    let start = Instant::now();
    let pace = match (plan.rate, plan.seconds) {
        (Some(rate), seconds) => {
            let most = seconds.map_or(u64::MAX, |seconds| (rate * seconds).ceil() as u64);
            Pace::open(start, rate, plan.requests.min(most))
        }
        (None, seconds) => {
            Pace::Closed { end: seconds.map(|s| start + Duration::from_secs_f64(s)) }
        }
    };
    let run = Run::new(S::KINDS.len());
    let shared = Rc::new(RefCell::new(Shared { source, run, start, last_answer: start }));
    let local = LocalSet::new();
    let tasks: Vec<_> = connections
        .into_iter()
        .enumerate()
        .map(|(number, connection)| {
            local.spawn_local(work(shared.clone(), pace.clone(), number, connection))
        })
        .collect();
    let ended = async {
        for result in try_join_all(tasks).await.map_err(|error| error.to_string())? {
            result.map_err(|error| failed(&all, &error))?;
        }
        Ok::<_, String>(())
    };
    local
        .run_until(async {
            tokio::select! {
                result = ended => result,
                error = watch(&shared, plan, bar) => Err(error),
            }
        })
        .await?;
    drop(local);
    let shared = Rc::into_inner(shared).expect("all connections have ended").into_inner();
    let took = start.elapsed();
    Ok((Run { took, ..shared.run }, shared.source))
}

async fn work<S: Source>(
    shared: Rc<RefCell<Shared<S>>>,
    pace: Pace,
    number: usize,
    mut connection: Connection,
) -> std::io::Result<()> {
    let mut body = Vec::new();
    while let Some(due) = pace.next().await {
        let request = shared.borrow_mut().source.next(number);
        let Some(request) = request else { break };
        body.clear();
        let sent = Instant::now();
        let status = connection.exchange([&request.head, &request.tail], &mut body).await?;
        let (answer, shared) = (Answer { status, body: &body }, &mut *shared.borrow_mut());
        let verdict = shared.source.check(number, &request, &answer);
        shared.record(verdict, &request, &answer, [due, sent]);
    }
    shared.borrow_mut().run.reconnects += connection.reconnects();
    Ok(())
}

/// Shows progress; ends only if the other side falls silent.
async fn watch<S>(shared: &RefCell<Shared<S>>, plan: &Plan<'_>, bar: &ProgressBar) -> String {
    loop {
        tokio::time::sleep(SLOT).await;
        let shared = shared.borrow();
        bar.set_position(match plan.seconds {
            Some(_) => (shared.start.elapsed().as_millis() / SLOT.as_millis()) as u64,
            None => shared.run.answers(),
        });
        if shared.last_answer.elapsed() > SILENCE {
            let all = plan.addresses.join(", ");
            return format!("{all} has not answered for {} s", SILENCE.as_secs());
        }
    }
}

fn failed(address: &str, error: &std::io::Error) -> String {
    // EMFILE, which has no kind of its own.
    let hint = match error.raw_os_error() {
        Some(24) => "; raise the limit of open files with `ulimit -n`, or use fewer connections",
        _ => "",
    };
    format!("{address}: {error}{hint}")
}
