//! Files with several names: the later names wait until the first one is complete.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::fd::BorrowedFd;
use rustix::fs::{self, IFlags, Mode, OFlags};

use super::dir::Dir;
use super::{Halt, Shared, lock};
use crate::hashing::dir_hash;
use crate::record::LinkPrefix;
use crate::tree::MAX_OPEN_LINKS;
use crate::tree::ledger::{Facts, key};

/// How often a waiting writer looks whether everything was stopped.
const STOP_CHECK: Duration = Duration::from_millis(100);
/// Bytes of names kept for groups, at most: a hostile stream must not fill the memory.
const MAX_NAME_BYTES: usize = 128 * 1024 * 1024;
/// Flags that must wait for all names; honest trees have a handful.
const MAX_SEAL_LATER: usize = 1 << 16;

/// A file with several names.
#[derive(Debug)]
pub(super) struct Group {
    /// Where its first name lies.
    pub(super) place: Arc<super::root::Place>,
    pub(super) name: Box<[u8]>,
    /// What the file is, and where, for its other names; kept when it is to be read back.
    pub(super) facts: OnceLock<Facts>,
    /// Its first name's place in the ledger.
    pub(super) key: u64,
    state: Mutex<State>,
    changed: Condvar,
}

/// How far the first name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Pending,
    Made,
    /// The target cannot hold it; then neither the other names.
    LeftOut,
}

impl Group {
    pub(super) fn new(dir: &Dir, name: &[u8]) -> Arc<Self> {
        let key = key(&dir_hash(&dir.hash, name));
        let (place, name) = (Arc::clone(&dir.place), name.into());
        Arc::new(Self {
            place,
            name,
            facts: OnceLock::new(),
            key,
            state: Mutex::new(State::Pending),
            changed: Condvar::new(),
        })
    }

    /// What its first name turned out to be.
    pub(super) fn remember(&self, facts: Option<Facts>) {
        if let Some(facts) = facts {
            let _ = self.facts.set(facts);
        }
    }

    pub(super) fn settle(&self, state: State) {
        *lock(&self.state) = state;
        self.changed.notify_all();
    }

    /// Waits until the first name is complete or left out. No deadlock: its work was handed out before.
    pub(super) fn wait(&self, shared: &Shared<'_>) -> Result<State, Halt> {
        let mut state = lock(&self.state);
        while *state == State::Pending {
            if shared.is_stopped() {
                return Err(Halt);
            }
            state = self
                .changed
                .wait_timeout(state, STOP_CHECK)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        Ok(*state)
    }
}

/// The groups whose names were not all met yet.
#[derive(Debug, Default)]
pub(super) struct Groups {
    open: HashMap<u64, (Arc<Group>, u32)>,
    name_bytes: usize,
}

impl Groups {
    /// The first name of a group.
    pub(super) fn begin(&mut self, link: LinkPrefix, group: Arc<Group>) -> Result<(), &'static str> {
        self.name_bytes += group.name.len();
        if self.open.len() >= MAX_OPEN_LINKS || self.name_bytes > MAX_NAME_BYTES {
            return Err("it has more files with several names than can be kept");
        }
        match self
            .open
            .insert(link.group, (group, link.names.saturating_sub(1)))
        {
            None => Ok(()),
            Some(_) => Err("two files with several names have the same number"),
        }
    }

    /// The file of one more name.
    pub(super) fn again(&mut self, number: u64) -> Result<Arc<Group>, &'static str> {
        let (group, left) = self
            .open
            .get_mut(&number)
            .ok_or("a name of a file that was not in it")?;
        let group = Arc::clone(group);
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.name_bytes -= group.name.len();
            self.open.remove(&number);
        }
        Ok(group)
    }
}

/// Flags after which no further name could be given: set when everything is done.
#[derive(Debug)]
pub(super) struct SealLater {
    dir: Arc<Dir>,
    name: Box<[u8]>,
    flags: u32,
}

impl SealLater {
    pub(super) fn note(shared: &Shared<'_>, dir: &Arc<Dir>, name: &[u8], flags: u32) -> Result<(), Halt> {
        let mut later = lock(&shared.seal_later);
        if later.len() >= MAX_SEAL_LATER {
            let reason = "it has more immutable files with several names than can be kept".to_owned();
            drop(later);
            return Err(shared.fail(crate::RestoreError::Stream(reason)));
        }
        later.push(Self {
            dir: Arc::clone(dir),
            name: name.into(),
            flags,
        });
        Ok(())
    }
}

/// Sets the flags that had to wait.
pub(super) fn seal(shared: &Shared<'_>) {
    if shared.is_stopped() {
        return;
    }
    for SealLater { dir, name, flags } in lock(&shared.seal_later).drain(..) {
        let set = dir.place.open().and_then(|parent| {
            let file = fs::openat(&parent, &*name, FILE_FLAGS, Mode::empty())?;
            let has = fs::ioctl_getflags(&file)?;
            Ok(fs::ioctl_setflags(&file, has | IFlags::from_bits_retain(flags))?)
        });
        if set.is_err() {
            shared.warn(
                crate::WarningKind::Flag("i or a (immutable, append only)"),
                &dir,
                &name,
            );
        }
    }
}

const FILE_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

/// Opens the first name's directory, unless it is the one at hand.
pub(super) fn with_place<T>(
    group: &Group,
    dir: &Dir,
    fd: BorrowedFd<'_>,
    run: impl FnOnce(BorrowedFd<'_>) -> T,
) -> std::io::Result<T> {
    use std::os::fd::AsFd;
    if Arc::ptr_eq(&group.place, &dir.place) {
        return Ok(run(fd));
    }
    Ok(run(group.place.open()?.as_fd()))
}
