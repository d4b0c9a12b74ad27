//! Restoring a partition: data where the stream has some, zeros everywhere else.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use ka_host::block::zero_out;
use rustix::fs::{FallocateFlags, fallocate};

use super::{RawRestoreOptions, RawSummary, Tally, thread_count};
use crate::block::OpenBlock;
use crate::digest::TreeDigest;
use crate::error::RestoreError;
use crate::progress::Progress;
use crate::record::{self, Cursor, Kind, Malformed};
use crate::sync::lock;

/// Blocks that wait for each writer.
const BLOCKS_PER_WRITER: usize = 3;
/// Zeroed at a time, in bytes: so often a failure elsewhere is noticed.
const ZERO_BYTES: u64 = 256 * 1024 * 1024;

/// The state that the writers share.
struct WriteState<'a> {
    target: &'a File,
    stop: AtomicBool,
    error: Mutex<Option<RestoreError>>,
    tally: Mutex<Tally>,
    progress: &'a Progress,
}

/// Work for a writer.
enum Item<B> {
    /// Records of a block, each an encoded offset and data.
    Data {
        block: Arc<OpenBlock<B>>,
        runs: Vec<Range<usize>>,
    },
    /// Range of the target that becomes zero.
    Zeros(Range<u64>),
}

impl WriteState<'_> {
    fn fail(&self, error: RestoreError) {
        lock(&self.error).get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
    }

    fn write_failed(&self, source: io::Error) {
        let path = fs::read_link(format!("/proc/self/fd/{}", self.target.as_raw_fd()));
        let path = path.unwrap_or_else(|_| PathBuf::from("the partition"));
        let is_full = source.kind() == io::ErrorKind::StorageFull;
        self.fail(if is_full {
            RestoreError::Full { path }
        } else {
            RestoreError::Write {
                doing: "writing",
                path,
                source,
            }
        });
    }
}

/// See [`super::restore`].
pub(super) fn restore<B: AsRef<[u8]> + Send + Sync + 'static>(
    target: &File,
    bytes: u64,
    options: &RawRestoreOptions,
    mut next: impl FnMut() -> io::Result<Option<B>>,
    progress: &Progress,
) -> Result<RawSummary, RestoreError> {
    let shared = WriteState {
        target,
        stop: AtomicBool::new(false),
        error: Mutex::default(),
        tally: Mutex::default(),
        progress,
    };
    let writers = thread_count(options.threads);
    let (items, todo) = bounded(writers * BLOCKS_PER_WRITER);
    let failed = |text: String| RestoreError::Threads(text);
    let read = thread::scope(|scope| {
        let mut running = Vec::with_capacity(writers);
        for number in 0..writers {
            let (todo, shared) = (todo.clone(), &shared);
            let thread = thread::Builder::new()
                .name(format!("ka-raw-{number}"))
                .spawn_scoped(scope, move || write_items(shared, todo));
            running.push(thread.map_err(|error| failed(error.to_string()))?);
        }
        drop(todo);
        let mut reading = Reading {
            items,
            size: None,
            covered: 0,
            end: None,
        };
        let read = reading.run(&shared, (bytes, options.allow_larger), &mut next);
        drop(reading.items);
        for thread in running {
            thread.join().map_err(|_| failed("a writer thread died".into()))?;
        }
        read.map(|()| reading.size.zip(reading.end))
    });
    if let Some(error) = lock(&shared.error).take() {
        return Err(error);
    }
    let Some((size, (data_bytes, sent))) = read? else {
        return Err(RestoreError::Truncated);
    };
    let summary = lock(&shared.tally).summary(size);
    if summary.digest != sent || summary.data_bytes != data_bytes {
        return Err(RestoreError::Digest {
            sent,
            restored: summary.digest,
        });
    }
    Ok(summary)
}

/// The thread that reads the stream.
struct Reading<B> {
    items: Sender<Item<B>>,
    size: Option<u64>,
    /// Everything before this offset was handed out, as data or as zeros.
    covered: u64,
    end: Option<(u64, TreeDigest)>,
}

impl<B: AsRef<[u8]> + Send + Sync> Reading<B> {
    fn run(
        &mut self,
        shared: &WriteState<'_>,
        target: (u64, bool),
        next: &mut impl FnMut() -> io::Result<Option<B>>,
    ) -> Result<(), RestoreError> {
        let inflater = zstd::bulk::Decompressor::new();
        let mut inflater =
            inflater.map_err(|error| RestoreError::Threads(format!("starting zstd: {error}")))?;
        while let Some(block) = next().map_err(RestoreError::Next)? {
            if shared.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let block = OpenBlock::open(block, &mut inflater).map_err(RestoreError::Stream)?;
            self.block(Arc::new(block), target)?;
        }
        Ok(())
    }

    fn block(&mut self, block: Arc<OpenBlock<B>>, target: (u64, bool)) -> Result<(), RestoreError> {
        let malformed = |malformed: Malformed| RestoreError::Stream(malformed.0.to_owned());
        let refuse = |reason: &str| Err(RestoreError::Stream(reason.to_owned()));
        let records = block.records();
        let mut rest = records;
        let mut runs = Vec::new();
        while let Some(record) = record::take(&mut rest).map_err(malformed)? {
            let at = records.len() - rest.len() - record.body.len()..records.len() - rest.len();
            let mut body = Cursor(record.body);
            match (record.kind, self.size) {
                (_, _) if self.end.is_some() => return refuse("something follows its end"),
                (Kind::RawBegin, None) => self.begin(body.u64().map_err(malformed)?, target)?,
                (Kind::RawData, Some(size)) => {
                    let offset = body.u64().map_err(malformed)?;
                    let end = offset.checked_add(body.0.len() as u64).filter(|end| *end <= size);
                    let Some(end) = end.filter(|_| offset >= self.covered) else {
                        return refuse("data outside the partition or out of order");
                    };
                    self.zeros(offset);
                    self.covered = end;
                    runs.push(at);
                }
                (Kind::RawEnd, Some(_)) => {
                    let data_bytes = body.u64().map_err(malformed)?;
                    let digest = TreeDigest::from_bytes(body.digest().map_err(malformed)?);
                    // In a larger target the rest must not show its old contents.
                    self.zeros(target.0);
                    self.end = Some((data_bytes, digest));
                }
                _ => return refuse("it holds something else than one partition"),
            }
        }
        if !runs.is_empty() {
            // Fails only after a failure that is known already.
            let _ = self.items.send(Item::Data { block, runs });
        }
        Ok(())
    }

    fn begin(&mut self, stream: u64, (target, allow_larger): (u64, bool)) -> Result<(), RestoreError> {
        let fits = if allow_larger {
            target >= stream
        } else {
            target == stream
        };
        if !fits {
            return Err(RestoreError::SizeMismatch { target, stream });
        }
        self.size = Some(stream);
        Ok(())
    }

    /// Has everything up to `to` zeroed that was not handed out yet.
    fn zeros(&mut self, to: u64) {
        while self.covered < to {
            let end = to.min(self.covered + ZERO_BYTES);
            let _ = self.items.send(Item::Zeros(self.covered..end));
            self.covered = end;
        }
    }
}

fn write_items<B: AsRef<[u8]>>(shared: &WriteState<'_>, items: Receiver<Item<B>>) {
    let mut tally = Tally::default();
    for item in items {
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
        let written = match item {
            Item::Zeros(range) => make_zero(shared.target, &range),
            Item::Data { block, runs } => runs
                .iter()
                .try_for_each(|run| write_run(shared, block.records(), run, &mut tally)),
        };
        if let Err(error) = written {
            shared.write_failed(error);
            break;
        }
    }
    lock(&shared.tally).merge(&tally);
}

fn write_run(
    shared: &WriteState<'_>,
    records: &[u8],
    run: &Range<usize>,
    tally: &mut Tally,
) -> io::Result<()> {
    let part = records.get(run.clone()).unwrap_or(&[]);
    let mut cursor = Cursor(part);
    let offset = cursor.u64().map_err(io::Error::other)?;
    shared.target.write_all_at(cursor.0, offset)?;
    tally.add(offset, cursor.0);
    shared.progress.add(0, cursor.0.len() as u64);
    Ok(())
}

/// A file gets a hole, a device zeroes itself when it can.
fn make_zero(target: &File, range: &Range<u64>) -> io::Result<()> {
    let len = range.end - range.start;
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    if target.metadata()?.is_file() && fallocate(target, punch, range.start, len).is_ok() {
        return Ok(());
    }
    zero_out(target, range.start, len)
}
