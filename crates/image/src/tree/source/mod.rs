//! The sending side: a walker lists, readers read, the caller hands the blocks over in order.

mod attrs;
mod content;
mod dir;
mod entry;
mod job;
mod links;
mod look;
mod pack;
mod read;
mod reader;
mod rules;
mod walk;

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::Receiver;

use self::attrs::FlagReader;
use self::dir::Dir;
use self::job::Job;
use self::links::Links;
use self::pack::{MAX_TARGET_BYTES, MIN_BLOCK_BYTES};
use self::reader::Reader;
use self::rules::Rules;
use self::walk::Walker;
use super::{SendOptions, SendSummary, Tally, TreeSource, TreeTotals};
use crate::block;
use crate::compress::{Gate, Squeezer};
use crate::error::SendError;
use crate::fd_budget::FdBudget;
use crate::pipeline::{self, Task};
use crate::problem::{ProblemKind, Problems};
use crate::progress::Progress;
use crate::record::{self, Kind};

/// What walker and readers share.
struct Shared<'a> {
    stop: AtomicBool,
    fds: Arc<FdBudget>,
    links: Links,
    /// One for each source: they are different file systems.
    flags: Vec<FlagReader>,
    /// Device and inode of the sources' roots: where one is met in another source, it is not walked a second time.
    roots: HashSet<(u64, u64)>,
    progress: &'a Progress,
    problems: Mutex<Problems>,
    tally: Mutex<Tally>,
    big_files: AtomicU64,
    /// Why a reader could not work at all.
    failed: Mutex<Option<SendError>>,
}

impl Shared<'_> {
    /// A number for a file whose content comes in extents.
    fn next_big(&self) -> u64 {
        self.big_files.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Notes what is wrong with the entry `name` of `dir`; with an empty name, with `dir` itself.
    fn problem(&self, dir: &Dir, name: &[u8], kind: ProblemKind) {
        let path = if name.is_empty() {
            dir.path()
        } else {
            dir.path_of(name)
        };
        lock(&self.problems).add(&path, kind);
    }
}

/// A root that cannot be looked at is told when it is opened.
fn root_identity(source: &TreeSource) -> Option<(u64, u64)> {
    let meta = source.root.metadata().ok()?;
    Some((meta.dev(), meta.ino()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See [`super::send`].
pub(super) fn send(
    sources: &[TreeSource],
    options: &SendOptions,
    mut emit: impl FnMut(Vec<u8>) -> io::Result<()>,
    progress: &Progress,
) -> Result<SendSummary, SendError> {
    let gate = Gate::new(options.compress);
    let shared = Shared {
        stop: AtomicBool::new(false),
        fds: FdBudget::from_limit(),
        links: Links::default(),
        flags: sources.iter().map(|_| FlagReader::default()).collect(),
        roots: sources.iter().filter_map(root_identity).collect(),
        progress,
        problems: Mutex::default(),
        tally: Mutex::default(),
        big_files: AtomicU64::new(0),
        failed: Mutex::default(),
    };
    let with_rules: Vec<_> = sources
        .iter()
        .map(|source| (source.clone(), Rules::new(source, options)))
        .collect();
    let target = options.block_bytes.clamp(MIN_BLOCK_BYTES, MAX_TARGET_BYTES);
    let mut walked = Ok(());
    let result = pipeline::run(
        pipeline::thread_count(options.threads),
        &shared.stop,
        &gate,
        |sink| walked = Walker::new(&shared, &shared.stop, sink).run(&with_rules),
        |jobs| read_jobs(&shared, &gate, target, jobs),
        &mut emit,
    );
    if let Some(error) = lock(&shared.failed).take() {
        return Err(error);
    }
    walked?;
    result?;
    let totals = lock(&shared.tally).totals();
    emit(end_block(&totals)).map_err(SendError::Emit)?;
    let problems = shared
        .problems
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    Ok(SendSummary { totals, problems })
}

fn read_jobs(shared: &Shared<'_>, gate: &Gate, target: usize, jobs: Receiver<Task<Job>>) {
    let squeezer = match Squeezer::new(gate) {
        Ok(squeezer) => squeezer,
        Err(error) => {
            *lock(&shared.failed) = Some(SendError::Threads(format!("starting zstd: {error}")));
            shared.stop.store(true, Ordering::Relaxed);
            return;
        }
    };
    let mut reader = Reader::new(shared, squeezer, target);
    for task in jobs {
        let number = task.job.number;
        let done = reader.run(task.job, &task.out);
        shared.links.finish(number);
        if done.is_err() {
            break;
        }
    }
    reader.settle();
}

fn end_block(totals: &TreeTotals) -> Vec<u8> {
    let mut end = block::start(64);
    record::put(&mut end, Kind::End, None, |body| {
        for number in [totals.files, totals.directories, totals.bytes] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        body.extend_from_slice(&totals.digest.to_bytes());
    });
    block::seal_plain(&mut end);
    end
}
