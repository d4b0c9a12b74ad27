//! What a run is made of, and what it says.

use std::net::SocketAddr;
use std::time::Duration;

use super::{MinRate, Slow};
use crate::block::Cipher;
use crate::control::{Progress, Side, Stage, Successor, ToNode};
use crate::ids::{ChainPosition, MacAddr, NodeId, RunId, StreamId, StreamOffset};
use crate::limits;
use crate::link::ReceiptKeys;
use crate::text::{NodeName, Reason, SessionName};
use crate::wire::Payload;

/// The driver's number for a control connection; never used twice in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// How long each stage may take.
#[derive(Debug, Clone, Copy)]
pub struct StageTimeouts {
    /// Planning and checking.
    pub prepare: Duration,
    /// Preparing disks.
    pub go: Duration,
    /// A stream in which nothing moves.
    pub stall: Duration,
    /// Finishing steps, from [`super::Run::collect_reports`] on.
    pub report: Duration,
    /// Closing after release.
    pub leave: Duration,
}

impl Default for StageTimeouts {
    fn default() -> Self {
        Self {
            prepare: limits::PREPARE_TIMEOUT,
            go: limits::GO_TIMEOUT,
            stall: limits::STREAM_STALL_TIMEOUT,
            report: limits::REPORT_TIMEOUT,
            leave: limits::LEAVE_TIMEOUT,
        }
    }
}

/// What a session has for its nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// Not said: nodes of every purpose are let in, and none can look.
    Anything,
    /// A plain stream for a command or a file.
    Stream,
    /// A clone; the payload is the install specification, for those that only look.
    Clone(Payload),
}

/// What a run is made of.
#[derive(Debug, Clone)]
pub struct RunConfig {
    /// Random, new for each run.
    pub run: RunId,
    /// Random, new for each run: every stream's key comes from it.
    pub run_key: [u8; 32],
    /// How payload is encrypted, if it is.
    pub cipher: Option<Cipher>,
    /// The session that nodes must ask for.
    pub session: SessionName,
    /// What it has for them: who wants something else is turned away as it comes.
    pub offer: Offer,
    /// Which round this is, counted from 1.
    pub round: u32,
    /// How many there may be; who is late in the last one is refused. `u32::MAX`: as many as somebody comes for.
    pub rounds: u32,
    /// `-n`: start when this many are there.
    pub wanted: Option<u32>,
    /// `--wait`: start after this long with whoever is there; with nobody there, give up.
    pub wait: Option<Duration>,
    /// Where the head listens for its successor, at the address by which that node reached the server.
    pub data_port: u16,
    /// Nodes are released by [`super::Run::release`] only, also those that did not ask to wait (`-d`).
    pub hold_release: bool,
    /// A node that has reported is done only after [`super::Run::commit`]; all releases are held until then.
    pub commits: bool,
    /// No two machines of the run may have one name, but for these, which say nothing: the second one is refused. `None`:
    /// names do not matter.
    pub unique_names: Option<Vec<String>>,
    /// Whether neighbours of a lost node are joined to each other. Off: those below it fail.
    pub heal: bool,
    /// How many lost nodes in a row retained data bridges.
    pub tolerance: u8,
    /// The driver keeps each stream, so that a node that lost its place goes on in the same round. Needs `heal`.
    pub spool: bool,
    /// Under which rate a node that holds up the others is set aside for the next round.
    pub min_rate: MinRate,
    /// A neighbour silent on a data link for this long is lost; told to every node.
    pub link_silence: Duration,
    /// Every node hears from the server this often.
    pub heartbeat: Duration,
    /// A node silent for this long while a stream runs is lost.
    pub silence: Duration,
    /// Whether a node may listen elsewhere than where its control connection comes from (address translation).
    pub any_address: bool,
    /// A node silent for this long while no stream runs is lost.
    pub idle_silence: Duration,
    /// Stage timeouts.
    pub timeouts: StageTimeouts,
}

/// A node as the operator knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its number.
    pub id: NodeId,
    /// Its host name.
    pub name: NodeName,
    /// Where its successor reaches it; the chain is ordered by this.
    pub addr: SocketAddr,
    /// Its hardware address, if it said.
    pub mac: Option<MacAddr>,
    /// Its place in the order, from 1; 0 while gathering.
    pub position: ChainPosition,
    /// It came with a complete clone that waits for its verdict.
    pub holds_clone: bool,
}

/// Why and where a node failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{stage}: {reason}")]
pub struct Failure {
    /// In which stage.
    pub stage: Stage,
    /// Why.
    pub reason: Reason,
    /// Whether the node is wanted in the next round: it did nothing wrong, or may be back after a power cut.
    pub again: bool,
}

/// What a node has of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Payload bytes.
    pub bytes: u64,
    /// [`crate::block::StreamDigest`] of them.
    pub digest: [u8; 32],
}

/// What the driver must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunOutput {
    /// Send to this connection.
    Send {
        /// Which.
        conn: ConnId,
        /// What.
        message: ToNode,
    },
    /// Flush and close; there will be no [`super::Run::handle_closed`] for it.
    Close {
        /// Which.
        conn: ConnId,
    },
    /// Tell the layer above.
    Event(RunEvent),
}

/// What the layer above learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEvent {
    /// A node came.
    NodeJoined {
        /// Who.
        node: NodeInfo,
        /// How many are there now.
        present: u32,
        /// How many are wanted, if a number was given.
        wanted: Option<u32>,
    },
    /// A node went while gathering, or while it waited for the next round; nothing is lost.
    NodeLeft {
        /// Who.
        node: NodeInfo,
        /// Why.
        reason: Reason,
        /// How many are there now.
        present: u32,
    },
    /// A node was sent away.
    NodeRefused {
        /// From where it came.
        addr: SocketAddr,
        /// Its host name.
        name: NodeName,
        /// Why.
        reason: Reason,
    },
    /// A node that only looked has answered, or could not: it was never part of the run.
    NodeLooked {
        /// Who.
        node: NodeInfo,
        /// Its plan, or why it has none.
        plan: Result<Payload, Reason>,
    },
    /// A node came too late for this round, or came back in it, and waits for the next one.
    NodeQueued {
        /// Who.
        node: NodeInfo,
        /// The round that it waits for.
        round: u32,
        /// Why not now.
        reason: Reason,
    },
    /// A node came whose clone is good already, and was let go.
    NodeDoneAlready {
        /// From where it came.
        addr: SocketAddr,
        /// Its host name.
        name: NodeName,
    },
    /// Gathering is over; these are the nodes in order.
    Gathered(Vec<NodeInfo>),
    /// Nobody came in time; the run is over.
    NobodyCame,
    /// A node failed; it is out, and named in every outcome from here on.
    NodeFailed {
        /// Who.
        node: NodeInfo,
        /// Where and why.
        failure: Failure,
    },
    /// A stage (Prepare, Go, Report, Commit) is over: each node that was asked, in order. Go and Commit have empty
    /// payloads.
    StageDone {
        /// Which.
        stage: Stage,
        /// Answer or failure of each.
        outcomes: Vec<(NodeInfo, Result<Payload, Failure>)>,
    },
    /// The head's relay gets this successor ([`crate::relay::Relay::set_successor`]).
    HeadSuccessor {
        /// Which stream.
        stream: StreamId,
        /// Who.
        successor: Successor,
    },
    /// Give the head's relay the keys of those who are near to it now.
    HeadReceipts {
        /// The stream.
        stream: StreamId,
        /// These nodes, and the keys.
        keys: ReceiptKeys,
    },
    /// A second head is to feed this node from what was kept of the stream, from where it asks to go on; one that
    /// fed it before ends.
    Branch {
        /// Which stream.
        stream: StreamId,
        /// The node, the first of the branch.
        node: NodeId,
    },
    /// The head that feeds this node from what was kept ends.
    BranchClosed {
        /// Which stream.
        stream: StreamId,
        /// The node.
        node: NodeId,
    },
    /// Nobody hears a node, and the chain was closed around it; what it misses is kept. It has failed when it says
    /// nothing for `silence` in all.
    NodeAway {
        /// Who.
        node: NodeInfo,
        /// What was seen.
        reason: Reason,
        /// How long it may be silent.
        silence: Duration,
    },
    /// A node that lost its place in the chain goes on, fed from what was kept.
    NodeRejoined {
        /// Who.
        node: NodeInfo,
        /// Which stream.
        stream: StreamId,
        /// The first byte that it missed.
        offset: StreamOffset,
    },
    /// A stream is over for everybody: each node that was in it, in order. The head's relay ends too.
    StreamDone {
        /// Which.
        stream: StreamId,
        /// What each has, or its failure.
        outcomes: Vec<(NodeInfo, Result<Received, Failure>)>,
    },
    /// A node's event.
    NodeEvent {
        /// Who.
        node: NodeId,
        /// What, for the status layer.
        payload: Payload,
    },
    /// A node said more than is passed on; told at one, ten, a hundred and so on.
    NodeEventsLeftOut {
        /// The node.
        node: NodeId,
        /// Its events that were left out so far.
        so_far: u64,
    },
    /// Where a node is with a stream.
    Progress {
        /// Who.
        node: NodeId,
        /// Where.
        progress: Progress,
    },
    /// A data connection of a node stands.
    LinkUp {
        /// Who.
        node: NodeId,
        /// Which stream.
        stream: StreamId,
        /// Which neighbour.
        side: Side,
        /// Where data goes on.
        offset: StreamOffset,
    },
    /// A data connection of a node broke.
    LinkLost {
        /// Who.
        node: NodeId,
        /// Which stream.
        stream: StreamId,
        /// Which neighbour.
        side: Side,
        /// How far it was.
        offset: StreamOffset,
        /// What it saw.
        reason: Reason,
    },
    /// A node, or the golden one ([`NodeId::SERVER`]), holds up all the others.
    SlowNode {
        /// Who.
        node: NodeId,
        /// Why, and by how much.
        slow: Slow,
        /// Whether it is taken out of the chain for that; its failure follows.
        set_aside: bool,
    },
    /// A node that was released has closed its connection: what its machine does from now on, it does without us.
    NodeGone {
        /// Who.
        node: NodeId,
    },
    /// A node's report is here.
    NodeReported {
        /// Who.
        node: NodeInfo,
        /// What it says; it is among the outcomes of the stage, too.
        report: Payload,
    },
    /// The round is over and its connections are closed; nothing more will happen unless
    /// [`super::Run::next_round`] is called.
    Over,
}

/// The head's part of a stream that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadStream {
    /// Its number.
    pub stream: StreamId,
    /// Its key.
    pub key: [u8; 32],
    /// Who will connect to the head first.
    pub successor: NodeId,
    /// The nodes that the head keeps data for besides, as it hears from them.
    pub receipts: ReceiptKeys,
}

/// A command that cannot be followed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// Something else is going on, or everything is over: a mistake of the layer above.
    #[error("{command} is not possible now")]
    WrongPhase {
        /// Which command.
        command: &'static str,
    },
    /// No node is left.
    #[error("no node is left")]
    NobodyLeft,
}
