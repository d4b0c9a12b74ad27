//! The operator's consent before the first disk is erased. A person at a terminal is asked once in a run;
//! `--yes`, and a run without a person, asks nothing.

use std::fs;
use std::io::{self, IsTerminal};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ka_report::run::RunEvent;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::screen;

/// Interval of the checks for the end of the run while the operator thinks.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The question before the first disk is erased, and its answer. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Consent(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    given: Condvar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// No consent is needed, or it is given.
    #[default]
    Given,
    /// The operator is to be asked before a disk is erased.
    Needed,
    /// The question is on the screen.
    Asked,
}

impl Consent {
    /// Returns the consent that a run needs. A person is there if standard input, output and error are a terminal
    /// that this process may read. `may_ask` is false if that person wants no question.
    pub(crate) fn of_person(may_ask: bool) -> Self {
        let is_terminal =
            io::stdin().is_terminal() && io::stdout().is_terminal() && io::stderr().is_terminal();
        if may_ask && is_terminal && is_in_foreground() {
            Self::needed()
        } else {
            Self::default()
        }
    }

    fn needed() -> Self {
        let consent = Self::default();
        *consent.lock() = State::Needed;
        consent
    }

    /// True if the operator is to be asked.
    pub(crate) fn is_needed(&self) -> bool {
        *self.lock() != State::Given
    }

    /// Asks, if nobody has consented yet, and waits for the answer. The nodes hear the server's heartbeat
    /// meanwhile, so the operator may take any time. The question ends if no node is left.
    ///
    /// `show` takes the events; `has_nodes` tells if a node is left.
    ///
    /// # Errors
    /// The run was stopped (from `has_nodes`).
    pub(crate) fn ask(&self, show: impl Fn(&RunEvent), has_nodes: impl Fn() -> Result<bool>) -> Result<()> {
        let mut state = self.lock();
        if *state == State::Given {
            return Ok(());
        }
        *state = State::Asked;
        let began = Instant::now();
        show(&RunEvent::StartWanted);
        while *state != State::Given {
            if !has_nodes()? {
                // The next round asks again.
                *state = State::Needed;
                return Ok(());
            }
            let waited = self.0.given.wait_timeout(state, LOOK_INTERVAL);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let waited_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        show(&RunEvent::StartGiven { waited_ms });
        Ok(())
    }

    /// Takes a typed line. Returns false if it answers no open question of ours.
    pub(crate) fn take(&self, line: &str) -> bool {
        let mut state = self.lock();
        let is_answer = *state == State::Asked && line.trim().is_empty();
        if is_answer {
            *state = State::Given;
            self.0.given.notify_all();
        }
        is_answer
    }

    /// Reads the terminal in a thread of its own, for a run in which no other question can come.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(crate) fn read_terminal(&self) -> Result<()> {
        let consent = self.clone();
        let read = move || {
            read_lines(|line| {
                if !consent.take(line) && consent.is_needed() && !line.is_empty() {
                    "press Enter alone to start, when you are asked to; Ctrl-C stops\n".to_owned()
                } else {
                    String::new()
                }
            });
        };
        thread::Builder::new()
            .name("consent-terminal".into())
            .spawn(read)
            .map(drop)
            .context("starting a thread for the terminal")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes each line that is typed to `answer`, and shows the reply. An end of input (Ctrl-D) is no answer. A
/// process in the background does not read: the kernel would stop it, and the run with it (SIGTTIN, termios(3)).
pub(crate) fn read_lines(mut answer: impl FnMut(&str) -> String) {
    let mut line = String::new();
    loop {
        if !is_in_foreground() || !has_input() {
            thread::sleep(LOOK_INTERVAL);
            continue;
        }
        line.clear();
        match io::stdin().read_line(&mut line) {
            Ok(0) => thread::sleep(LOOK_INTERVAL),
            Ok(_) => {
                screen::write_over(&answer(line.trim()));
            }
            // Bytes that are no text.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
            Err(_) => return,
        }
    }
}

/// True if a line or an end waits on standard input.
fn has_input() -> bool {
    let stdin = io::stdin();
    let mut polled = [PollFd::new(&stdin, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// True if this process may read its terminal: it is in the terminal's foreground process group, or has no
/// controlling terminal (`pgrp` and `tpgid` of proc_pid_stat(5)).
fn is_in_foreground() -> bool {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in front may hold anything.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    match (fields.get(2), fields.get(5)) {
        (Some(group), Some(foreground)) => group == foreground || *foreground == "-1",
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_line_answers_and_only_an_open_question() {
        let consent = Consent::needed();
        assert!(!consent.take(""), "nobody is asked yet");
        *consent.lock() = State::Asked;
        assert!(!consent.take("y") && consent.is_needed());
        assert!(consent.take(" ") && !consent.is_needed());
        assert!(!consent.take(""), "the question is over");
        assert!(!Consent::default().is_needed());
    }
}
