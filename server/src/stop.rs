//! Ending a run early: SIGINT, SIGTERM and SIGHUP tell every node, end the operator's command and leave the exit
//! code of a run that failed.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::{Context, Result, bail};
use ka_host::run;
use ka_host::signals::Termination;
use ka_transport::Server;

/// The exit codes after a second signal, which does not wait for anything: before any disk was written, and after.
const IMPATIENT_EXIT: [i32; 2] = [1, 3];

/// Whether somebody asked for the end of the run.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The nodes were told to write their disks.
    writes: AtomicBool,
    /// Nothing ever comes through this pipe; its end comes when `waker` is dropped, at the first signal.
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
    /// No thread or descriptor can be had.
    pub(crate) fn on_signals() -> Result<Self> {
        let mut termination = Termination::catch().context("catching termination signals")?;
        let stop = Self::new()?;
        let watched = stop.clone();
        let watch = move || {
            while let Ok(signal) = termination.wait() {
                let is_first = watched.stop(signal);
                run::end_all(&format!("stopped by {signal}"));
                if !is_first {
                    // Nodes notice the closed connection.
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

    /// One that no signal reaches.
    ///
    /// # Errors
    /// No descriptor can be had.
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

    /// From now on the end of the run is told to the nodes of `server`; now, if somebody has asked for it already.
    pub(crate) fn abort_with(&self, server: &Arc<Server>) {
        let mut state = lock(&self.shared.state);
        state.server = Arc::downgrade(server);
        if let Some(cause) = &state.cause {
            server.abort(&aborted(cause));
        }
    }

    /// From now on disks are being written: an end is no longer one of which nothing is left.
    pub(crate) fn disks_are_written(&self) {
        self.shared.writes.store(true, Ordering::Relaxed);
    }

    /// What asked for the end of the run, if anything did.
    pub(crate) fn cause(&self) -> Option<String> {
        lock(&self.shared.state).cause.clone()
    }

    /// # Errors
    /// Somebody asked for the end of the run.
    pub(crate) fn check(&self) -> Result<()> {
        match self.cause() {
            Some(cause) => bail!("stopped by {cause}"),
            None => Ok(()),
        }
    }

    /// A descriptor that becomes readable (at its end) when somebody asks for the end of the run.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.shared.wakes.as_fd()
    }

    /// Notes the first cause, wakes whoever waits, and tells the nodes; false for a second cause.
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
