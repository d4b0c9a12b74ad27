//! A node's side of a run: what the server may ask when, what the node answers, and when the server is lost.
//!
//! The driver opens the control connection, sends the [`crate::control::Join`], and then feeds every message to
//! [`Node::handle_message`]; what the node itself has to say goes through the methods named after it. After every
//! call, drain [`Node::poll_output`].
//! Not here: the stream itself ([`crate::relay`]), finding the server and trying again (transport).
//! Specification: `docs/protocol.md`, "Node".

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use crate::control::{OpenStream, Progress, Relink, Side, Stage, ToNode, ToServer};
use crate::ids::{NodeId, RunId, StreamId, StreamOffset};
use crate::limits::JOIN_TIMEOUT;
use crate::link::ReceiptKeys;
use crate::text::Reason;
use crate::wire::Payload;

/// What the driver must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeOutput {
    /// Send this to the server.
    Send(ToServer),
    /// The server wants something; hand it to the layer above.
    Order(Order),
    /// The run is over for this node: flush, close the control connection, drop the machine.
    Over(Ending),
}

/// What the server wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// The node is in.
    Accepted {
        /// Its number.
        node: NodeId,
        /// The run.
        run: RunId,
    },
    /// Not in yet, but in the next round: wait.
    Queued {
        /// That round, counted from 1.
        round: u32,
        /// Why not now.
        reason: Reason,
    },
    /// How many are there.
    Gathering {
        /// Now.
        present: u32,
        /// Wanted, if a number was given.
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
    /// Have the stream's relay hold back what it gets for so long ([`crate::relay::Relay::hold`]).
    Hold {
        /// Which stream.
        stream: StreamId,
        /// How long.
        time: Duration,
    },
    /// Give the stream's relay the keys of those who are near to it now.
    Receipts {
        /// The stream.
        stream: StreamId,
        /// These nodes, and the keys.
        keys: ReceiptKeys,
    },
    /// End the stream's relay.
    EndStream(StreamId),
    /// No more streams will come; answer with [`Node::report`] or [`Node::step_failed`].
    Finish,
    /// The clone is good: make it bootable; answer with [`Node::bootable`] or [`Node::step_failed`].
    Commit,
}

/// How the run ended for this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// All is well; go on after the delay.
    Released {
        /// How long to wait first.
        delay: Duration,
    },
    /// Not let in. Another version of the server is in `version`.
    Refused {
        /// The server's protocol version.
        version: u16,
        /// Why.
        reason: Reason,
    },
    /// The server gave this node or the run up.
    Aborted {
        /// Why.
        reason: Reason,
        /// Whether it wants this node in the next round.
        again: bool,
    },
    /// The server is gone, silent, or does not keep to the protocol.
    ServerLost {
        /// What was seen.
        reason: Reason,
    },
    /// This node left by itself.
    Left,
}

/// The node said something at the wrong time: a mistake of the layer above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} is not expected now")]
pub struct WrongPhase {
    /// What was said.
    pub what: &'static str,
}

/// Where the node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The Join is sent; the answer may be that it has to wait for the next round.
    Joining,
    /// In, nothing asked.
    Waiting,
    Preparing,
    Going,
    Streaming(StreamId),
    /// It said that it cannot go on; the server may still want it as a relay until the stream ends.
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
    /// The Join has just been sent.
    #[must_use]
    pub const fn new(now: Duration) -> Self {
        Self {
            phase: Phase::Joining,
            heard: now,
            silence: JOIN_TIMEOUT,
            outputs: VecDeque::new(),
        }
    }

    /// The next thing to do, until `None`.
    pub fn poll_output(&mut self) -> Option<NodeOutput> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called; `None` only when the run is over.
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
            // This process itself was away for long: what the server sent meanwhile is still unread.
            self.heard = now;
            return;
        }
        self.lose_server(format!(
            "nothing heard from the server for {} s",
            self.silence.as_secs_f32()
        ));
    }

    /// The control connection broke.
    pub fn handle_closed(&mut self, reason: &Reason) {
        self.lose_server(format!("the connection to the server broke: {reason}"));
    }

    /// A message from the server.
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
            // What tunnels carry is no business of this machine; the driver keeps it.
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
            (ToNode::EndStream { stream }, phase) => {
                if phase == Phase::Streaming(stream) {
                    // The stream ended without this node's word: the server gave up on it, or never needed it.
                    self.phase = Phase::Waiting;
                }
                self.order(Order::EndStream(stream));
            }
            (ToNode::Finish, Phase::Waiting) => self.order(Order::Finish),
            (ToNode::Commit, Phase::Reported) => {
                self.phase = Phase::Committing;
                self.order(Order::Commit);
            }
            // It crossed with the report of a node that knew by itself.
            (ToNode::Finish, Phase::Reported) => {}
            // What crossed with this node's own failure is void.
            (_, Phase::Failed) => {}
            (message, _) => self.protocol_error(order_name(&message)),
        }
    }

    /// Answer to [`Order::Prepare`].
    ///
    /// # Errors
    /// [`WrongPhase`] when it was not asked.
    pub fn prepared(&mut self, payload: Payload) -> Result<(), WrongPhase> {
        self.answer(Phase::Preparing, "prepared", ToServer::Prepared(payload))
    }

    /// Answer to [`Order::Go`].
    ///
    /// # Errors
    /// [`WrongPhase`] when it was not asked.
    pub fn ready(&mut self) -> Result<(), WrongPhase> {
        self.answer(Phase::Going, "ready", ToServer::Ready)
    }

    /// The stream has arrived and was used.
    ///
    /// # Errors
    /// [`WrongPhase`] when this stream is not open.
    pub fn stream_done(&mut self, stream: StreamId, bytes: u64, digest: [u8; 32]) -> Result<(), WrongPhase> {
        let done = ToServer::StreamDone {
            stream,
            bytes,
            digest,
        };
        self.answer(Phase::Streaming(stream), "the end of a stream", done)
    }

    /// The node is finished.
    ///
    /// # Errors
    /// [`WrongPhase`] while something that was asked is not answered.
    pub fn report(&mut self, payload: Payload) -> Result<(), WrongPhase> {
        self.answer(Phase::Waiting, "a report", ToServer::Report(payload))?;
        self.phase = Phase::Reported;
        Ok(())
    }

    /// Answer to [`Order::Commit`].
    ///
    /// # Errors
    /// [`WrongPhase`] when it was not asked.
    pub fn bootable(&mut self) -> Result<(), WrongPhase> {
        self.answer(Phase::Committing, "a bootable clone", ToServer::Bootable)?;
        self.phase = Phase::Reported;
        Ok(())
    }

    /// The node cannot go on. If a stream is open, its relay goes on for those below until the server ends it.
    pub fn step_failed(&mut self, stage: Stage, reason: Reason) {
        if matches!(self.phase, Phase::Over | Phase::Failed) {
            return;
        }
        self.phase = Phase::Failed;
        self.send(ToServer::StepFailed { stage, reason });
    }

    /// [`crate::relay::RelayOutput::Failed`]: the node is out, and of no use to those below. `unproved`: its end was refused, as
    /// not what the server sent; this counts also for a node that failed because of what it got.
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

    /// Something for the operator to see.
    pub fn event(&mut self, payload: Payload) {
        self.tell(ToServer::Event(payload));
    }

    /// Where a stream is.
    pub fn progress(&mut self, progress: Progress) {
        self.tell(ToServer::Progress(progress));
    }

    /// [`crate::relay::RelayOutput::LinkUp`].
    pub fn link_up(&mut self, stream: StreamId, side: Side, offset: StreamOffset) {
        self.tell(ToServer::LinkUp { stream, side, offset });
    }

    /// [`crate::relay::RelayOutput::LinkLost`].
    pub fn link_lost(&mut self, stream: StreamId, side: Side, offset: StreamOffset, reason: Reason) {
        self.tell(ToServer::LinkLost {
            stream,
            side,
            offset,
            reason,
        });
    }

    /// [`crate::relay::RelayOutput::Gap`].
    pub fn data_gone(&mut self, stream: StreamId, offset: StreamOffset, reason: Reason) {
        self.tell(ToServer::DataGone {
            stream,
            offset,
            reason,
        });
    }

    /// The node goes away by its own will.
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

    /// Sends when there is somebody to send to; before the join is answered and after the end it is dropped.
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
