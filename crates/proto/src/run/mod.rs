//! The server's side of a run: who is in, what they were asked, who failed where, and when it goes on.
//!
//! The driver proves a [`Join`] ([`crate::auth`]) before it hands it over, and gives every later message and every
//! broken connection to the machine. The server above gives the commands, one after another: gathering begins by
//! itself, then [`Run::prepare`], [`Run::go`], [`Run::open_stream`] (again for each stream), [`Run::collect_reports`],
//! [`Run::release`]. Each ends with one event, whatever nodes do: every wait has a timer. Generic mode leaves out
//! `prepare` and `go`.
//! Not here: sockets, the head's own relay ([`crate::relay`]), what payloads mean.
//! Specification: `docs/protocol.md`, "Run".

mod chain;
mod gather;
mod member;
mod stages;
mod stream;
mod timing;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::control::{Join, Progress, Side, Stage, Successor, ToNode, ToServer};
use crate::ids::{ChainPosition, MacAddr, NodeId, RunId, StreamId, StreamOffset};
use crate::limits;
use crate::text::{NodeName, Reason, SessionName, StreamName};
use crate::wire::Payload;

use member::Member;
use stream::StreamRun;

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
    /// Finishing steps, from [`Run::collect_reports`] on.
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

/// What a run is made of.
#[derive(Debug, Clone)]
pub struct RunConfig {
    /// Random, new for each run.
    pub run: RunId,
    /// Random, new for each run: every stream's key comes from it.
    pub run_key: [u8; 32],
    /// The session that nodes must ask for.
    pub session: SessionName,
    /// `-n`: start when this many are there.
    pub wanted: Option<u32>,
    /// `--wait`: start after this long with whoever is there; with nobody there, give up.
    pub wait: Option<Duration>,
    /// Where the head listens for its successor, at the address by which that node reached the server.
    pub data_port: u16,
    /// Nodes are released by [`Run::release`] only, also those that did not ask to wait (`-d`).
    pub hold_release: bool,
    /// Whether neighbours of a lost node are joined to each other. Off: those below it fail.
    pub heal: bool,
    /// How many lost nodes in a row retained data bridges.
    pub tolerance: u8,
    /// Every node hears from the server this often.
    pub heartbeat: Duration,
    /// A node silent for this long is lost.
    pub silence: Duration,
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
}

/// Why and where a node failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{stage}: {reason}")]
pub struct Failure {
    /// In which stage.
    pub stage: Stage,
    /// Why.
    pub reason: Reason,
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
    /// Flush and close; there will be no [`Run::handle_closed`] for it.
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
    /// A node went while gathering; nothing is lost.
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
    /// A stage (Prepare, Go, Report) is over: each node that was asked, in order. Go has empty payloads.
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
    /// A node's report is here.
    NodeReported {
        /// Who.
        node: NodeId,
    },
    /// All connections are closed; nothing more will happen.
    Over,
}

/// The head's part of a stream that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadStream {
    /// Its number.
    pub stream: StreamId,
    /// Its key.
    pub key: [u8; 32],
    /// Who will connect to the head first.
    pub successor: NodeId,
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

/// What is going on.
#[derive(Debug)]
enum Phase {
    /// Nodes join until the rule says go.
    Gathering { until: Option<Duration> },
    /// Between two commands.
    Idle,
    /// Waiting for answers.
    Asking {
        stage: Stage,
        asked: Vec<NodeId>,
        deadline: Duration,
    },
    /// A stream runs.
    Streaming(StreamRun),
    /// Waiting for nodes to close.
    Leaving { deadline: Duration },
    /// Nothing more will happen.
    Over,
}

/// The server's side of a run. See the module's documentation for how to drive it.
#[derive(Debug)]
pub struct Run {
    config: RunConfig,
    phase: Phase,
    members: BTreeMap<NodeId, Member>,
    connections: BTreeMap<ConnId, NodeId>,
    count_changed: bool,
    order: Vec<NodeId>,
    streams_opened: u32,
    last_node: u32,
    next_ping: Duration,
    last_call: Duration,
    outputs: VecDeque<RunOutput>,
}

impl Run {
    /// Starts gathering.
    #[must_use]
    pub fn new(config: RunConfig, now: Duration) -> Self {
        let until = config.wait.map(|wait| now + wait);
        let next_ping = now + config.heartbeat;
        Self {
            config,
            phase: Phase::Gathering { until },
            members: BTreeMap::new(),
            connections: BTreeMap::new(),
            count_changed: false,
            order: Vec::new(),
            streams_opened: 0,
            last_node: 0,
            next_ping,
            last_call: now,
            outputs: VecDeque::new(),
        }
    }

    /// The next thing to do, until `None`.
    pub fn poll_output(&mut self) -> Option<RunOutput> {
        self.outputs.pop_front()
    }

    /// A message from a connection whose Join was accepted. Messages from others are ignored.
    pub fn handle_message(&mut self, now: Duration, conn: ConnId, message: ToServer) {
        let Some(member) = self.member_of(conn) else {
            return;
        };
        member.heard = now;
        let (node, active) = (member.info.id, member.is_active());
        match message {
            ToServer::Pong(_) => {}
            ToServer::Event(payload) => self.event(RunEvent::NodeEvent { node, payload }),
            ToServer::Leaving { reason } => {
                self.lose(now, node, &Reason::new(format!("the node left: {reason}")));
            }
            ToServer::StreamFailed { reason, .. } => self.lose(now, node, &reason),
            _ if !active => self.handle_relay_only(now, node, message),
            ToServer::StepFailed { stage, reason } => self.handle_step_failed(now, node, stage, reason),
            ToServer::Prepared(payload) => self.handle_answer(now, node, Stage::Prepare, payload),
            ToServer::Ready => self.handle_answer(now, node, Stage::Go, Payload::default()),
            ToServer::Report(payload) => self.handle_report(now, node, payload),
            ToServer::Progress(progress) => self.handle_progress(now, node, progress),
            ToServer::StreamDone {
                stream,
                bytes,
                digest,
            } => {
                self.handle_stream_done(now, node, stream, Received { bytes, digest });
            }
            ToServer::LinkUp { stream, side, offset } => {
                self.event(RunEvent::LinkUp {
                    node,
                    stream,
                    side,
                    offset,
                });
            }
            ToServer::LinkLost {
                stream,
                side,
                offset,
                reason,
            } => {
                self.handle_link_lost(now, node, stream, side, offset, &reason);
            }
        }
    }

    /// A connection broke. Those that were never accepted, or that this machine closed, are ignored.
    pub fn handle_closed(&mut self, now: Duration, conn: ConnId, reason: &Reason) {
        let Some(node) = self.member_of(conn).map(|member| member.info.id) else {
            return;
        };
        self.forget_connection(node);
        self.lose(now, node, &Reason::new(format!("its connection broke: {reason}")));
    }

    /// Ends the run: every node is told, every connection closed.
    pub fn abort(&mut self, now: Duration, reason: &Reason) {
        if matches!(self.phase, Phase::Over) {
            return;
        }
        let nodes: Vec<NodeId> = self.members.keys().copied().collect();
        for node in nodes {
            self.send(
                node,
                ToNode::Abort {
                    reason: reason.clone(),
                },
            );
            self.close(node);
        }
        self.be_over(now);
    }

    /// Every node that came and was counted in, in order, with its failure if it has one.
    #[must_use]
    pub fn nodes(&self) -> Vec<(NodeInfo, Option<Failure>)> {
        let members = self.order.iter().filter_map(|node| self.members.get(node));
        members
            .map(|member| (member.info.clone(), member.failure().cloned()))
            .collect()
    }

    fn member_of(&mut self, conn: ConnId) -> Option<&mut Member> {
        let node = self.connections.get(&conn)?;
        self.members.get_mut(node)
    }

    /// Nodes that have not failed, in order.
    fn active(&self) -> Vec<NodeId> {
        let is_active = |node: &&NodeId| self.members.get(node).is_some_and(Member::is_active);
        self.order.iter().filter(is_active).copied().collect()
    }

    fn send(&mut self, node: NodeId, message: ToNode) {
        if let Some(conn) = self.members.get(&node).and_then(|member| member.conn) {
            self.outputs.push_back(RunOutput::Send { conn, message });
        }
    }

    fn close(&mut self, node: NodeId) {
        if let Some(conn) = self.forget_connection(node) {
            self.outputs.push_back(RunOutput::Close { conn });
        }
    }

    fn forget_connection(&mut self, node: NodeId) -> Option<ConnId> {
        let conn = self.members.get_mut(&node).and_then(|member| member.conn.take());
        conn.inspect(|conn| {
            self.connections.remove(conn);
        })
    }

    fn event(&mut self, event: RunEvent) {
        self.outputs.push_back(RunOutput::Event(event));
    }

    fn be_over(&mut self, now: Duration) {
        self.last_call = now;
        self.phase = Phase::Over;
        self.event(RunEvent::Over);
    }
}
