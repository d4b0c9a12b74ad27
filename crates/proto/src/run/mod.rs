//! The server's side of a run: who is in, what they were asked, who failed where, and when it goes on.
//!
//! The driver proves a [`Join`] ([`crate::auth`]) before it hands it over, and gives every later message and every
//! broken connection to the machine. The server above gives the commands, one after another: gathering begins by
//! itself, then [`Run::prepare`], [`Run::go`], [`Run::open_stream`] (again for each stream), [`Run::collect_reports`],
//! [`Run::commit`] where clones are made, [`Run::release`]. Each ends with one event, whatever nodes do: every wait has a timer. Generic mode leaves out
//! `prepare` and `go`.
//! Not here: sockets, the head's own relay ([`crate::relay`]), what payloads mean.
//! Specification: `docs/protocol.md`, "Run".

mod accused;
mod chain;
mod contest;
mod gather;
mod look;
mod member;
mod pace;
mod receipts;
mod roll;
mod rounds;
mod spool;
mod stages;
mod stall;
mod still;
mod stream;
mod suspects;
mod talk;
mod timing;
mod types;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::control::{Join, Progress, Side, Stage, Successor, ToNode, ToServer};
use crate::identity::Identity;
use crate::ids::{ChainPosition, NodeId, StreamId, StreamOffset};
use crate::limits;
use crate::text::{Reason, StreamName};
use crate::wire::Payload;

use member::Member;
use stream::StreamRun;

pub use pace::{Measured, MinRate, Slow};
pub use types::{
    ConnId, Failure, HeadStream, NodeInfo, Offer, Received, RunConfig, RunError, RunEvent, RunOutput,
    StageTimeouts,
};

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
    Streaming(Box<StreamRun>),
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
    /// Who only looks (`--dry-run`).
    lookers: BTreeMap<ConnId, look::Looker>,
    count_changed: bool,
    order: Vec<NodeId>,
    streams_opened: u32,
    /// Those of earlier rounds: their numbers are not used again.
    streams_before: u32,
    /// Who was told to come back and has not yet.
    awaited: Vec<Identity>,
    /// Of them, who was set aside because it is slow: it lives, and may have to write back what its kernel took before it
    /// is free.
    set_aside: Vec<Identity>,
    /// Whose clones are good.
    done: Vec<Identity>,
    /// Where those are that come last in the next rounds.
    accused: Vec<IpAddr>,
    /// Who claims a place that another one has.
    claims: Vec<contest::Claim>,
    /// There will be no further round.
    ended: bool,
    last_node: u32,
    next_ping: Duration,
    last_call: Duration,
    /// Since when the server itself has not been away.
    awake_since: Duration,
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
            lookers: BTreeMap::new(),
            count_changed: false,
            order: Vec::new(),
            streams_opened: 0,
            streams_before: 0,
            awaited: Vec::new(),
            set_aside: Vec::new(),
            done: Vec::new(),
            accused: Vec::new(),
            claims: Vec::new(),
            ended: false,
            last_node: 0,
            next_ping,
            last_call: now,
            awake_since: now,
            outputs: VecDeque::new(),
        }
    }

    /// The next thing to do, until `None`.
    pub fn poll_output(&mut self) -> Option<RunOutput> {
        // After everything else: new neighbours first.
        if self.outputs.is_empty() && matches!(&self.phase, Phase::Streaming(run) if run.near_is_old) {
            self.tell_who_is_near();
        }
        self.outputs.pop_front()
    }

    /// A message from a connection whose Join was accepted. Messages from others are ignored.
    pub fn handle_message(&mut self, now: Duration, conn: ConnId, message: ToServer) {
        self.tick(now);
        if self.handle_looker(conn, &message) {
            return;
        }
        let Some(member) = self.member_of(conn) else {
            return;
        };
        member.heard = now;
        let (node, active, queued) = (member.info.id, member.is_active(), member.is_queued());
        self.acquit(now, node);
        match message {
            ToServer::Pong(number) => {
                self.hold_place(node, number);
                self.answered(now, node, number);
            }
            // What tunnels carry is no business of the run; the driver keeps it.
            ToServer::Tunnel(_) => {}
            ToServer::Event(payload) => self.handle_event(now, node, payload),
            ToServer::Leaving { reason } => {
                self.lose(now, node, &Reason::new(format!("the node left: {reason}")));
            }
            _ if queued => self.lose(now, node, &Reason::new("it answered what it was not asked")),
            ToServer::StreamFailed {
                stream,
                reason,
                unproved,
            } => self.handle_stream_failed(now, node, stream, &reason, unproved),
            _ if !active => self.handle_relay_only(now, node, message),
            ToServer::StepFailed { stage, reason } => self.handle_step_failed(now, node, stage, reason),
            ToServer::Prepared(payload) => self.handle_answer(now, node, Stage::Prepare, payload),
            ToServer::Ready => self.handle_answer(now, node, Stage::Go, Payload::default()),
            ToServer::Bootable => self.handle_answer(now, node, Stage::Commit, Payload::default()),
            ToServer::Report(payload) => self.handle_report(now, node, payload),
            ToServer::Progress(progress) => self.handle_progress(now, node, progress),
            ToServer::StreamDone {
                stream,
                bytes,
                digest,
            } => {
                self.handle_stream_done(node, stream, Received { bytes, digest });
            }
            ToServer::DataGone { stream, reason, .. } => self.handle_data_gone(now, node, stream, &reason),
            ToServer::LinkUp { stream, side, offset } => {
                self.note_rejoined(node, stream, side, offset);
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
        self.tick(now);
        if self.looker_left(conn, reason) {
            return;
        }
        let Some(node) = self.member_of(conn).map(|member| member.info.id) else {
            return self.forget_claim(conn);
        };
        self.forget_connection(node);
        if self.is_released(node) {
            self.event(RunEvent::NodeGone { node });
        }
        self.lose_for_next_round(now, node, &Reason::new(format!("its connection broke: {reason}")));
        self.settle_claims(now);
    }

    /// Ends the run: every node is told, every connection closed.
    pub fn abort(&mut self, now: Duration, reason: &Reason) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.refuse_claims(reason);
        let nodes: Vec<NodeId> = self.members.keys().copied().collect();
        for node in nodes {
            self.send(
                node,
                ToNode::Abort {
                    reason: reason.clone(),
                    again: false,
                },
            );
            self.close(node);
        }
        if !matches!(self.phase, Phase::Over) {
            self.be_over(now);
        }
    }

    /// Every node that was counted in when this round began, in order, with its failure if it has one.
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
