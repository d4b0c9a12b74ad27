//! The receiving side: the calling thread reads the blocks and makes directories, writers make everything else.

mod apply;
mod chunk;
mod created;
mod dir;
mod dispatch;
mod entry;
mod file;
mod links;
mod root;
mod shared;
mod writer;
mod xattrs;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, bounded};

use self::chunk::Chunk;
use self::dispatch::Dispatcher;
use self::root::Root;
use self::shared::{Halt, Shared};
use self::writer::Writer;
use super::ledger::Keeper;
use super::{RestoreOptions, RestoreSummary, TreeTarget, TreeTotals};
use crate::error::RestoreError;
use crate::pipeline::thread_count;
use crate::progress::Progress;
use crate::sync::lock;

/// Blocks that wait for each writer; with blocks of at most 1 MiB it bounds the memory.
const BLOCKS_PER_WRITER: usize = 3;

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
    let keeper = options.keep_ledger.then(Keeper::new);
    let shared = Shared::new(progress, keeper, mount_points);
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
        links::set_late_flags(shared);
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
