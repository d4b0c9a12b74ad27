//! The end of a run, told at once to a node that may be busy for half an hour.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

type AbortCallback = Box<dyn FnOnce(&str) + Send>;

/// The end of the run, once the server has told it, and the one function that wants to hear of it.
#[derive(Clone, Default)]
pub(super) struct Aborts(Arc<Mutex<AbortState>>);

#[derive(Default)]
struct AbortState {
    reason: Option<String>,
    told: Option<AbortCallback>,
}

impl Aborts {
    /// The run has ended.
    pub(super) fn abort(&self, reason: &str) {
        let told = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.reason.get_or_insert_with(|| reason.to_owned());
            state.told.take()
        };
        if let Some(told) = told {
            // It may wait for the work that it ends, and must not hold up the connection.
            let reason = reason.to_owned();
            let thread = std::thread::Builder::new().name("run ended".into());
            if let Err(error) = thread.spawn(move || told(&reason)) {
                tracing::warn!(%error, "the end of the run is told later");
            }
        }
    }

    /// `told` is called then, or now.
    pub(super) fn when_aborted(&self, told: AbortCallback) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.reason.clone() {
            Some(reason) => {
                drop(state);
                told(&reason);
            }
            None => state.told = Some(told),
        }
    }
}

impl fmt::Debug for Aborts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aborts")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::Aborts;

    #[test]
    fn the_end_is_told_once_before_or_after_somebody_listens() {
        let (sender, told) = channel();
        let aborts = Aborts::default();
        let to = sender.clone();
        aborts.when_aborted(Box::new(move |reason| to.send(reason.to_owned()).unwrap()));
        aborts.abort("one");
        aborts.abort("again");
        assert_eq!(told.recv().unwrap(), "one");
        aborts.when_aborted(Box::new(move |reason| sender.send(reason.to_owned()).unwrap()));
        assert_eq!(told.iter().collect::<Vec<_>>(), ["one"]);
    }
}
