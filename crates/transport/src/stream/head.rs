//! The producer's hold on the pump of the head, within [`crate::StreamWriter`].
//!
//! Blocks are encrypted and hashed here, on the producer's thread: the pump of the head then only sends.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use ka_proto::StreamId;
use ka_proto::block::Sealer;

use super::buffer::{Payload, SealedBlock};
use super::handle::PumpHandle;
use super::inbox::PumpInput;
use crate::error::TransportError;

/// The producer's end of a stream: seals blocks and queues them for the pump.
#[derive(Debug)]
pub(crate) struct Head {
    pump: Arc<PumpHandle>,
    sealer: Sealer,
    window_bytes: usize,
    nodes: usize,
    blocks: u64,
    first_block: Option<Instant>,
}

/// The totals of a stream that the producer has given to the chain.
#[derive(Debug)]
pub(crate) struct SentStream {
    pub(crate) stream: StreamId,
    pub(crate) name: String,
    /// Bytes of payload.
    pub(crate) bytes: u64,
    pub(crate) blocks: u64,
    /// Time from the first block to the end.
    pub(crate) sending: Duration,
}

impl Head {
    pub(crate) const fn new(
        pump: Arc<PumpHandle>,
        sealer: Sealer,
        window_bytes: usize,
        nodes: usize,
    ) -> Self {
        Self {
            pump,
            sealer,
            window_bytes,
            nodes,
            blocks: 0,
            first_block: None,
        }
    }

    /// Nodes in the chain when the stream was opened.
    pub(crate) const fn nodes(&self) -> usize {
        self.nodes
    }

    /// Returns an empty vector: memory of a block that is through, if there is one.
    pub(crate) fn buffer(&self, capacity: usize) -> Vec<u8> {
        self.pump.pool().vector(capacity)
    }

    /// Seals a block and queues it. Waits while the window is full.
    ///
    /// # Errors
    /// The stream has ended.
    pub(crate) fn send(&mut self, mut bytes: Vec<u8>) -> Result<(), TransportError> {
        self.first_block.get_or_insert_with(Instant::now);
        let header = self
            .sealer
            .seal(&mut bytes)
            .map_err(|error| self.failed(error.to_string()))?;
        let block = SealedBlock {
            header: header.encode(),
            offset: header.offset.0,
            payload: Payload::from_producer(bytes, self.pump.pool()),
            consumed: AtomicBool::new(true),
        };
        self.blocks += 1;
        self.pump
            .production()
            .push(Arc::new(block), self.window_bytes)
            .map_err(|reason| self.failed(reason))
    }

    /// Tells the pump that everything was sent.
    pub(crate) fn finish(self) -> SentStream {
        let sending = self.first_block.map_or(Duration::ZERO, |first| first.elapsed());
        self.pump.post(PumpInput::ProducerDone);
        SentStream {
            stream: self.sealer.key().stream(),
            name: self.pump.name().to_string(),
            bytes: self.sealer.offset().0,
            blocks: self.blocks,
            sending,
        }
    }

    /// Ends the stream as failed. Returns its number.
    pub(crate) fn give_up(self, reason: &str) -> StreamId {
        self.pump.post(PumpInput::Abort(reason.to_owned()));
        self.sealer.key().stream()
    }

    fn failed(&self, reason: String) -> TransportError {
        TransportError::Stream {
            stream: self.pump.name().to_string(),
            reason,
        }
    }
}
