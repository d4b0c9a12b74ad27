//! The spool of a stream at the server (`--spool`), from which a node that lost its place goes on in the
//! middle. One file holds the blocks as they go over the wire, header and payload, one after another, and at
//! last the end.
//!
//! Payload lies there encrypted, as it travelled; it is sent again byte for byte, so nothing is encrypted
//! twice. Here: writing ([`SpoolWriter`]) and finding ([`Spool`]). Reading for a branch is [`feed`], how fast
//! is [`gauge`].

mod feed;
mod gauge;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use ka_proto::StreamId;
use ka_proto::block::{BlockHeader, BlockKind, HEADER_LEN};
use tokio::sync::mpsc;

use super::buffer::SealedBlock;
use super::inbox::{PumpEvent, PumpReport};
use crate::error::TransportError;

pub(crate) use feed::Branch;
pub(crate) use gauge::Gauge;

/// Most bytes that wait to be written: two seconds of a line of 1 Gbit/s. A journal that is written out may
/// hold up a hard disk for so long. A disk that pauses for longer, or is slower than the chain, keeps nothing
/// any more; the chain does not wait.
const MAX_QUEUED: usize = 256 << 20;
/// Distance from one mark to the next in the file, in bytes. A place is found by reading headers from the
/// mark before it: some hundred at the smallest usual blocks. A TiB has 64 Ki marks.
const MARK_EVERY: u64 = 16 << 20;
/// Interval of the checks of a waiting branch for its end.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The place of a block in the file.
#[derive(Debug, Clone, Copy)]
struct Mark {
    offset: u64,
    position: u64,
}

#[derive(Debug, Default)]
struct SpoolContents {
    /// Bytes of whole blocks in the file.
    written: u64,
    marks: Vec<Mark>,
    fate: SpoolState,
}

#[derive(Debug, Default, Clone)]
enum SpoolState {
    #[default]
    Growing,
    /// The end of the stream is in it.
    Whole,
    /// Nothing can be had from it any more.
    Off(String),
}

/// The spool of one stream.
#[derive(Debug)]
pub(crate) struct Spool {
    file: File,
    queued: AtomicUsize,
    state: Mutex<SpoolContents>,
    grown: Condvar,
}

/// The pump's hold on the spool. It passes blocks on and never waits.
#[derive(Debug)]
pub(crate) struct SpoolWriter {
    spool: Arc<Spool>,
    blocks: Sender<Arc<SealedBlock>>,
}

impl Spool {
    /// Begins to keep a stream in `file`. When nothing can be kept any more, that is reported once.
    ///
    /// # Errors
    /// No thread can be had.
    pub(crate) fn begin(
        file: File,
        stream: StreamId,
        reports: mpsc::UnboundedSender<PumpReport>,
    ) -> Result<(Arc<Self>, SpoolWriter), TransportError> {
        let spool = Arc::new(Self {
            file,
            queued: AtomicUsize::new(0),
            state: Mutex::default(),
            grown: Condvar::new(),
        });
        // Bounded by the bytes in it.
        let (blocks, queue) = crossbeam_channel::unbounded();
        let writer = Arc::clone(&spool);
        std::thread::Builder::new()
            .name(format!("ka-spool-{stream}"))
            .spawn(move || {
                if let Err(reason) = writer.write_all(&queue) {
                    // After the task's end there is no receiver.
                    let what = PumpEvent::SpoolOff { reason };
                    reports
                        .send(PumpReport {
                            stream,
                            branch: None,
                            what,
                        })
                        .ok();
                }
            })
            .map_err(TransportError::system("starting the spool's thread"))?;
        let keeper = SpoolWriter {
            spool: Arc::clone(&spool),
            blocks,
        };
        Ok((spool, keeper))
    }

    /// Writes the blocks as they come, until the pump lets go of its end.
    fn write_all(&self, queue: &Receiver<Arc<SealedBlock>>) -> Result<(), String> {
        for block in queue {
            let cost = block.wire_len();
            let written = self.write(&block);
            drop(block);
            self.queued.fetch_sub(cost, Ordering::AcqRel);
            if let Err(error) = written {
                return Err(self.turn_off(format!("writing what the spool keeps: {error}")));
            }
            if let SpoolState::Off(reason) = &self.state().fate {
                return Err(reason.clone());
            }
        }
        if let SpoolState::Growing = self.state().fate {
            // The stream broke off, and no report is needed.
            self.turn_off("the stream ended without its end".to_owned());
        }
        Ok(())
    }

    fn write(&self, block: &SealedBlock) -> io::Result<()> {
        let at = self.state().written;
        self.file.write_all_at(&block.header, at)?;
        self.file
            .write_all_at(block.payload.as_slice(), at + HEADER_LEN as u64)?;
        let is_end = BlockHeader::decode(&block.header).is_ok_and(|header| header.kind == BlockKind::End);
        let mut state = self.state();
        let last = state.marks.last().map(|mark| mark.position);
        if last.is_none_or(|last| at >= last + MARK_EVERY) {
            state.marks.push(Mark {
                offset: block.offset,
                position: at,
            });
        }
        state.written = at + block.wire_len() as u64;
        if is_end {
            state.fate = SpoolState::Whole;
        }
        self.grown.notify_all();
        Ok(())
    }

    /// The first reason counts.
    fn turn_off(&self, reason: String) -> String {
        let mut state = self.state();
        if let SpoolState::Off(first) = &state.fate {
            return first.clone();
        }
        state.fate = SpoolState::Off(reason.clone());
        self.grown.notify_all();
        reason
    }

    /// Waits until there is something at `position`: true when there is, false at the end.
    fn wait_for(&self, position: u64, is_over: impl Fn() -> bool) -> Result<bool, String> {
        let mut state = self.state();
        loop {
            match &state.fate {
                SpoolState::Off(reason) => return Err(reason.clone()),
                _ if position < state.written => return Ok(true),
                SpoolState::Whole => return Ok(false),
                SpoolState::Growing if is_over() => return Ok(false),
                SpoolState::Growing => {}
            }
            let waited = self.grown.wait_timeout(state, LOOK_INTERVAL);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The position in the file of the block that begins at `offset` of the stream, now or later.
    fn find(&self, offset: u64, is_over: impl Fn() -> bool) -> Result<u64, String> {
        let mut position = {
            let state = self.state();
            let after = state.marks.partition_point(|mark| mark.offset <= offset);
            let mark = after.checked_sub(1).and_then(|before| state.marks.get(before));
            mark.map_or(0, |mark| mark.position)
        };
        while self.wait_for(position, &is_over)? {
            let header = self.header_at(position)?;
            if header.offset.0 == offset {
                return Ok(position);
            }
            if header.offset.0 > offset {
                break;
            }
            position += HEADER_LEN as u64 + u64::from(header.length);
        }
        Err(format!("no block of the stream begins at byte {offset}"))
    }

    fn header_at(&self, position: u64) -> Result<BlockHeader, String> {
        let mut raw = [0; HEADER_LEN];
        self.read(&mut raw, position)?;
        BlockHeader::decode(&raw).map_err(|error| format!("what the spool keeps is damaged: {error}"))
    }

    fn read(&self, into: &mut [u8], position: u64) -> Result<(), String> {
        self.file
            .read_exact_at(into, position)
            .map_err(|error| format!("reading what the spool keeps: {error}"))
    }

    /// A panic elsewhere leaves it usable: each change is complete before the lock is released.
    fn state(&self) -> MutexGuard<'_, SpoolContents> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SpoolWriter {
    /// Queues a block to be written, or turns the spool off if it cannot keep up.
    pub(super) fn keep(&self, block: &Arc<SealedBlock>) {
        let cost = block.wire_len();
        if self.spool.queued.load(Ordering::Acquire) + cost > MAX_QUEUED {
            let lag = MAX_QUEUED >> 20;
            self.spool
                .turn_off(format!("the spool's disk is {lag} MiB behind the chain"));
            return;
        }
        self.spool.queued.fetch_add(cost, Ordering::AcqRel);
        // A writer that has given up needs no more.
        self.blocks.send(Arc::clone(block)).ok();
    }
}
