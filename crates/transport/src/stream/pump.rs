//! The pump thread: sockets of one stream at one node.

use tokio::sync::mpsc;

use crate::error::TransportError;
use crate::server::Command;
use crate::server::types::StreamSummary;

/// What other threads tell the pump.
#[derive(Debug)]
pub(crate) enum Input {
    /// The consumer took and used everything.
    ConsumerDone,
    /// The consumer gave up.
    ConsumerFailed(String),
}

/// The producer's hold on the pump of the head.
#[derive(Debug)]
pub(crate) struct Head;

impl Head {
    pub(crate) fn send(&mut self, _block: Vec<u8>) -> Result<(), TransportError> {
        Err(TransportError::Misuse("the chain is being written"))
    }
    pub(crate) fn buffer(&self, capacity: usize) -> Vec<u8> {
        Vec::with_capacity(capacity)
    }
    pub(crate) fn finish(
        self,
        _commands: &mpsc::UnboundedSender<Command>,
    ) -> Result<StreamSummary, TransportError> {
        Err(TransportError::Misuse("the chain is being written"))
    }
    pub(crate) fn give_up(self, _reason: &str) {}
}
