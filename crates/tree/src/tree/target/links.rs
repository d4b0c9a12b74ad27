//! Files with several names: the later names wait until the first one is complete.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::fd::BorrowedFd;
use rustix::fs::{self, IFlags, Mode, OFlags};

use super::dir::Dir;
use super::shared::{Halt, Shared};
use crate::hashing::dir_hash;
use crate::record::LinkPrefix;
use crate::sync::lock;
use crate::tree::MAX_OPEN_LINKS;
use crate::tree::ledger::{Facts, key};
use crate::warning::WarningKind;

/// The interval at which a waiting writer checks for a stop.
const STOP_CHECK: Duration = Duration::from_millis(100);
/// Bytes of names kept for groups, at most: a hostile stream must not fill the memory.
const MAX_NAME_BYTES: usize = 128 * 1024 * 1024;

/// A file with several names.
#[derive(Debug)]
pub(super) struct Group {
    /// The directory of its first name.
    pub(super) place: Arc<super::root::Place>,
    pub(super) name: Box<[u8]>,
    /// The file's facts, for its other names; kept when it is to be read back.
    pub(super) facts: OnceLock<Facts>,
    /// Its first name's place in the ledger.
    pub(super) key: u64,
    state: Mutex<NameState>,
    changed: Condvar,
}

/// The state of the first name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameState {
    Pending,
    Made,
    /// The target cannot hold it; then neither the other names.
    LeftOut,
}

impl Group {
    pub(super) fn new(dir: &Dir, name: &[u8]) -> Arc<Self> {
        let key = key(&dir_hash(&dir.location.hash, name));
        let (place, name) = (Arc::clone(&dir.location.place), name.into());
        Arc::new(Self {
            place,
            name,
            facts: OnceLock::new(),
            key,
            state: Mutex::new(NameState::Pending),
            changed: Condvar::new(),
        })
    }

    /// Keeps the facts of the file behind its first name.
    pub(super) fn remember(&self, facts: Option<Facts>) {
        if let Some(facts) = facts {
            let _ = self.facts.set(facts);
        }
    }

    pub(super) fn settle(&self, state: NameState) {
        *lock(&self.state) = state;
        self.changed.notify_all();
    }

    /// Waits until the first name is complete or left out. No deadlock: its work was handed out before.
    pub(super) fn wait(&self, shared: &Shared<'_>) -> Result<NameState, Halt> {
        let mut state = lock(&self.state);
        while *state == NameState::Pending {
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

/// Sets the flags that had to wait for all names.
pub(super) fn set_late_flags(shared: &Shared<'_>) {
    if shared.is_stopped() {
        return;
    }
    for late in lock(&shared.late_flags).drain(..) {
        let set = late.place.open().and_then(|parent| {
            let file = fs::openat(&parent, &*late.name, FILE_FLAGS, Mode::empty())?;
            let has = fs::ioctl_getflags(&file)?;
            Ok(fs::ioctl_setflags(
                &file,
                has | IFlags::from_bits_retain(late.flags),
            )?)
        });
        if set.is_err() {
            let kind = WarningKind::Flag("i or a (immutable, append only)");
            let path = late.place.path_of(&late.name);
            shared.warnings.add(kind, &late.file_system.name, &path);
            if let Some(keeper) = &shared.keeper {
                keeper.inexact(late.key);
            }
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
    if Arc::ptr_eq(&group.place, &dir.location.place) {
        return Ok(run(fd));
    }
    Ok(run(group.place.open()?.as_fd()))
}
