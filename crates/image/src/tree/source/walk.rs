//! The walk: one thread lists directories, depth first, files of a directory before its subdirectories, and cuts
//! the work into jobs for the readers. It opens directories and nothing else.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags, RawDir, Statx, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::Shared;
use super::dir::{Dir, Names};
use super::rules::{Action, Rules};
use crate::error::SendError;
use crate::fd_budget::{CountedFd, Permit};
use crate::pipeline::{Sink, Stopped};
use crate::problem::ProblemKind;
use crate::tree::{MAX_DEPTH, TreeSource};

/// Entries a job holds. Many blocks of usual files; few enough that two readers share a small tree evenly.
const JOB_ENTRIES: usize = 256;
/// So many names of one directory are sorted at a time; a directory of millions is never in memory as a whole.
const SORT_ENTRIES: usize = 4096;
/// One getdents64 call; about a thousand names.
const LISTING_BYTES: usize = 64 * 1024;

/// How every directory and file of the golden tree is opened: never through a link, leaving no trace.
pub(super) const OPEN_FLAGS: OFlags = OFlags::NOFOLLOW
    .union(OFlags::NOATIME)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOCTTY);

/// What a reader does, in the order of the stream.
pub(super) enum Op {
    /// Describe a directory and make it the current one.
    Enter {
        dir: Arc<Dir>,
        place: Place,
        found: Found,
    },
    /// Read these entries of the current directory.
    Entries {
        dir: Arc<Dir>,
        fd: Arc<CountedFd>,
        names: Names,
    },
    /// The directory is complete.
    Leave { dir: Arc<Dir> },
}

/// Where a directory lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Root { mount_id: u32 },
    Beneath,
}

/// How to learn about a directory.
pub(super) enum Found {
    /// It is open.
    Open(Arc<CountedFd>),
    /// It is a mount point or may not be opened: only this is known.
    Stat(Box<Statx>),
}

/// Consecutive operations for one reader.
pub(super) struct Job {
    /// Position in the stream.
    pub(super) number: u64,
    pub(super) ops: Vec<Op>,
}

struct Frame<'r> {
    dir: Arc<Dir>,
    /// Closed while something deep beneath is being walked.
    fd: Option<Arc<CountedFd>>,
    identity: (u64, u64),
    subdirs: Names,
    next: usize,
    rules: Option<&'r Rules>,
}

impl<'r> Frame<'r> {
    fn new(dir: Arc<Dir>, fd: Arc<CountedFd>, identity: (u64, u64), rules: Option<&'r Rules>) -> Self {
        Self {
            dir,
            fd: Some(fd),
            identity,
            subdirs: Names::default(),
            next: 0,
            rules,
        }
    }
}

/// Walks the sources one after the other.
pub(super) struct Walker<'a> {
    shared: &'a Shared<'a>,
    stop: &'a AtomicBool,
    sink: Sink<Job>,
    ops: Vec<Op>,
    entries: usize,
    jobs: u64,
    dirs: u64,
    buffer: Vec<MaybeUninit<u8>>,
    failed: Option<SendError>,
}

impl<'a> Walker<'a> {
    pub(super) fn new(shared: &'a Shared<'a>, stop: &'a AtomicBool, sink: Sink<Job>) -> Self {
        let buffer = vec![MaybeUninit::uninit(); LISTING_BYTES];
        Self {
            shared,
            stop,
            sink,
            ops: Vec::new(),
            entries: 0,
            jobs: 0,
            dirs: 0,
            buffer,
            failed: None,
        }
    }

    /// Everything, until the end or until the consumer is gone.
    pub(super) fn run(mut self, sources: &[(TreeSource, Rules)]) -> Result<(), SendError> {
        for (index, (source, rules)) in sources.iter().enumerate() {
            if self.walk_source(index, source, rules).is_err() {
                break;
            }
        }
        let _ = self.flush();
        self.failed.take().map_or(Ok(()), Err)
    }

    fn walk_source(&mut self, index: usize, source: &TreeSource, rules: &Rules) -> Result<(), Stopped> {
        let permit = self.permit()?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = fs::openat(CWD, &source.root, flags, Mode::empty());
        let fd = match opened {
            Ok(fd) => Arc::new(CountedFd::new(fd, permit)),
            Err(errno) => {
                self.failed = Some(SendError::Open {
                    path: source.root.clone(),
                    source: errno.into(),
                });
                return Err(Stopped);
            }
        };
        let identity = identity(&fd);
        self.dirs += 1;
        let dir = Dir::root(self.dirs, identity.0, index, source.mount_id, source.root.clone());
        let place = Place::Root {
            mount_id: source.mount_id,
        };
        let mut stack = Vec::new();
        self.enter(&mut stack, Frame::new(dir, fd, identity, Some(rules)), place)?;
        while !stack.is_empty() {
            self.step(&mut stack)?;
        }
        Ok(())
    }

    /// The next subdirectory of the innermost directory, or back to its parent.
    fn step<'r>(&mut self, stack: &mut Vec<Frame<'r>>) -> Result<(), Stopped> {
        let Some(top) = stack.last_mut() else {
            return Ok(());
        };
        let Some((name, _)) = top.subdirs.at(top.next) else {
            return self.leave(stack);
        };
        let name = name.to_owned();
        top.next += 1;
        let rules = top.rules.and_then(|rules| rules.beneath(name.to_bytes()));
        let Some(fd) = top.fd.clone() else {
            self.shared
                .problem(&top.dir, name.to_bytes(), ProblemKind::Vanished);
            return Ok(());
        };
        let parent = Arc::clone(&top.dir);
        let permit = self.permit()?;
        let found = match self.look(&fd, &name) {
            Ok(found) => found,
            Err(errno) => {
                self.shared.problem(&parent, name.to_bytes(), kind_of(errno));
                return Ok(());
            }
        };
        if stack.len() >= MAX_DEPTH {
            let reason = format!("it lies more than {MAX_DEPTH} directories deep");
            self.shared
                .problem(&parent, name.to_bytes(), ProblemKind::Unreadable(reason));
            return Ok(());
        }
        self.dirs += 1;
        match found {
            Ok(fd) => {
                let fd = Arc::new(CountedFd::new(fd, permit));
                let identity = identity(&fd);
                let dir = Dir::child(&parent, self.dirs, identity.0, name.to_bytes());
                self.close_idle(stack);
                self.enter(stack, Frame::new(dir, fd, identity, rules), Place::Beneath)
            }
            Err(stat) => {
                let dir = Dir::child(&parent, self.dirs, 0, name.to_bytes());
                self.push(Op::Enter {
                    dir: Arc::clone(&dir),
                    place: Place::Beneath,
                    found: Found::Stat(stat),
                })?;
                self.push(Op::Leave { dir })
            }
        }
    }

    /// Opens a subdirectory; a mount point is not opened (that could mount something), only looked at.
    fn look(&self, parent: &CountedFd, name: &CStr) -> Result<Result<OwnedFd, Box<Statx>>, Errno> {
        let stat = fs::statx(parent, name, STAT_FLAGS, StatxFlags::BASIC_STATS)?;
        if is_mount_root(&stat) {
            return Ok(Err(Box::new(stat)));
        }
        match fs::openat(
            parent,
            name,
            OPEN_FLAGS | OFlags::RDONLY | OFlags::DIRECTORY,
            Mode::empty(),
        ) {
            Ok(fd) => Ok(Ok(fd)),
            Err(Errno::PERM | Errno::ACCESS) if stat.stx_uid != 0 => {
                // O_NOATIME is for owners and CAP_FOWNER only.
                let flags = (OPEN_FLAGS | OFlags::DIRECTORY).difference(OFlags::NOATIME);
                fs::openat(parent, name, flags, Mode::empty()).map(Ok)
            }
            Err(errno) => Err(errno),
        }
    }

    fn enter<'r>(
        &mut self,
        stack: &mut Vec<Frame<'r>>,
        mut frame: Frame<'r>,
        place: Place,
    ) -> Result<(), Stopped> {
        if let Some(fd) = &frame.fd {
            let found = Found::Open(Arc::clone(fd));
            self.push(Op::Enter {
                dir: Arc::clone(&frame.dir),
                place,
                found,
            })?;
            if frame.rules.and_then(Rules::action) != Some(Action::Empty) {
                frame.subdirs = self.list(&frame.dir, fd, frame.rules)?;
            }
        }
        stack.push(frame);
        Ok(())
    }

    /// Hands out the files of a directory as it goes; returns the subdirectories.
    fn list(&mut self, dir: &Arc<Dir>, fd: &Arc<CountedFd>, rules: Option<&Rules>) -> Result<Names, Stopped> {
        let mut subdirs = Names::default();
        let mut files = Names::default();
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut listing = RawDir::new(&**fd, &mut buffer);
        let mut full = Ok(());
        while let Some(entry) = listing.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(errno) => {
                    let reason = format!("listing it: {}", std::io::Error::from(errno));
                    self.shared.problem(dir, b"", ProblemKind::Unreadable(reason));
                    break;
                }
            };
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if rules
                .and_then(|rules| rules.beneath(name.to_bytes()))
                .and_then(Rules::action)
                == Some(Action::Skip)
            {
                continue;
            }
            let kind = known_type(fd, name, entry.file_type());
            let list = if kind == FileType::Directory {
                &mut subdirs
            } else {
                &mut files
            };
            list.push(name, entry.ino(), kind);
            if files.len() >= SORT_ENTRIES {
                full = self.hand_out(dir, fd, &mut files);
                if full.is_err() {
                    break;
                }
            }
        }
        self.buffer = buffer;
        full?;
        self.hand_out(dir, fd, &mut files)?;
        Ok(subdirs)
    }

    fn hand_out(&mut self, dir: &Arc<Dir>, fd: &Arc<CountedFd>, files: &mut Names) -> Result<(), Stopped> {
        files.sort();
        let mut from = 0;
        while from < files.len() {
            let to = files
                .len()
                .min(from + JOB_ENTRIES - self.entries.min(JOB_ENTRIES - 1));
            let names = files.part(from, to);
            self.push(Op::Entries {
                dir: Arc::clone(dir),
                fd: Arc::clone(fd),
                names,
            })?;
            from = to;
        }
        files.clear();
        Ok(())
    }

    fn leave(&mut self, stack: &mut Vec<Frame<'_>>) -> Result<(), Stopped> {
        let Some(done) = stack.pop() else { return Ok(()) };
        self.push(Op::Leave { dir: done.dir })?;
        if stack.last().is_some_and(|top| top.fd.is_none()) {
            let permit = self.permit()?;
            let fd = reopen(stack, done.fd.as_deref());
            if let Some(top) = stack.last_mut() {
                top.fd = fd.map(|fd| Arc::new(CountedFd::new(fd, permit)));
            }
        }
        Ok(())
    }

    /// Keeps the descriptors of a deep walk bounded.
    fn close_idle(&self, stack: &mut [Frame<'_>]) {
        let keep = self.shared.fds.max_idle();
        if let Some(index) = stack.len().checked_sub(keep)
            // The root stays open: the way back if a directory is moved meanwhile.
            && index > 0
        {
            stack[index].fd = None;
        }
    }

    fn permit(&mut self) -> Result<Permit, Stopped> {
        if let Some(permit) = self.shared.fds.try_take() {
            return Ok(permit);
        }
        // Readers give descriptors back only when they get what is collected here.
        self.flush()?;
        self.shared.fds.take(self.stop).ok_or(Stopped)
    }

    fn push(&mut self, op: Op) -> Result<(), Stopped> {
        self.entries += if let Op::Entries { names, .. } = &op {
            names.len()
        } else {
            1
        };
        self.ops.push(op);
        if self.entries >= JOB_ENTRIES {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        if self.ops.is_empty() {
            return Ok(());
        }
        self.entries = 0;
        let job = Job {
            number: self.jobs,
            ops: std::mem::take(&mut self.ops),
        };
        self.jobs += 1;
        self.sink.push(job)
    }
}

/// For looking at a name: not through a link, mounting nothing, asking no server.
pub(super) const STAT_FLAGS: AtFlags = AtFlags::SYMLINK_NOFOLLOW
    .union(AtFlags::NO_AUTOMOUNT)
    .union(AtFlags::STATX_DONT_SYNC);

/// Whether another file system (or the same one a second time) begins here: Linux 5.8.
pub(super) fn is_mount_root(stat: &Statx) -> bool {
    stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
}

/// How a failure to look at an entry is reported.
pub(super) fn kind_of(errno: Errno) -> ProblemKind {
    match errno {
        Errno::NOENT | Errno::STALE | Errno::NOTDIR => ProblemKind::Vanished,
        errno => ProblemKind::Unreadable(std::io::Error::from(errno).to_string()),
    }
}

/// The type from the listing; some file systems do not tell (`DT_UNKNOWN`).
fn known_type(dir: &CountedFd, name: &CStr, listed: FileType) -> FileType {
    if listed != FileType::Unknown {
        return listed;
    }
    fs::statx(dir, name, STAT_FLAGS, StatxFlags::TYPE).map_or(FileType::Unknown, |stat| {
        FileType::from_raw_mode(stat.stx_mode.into())
    })
}

/// Device and inode; a directory that cannot be asked is like no other.
fn identity(dir: impl AsFd) -> (u64, u64) {
    fs::fstat(dir).map_or((0, 0), |stat| (stat.st_dev, stat.st_ino))
}

/// Opens the innermost directory of `stack` again: by the way up from its child, or down from the root by names.
fn reopen(stack: &[Frame<'_>], child: Option<&CountedFd>) -> Option<OwnedFd> {
    let flags = OPEN_FLAGS | OFlags::RDONLY | OFlags::DIRECTORY;
    let same = |fd: &OwnedFd| stack.last().is_some_and(|frame| frame.identity == identity(fd));
    if let Some(up) = child
        .and_then(|child| fs::openat(child, c"..", flags, Mode::empty()).ok())
        .filter(same)
    {
        return Some(up);
    }
    let open = stack.iter().rposition(|frame| frame.fd.is_some())?;
    let mut fd = rustix::io::fcntl_dupfd_cloexec(stack[open].fd.as_deref()?, 0).ok()?;
    for frame in &stack[open + 1..] {
        fd = fs::openat(&fd, frame.dir.name(), flags, Mode::empty()).ok()?;
    }
    Some(fd).filter(same)
}
