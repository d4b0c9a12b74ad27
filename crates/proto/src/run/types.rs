//! Settings, outputs and events of a run.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use ka_mac::MacAddr;

use super::{MinRate, Slow};
use crate::block::Cipher;
use crate::control::{Progress, Side, Stage, StreamGroup, Successor, ToNode};
use crate::group::Report as GroupReport;
use crate::group::probe::ProbeAnswer;
use crate::ids::{ChainPosition, NodeId, RunId, StreamId, StreamOffset};
use crate::limits;
use crate::link::ReceiptKeys;
use crate::order::{Candidate, OrderList};
use crate::text::{NodeName, Reason, SessionName, StreamName};
use crate::wire::Payload;
use crate::wiring::Wiring;

/// The driver's number for a control connection. It is never used twice in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// Time limits of the stages.
#[derive(Debug, Clone, Copy)]
pub struct StageTimeouts {
    /// Time for planning and checking.
    pub prepare: Duration,
    /// Time for preparing disks.
    pub go: Duration,
    /// Time for a stream in which nothing moves.
    pub stall: Duration,
    /// Time for the finishing steps, from [`super::Run::collect_reports`] on.
    pub report: Duration,
    /// Time for closing after release.
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

/// The offer of a session to its nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// No offer: nodes of every purpose are let in, and none can look.
    Anything,
    /// A plain stream for a command or a file.
    Stream,
    /// A clone; the payload is the install specification, for those that only look.
    Clone(Payload),
}

/// The settings of a run.
#[derive(Debug, Clone)]
pub struct RunConfig {
    /// Random number of the run, new for each run.
    pub run: RunId,
    /// Random key, new for each run. Every stream's key is derived from it.
    pub run_key: [u8; 32],
    /// Encryption of payload. `None` means that payload is not encrypted.
    pub cipher: Option<Cipher>,
    /// The session that nodes must ask for.
    pub session: SessionName,
    /// The offer to nodes. A node that wants something else is turned away as it comes.
    pub offer: Offer,
    /// The number of this round, counted from 1.
    pub round: u32,
    /// Most rounds of the run. A node that is late in the last one is refused. `u32::MAX` means no limit as
    /// long as nodes come.
    pub rounds: u32,
    /// Number of nodes at which the run starts (`-n`).
    pub wanted: Option<u32>,
    /// Time after which the run starts with the nodes that are there (`--wait`). Without nodes it gives up.
    pub wait: Option<Duration>,
    /// The port at which the head listens for its successor, at the address by which that node reached the
    /// server.
    pub data_port: u16,
    /// True if only [`super::Run::release`] releases nodes, also those that did not ask to wait (`-d`).
    pub hold_release: bool,
    /// True if a node that has reported is done only after [`super::Run::commit`]. All releases are held
    /// until then.
    pub commits: bool,
    /// Names that several machines of the run may have, because they tell nothing. Of other names, the second
    /// machine is refused. `None`: names do not matter.
    pub unique_names: Option<Vec<String>>,
    /// Number of lost nodes in a row that retained data bridges.
    pub tolerance: u8,
    /// True if the driver keeps each stream, so that a node that lost its place goes on in the same round.
    pub spool: bool,
    /// Rate below which a node that holds up the others is set aside for the next round.
    pub min_rate: MinRate,
    /// Silence on a data link after which the neighbour is lost. Every node is told.
    pub link_silence: Duration,
    /// Interval of the server's messages to every node.
    pub heartbeat: Duration,
    /// Silence of a node after which it is lost, while a stream runs.
    pub silence: Duration,
    /// True if a node may listen at another address than that of its control connection (address
    /// translation).
    pub any_address: bool,
    /// Silence of a node after which it is lost, while no stream runs.
    pub idle_silence: Duration,
    /// Time limits of the stages.
    pub timeouts: StageTimeouts,
    /// The operator's order of the chain (`--order`, groups of the node list).
    pub order: OrderList,
}

impl RunConfig {
    /// Returns the settings of one round that a node with `-g` starts: no encryption, no names compared, the
    /// defaults of [`limits`]. `run` and `run_key` are random, new for each run.
    #[must_use]
    pub fn new(run: RunId, run_key: [u8; 32], session: SessionName, data_port: u16) -> Self {
        Self {
            run,
            run_key,
            cipher: None,
            session,
            offer: Offer::Anything,
            round: 1,
            rounds: 1,
            wanted: None,
            wait: None,
            data_port,
            hold_release: false,
            commits: false,
            unique_names: None,
            tolerance: limits::DEFAULT_TOLERANCE,
            spool: false,
            min_rate: MinRate::Share,
            link_silence: limits::LINK_SILENCE,
            heartbeat: limits::HEARTBEAT,
            silence: limits::CONTROL_SILENCE,
            any_address: false,
            idle_silence: limits::IDLE_SILENCE,
            timeouts: StageTimeouts::default(),
            order: OrderList::default(),
        }
    }
}

/// A node as the operator knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// Number of the node.
    pub id: NodeId,
    /// Host name of the node.
    pub name: NodeName,
    /// Address at which its successor reaches it.
    pub addr: SocketAddr,
    /// MAC address, if the node gave it.
    pub mac: Option<MacAddr>,
    /// Place in the order, from 1. 0 while gathering.
    pub position: ChainPosition,
    /// True if it came with a complete clone that waits for its verdict.
    pub holds_clone: bool,
    /// The switch port at the other end of its line, if it has heard of it.
    pub wiring: Option<Wiring>,
}

impl NodeInfo {
    /// Returns the facts by which the node is given its place in the chain.
    #[must_use]
    pub fn candidate(&self) -> Candidate<'_> {
        Candidate {
            name: self.name.as_str(),
            addr: Some(self.addr),
            mac: self.mac,
            wiring: self.wiring.as_ref(),
        }
    }
}

impl fmt::Display for NodeInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.addr.ip(), self.name)
    }
}

/// The failure of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{stage}: {reason}")]
pub struct Failure {
    /// Stage in which it failed.
    pub stage: Stage,
    /// Reason of the failure.
    pub reason: Reason,
    /// True if the node is wanted in the next round. It did nothing wrong, or may be back after a power cut.
    pub again: bool,
}

/// The part of a stream that a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceivedStream {
    /// Payload, in bytes.
    pub bytes: u64,
    /// The [`crate::block::StreamDigest`] of this payload.
    pub digest: [u8; 32],
}

/// An action that the driver must carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunOutput {
    /// Send a message to this connection.
    Send {
        /// The connection.
        conn: ConnId,
        /// The message.
        message: ToNode,
    },
    /// Flush and close. There will be no [`super::Run::handle_closed`] for it.
    Close {
        /// The connection.
        conn: ConnId,
    },
    /// Carry out an order at the head of the chain, which is the driver's.
    Head(HeadOrder),
    /// Answer the caller of the command that is under way.
    Result(RunResult),
    /// Pass an event to the layer above.
    Event(RunEvent),
}

/// An order for the head's own relay, or for a second head that feeds a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadOrder {
    /// The head's relay gets this successor ([`crate::relay::Relay::set_successor`]).
    Successor {
        /// The stream.
        stream: StreamId,
        /// The successor.
        successor: Successor,
    },
    /// Give the head's relay the keys of the nodes that are near to it now.
    Receipts {
        /// The stream.
        stream: StreamId,
        /// These nodes, and the keys.
        keys: ReceiptKeys,
    },
    /// A second head must feed this node from the spool, from the offset that it asks for. A head that fed it
    /// before ends.
    OpenBranch {
        /// The stream.
        stream: StreamId,
        /// The node, the first of the branch.
        node: NodeId,
    },
    /// The head that feeds this node from the spool ends.
    CloseBranch {
        /// The stream.
        stream: StreamId,
        /// The node.
        node: NodeId,
    },
    /// The state of a member of the multicast group that the head sends to.
    GroupReport {
        /// The stream.
        stream: StreamId,
        /// The member.
        node: NodeId,
        /// Its state.
        report: GroupReport,
    },
    /// A node's part of a probe of multicast.
    Probe {
        /// The node.
        node: NodeId,
        /// Its answer.
        answer: ProbeAnswer,
    },
    /// A node is no member of the multicast group any more. Nothing waits for it there.
    LeftGroup {
        /// The stream.
        stream: StreamId,
        /// The node.
        node: NodeId,
    },
}

/// The result of a command: [`super::Run`] names the command of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunResult {
    /// Gathering is over. These are the nodes in the order of the chain.
    Gathered(Vec<NodeInfo>),
    /// No node came in time. The run is over.
    NobodyCame,
    /// A stage (Prepare, Go, Report, Commit) is over. Lists each node that was asked, in order. Go and Commit
    /// have empty payloads.
    StageDone {
        /// The stage.
        stage: Stage,
        /// Answer or failure of each.
        outcomes: Vec<(NodeInfo, Result<Payload, Failure>)>,
    },
    /// A stream is over for all nodes. Lists each node that was in it, in order. The head's relay ends too.
    StreamDone {
        /// The stream.
        stream: StreamId,
        /// The data that each node has, or its failure.
        outcomes: Vec<(NodeInfo, Result<ReceivedStream, Failure>)>,
    },
    /// The round is over and its connections are closed. Nothing more happens unless
    /// [`super::Run::next_round`] is called.
    Over,
}

/// An event for the operator, from the run to the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEvent {
    /// A node has joined.
    NodeJoined {
        /// The node.
        node: NodeInfo,
        /// Number of nodes present now.
        present: u32,
        /// Number of nodes wanted, if one was given.
        wanted: Option<u32>,
    },
    /// A node has heard of its switch port after it joined. An order that is fixed stays as it is.
    NodeWired {
        /// The node.
        node: NodeInfo,
    },
    /// A node left while gathering, or while it waited for the next round. Nothing is lost.
    NodeLeft {
        /// The node.
        node: NodeInfo,
        /// The reason.
        reason: Reason,
        /// Number of nodes present now.
        present: u32,
    },
    /// A node was sent away.
    NodeRefused {
        /// The address that it came from.
        addr: SocketAddr,
        /// Its host name.
        name: NodeName,
        /// The reason.
        reason: Reason,
    },
    /// A node that only looked has answered, or could not. It was never part of the run.
    NodeLooked {
        /// The node.
        node: NodeInfo,
        /// Its plan, or the reason why it has none.
        plan: Result<Payload, Reason>,
    },
    /// A node came too late for this round, or came back in it, and waits for the next one.
    NodeQueued {
        /// The node.
        node: NodeInfo,
        /// Round that it waits for.
        round: u32,
        /// The reason why it is not in this round.
        reason: Reason,
    },
    /// A node came whose clone is good already, and was released.
    NodeDoneAlready {
        /// The address that it came from.
        addr: SocketAddr,
        /// Its host name.
        name: NodeName,
    },
    /// A node failed. It is out, and is named in every outcome from here on.
    NodeFailed {
        /// The node.
        node: NodeInfo,
        /// The failure.
        failure: Failure,
    },
    /// A node is silent, and the chain was closed around it. The spool keeps the data that it misses. The
    /// node has failed if it is silent for `silence` in all.
    NodeAway {
        /// The node.
        node: NodeInfo,
        /// The fault as it was seen.
        reason: Reason,
        /// Time that it may be silent.
        silence: Duration,
    },
    /// A node that lost its place in the chain goes on, fed from the spool.
    NodeRejoined {
        /// The node.
        node: NodeInfo,
        /// The name of the stream.
        stream: StreamName,
        /// Offset of the first byte that it missed.
        offset: StreamOffset,
    },
    /// A node's event.
    NodeEvent {
        /// The node.
        node: NodeId,
        /// The event, for the status layer.
        payload: Payload,
    },
    /// A node sent more events than are passed on. Reported at one, ten, a hundred and so on.
    NodeEventsLeftOut {
        /// The node.
        node: NodeId,
        /// Number of its events that were left out so far.
        so_far: u64,
    },
    /// A node reports its progress in a stream.
    Progress {
        /// The node.
        node: NodeId,
        /// Its progress in the stream.
        progress: Progress,
    },
    /// A data connection of a node stands.
    LinkUp {
        /// The node.
        node: NodeId,
        /// The stream.
        stream: StreamId,
        /// The neighbour's side.
        side: Side,
        /// The offset at which data goes on.
        offset: StreamOffset,
    },
    /// A data connection of a node broke.
    LinkLost {
        /// The node.
        node: NodeId,
        /// The stream.
        stream: StreamId,
        /// The neighbour's side.
        side: Side,
        /// Offset that it had reached.
        offset: StreamOffset,
        /// The fault that it saw.
        reason: Reason,
    },
    /// A node, or the golden node ([`NodeId::SERVER`]), holds up all the others.
    SlowNode {
        /// The node.
        node: NodeId,
        /// The cause, and the rates.
        slow: Slow,
        /// True if it is set aside for that. Its failure follows.
        set_aside: bool,
    },
    /// Nodes have left the multicast group of the stream, and their predecessors feed them.
    LeftGroup {
        /// The nodes that left together, for the same reason.
        nodes: Vec<NodeInfo>,
        /// Number of members that are left.
        left: u32,
        /// The reason.
        reason: Reason,
    },
    /// A node that was released has closed its connection. The run has no part in what its machine does from
    /// now on.
    NodeGone {
        /// The node.
        node: NodeId,
    },
    /// A node's report is here.
    NodeReported {
        /// The node.
        node: NodeInfo,
        /// The report. It is among the outcomes of the stage, too.
        report: Payload,
    },
}

/// The head's part of a stream that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadStream {
    /// Number of the stream.
    pub stream: StreamId,
    /// Key of the stream.
    pub key: [u8; 32],
    /// The node that will connect to the head first.
    pub successor: NodeId,
    /// The other nodes for which the head keeps data, as they tell it.
    pub receipts: ReceiptKeys,
    /// The multicast group that the head sends to, and its members.
    pub group: Option<(StreamGroup, Vec<NodeId>)>,
}

/// A command that is not possible now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// Another command is under way, or the run is over. This is a mistake of the layer above.
    #[error("{command} is not possible now")]
    WrongPhase {
        /// The command.
        command: &'static str,
    },
    /// No node is left.
    #[error("no node is left")]
    NobodyLeft,
}
