//! The sender of a partition. Readers take pieces and leave out zeros; blocks keep the order of the device.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::Receiver;

use super::{PAGE_BYTES, PIECE_BYTES, RawSendOptions, RawSummary, Tally, thread_count};
use crate::block;
use crate::compress::{Gate, Squeezer};
use crate::error::SendError;
use crate::pipeline::{self, Sink, Task};
use crate::progress::Progress;
use crate::record::{self, Kind};
use crate::sync::lock;

static ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

/// The state that the readers share.
struct ReadState<'a> {
    source: &'a File,
    stop: AtomicBool,
    gate: Gate,
    error: Mutex<Option<SendError>>,
    tally: Mutex<Tally>,
    progress: &'a Progress,
}

/// A part of the partition: offset and length in bytes.
struct Piece {
    offset: u64,
    len: usize,
}

/// See [`super::send`].
pub(super) fn send(
    source: &File,
    bytes: u64,
    options: &RawSendOptions,
    mut emit: impl FnMut(Vec<u8>) -> io::Result<()>,
    progress: &Progress,
) -> Result<RawSummary, SendError> {
    let shared = ReadState {
        source,
        stop: AtomicBool::new(false),
        gate: Gate::new(options.compress),
        error: Mutex::default(),
        tally: Mutex::default(),
        progress,
    };
    emit(begin_block(bytes)).map_err(SendError::Emit)?;
    let result = pipeline::run(
        thread_count(options.threads),
        &shared.stop,
        &shared.gate,
        |sink| cut(&shared, bytes, &sink),
        |pieces| read_pieces(&shared, pieces),
        &mut emit,
    );
    if let Some(error) = lock(&shared.error).take() {
        return Err(error);
    }
    result?;
    let summary = lock(&shared.tally).summary(bytes);
    emit(end_block(&summary)).map_err(SendError::Emit)?;
    Ok(summary)
}

fn cut(shared: &ReadState<'_>, bytes: u64, sink: &Sink<Piece>) {
    let mut offset = 0;
    while offset < bytes && !shared.stop.load(Ordering::Relaxed) {
        let len = usize::try_from(bytes - offset)
            .unwrap_or(PIECE_BYTES)
            .min(PIECE_BYTES);
        if sink.push(Piece { offset, len }).is_err() {
            return;
        }
        offset += len as u64;
    }
}

fn read_pieces(shared: &ReadState<'_>, pieces: Receiver<Task<Piece>>) {
    let fail = |error| {
        lock(&shared.error).get_or_insert(error);
        shared.stop.store(true, Ordering::Relaxed);
    };
    let mut squeezer = match Squeezer::new(&shared.gate) {
        Ok(squeezer) => squeezer,
        Err(error) => return fail(SendError::Threads(format!("starting zstd: {error}"))),
    };
    let mut buffer = vec![0; PIECE_BYTES];
    let mut tally = Tally::default();
    for Task {
        job: Piece { offset, len },
        out,
    } in pieces
    {
        let piece = &mut buffer[..len];
        if let Err(source) = shared.source.read_exact_at(piece, offset) {
            fail(SendError::Read {
                what: "the partition".to_owned(),
                offset,
                source,
            });
            break;
        }
        let data_before = tally.data_bytes;
        if let Some(block) = pack(piece, offset, &mut tally)
            && out.put(squeezer.seal(block)).is_err()
        {
            break;
        }
        shared.progress.add(0, tally.data_bytes - data_before);
    }
    lock(&shared.tally).merge(&tally);
}

/// Returns a block of the runs of data in a piece; `None` when it is all zeros.
fn pack(piece: &[u8], offset: u64, tally: &mut Tally) -> Option<Vec<u8>> {
    let mut block = None;
    let mut pages = piece
        .chunks(PAGE_BYTES)
        .map(|page| page == &ZEROS[..page.len()])
        .enumerate()
        .peekable();
    while let Some((first, is_zero)) = pages.next() {
        if is_zero {
            continue;
        }
        let mut last = first;
        while let Some((index, _)) = pages.next_if(|(_, is_zero)| !is_zero) {
            last = index;
        }
        let from = first * PAGE_BYTES;
        let data = &piece[from..piece.len().min((last + 1) * PAGE_BYTES)];
        let block = block.get_or_insert_with(|| block::start(PIECE_BYTES + PAGE_BYTES));
        record::put(block, Kind::RawData, None, |body| {
            body.extend_from_slice(&(offset + from as u64).to_le_bytes());
            body.extend_from_slice(data);
        });
        tally.add(offset + from as u64, data);
    }
    block
}

fn begin_block(bytes: u64) -> Vec<u8> {
    let mut begin = block::start(32);
    record::put(&mut begin, Kind::RawBegin, None, |body| {
        body.extend_from_slice(&bytes.to_le_bytes())
    });
    block::seal_plain(&mut begin);
    begin
}

fn end_block(summary: &RawSummary) -> Vec<u8> {
    let mut end = block::start(64);
    record::put(&mut end, Kind::RawEnd, None, |body| {
        body.extend_from_slice(&summary.data_bytes.to_le_bytes());
        body.extend_from_slice(&summary.digest.to_bytes());
    });
    block::seal_plain(&mut end);
    end
}
