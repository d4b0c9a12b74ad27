//! What the server tells about a run, as it happens: [`RunEvent`]. Every view shows the same events.
//!
//! The JSON form (one object a line, `docs/events.md`) is [`Stamped`]. The join code is in no event: events end
//! up in logs.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::boot::{BootServing, MachineNews, MachineRef, SeenBy};
use crate::erasing::Erasing;
use crate::event::NodeEvent;
use crate::exec::OperatorExec;
use crate::report::{NodePlan, NodeReport};
use crate::slow::Slow;
use crate::spool::Rejoined;
use crate::summary::{RunSummary, StreamTotals};

/// A node as the operator knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeRef {
    /// Number the server gave it in this run.
    pub id: u32,
    /// Its host name.
    pub name: String,
    /// The address of its data port's interface, as text.
    pub addr: String,
    /// Its place in the chain, 1 is next to the server; 0 before the chain is ordered.
    pub position: u32,
}

impl fmt::Display for NodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.position == 0 {
            write!(f, "{} ({})", self.name, self.addr)
        } else {
            write!(f, "node {} {} ({})", self.position, self.name, self.addr)
        }
    }
}

/// How far one node is in the stream that is running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NodeProgress {
    /// The node's number.
    pub id: u32,
    /// Bytes of the stream it has received and verified.
    pub received_bytes: u64,
    /// Bytes its own consumer has taken.
    pub consumed_bytes: u64,
    /// Bytes it holds for itself or its successor.
    pub buffered_bytes: u64,
}

/// One thing that happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum RunEvent {
    /// The golden node has been read and the server listens.
    Listening {
        /// Session name that nodes must give.
        session: String,
        /// Addresses with control port.
        addrs: Vec<String>,
        /// Nodes waited for (`-n`).
        wanted: Option<u32>,
        /// Seconds after which the run starts with whoever is there (`--wait`).
        wait_secs: Option<u64>,
    },
    /// The boot server runs: machines may be switched on.
    BootServing(BootServing),
    /// A machine of the boot network does something.
    Machine {
        /// The machine.
        machine: MachineRef,
        /// What it does.
        #[serde(flatten)]
        news: MachineNews,
    },
    /// A node arrived.
    NodeJoined {
        /// The node; `position` is its place so far.
        node: NodeRef,
        /// Nodes present now.
        present: usize,
        /// Nodes waited for.
        wanted: Option<u32>,
    },
    /// A node waits until the operator lets it in (`--approve`).
    ApprovalWanted {
        /// Number of the question, for `ka-server approve`.
        request: u64,
        /// The host name it gave.
        name: String,
        /// Where from.
        addr: String,
        /// The hardware address it gave.
        mac: Option<String>,
        /// What the node shows too.
        code: String,
        /// How long it waits, seconds.
        limit_secs: u64,
    },
    /// Somebody was turned away.
    NodeRefused {
        /// Where from.
        addr: String,
        /// Why.
        reason: String,
    },
    /// The server was started again: the run before was not ended, and this one goes on with the others.
    TakenUp {
        /// Who is done already.
        nodes: Vec<NodeRef>,
    },
    /// A node is too late for this round, or came back in it: it waits for the next one.
    NodeQueued {
        /// The node; it has no place yet.
        node: NodeRef,
        /// The round that it waits for, counted from 1.
        round: u32,
        /// Why not now.
        reason: String,
    },
    /// A node that was started with `--dry-run` has shown its plan here too; it was never part of the run.
    NodeLooked {
        /// Where from.
        addr: String,
        /// Its host name.
        name: String,
        /// The actions of its plan, one line each; empty where it has none.
        actions: Vec<String>,
        /// Why it has none.
        error: Option<String>,
    },
    /// A node came whose clone is good already; it was told so and let go.
    NodeDoneAlready {
        /// Where from.
        addr: String,
        /// Its host name.
        name: String,
    },
    /// A round is over, and another one follows if somebody is there for it.
    RoundEnded {
        /// Which, counted from 1.
        round: u32,
        /// Nodes that wait for the next one.
        waiting: usize,
        /// Nodes that were lost and may come back.
        lost: usize,
        /// How long they are waited for at most, seconds.
        secs: u64,
    },
    /// The second or a later round begins; `lets-go` follows.
    RoundStarted {
        /// Which, counted from 1.
        round: u32,
        /// How many there may be (`--rounds`).
        rounds: u32,
    },
    /// The start rule holds: the seed's "Let's go".
    LetsGo {
        /// The nodes in chain order.
        nodes: Vec<NodeRef>,
    },
    /// A session of the run begins: `kainstall1` (the plan), `kainstall2` (the tree), …
    SessionStarted {
        /// Name with its number.
        session: String,
        /// What it does, for a human.
        what: String,
        /// Content bytes expected to go through, if it is a stream whose size is known.
        expected_bytes: Option<u64>,
    },
    /// A node has checked everything and will do this.
    NodePrepared {
        /// The node.
        node: NodeRef,
        /// Its plan.
        plan: NodePlan,
    },
    /// Every node has checked everything: these disks are erased next.
    Erasing {
        /// Which.
        #[serde(flatten)]
        erasing: Erasing,
    },
    /// A node said something about its work.
    NodeStep {
        /// The node.
        node: NodeRef,
        /// What it said.
        step: NodeEvent,
    },
    /// An operator had a node run a command.
    OperatorExec {
        /// The node.
        node: NodeRef,
        /// Who, what, and how it ended.
        #[serde(flatten)]
        exec: OperatorExec,
    },
    /// Where the running stream stands, about once a second.
    Progress {
        /// Bytes given to the chain.
        sent_bytes: u64,
        /// Bytes of content they hold (before compression); the unit of `expected_bytes`.
        content_bytes: u64,
        /// The nodes in chain order.
        nodes: Vec<NodeProgress>,
    },
    /// A node, or the golden one, holds up all the others.
    SlowNode {
        /// The node; none is the golden one.
        node: Option<NodeRef>,
        /// Why, and by how much.
        #[serde(flatten)]
        slow: Slow,
        /// Whether it is taken out of the chain for that: its failure follows.
        set_aside: bool,
    },
    /// Each stream is kept while it runs (`--spool`).
    Spooling {
        /// Where.
        dir: String,
        /// What is free there, bytes.
        free_bytes: u64,
        /// What the largest stream may need, bytes; none where that is not known.
        expected_bytes: Option<u64>,
    },
    /// Nobody hears a node, and the chain was closed around it; what it misses is kept.
    NodeAway {
        /// The node.
        node: NodeRef,
        /// What was seen.
        reason: String,
        /// How long it may be silent before it has failed, seconds.
        secs: u64,
    },
    /// A node that lost its place in the chain goes on, fed from what is kept.
    NodeRejoined {
        /// The node.
        node: NodeRef,
        /// Where.
        #[serde(flatten)]
        rejoined: Rejoined,
    },
    /// From here on streams are not kept any more; the chain goes on.
    SpoolOff {
        /// Why.
        reason: String,
    },
    /// The stream is through: every node has taken all of it, or failed.
    SessionEnded {
        /// The seed's totals.
        totals: StreamTotals,
    },
    /// A node is out of the run.
    NodeFailed {
        /// The node.
        node: NodeRef,
        /// What it was doing.
        stage: String,
        /// Why.
        reason: String,
    },
    /// A node finished and its digests are the golden node's.
    NodeDone {
        /// The node.
        node: NodeRef,
        /// Its report.
        report: NodeReport,
    },
    /// The nodes are released; now the clones are waited for to come back from their own disks.
    WaitingForBoots {
        /// How many.
        nodes: usize,
        /// How long, seconds.
        secs: u64,
    },
    /// A clone that says by itself when it is up asks for an address: it is on its way.
    NodeComingUp {
        /// The node.
        node: NodeRef,
    },
    /// A clone came back from its own disk.
    NodeBooted {
        /// The node.
        node: NodeRef,
        /// How that was noticed.
        seen_by: SeenBy,
        /// From the release until then, milliseconds.
        after_ms: u64,
    },
    /// Something about the golden node that the operator should read.
    Warning {
        /// The text.
        text: String,
    },
    /// The run is over; nothing comes after this.
    Ended {
        /// Everything about it.
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
    /// An event `at` this long after the run began.
    pub fn new(at: Duration, event: &'a RunEvent) -> Self {
        Self {
            at_ms: at.as_millis(),
            event,
        }
    }
}
