//! The server's side of a run, as one machine. It knows the nodes, their open questions and their failures,
//! and decides when the run goes on.
//!
//! # Contract
//!
//! [`Run`] has no socket, thread or clock. A *driver* owns those and keeps four rules.
//!
//! **Time** is a [`Duration`] since any fixed moment, the same for all calls. It comes with each call as
//! `now` and never goes back.
//!
//! **Inputs.** The driver proves a [`Join`] ([`crate::auth`]) and hands it in with [`Run::handle_join`],
//! under a [`ConnId`] that is never used twice. Every later message of that connection goes to
//! [`Run::handle_message`], its end to [`Run::handle_closed`], unless the machine closed it. The head of a
//! stream, which is the driver's too, tells of itself with `handle_head_*`, heads of branches with
//! [`Run::handle_branch_lost`] and [`Run::handle_spool_lost`].
//!
//! **Commands** come from the server above, one after another: gathering begins by itself, then
//! [`Run::prepare`], [`Run::go`], [`Run::open_stream`] (again for each stream), [`Run::collect_reports`],
//! [`Run::commit`] where clones are made, and [`Run::release`]. Each ends with one [`RunEvent`], whatever
//! nodes do, because every wait has a timer; a command that comes while another one is under way is refused
//! with [`RunError`]. Plain streams leave out `prepare` and `go`. [`Run::next_round`] begins again with the
//! nodes that wait.
//!
//! **The drain rule.** Every call may produce outputs and move the next timer. So after each one the driver
//! calls [`Run::poll_output`] until it returns `None`, and carries out each output in that order. Then it
//! calls [`Run::poll_timeout`]: at that time, or later, it calls [`Run::handle_timeout`]. The machine asks
//! for nothing else, and without these calls nothing happens.
//!
//! By hand, a run of one stream to two nodes looks like this:
//!
//! ```
//! use std::net::SocketAddr;
//! use std::time::Duration;
//!
//! use ka_proto::control::{Join, Purpose, ToNode, ToServer};
//! use ka_proto::run::{ConnId, Run, RunConfig, RunOutput, RunResult};
//! use ka_proto::{NodeId, NodeName, RunId, SessionName, StreamName};
//!
//! /// Gives what the run wants done. A driver writes the messages to their connections instead.
//! fn drain(run: &mut Run) -> (Vec<(ConnId, ToNode)>, Vec<RunResult>) {
//!     let (mut messages, mut results) = (Vec::new(), Vec::new());
//!     while let Some(output) = run.poll_output() {
//!         match output {
//!             RunOutput::Send { conn, message } => messages.push((conn, message)),
//!             RunOutput::Result(result) => results.push(result),
//!             RunOutput::Close { .. } | RunOutput::Head(_) | RunOutput::Event(_) => {}
//!         }
//!     }
//!     (messages, results)
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let session = SessionName::new("kainstall")?;
//! let mut config = RunConfig::new(RunId([1; 16]), [2; 32], session.clone(), 30764);
//! config.wanted = Some(2);
//! let mut now = Duration::ZERO;
//! let mut run = Run::new(config, now);
//!
//! // Two nodes connect, and prove that they know the join code.
//! for last in [1, 2] {
//!     let addr = SocketAddr::from(([10, 0, 0, last], 30764));
//!     let join = Join {
//!         session: session.clone(),
//!         name: NodeName::new(&format!("node{last}"))?,
//!         mac: None,
//!         data_addr: addr,
//!         purpose: Purpose::Stream,
//!         start_now: false,
//!         wants_release: false,
//!         holds_clone: false,
//!         wiring: None,
//!         nonce: [0; 16],
//!         proof: [0; 32],
//!     };
//!     run.handle_join(now, ConnId(last.into()), join, [10, 0, 0, 254].into(), addr);
//! }
//! let (_, results) = drain(&mut run);
//! assert!(matches!(results.last(), Some(RunResult::Gathered(nodes)) if nodes.len() == 2));
//!
//! // A stream opens: the head feeds node 1, and node 1 feeds node 2.
//! let head = run.open_stream(now, &StreamName::new("files")?)?;
//! assert_eq!(head.successor, NodeId(1));
//! let (messages, _) = drain(&mut run);
//! let predecessors: Vec<NodeId> = messages
//!     .iter()
//!     .filter_map(|(_, message)| match message {
//!         ToNode::OpenStream(open) => Some(open.predecessor.node),
//!         _ => None,
//!     })
//!     .collect();
//! assert_eq!(predecessors, [NodeId::SERVER, NodeId(1)]);
//!
//! // Time passes: the run asks to be called, and pings its nodes.
//! now = run.poll_timeout().ok_or("the run is over")?;
//! run.handle_timeout(now);
//! let (messages, _) = drain(&mut run);
//! assert!(messages.iter().all(|(_, message)| matches!(message, ToNode::Ping(_))));
//!
//! // Both nodes have everything: the stream ends.
//! for conn in [ConnId(1), ConnId(2)] {
//!     let stream = head.stream;
//!     let done = ToServer::StreamDone { stream, bytes: 5, digest: [7; 32] };
//!     run.handle_message(now, conn, done);
//! }
//! let (_, results) = drain(&mut run);
//! let Some(RunResult::StreamDone { outcomes, .. }) = results.last() else {
//!     return Err("the stream goes on".into());
//! };
//! assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()));
//! # Ok(())
//! # }
//! ```
//!
//! # Parts
//!
//! Each part owns its state and has no output of its own. `Roster` has the members and their order, `Rounds`
//! the state that goes on from one round to the next, `Claims` and `Lookers` the connections that are no
//! members, and `Stream` everything about the running stream. [`Run`] asks them, carries out their orders,
//! and alone sends messages.
//!
//! Not here: sockets, the head's own relay ([`crate::relay`]), the meaning of payloads. Specification:
//! `docs/protocol.md`, "Run".

mod accused;
mod claims;
mod gather;
mod group;
mod joins;
mod lookers;
mod member;
mod roll;
mod roster;
mod rounds;
mod stages;
mod stream;
mod streaming;
mod talk;
mod timing;
mod types;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::control::{Join, Progress, Side, Stage, Successor, ToNode, ToServer};
use crate::ids::{ChainPosition, NodeId, StreamId, StreamOffset};
use crate::limits;
use crate::text::{Reason, StreamName};
use crate::via::ListedNode;
use crate::wire::Payload;
use crate::wiring::Wiring;

use accused::Accused;
use claims::Claims;
use lookers::Lookers;
use roll::Roll;
use roster::Roster;
use rounds::Rounds;
use stream::Stream;
use streaming::LinkEnd;
use talk::is_round;

pub use group::GroupPlan;
pub use stream::{Measured, MinRate, Slow};
pub use types::{
    ConnId, Failure, HeadOrder, HeadStream, NodeInfo, Offer, ReceivedStream, RunConfig, RunError, RunEvent,
    RunOutput, RunResult, StageTimeouts,
};

/// The command that is under way.
#[derive(Debug)]
enum Phase {
    /// Nodes join until the start rule holds.
    Gathering { until: Option<Duration> },
    /// No command: the next one may come.
    Idle,
    /// Nodes were asked one question, and their answers are awaited.
    Asking {
        stage: Stage,
        asked: Vec<NodeId>,
        deadline: Duration,
    },
    /// A stream runs.
    Streaming(Box<Stream>),
    /// Nodes were released, and must close their connections.
    Leaving { deadline: Duration },
    /// The run is over.
    Over,
}

/// The server's side of a run. The module's documentation states its contract.
#[derive(Debug)]
pub struct Run {
    config: RunConfig,
    phase: Phase,
    roster: Roster,
    rounds: Rounds,
    /// Nodes that only look (`--dry-run`).
    lookers: Lookers,
    /// Connections that claim the place of another node.
    claims: Claims,
    /// Nodes that come last in the next rounds.
    accused: Accused,
    /// The multicast group of this round.
    group: Option<GroupPlan>,
    /// The switch port at the other end of the golden node's line, if the driver has heard of it.
    golden_wiring: Option<Wiring>,
    /// True if the nodes do not know their present number yet.
    count_changed: bool,
    next_ping: Duration,
    last_call: Duration,
    /// Time from which on the server itself was not away.
    awake_since: Duration,
    outputs: VecDeque<RunOutput>,
}

impl Run {
    /// Returns a run that gathers nodes.
    #[must_use]
    pub fn new(config: RunConfig, now: Duration) -> Self {
        let until = config.wait.map(|wait| now + wait);
        Self {
            phase: Phase::Gathering { until },
            roster: Roster::default(),
            rounds: Rounds::new(config.round, config.rounds),
            lookers: Lookers::default(),
            claims: Claims::new(config.link_silence),
            accused: Accused::default(),
            group: None,
            golden_wiring: None,
            count_changed: false,
            next_ping: now + config.heartbeat,
            last_call: now,
            awake_since: now,
            outputs: VecDeque::new(),
            config,
        }
    }

    /// Returns the next output, until `None`.
    pub fn poll_output(&mut self) -> Option<RunOutput> {
        // After all other outputs: new neighbours come first.
        if self.outputs.is_empty() {
            self.tell_near();
        }
        self.outputs.pop_front()
    }

    /// Handles a message from a connection whose Join was accepted. Messages from others are ignored.
    pub fn handle_message(&mut self, now: Duration, conn: ConnId, message: ToServer) {
        self.tick(now);
        if self.handle_looker(conn, &message) {
            return;
        }
        let Some(member) = self.roster.by_connection(conn) else {
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
            // The driver keeps the contents of tunnels. They do not concern the run.
            ToServer::Tunnel(_) => {}
            ToServer::Wiring(wiring) => self.handle_wiring(now, node, wiring),
            ToServer::Event(payload) => self.handle_event(now, node, payload),
            ToServer::Leaving { reason } => {
                self.lose(now, node, &Reason::new(format!("the node left: {reason}")));
            }
            _ if queued => self.lose(
                now,
                node,
                &Reason::new("it sent an answer that the server had not asked for"),
            ),
            ToServer::StreamFailed {
                stream,
                reason,
                unproved,
            } => self.handle_stream_failed(now, node, stream, &reason, unproved),
            // A node that failed still relays for the nodes below it; nothing else of it counts.
            ToServer::LinkLost {
                stream,
                side,
                offset,
                reason,
            } => {
                let end = LinkEnd::new(node, stream, side, offset);
                self.handle_link_lost(now, end, &reason);
            }
            ToServer::DataGone { stream, reason, .. } => self.handle_data_gone(now, node, stream, &reason),
            ToServer::GroupReport { stream, report } => self.handle_group_report(now, node, stream, report),
            ToServer::Probe(answer) => self.head(HeadOrder::Probe { node, answer }),
            ToServer::LeftGroup { stream, reason } => self.handle_left_group(now, node, stream, &reason),
            _ if !active => {}
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
                self.handle_stream_done(now, node, stream, ReceivedStream { bytes, digest });
            }
            ToServer::LinkUp { stream, side, offset } => {
                let end = LinkEnd::new(node, stream, side, offset);
                self.handle_link_up(now, end);
            }
        }
    }

    /// Handles a broken connection. Connections that were never accepted, or that this machine closed, are
    /// ignored.
    pub fn handle_closed(&mut self, now: Duration, conn: ConnId, reason: &Reason) {
        self.tick(now);
        if self.looker_left(conn, reason) {
            return;
        }
        let Some(node) = self.roster.by_connection(conn).map(|member| member.info.id) else {
            return self.claims.forget(conn);
        };
        self.roster.disconnect(node);
        if self.roster.is_released(node) {
            self.event(RunEvent::NodeGone { node });
        }
        self.lose_for_next_round(now, node, &Reason::new(format!("its connection broke: {reason}")));
        self.settle_claims(now);
    }

    /// Ends the run. Every node is told, and every connection closed.
    pub fn abort(&mut self, now: Duration, reason: &Reason) {
        if self.rounds.has_ended() {
            return;
        }
        self.rounds.end();
        self.refuse_claims(reason);
        for node in self.roster.ids() {
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

    /// Returns every node that was counted in when this round began, in order, with its failure if it has
    /// one.
    #[must_use]
    pub fn nodes(&self) -> Vec<(NodeInfo, Option<Failure>)> {
        let members = self.roster.in_order();
        members
            .map(|member| (member.info.clone(), member.failure().cloned()))
            .collect()
    }

    /// Returns every node that ever joined, in the order in which they came. Their work is left out: only their
    /// events tell it, and those are for the layer above.
    #[must_use]
    pub fn roll(&self) -> Vec<(NodeId, ListedNode)> {
        Roll::new(&self.roster, &self.phase).list()
    }

    /// Returns the one node that is called `wanted`, by its address, its MAC address or its name, with its
    /// connection.
    ///
    /// # Errors
    /// For the operator: no node or several have that name, or the node cannot be reached.
    pub fn find(&self, wanted: &str) -> Result<(NodeInfo, ConnId), Reason> {
        Roll::new(&self.roster, &self.phase).find(wanted)
    }

    /// Shows an event of a node to the operator, as long as the node does not send too many.
    fn handle_event(&mut self, now: Duration, node: NodeId, payload: Payload) {
        let Some(member) = self.roster.get_mut(node) else {
            return;
        };
        match member.talk.says(now) {
            Ok(()) => self.event(RunEvent::NodeEvent { node, payload }),
            Err(so_far) if is_round(so_far) => self.event(RunEvent::NodeEventsLeftOut { node, so_far }),
            Err(_) => {}
        }
    }

    /// Takes in the switch port that a node has heard of. The operator is told, as long as the node does not
    /// tell too much.
    fn handle_wiring(&mut self, now: Duration, node: NodeId, wiring: Wiring) {
        let Some(member) = self.roster.get_mut(node) else {
            return;
        };
        if member.info.wiring.as_ref() == Some(&wiring) {
            return;
        }
        member.info.wiring = Some(wiring);
        if member.talk.says(now).is_ok() {
            let node = member.info.clone();
            self.event(RunEvent::NodeWired { node });
        }
    }

    fn send(&mut self, node: NodeId, message: ToNode) {
        if let Some(conn) = self.roster.get(node).and_then(|member| member.conn) {
            self.outputs.push_back(RunOutput::Send { conn, message });
        }
    }

    /// Asks a node if it lives. The number of a ping is its time, in milliseconds.
    fn ping_node(&mut self, now: Duration, node: NodeId) {
        let number = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.send(node, ToNode::Ping(number));
    }

    fn close(&mut self, node: NodeId) {
        if let Some(conn) = self.roster.disconnect(node) {
            self.outputs.push_back(RunOutput::Close { conn });
        }
    }

    fn event(&mut self, event: RunEvent) {
        self.outputs.push_back(RunOutput::Event(event));
    }

    fn head(&mut self, order: HeadOrder) {
        self.outputs.push_back(RunOutput::Head(order));
    }

    fn result(&mut self, result: RunResult) {
        self.outputs.push_back(RunOutput::Result(result));
    }

    fn be_over(&mut self, now: Duration) {
        self.last_call = now;
        self.phase = Phase::Over;
        self.result(RunResult::Over);
    }
}
