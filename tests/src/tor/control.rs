//! A connection to a control port: questions with answers, and events in between.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use crate::tor::process::PATIENCE;

/// An open connection. Events are recorded from [`Control::record`] on.
pub struct Control {
    stream: TcpStream,
    answers: Receiver<String>,
    events: Arc<Mutex<Vec<String>>>,
}

impl Control {
    /// Connects, and shows the cookie.
    pub fn connect(address: &str, cookie: &[u8]) -> Self {
        let stream = TcpStream::connect(address).expect("a control port");
        let lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
        let (sender, answers) = channel();
        let events = Arc::<Mutex<Vec<String>>>::default();
        let recorded = events.clone();
        // Ends with the connection, which ends with its `tor`.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(event) = line.strip_prefix("650 ") {
                    recorded.lock().expect("no panic").push(event.to_owned());
                } else if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let control = Self { stream, answers, events };
        control.ask(&format!("AUTHENTICATE {}", hex::encode(cookie)));
        control
    }

    /// Asks for one value.
    pub fn get_info(&self, key: &str) -> String {
        let lines = self.ask(&format!("GETINFO {key}"));
        let line = lines.first().expect("an answer");
        line.strip_prefix(&format!("250-{key}=")).expect("the value").to_owned()
    }

    /// Forgets the events so far, and records those about streams and circuits from now on.
    pub fn record(&self) {
        self.ask("SETEVENTS STREAM CIRC CIRC_MINOR");
        self.events.lock().expect("no panic").clear();
    }

    /// The events since [`Control::record`].
    pub fn events(&self) -> Vec<String> {
        self.events.lock().expect("no panic").clone()
    }

    /// Has it read its configuration and keys again.
    pub fn reload(&self) {
        self.ask("SIGNAL RELOAD");
    }

    /// Sends a command; gives the lines of its answer, which must be that all is well.
    fn ask(&self, command: &str) -> Vec<String> {
        write!(&self.stream, "{command}\r\n").expect("tor runs");
        let mut lines = Vec::new();
        loop {
            let line = self.answers.recv_timeout(PATIENCE).expect("tor answers");
            // Such a line is the last one.
            if line.as_bytes().get(3) == Some(&b' ') {
                assert_eq!(line, "250 OK", "{command}");
                return lines;
            }
            lines.push(line);
        }
    }
}
