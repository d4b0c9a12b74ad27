//! A node's side of a run: the server's orders, the node's answers, and the loss of the server.
//!
//! The driver opens the control connection, sends the [`crate::control::Join`], and then feeds every message
//! to [`Node::handle_message`]. The node's own messages go through the methods named after them. After every
//! call, drain [`Node::poll_output`]. Not here: the stream itself ([`crate::relay`]), finding the server and
//! trying again (transport). Specification: `docs/protocol.md`, "Node".

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use crate::control::{OpenStream, Progress, Relink, Side, Stage, ToNode, ToServer};
use crate::group::Report as GroupReport;
use crate::group::probe::{ProbeAnswer, ProbeOrder};
use crate::ids::{NodeId, RunId, StreamId, StreamOffset};
use crate::limits::JOIN_TIMEOUT;
use crate::link::ReceiptKeys;
use crate::text::Reason;
use crate::wire::Payload;
use crate::wiring::Wiring;

/// An action that the driver must carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeOutput {
    /// Send this to the server.
    Send(ToServer),
    /// An order of the server, for the layer above.
    Order(Order),
    /// The run is over for this node: flush, close the control connection, drop the machine.
    Over(Ending),
}

/// An order of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// The node is in.
    Accepted {
        /// Number of the node.
        node: NodeId,
        /// The run.
        run: RunId,
    },
    /// The node is let in in the next round, and waits for it.
    Queued {
        /// Number of that round, counted from 1.
        round: u32,
        /// The reason why it is not in this round.
        reason: Reason,
    },
    /// Progress of gathering.
    Gathering {
        /// Number of nodes present now.
        present: u32,
        /// Number of nodes wanted, if one was given.
        wanted: Option<u32>,
    },
    /// Plan and check; answer with [`Node::prepared`] or [`Node::step_failed`].
    Prepare(Payload),
    /// Write; answer with [`Node::ready`] or [`Node::step_failed`].
    Go,
    /// Run a relay for this stream; answer with [`Node::stream_done`] or [`Node::step_failed`].
    OpenStream(OpenStream),
    /// Give the stream's relay new neighbours.
    Relink(Relink),
    /// Have the stream's relay hold back its data for so long ([`crate::relay::Relay::hold`]).
    Hold {
        /// The stream.
        stream: StreamId,
        /// Length of time.
        time: Duration,
    },
    /// Give the stream's relay the keys of the nodes that are near to it now.
    Receipts {
        /// The stream.
        stream: StreamId,
        /// These nodes, and the keys.
        keys: ReceiptKeys,
    },
    /// The server's part of a probe of multicast; answer with [`Node::probe`].
    Probe(ProbeOrder),
    /// Leave the multicast group of this stream.
    LeaveGroup {
        /// The stream.
        stream: StreamId,
        /// The reason.
        reason: Reason,
    },
    /// End the stream's relay.
    EndStream(StreamId),
    /// No more streams will come; answer with [`Node::report`] or [`Node::step_failed`].
    Finish,
    /// The clone is good: make it bootable; answer with [`Node::bootable`] or [`Node::step_failed`].
    Commit,
}

/// The end of the run for this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// All is well. The node goes on after the delay.
    Released {
        /// Time to wait first.
        delay: Duration,
    },
    /// The node is not let in. Another version of the server is in `version`.
    Refused {
        /// The server's protocol version.
        version: u16,
        /// The reason.
        reason: Reason,
    },
    /// The server gave this node or the run up.
    Aborted {
        /// The reason.
        reason: Reason,
        /// True if the server wants this node in the next round.
        again: bool,
    },
    /// The server is gone, silent, or breaks the protocol.
    ServerLost {
        /// The fault as this node saw it.
        reason: Reason,
    },
    /// This node left by itself.
    Left,
}

/// A message of the node at the wrong time. This is a mistake of the layer above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} is not expected now")]
pub struct WrongPhase {
    /// The message.
    pub what: &'static str,
}

/// The stage of the run that the node is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The Join is sent. The answer may be that the node has to wait for the next round.
    Joining,
    /// The node is in, and has no order.
    Waiting,
    Preparing,
    Going,
    Streaming(StreamId),
    /// The node has reported that it cannot go on. The server may still want it as a relay until the stream
    /// ends.
    Failed,
    Reported,
    Committing,
    Over,
}

/// A node's side of a run.
#[derive(Debug)]
pub struct Node {
    phase: Phase,
    heard: Duration,
    silence: Duration,
    outputs: VecDeque<NodeOutput>,
}

impl Node {
    /// Returns a node that has just sent its Join.
    #[must_use]
    pub const fn new(now: Duration) -> Self {
        Self {
            phase: Phase::Joining,
            heard: now,
            silence: JOIN_TIMEOUT,
            outputs: VecDeque::new(),
        }
    }

    /// Returns the next output, until `None`.
    pub fn poll_output(&mut self) -> Option<NodeOutput> {
        self.outputs.pop_front()
    }

    /// Returns the time at which [`Self::handle_timeout`] must be called. `None` only if the run is over.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        (self.phase != Phase::Over).then(|| self.heard + self.silence)
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Duration) {
        let due = self.heard + self.silence;
        if self.phase == Phase::Over || now < due {
            return;
        }
        if now >= due + self.silence / 2 {
            // This process itself was away for long, so messages of the server from that time are still
            // unread.
            self.heard = now;
            return;
        }
        self.lose_server(format!(
            "nothing heard from the server for {} s",
            self.silence.as_secs_f32()
        ));
    }

    /// Handles that the control connection broke.
    pub fn handle_closed(&mut self, reason: &Reason) {
        self.lose_server(format!("the connection to the server broke: {reason}"));
    }

    /// Handles a message from the server.
    pub fn handle_message(&mut self, now: Duration, message: ToNode) {
        if self.phase == Phase::Over {
            return;
        }
        self.heard = now;
        match message {
            ToNode::Ping(number) => self.send(ToServer::Pong(number)),
            ToNode::Refused { version, reason } => self.over(Ending::Refused { version, reason }),
            ToNode::Abort { reason, again } => self.over(Ending::Aborted { reason, again }),
            ToNode::Release { delay_ms } => {
                self.over(Ending::Released {
                    delay: Duration::from_millis(delay_ms.into()),
                });
            }
            ToNode::Accepted {
                node,
                run,
                silence_ms,
                ..
            } if self.phase == Phase::Joining => {
                self.phase = Phase::Waiting;
                self.silence = Duration::from_millis(silence_ms.max(1).into());
                self.order(Order::Accepted { node, run });
            }
            ToNode::Queued { round, reason } if self.phase == Phase::Joining => {
                self.order(Order::Queued { round, reason });
            }
            // The driver keeps the contents of tunnels. They do not concern this machine.
            ToNode::Tunnel(_) if self.phase != Phase::Joining => {}
            _ if self.phase == Phase::Joining => {
                self.protocol_error("an order before the answer to the join")
            }
            message => self.handle_order(message),
        }
    }

    fn handle_order(&mut self, message: ToNode) {
        match (message, self.phase) {
            (ToNode::Gathering { present, wanted }, _) => self.order(Order::Gathering { present, wanted }),
            (ToNode::Prepare(payload), Phase::Waiting) => {
                self.phase = Phase::Preparing;
                self.order(Order::Prepare(payload));
            }
            (ToNode::Go, Phase::Waiting) => {
                self.phase = Phase::Going;
                self.order(Order::Go);
            }
            (ToNode::OpenStream(open), Phase::Waiting) => {
                self.phase = Phase::Streaming(open.stream);
                self.order(Order::OpenStream(open));
            }
            (ToNode::Relink(relink), _) => self.order(Order::Relink(relink)),
            (ToNode::Hold { stream, millis }, _) => {
                let time = Duration::from_millis(millis.into());
                self.order(Order::Hold { stream, time });
            }
            (ToNode::Receipts { stream, keys }, _) => self.order(Order::Receipts { stream, keys }),
            (ToNode::Probe(order), _) => self.order(Order::Probe(order)),
            (ToNode::LeaveGroup { stream, reason }, _) => self.order(Order::LeaveGroup { stream, reason }),
            (ToNode::EndStream { stream }, phase) => {
                if phase == Phase::Streaming(stream) {
                    // The stream ended without this node's report. The server gave up on it, or never needed
                    // it.
                    self.phase = Phase::Waiting;
                }
                self.order(Order::EndStream(stream));
            }
            (ToNode::Finish, Phase::Waiting) => self.order(Order::Finish),
            (ToNode::Commit, Phase::Reported) => {
                self.phase = Phase::Committing;
                self.order(Order::Commit);
            }
            // The order crossed with the report of a node that knew it by itself.
            (ToNode::Finish, Phase::Reported) => {}
            // A message that crossed with this node's own failure is void.
            (_, Phase::Failed) => {}
            (message, _) => self.protocol_error(order_name(&message)),
        }
    }

    /// Answers [`Order::Prepare`].
    ///
    /// # Errors
    /// [`WrongPhase`] without this order.
    pub fn prepared(&mut self, payload: Payload) -> Result<(), WrongPhase> {
        self.answer(Phase::Preparing, "prepared", ToServer::Prepared(payload))
    }

    /// Answers [`Order::Go`].
    ///
    /// # Errors
    /// [`WrongPhase`] without this order.
    pub fn ready(&mut self) -> Result<(), WrongPhase> {
        self.answer(Phase::Going, "ready", ToServer::Ready)
    }

    /// Reports that the stream has arrived and was used.
    ///
    /// # Errors
    /// [`WrongPhase`] if this stream is not open.
    pub fn stream_done(&mut self, stream: StreamId, bytes: u64, digest: [u8; 32]) -> Result<(), WrongPhase> {
        let done = ToServer::StreamDone {
            stream,
            bytes,
            digest,
        };
        self.answer(Phase::Streaming(stream), "the end of a stream", done)
    }

    /// Reports that the node is finished.
    ///
    /// # Errors
    /// [`WrongPhase`] while an order is not answered.
    pub fn report(&mut self, payload: Payload) -> Result<(), WrongPhase> {
        self.answer(Phase::Waiting, "a report", ToServer::Report(payload))?;
        self.phase = Phase::Reported;
        Ok(())
    }

    /// Answers [`Order::Commit`].
    ///
    /// # Errors
    /// [`WrongPhase`] without this order.
    pub fn bootable(&mut self) -> Result<(), WrongPhase> {
        self.answer(Phase::Committing, "a bootable clone", ToServer::Bootable)?;
        self.phase = Phase::Reported;
        Ok(())
    }

    /// Reports that the node cannot go on. If a stream is open, its relay goes on for the nodes below until
    /// the server ends it.
    pub fn step_failed(&mut self, stage: Stage, reason: Reason) {
        if matches!(self.phase, Phase::Over | Phase::Failed) {
            return;
        }
        self.phase = Phase::Failed;
        self.send(ToServer::StepFailed { stage, reason });
    }

    /// Reports [`crate::relay::RelayOutput::Failed`]. The node is out, and of no use to the nodes below.
    /// `unproved` is true if its end was refused, because it is not what the server sent. It also counts for
    /// a node that failed because of its data.
    pub fn stream_failed(&mut self, stream: StreamId, reason: Reason, unproved: bool) {
        self.tell(ToServer::StreamFailed {
            stream,
            reason,
            unproved,
        });
        if self.phase != Phase::Over {
            self.phase = Phase::Failed;
        }
    }

    /// Sends an event for the operator.
    pub fn event(&mut self, payload: Payload) {
        self.tell(ToServer::Event(payload));
    }

    /// Tells the switch port at the other end of this node's line.
    pub fn wiring(&mut self, wiring: Wiring) {
        self.tell(ToServer::Wiring(wiring));
    }

    /// Reports the progress of a stream.
    pub fn progress(&mut self, progress: Progress) {
        self.tell(ToServer::Progress(progress));
    }

    /// Tells the server of [`crate::relay::RelayOutput::LinkUp`].
    pub fn link_up(&mut self, stream: StreamId, side: Side, offset: StreamOffset) {
        self.tell(ToServer::LinkUp { stream, side, offset });
    }

    /// Tells the server of [`crate::relay::RelayOutput::LinkLost`].
    pub fn link_lost(&mut self, stream: StreamId, side: Side, offset: StreamOffset, reason: Reason) {
        self.tell(ToServer::LinkLost {
            stream,
            side,
            offset,
            reason,
        });
    }

    /// Tells the server of [`crate::relay::RelayOutput::Gap`].
    pub fn data_gone(&mut self, stream: StreamId, offset: StreamOffset, reason: Reason) {
        self.tell(ToServer::DataGone {
            stream,
            offset,
            reason,
        });
    }

    /// Sends the node's part of a probe.
    pub fn probe(&mut self, answer: ProbeAnswer) {
        self.tell(ToServer::Probe(answer));
    }

    /// Reports the state of this node as a member of a stream's multicast group.
    pub fn group_report(&mut self, stream: StreamId, report: GroupReport) {
        self.tell(ToServer::GroupReport { stream, report });
    }

    /// Tells the server that this node has left a stream's multicast group.
    pub fn left_group(&mut self, stream: StreamId, reason: Reason) {
        self.tell(ToServer::LeftGroup { stream, reason });
    }

    /// Leaves by the node's own will.
    pub fn leave(&mut self, reason: Reason) {
        self.tell(ToServer::Leaving { reason });
        self.over(Ending::Left);
    }

    fn answer(&mut self, asked: Phase, what: &'static str, message: ToServer) -> Result<(), WrongPhase> {
        if self.phase != asked {
            return Err(WrongPhase { what });
        }
        self.phase = Phase::Waiting;
        self.send(message);
        Ok(())
    }

    /// Sends a message. Before the Join is answered and after the end it is dropped.
    fn tell(&mut self, message: ToServer) {
        if !matches!(self.phase, Phase::Joining | Phase::Over) {
            self.send(message);
        }
    }

    fn send(&mut self, message: ToServer) {
        self.outputs.push_back(NodeOutput::Send(message));
    }

    fn order(&mut self, order: Order) {
        self.outputs.push_back(NodeOutput::Order(order));
    }

    fn over(&mut self, ending: Ending) {
        if self.phase != Phase::Over {
            self.phase = Phase::Over;
            self.outputs.push_back(NodeOutput::Over(ending));
        }
    }

    fn lose_server(&mut self, reason: String) {
        self.over(Ending::ServerLost {
            reason: Reason::new(reason),
        });
    }

    fn protocol_error(&mut self, what: &str) {
        self.lose_server(format!("the server does not keep to the protocol: {what}"));
    }
}

const fn order_name(message: &ToNode) -> &'static str {
    match message {
        ToNode::Prepare(_) => "Prepare at the wrong time",
        ToNode::Go => "Go at the wrong time",
        ToNode::Commit => "Commit at the wrong time",
        ToNode::OpenStream(_) => "a stream at the wrong time",
        ToNode::Accepted { .. } => "accepted twice",
        _ => "a message at the wrong time",
    }
}
