//! Everything that a relay keeps, over one connection or several at once.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::super::charts::{Axis, Chart, Line, Scale};
use super::super::load::SLOT;
use super::super::load::wire::Connection;
use super::super::report::{Table, number};
use super::super::services::Services;
use super::super::usage::{self, Meter, Usage};
use super::frames::Frames;
use crate::cli::CliResult;

/// Bytes that a reader takes at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// When nothing comes for so long, the download has failed.
const SILENCE: Duration = Duration::from_secs(60);

/// What to download.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) after: u64,
    pub(super) messages: u64,
    pub(super) cell_bytes: usize,
}

/// What a run showed.
pub(super) struct Downloaded {
    connections: usize,
    wanted: Wanted,
    took: Duration,
    /// Bytes of cells in each [`SLOT`], of all connections.
    over_time: Vec<u64>,
    usage: Usage,
    relay_before_bytes: Option<u64>,
}

/// Downloads it over so many connections at once, each all of it.
pub(super) async fn run(
    services: &Services,
    wanted: Wanted,
    connections: usize,
    bar: &ProgressBar,
) -> CliResult<Downloaded> {
    let address = services.relay_address()?;
    let mut open = Vec::new();
    for _ in 0..connections {
        let opened = Connection::with_buffer(&address, BUFFER_BYTES).await;
        open.push(opened.map_err(|error| format!("{address}: {error}"))?);
    }
    let relay = services.own.as_ref().and_then(|own| own.relay_ids().first().copied());
    let relay_before_bytes = relay.and_then(usage::memory_bytes);
    let meter = Meter::start(services.own.as_ref());
    let start = Instant::now();
    let over_time = RefCell::new(Vec::new());
    let count = |bytes: usize| {
        let slot = (start.elapsed().as_millis() / SLOT.as_millis()) as usize;
        let mut slots = over_time.borrow_mut();
        if slots.len() <= slot {
            slots.resize(slot + 1, 0);
            bar.set_position(slots.iter().sum());
        }
        slots[slot] += bytes as u64;
    };
    let downloads =
        open.into_iter().map(|connection| download(connection, &address, wanted, &count));
    try_join_all(downloads).await?;
    let took = start.elapsed();
    let usage = meter.stop();
    let over_time = over_time.into_inner();
    Ok(Downloaded { connections, wanted, took, over_time, usage, relay_before_bytes })
}

async fn download(
    mut connection: Connection,
    address: &str,
    wanted: Wanted,
    count: &impl Fn(usize),
) -> CliResult {
    let Wanted { after, messages, cell_bytes } = wanted;
    let request = format!(
        "GET /v1/messages?after={after}&limit={messages} HTTP/1.1\r\nhost: {address}\r\n\r\n"
    );
    connection.send([request.as_bytes(), b""]).await?;
    match connection.head().await? {
        200 => {}
        status => return Err(format!("the relay answered a read with status {status}").into()),
    }
    let mut frames = Frames::new(cell_bytes, after);
    loop {
        let piece = tokio::time::timeout(SILENCE, connection.piece());
        match piece.await.map_err(|_| "the relay has sent nothing for 60 s")?? {
            Some(bytes) => {
                frames.push(bytes)?;
                count(bytes.len());
            }
            None if frames.is_whole() && frames.last() == after + messages => return Ok(()),
            None => {
                let last = frames.last();
                return Err(format!("the relay ended the stream early, after {last}").into());
            }
        }
    }
}

impl Downloaded {
    /// Bytes of cells, of all connections.
    fn bytes(&self) -> u64 {
        self.wanted.messages * self.wanted.cell_bytes as u64 * self.connections as u64
    }

    /// Millions of bytes a second.
    fn rate(&self) -> f64 {
        self.bytes() as f64 / 1e6 / self.took.as_secs_f64()
    }

    fn to_json(&self) -> Value {
        json!({
            "connections": self.connections,
            "messages": self.wanted.messages * self.connections as u64,
            "bytes": self.bytes(),
            "seconds": self.took.as_secs_f64(),
            "megabytes_per_second": self.rate(),
            "slot_seconds": SLOT.as_secs_f64(),
            "over_time_bytes": self.over_time,
            "cpu": self.usage.to_json(),
            "relay_before_bytes": self.relay_before_bytes,
            "relay_peak_bytes": self.usage.relay_peak_bytes,
        })
    }
}

/// All runs, as they are reported.
pub(super) fn report(runs: &[Downloaded]) -> (Table, Vec<Chart>, Value) {
    let mut table = Table::new([
        "connections",
        "MB",
        "seconds",
        "MB a second",
        "relay MB before",
        "relay peak MB",
        "cores: reader",
        "relay",
    ]);
    let megabytes = |bytes: Option<u64>| number(bytes.map(|bytes| bytes as f64 / 1e6), 1);
    for run in runs {
        let [reader, relay, ..] = run.usage.cores();
        table.rows.push(vec![
            run.connections.to_string(),
            format!("{:.0}", run.bytes() as f64 / 1e6),
            format!("{:.2}", run.took.as_secs_f64()),
            format!("{:.0}", run.rate()),
            megabytes(run.relay_before_bytes),
            megabytes(run.usage.relay_peak_bytes),
            number(reader, 2),
            number(relay, 2),
        ]);
    }
    let y = || Axis { name: "MB a second", scale: Scale::Linear };
    let charts = vec![
        Chart {
            title: "Throughput over time",
            caption: "Of all connections together.".to_owned(),
            x: Axis { name: "seconds", scale: Scale::Linear },
            y: y(),
            lines: runs
                .iter()
                .map(|run| Line {
                    name: format!("{} connections", run.connections),
                    points: super::super::series::over_time(&run.over_time, run.took, 1e-6),
                })
                .collect(),
        },
        Chart {
            title: "Throughput against connections",
            caption: "Each connection downloads everything.".to_owned(),
            x: Axis { name: "connections", scale: Scale::Log },
            y: y(),
            lines: vec![Line {
                name: "download".to_owned(),
                points: runs.iter().map(|run| (run.connections as f64, run.rate())).collect(),
            }],
        },
    ];
    (table, charts, runs.iter().map(Downloaded::to_json).collect())
}
