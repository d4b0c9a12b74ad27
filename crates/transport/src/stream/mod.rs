//! One stream of blocks along the chain, as a pump carries it at the head, at a branch and at each node.
//!
//! [`Head`] is the producer's end at the server, [`StreamReader`] the consumer's end at a node, and
//! [`Block`] what the consumer gets. The decisions are those of `ka_proto::relay`; the bytes are in
//! `docs/protocol.md`. The meaning of the payload is not known here.
//!
//! # The contract between the threads of a stream
//!
//! Each stream has one thread of its own at each machine, the **pump** ([`pump`]). It alone owns the relay
//! machine, the window and both data connections. All others hold a [`PumpHandle`], and nothing else of the
//! pump:
//!
//! | thread | calls | may block in | is woken by |
//! |---|---|---|---|
//! | pump | every part of the handle | `poll(2)` on its two sockets and the wake event; a second at its very end | sockets, timers, the wake event |
//! | producer ([`Head`], or a branch's feeder) | `production().push`, `post` | `push`, while the window is full | the pump: room, or the end |
//! | consumer ([`StreamReader`]) | `delivery().receive`, `consume`, `abandon`, `post` | `receive`, while nothing is there | the pump: blocks, or the end |
//! | control task, tokio | `post`, `progress`, `sums`, `has_ended` | nothing | reports of the pump, an unbounded channel |
//! | connecting and listening tasks, tokio | `post`, with a connection that has proved itself | nothing | |
//!
//! - **The pump never waits for another thread.** Locks are held for a queue operation, never over a system
//!   call of a socket or a file, and never two at a time. A slow consumer fills the window, and the window
//!   stops the pump from reading; a slow successor does the same.
//! - **A wake costs two system calls and a context switch**, so the pump says what it waits for
//!   (`PumpHandle::fall_asleep`: so many bytes consumed, or a block produced) and is woken for that and for
//!   messages only. It announces its sleep first and looks once more afterwards; whoever changes something
//!   changes it first and looks at the announcement afterwards. So no wake is lost.
//! - **A block is shared, never copied**: the window, the socket's queue and the consumer hold the same
//!   [`SealedBlock`], and its memory returns to the [`Pool`] when the last of them lets go.
//! - **The first ending counts**, and is the last thing that the pump says: `PumpEvent::Closed` or
//!   `PumpEvent::Failed`. From then on `push` and `receive` return at once.
//! - Dropping a [`StreamReader`] (or the [`crate::StreamWriter`] around a [`Head`]) that was not finished ends it
//!   as failed. Dropping a handle ends nothing.

#[cfg(test)]
mod attackers;
mod buffer;
mod downstream;
mod group;
#[cfg(test)]
mod group_tests;
mod handle;
mod head;
mod inbox;
mod keys;
pub(crate) mod link;
mod processor;
mod proof;
mod pump;
mod spent;
mod spool;
#[cfg(test)]
mod tests;
mod upstream;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use ka_proto::block::{BlockHeader, Opener};
use ka_proto::{StreamId, StreamName};

use crate::error::TransportError;
pub(crate) use buffer::Pool;
use buffer::{Payload, SealedBlock};
pub(crate) use group::{GroupPlace, Receiving, Sending};
pub(crate) use handle::{Figures, PumpHandle};
pub(crate) use head::Head;
pub(crate) use inbox::{BranchId, PumpEvent, PumpInput, PumpReport};
pub(crate) use keys::LinkKeys;
pub(crate) use link::{LinkListener, LinkTarget, Stranger};
pub(crate) use processor::Threads;
pub(crate) use proof::EndKey;
pub(crate) use pump::{PumpConfig, spawn};
pub(crate) use spent::Sums;
pub(crate) use spool::{Branch, Gauge, Spool, SpoolWriter};

/// A node's end of a stream: verified blocks in order. Dropping it unfinished counts as a failed consumer;
/// the node goes on relaying to its successors either way.
#[derive(Debug)]
pub struct StreamReader {
    pump: Arc<PumpHandle>,
    stream: StreamId,
    opener: Box<Opener>,
    pending: VecDeque<Arc<SealedBlock>>,
    is_complete: bool,
    is_finished: bool,
}

impl StreamReader {
    pub(crate) fn new(pump: Arc<PumpHandle>, stream: StreamId, opener: Opener) -> Self {
        Self {
            pump,
            stream,
            opener: Box::new(opener),
            pending: VecDeque::new(),
            is_complete: false,
            is_finished: false,
        }
    }

    /// Returns the stream's name, as `kainstall2`.
    #[must_use]
    pub fn name(&self) -> &StreamName {
        self.pump.name()
    }

    /// Returns its number in the run.
    #[must_use]
    pub const fn stream(&self) -> StreamId {
        self.stream
    }

    /// Waits for the next block; `None` once everything has arrived and the end of the stream agrees with it.
    ///
    /// # Errors
    /// [`TransportError::Stream`] when the stream will not be completed here: the chain broke, or the run
    /// ended.
    pub fn recv(&mut self) -> Result<Option<Block>, TransportError> {
        if let Some(reason) = self.pump.delivery().failure() {
            return Err(self.failed(reason));
        }
        if self.pending.is_empty() && !self.is_complete {
            self.pump
                .delivery()
                .receive(&mut self.pending)
                .map_err(|reason| self.failed(reason))?;
            self.is_complete = self.pending.is_empty();
        }
        self.pending.pop_front().map(|block| self.open(block)).transpose()
    }

    /// Decrypts on the consumer's thread, into memory of its own: the chain may still need the block as it
    /// came.
    fn open(&self, block: Arc<SealedBlock>) -> Result<Block, TransportError> {
        let mut block = Block {
            block,
            plain: None,
            pump: Arc::clone(&self.pump),
        };
        if self.opener.is_needed() {
            let sealed = block.block.payload.as_slice();
            let mut plain = self.pump.pool().payload(sealed.len());
            let opened = BlockHeader::decode(&block.block.header)
                .and_then(|header| self.opener.open(&header, sealed, plain.as_mut_slice()));
            opened.map_err(|error| self.failed(error.to_string()))?;
            block.plain = Some(plain);
        }
        Ok(block)
    }

    /// Says how the consumer fared. `Ok` is for a consumer that took the whole stream and used it; with `Err`
    /// the server drops and names this node. Returns at once: relaying to the successors goes on meanwhile.
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
            Ok(()) => self.pump.post(PumpInput::ConsumerDone),
            Err(reason) => self.give_up(reason),
        }
        Ok(())
    }

    fn give_up(&mut self, reason: String) {
        self.pump.delivery().abandon(&mut self.pending);
        self.pump.post(PumpInput::ConsumerFailed(reason));
    }

    fn failed(&self, reason: String) -> TransportError {
        TransportError::Stream {
            stream: self.pump.name().to_string(),
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
    pump: Arc<PumpHandle>,
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
        self.pump.delivery().consume(&self.block);
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} bytes at {})", self.as_ref().len(), self.block.offset)
    }
}
