//! The messages between the facade, the connections and the core of a server.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crossbeam_channel::Sender;
use ka_mac::MacAddr;
use ka_proto::control::{Join, ToServer};
use ka_proto::run::{ConnId, NodeInfo};
use ka_proto::via::ListedNode;
use ka_proto::wiring::Wiring;
use ka_proto::{NodeId, NodeName, Reason, StreamId, StreamName};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::connections::Connection;
use super::types::{Answers, Endings};
use crate::error::TransportError;
use crate::stream::{Head, Stranger};
use crate::tunnel::Tunnel;

/// The way of a command's answer. The caller waits for it, so there is always room.
pub(super) type Reply<T> = Sender<Result<T, TransportError>>;

/// A node with its report.
pub(super) type Reported = (NodeInfo, Vec<u8>);

/// A command of the facade to the core.
#[derive(Debug)]
pub(super) enum Command {
    Gather {
        reply: Reply<Vec<NodeInfo>>,
    },
    Prepare {
        payload: Vec<u8>,
        reply: Reply<Answers>,
    },
    Go {
        reply: Reply<Endings>,
    },
    OpenStream {
        name: StreamName,
        reply: Reply<Head>,
    },
    FinishStream {
        stream: StreamId,
        reply: Reply<Endings>,
    },
    FailStream {
        stream: StreamId,
        reason: String,
    },
    CollectReports {
        /// The way of each report as it comes.
        each: Sender<Reported>,
        reply: Reply<Answers>,
    },
    Commit {
        reply: Reply<Endings>,
    },
    Reject {
        node: NodeId,
        reason: String,
        again: bool,
    },
    Release {
        stagger: Duration,
        reply: Reply<()>,
    },
    NextRound {
        grace: Duration,
        reply: Reply<Vec<NodeInfo>>,
    },
    ForgetDone {
        mac: MacAddr,
    },
    MarkDone {
        node: NodeId,
    },
    SetWiring {
        wiring: Wiring,
    },
    Abort {
        reason: String,
        reply: Sender<()>,
    },
}

/// A message of a connection to the core.
#[derive(Debug)]
pub(super) enum Input {
    Joined {
        conn: ConnId,
        join: Box<Join>,
        local: IpAddr,
        remote: SocketAddr,
        connection: Connection,
    },
    Message {
        conn: ConnId,
        message: ToServer,
        /// Its share of the budget for long messages, given back when it has been handled.
        share: Option<OwnedSemaphorePermit>,
    },
    Closed {
        conn: ConnId,
        reason: Reason,
    },
    /// An operator asks for the list of nodes.
    Roll {
        reply: oneshot::Sender<Vec<(NodeId, ListedNode)>>,
    },
    /// An operator at `from` wants a way to the node that is called so.
    Tunnel {
        wanted: String,
        from: SocketAddr,
        reply: oneshot::Sender<Result<(NodeName, Tunnel), Reason>>,
    },
}

/// Queues that the core listens to.
#[derive(Debug)]
pub(super) struct Queues {
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) inputs: mpsc::Receiver<Input>,
    pub(super) strangers: mpsc::Receiver<Stranger>,
}

/// Sends a command and waits for its answer. The core bounds every wait, or goes away and closes the channel.
pub(super) fn ask<T>(
    commands: &mpsc::UnboundedSender<Command>,
    command: impl FnOnce(Sender<T>) -> Command,
) -> Result<T, TransportError> {
    let (reply, answer) = crossbeam_channel::bounded(1);
    commands.send(command(reply)).map_err(ended)?;
    answer.recv().map_err(ended)
}

/// Returns the error for a call to a core that is gone.
pub(super) fn ended<E>(_: E) -> TransportError {
    TransportError::Aborted {
        reason: "the server has ended".to_owned(),
    }
}
