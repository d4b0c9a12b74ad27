//! What the facade, the connections and the core of a server say to each other.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use ka_proto::control::{Join, ToServer};
use ka_proto::run::ConnId;
use ka_proto::via::ListedNode;
use ka_proto::{MacAddr, NodeId, NodeName, Reason, StreamId, StreamName};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::answers::Questions;
use super::branches::Kept;
use super::types::{Answers, Endings, NodeInfo};
use crate::error::TransportError;
use crate::stream::{Head, LinkKeys, Shared, Stranger, Sums};
use crate::tunnel::{Tunnel, Tunnelling};

/// Where a command's answer goes. The caller waits for it, so there is always room.
pub(super) type Reply<T> = Sender<Result<T, TransportError>>;

/// A node, and what it reports.
pub(super) type Reported = (NodeInfo, Vec<u8>);

/// What the facade asks of the core.
#[derive(Debug)]
pub(crate) enum Command {
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
        /// Where each report goes as it comes.
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
    Abort {
        reason: String,
        reply: Sender<()>,
    },
}

/// What connections tell the core.
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
        /// What it takes of the budget for long messages, given back when it has been handled.
        share: Option<OwnedSemaphorePermit>,
    },
    Closed {
        conn: ConnId,
        reason: Reason,
    },
    /// Which nodes are there?
    Roll {
        reply: oneshot::Sender<Vec<ListedNode>>,
    },
    /// An operator at `from` wants a way to the node that is called so.
    Tunnel {
        wanted: String,
        from: SocketAddr,
        reply: oneshot::Sender<Result<(NodeName, Tunnel), Reason>>,
    },
}

/// The way to one node.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) frames: mpsc::Sender<Vec<u8>>,
    pub(super) tunnels: Tunnelling,
    /// What the node was asked that may have a long answer.
    pub(super) questions: Questions,
    /// Ends when everything is sent and the connection is closed.
    pub(super) writer: JoinHandle<()>,
}

/// Who waits for the end of what goes on.
#[derive(Debug)]
pub(super) enum Waiting {
    Nobody,
    Gather(Reply<Vec<NodeInfo>>),
    Prepare(Reply<Answers>),
    Go(Reply<Endings>),
    Reports {
        each: Sender<Reported>,
        reply: Reply<Answers>,
    },
    Commit(Reply<Endings>),
    Release(Reply<()>),
}

/// The stream that is open, or was last.
#[derive(Debug)]
pub(super) struct OpenStream {
    pub(super) stream: StreamId,
    pub(super) shared: Arc<Shared>,
    /// The key of the link from the head's successor.
    pub(super) links: LinkKeys,
    pub(super) outcomes: Option<Endings>,
    pub(super) waiting: Option<Reply<Endings>>,
    /// The producer has handed everything over.
    pub(super) ended: bool,
    /// How the head's time had been spent when the machine was told last.
    pub(super) told_sums: Sums,
    /// What is kept of it, and who is fed from that.
    pub(super) kept: Option<Kept>,
}

/// Queues that the core listens to.
#[derive(Debug)]
pub(super) struct Queues {
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) inputs: mpsc::Receiver<Input>,
    pub(super) strangers: mpsc::Receiver<Stranger>,
}

/// Sends a command and waits for its answer. The core bounds every wait, or goes away and closes the channel.
pub(crate) fn ask<T>(
    commands: &mpsc::UnboundedSender<Command>,
    command: impl FnOnce(Sender<T>) -> Command,
) -> Result<T, TransportError> {
    let (reply, answer) = crossbeam_channel::bounded(1);
    commands.send(command(reply)).map_err(ended)?;
    answer.recv().map_err(ended)
}

/// Why a core that is gone does not answer.
pub(super) fn ended<E>(_: E) -> TransportError {
    TransportError::Aborted {
        reason: "the server has ended".to_owned(),
    }
}
