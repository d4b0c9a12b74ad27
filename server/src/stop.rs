//! Ending a run early: SIGINT, SIGTERM and SIGHUP tell every node, end the operator's command and leave the exit
//! code of a run that failed.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::{Context, Result, bail};
use crossbeam_channel::{Receiver, Sender, bounded};
use ka_host::signals::Termination;
use ka_transport::Server;

/// The exit code after a second signal, which does not wait for anything.
const IMPATIENT_EXIT: i32 = 1;

/// Whether somebody asked for the end of the run.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    shared: Arc<Shared>,
    stopped: Receiver<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Dropped at the first signal: every receiver of the channel wakes then.
    waker: Mutex<Option<Sender<()>>>,
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
        let stop = Self::new();
        let shared = Arc::clone(&stop.shared);
        let watch = move || {
            while let Ok(signal) = termination.wait() {
                if !shared.stop(signal) {
                    // Children of ours die with us (PR_SET_PDEATHSIG), nodes notice the closed connection.
                    std::process::exit(IMPATIENT_EXIT);
                }
            }
        };
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(watch)
            .context("starting the signal thread")?;
        Ok(stop)
    }

    fn new() -> Self {
        let (waker, stopped) = bounded(0);
        let shared = Shared {
            state: Mutex::default(),
            waker: Mutex::new(Some(waker)),
        };
        Self {
            shared: Arc::new(shared),
            stopped,
        }
    }

    /// From now on the end of the run is told to the nodes of `server`.
    pub(crate) fn abort_with(&self, server: &Arc<Server>) {
        lock(&self.shared.state).server = Arc::downgrade(server);
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

    /// A channel on which nothing ever comes, and which closes when somebody asks for the end of the run.
    pub(crate) fn stopped(&self) -> &Receiver<()> {
        &self.stopped
    }
}

impl Shared {
    /// Notes the first cause and tells the nodes; false for a second one.
    fn stop(&self, cause: &str) -> bool {
        let mut state = lock(&self.state);
        if state.cause.is_some() {
            return false;
        }
        state.cause = Some(cause.to_owned());
        let server = state.server.upgrade();
        drop(state);
        lock(&self.waker).take();
        if let Some(server) = server {
            server.abort(&format!("the server was stopped by {cause}"));
        }
        true
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::Stop;

    #[test]
    fn the_first_cause_wakes_everybody_and_the_second_is_told_apart() {
        let stop = Stop::new();
        assert!(stop.check().is_ok());
        assert!(stop.stopped().try_recv().is_err_and(|error| error.is_empty()));
        assert!(stop.shared.stop("SIGINT"));
        assert!(!stop.shared.stop("SIGTERM"));
        assert!(stop.stopped().recv().is_err());
        assert_eq!(stop.check().unwrap_err().to_string(), "stopped by SIGINT");
    }
}
