//! The producer's hold on the pump of the head, behind [`super::StreamWriter`].
//!
//! Blocks are encrypted and hashed here, on the producer's thread: the pump of the head then only sends.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use ka_proto::block::Sealer;
use tokio::sync::mpsc;

use super::buffer::{Payload, SealedBlock};
use super::inbox::Input;
use super::shared::Shared;
use crate::error::TransportError;
use crate::server::types::StreamSummary;
use crate::server::{Command, ask};

/// What the producer fills.
#[derive(Debug)]
pub(crate) struct Head {
    shared: Arc<Shared>,
    sealer: Sealer,
    window_bytes: usize,
    nodes: usize,
    blocks: u64,
    first_block: Option<Instant>,
}

impl Head {
    pub(crate) const fn new(shared: Arc<Shared>, sealer: Sealer, window_bytes: usize, nodes: usize) -> Self {
        Self {
            shared,
            sealer,
            window_bytes,
            nodes,
            blocks: 0,
            first_block: None,
        }
    }

    /// Nodes in the chain when the stream was opened.
    pub(super) const fn nodes(&self) -> usize {
        self.nodes
    }

    pub(super) fn buffer(&self, capacity: usize) -> Vec<u8> {
        self.shared.pool.vector(capacity)
    }

    pub(super) fn send(&mut self, mut bytes: Vec<u8>) -> Result<(), TransportError> {
        self.first_block.get_or_insert_with(Instant::now);
        let header = self
            .sealer
            .seal(&mut bytes)
            .map_err(|error| self.failed(error.to_string()))?;
        let block = SealedBlock {
            header: header.encode(),
            offset: header.offset.0,
            payload: Payload::from_producer(bytes, &self.shared.pool),
            consumed: AtomicBool::new(true),
        };
        self.blocks += 1;
        self.shared
            .produce(Arc::new(block), self.window_bytes)
            .map_err(|reason| self.failed(reason))
    }

    pub(super) fn finish(
        self,
        commands: &mpsc::UnboundedSender<Command>,
    ) -> Result<StreamSummary, TransportError> {
        let sent = Instant::now();
        self.shared.post(Input::ProducerDone);
        let stream = self.sealer.key().stream();
        let nodes = ask(commands, |reply| Command::FinishStream { stream, reply })??;
        Ok(StreamSummary {
            stream,
            name: self.shared.name.to_string(),
            bytes: self.sealer.offset().0,
            blocks: self.blocks,
            sending: self
                .first_block
                .map_or_else(Default::default, |first| sent - first),
            emptied_in: sent.elapsed(),
            nodes,
        })
    }

    /// Ends the stream as failed.
    pub(super) fn give_up(self, reason: &str, commands: &mpsc::UnboundedSender<Command>) {
        self.shared.post(Input::Abort(reason.to_owned()));
        let stream = self.sealer.key().stream();
        // A core that is gone has ended the stream already.
        commands
            .send(Command::FailStream {
                stream,
                reason: reason.to_owned(),
            })
            .ok();
    }

    fn failed(&self, reason: String) -> TransportError {
        TransportError::Stream {
            stream: self.shared.name.to_string(),
            reason,
        }
    }
}
