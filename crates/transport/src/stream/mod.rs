//! One stream of blocks along the chain: what the producer at the server and the consumer on a node hold.
//!
//! Here: [`StreamWriter`], [`StreamReader`], [`Block`]. The work is done by one [`pump`] thread per stream and node;
//! what it decides is decided by `ka_proto::relay`. Not here: what the bytes mean. `docs/protocol.md`.

#[cfg(test)]
mod attackers;
mod buffer;
mod downstream;
mod ending;
mod flow;
mod head;
mod inbox;
mod keys;
pub(crate) mod link;
mod poll;
mod processor;
mod pump;
pub(crate) mod shared;
mod spent;
mod spool;
#[cfg(test)]
mod tests;
mod upstream;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use ka_proto::block::{BlockHeader, HEADER_LEN, Opener};
use ka_proto::limits::MAX_BLOCK;
use ka_proto::{StreamId, StreamName};
use tokio::sync::mpsc;

use crate::error::TransportError;
use crate::server::types::StreamSummary;
pub(crate) use buffer::Pool;
use buffer::{Payload, SealedBlock};
pub(crate) use ending::EndKey;
pub(crate) use head::Head;
pub(crate) use inbox::{Happened, Input, PumpConfig, Report};
pub(crate) use keys::LinkKeys;
pub(crate) use link::{BranchId, Door, LinkTarget, Stranger};
pub(crate) use processor::Threads;
pub(crate) use pump::spawn;
pub(crate) use shared::Shared;
pub(crate) use spent::Sums;
pub(crate) use spool::{Branch, Gauge, Keeper, Spool};

/// Block sizes that [`StreamWriter::block_len`] recommends, in bytes.
const LARGEST_BLOCK: usize = 512 << 10;
/// With its header 34 segments of 1448 bytes (Ethernet with TCP timestamps), all full, in one packet as the
/// kernel offloads them (at most 64 KiB with its headers). A block of 64 KiB does not fit one: its last bytes wait behind
/// the next block's, at every hop. Measured with 16 nodes at 200 Mbit/s and 128 MiB: 5.76 s, with 64 KiB 6.10 s; with 32
/// nodes at 100 Mbit/s and 64 MiB: 5.77 s and 3.8 processor seconds, with 32 KiB 5.78 s and 5.0, with 40 KiB 5.82 s and 4.5.
const SMALLEST_BLOCK: usize = 34 * 1448 - HEADER_LEN;
/// Length of a block times the square of the nodes: every node waits for its whole block before it sends it on, and the
/// more nodes there are the smaller that wait must be for the same sum.
const BLOCK_TIMES_NODES_SQUARED: usize = 16 << 20;

fn recommended_block_len(nodes: usize) -> usize {
    let nodes = nodes.max(1);
    let len = BLOCK_TIMES_NODES_SQUARED / nodes.saturating_mul(nodes);
    if len < 2 * SMALLEST_BLOCK {
        return SMALLEST_BLOCK;
    }
    // A power of two is hashed in one wide pass.
    1 << len.min(LARGEST_BLOCK).ilog2()
}

/// The server's end of a stream. Dropping it unfinished ends the stream as failed for every node.
#[derive(Debug)]
pub struct StreamWriter {
    head: Option<Head>,
    commands: mpsc::UnboundedSender<crate::server::Command>,
}

impl StreamWriter {
    pub(crate) const fn new(head: Head, commands: mpsc::UnboundedSender<crate::server::Command>) -> Self {
        Self {
            head: Some(head),
            commands,
        }
    }

    /// Sends one block; nodes get it with the same boundaries. Blocks while the window is full. An empty block is
    /// not sent.
    ///
    /// # Errors
    /// [`TransportError::Misuse`] over [`MAX_BLOCK`] bytes, [`TransportError::Stream`] when no node is left or the
    /// run was aborted.
    pub fn send(&mut self, block: Vec<u8>) -> Result<(), TransportError> {
        if block.len() > MAX_BLOCK {
            return Err(TransportError::Misuse(
                "a block is longer than the protocol allows (1 MiB)",
            ));
        }
        match &mut self.head {
            Some(head) if !block.is_empty() => head.send(block),
            _ => Ok(()),
        }
    }

    /// The block size that suits this chain, in bytes. Every node waits for a whole block before it passes it on, so the
    /// last node is behind by a block for each hop; on the other hand a block costs each hop three wake-ups. 512 KiB up
    /// to five nodes, down to 48 KiB at 14 and more keep the delay below a hundredth of a transfer of 256 MiB.
    #[must_use]
    pub fn block_len(&self) -> usize {
        self.head
            .as_ref()
            .map_or(SMALLEST_BLOCK, |head| recommended_block_len(head.nodes()))
    }

    /// An empty vector to fill for [`StreamWriter::send`]: memory of a block that is through, still warm.
    #[must_use]
    pub fn buffer(&self, capacity: usize) -> Vec<u8> {
        self.head
            .as_ref()
            .map_or_else(|| Vec::with_capacity(capacity), |head| head.buffer(capacity))
    }

    /// Ends the stream and waits until every node has it, failed or is lost: see [`StreamSummary::nodes`].
    ///
    /// # Errors
    /// [`TransportError::Aborted`] when the run ended meanwhile.
    pub fn finish(mut self) -> Result<StreamSummary, TransportError> {
        let Some(head) = self.head.take() else {
            return Err(TransportError::Misuse("the stream is finished already"));
        };
        head.finish(&self.commands)
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        if let Some(head) = self.head.take() {
            head.give_up(
                "the server stopped sending before the end of the stream",
                &self.commands,
            );
        }
    }
}

/// A node's end of a stream: verified blocks in order. Dropping it unfinished counts as a failed consumer; the node
/// goes on relaying to its successors either way.
#[derive(Debug)]
pub struct StreamReader {
    shared: Arc<Shared>,
    stream: StreamId,
    opener: Box<Opener>,
    pending: VecDeque<Arc<SealedBlock>>,
    is_complete: bool,
    is_finished: bool,
}

impl StreamReader {
    pub(crate) fn new(shared: Arc<Shared>, stream: StreamId, opener: Opener) -> Self {
        Self {
            shared,
            stream,
            opener: Box::new(opener),
            pending: VecDeque::new(),
            is_complete: false,
            is_finished: false,
        }
    }

    /// The stream's name, as `kainstall2`.
    #[must_use]
    pub fn name(&self) -> &StreamName {
        &self.shared.name
    }

    /// Its number in the run.
    #[must_use]
    pub const fn stream(&self) -> StreamId {
        self.stream
    }

    /// Waits for the next block; `None` once everything has arrived and the end of the stream agrees with it.
    ///
    /// # Errors
    /// [`TransportError::Stream`] when the stream will not be completed here: the chain broke, or the run ended.
    pub fn recv(&mut self) -> Result<Option<Block>, TransportError> {
        if let Some(reason) = self.shared.failure() {
            return Err(self.failed(reason));
        }
        if self.pending.is_empty() && !self.is_complete {
            self.shared
                .receive(&mut self.pending)
                .map_err(|reason| self.failed(reason))?;
            self.is_complete = self.pending.is_empty();
        }
        self.pending.pop_front().map(|block| self.open(block)).transpose()
    }

    /// Decrypts on the consumer's thread, into memory of its own: the chain may still need the block as it came.
    fn open(&self, block: Arc<SealedBlock>) -> Result<Block, TransportError> {
        let mut block = Block {
            block,
            plain: None,
            shared: Arc::clone(&self.shared),
        };
        if self.opener.is_needed() {
            let sealed = block.block.payload.as_slice();
            let mut plain = self.shared.pool.payload(sealed.len());
            let opened = BlockHeader::decode(&block.block.header)
                .and_then(|header| self.opener.open(&header, sealed, plain.as_mut_slice()));
            opened.map_err(|error| self.failed(error.to_string()))?;
            block.plain = Some(plain);
        }
        Ok(block)
    }

    /// Says how the consumer fared. `Ok` is for a consumer that took the whole stream and used it; with `Err` the
    /// server drops and names this node. Returns at once: relaying to the successors goes on meanwhile.
    ///
    /// # Errors
    /// [`TransportError::Misuse`] for `Ok` before [`StreamReader::recv`] gave `None`.
    pub fn finish(mut self, result: Result<(), String>) -> Result<(), TransportError> {
        self.is_finished = true;
        if result.is_ok() && !self.is_complete {
            self.give_up("the consumer stopped before the end of the stream".to_owned());
            return Err(TransportError::Misuse(
                "finish(Ok) before the end of the stream was received",
            ));
        }
        match result {
            Ok(()) => self.shared.post(Input::ConsumerDone),
            Err(reason) => self.give_up(reason),
        }
        Ok(())
    }

    fn give_up(&mut self, reason: String) {
        self.shared.abandon(&mut self.pending);
        self.shared.post(Input::ConsumerFailed(reason));
    }

    fn failed(&self, reason: String) -> TransportError {
        TransportError::Stream {
            stream: self.shared.name.to_string(),
            reason,
        }
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        if !self.is_finished {
            self.give_up("the consumer went away".to_owned());
        }
    }
}

/// A verified and decrypted block; dropping it tells that the consumer is done with it.
pub struct Block {
    block: Arc<SealedBlock>,
    /// Its payload decrypted; `None` when it travelled as it is.
    plain: Option<Payload>,
    shared: Arc<Shared>,
}

impl Block {
    /// Payload bytes of the stream before this block.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.block.offset
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        self.plain.as_ref().unwrap_or(&self.block.payload).as_slice()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.shared.consume(&self.block);
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} bytes at {})", self.as_ref().len(), self.block.offset)
    }
}
