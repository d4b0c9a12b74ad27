//! The end of this node's log in memory. Its readers are operators (`ka-status`) and the clone's own
//! `/var/log/ka`. Writers never wait for readers; a reader that is too slow learns how much it missed.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes of text kept: a run writes some hundred lines; this holds ten thousand.
const MAX_BYTES: usize = 1 << 20;

/// The last lines of the log, numbered from 0.
#[derive(Debug, Default)]
pub(crate) struct LogRing {
    kept: Mutex<LogLines>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct LogLines {
    lines: VecDeque<String>,
    bytes: usize,
    /// Number of the first line that is still there.
    first: u64,
}

/// Lines for a reader.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Lines that were gone before they could be read.
    pub(crate) missed: u64,
    /// The lines after those, without line breaks; empty when none came in time.
    pub(crate) lines: Vec<String>,
}

impl LogRing {
    /// Adds a line; one with line breaks becomes several.
    pub(crate) fn push(&self, text: &str) {
        let mut kept = self.lock();
        for line in text.lines() {
            kept.bytes += line.len();
            kept.lines.push_back(line.to_owned());
        }
        while kept.bytes > MAX_BYTES {
            let Some(line) = kept.lines.pop_front() else { break };
            kept.bytes -= line.len();
            kept.first += 1;
        }
        drop(kept);
        self.grown.notify_all();
    }

    /// Returns the lines from number `*next` on, at most `most`; waits for the first of them, up to `limit`.
    /// Moves `*next` behind them.
    pub(crate) fn read(&self, next: &mut u64, most: usize, limit: Duration) -> Batch {
        let kept = self.lock();
        let waited = self
            .grown
            .wait_timeout_while(kept, limit, |kept| kept.end() <= *next);
        let (kept, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let missed = kept.first.saturating_sub(*next);
        let from = usize::try_from(next.saturating_sub(kept.first)).unwrap_or(usize::MAX);
        let lines: Vec<_> = kept.lines.iter().skip(from).take(most).cloned().collect();
        *next = *next + missed + lines.len() as u64;
        Batch { missed, lines }
    }

    /// Number of the line that will come next.
    pub(crate) fn end(&self) -> u64 {
        self.lock().end()
    }

    fn lock(&self) -> MutexGuard<'_, LogLines> {
        // A poisoned lock only means that another thread panicked between two pushes: the lines are still
        // good.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogLines {
    fn end(&self) -> u64 {
        self.first + self.lines.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn a_reader_gets_each_line_once_and_waits_for_more() {
        let ring = Arc::new(LogRing::default());
        ring.push("one\ntwo");
        let mut next = 0;
        assert_eq!(ring.read(&mut next, 1, NOW).lines, ["one"]);
        assert_eq!(ring.read(&mut next, 9, NOW).lines, ["two"]);
        assert_eq!(ring.read(&mut next, 9, NOW), Batch::default());
        let writer = std::thread::spawn({
            let ring = Arc::clone(&ring);
            move || ring.push("three")
        });
        assert_eq!(ring.read(&mut next, 9, Duration::from_secs(20)).lines, ["three"]);
        writer.join().unwrap();
    }

    #[test]
    fn a_slow_reader_is_told_what_it_missed_and_memory_stays_bounded() {
        let ring = LogRing::default();
        let line = "x".repeat(1000);
        for _ in 0..3000 {
            ring.push(&line);
        }
        let mut next = 10;
        let batch = ring.read(&mut next, usize::MAX, NOW);
        assert!(batch.lines.len() * 1000 <= MAX_BYTES, "{}", batch.lines.len());
        assert_eq!(batch.missed + batch.lines.len() as u64, 2990);
        assert_eq!(next, 3000);
    }
}
