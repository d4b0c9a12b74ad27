//! Early end of a run. SIGINT, SIGTERM and SIGHUP tell every node, end the operator's command and set the
//! exit code of a failed run.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::{Context, Result, bail};
use ka_cli::EndRequests;
use ka_host::run;
use ka_host::signals::Termination;
use ka_transport::Server;

use crate::screen;

/// The exit codes after a second signal, which waits for nothing: before any disk was written, and after.
const IMPATIENT_EXIT: [i32; 2] = [1, 3];

/// The request to end the run, by a signal or an operator.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// True if the nodes were told to write their disks.
    writes: AtomicBool,
    /// A pipe that never carries data. It reaches its end when `waker` is dropped, at the first signal.
    wakes: PipeReader,
    waker: Mutex<Option<PipeWriter>>,
}

#[derive(Debug, Default)]
struct State {
    cause: Option<String>,
    server: Weak<Server>,
}

impl Stop {
    /// Catches termination signals from now on.
    ///
    /// # Errors
    /// A thread cannot be started, or there is no descriptor left.
    pub(crate) fn on_signals() -> Result<Self> {
        let mut termination = Termination::catch().context("catching termination signals")?;
        let stop = Self::new()?;
        let watched = stop.clone();
        let watch = move || {
            let mut requests = EndRequests::default();
            while let Ok(signal) = termination.wait() {
                if !requests.is_new(signal) {
                    continue;
                }
                let is_first = watched.stop(signal);
                run::end_all(&format!("stopped by {signal}"));
                if !is_first {
                    // The standing lines' view does not come to its end.
                    screen::write_over("");
                    // The nodes notice the closed connection.
                    let writes = watched.shared.writes.load(Ordering::Relaxed);
                    std::process::exit(IMPATIENT_EXIT[usize::from(writes)]);
                }
            }
        };
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(watch)
            .context("starting the signal thread")?;
        Ok(stop)
    }

    /// Returns a request that no signal reaches.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub(crate) fn new() -> Result<Self> {
        let (wakes, waker) = io::pipe().context("making a pipe")?;
        let shared = Shared {
            state: Mutex::default(),
            writes: AtomicBool::new(false),
            wakes,
            waker: Mutex::new(Some(waker)),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Tells the nodes of `server` about the end of the run from now on. If the end was requested already,
    /// tells them now.
    pub(crate) fn abort_with(&self, server: &Arc<Server>) {
        let mut state = lock(&self.shared.state);
        state.server = Arc::downgrade(server);
        if let Some(cause) = &state.cause {
            server.abort(&aborted(cause));
        }
    }

    /// Records that disks are being written. From now on an end leaves traces.
    pub(crate) fn disks_are_written(&self) {
        self.shared.writes.store(true, Ordering::Relaxed);
    }

    /// Returns the cause of the requested end, if there is one.
    pub(crate) fn cause(&self) -> Option<String> {
        lock(&self.shared.state).cause.clone()
    }

    /// Succeeds unless the end of the run was requested.
    ///
    /// # Errors
    /// The end of the run was requested.
    pub(crate) fn check(&self) -> Result<()> {
        match self.cause() {
            Some(cause) => bail!("stopped by {cause}"),
            None => Ok(()),
        }
    }

    /// Returns a descriptor that becomes readable (at its end) when the end of the run is requested.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.shared.wakes.as_fd()
    }

    /// Records the first cause, wakes all waiting threads, and tells the nodes. Returns false for a second
    /// cause.
    pub(crate) fn stop(&self, cause: &str) -> bool {
        let mut state = lock(&self.shared.state);
        if state.cause.is_some() {
            return false;
        }
        state.cause = Some(cause.to_owned());
        let server = state.server.upgrade();
        drop(state);
        lock(&self.shared.waker).take();
        if let Some(server) = server {
            server.abort(&aborted(cause));
        }
        true
    }
}

fn aborted(cause: &str) -> String {
    format!("the server was stopped by {cause}")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::Stop;

    #[test]
    fn the_first_cause_counts_and_the_second_is_told_apart() {
        let stop = Stop::new().unwrap();
        assert!(stop.check().is_ok());
        assert!(stop.stop("SIGINT"));
        assert!(!stop.stop("SIGTERM"));
        assert_eq!(stop.check().unwrap_err().to_string(), "stopped by SIGINT");
    }
}
