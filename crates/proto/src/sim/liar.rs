//! A member of the run that lies, from a moment on, in each message to the server and in each
//! acknowledgement.
//!
//! It has the keys of its own links and its own control connection, as a node of the real network has. It has
//! no other keys, so it speaks in its own name. Each of its messages may be left out, come with others, or be
//! replaced by one of any kind with any contents. Its lies may cost itself the run. The nodes above it in the
//! chain must not notice, and no node may wait for ever. The nodes below it get their data through it and
//! lose one round at most.

use std::time::Duration;

use super::Violation;
use super::event::SERVER;
use super::rng::Rng;
use super::scenario::Sabotage;
use super::world::World;
use crate::control::{Progress, Side, Stage, ToServer};
use crate::ids::{NodeId, StreamId, StreamOffset};
use crate::link::{Ack, Receipt, ReceiptKey, Receipts};
use crate::pace::Pace;
use crate::text::Reason;
use crate::tunnel::{TunnelId, TunnelMessage};
use crate::wire::Payload;

/// Number of kinds of messages that a liar makes up.
const KINDS: u64 = 14;

/// Kind of lie whose acknowledgements are true about the liar itself, and may be false about the nodes below
/// it.
const RECEIPTS: u64 = KINDS + 1;

/// The host that lies, the time of its first lie, and the share of lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Liar {
    /// Number of the lying host.
    pub(crate) host: usize,
    /// Virtual time from which it lies.
    pub(crate) at: Duration,
    /// Share of its messages that are lies, in percent.
    pub(crate) percent: u64,
    /// The only kind of lie, from 0; `None` means all kinds. The last two are acknowledgements, and receipts
    /// of others in them.
    pub(crate) only: Option<u64>,
}

impl Liar {
    /// Number of kinds of lies: one for each message to the server, and two of acknowledgements.
    pub(crate) const KINDS: u64 = KINDS + 2;
    /// The kind of lie that is about other nodes only, in acknowledgements.
    pub(crate) const OF_OTHERS: u64 = RECEIPTS;
}

impl World {
    pub(super) fn is_liar(&self, host: usize) -> bool {
        self.scenario.liar.is_some_and(|liar| liar.host == host)
    }

    /// Draws if this host lies now. Returns the liar if it does.
    fn lies_now(&mut self, host: usize) -> Option<Liar> {
        let liar = self
            .scenario
            .liar
            .filter(|liar| liar.host == host && self.now >= liar.at)?;
        self.rng.chance(liar.percent).then_some(liar)
    }

    /// Returns the messages that go to the server instead of this one.
    pub(super) fn falsified(&mut self, host: usize, message: ToServer) -> Vec<ToServer> {
        let Some(liar) = self
            .lies_now(host)
            .filter(|liar| liar.only.is_none_or(|kind| kind < KINDS))
        else {
            return vec![message];
        };
        let kind = liar.only.unwrap_or_else(|| self.rng.between(0, KINDS - 1));
        let lie = self.made_up(host, kind);
        match self.rng.between(0, 3) {
            0 => vec![lie],
            1 => vec![message, lie],
            2 => vec![lie.clone(), message, lie],
            // Silence is a lie as well.
            _ if liar.only.is_none() => Vec::new(),
            _ => vec![lie],
        }
    }

    fn made_up(&mut self, host: usize, kind: u64) -> ToServer {
        let endpoint = self.hosts[host].endpoint.as_ref();
        let open = endpoint.map_or(StreamId(1), |endpoint| endpoint.stream);
        let stream = self
            .rng
            .pick(&[open, open, open, StreamId(open.0.saturating_add(1)), StreamId(0)]);
        let side = self.rng.pick(&[Side::Upstream, Side::Downstream]);
        let (offset, reason) = (self.any_offset(), Reason::new("a lie"));
        let payload = Payload(vec![9; 50]);
        match kind {
            0 => ToServer::Pong(self.rng.pick(&[0, u64::MAX])),
            1 => ToServer::Prepared(payload),
            2 => ToServer::Ready,
            3 => ToServer::StepFailed {
                stage: self
                    .rng
                    .pick(&[Stage::Stream(stream), Stage::Go, Stage::Gather, Stage::Report]),
                reason,
            },
            4 => ToServer::Event(payload),
            5 => ToServer::Progress(Progress {
                stream,
                received: offset,
                consumed: self.any_offset(),
                buffered: offset.0,
                pace: any_pace(&mut self.rng),
            }),
            6 => ToServer::LinkUp { stream, side, offset },
            7 => ToServer::LinkLost {
                stream,
                side,
                offset,
                reason,
            },
            8 => ToServer::StreamFailed {
                stream,
                reason,
                unproved: self.rng.chance(50),
            },
            9 => ToServer::StreamDone {
                stream,
                bytes: offset.0,
                digest: [9; 32],
            },
            10 => ToServer::Report(payload),
            11 => ToServer::Leaving { reason },
            12 => ToServer::DataGone {
                stream,
                offset,
                reason,
            },
            _ => ToServer::Tunnel(TunnelMessage::Credit { tunnel: TunnelId(7) }),
        }
    }

    fn any_offset(&mut self) -> StreamOffset {
        let all = self.scenario.stream_bytes;
        StreamOffset(
            self.rng
                .pick(&[0, 1, self.produced / 2, self.produced, all, u64::MAX]),
        )
    }

    /// Returns the acknowledgement that goes to the predecessor instead of this one.
    pub(super) fn falsified_ack(&mut self, host: usize, stream: StreamId, ack: Ack) -> Ack {
        let Some(liar) = self.lies_now(host) else {
            return ack;
        };
        if liar.only.is_some_and(|kind| kind < KINDS) {
            return ack;
        }
        let receipts = self.false_receipts(host, stream, &ack);
        let only_of_others = liar.only == Some(RECEIPTS);
        let ack = Ack {
            standby: if only_of_others {
                ack.standby
            } else {
                self.any_standby(ack.standby)
            },
            ..ack
        };
        match self.rng.between(0, 3) {
            // The acknowledgement is as good as it can be, so that nothing is kept for the nodes below.
            kind if kind <= 1 || only_of_others => Ack {
                receipts,
                tail_ended: ack.ended,
                ..ack
            },
            2 => Ack {
                received: self.any_offset(),
                receipts,
                ended: true,
                tail_ended: true,
                ..ack
            },
            _ => Ack {
                received: StreamOffset(0),
                receipts,
                ..ack
            },
        }
    }

    /// Returns true or false about standby, if there is a group.
    fn any_standby(&mut self, standby: bool) -> bool {
        standby ^ (self.scenario.group.is_some() && self.rng.chance(50))
    }

    /// Returns receipts that the nodes below the liar did not give, or the liar's own, or none.
    fn false_receipts(&mut self, host: usize, stream: StreamId, ack: &Ack) -> Receipts {
        let ids = |host: &super::host::Host| host.id;
        let below: Vec<NodeId> = self.hosts[host + 1..].iter().filter_map(ids).collect();
        let above = self.hosts[..host]
            .iter()
            .map(|host| host.id.unwrap_or(NodeId::SERVER));
        let above: Vec<NodeId> = above.collect();
        let knows_all = self.scenario.sabotage == Some(Sabotage::GivesTheLiarAllKeys);
        match self.rng.between(0, 3) {
            0 => return Receipts::default(),
            1 => return ack.receipts,
            _ => {}
        }
        // The liar's keys are not those of the others.
        let pairs = below
            .iter()
            .flat_map(|from| above.iter().rev().map(move |to| (*from, *to)));
        let pairs: Vec<(NodeId, NodeId)> = pairs.collect();
        let forged = pairs.into_iter().map(|(from, to)| {
            let key = if knows_all {
                self.server.receipt_key(stream, from, to)
            } else {
                [1; 32]
            };
            Receipt::new(from, &ReceiptKey { node: to, key }, ack.received, ack.ended)
        });
        forged.collect()
    }

    /// Checks that no node above the liar lost anything. With enough rounds no node but the liar did.
    pub(super) fn check_liar(&self) -> Result<(), Violation> {
        let Some(liar) = self.scenario.liar else {
            return Ok(());
        };
        let must_be_done =
            |host: &usize| *host != liar.host && (*host < liar.host || self.scenario.rounds >= 3);
        let lost = (SERVER + 1..self.hosts.len())
            .filter(must_be_done)
            .find(|host| !self.rounds.done.contains(host));
        lost.map_or(Ok(()), |host| {
            let why = self
                .rounds
                .failed
                .get(&host)
                .map(|failed| failed.failure.to_string());
            Err(self.violation(
                host,
                format!("it lost more than it must to the liar {}: {why:?}", liar.host),
            ))
        })
    }
}

fn any_pace(rng: &mut Rng) -> Pace {
    let mut any = || u32::try_from(rng.pick(&[0, 1, 400, 500, u64::from(u32::MAX)])).unwrap_or(u32::MAX);
    Pace {
        elapsed_ms: any(),
        upstream_ms: any(),
        consumer_ms: any(),
        downstream_ms: any(),
        work_ms: any(),
        consumer_busy_ms: any(),
        link_busy_ms: any(),
        link_bytes: u64::from(any()),
        processor_ms: u32::MAX,
        ..Pace::default()
    }
}
