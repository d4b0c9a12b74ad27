//! The task that owns a run.

use std::time::Duration;

use crossbeam_channel::Sender;
use ka_proto::{StreamId, StreamName};
use tokio::sync::mpsc;

use super::Server;
use super::types::{NodeInfo, Outcome, ServerConfig};
use crate::error::TransportError;
use crate::stream::Head;

type Reply<T> = Sender<Result<T, TransportError>>;

/// What the facade asks of the core.
#[derive(Debug)]
pub(crate) enum Command {
    Gather {
        reply: Reply<Vec<NodeInfo>>,
    },
    Prepare {
        payload: Vec<u8>,
        reply: Reply<Vec<(NodeInfo, Outcome<Vec<u8>>)>>,
    },
    Go {
        reply: Reply<Vec<(NodeInfo, Outcome<()>)>>,
    },
    OpenStream {
        name: StreamName,
        reply: Reply<Head>,
    },
    FinishStream { stream: StreamId, reply: Reply<Vec<(NodeInfo, Outcome<()>)>> },
    FailStream { stream: StreamId, reason: String },
    CollectReports {
        reply: Reply<Vec<(NodeInfo, Outcome<Vec<u8>>)>>,
    },
    Release {
        stagger: Duration,
        reply: Reply<()>,
    },
    Abort {
        reason: String,
        reply: Sender<()>,
    },
}

pub(super) fn start(_config: ServerConfig) -> Result<Server, TransportError> {
    Err(TransportError::Misuse("the server's core is being written"))
}

/// Sends a command and waits for its answer.
pub(crate) fn ask<T>(
    commands: &mpsc::UnboundedSender<Command>,
    command: impl FnOnce(Sender<T>) -> Command,
) -> Result<T, TransportError> {
    let (reply, answer) = crossbeam_channel::bounded(1);
    let ended = || TransportError::Aborted {
        reason: "the server has ended".to_owned(),
    };
    commands.send(command(reply)).map_err(|_| ended())?;
    answer.recv().map_err(|_| ended())
}
