//! Which circuit each connection to an onion service took, from a client's STREAM and CIRC events.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::tor::control::Control;
use crate::tor::process::PATIENCE;

/// A connection that came in by SOCKS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// Where to, as `....onion:80`.
    pub target: String,
    /// User and password.
    pub credentials: (String, String),
    /// The circuits that it was put on: more than one if the first did not work.
    pub circuits: BTreeSet<u64>,
    /// Whether it is over.
    pub is_closed: bool,
}

/// A circuit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Circuit {
    /// Relays on this side's part of the way.
    pub hops: usize,
    /// What Tor has it for.
    pub purpose: String,
}

/// What happened, by the numbers that Tor gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Connections to onion services, in the order in which they came.
    pub streams: BTreeMap<u64, Stream>,
    /// All circuits.
    pub circuits: BTreeMap<u64, Circuit>,
}

impl Seen {
    /// Reads events.
    pub fn of(events: &[String]) -> Self {
        let mut seen = Self::default();
        for event in events {
            let words: Vec<&str> = event.split(' ').collect();
            match words[..] {
                ["STREAM", id, status, circuit, target, ref fields @ ..] => {
                    seen.stream(number(id), status, number(circuit), target, fields);
                }
                ["CIRC" | "CIRC_MINOR", id, _, ref rest @ ..] => seen.circuit(number(id), rest),
                _ => panic!("an event of another kind: {event}"),
            }
        }
        seen
    }

    fn stream(&mut self, id: u64, status: &str, circuit: u64, target: &str, fields: &[&str]) {
        // Tor's own requests for descriptors go to relays.
        if !target.contains(".onion:") {
            return;
        }
        let stream = self.streams.entry(id).or_default();
        stream.target = target.to_owned();
        stream.credentials =
            (field(fields, "SOCKS_USERNAME").into(), field(fields, "SOCKS_PASSWORD").into());
        if circuit != 0 {
            stream.circuits.insert(circuit);
        }
        stream.is_closed = status == "CLOSED";
    }

    fn circuit(&mut self, id: u64, rest: &[&str]) {
        let circuit = self.circuits.entry(id).or_default();
        circuit.purpose = field(rest, "PURPOSE").to_owned();
        if let Some(path) = rest.first().filter(|path| path.starts_with('$')) {
            circuit.hops = path.split(',').count();
        }
    }

    /// How many different credentials the streams had.
    pub fn credentials(&self) -> usize {
        self.streams.values().map(|stream| &stream.credentials).collect::<BTreeSet<_>>().len()
    }

    /// The circuits that carried streams of different credentials, with those streams.
    pub fn shared_circuits(&self) -> BTreeMap<u64, Vec<&Stream>> {
        let mut carried = BTreeMap::<u64, Vec<&Stream>>::new();
        for stream in self.streams.values() {
            for &circuit in &stream.circuits {
                carried.entry(circuit).or_default().push(stream);
            }
        }
        carried.retain(|_, streams| {
            streams.iter().any(|stream| stream.credentials != streams[0].credentials)
        });
        carried
    }
}

/// Runs something, then waits until as many streams as it must have opened have come and gone.
///
/// # Panics
/// If there are more, or if they do not come.
pub fn watch<T>(control: &Control, streams: usize, run: impl FnOnce() -> T) -> (T, Seen) {
    control.record();
    let result = run();
    let start = Instant::now();
    loop {
        let seen = Seen::of(&control.events());
        let open = seen.streams.values().filter(|stream| !stream.is_closed).count();
        if open == 0 && seen.streams.len() == streams {
            return (result, seen);
        }
        assert!(seen.streams.len() <= streams, "more than {streams} streams: {seen:#?}");
        assert!(start.elapsed() < PATIENCE, "not {streams} streams, or not closed: {seen:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn number(text: &str) -> u64 {
    text.parse().expect("Tor numbers streams and circuits")
}

/// The value of `NAME=value` or `NAME="value"`; what we look for has no spaces in it.
fn field<'a>(fields: &[&'a str], name: &str) -> &'a str {
    let value = fields.iter().find_map(|f| f.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_default().trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(lines: &[&str]) -> Seen {
        Seen::of(&lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>())
    }

    /// As Tor 0.4.9 writes them.
    const EVENTS: [&str; 8] = [
        "STREAM 27 NEW 0 a.onion:80 SOURCE_ADDR=127.0.0.1:5 PURPOSE=USER SOCKS_USERNAME=\"u0\" SOCKS_PASSWORD=\"p\" CLIENT_PROTOCOL=SOCKS5",
        "STREAM 29 NEW 0 127.0.0.1.$699D.exit:4 PURPOSE=DIR_FETCH CLIENT_PROTOCOL=UNKNOWN",
        "CIRC 9 LAUNCHED BUILD_FLAGS=IS_INTERNAL,NEED_CAPACITY PURPOSE=HS_CLIENT_REND",
        "CIRC 9 BUILT $CA~a2,$69~r2,$DD~a1 BUILD_FLAGS=IS_INTERNAL PURPOSE=HS_CLIENT_REND",
        "STREAM 27 SENTCONNECT 9 a.onion:80 SOCKS_USERNAME=\"u0\" SOCKS_PASSWORD=\"p\"",
        "STREAM 27 CLOSED 9 a.onion:80 REASON=END SOCKS_USERNAME=\"u0\" SOCKS_PASSWORD=\"p\"",
        "STREAM 30 SENTCONNECT 9 a.onion:80 SOCKS_USERNAME=\"u0\" SOCKS_PASSWORD=\"p\"",
        "STREAM 31 SENTCONNECT 8 a.onion:80 SOCKS_USERNAME=\"u1\" SOCKS_PASSWORD=\"p\"",
    ];

    #[test]
    fn events_tell_streams_and_circuits() {
        let seen = seen(&EVENTS);
        assert_eq!(seen.streams.keys().collect::<Vec<_>>(), [&27, &30, &31]);
        let first = &seen.streams[&27];
        assert_eq!(first.credentials, ("u0".into(), "p".into()));
        assert_eq!((first.is_closed, seen.streams[&30].is_closed), (true, false));
        assert_eq!(first.circuits, BTreeSet::from([9]));
        assert_eq!(seen.circuits[&9], Circuit { hops: 3, purpose: "HS_CLIENT_REND".into() });
        assert_eq!(seen.credentials(), 2);
    }

    #[test]
    fn one_circuit_may_have_several_streams_but_not_of_different_credentials() {
        assert!(seen(&EVENTS).shared_circuits().is_empty());
        let other_user =
            "STREAM 33 SENTCONNECT 9 a.onion:80 SOCKS_USERNAME=\"u0\" SOCKS_PASSWORD=\"q\"";
        let shared = seen(&[&EVENTS[..], &[other_user]].concat());
        let shared = shared.shared_circuits();
        assert_eq!((shared.len(), shared[&9].len()), (1, 3));
        // A stream that was moved counts on both circuits.
        let moved = "STREAM 31 SENTCONNECT 9 a.onion:80 SOCKS_USERNAME=\"u1\" SOCKS_PASSWORD=\"p\"";
        assert_eq!(seen(&[&EVENTS[..], &[moved]].concat()).shared_circuits().len(), 1);
    }
}
