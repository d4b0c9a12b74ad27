//! Stop requests: Ctrl-C, `kill`, a closed terminal.
//!
//! The first request ends the run in order. Running programs are ended with their children (one may take half
//! an hour), and their step fails. Everything is unmounted and reported. A second one ends the process at
//! once; its mounts end with it, for nothing else is left in its mount namespace.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, bail};
use ka_cli::EndRequests;
use ka_host::run;
use ka_host::signals::Termination;

/// Exit code of a second, impatient signal: the disk may be half written, and the server only sees the
/// connection end.
const IMPATIENT_EXIT_CODE: i32 = 3;

/// The shared request to end the run.
#[derive(Clone, Default)]
pub(crate) struct Stop {
    state: Arc<Mutex<StopState>>,
}

#[derive(Default)]
enum StopState {
    #[default]
    Running,
    /// Function that the first request calls, once. It wakes threads that wait for the network.
    RunningWith(Box<dyn FnOnce(&str) + Send>),
    Requested(String),
}

impl Stop {
    /// Catches termination signals from now on, in a thread of its own.
    ///
    /// # Errors
    /// The handlers or the thread cannot be set up.
    pub(crate) fn on_signals() -> anyhow::Result<Self> {
        let stop = Self::default();
        let mut termination = Termination::catch().context("catching termination signals")?;
        let shared = stop.clone();
        let listen = move || {
            let mut requests = EndRequests::default();
            while let Ok(signal) = termination.wait() {
                if !requests.is_new(signal) {
                    continue;
                }
                let is_second = shared.is_requested();
                shared.request(signal);
                run::end_all(&format!("stopped by {signal}"));
                if is_second {
                    std::process::exit(IMPATIENT_EXIT_CODE);
                }
            }
        };
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(listen)
            .context("starting the signal thread")?;
        Ok(stop)
    }

    /// Returns a stop that only [`Self::request`] asks for.
    #[cfg(test)]
    pub(crate) fn never() -> Self {
        Self::default()
    }

    /// Asks for the run to end because of `cause`, a signal's name.
    pub(crate) fn request(&self, cause: &str) {
        let before = std::mem::replace(&mut *self.lock(), StopState::Requested(cause.to_owned()));
        match before {
            StopState::Running => {}
            StopState::RunningWith(wake) => wake(cause),
            StopState::Requested(first) => *self.lock() = StopState::Requested(first),
        }
    }

    /// `wake` is called at the first request, or now if there was one already.
    pub(crate) fn when_requested(&self, wake: impl FnOnce(&str) + Send + 'static) {
        let mut state = self.lock();
        if let StopState::Requested(cause) = &*state {
            let cause = cause.clone();
            drop(state);
            wake(&cause);
        } else {
            *state = StopState::RunningWith(Box::new(wake));
        }
    }

    /// True once the end was requested.
    pub(crate) fn is_requested(&self) -> bool {
        matches!(&*self.lock(), StopState::Requested(_))
    }

    /// # Errors
    /// The end was requested; the error names the signal.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if let StopState::Requested(cause) = &*self.lock() {
            bail!("stopped by {cause}");
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, StopState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn the_first_request_wakes_once_and_keeps_its_cause() {
        let stop = Stop::never();
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        stop.when_requested(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        assert!(stop.check().is_ok());
        stop.request("SIGINT");
        stop.request("SIGTERM");
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        assert_eq!(stop.check().unwrap_err().to_string(), "stopped by SIGINT");
    }

    #[test]
    fn a_request_before_anyone_listens_is_not_lost() {
        let stop = Stop::never();
        stop.request("SIGTERM");
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        stop.when_requested(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        assert_eq!(woken.load(Ordering::SeqCst), 1);
    }
}
