//! A word to the operator while something takes long: nothing is silent for minutes.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ka_cli::say;
use ka_status::text::clock;

/// Between two lines. What takes less says its beginning only.
const INTERVAL: Duration = Duration::from_secs(15);

/// A piece of work that says on standard error that it goes on; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Still {
    end: Option<Sender<()>>,
    teller: Option<JoinHandle<()>>,
}

impl Still {
    /// Says what begins, and every 15 s that it still lasts. Says nothing where `quiet`.
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
        // Without a thread there is a line less.
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
            // It has nothing to panic about.
            let _ = teller.join();
        }
    }
}
