//! The successor's side of a relay: it expects, feeds, hears and loses a successor, and expects another one.

use std::time::Duration;

use super::window::Window;
use super::{Ack, Life, Reason, Relay, RelayError, RelayOutput, Side, Source, Successor, Transmit};
use crate::ids::{NodeId, StreamOffset};
use crate::link::Receipts;

#[derive(Debug)]
pub(super) enum Downstream {
    /// No successor: this node is the tail.
    Nobody,
    /// A successor was named and is not here yet. `known` is the last acknowledgement from its place in the
    /// chain.
    Expected {
        node: NodeId,
        deadline: Duration,
        known: Ack,
    },
    /// The link stands. Everything before `sent` is written to it. An idle block is due if none was written
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
    /// The successor is lost, and that is reported. The server names another successor, or none, before
    /// `deadline`.
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

    /// Returns the successor's own report of its progress. `None` without a successor.
    pub(super) fn received(&self) -> Option<StreamOffset> {
        self.known().map(|known| known.received)
    }

    /// Returns true if every descendant has the end, by the successor's report. `None` without a successor.
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

    /// Takes in a possible acknowledgement. Data that the successor got from the group is not sent any more.
    fn note_ack(&mut self, now: Duration, ack: &Ack) {
        if let Self::Up {
            heard, sent, known, ..
        } = self
        {
            *heard = now;
            *sent = (*sent).max(ack.received);
            *known = *ack;
        }
    }

    /// Returns the last acknowledgement over the link that stands.
    pub(super) const fn claim(&self) -> Option<&Ack> {
        match self {
            Self::Up { known, .. } => Some(known),
            _ => None,
        }
    }

    /// Takes a claim back that has turned out to be false. The successor has at most what is here.
    pub(super) fn disbelieve(&mut self, received: StreamOffset) {
        if let Self::Up { known, .. } = self {
            *known = Ack {
                received: known.received.min(received),
                ended: false,
                tail_ended: false,
                ..*known
            };
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
        standby: false,
    }
}

impl Relay {
    /// Takes the name of a (new) successor from the server, or that there is none any more.
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

    /// Returns a named node's own report of its progress. It may have been the successor before, or further
    /// down.
    fn known_of(&self, node: NodeId) -> Ack {
        let named = self.downstream.node() == Some(node);
        if let Some(known) = self.downstream.known().filter(|_| named) {
            return *known;
        }
        let proved = self.ledger.known(node).map(|(received, _)| received);
        nothing_yet(proved.unwrap_or(self.retained_from()))
    }

    /// Handles a successor that has proved itself and wants to go on at `resume`. The expected one may also
    /// come back while its old connection still looks alive. Then the driver drops the old one.
    ///
    /// # Errors
    /// [`RelayError::WrongSuccessor`], [`RelayError::CannotResume`]: close this connection; nothing else
    /// changes.
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
        if resume < retained_from || !(self.window.is_boundary(resume) || self.may_be_ahead(resume)) {
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
            standby: self.config.grouped,
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

    /// Sets the offset that the first successor asks for. The head of a branch can give any part of the
    /// stream.
    fn begin_where_asked(&mut self, resume: StreamOffset) {
        if self.config.source == Source::Spool
            && self.received() == self.config.start
            && self.window.is_untouched()
        {
            self.config.start = resume;
            self.window = Window::new(self.config.window_bytes, resume);
        }
    }

    /// Handles the successor's report of its progress and that of its descendants.
    ///
    /// # Errors
    /// [`RelayError::FalseAck`]: the successor is broken; close and report it lost.
    pub fn handle_ack(&mut self, now: Duration, ack: &Ack) -> Result<(), RelayError> {
        self.tick(now);
        let Downstream::Up { sent, known, .. } = &self.downstream else {
            return Ok(());
        };
        if !self.is_possible(ack, known, *sent) {
            return Err(RelayError::FalseAck {
                received: ack.received,
                sent: *sent,
            });
        }
        self.downstream.note_ack(now, ack);
        self.ledger.take(&ack.receipts);
        self.settle(now);
        Ok(())
    }

    /// Handles that the successor's connection broke. The driver has closed it.
    pub fn handle_downstream_lost(&mut self, now: Duration, reason: Reason) {
        self.tick(now);
        if matches!(self.downstream, Downstream::Up { .. }) {
            self.lose_downstream(now, reason);
        }
    }

    /// Returns the next item to write downstream. Nothing changes until [`Self::handle_sent`]. The block
    /// stays in the window until it is acknowledged.
    #[must_use]
    pub fn next_to_send(&self) -> Option<Transmit> {
        let Downstream::Up {
            sent,
            end_sent,
            idle_due,
            known,
            ..
        } = &self.downstream
        else {
            return None;
        };
        if known.standby {
            return idle_due.then_some(Transmit::Idle { offset: *sent });
        }
        if !self.holds_back()
            && let Some(length) = self.window.length_at(*sent)
        {
            return Some(Transmit::Data {
                offset: *sent,
                length,
            });
        }
        if self.window.has_ended() && !end_sent && !known.ended {
            return Some(Transmit::End { offset: *sent });
        }
        idle_due.then_some(Transmit::Idle { offset: *sent })
    }

    /// Records that the item that [`Self::next_to_send`] named is written in full.
    pub fn handle_sent(&mut self, now: Duration, what: Transmit) {
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
            Transmit::Data { offset, length } => *sent = offset.plus(u64::from(length)),
            Transmit::End { .. } => *end_sent = true,
            Transmit::Idle { .. } => {}
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
            // The server named no successor. The node goes on alone, for its own consumer.
            Downstream::Lost { deadline, .. } if now >= deadline => {
                self.downstream = Downstream::Nobody;
                self.settle(now);
            }
            _ => {}
        }
    }

    /// Handles the loss of the successor. It is no loss if every descendant has the end.
    pub(super) fn lose_downstream(&mut self, now: Duration, reason: Reason) {
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
