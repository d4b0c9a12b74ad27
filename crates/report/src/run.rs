//! The events of a run, as the server reports them: [`RunEvent`]. Every view shows the same events.
//!
//! The JSON form (one object a line, `docs/events.md`) is [`Stamped`]. No event holds the join code, because
//! events end up in logs.

use std::time::Duration;

use ka_proto::order::Crossings;
use ka_proto::wiring::Wiring;
use serde::Serialize;

use crate::boot::{BootServing, MachineNews, MachineRef, SeenBy};
use crate::erasing::Erasing;
use crate::event::NodeEvent;
use crate::exec::OperatorExec;
pub use crate::node::NodeRef;
use crate::report::{NodePlan, NodeReport};
use crate::slow::Slow;
use crate::spool::Rejoined;
use crate::summary::{RunSummary, StreamTotals};

/// Progress of one node in the running stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NodeProgress {
    /// Number of the node.
    pub id: u32,
    /// Bytes of the stream that the node has received and verified.
    pub received_bytes: u64,
    /// Bytes that its own consumer has taken.
    pub consumed_bytes: u64,
    /// Bytes that it holds for itself or its successor.
    pub buffered_bytes: u64,
}

/// One event of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum RunEvent {
    /// The golden node has been read and the server listens.
    Listening {
        /// Session name that nodes must give.
        session: String,
        /// Addresses with the control port.
        addrs: Vec<String>,
        /// Number of nodes waited for (`-n`).
        wanted: Option<u32>,
        /// Seconds after which the run starts with the nodes present (`--wait`).
        wait_secs: Option<u64>,
    },
    /// The boot server runs: machines may be switched on.
    BootServing(BootServing),
    /// A machine of the boot network acts.
    Machine {
        /// The machine that acts.
        machine: MachineRef,
        /// Its action.
        #[serde(flatten)]
        news: MachineNews,
    },
    /// A node arrived.
    NodeJoined {
        /// The node. Its `position` is the place so far.
        node: NodeRef,
        /// Number of nodes present now.
        present: usize,
        /// Number of nodes waited for (`-n`).
        wanted: Option<u32>,
    },
    /// A node waits until the operator lets it in (`--approve`).
    ApprovalWanted {
        /// Number of the question, for `ka-server approve`.
        request: u64,
        /// Host name that the node gave.
        name: String,
        /// Address from which the node came.
        addr: String,
        /// MAC address that the node gave.
        mac: Option<String>,
        /// Code that the node shows, too.
        code: String,
        /// Time that the node waits, in seconds.
        limit_secs: u64,
    },
    /// A question about a node is settled: it was answered, or the node left.
    ApprovalSettled {
        /// Number of the question.
        request: u64,
    },
    /// The server waits for the operator's consent before the first disk is erased.
    StartWanted,
    /// The operator has given the consent.
    StartGiven {
        /// Time that the nodes waited for it, in milliseconds.
        waited_ms: u64,
    },
    /// An item of something that a warning sums up.
    Detail {
        /// One line.
        text: String,
    },
    /// A connection was refused.
    NodeRefused {
        /// Address of the other side.
        addr: String,
        /// Name of the node, if it knows the run's join code.
        name: Option<String>,
        /// Reason of the refusal.
        reason: String,
    },
    /// The server was started again. The earlier run had not ended, and this one goes on with its other
    /// nodes.
    TakenUp {
        /// The nodes that are done already.
        nodes: Vec<NodeRef>,
    },
    /// A node is too late for this round, or came back in it. It waits for the next one.
    NodeQueued {
        /// The node. It has no place yet.
        node: NodeRef,
        /// Round that it waits for, counted from 1.
        round: u32,
        /// Reason why it cannot take part now.
        reason: String,
    },
    /// A node that was started with `--dry-run` has shown its plan here, too. It was never part of the run.
    NodeLooked {
        /// Address of the node.
        addr: String,
        /// Host name of the node.
        name: String,
        /// Actions of its plan, one line each. Empty without a plan.
        actions: Vec<String>,
        /// Reason why it has no plan.
        error: Option<String>,
    },
    /// A node came whose clone is good already. It was told so and released.
    NodeDoneAlready {
        /// Address of the node.
        addr: String,
        /// Host name of the node.
        name: String,
    },
    /// A round is over. Another one follows if there are nodes for it.
    RoundEnded {
        /// Number of the round, counted from 1.
        round: u32,
        /// Number of nodes that wait for the next round.
        waiting: usize,
        /// Number of nodes that were lost and may come back.
        lost: usize,
        /// Longest wait for them, in seconds.
        secs: u64,
    },
    /// The second or a later round begins. `lets-go` follows.
    RoundStarted {
        /// Number of the round, counted from 1.
        round: u32,
        /// Most rounds of the run (`--rounds`).
        rounds: u32,
    },
    /// The start rule holds: the original's "Let's go".
    LetsGo {
        /// The nodes in chain order.
        nodes: Vec<NodeRef>,
        /// The switch port of each of these nodes, if it has heard of it.
        wiring: Vec<Option<Wiring>>,
        /// The chain's crossings between switches, or between groups of the operator.
        crossings: Crossings,
    },
    /// A session of the run begins: `kainstall1` (the plan), `kainstall2` (the tree), …
    SessionStarted {
        /// Name with its number.
        session: String,
        /// Its work, for a human.
        what: String,
        /// Content to be sent, in bytes, if it is a stream whose size is known.
        expected_bytes: Option<u64>,
    },
    /// A node has checked everything and has a plan.
    NodePrepared {
        /// The node that is ready.
        node: NodeRef,
        /// Its plan.
        plan: NodePlan,
    },
    /// Every node has checked everything. These disks are erased next.
    Erasing {
        /// The disks.
        #[serde(flatten)]
        erasing: Erasing,
    },
    /// A node reported a step of its work.
    NodeStep {
        /// The node at work.
        node: NodeRef,
        /// The step and its state.
        step: NodeEvent,
    },
    /// An operator ran a command on a node.
    OperatorExec {
        /// The node that ran it.
        node: NodeRef,
        /// The operator's address, the command and its exit code.
        #[serde(flatten)]
        exec: OperatorExec,
    },
    /// Progress of the running stream, about once a second.
    Progress {
        /// Bytes given to the chain.
        sent_bytes: u64,
        /// Content in these bytes before compression, in bytes. This is the unit of `expected_bytes`.
        content_bytes: u64,
        /// The nodes in chain order.
        nodes: Vec<NodeProgress>,
    },
    /// A node, or the golden node, holds up all the others.
    SlowNode {
        /// The slow node. `None` is the golden node.
        node: Option<NodeRef>,
        /// The cause, and the rates.
        #[serde(flatten)]
        slow: Slow,
        /// True if the node is set aside for that. Its failure follows.
        set_aside: bool,
    },
    /// Each stream is kept while it runs (`--spool`).
    Spooling {
        /// Directory of the spool.
        dir: String,
        /// Free space there, in bytes.
        free_bytes: u64,
        /// Most space that the largest stream may need, in bytes. `None` if that is not known.
        expected_bytes: Option<u64>,
    },
    /// A node is silent, and the chain was closed around it. The spool keeps the data that it misses.
    NodeAway {
        /// The silent node.
        node: NodeRef,
        /// Reason, as the server saw it.
        reason: String,
        /// Time that it may be silent before it has failed, in seconds.
        secs: u64,
    },
    /// A node that lost its place in the chain goes on, fed from the spool.
    NodeRejoined {
        /// The node that is back.
        node: NodeRef,
        /// The stream and the position in it.
        #[serde(flatten)]
        rejoined: Rejoined,
    },
    /// The way of the streams of this round, and the reason for it.
    Transport {
        /// Number of nodes that get streams by multicast. The links of the chain feed the others.
        multicast: u32,
        /// Number of nodes in the round.
        nodes: u32,
        /// Text for people: what the probe found, and what follows.
        text: String,
    },
    /// Nodes have left the multicast group. Their predecessors feed them from where they stood.
    LeftGroup {
        /// The nodes that left together, for the same reason.
        left: Vec<NodeRef>,
        /// Number of nodes that still get the stream by multicast.
        multicast: u32,
        /// The reason.
        reason: String,
    },
    /// From here on streams are not kept any more. The chain goes on.
    SpoolOff {
        /// Reason why the spool ended.
        reason: String,
    },
    /// The stream is through: every node has taken all of it, or failed.
    SessionEnded {
        /// Totals of the stream.
        totals: StreamTotals,
    },
    /// A node is out of the run.
    NodeFailed {
        /// The failed node.
        node: NodeRef,
        /// Work at which it failed.
        stage: String,
        /// Reason of the failure.
        reason: String,
    },
    /// A node is done, and its digests are the golden node's.
    NodeDone {
        /// The node that is done.
        node: NodeRef,
        /// Its report.
        report: NodeReport,
    },
    /// The nodes are released. The server waits for the clones to come back from their own disks.
    WaitingForBoots {
        /// Number of clones.
        nodes: usize,
        /// Longest wait, in seconds.
        secs: u64,
    },
    /// A clone with a beacon asks for an address: it is on its way.
    NodeComingUp {
        /// Node of the clone.
        node: NodeRef,
    },
    /// A clone came back from its own disk.
    NodeBooted {
        /// Node of the clone.
        node: NodeRef,
        /// The sign by which it was noticed.
        seen_by: SeenBy,
        /// Time from the release to that sign, in milliseconds.
        after_ms: u64,
    },
    /// A warning for the operator.
    Warning {
        /// Text of the warning.
        text: String,
    },
    /// The run is over. No event comes after this.
    Ended {
        /// Summary of the whole run.
        summary: RunSummary,
    },
}

/// An event with its time, as it is written to a JSON line.
#[derive(Debug, Serialize)]
pub struct Stamped<'a> {
    at_ms: u128,
    #[serde(flatten)]
    event: &'a RunEvent,
}

impl<'a> Stamped<'a> {
    /// Returns an event `at` this long after the run began.
    pub fn new(at: Duration, event: &'a RunEvent) -> Self {
        Self {
            at_ms: at.as_millis(),
            event,
        }
    }
}
