//! A line to the operator while a step takes long. The server is never silent for minutes.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ka_cli::say;
use ka_report::text::clock;

/// Interval of the lines. A shorter step shows only its beginning.
const INTERVAL: Duration = Duration::from_secs(15);

/// A running step that is repeated on standard error. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Still {
    end: Option<Sender<()>>,
    teller: Option<JoinHandle<()>>,
}

impl Still {
    /// Shows the beginning of a step, and every 15 s that it still runs. Shows nothing if `quiet`.
    pub(crate) fn doing(what: &str, quiet: bool) -> Self {
        let none = Self {
            end: None,
            teller: None,
        };
        if quiet {
            return none;
        }
        say(&format!("{what} …"));
        let (end, ended) = mpsc::channel::<()>();
        let (what, began) = (what.to_owned(), Instant::now());
        let tell = move || {
            while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                say(&format!("{what} … still, after {}", clock(began.elapsed())));
            }
        };
        // Without a thread the later lines are missing.
        match thread::Builder::new().name("still".into()).spawn(tell) {
            Ok(teller) => Self {
                end: Some(end),
                teller: Some(teller),
            },
            Err(_) => none,
        }
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(teller) = self.teller.take() {
            // The thread has no code that panics.
            let _ = teller.join();
        }
    }
}
