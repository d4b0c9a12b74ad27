//! The receiving side: the calling thread reads the blocks and makes directories, writers make everything else.

mod apply;
mod chunk;
mod dir;
mod dispatch;
mod file;
mod links;
mod root;
mod writer;
mod xattrs;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use rustix::io::Errno;

use self::chunk::Chunk;
use self::dir::Dir;
use self::dispatch::Dispatcher;
use self::links::SealLater;
use self::root::{Place, Root};
use self::writer::Writer;
use super::ledger::{Facts, Keeper, key};
use super::{RestoreOptions, RestoreSummary, Tally, TreeTarget, TreeTotals};
use crate::error::RestoreError;
use crate::fd_budget::FdBudget;
use crate::hashing::dir_hash;
use crate::meta::Meta;
use crate::pipeline::thread_count;
use crate::progress::Progress;
use crate::record::{Kind, Malformed};
use crate::warning::{WarningKind, Warnings};

/// Blocks that wait for each writer; with blocks of at most 1 MiB it bounds the memory.
const BLOCKS_PER_WRITER: usize = 3;

/// Something failed; the reason is in [`Shared::error`]. Every thread ends.
#[derive(Debug)]
struct Halt;

/// What all threads of a restorer share.
struct Shared<'a> {
    stop: AtomicBool,
    error: Mutex<Option<RestoreError>>,
    warnings: Warnings,
    progress: &'a Progress,
    tally: Mutex<Tally>,
    fds: Arc<FdBudget>,
    seal_later: Mutex<Vec<SealLater>>,
    /// Bytes of directory entries kept until the directories are done.
    kept_bytes: AtomicUsize,
    /// What is written, when somebody will read it back.
    keeper: Option<Keeper>,
    /// The targets' roots, by device and inode: one that is met as a directory of another is a mount point.
    mount_points: HashSet<(u64, u64)>,
    /// Whose files we make.
    uid: u32,
    gid: u32,
    /// Permission bits that creating a file does not give.
    umask: u32,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See [`super::restore`].
pub(super) fn restore<B: AsRef<[u8]> + Send + Sync + 'static>(
    targets: &[TreeTarget],
    options: &RestoreOptions,
    mut next: impl FnMut() -> io::Result<Option<B>>,
    progress: &Progress,
) -> Result<RestoreSummary, RestoreError> {
    let roots: HashMap<u32, Arc<Root>> = targets
        .iter()
        .map(|target| Ok((target.mount_id, Root::open(target)?)))
        .collect::<Result<_, _>>()?;
    let mount_points = roots.values().filter_map(|root| root.identity()).collect();
    let shared = Shared {
        keeper: options.keep_ledger.then(Keeper::new),
        mount_points,
        ..Shared::new(progress)
    };
    let sent = run(&shared, roots, thread_count(options.threads), &mut next);
    if let Some(error) = lock(&shared.error).take() {
        return Err(error);
    }
    let sent = sent?;
    let totals = lock(&shared.tally).totals();
    if totals.digest != sent.digest {
        return Err(RestoreError::Digest {
            sent: sent.digest,
            restored: totals.digest,
        });
    }
    if totals != sent {
        return Err(RestoreError::Stream(
            "its end counts other entries than were in it".to_owned(),
        ));
    }
    Ok(RestoreSummary {
        totals,
        warnings: shared.warnings.into_list(),
        ledger: shared.keeper.and_then(Keeper::into_ledger).map(Arc::new),
    })
}

/// Runs writers and dispatcher; returns what the stream says that it held.
fn run<B: AsRef<[u8]> + Send + Sync + 'static>(
    shared: &Shared<'_>,
    roots: HashMap<u32, Arc<Root>>,
    writers: usize,
    next: &mut impl FnMut() -> io::Result<Option<B>>,
) -> Result<TreeTotals, RestoreError> {
    let (chunks, todo) = bounded(writers * BLOCKS_PER_WRITER);
    let threads_failed = |text: String| RestoreError::Threads(text);
    thread::scope(|scope| {
        let mut running = Vec::with_capacity(writers);
        for number in 0..writers {
            let todo = todo.clone();
            let thread = thread::Builder::new()
                .name(format!("ka-write-{number}"))
                .spawn_scoped(scope, move || write_chunks(shared, todo));
            running.push(thread.map_err(|error| threads_failed(error.to_string()))?);
        }
        drop(todo);
        let end = Dispatcher::new(shared, roots, chunks)?.run(next);
        for thread in running {
            thread
                .join()
                .map_err(|_| threads_failed("a writer thread died".into()))?;
        }
        links::seal(shared);
        // A failure of whatever kind is in `shared`, and more telling.
        end.map_err(|Halt| RestoreError::Truncated)
    })
}

fn write_chunks<B: AsRef<[u8]>>(shared: &Shared<'_>, chunks: Receiver<Chunk<B>>) {
    let mut writer = Writer::new(shared);
    for chunk in chunks {
        if writer.write(&chunk).is_err() {
            break;
        }
    }
    writer.settle();
}

impl<'a> Shared<'a> {
    fn new(progress: &'a Progress) -> Self {
        Self {
            stop: AtomicBool::new(false),
            error: Mutex::default(),
            warnings: Warnings::default(),
            progress,
            tally: Mutex::default(),
            fds: FdBudget::from_limit(),
            seal_later: Mutex::default(),
            kept_bytes: AtomicUsize::new(0),
            keeper: None,
            mount_points: HashSet::new(),
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            umask: umask().unwrap_or(0o777),
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Stops everything; the first reason counts.
    fn fail(&self, error: RestoreError) -> Halt {
        lock(&self.error).get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
        Halt
    }

    fn damaged(&self, malformed: Malformed) -> Halt {
        self.fail(RestoreError::Stream(malformed.0.to_owned()))
    }

    /// Writing the entry `name` of `place` (with an empty name, `place` itself) failed for good.
    fn failed(&self, doing: &'static str, place: &Place, name: &[u8], errno: Errno) -> Halt {
        let path = if name.is_empty() {
            place.path()
        } else {
            place.path_of(name)
        };
        self.write_failed(doing, &path, errno.into())
    }

    fn write_failed(&self, doing: &'static str, path: &Path, source: io::Error) -> Halt {
        let path = path.to_path_buf();
        let is_full = matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        );
        self.fail(if is_full {
            RestoreError::Full { path }
        } else {
            RestoreError::Write { doing, path, source }
        })
    }

    /// Notes that the target cannot hold something of the entry `name` of `dir`.
    fn warn(&self, kind: WarningKind, dir: &Dir, name: &[u8]) {
        let path = if name.is_empty() {
            dir.place.path()
        } else {
            dir.place.path_of(name)
        };
        self.warnings.add(kind, &dir.file_system.name, &path);
        self.inexact(dir, name);
    }

    /// Not all metadata of the entry `name` of `dir` (with an empty name, of `dir` itself) can be read back.
    fn inexact(&self, dir: &Dir, name: &[u8]) {
        if let Some(keeper) = &self.keeper {
            keeper.inexact(if name.is_empty() {
                key(&dir.hash)
            } else {
                key(&dir_hash(&dir.hash, name))
            });
        }
    }

    /// Keeps what the entry of `record`'s kind is, for whoever reads it back; `content` is asked for only then.
    fn note(&self, dir: &Dir, kind: Kind, meta: &Meta<'_>, content: impl FnOnce() -> u64) -> Option<Facts> {
        let keeper = self.keeper.as_ref()?;
        let facts = Facts {
            meta: keeper.meta(dir.file_system.is_poor, kind, meta),
            content: content(),
        };
        dir.entries.fetch_add(1, Ordering::Relaxed);
        keeper.note(key(&dir_hash(&dir.hash, meta.name)), facts);
        Some(facts)
    }

    /// A refusal by a file system that knows no such thing is a warning; any other is the end.
    fn excuse(
        &self,
        dir: &Dir,
        name: &[u8],
        kind: WarningKind,
        doing: &'static str,
        errno: Errno,
    ) -> Result<(), Halt> {
        let is_unknown = matches!(errno, Errno::OPNOTSUPP | Errno::NOSYS);
        let is_poor = dir.file_system.is_poor && matches!(errno, Errno::PERM | Errno::INVAL);
        if !is_unknown && !is_poor {
            return Err(self.failed(doing, &dir.place, name, errno));
        }
        self.warn(kind, dir, name);
        Ok(())
    }

    /// An entry cannot be made. When that is because of its name or its kind it is left out with a warning.
    fn left_out(
        &self,
        dir: &Dir,
        name: &[u8],
        kind: WarningKind,
        doing: &'static str,
        errno: Errno,
    ) -> Result<(), Halt> {
        let poor = dir.file_system.is_poor;
        let is_name = matches!(errno, Errno::NAMETOOLONG | Errno::ILSEQ)
            || poor && matches!(errno, Errno::INVAL | Errno::EXIST | Errno::NOENT);
        if is_name {
            self.warn(WarningKind::Name, dir, name);
            return Ok(());
        }
        self.excuse(dir, name, kind, doing, errno)
    }
}

/// This process's umask, read without changing it (proc(5), Linux 4.7).
fn umask() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(value.trim(), 8).ok()
}
