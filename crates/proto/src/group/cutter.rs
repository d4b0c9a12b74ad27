//! Cuts the bytes of stripes into blocks again.
//!
//! A block may begin in one stripe and end in a later one. A stripe that was flushed ends with zeros behind
//! the end of a block, where a header would begin: no header begins with a zero.

use crate::block::{BlockError, BlockHeader, BlockKind, HEADER_LEN};

/// A part of a block, in the order of the stream: a header, then parts of its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// The header of the next block, as it was pushed into the sender.
    Header([u8; HEADER_LEN]),
    /// The next bytes of its payload.
    Payload(&'a [u8]),
}

/// A reason why the bytes of the group are of no use. The member leaves the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// No header where a block must begin.
    #[error("the group carries no block where one must begin: {0}")]
    NotABlock(BlockError),
    /// Bytes behind the end block.
    #[error("the group carries bytes behind the end of the stream")]
    AfterTheEnd,
    /// A payload without a header, or longer than its header says.
    #[error("the group carries a payload that belongs to no block")]
    NoHeader,
}

/// Cutter of the bytes of a group into blocks. It checks no hash: that is the business of whom the blocks
/// go to.
#[derive(Debug, Clone)]
pub(super) struct BlockCutter {
    header: [u8; HEADER_LEN],
    /// Bytes of the header that are there. All of them while a payload comes.
    filled: usize,
    /// Bytes of the payload that are to come.
    payload: usize,
    kind: Option<BlockKind>,
}

impl BlockCutter {
    /// Returns a cutter at the beginning of a stream.
    pub(super) const fn new() -> Self {
        Self {
            header: [0; HEADER_LEN],
            filled: 0,
            payload: 0,
            kind: None,
        }
    }

    /// Returns true once the whole end block was cut.
    pub(super) const fn has_ended(&self) -> bool {
        matches!(self.kind, Some(BlockKind::End)) && self.payload == 0
    }

    /// Takes the next piece from `stripe`, which becomes what is left of it. Returns `None` if nothing is
    /// left; then go on with the next stripe.
    ///
    /// # Errors
    /// [`CutError`]; the cutter is of no use afterwards.
    pub(super) fn next<'a>(&mut self, stripe: &mut &'a [u8]) -> Result<Option<Piece<'a>>, CutError> {
        if self.payload > 0 {
            let (part, rest) = stripe.split_at(self.payload.min(stripe.len()));
            *stripe = rest;
            self.payload -= part.len();
            return Ok((!part.is_empty()).then_some(Piece::Payload(part)));
        }
        if self.filled == 0 && stripe.first() == Some(&0) {
            *stripe = &[];
        }
        if stripe.is_empty() {
            return Ok(None);
        }
        if self.kind == Some(BlockKind::End) {
            return Err(CutError::AfterTheEnd);
        }
        let (part, rest) = stripe.split_at(stripe.len().min(HEADER_LEN - self.filled));
        *stripe = rest;
        let end = self.filled + part.len();
        self.header[self.filled..end].copy_from_slice(part);
        self.filled = end;
        if end < HEADER_LEN {
            return Ok(None);
        }
        self.filled = 0;
        let header = BlockHeader::decode(&self.header).map_err(CutError::NotABlock)?;
        self.payload = header.length as usize;
        self.kind = Some(header.kind);
        Ok(Some(Piece::Header(self.header)))
    }
}
