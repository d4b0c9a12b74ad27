//! The node's machine of a probe.

use std::time::Duration;

use super::count::{Count, Tally};
use super::{Invitation, PROBE_TIME, ProbeAnswer, ProbeNews, ProbeOrder, Train};
use crate::block::BlockError;
use crate::group::datagram::{DatagramKey, Header, Kind};
use crate::ids::{RunId, StreamId};

/// Time without a datagram after which the rest of a train is taken for lost.
const SETTLED: Duration = Duration::from_millis(30);
/// Time after which a node leaves the group by itself: the server, or the connection to it, is gone.
const FORGOTTEN: Duration = PROBE_TIME.saturating_mul(3);

/// A node that listens to one probe. All times are since any fixed moment.
#[derive(Debug)]
pub struct Listener {
    key: DatagramKey,
    invitation: Invitation,
    tallies: [Tally; Train::ALL.len()],
    refused: u32,
    drops: u64,
    heard: News,
    asked: Option<Asked>,
    ends: Duration,
}

/// Progress of the news that the group reaches this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    None,
    Due,
    Told,
}

/// A train that the server asked for.
#[derive(Debug, Clone, Copy)]
struct Asked {
    train: Train,
    sent: u32,
    at: Duration,
}

impl Listener {
    /// Begins to listen.
    ///
    /// # Errors
    /// [`BlockError::NoCipher`].
    pub fn new(run: RunId, invitation: Invitation, now: Duration) -> Result<Self, BlockError> {
        let stream = StreamId(invitation.probe);
        Ok(Self {
            key: DatagramKey::new(&invitation.key, run, stream, invitation.sender)?,
            invitation,
            tallies: Default::default(),
            refused: 0,
            drops: 0,
            heard: News::None,
            asked: None,
            ends: now + FORGOTTEN,
        })
    }

    /// Returns the group.
    #[must_use]
    pub const fn invitation(&self) -> &Invitation {
        &self.invitation
    }

    /// Takes the number of packets that the kernel has dropped for want of room so far.
    pub const fn handle_drops(&mut self, drops: u64) {
        self.drops = drops;
    }

    /// Takes the datagrams of one receive, each of `datagram` bytes; the last one may be shorter.
    pub fn handle_datagrams(&mut self, now: Duration, bytes: &[u8], datagram: usize) {
        for one in bytes.chunks(datagram.max(1)) {
            match self.place_of(one) {
                Some((train, place)) => {
                    self.tallies[train as usize].take(now, place, one.len());
                    if self.heard == News::None {
                        self.heard = News::Due;
                    }
                }
                None => self.refused = self.refused.saturating_add(1),
            }
        }
    }

    fn place_of(&self, datagram: &[u8]) -> Option<(Train, u32)> {
        let header = Header::decode(datagram)?;
        let place = Train::of(header.number)?;
        let is_ours = header.kind == Kind::Probe && header.stream == self.key.stream();
        (is_ours && self.key.is_right(datagram)).then_some(place)
    }

    /// Takes an order of the server. One that belongs to another probe changes nothing.
    pub fn handle_order(&mut self, now: Duration, order: &ProbeOrder) {
        if order.probe() != self.invitation.probe {
            return;
        }
        match *order {
            ProbeOrder::Listen(_) => {}
            ProbeOrder::Count { train, sent, .. } => self.asked = Some(Asked { train, sent, at: now }),
            ProbeOrder::End { .. } => self.ends = now,
        }
    }

    /// Returns the next answer for the server.
    pub fn poll_answer(&mut self, now: Duration) -> Option<ProbeAnswer> {
        let probe = self.invitation.probe;
        if self.heard == News::Due {
            self.heard = News::Told;
            let news = ProbeNews::Heard;
            return Some(ProbeAnswer { probe, news });
        }
        let asked = self.asked.filter(|asked| now >= self.settles(*asked))?;
        self.asked = None;
        let tally = &self.tallies[asked.train as usize];
        let count = Count {
            received: tally.received(),
            rate: tally.rate(),
            drops: u32::try_from(self.drops).unwrap_or(u32::MAX),
            refused: self.refused,
        };
        let train = asked.train;
        let news = ProbeNews::Counted { train, count };
        Some(ProbeAnswer { probe, news })
    }

    /// Returns the time at which there is something to do, if nothing arrives before.
    #[must_use]
    pub fn poll_timeout(&self) -> Duration {
        let settles = self.asked.map(|asked| self.settles(asked));
        settles.map_or(self.ends, |settles| settles.min(self.ends))
    }

    /// True if the node leaves the group now.
    #[must_use]
    pub fn is_over(&self, now: Duration) -> bool {
        now >= self.ends
    }

    /// The time from which on nothing more of a train is expected.
    fn settles(&self, asked: Asked) -> Duration {
        let tally = &self.tallies[asked.train as usize];
        if tally.received() >= asked.sent {
            return asked.at;
        }
        tally.last().map_or(asked.at, |last| last.max(asked.at)) + SETTLED
    }
}
