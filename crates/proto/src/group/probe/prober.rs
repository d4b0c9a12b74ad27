//! The server's machine of a probe.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::outcome::{Measured, Outcome, Sent};
use super::{Invitation, MAX_TRAIN, PROBE_TIME, ProbeAnswer, ProbeNews, ProbeOrder, Train};
use crate::block::BlockError;
use crate::group::datagram::{DatagramKey, Header, Kind};
use crate::ids::{NodeId, RunId, StreamId};
use crate::text::Reason;

/// Time for the greetings: switches may need a moment to learn where members are.
const GREETING_TIME: Duration = Duration::from_millis(350);
/// Time between two greetings.
const GREETING_EVERY: Duration = Duration::from_millis(5);
/// Length of the two trains.
const HALF_TIME: Duration = Duration::from_millis(80);
const FULL_TIME: Duration = Duration::from_millis(160);
/// Time for the answers to the first train, after the time of the parts before it. The answers to the second one
/// have what is left of [`PROBE_TIME`].
const COUNT_TIME: Duration = Duration::from_millis(120);
/// Most time that a sender makes up for after it got no processor.
const CATCH_UP: Duration = Duration::from_millis(10);
/// Datagrams of one send, as many as fit 64 KiB.
const BURST: usize = 44;
/// Bytes of Ethernet, IPv4 and UDP around a datagram: preamble 8, header 14, check sequence 4, gap 12, 20 and 8.
const AROUND: u64 = 66;

/// The facts of a probe.
#[derive(Debug, Clone)]
pub struct ProberConfig {
    /// The run.
    pub run: RunId,
    /// The group, and the sender's part in it.
    pub invitation: Invitation,
    /// Bytes of each datagram.
    pub datagram: usize,
    /// Rate of the sender's line, in bits a second: [`super::ASSUMED_LINE`] if it is not known.
    pub line: u64,
    /// The outcome of an earlier probe of this group, with other nodes. Then there are greetings only, and the
    /// outcome is that of both.
    pub earlier: Option<Outcome>,
}

/// The server in one probe. All times are since any fixed moment.
///
/// After each call, take the orders, then the next burst. Call again at [`Prober::poll_timeout`] at the latest,
/// and when the socket takes more after [`Prober::handle_blocked`].
#[derive(Debug)]
pub struct Prober {
    config: ProberConfig,
    key: DatagramKey,
    nodes: BTreeMap<NodeId, Measured>,
    orders: VecDeque<(NodeId, ProbeOrder)>,
    phase: Phase,
    begin: Duration,
    half: Sent,
    full: Option<Sent>,
    buffer: Vec<u8>,
    failure: Option<Reason>,
}

#[derive(Debug)]
enum Phase {
    Greeting { next: Duration, place: u32 },
    Sending(Sending),
    Counting { train: Train, until: Duration },
    Over,
}

/// A train on its way.
#[derive(Debug)]
struct Sending {
    train: Train,
    /// Bytes a second to send.
    rate: u64,
    begin: Duration,
    until: Duration,
    /// Time of the next burst.
    next: Duration,
    place: u32,
    /// The socket takes no more.
    is_blocked: bool,
    /// It took no more at least once.
    was_blocked: bool,
}

impl Prober {
    /// Begins a probe of these nodes.
    ///
    /// # Errors
    /// [`BlockError::NoCipher`].
    pub fn new(config: ProberConfig, nodes: &[NodeId], now: Duration) -> Result<Self, BlockError> {
        let invitation = &config.invitation;
        let key = DatagramKey::new(
            &invitation.key,
            config.run,
            StreamId(invitation.probe),
            invitation.sender,
        )?;
        let listen = |node: &NodeId| (*node, ProbeOrder::Listen(invitation.clone()));
        Ok(Self {
            orders: nodes.iter().map(listen).collect(),
            nodes: nodes.iter().map(|node| (*node, Measured::default())).collect(),
            phase: Phase::Greeting { next: now, place: 0 },
            key,
            begin: now,
            half: Sent::default(),
            full: None,
            buffer: Vec::new(),
            failure: None,
            config,
        })
    }

    /// Returns the bytes of each datagram.
    #[must_use]
    pub const fn datagram(&self) -> usize {
        self.config.datagram
    }

    /// Returns the datagrams to send now, one after another. The same ones come again until they are taken.
    pub fn next_burst(&mut self, now: Duration) -> Option<&[u8]> {
        self.advance(now);
        let (train, first, count) = match &self.phase {
            Phase::Greeting { next, place } if now >= *next => (Train::Greeting, *place, 1),
            Phase::Sending(sending) if now >= sending.next => {
                let left = usize::try_from(MAX_TRAIN - sending.place).unwrap_or(BURST);
                (sending.train, sending.place, left.min(self.burst()))
            }
            _ => return None,
        };
        self.form(train, first, count);
        Some(&self.buffer)
    }

    fn burst(&self) -> usize {
        (65_507 / self.config.datagram.max(1)).clamp(1, BURST)
    }

    fn form(&mut self, train: Train, first: u32, count: usize) {
        let size = self.config.datagram;
        self.buffer.resize(count * size, 0);
        for (place, datagram) in (first..).zip(self.buffer.chunks_exact_mut(size.max(1))) {
            let header = Header {
                kind: Kind::Probe,
                index: 0,
                shards: 0,
                stream: self.key.stream(),
                number: train.number(place),
            };
            self.key.seal(&header, datagram);
        }
    }

    /// The socket took this many bytes of the burst, whole datagrams.
    pub fn handle_sent(&mut self, now: Duration, bytes: usize) {
        let datagrams = u32::try_from(bytes / self.config.datagram.max(1)).unwrap_or(u32::MAX);
        match &mut self.phase {
            Phase::Greeting { next, place } => {
                *next = now + GREETING_EVERY;
                *place = (*place + 1) % MAX_TRAIN;
            }
            Phase::Sending(sending) => sending.took(now, datagrams, bytes),
            Phase::Counting { .. } | Phase::Over => {}
        }
    }

    /// The socket takes no more. When poll(2) says that it does, ask for the next burst.
    pub const fn handle_blocked(&mut self) {
        if let Phase::Sending(sending) = &mut self.phase {
            sending.is_blocked = true;
            sending.was_blocked = true;
        }
    }

    /// Nothing can be sent to the group: the probe is over.
    pub fn handle_failure(&mut self, why: Reason) {
        self.failure = Some(why);
        self.end();
    }

    /// Takes a node's answer. One that belongs to another probe, or that nobody asked for, changes nothing.
    pub fn handle_answer(&mut self, node: NodeId, answer: ProbeAnswer) {
        if answer.probe != self.config.invitation.probe || matches!(self.phase, Phase::Over) {
            return;
        }
        let Some(measured) = self.nodes.get_mut(&node) else {
            return;
        };
        match answer.news {
            ProbeNews::Heard => measured.heard = true,
            ProbeNews::Counted { train, count } => {
                if matches!(self.phase, Phase::Counting { train: asked, .. } if asked == train) {
                    measured.set(train, count);
                }
            }
            ProbeNews::Unable { why } => measured.unable = Some(why),
        }
    }

    /// A node has left the run.
    pub fn remove(&mut self, node: NodeId) {
        self.nodes.remove(&node);
    }

    /// Returns the next order for a node.
    pub fn poll_order(&mut self, now: Duration) -> Option<(NodeId, ProbeOrder)> {
        self.advance(now);
        self.orders.pop_front()
    }

    /// Returns the time of the next step, or `None` when the probe is over.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Greeting { next, .. } => Some((*next).min(self.begin + GREETING_TIME)),
            Phase::Sending(sending) if sending.is_blocked => Some(sending.until),
            Phase::Sending(sending) => Some(sending.next.min(sending.until)),
            Phase::Counting { until, .. } => Some(*until),
            Phase::Over => None,
        }
    }

    /// Returns the outcome once the probe is over.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        matches!(self.phase, Phase::Over).then(|| {
            let failure = self.failure.clone();
            match &self.config.earlier {
                Some(earlier) => earlier.with_greeted(&self.nodes, failure),
                None => Outcome::new(&self.nodes, self.half, self.full, self.line_rate(), failure),
            }
        })
    }

    /// Bytes of datagrams that the line carries in a second.
    fn line_rate(&self) -> u64 {
        let datagram = self.config.datagram as u64;
        let share = u128::from(self.config.line / 8) * u128::from(datagram) / u128::from(datagram + AROUND);
        u64::try_from(share).unwrap_or(u64::MAX).max(1)
    }

    fn advance(&mut self, now: Duration) {
        match &self.phase {
            Phase::Greeting { .. } => {
                let is_late = now >= self.begin + GREETING_TIME;
                if !is_late && !self.nodes.values().all(Measured::is_settled) {
                    return;
                }
                let is_whole = self.config.earlier.is_none();
                if is_whole && self.nodes.values().any(|node| node.heard) {
                    self.send(Train::Half, now);
                } else {
                    self.end();
                }
            }
            Phase::Sending(sending) if sending.is_over(now) => {
                let (train, sent) = (sending.train, sending.sent(self.config.datagram));
                self.count(train, sent);
            }
            Phase::Counting { train, until } => {
                let train = *train;
                if now >= *until || self.nodes.values().all(|node| node.has_answered(train)) {
                    let is_worth_more = Outcome::is_worth_more(&self.nodes, self.half);
                    if train == Train::Half && is_worth_more {
                        self.send(Train::Full, now);
                    } else {
                        self.end();
                    }
                }
            }
            Phase::Sending(_) | Phase::Over => {}
        }
    }

    fn send(&mut self, train: Train, now: Duration) {
        let (rate, time) = match train {
            Train::Full => (self.line_rate(), FULL_TIME),
            Train::Greeting | Train::Half => (self.line_rate() / 2, HALF_TIME),
        };
        self.phase = Phase::Sending(Sending {
            train,
            rate: rate.max(1),
            begin: now,
            until: now + time,
            next: now,
            place: 0,
            is_blocked: false,
            was_blocked: false,
        });
    }

    fn count(&mut self, train: Train, sent: Sent) {
        let latest = match train {
            Train::Full => {
                self.full = Some(sent);
                PROBE_TIME
            }
            Train::Greeting | Train::Half => {
                self.half = sent;
                GREETING_TIME + HALF_TIME + COUNT_TIME
            }
        };
        let probe = self.config.invitation.probe;
        let asked = self.nodes.iter().filter(|(_, node)| node.unable.is_none());
        let order = ProbeOrder::Count {
            probe,
            train,
            sent: sent.datagrams,
        };
        self.orders.extend(asked.map(|(node, _)| (*node, order.clone())));
        let until = self.begin + latest;
        self.phase = Phase::Counting { train, until };
    }

    fn end(&mut self) {
        let probe = self.config.invitation.probe;
        let nodes = self.nodes.keys();
        self.orders
            .extend(nodes.map(|node| (*node, ProbeOrder::End { probe })));
        self.phase = Phase::Over;
    }
}

impl Sending {
    fn took(&mut self, now: Duration, datagrams: u32, bytes: usize) {
        self.is_blocked = false;
        self.place = self.place.saturating_add(datagrams).min(MAX_TRAIN);
        let nanos = u128::from(bytes as u64) * 1_000_000_000 / u128::from(self.rate);
        self.next += Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.next = self.next.max(now.saturating_sub(CATCH_UP));
    }

    const fn is_full(&self) -> bool {
        self.place >= MAX_TRAIN
    }

    fn is_over(&self, now: Duration) -> bool {
        now >= self.until || self.is_full()
    }

    fn sent(&self, datagram: usize) -> Sent {
        let planned = u128::from(self.rate) * (self.until - self.begin).as_nanos() / 1_000_000_000;
        let bytes = u64::from(self.place) * datagram as u64;
        Sent {
            datagrams: self.place,
            rate: self.rate,
            // Nine tenths: the buffers and the last burst are never exact.
            is_on_time: self.is_full() || u128::from(bytes) * 10 >= planned * 9,
            was_blocked: self.was_blocked,
        }
    }
}
