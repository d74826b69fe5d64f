//! When requests are sent: in a closed loop as soon as a connection is free, in an open loop by
//! a schedule that does not wait for answers.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc};

/// Tells connections when to send.
#[derive(Clone)]
pub(crate) enum Pace {
    /// At once, until this time.
    Closed { end: Option<Instant> },
    /// When a request is due. Connections that are free stand in line; while there is none,
    /// what is due waits, and waits count.
    Open(Rc<Mutex<mpsc::UnboundedReceiver<Instant>>>),
}

impl Pace {
    /// `rate` requests a second from `start` on, `requests` in all.
    pub(crate) fn open(start: Instant, rate: f64, requests: u64) -> Self {
        let (due, receiver) = mpsc::unbounded_channel();
        // A thread of its own, because the timers of the runtime are no finer than a millisecond.
        std::thread::spawn(move || {
            for number in 0..requests {
                let time = start + due_after(rate, number);
                std::thread::sleep(time.saturating_duration_since(Instant::now()));
                if due.send(time).is_err() {
                    return; // the run has ended early
                }
            }
        });
        Self::Open(Rc::new(Mutex::new(receiver)))
    }

    /// The time that the next request is measured from, once it may be sent; None at the end.
    pub(crate) async fn next(&self) -> Option<Instant> {
        match self {
            Self::Closed { end } => {
                let now = Instant::now();
                end.is_none_or(|end| now < end).then_some(now)
            }
            Self::Open(due) => due.lock().await.recv().await,
        }
    }
}

/// When the request of this number, from 0, is due.
fn due_after(rate: f64, number: u64) -> Duration {
    Duration::from_secs_f64(number as f64 / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_even() {
        assert_eq!(due_after(4000.0, 0), Duration::ZERO);
        assert_eq!(due_after(4000.0, 1), Duration::from_micros(250));
        assert_eq!(due_after(4000.0, 8000), Duration::from_secs(2));
        assert_eq!(due_after(0.5, 3), Duration::from_secs(6));
    }

    #[tokio::test]
    async fn what_is_due_is_told_in_order_whoever_is_late() {
        let start = Instant::now();
        let pace = Pace::open(start, 1e6, 5);
        for number in 0..5 {
            assert_eq!(pace.next().await, Some(start + due_after(1e6, number)));
        }
        assert_eq!(pace.next().await, None);
    }

    #[tokio::test]
    async fn a_closed_loop_ends_in_time() {
        let now = Instant::now();
        assert!(Pace::Closed { end: None }.next().await.is_some());
        assert!(Pace::Closed { end: Some(now) }.next().await.is_none());
        let later = Some(now + Duration::from_secs(3600));
        assert!(Pace::Closed { end: later }.next().await.is_some());
    }
}
