//! A member of the run that lies: in each message to the server, and in each acknowledgement, from a moment on.
//!
//! It has the keys of its own links and its own control connection, as a node of the real network has, and nothing else: it
//! speaks in its own name. Each of its messages may be replaced by one of any kind with any contents, left out, or
//! accompanied by others. What it says may cost itself the run; those above it in the chain must not notice, nobody may
//! wait for ever, and those below it, whose data comes through it, lose a round at most.

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

/// Kinds of messages that a liar makes up.
const KINDS: u64 = 14;

/// Acknowledgements say the truth of the liar itself, and anything of those below it.
const RECEIPTS: u64 = KINDS + 1;

/// Who lies, from when on, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liar {
    /// Which host.
    pub host: usize,
    /// From when on.
    pub at: Duration,
    /// How many of its messages are not what an honest node would say, in percent.
    pub percent: u64,
    /// The only kind of lie told, from 0; `None` tells all. The last two are acknowledgements, and receipts of others in them.
    pub only: Option<u64>,
}

impl Liar {
    /// How many kinds of lies there are: one for each message to the server, and two of acknowledgements.
    pub const KINDS: u64 = KINDS + 2;
    /// The kind of lie that is told of others only, in acknowledgements.
    pub const OF_OTHERS: u64 = RECEIPTS;
}

impl World {
    pub(super) fn is_liar(&self, host: usize) -> bool {
        self.scenario.liar.is_some_and(|liar| liar.host == host)
    }

    /// Draws whether this host lies now.
    fn lies_now(&mut self, host: usize) -> Option<Liar> {
        let liar = self
            .scenario
            .liar
            .filter(|liar| liar.host == host && self.now >= liar.at)?;
        self.rng.chance(liar.percent).then_some(liar)
    }

    /// What goes to the server instead of this message.
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

    /// What goes to the predecessor instead of this acknowledgement.
    pub(super) fn falsified_ack(&mut self, host: usize, stream: StreamId, ack: Ack) -> Ack {
        let Some(liar) = self.lies_now(host) else {
            return ack;
        };
        if liar.only.is_some_and(|kind| kind < KINDS) {
            return ack;
        }
        let receipts = self.false_receipts(host, stream, &ack);
        let only_of_others = liar.only == Some(RECEIPTS);
        match self.rng.between(0, 3) {
            // As good as it can be, so that nothing is kept for those below.
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

    /// Words of those below the liar that they did not give, its own, or none.
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
        // The keys that it has are not those of the others.
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

    /// Nobody above the liar lost anything, and with rounds enough nobody but the liar.
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
