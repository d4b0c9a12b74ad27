//! The producer's end of a stream: the head of the chain, and the core that knows how the nodes end.

use std::time::Instant;

use ka_proto::block::HEADER_LEN;
use ka_proto::limits::MAX_BLOCK;
use tokio::sync::mpsc;

use super::messages::{Command, ask};
use super::types::StreamSummary;
use crate::error::TransportError;
use crate::stream::Head;

/// Block sizes that [`StreamWriter::block_len`] recommends, in bytes.
const LARGEST_BLOCK: usize = 512 << 10;
/// With its header 34 segments of 1448 bytes (Ethernet with TCP timestamps), all full, in one packet as the
/// kernel offloads them (at most 64 KiB with its headers). A block of 64 KiB does not fit one: its last bytes
/// wait behind the next block's, at every hop. Measured with 16 nodes at 200 Mbit/s and 128 MiB: 5.76 s, with
/// 64 KiB 6.10 s; with 32 nodes at 100 Mbit/s and 64 MiB: 5.77 s and 3.8 processor seconds, with 32 KiB 5.78
/// s and 5.0, with 40 KiB 5.82 s and 4.5.
const SMALLEST_BLOCK: usize = 34 * 1448 - HEADER_LEN;
/// Length of a block times the square of the nodes. Every node waits for its whole block before it sends it
/// on. With more nodes that wait must be smaller for the same sum.
const BLOCK_TIMES_NODES_SQUARED: usize = 16 << 20;

/// The server's end of a stream. Dropping it unfinished ends the stream as failed for every node.
#[derive(Debug)]
pub struct StreamWriter {
    head: Option<Head>,
    commands: mpsc::UnboundedSender<Command>,
}

impl StreamWriter {
    /// Returns the end of a stream that is open. `commands` leads to the core, which knows how the nodes end.
    pub(super) const fn new(head: Head, commands: mpsc::UnboundedSender<Command>) -> Self {
        Self {
            head: Some(head),
            commands,
        }
    }

    /// Sends one block; nodes get it with the same boundaries. Blocks while the window is full. An empty
    /// block is not sent.
    ///
    /// # Errors
    /// [`TransportError::Misuse`] over [`MAX_BLOCK`] bytes, [`TransportError::Stream`] when no node is left
    /// or the run was aborted.
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

    /// Returns the block size that suits this chain, in bytes. Every node waits for a whole block before it
    /// passes it on, so the last node is behind by a block for each hop. On the other hand, a block costs
    /// each hop three wake-ups. 512 KiB up to five nodes, down to 48 KiB at 14 and more keep the delay below
    /// a hundredth of a transfer of 256 MiB.
    #[must_use]
    pub fn block_len(&self) -> usize {
        self.head
            .as_ref()
            .map_or(SMALLEST_BLOCK, |head| recommended_block_len(head.nodes()))
    }

    /// Returns an empty vector to fill for [`StreamWriter::send`]: memory of a block that is through, still
    /// warm.
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
        let ended = Instant::now();
        let sent = head.finish();
        let stream = sent.stream;
        let nodes = ask(&self.commands, |reply| Command::FinishStream { stream, reply })??;
        Ok(StreamSummary {
            stream,
            name: sent.name,
            bytes: sent.bytes,
            blocks: sent.blocks,
            sending: sent.sending,
            emptied_in: ended.elapsed(),
            nodes,
        })
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        if let Some(head) = self.head.take() {
            let reason = "the server stopped sending before the end of the stream";
            let stream = head.give_up(reason);
            // A core that is gone has ended the stream already.
            let command = Command::FailStream {
                stream,
                reason: reason.to_owned(),
            };
            self.commands.send(command).ok();
        }
    }
}

fn recommended_block_len(nodes: usize) -> usize {
    let nodes = nodes.max(1);
    let len = BLOCK_TIMES_NODES_SQUARED / nodes.saturating_mul(nodes);
    if len < 2 * SMALLEST_BLOCK {
        return SMALLEST_BLOCK;
    }
    // A power of two is hashed in one wide pass.
    1 << len.min(LARGEST_BLOCK).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_smaller_in_longer_chains() {
        let lens = [1, 4, 8, 16, 32, 1000].map(recommended_block_len);
        assert_eq!(lens, [512 << 10, 512 << 10, 256 << 10, 49_144, 49_144, 49_144]);
    }
}
