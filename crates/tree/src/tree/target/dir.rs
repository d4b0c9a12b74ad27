//! A directory of the clone under way: made when the stream enters it, finished when its last entry is.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ka_host::subvolume;
use rustix::fs::{self, Mode};
use rustix::io::Errno;

use super::apply;
use super::created::Created;
use super::entry::{Entry, Location};
use super::root::{FileSystem, Place, open_dir};
use super::shared::{Halt, Shared};
use crate::fd_budget::{CountedFd, Permit};
use crate::hashing::{dir_hash, entry_hash};
use crate::meta::{Meta, Subvolume};
use crate::record::{Cursor, Kind};
use crate::sync::lock;
use crate::tree::Tally;
use crate::warning::WarningKind;

/// A directory whose entries are being made.
#[derive(Debug)]
pub(super) struct Dir {
    pub(super) id: u64,
    pub(super) location: Location,
    parent: Option<Arc<Self>>,
    kind: Kind,
    /// The encoded entry, for the end.
    entry: Box<[u8]>,
    created: Created,
    /// Made as a subvolume; to be marked read-only at its end when that is set.
    is_subvolume: bool,
    /// The root of another target, seen here a second time: what its own source says about it counts, whichever of
    /// the two comes first.
    is_target: bool,
    /// The target cannot hold it, which was told; what lies in it is only counted.
    pub(super) is_left_out: bool,
    /// Work under way in it, and one for as long as the stream is in it.
    pending: AtomicUsize,
    /// Entries made in it, counted when they are to be read back.
    entries: AtomicU64,
    /// `None` while something deep beneath is being made, and for a directory that the target cannot hold.
    fd: Mutex<Option<Arc<CountedFd>>>,
}

/// A directory for work under way: it may be closed meanwhile, or left out by the target.
pub(super) struct HeldDir {
    pub(super) dir: Arc<Dir>,
    /// `None` when the target cannot hold the directory: then nothing is made in it.
    pub(super) fd: Option<Arc<CountedFd>>,
}

/// The stream's announcement of a directory that it enters.
pub(super) struct NewDir<'a> {
    pub(super) id: u64,
    pub(super) entry: &'a [u8],
    pub(super) meta: Meta<'a>,
}

impl Dir {
    /// The root of a source, at its target's root.
    pub(super) fn root(
        shared: &Shared<'_>,
        place: Arc<Place>,
        hash: [u8; 32],
        new: &NewDir<'_>,
        permit: Permit,
    ) -> Result<Arc<Self>, Halt> {
        let fd = place
            .open()
            .map_err(|error| shared.write_failed("opening", &place.path(), error))?;
        let file_system = FileSystem::of(&fd);
        let file_system =
            file_system.map_err(|errno| shared.write_failed("opening", &place.path(), errno.into()))?;
        without_default_acl(&fd);
        let location = Location {
            place,
            file_system: Arc::new(file_system),
            hash,
        };
        let dir = Self::closed(new, location, None);
        dir.opened(CountedFd::new(fd, permit));
        Ok(Arc::new(dir))
    }

    /// Makes a directory in `parent`. One that is there already (a mount point, `lost+found`) is taken as it is.
    pub(super) fn make(
        shared: &Shared<'_>,
        parent: &Arc<Self>,
        new: &NewDir<'_>,
        permit: Permit,
    ) -> Result<Arc<Self>, Halt> {
        let name = new.meta.name;
        let location = Location {
            place: Place::child(&parent.location.place, name),
            file_system: Arc::clone(&parent.location.file_system),
            hash: dir_hash(&parent.location.hash, name),
        };
        let mut dir = Self::closed(new, location, Some(Arc::clone(parent)));
        if let Some(parent_fd) = parent.fd()
            && let Some((created, is_subvolume)) =
                make_directory(parent.entry(shared, name), &parent_fd, &new.meta)?
        {
            let failed = |errno| dir.itself(shared).failed("opening", errno);
            let fd = open_dir(&parent_fd, name).map_err(failed)?;
            if created == Created::Before {
                let file_system = FileSystem::of(&fd).map_err(failed)?;
                dir.location.file_system = Arc::new(file_system);
                let at = fs::fstat(&fd).map(|stat| (stat.st_dev, stat.st_ino));
                dir.is_target = at.is_ok_and(|at| shared.mount_points.contains(&at));
                if dir.is_target {
                    dir.itself(shared).inexact();
                } else {
                    without_default_acl(&fd);
                }
            }
            dir.created = created;
            dir.is_subvolume = is_subvolume;
            if !dir.is_target {
                apply::flags_of_empty_directory(dir.itself(shared), &fd, &new.meta);
            }
            dir.opened(CountedFd::new(fd, permit));
        }
        dir.is_left_out = lock(&dir.fd).is_none();
        if !dir.is_left_out {
            parent.count_entry();
        }
        parent.pending.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(dir))
    }

    /// A directory that the stream is in, taken as it is there and not open yet. Without a parent it is a root.
    fn closed(new: &NewDir<'_>, location: Location, parent: Option<Arc<Self>>) -> Self {
        Self {
            id: new.id,
            location,
            kind: if parent.is_some() { Kind::Dir } else { Kind::Root },
            parent,
            entry: new.entry.into(),
            created: Created::Before,
            is_subvolume: false,
            is_target: false,
            is_left_out: false,
            pending: AtomicUsize::new(1),
            entries: AtomicU64::new(0),
            fd: Mutex::new(None),
        }
    }

    /// The entry `name` of it.
    pub(super) const fn entry<'a>(&'a self, shared: &'a Shared<'a>, name: &'a [u8]) -> Entry<'a> {
        Entry::new(shared, &self.location, name)
    }

    /// This directory as the entry that is being made.
    const fn itself<'a>(&'a self, shared: &'a Shared<'a>) -> Entry<'a> {
        Entry::directory(shared, &self.location)
    }

    /// Counts an entry made in it.
    pub(super) fn count_entry(&self) {
        self.entries.fetch_add(1, Ordering::Relaxed);
    }

    /// The open directory; `None` while it is closed, and when the target cannot hold it.
    pub(super) fn fd(&self) -> Option<Arc<CountedFd>> {
        lock(&self.fd).clone()
    }

    /// Closes it for now.
    pub(super) fn close(&self) {
        *lock(&self.fd) = None;
    }

    /// From now on it is open.
    pub(super) fn opened(&self, fd: CountedFd) {
        *lock(&self.fd) = Some(Arc::new(fd));
    }

    /// Something more is under way in it; [`Dir::release`] must follow. To be called while the stream is in it.
    pub(super) fn hold(self: &Arc<Self>) -> HeldDir {
        self.pending.fetch_add(1, Ordering::Relaxed);
        HeldDir {
            dir: Arc::clone(self),
            fd: self.fd(),
        }
    }

    /// Something in it is done. When it was the last: owner, mode, attributes, times; then the parent's turn.
    pub(super) fn release(self: &Arc<Self>, shared: &Shared<'_>, tally: &mut Tally) -> Result<(), Halt> {
        let mut dir = Arc::clone(self);
        while dir.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            dir.finish(shared, tally)?;
            let Some(parent) = dir.parent.clone() else { break };
            dir = parent;
        }
        Ok(())
    }

    fn finish(&self, shared: &Shared<'_>, tally: &mut Tally) -> Result<(), Halt> {
        shared.kept_bytes.fetch_sub(self.entry.len(), Ordering::Relaxed);
        let mut cursor = Cursor(&self.entry);
        let meta = if self.kind == Kind::Root {
            Meta::take_root(&mut cursor)
        } else {
            Meta::take(&mut cursor)
        };
        let meta = meta.map_err(|malformed| shared.damaged(malformed))?;
        if self.fd().is_none() && !self.is_left_out {
            return Err(self.itself(shared).failed("finishing", Errno::BADF));
        }
        if let Some(fd) = self.fd() {
            if !self.is_target {
                apply::to_directory(self.itself(shared), &*fd, &meta, self.created)?;
            }
            if self.is_subvolume
                && meta.subvolume == Subvolume::ReadOnly
                && subvolume::set_read_only(&*fd).is_err()
            {
                self.itself(shared).warn(WarningKind::Subvolume);
            }
            self.itself(shared)
                .note(self.kind, &meta, || self.entries.load(Ordering::Relaxed));
        }
        self.close();
        tally.add_directory(&entry_hash(self.kind, &self.location.hash, &self.entry, &[]));
        Ok(())
    }
}

impl Drop for Dir {
    /// One by one: a chain of many thousand would overflow the stack.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(mut dir) = next.and_then(Arc::into_inner) {
            next = dir.parent.take();
        }
    }
}

/// Makes the directory. Gives how it was made and whether as a subvolume; `None` when the target cannot hold it.
fn make_directory(
    entry: Entry<'_>,
    parent: &CountedFd,
    meta: &Meta<'_>,
) -> Result<Option<(Created, bool)>, Halt> {
    if meta.subvolume != Subvolume::No && make_subvolume(entry, parent)? {
        return Ok(Some((Created::Private, true)));
    }
    let created = entry.creation(meta, 0o700);
    match fs::mkdirat(parent, entry.name, Mode::from_raw_mode(created.mode(0o700))) {
        Ok(()) => Ok(Some((created, false))),
        Err(Errno::EXIST) => Ok(Some((Created::Before, false))),
        Err(errno) => {
            entry.leave_out(WarningKind::Name, "creating", errno)?;
            Ok(None)
        }
    }
}

/// Makes the directory as a subvolume. Gives false where it exists, or the target has no subvolumes.
fn make_subvolume(entry: Entry<'_>, parent: &CountedFd) -> Result<bool, Halt> {
    match subvolume::create(parent.as_fd(), entry.name) {
        Ok(()) => Ok(true),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::EXIST) => Ok(false),
            Some(Errno::NOTTY | Errno::OPNOTSUPP | Errno::INVAL) => {
                entry.warn(WarningKind::Subvolume);
                Ok(false)
            }
            errno => Err(entry.failed("creating", errno.unwrap_or(Errno::IO))),
        },
    }
}

/// A directory that was there before may hand its default ACL down to what is made in it.
fn without_default_acl(fd: impl AsFd) {
    let _ = fs::fremovexattr(fd, c"system.posix_acl_default");
}
