//! Where the chain is held up: from what every hop measured of its own wire, disk and processor.
//!
//! A hop is a node with the line that leads to it. It is the bottleneck where those below it wait for data and itself is
//! the reason: its window is full because its own consumer does not take (then those above have no room), or it is at
//! work all the time, or it has room and gets nothing although the line to it never rests.

use super::track::Sample;
use super::{Bottleneck, NodeId};

/// Less than this says nothing yet: buffers fill first.
const LEAST_SPAN_MS: u32 = 3000;
/// Busy time from which bytes over time are a rate.
const LEAST_BUSY_MS: u32 = 100;
/// A node holds up the chain when it is the reason for this share of its time, in percent: the others then wait for it
/// for most of theirs.
const BUSY_PERCENT: u64 = 60;
/// A line is the bottleneck when it rests for less than the rest of this, in percent.
const LINE_PERCENT: u64 = 80;
/// The golden node is when it reads for this share, and hardly ever has to wait for room.
const READING_PERCENT: u64 = 85;
/// Its nodes must rest then for more than the rest of this.
const RESTING_PERCENT: u64 = 50;
/// A node has no room for so much of its time: it waits too, not only those behind the bottleneck.
const BACKED_UP_PERCENT: u64 = 30;
/// Two lines in a row carry the same when they differ by less than this, in percent: then it is the first of them that
/// decides, and the port of the node between them may be what is slow.
const SAME_PERCENT: u64 = 75;

/// One node, with what it and the one before it did lately.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hop {
    pub(super) node: NodeId,
    pub(super) own: Sample,
    pub(super) before: Option<Sample>,
    /// It has the whole stream: nobody waits for it any more.
    pub(super) has_all: bool,
}

/// The hop that holds up the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Culprit {
    /// Its index in the chain; none is the golden node.
    pub(super) index: Option<usize>,
    pub(super) why: Bottleneck,
    /// What it can do, in bytes a second.
    pub(super) rate: u64,
    /// Those above it have no room: everybody waits, not only those behind it.
    pub(super) is_backed_up: bool,
    /// The line to the next node hardly rests either: that one is slow whoever sends to it, or its sender's port is.
    pub(super) is_next_busy: bool,
}

pub(super) fn rate(bytes: u64, busy_ms: u32) -> Option<u64> {
    (busy_ms >= LEAST_BUSY_MS).then(|| bytes.saturating_mul(1000) / u64::from(busy_ms))
}

fn share(part_ms: u32, of_ms: u32) -> u64 {
    u64::from(part_ms) * 100 / u64::from(of_ms.max(1))
}

impl Hop {
    fn spends(&self, part_ms: u32) -> u64 {
        share(part_ms, self.own.pace.elapsed_ms)
    }

    /// What it can do, where it is the reason for its own pace.
    pub(super) fn limit(&self) -> Option<(u64, Bottleneck)> {
        let pace = &self.own.pace;
        if pace.elapsed_ms < LEAST_SPAN_MS {
            return None;
        }
        if self.spends(pace.work_ms) >= BUSY_PERCENT {
            return Some((rate(self.own.received, pace.work_ms)?, Bottleneck::Processor));
        }
        if self.spends(pace.consumer_ms) >= BUSY_PERCENT {
            let why = if self.spends(pace.processor_ms) >= BUSY_PERCENT {
                Bottleneck::Processor
            } else {
                pace.taker.into()
            };
            return Some((self.taken()?, why));
        }
        self.line().map(|rate| (rate, Bottleneck::Link))
    }

    /// What its line carries, where it never rests while there is room behind it.
    fn line(&self) -> Option<u64> {
        let before = self.before?.pace;
        let is_starving = self.spends(self.own.pace.upstream_ms) >= BUSY_PERCENT;
        let never_rests = share(before.link_busy_ms, before.elapsed_ms) >= LINE_PERCENT;
        if before.elapsed_ms < LEAST_SPAN_MS || !is_starving || !never_rests {
            return None;
        }
        rate(before.link_bytes, before.link_busy_ms)
    }

    /// What its consumer takes while it has something.
    pub(super) fn taken(&self) -> Option<u64> {
        rate(self.own.consumed, self.own.pace.consumer_busy_ms)
    }

    /// What its processor handles while it works.
    pub(super) fn handled(&self) -> Option<u64> {
        rate(self.own.received, self.own.pace.work_ms)
    }

    fn has_no_room(&self) -> bool {
        self.spends(self.own.pace.downstream_ms) >= BACKED_UP_PERCENT
            || self.spends(self.own.pace.consumer_ms) >= BACKED_UP_PERCENT
    }

    /// The line to it has nothing to carry for much of its time.
    pub(super) fn has_resting_line(&self) -> bool {
        let before = self.before.map(|before| before.pace).unwrap_or_default();
        share(before.link_busy_ms, before.elapsed_ms) < RESTING_PERCENT
    }

    fn rests(&self) -> bool {
        let pace = &self.own.pace;
        let parts = [pace.work_ms, pace.consumer_ms, pace.downstream_ms];
        self.has_resting_line() && parts.iter().all(|part| self.spends(*part) < RESTING_PERCENT)
    }
}

/// The slowest hop; of those that are as slow, the first: behind it everybody gets no more than it lets through.
pub(super) fn culprit(head: &Sample, hops: &[Hop]) -> Option<Culprit> {
    let mut found: Option<Culprit> = None;
    for (index, hop) in hops.iter().enumerate().filter(|(_, hop)| !hop.has_all) {
        let Some((rate, why)) = hop.limit() else { continue };
        let is_slower = |found: &Culprit| rate.saturating_mul(100) < found.rate.saturating_mul(SAME_PERCENT);
        if found.as_ref().is_none_or(is_slower) {
            let above = index.checked_sub(1).and_then(|above| hops.get(above));
            let is_backed_up = match above {
                Some(above) => above.has_no_room(),
                None => share(head.pace.downstream_ms, head.pace.elapsed_ms) >= BACKED_UP_PERCENT,
            };
            let next = hops.get(index + 1);
            found = Some(Culprit {
                index: Some(index),
                why,
                rate,
                is_backed_up,
                is_next_busy: next.is_some_and(|next| !next.has_resting_line()),
            });
        }
    }
    found.or_else(|| reading(head, hops))
}

/// The golden node, when it hardly ever waits for room and everybody behind it rests.
fn reading(head: &Sample, hops: &[Hop]) -> Option<Culprit> {
    let pace = &head.pace;
    let reads =
        pace.elapsed_ms >= LEAST_SPAN_MS && share(pace.upstream_ms, pace.elapsed_ms) >= READING_PERCENT;
    if !reads || !hops.iter().filter(|hop| !hop.has_all).all(Hop::rests) {
        return None;
    }
    Some(Culprit {
        index: None,
        why: Bottleneck::Reading,
        rate: rate(head.received, pace.upstream_ms)?,
        is_backed_up: true,
        is_next_busy: false,
    })
}

/// Whether the line from the node at `index` is as slow as the one to it: then its port is, and the next node is not to
/// be measured by it.
pub(super) fn shares_a_port(hops: &[Hop], index: usize, rate: u64) -> bool {
    let next = hops.get(index + 1).and_then(Hop::line);
    next.is_some_and(|next| next.saturating_mul(SAME_PERCENT) <= rate.saturating_mul(100))
}
