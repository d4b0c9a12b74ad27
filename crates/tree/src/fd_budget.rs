//! A bound on open directories and files: a tree of any depth and shape must do with what `ulimit -n` allows.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

/// Left for everything else in the process: sockets, logs, the files that readers and writers have open.
const RESERVED: u64 = 128;
/// Never more, whatever the limit: descriptors are kernel memory too.
const MOST: usize = 8192;
/// Never fewer; a process with less cannot work.
const FEWEST: usize = 64;
/// The interval at which a waiting thread checks for a stop.
const STOP_CHECK: Duration = Duration::from_millis(100);

/// Counts descriptors in use.
#[derive(Debug)]
pub(crate) struct FdBudget {
    left: Mutex<usize>,
    returned: Condvar,
    total: usize,
}

impl FdBudget {
    /// Returns a share of the soft limit on open files: the sender and a restorer may live in one process
    /// (tests do).
    pub(crate) fn from_limit() -> Arc<Self> {
        let soft = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let share = usize::try_from(soft.saturating_sub(RESERVED) / 3).unwrap_or(MOST);
        let total = share.clamp(FEWEST, MOST);
        Arc::new(Self {
            left: Mutex::new(total),
            returned: Condvar::new(),
            total,
        })
    }

    /// So many directories may stay open only because something deeper is being worked on.
    pub(crate) const fn max_idle(&self) -> usize {
        self.total / 4
    }

    /// One descriptor, if one is left.
    pub(crate) fn try_take(self: &Arc<Self>) -> Option<Permit> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.checked_sub(1)?;
        Some(Permit(Arc::clone(self)))
    }

    /// One descriptor, waiting until one is returned; `None` once `stop` is set.
    pub(crate) fn take(self: &Arc<Self>, stop: &AtomicBool) -> Option<Permit> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        while *left == 0 {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            left = self
                .returned
                .wait_timeout(left, STOP_CHECK)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        *left -= 1;
        Some(Permit(Arc::clone(self)))
    }
}

/// The right to one descriptor; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<FdBudget>);

impl Drop for Permit {
    fn drop(&mut self) {
        *self.0.left.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.returned.notify_one();
    }
}

/// An open directory or file that counts.
#[derive(Debug)]
pub(crate) struct CountedFd {
    // Closed before the permit goes back: fields drop in order.
    fd: OwnedFd,
    _permit: Permit,
}

impl CountedFd {
    pub(crate) const fn new(fd: OwnedFd, permit: Permit) -> Self {
        Self { fd, _permit: permit }
    }
}

impl AsFd for CountedFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
