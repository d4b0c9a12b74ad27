//! The successor's side of a relay: expect, send, hear acknowledgements, lose, expect another.

use std::time::Duration;

use super::window::Window;
use super::{Ack, Life, Reason, Relay, RelayError, RelayOutput, Send, Side, Source, Successor};
use crate::ids::{NodeId, StreamOffset};
use crate::link::Receipts;

#[derive(Debug)]
pub(super) enum Downstream {
    /// This is the tail.
    Nobody,
    /// A successor was named and is not here yet. `known` is what its place in the chain last acknowledged.
    Expected {
        node: NodeId,
        deadline: Duration,
        known: Ack,
    },
    /// The link stands; everything before `sent` is written to it. An idle block is due when none was written
    /// until `idle_at`.
    Up {
        node: NodeId,
        heard: Duration,
        sent: StreamOffset,
        end_sent: bool,
        idle_due: bool,
        idle_at: Duration,
        known: Ack,
    },
    /// Lost and reported; the server names another successor, or nobody, before `deadline`.
    Lost { deadline: Duration, known: Ack },
}

impl Downstream {
    pub(super) fn new(successor: Option<NodeId>, start: StreamOffset, deadline: Duration) -> Self {
        successor.map_or(Self::Nobody, |node| Self::Expected {
            node,
            deadline,
            known: nothing_yet(start),
        })
    }

    pub(super) const fn node(&self) -> Option<NodeId> {
        match self {
            Self::Expected { node, .. } | Self::Up { node, .. } => Some(*node),
            Self::Nobody | Self::Lost { .. } => None,
        }
    }

    const fn known(&self) -> Option<&Ack> {
        match self {
            Self::Nobody => None,
            Self::Expected { known, .. } | Self::Up { known, .. } | Self::Lost { known, .. } => Some(known),
        }
    }

    /// The successor's own word on how much it has; `None` when there is none.
    pub(super) fn received(&self) -> Option<StreamOffset> {
        self.known().map(|known| known.received)
    }

    /// The successor's word on whether every descendant has the end; `None` when there is none.
    pub(super) fn has_ended(&self) -> Option<bool> {
        self.known().map(|known| known.tail_ended)
    }

    pub(super) fn deadline(&self, silence: Duration) -> Option<Duration> {
        match self {
            Self::Nobody => None,
            Self::Expected { deadline, .. } | Self::Lost { deadline, .. } => Some(*deadline),
            Self::Up { heard, idle_at, .. } => Some((*heard + silence).min(*idle_at)),
        }
    }

    pub(super) fn excuse(&mut self, now: Duration, late: Duration) {
        if let Self::Up { heard, .. } = self {
            *heard = (*heard + late).min(now);
        }
    }

    pub(super) fn forgive(&mut self, now: Duration) {
        if let Self::Up { heard, .. } = self {
            *heard = now;
        }
    }
}

fn nothing_yet(start: StreamOffset) -> Ack {
    Ack {
        received: start,
        consumed: start,
        retained_from: start,
        receipts: Receipts::default(),
        ended: false,
        tail_ended: false,
    }
}

impl Relay {
    /// The server names a (new) successor, or says that there is none any more.
    pub fn set_successor(&mut self, now: Duration, successor: Successor) {
        self.tick(now);
        self.held_until = None;
        if let Downstream::Up { node, .. } = self.downstream {
            if successor == Successor::Node(node) {
                return;
            }
            self.outputs.push_back(RelayOutput::CloseDownstream);
        }
        let deadline = now + self.config.establish;
        self.downstream = match successor {
            Successor::Nobody => Downstream::Nobody,
            Successor::Node(node) => Downstream::Expected {
                node,
                deadline,
                known: self.known_of(node),
            },
        };
        self.settle(now);
    }

    /// How far a node that was named is, by its own word: it may have been the successor before, or further down.
    fn known_of(&self, node: NodeId) -> Ack {
        let named = self.downstream.node() == Some(node);
        if let Some(known) = self.downstream.known().filter(|_| named) {
            return *known;
        }
        let proved = self.ledger.known(node).map(|(received, _)| received);
        nothing_yet(proved.unwrap_or(self.retained_from()))
    }

    /// A successor has proved itself and wants to go on at `resume`. The one that is expected may also come back
    /// while its old connection still looks alive: the driver then drops the old one.
    ///
    /// # Errors
    /// [`RelayError::WrongSuccessor`], [`RelayError::CannotResume`]: close this connection; nothing else changes.
    pub fn handle_downstream_joined(
        &mut self,
        now: Duration,
        node: NodeId,
        resume: StreamOffset,
    ) -> Result<(), RelayError> {
        self.tick(now);
        let expected = self.downstream.node();
        let Some(known) = self
            .downstream
            .known()
            .copied()
            .filter(|_| expected == Some(node))
        else {
            return Err(RelayError::WrongSuccessor { got: node, expected });
        };
        self.begin_where_asked(resume);
        let (retained_from, received) = (self.retained_from(), self.received());
        if resume < retained_from || !self.window.is_boundary(resume) {
            return Err(RelayError::CannotResume {
                node,
                resume,
                retained_from,
                received,
            });
        }
        let known = Ack {
            received: resume,
            ended: false,
            tail_ended: false,
            ..known
        };
        self.downstream = Downstream::Up {
            node,
            heard: now,
            sent: resume,
            end_sent: false,
            idle_due: false,
            idle_at: now + self.config.heartbeat,
            known,
        };
        self.outputs.push_back(RelayOutput::LinkUp {
            side: Side::Downstream,
            offset: resume,
        });
        self.settle(now);
        Ok(())
    }

    /// The head of a branch can give any part of the stream, and begins with what its first successor misses.
    fn begin_where_asked(&mut self, resume: StreamOffset) {
        if self.config.source == Source::Spool
            && self.received() == self.config.start
            && self.window.is_untouched()
        {
            self.config.start = resume;
            self.window = Window::new(self.config.window_bytes, resume);
        }
    }

    /// The successor said how far it and its descendants are.
    ///
    /// # Errors
    /// [`RelayError::FalseAck`]: the successor is broken; close and report it lost.
    pub fn handle_ack(&mut self, now: Duration, ack: &Ack) -> Result<(), RelayError> {
        self.tick(now);
        let ended = self.window.has_ended();
        let Downstream::Up {
            heard, sent, known, ..
        } = &mut self.downstream
        else {
            return Ok(());
        };
        let possible = ack.received >= known.received
            && ack.received <= *sent
            && (ended || !ack.ended)
            && (ack.ended || !ack.tail_ended);
        if !possible {
            return Err(RelayError::FalseAck {
                received: ack.received,
                sent: *sent,
            });
        }
        *heard = now;
        *known = *ack;
        self.ledger.take(&ack.receipts);
        self.settle(now);
        Ok(())
    }

    /// The successor's connection broke; the driver has closed it.
    pub fn handle_downstream_lost(&mut self, now: Duration, reason: Reason) {
        self.tick(now);
        if matches!(self.downstream, Downstream::Up { .. }) {
            self.lose_downstream(now, reason);
        }
    }

    /// What to write downstream next. Nothing changes until [`Self::handle_sent`]; the block stays in the window
    /// until it is acknowledged.
    #[must_use]
    pub fn next_to_send(&self) -> Option<Send> {
        let Downstream::Up {
            sent,
            end_sent,
            idle_due,
            ..
        } = &self.downstream
        else {
            return None;
        };
        if !self.holds_back()
            && let Some(length) = self.window.length_at(*sent)
        {
            return Some(Send::Data {
                offset: *sent,
                length,
            });
        }
        if self.window.has_ended() && !end_sent {
            return Some(Send::End { offset: *sent });
        }
        idle_due.then_some(Send::Idle { offset: *sent })
    }

    /// What [`Self::next_to_send`] named is written, all of it.
    pub fn handle_sent(&mut self, now: Duration, what: Send) {
        self.tick(now);
        let Downstream::Up {
            sent,
            end_sent,
            idle_due,
            idle_at,
            ..
        } = &mut self.downstream
        else {
            return;
        };
        *idle_due = false;
        *idle_at = now + self.config.heartbeat;
        match what {
            Send::Data { offset, length } => *sent = offset.plus(u64::from(length)),
            Send::End { .. } => *end_sent = true,
            Send::Idle { .. } => {}
        }
    }

    pub(super) fn downstream_timeout(&mut self, now: Duration) {
        if let Downstream::Up {
            idle_due, idle_at, ..
        } = &mut self.downstream
            && now >= *idle_at
        {
            *idle_due = true;
            *idle_at = now + self.config.heartbeat;
        }
        match self.downstream {
            Downstream::Expected { deadline, .. } if now >= deadline => {
                self.lose_downstream(now, Reason::new("the successor did not connect in time"));
            }
            Downstream::Up { heard, .. } if now >= heard + self.config.silence => {
                self.outputs.push_back(RelayOutput::CloseDownstream);
                let silence = self.config.silence.as_secs_f32();
                self.lose_downstream(now, Reason::new(format!("nothing heard for {silence} s")));
            }
            // The server said nothing: go on alone, for the own consumer.
            Downstream::Lost { deadline, .. } if now >= deadline => {
                self.downstream = Downstream::Nobody;
                self.settle(now);
            }
            _ => {}
        }
    }

    /// When every descendant has the end, the loss of the successor is no loss.
    fn lose_downstream(&mut self, now: Duration, reason: Reason) {
        let Some(known) = self
            .downstream
            .known()
            .copied()
            .filter(|_| self.life != Life::Over)
        else {
            return;
        };
        if self.descendants_have_the_end() {
            self.downstream = Downstream::Nobody;
            self.settle(now);
            return;
        }
        self.downstream = Downstream::Lost {
            deadline: now + self.config.establish,
            known,
        };
        let offset = known.received;
        self.outputs.push_back(RelayOutput::LinkLost {
            side: Side::Downstream,
            offset,
            reason,
        });
    }
}
