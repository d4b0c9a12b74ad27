//! Collects records in a block and hands the block on when it is full.

use std::ops::Range;
use std::sync::Arc;

use super::dir::Dir;
use crate::block::{self, HEADER_BYTES};
use crate::compress::Squeezer;
use crate::pipeline::{Output, Stopped};
use crate::record::{self, FRAME_BYTES, Kind, LinkPrefix};

/// The smallest block that may be asked for: below it headers would weigh.
pub(super) const MIN_BLOCK_BYTES: usize = 16 * 1024;
/// The largest: beside one content of this size, a record's metadata (attributes up to 512 KiB, a name) must
/// fit into a block.
pub(super) const MAX_TARGET_BYTES: usize = 480 * 1024;

/// One reader's block under way.
pub(super) struct Packer<'a> {
    squeezer: Squeezer<'a>,
    block: Vec<u8>,
    target: usize,
    /// The directory that a decoder of this block would take for the current one; 0 is none.
    at: u64,
}

impl<'a> Packer<'a> {
    pub(super) fn new(squeezer: Squeezer<'a>, target: usize) -> Self {
        Self {
            squeezer,
            block: block::start(target),
            target,
            at: 0,
        }
    }

    /// Raw bytes a block aims for.
    pub(super) const fn target(&self) -> usize {
        self.target
    }

    /// Returns the block, for appending a body between [`Packer::begin`] and [`Packer::finish`].
    pub(super) const fn block(&mut self) -> &mut Vec<u8> {
        &mut self.block
    }

    /// Makes room for a record with a body of `len` bytes that is about the directory `dir`.
    pub(super) fn room(&mut self, out: &Output, dir: &Arc<Dir>, len: usize) -> Result<(), Stopped> {
        self.room_for(out, len)?;
        if self.at != dir.id {
            let id = dir.id;
            record::put(&mut self.block, Kind::At, None, |body| {
                body.extend_from_slice(&id.to_le_bytes())
            });
            self.at = dir.id;
        }
        Ok(())
    }

    /// As [`Packer::room`] for records that say themselves what they are about.
    pub(super) fn room_for(&mut self, out: &Output, len: usize) -> Result<(), Stopped> {
        // An At record may come before it.
        let needed = len + 2 * FRAME_BYTES + 8;
        if self.block.len() > HEADER_BYTES && self.block.len() + needed > HEADER_BYTES + self.target {
            self.flush(out)?;
        }
        Ok(())
    }

    /// The directory that the last record made the current one; 0 when it closed one.
    pub(super) const fn now_at(&mut self, dir: u64) {
        self.at = dir;
    }

    /// Begins a record; returns where its body begins.
    pub(super) fn begin(&mut self, kind: Kind, link: Option<LinkPrefix>) -> usize {
        record::begin(&mut self.block, kind, link)
    }

    /// Ends the record begun at `body`.
    pub(super) fn finish(&mut self, body: usize, linked: bool) -> Range<usize> {
        record::finish(&mut self.block, body, linked);
        body..self.block.len()
    }

    /// Takes back everything from `len` on.
    pub(super) fn rewind(&mut self, len: usize) {
        self.block.truncate(len);
    }

    /// Returns the bytes that were written into the block at `range`.
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.block[range]
    }

    /// Tells the compressor that the next bytes have nothing to do with those before.
    pub(super) const fn new_content(&mut self) {
        self.squeezer.forget();
    }

    /// Hands the block on, unless it is empty.
    pub(super) fn flush(&mut self, out: &Output) -> Result<(), Stopped> {
        self.at = 0;
        if self.block.len() <= HEADER_BYTES {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.block, block::start(self.target));
        out.put(self.squeezer.seal(full))
    }
}
