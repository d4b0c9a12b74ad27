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
mod shared;
mod walk;

use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crossbeam_channel::Receiver;

use self::attrs::FlagReader;
use self::job::Job;
use self::links::Links;
use self::pack::{MAX_TARGET_BYTES, MIN_BLOCK_BYTES};
use self::reader::Reader;
use self::rules::Rules;
use self::shared::Shared;
use self::walk::Walker;
use super::{SendOptions, SendSummary, TreeSource, TreeTotals};
use crate::block;
use crate::compress::{Gate, Squeezer};
use crate::error::SendError;
use crate::fd_budget::FdBudget;
use crate::pipeline::{self, Task};
use crate::progress::Progress;
use crate::record::{self, Kind};
use crate::sync::lock;

/// A root that cannot be looked at is told when it is opened.
fn root_identity(source: &TreeSource) -> Option<(u64, u64)> {
    let meta = source.root.metadata().ok()?;
    Some((meta.dev(), meta.ino()))
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
