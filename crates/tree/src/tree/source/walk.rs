//! The walk: one thread lists directories, depth first, files of a directory before its subdirectories, and
//! cuts the work into jobs for the readers. It opens directories and nothing else.

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::fd::OwnedFd;
use rustix::fs::{self, CWD, FileType, Mode, OFlags, RawDir};

use super::dir::{Dir, Names};
use super::job::{DirAccess, Job, Op, Place};
use super::look::{self, OPEN_FLAGS, Sighting, identity, kind_of, known_type};
use super::rules::{Action, Rules};
use super::shared::Shared;
use crate::error::SendError;
use crate::fd_budget::{CountedFd, Permit};
use crate::pipeline::{Sink, Stopped};
use crate::problem::ProblemKind;
use crate::tree::{MAX_DEPTH, TreeSource};

/// Entries a job holds. Many blocks of usual files; few enough that two readers share a small tree evenly.
const JOB_ENTRIES: usize = 256;
/// So many names of one directory are sorted at a time; a directory of millions is never in memory as a
/// whole.
const SORT_ENTRIES: usize = 4096;
/// One getdents64 call; about a thousand names.
const LISTING_BYTES: usize = 64 * 1024;

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
        let open = |flags| fs::openat(CWD, &source.root, flags, Mode::empty());
        // O_NOATIME is for owners and CAP_FOWNER only.
        let opened = open(flags | OFlags::NOATIME).or_else(|_| open(flags));
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
        let found = match look::open_directory(&fd, &name, &self.shared.roots) {
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
            Sighting::Open(fd) => {
                let fd = Arc::new(CountedFd::new(fd, permit));
                let identity = identity(&fd);
                let dir = Dir::child(&parent, self.dirs, identity.0, name.to_bytes());
                self.close_idle(stack);
                self.enter(stack, Frame::new(dir, fd, identity, rules), Place::Beneath)
            }
            Sighting::Elsewhere(stat) => {
                let dir = Dir::child(&parent, self.dirs, 0, name.to_bytes());
                self.push(Op::Enter {
                    dir: Arc::clone(&dir),
                    place: Place::Beneath,
                    found: DirAccess::Stat(stat),
                })?;
                self.push(Op::Leave { dir })
            }
        }
    }

    fn enter<'r>(
        &mut self,
        stack: &mut Vec<Frame<'r>>,
        mut frame: Frame<'r>,
        place: Place,
    ) -> Result<(), Stopped> {
        if let Some(fd) = &frame.fd {
            let found = DirAccess::Open(Arc::clone(fd));
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
        // Readers return descriptors only when they get the collected entries.
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

/// Opens the innermost directory of `stack` again: by the way up from its child, or down from the root by
/// names.
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
