//! Files with several names: the first one in the stream carries the file, the others point to it.
//!
//! Readers work at the same time. So a reader that meets such a file waits until all earlier jobs are done
//! with theirs, and the first name in the stream always has the content. Memory grows with the files whose
//! names were not all met yet, up to a bound.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::record::LinkPrefix;
use crate::tree::MAX_OPEN_LINKS;

/// The interval at which a waiting reader checks for a stop.
const STOP_CHECK: Duration = Duration::from_millis(100);

/// The role of a reader that meets a file with several names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// It is the first name: send the file.
    First(LinkPrefix),
    /// Send only the name.
    Again { group: u64 },
    /// Too many such files are open: send it as a file of its own, and say so.
    TooMany,
}

#[derive(Debug, Default)]
struct ClaimState {
    open: HashMap<(u64, u64), (u64, u32)>,
    groups: u64,
    /// All jobs before this one are done with their files.
    turn: u64,
    done_later: BTreeSet<u64>,
}

/// The files with several names, by device and inode.
#[derive(Debug, Default)]
pub(super) struct Links {
    state: Mutex<ClaimState>,
    moved_on: Condvar,
}

impl Links {
    /// Returns the role of the file that job `job` just met. Waits for the earlier jobs.
    pub(super) fn claim(&self, job: u64, stop: &AtomicBool, inode: (u64, u64), names: u32) -> Claim {
        let mut state = self.lock();
        while state.turn < job && !stop.load(Ordering::Relaxed) {
            state = self
                .moved_on
                .wait_timeout(state, STOP_CHECK)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        if let Some((group, left)) = state.open.get_mut(&inode) {
            let group = *group;
            *left = left.saturating_sub(1);
            if *left == 0 {
                state.open.remove(&inode);
            }
            return Claim::Again { group };
        }
        if state.open.len() >= MAX_OPEN_LINKS {
            return Claim::TooMany;
        }
        state.groups += 1;
        let group = state.groups;
        state.open.insert(inode, (group, names.saturating_sub(1)));
        Claim::First(LinkPrefix { group, names })
    }

    /// Job `job` meets no more files.
    pub(super) fn finish(&self, job: u64) {
        let mut state = self.lock();
        state.done_later.insert(job);
        while state.done_later.first() == Some(&state.turn) {
            state.done_later.pop_first();
            state.turn += 1;
        }
        drop(state);
        self.moved_on.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, ClaimState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn the_earlier_job_gets_the_content_even_when_the_later_one_asks_first() {
        let links = Links::default();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let late = scope.spawn(|| links.claim(1, &stop, (1, 2), 2));
            thread::sleep(Duration::from_millis(20));
            let first = links.claim(0, &stop, (1, 2), 2);
            links.finish(0);
            assert_eq!(first, Claim::First(LinkPrefix { group: 1, names: 2 }));
            assert_eq!(late.join().unwrap(), Claim::Again { group: 1 });
        });
        assert!(links.lock().open.is_empty(), "all names were met");
    }

    #[test]
    fn a_waiting_reader_ends_when_everything_stops() {
        let links = Links::default();
        links.claim(9, &AtomicBool::new(true), (1, 2), 2);
    }
}
