//! The hop that holds up the chain, found from each hop's measurements of its own wire, disk and processor.
//!
//! A hop is a node with the line that leads to it. It is the bottleneck if the nodes below it wait for data
//! and the hop itself is the reason. There are three cases. Its window is full because its own consumer does
//! not take, so the nodes above have no room. Or it works all the time (it may share the time with its
//! consumer). Or it has room and gets nothing although the line to it never rests.

use super::track::Sample;
use super::{Bottleneck, NodeId};

/// Shortest span that is judged, in milliseconds. Buffers fill first.
const LEAST_SPAN_MS: u32 = 3000;
/// Shortest busy time from which bytes over time are a rate, in milliseconds.
const LEAST_BUSY_MS: u32 = 100;
/// Share of its time, in percent, for which a node must be the reason to hold up the chain. The others then
/// wait for it for most of theirs.
const BUSY_PERCENT: u64 = 60;
/// Share of its time, in percent, for which a line must be busy to be the bottleneck.
const LINE_PERCENT: u64 = 80;
/// Share of its time, in percent, for which the golden node must read to be the bottleneck, and hardly ever
/// wait for room.
const READING_PERCENT: u64 = 85;
/// Largest busy share of its nodes in that case, in percent.
const RESTING_PERCENT: u64 = 50;
/// Share of its time, in percent, for which a node has no room. Then it waits too, not only the nodes behind
/// the bottleneck.
const BACKED_UP_PERCENT: u64 = 30;
/// Two lines in a row carry the same if the slower one has at least this share of the other rate, in percent.
/// Then the first of them decides, and the port of the node between them may be the slow part.
const SAME_PERCENT: u64 = 75;

/// One node, with the recent time of it and of the node before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hop {
    pub(super) node: NodeId,
    pub(super) own: Sample,
    pub(super) before: Option<Sample>,
    /// True if it has the whole stream. No node waits for it any more.
    pub(super) has_all: bool,
}

/// The hop that holds up the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Culprit {
    /// Index in the chain. `None` is the golden node.
    pub(super) index: Option<usize>,
    pub(super) why: Bottleneck,
    /// Rate that it can reach, in bytes a second.
    pub(super) rate: u64,
    /// True if the nodes above it have no room. Then all nodes wait, not only those behind it.
    pub(super) is_backed_up: bool,
    /// True if the line to the next node hardly rests either. Then that line is slow with any sender, or its
    /// sender's port is.
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

    /// Returns its rate and the cause, if it is the reason for its own pace.
    pub(super) fn limit(&self) -> Option<(u64, Bottleneck)> {
        let pace = &self.own.pace;
        if pace.elapsed_ms < LEAST_SPAN_MS {
            return None;
        }
        let (work, consumer) = (self.spends(pace.work_ms), self.spends(pace.consumer_ms));
        if work >= BUSY_PERCENT {
            return Some((rate(self.own.received, pace.work_ms)?, Bottleneck::Processor));
        }
        // The two may share the time. A processor that is slow for everything keeps the command waiting, too.
        if work + consumer >= BUSY_PERCENT {
            let why = if self.spends(pace.processor_ms) >= BUSY_PERCENT || work > consumer {
                Bottleneck::Processor
            } else {
                pace.taker.into()
            };
            let reached = if consumer >= BUSY_PERCENT {
                self.taken()
            } else {
                rate(self.own.received, pace.work_ms.saturating_add(pace.consumer_ms))
            };
            return Some((reached?, why));
        }
        self.line().map(|rate| (rate, Bottleneck::Link))
    }

    /// Returns the rate of its line, if the line never rests while there is room behind it.
    fn line(&self) -> Option<u64> {
        let before = self.before?.pace;
        let is_starving = self.spends(self.own.pace.upstream_ms) >= BUSY_PERCENT;
        let never_rests = share(before.link_busy_ms, before.elapsed_ms) >= LINE_PERCENT;
        if before.elapsed_ms < LEAST_SPAN_MS || !is_starving || !never_rests {
            return None;
        }
        rate(before.link_bytes, before.link_busy_ms)
    }

    /// Returns the rate at which its consumer takes data while it has some.
    pub(super) fn taken(&self) -> Option<u64> {
        rate(self.own.consumed, self.own.pace.consumer_busy_ms)
    }

    /// Returns the rate at which its processor handles data while it works.
    pub(super) fn handled(&self) -> Option<u64> {
        rate(self.own.received, self.own.pace.work_ms)
    }

    fn has_no_room(&self) -> bool {
        self.spends(self.own.pace.downstream_ms) >= BACKED_UP_PERCENT
            || self.spends(self.own.pace.consumer_ms) >= BACKED_UP_PERCENT
    }

    /// True if the line to it has nothing to carry for much of its time.
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

/// Returns the slowest hop, and the first of those that are as slow. Behind it all nodes get no more than it
/// lets through.
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

/// Returns the golden node, if it hardly ever waits for room and all nodes behind it rest.
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

/// Returns true if the line from the node at `index` is as slow as the line to it. Then its port is slow, and
/// the next node must not be measured by it.
pub(super) fn shares_a_port(hops: &[Hop], index: usize, rate: u64) -> bool {
    let next = hops.get(index + 1).and_then(Hop::line);
    next.is_some_and(|next| next.saturating_mul(SAME_PERCENT) <= rate.saturating_mul(100))
}
