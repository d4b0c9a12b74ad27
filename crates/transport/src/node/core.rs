//! The task that owns a node's control connection.

use tokio::sync::mpsc;

use super::{JoinEvent, Node, NodeConfig};
use crate::error::TransportError;

/// What the facade asks of the core.
#[derive(Debug)]
pub(crate) enum Command {
    Answer(Answer),
    Leave,
}

/// What a node tells the server.
#[derive(Debug)]
pub(crate) enum Answer {
    Prepared(Vec<u8>),
    Ready,
    StepFailed { stage: String, reason: String },
    Event(Vec<u8>),
    Report(Vec<u8>),
}

pub(super) fn join(_config: NodeConfig, _on_try: impl FnMut(&JoinEvent)) -> Result<Node, TransportError> {
    Err(TransportError::Misuse("the node's core is being written"))
}

pub(super) fn tell(commands: &mpsc::UnboundedSender<Command>, answer: Answer) -> Result<(), TransportError> {
    commands
        .send(Command::Answer(answer))
        .map_err(|_| TransportError::ServerLost {
            reason: "the connection has ended".to_owned(),
        })
}

pub(super) fn leave(commands: &mpsc::UnboundedSender<Command>) {
    commands.send(Command::Leave).ok();
}
