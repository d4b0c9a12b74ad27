//! The predecessor's side of a relay: it connects to, hears, acknowledges and loses a predecessor, and
//! connects again.

use std::time::Duration;

use super::ledger::growth;
use super::{Ack, Goodbye, Life, Peer, Reason, Relay, RelayOutput, Side};
use crate::ids::StreamOffset;
use crate::limits::{ACK_BYTES, AWAY_SILENCE};

/// Pause between attempts to connect to the same predecessor, which may still be opening the stream.
const RETRY: Duration = Duration::from_millis(250);

#[expect(
    clippy::large_enum_variant,
    reason = "a relay has one, and it is up nearly all the time"
)]
#[derive(Debug)]
pub(super) enum Upstream {
    /// The head: blocks come from the producer.
    Producer,
    /// A connection is being made. `retry_at` is set while there is a pause between attempts.
    Connecting {
        peer: Peer,
        deadline: Duration,
        retry_at: Option<Duration>,
    },
    /// The link stands. A full window is not read, and an unread peer cannot be heard. An acknowledgement is
    /// due if there is news, and at `ack_at`. The link is on trial until the first word: a predecessor that
    /// was not yet told of this node answers the handshake and then turns it away.
    Up {
        trial: Option<Trial>,
        heard: Duration,
        reading: bool,
        told: Option<Ack>,
        ack_due: bool,
        ack_at: Duration,
    },
    /// The predecessor is lost, and that is reported. The server names another predecessor before `deadline`.
    Lost { deadline: Duration },
    /// The predecessor is no longer needed: the end is here, and the link went away.
    Finished,
}

/// The attempt that a link on trial came from, to be continued if it fails.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trial {
    peer: Peer,
    deadline: Duration,
}

impl Upstream {
    pub(super) const fn heard(&mut self, now: Duration) {
        if let Self::Up { heard, trial, .. } = self {
            *heard = now;
            *trial = None;
        }
    }

    /// Gives an attempt at this peer more time, if there is one.
    fn goes_on_with(&mut self, wanted: Peer, until: Duration) -> bool {
        let (Self::Connecting { peer, deadline, .. }
        | Self::Up {
            trial: Some(Trial { peer, deadline }),
            ..
        }) = self
        else {
            return false;
        };
        if *peer == wanted {
            *deadline = until;
        }
        *peer == wanted
    }

    /// Records that there is news that cannot wait for the next heartbeat.
    pub(super) const fn hurry(&mut self) {
        if let Self::Up { ack_due, .. } = self {
            *ack_due = true;
        }
    }

    pub(super) fn excuse(&mut self, now: Duration, late: Duration) {
        if let Self::Up { heard, .. } = self {
            *heard = (*heard + late).min(now);
        }
    }

    pub(super) const fn forgive(&mut self, now: Duration) {
        if let Self::Up { heard, .. } = self {
            *heard = now;
        }
    }

    /// Records that the end came from the group. A lost predecessor is not needed any more.
    pub(super) const fn end_is_here(&mut self) {
        if let Self::Lost { .. } = self {
            *self = Self::Finished;
        }
    }

    /// Records if the peer is read. Its silence counts from the moment that it is read again.
    pub(super) const fn reading(&mut self, now: Duration, reads: bool) {
        if let Self::Up { heard, reading, .. } = self {
            if reads && !*reading {
                *heard = now;
            }
            *reading = reads;
        }
    }

    /// Returns true if no node upstream waits for the news that this node and all below it have the end.
    pub(super) fn knows_the_end(&self) -> bool {
        match self {
            Self::Producer | Self::Finished => true,
            Self::Up { told, .. } => told.is_some_and(|told| told.tail_ended),
            Self::Connecting { .. } | Self::Lost { .. } => false,
        }
    }

    pub(super) fn deadline(&self, silence: Duration) -> Option<Duration> {
        match self {
            Self::Producer | Self::Finished => None,
            Self::Connecting {
                deadline, retry_at, ..
            } => Some(retry_at.map_or(*deadline, |retry| retry.min(*deadline))),
            Self::Up {
                heard,
                reading: true,
                ack_at,
                ..
            } => Some((*ack_at).min(*heard + silence)),
            Self::Up { ack_at, .. } => Some(*ack_at),
            Self::Lost { deadline } => Some(*deadline),
        }
    }
}

impl Relay {
    /// Takes the name of a (new) predecessor from the server: connects to it and goes on at the first byte
    /// that is missing here. An attempt at the same one goes on. If it were given up, it could still be let
    /// in, and take the place of the next one.
    pub fn set_predecessor(&mut self, now: Duration, peer: Peer) {
        self.tick(now);
        if self.life == Life::Over || self.upstream.goes_on_with(peer, now + self.config.establish) {
            return;
        }
        if matches!(self.upstream, Upstream::Up { .. } | Upstream::Connecting { .. }) {
            self.outputs
                .push_back(RelayOutput::CloseUpstream(Goodbye::Relinked));
        }
        self.connect(peer, now + self.config.establish);
    }

    /// Connects to the predecessor, which has until `deadline` to answer.
    fn connect(&mut self, peer: Peer, deadline: Duration) {
        self.upstream = Upstream::Connecting {
            peer,
            deadline,
            retry_at: None,
        };
        self.outputs.push_back(RelayOutput::Connect {
            peer,
            resume: self.received(),
        });
    }

    /// Handles that the handshake with the predecessor is done.
    pub fn handle_upstream_joined(&mut self, now: Duration) {
        self.tick(now);
        let Upstream::Connecting { peer, deadline, .. } = self.upstream else {
            return;
        };
        let reading = self.reads_link();
        self.upstream = Upstream::Up {
            trial: Some(Trial { peer, deadline }),
            heard: now,
            reading,
            told: None,
            ack_due: true,
            ack_at: now,
        };
        self.outputs.push_back(RelayOutput::LinkUp {
            side: Side::Upstream,
            offset: self.received(),
        });
    }

    /// Handles that the connection failed or broke, or a block over it was bad. The driver has closed it.
    pub fn handle_upstream_lost(&mut self, now: Duration, reason: Reason) {
        self.tick(now);
        match self.upstream {
            Upstream::Connecting { peer, deadline, .. }
            | Upstream::Up {
                trial: Some(Trial { peer, deadline }),
                ..
            } if now + RETRY < deadline => {
                let retry_at = Some(now + RETRY);
                self.upstream = Upstream::Connecting {
                    peer,
                    deadline,
                    retry_at,
                };
            }
            Upstream::Connecting { .. } | Upstream::Up { .. } => self.lose_upstream(now, reason),
            Upstream::Producer | Upstream::Lost { .. } | Upstream::Finished => {}
        }
    }

    /// Handles that the predecessor no longer has the data that is missing here. The nodes above it have even
    /// less. The stream cannot be completed here, unless the server keeps all of it.
    pub fn handle_upstream_gap(&mut self, now: Duration, retained_from: StreamOffset) {
        self.tick(now);
        let received = self.received();
        if self.window.has_ended() || retained_from <= received {
            self.handle_upstream_lost(now, Reason::new("the predecessor closed the handshake"));
            return;
        }
        let reason = format!(
            "data from byte {received} on is needed, the predecessor keeps it from {retained_from} on"
        );
        if !self.config.spooled {
            return self.fail(reason);
        }
        // The server will feed it from the spool, so its data does not come from the group any more.
        self.in_group = false;
        self.upstream = Upstream::Lost {
            deadline: now + self.patience(),
        };
        self.outputs.push_back(RelayOutput::Gap {
            offset: received,
            reason: Reason::new(reason),
        });
    }

    /// Returns the acknowledgement for the predecessor, if it is time: after every [`ACK_BYTES`], at every
    /// heartbeat, and at once when an end is reached. Call it when the link can take it, because it is not
    /// queued.
    pub fn take_ack(&mut self, now: Duration) -> Option<Ack> {
        let ack = self.ack();
        let Upstream::Up {
            told,
            ack_due,
            ack_at,
            ..
        } = &mut self.upstream
        else {
            return None;
        };
        if !*ack_due && told.is_some_and(|told| !is_news(&told, &ack)) {
            return None;
        }
        *told = Some(ack);
        *ack_due = false;
        *ack_at = now + self.config.heartbeat;
        self.settle(now);
        Some(Ack {
            receipts: self.ledger.give(ack.received, ack.ended),
            ..ack
        })
    }

    /// Returns the acknowledgement that is due. Its own receipts are not proved yet.
    fn ack(&self) -> Ack {
        let ended = self.window.has_ended();
        Ack {
            received: self.received(),
            consumed: self.consumed(),
            retained_from: self.retained_from(),
            receipts: self.ledger.draft(self.received(), ended),
            ended,
            tail_ended: ended && self.descendants_have_the_end(),
            standby: self.in_group,
        }
    }

    pub(super) fn upstream_timeout(&mut self, now: Duration) {
        if let Upstream::Up { ack_due, ack_at, .. } = &mut self.upstream
            && now >= *ack_at
        {
            *ack_due = true;
            *ack_at = now + self.config.heartbeat;
        }
        match self.upstream {
            Upstream::Connecting { deadline, .. } if now >= deadline => {
                self.outputs
                    .push_back(RelayOutput::CloseUpstream(Goodbye::Relinked));
                self.lose_upstream(now, Reason::new("no connection to the predecessor in time"));
            }
            Upstream::Connecting {
                peer,
                deadline,
                retry_at: Some(retry),
            } if now >= retry => self.connect(peer, deadline),
            Upstream::Up {
                heard, reading: true, ..
            } if now >= heard + self.config.silence => {
                self.outputs
                    .push_back(RelayOutput::CloseUpstream(Goodbye::Relinked));
                let silence = self.config.silence.as_secs_f32();
                self.lose_upstream(now, Reason::new(format!("nothing heard for {silence} s")));
            }
            Upstream::Lost { deadline } if now >= deadline => {
                self.fail("the predecessor was lost and the server named no other in time");
            }
            _ => {}
        }
    }

    /// Handles the loss of the predecessor. If the end is here, nothing more is needed from upstream, and it
    /// is no loss.
    fn lose_upstream(&mut self, now: Duration, reason: Reason) {
        if self.window.has_ended() {
            self.upstream = Upstream::Finished;
            self.settle(now);
            return;
        }
        self.upstream = Upstream::Lost {
            deadline: now + self.patience(),
        };
        let offset = self.received();
        self.outputs.push_back(RelayOutput::LinkLost {
            side: Side::Upstream,
            offset,
            reason,
        });
    }

    /// Returns the time that the server has to name another predecessor. If it keeps the stream, this node
    /// may be the silent one.
    fn patience(&self) -> Duration {
        let away = if self.config.spooled {
            AWAY_SILENCE
        } else {
            Duration::ZERO
        };
        self.config.establish + away
    }

    pub(super) fn fail(&mut self, why: impl AsRef<str>) {
        if self.life != Life::Over {
            self.life = Life::Over;
            self.outputs.push_back(RelayOutput::Failed {
                reason: Reason::new(why),
            });
        }
    }
}

/// Returns true if `new` tells enough more than `old` to be sent before the next heartbeat. In a running
/// chain all offsets move together, so the one that moved furthest decides: each acknowledgement wakes the
/// node above.
fn is_news(old: &Ack, new: &Ack) -> bool {
    let below = growth(&old.receipts, &new.receipts).unwrap_or(ACK_BYTES);
    let own = new.received.since(old.received);
    own.max(below) >= ACK_BYTES
        || (old.ended, old.tail_ended, old.standby) != (new.ended, new.tail_ended, new.standby)
}
