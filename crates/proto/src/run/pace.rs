//! Who holds up the chain, why, and what is done about it.
//!
//! Everybody goes at the rate of the slowest, so the rates are all the same. What differs is what each node *could* do:
//! its bytes over the time in which it was busy with them. The one that holds up the others is known by how everybody
//! waits: those above it wait for downstream, those below it for upstream, and it for neither.

use std::collections::{BTreeMap, VecDeque};

use super::{Duration, NodeId, Phase, Progress, Reason, Run, RunEvent, StreamId, StreamOffset};
use crate::pace::{Bottleneck, Pace};

/// Over how long a node's time is looked at. Long enough that a disk's pause of some seconds is averaged away.
const WINDOW: Duration = Duration::from_secs(10);
/// Less than this says nothing yet: buffers fill first.
const LEAST_SPAN_MS: u32 = 3000;
/// Samples kept of each node, whatever it sends: twice what its heartbeats need.
const MOST_SAMPLES: usize = 160;
/// Busy time from which bytes over time are a rate.
const LEAST_BUSY_MS: u32 = 100;
/// A node holds up the chain when it is busy at its bottleneck for this share of the time, in percent: the others then
/// wait for it for most of theirs.
const BUSY_PERCENT: u64 = 60;
/// The predecessor on a slow line has no room for this share of the time. Less than the share of the line itself: room
/// comes by the window's eighths.
const BACKED_UP_PERCENT: u64 = 30;
/// A node is named when the others could go this many times as fast: less is what equal machines differ by.
const NAMED_TIMES: u64 = 2;
/// For so long, before it is named.
const NAMED_AFTER: Duration = Duration::from_secs(5);
/// By default a node is set aside when the others could go this many times as fast. Its clone then costs everybody else
/// three times what they need themselves.
const SET_ASIDE_TIMES: u64 = 4;
/// For so long, before it is set aside. With the average over [`WINDOW`] a disk that stands still for 10 s is let be.
const SET_ASIDE_AFTER: Duration = Duration::from_secs(10);
/// With a floor of the operator's own: without the node the others must gain at least this, in percent of its rate.
const LEAST_GAIN_PERCENT: u64 = 125;

/// Under which rate a node that holds up the others is set aside (`--min-rate`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MinRate {
    /// A quarter of what the others could take (their median).
    #[default]
    Share,
    /// This many bytes a second.
    Bytes(u64),
    /// Never.
    Off,
}

/// A node that holds up the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slow {
    /// What keeps it.
    pub why: Bottleneck,
    /// What it can do, in bytes a second.
    pub rate: u64,
    /// What the others could, in bytes a second: their median.
    pub others: u64,
}

impl std::fmt::Display for Slow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (why, rate, others) = (self.why, mega(self.rate), mega(self.others));
        write!(f, "{why} {rate} MB/s, the others could take {others} (median)")
    }
}

/// Whole millions; with a tenth where that matters.
fn mega(bytes: u64) -> String {
    if bytes >= 10_000_000 {
        format!("{}", (bytes + 500_000) / 1_000_000)
    } else {
        let tenths = (bytes + 50_000) / 100_000;
        format!("{}.{}", tenths / 10, tenths % 10)
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    at: Duration,
    received: u64,
    consumed: u64,
    pace: Pace,
}

/// One node's recent time.
#[derive(Debug, Default)]
struct Track {
    samples: VecDeque<Sample>,
    received: StreamOffset,
    consumed: StreamOffset,
    /// The last one that could be measured: a node that is done can still do what it did.
    capability: Option<(u64, Bottleneck)>,
    named_since: Option<Duration>,
    set_aside_since: Option<Duration>,
    is_named: bool,
}

impl Track {
    fn push(&mut self, now: Duration, received: StreamOffset, consumed: StreamOffset, pace: Pace) {
        self.samples.push_back(Sample {
            at: now,
            received: received.since(self.received),
            consumed: consumed.since(self.consumed),
            pace,
        });
        (self.received, self.consumed) = (received, consumed);
        if self.samples.len() > MOST_SAMPLES {
            self.samples.pop_front();
        }
    }

    fn total(&mut self, now: Duration) -> Sample {
        while self
            .samples
            .front()
            .is_some_and(|sample| sample.at + WINDOW < now)
        {
            self.samples.pop_front();
        }
        self.samples.iter().fold(Sample::default(), |mut total, sample| {
            total.received = total.received.saturating_add(sample.received);
            total.consumed = total.consumed.saturating_add(sample.consumed);
            total.pace += sample.pace;
            total
        })
    }
}

/// Everybody's recent time in a stream.
#[derive(Debug, Default)]
pub(super) struct Paces(BTreeMap<NodeId, Track>);

impl Paces {
    pub(super) fn note(&mut self, now: Duration, node: NodeId, progress: &Progress) {
        let track = self.0.entry(node).or_default();
        track.push(now, progress.received, progress.consumed, progress.pace);
    }

    /// A node has another neighbour: what is known of its line is of the old one.
    pub(super) fn forget(&mut self, node: NodeId) {
        if let Some(track) = self.0.get_mut(&node) {
            track.samples.clear();
            (track.named_since, track.set_aside_since) = (None, None);
        }
    }

    /// Who is fed by another head has nothing to do with the pace of the others.
    pub(super) fn keep_only(&mut self, nodes: &[NodeId]) {
        self.0
            .retain(|node, _| *node == NodeId::SERVER || nodes.contains(node));
    }

    fn totals(&mut self, now: Duration) -> BTreeMap<NodeId, Sample> {
        let tracks = self.0.iter_mut();
        tracks.map(|(node, track)| (*node, track.total(now))).collect()
    }
}

fn rate(bytes: u64, busy_ms: u32) -> Option<u64> {
    (busy_ms >= LEAST_BUSY_MS).then(|| bytes.saturating_mul(1000) / u64::from(busy_ms))
}

fn share(part_ms: u32, of_ms: u32) -> u64 {
    u64::from(part_ms) * 100 / u64::from(of_ms.max(1))
}

/// What a node could do, and what keeps it from doing more: the least of its disk, its line and its processor.
fn capability(own: &Sample, before: Option<&Sample>) -> Option<(u64, Bottleneck)> {
    let line = before.and_then(|before| rate(before.pace.link_bytes, before.pace.link_busy_ms));
    let rates = [
        (rate(own.consumed, own.pace.consumer_busy_ms), Bottleneck::Disk),
        (line, Bottleneck::Link),
        (rate(own.received, own.pace.work_ms), Bottleneck::Processor),
    ];
    let known = rates.into_iter().filter_map(|(rate, why)| Some((rate?, why)));
    known.min_by_key(|(rate, _)| *rate)
}

/// Whether the others wait for this node at that.
fn holds_up(why: Bottleneck, own: &Sample, before: Option<&Sample>) -> bool {
    let elapsed = own.pace.elapsed_ms;
    if elapsed < LEAST_SPAN_MS {
        return false;
    }
    match why {
        Bottleneck::Disk => share(own.pace.consumer_ms, elapsed) >= BUSY_PERCENT,
        Bottleneck::Processor => share(own.pace.work_ms, elapsed) >= BUSY_PERCENT,
        Bottleneck::Link => before.is_some_and(|before| {
            let elapsed = before.pace.elapsed_ms;
            share(own.pace.upstream_ms, own.pace.elapsed_ms) >= BUSY_PERCENT
                && share(before.pace.link_busy_ms, elapsed) >= BUSY_PERCENT
                && share(before.pace.downstream_ms, elapsed) >= BACKED_UP_PERCENT
        }),
        Bottleneck::Reading => false,
    }
}

/// The middle one, of the lower half when there are two.
fn median(mut rates: Vec<u64>) -> Option<u64> {
    rates.sort_unstable();
    rates.get(rates.len().checked_sub(1)? / 2).copied()
}

impl MinRate {
    fn is_under(self, slow: &Slow) -> bool {
        match self {
            Self::Off => false,
            Self::Share => slow.rate.saturating_mul(SET_ASIDE_TIMES) < slow.others,
            Self::Bytes(floor) => {
                slow.rate < floor && slow.rate.saturating_mul(LEAST_GAIN_PERCENT) / 100 <= slow.others
            }
        }
    }
}

impl Run {
    /// How the head spent its time since it was said last.
    pub fn handle_head_pace(&mut self, now: Duration, stream: StreamId, produced: StreamOffset, pace: Pace) {
        if let Some(run) = self.streaming(stream) {
            let progress = Progress {
                stream,
                received: produced,
                consumed: produced,
                buffered: 0,
                pace,
            };
            run.paces.note(now, NodeId::SERVER, &progress);
        }
    }

    /// Looks who holds up the chain: names it, and sets it aside when it is under the floor for long.
    pub(super) fn judge_paces(&mut self, now: Duration) {
        let Phase::Streaming(run) = &mut self.phase else {
            return;
        };
        let stream = run.stream;
        let totals = run.paces.totals(now);
        let mut slow = Vec::new();
        let main = run.main_chain().len();
        for &node in run.chain.iter().take(main) {
            let before = totals.get(&run.before(node));
            let Some((own, track)) = totals.get(&node).zip(run.paces.0.get_mut(&node)) else {
                continue;
            };
            track.capability = capability(own, before).or(track.capability);
            // Nobody waits any more for one that has everything.
            if run.done.contains_key(&node) {
                continue;
            }
            if let Some((rate, why)) = track.capability.filter(|(_, why)| holds_up(*why, own, before)) {
                slow.push((node, rate, why));
            }
        }
        self.time_the_slow(now, &slow);
        self.name_the_slow(now, stream, &slow);
        self.judge_reading(
            now,
            stream,
            totals.get(&NodeId::SERVER).copied().unwrap_or_default(),
        );
    }

    /// What the nodes of the running stream could take, without `node`: their median.
    fn median_without(&self, node: NodeId) -> Option<u64> {
        let Phase::Streaming(run) = &self.phase else {
            return None;
        };
        let others = run.paces.0.iter().filter(|(other, _)| **other != node);
        let active =
            others.filter(|(other, _)| self.members.get(other).is_some_and(super::Member::is_active));
        median(
            active
                .filter_map(|(_, track)| Some(track.capability?.0))
                .collect(),
        )
    }

    fn slow(&self, node: NodeId, rate: u64, why: Bottleneck) -> Option<Slow> {
        let others = self.median_without(node)?;
        Some(Slow { why, rate, others })
    }

    /// Since when each has been slow; those that are not any more begin anew.
    fn time_the_slow(&mut self, now: Duration, slow: &[(NodeId, u64, Bottleneck)]) {
        let min_rate = self.config.min_rate;
        let judged: BTreeMap<NodeId, Slow> = slow
            .iter()
            .filter_map(|(node, rate, why)| Some((*node, self.slow(*node, *rate, *why)?)))
            .collect();
        let Phase::Streaming(run) = &mut self.phase else {
            return;
        };
        for (node, track) in run
            .paces
            .0
            .iter_mut()
            .filter(|(node, _)| **node != NodeId::SERVER)
        {
            let slow = judged.get(node);
            let since = |is: bool, since: Option<Duration>| is.then(|| since.unwrap_or(now));
            let is_under = slow.is_some_and(|slow| min_rate.is_under(slow));
            let is_slow = slow.is_some_and(|slow| slow.rate.saturating_mul(NAMED_TIMES) < slow.others);
            track.named_since = since(is_slow || is_under, track.named_since);
            track.set_aside_since = since(is_under, track.set_aside_since);
        }
    }

    /// The slowest one is named once, and set aside when its time is up: one at a time, for without it the next may do.
    fn name_the_slow(&mut self, now: Duration, stream: StreamId, slow: &[(NodeId, u64, Bottleneck)]) {
        let Some(&(node, rate, why)) = slow.iter().min_by_key(|(_, rate, _)| *rate) else {
            return;
        };
        let Some(slow) = self.slow(node, rate, why) else {
            return;
        };
        // Data that those below it miss is kept only where a lost neighbour is tolerated at all.
        let may_go = self.config.heal && self.config.tolerance > 0 && self.active().len() > 1;
        let Some(run) = self.streaming(stream) else { return };
        let Some(track) = run.paces.0.get_mut(&node) else {
            return;
        };
        let is_over = |since: Option<Duration>, after| since.is_some_and(|since| now >= since + after);
        let set_aside = may_go && is_over(track.set_aside_since, SET_ASIDE_AFTER);
        if set_aside || (is_over(track.named_since, NAMED_AFTER) && !track.is_named) {
            track.is_named = true;
            self.event(RunEvent::SlowNode {
                node,
                slow,
                set_aside,
            });
        }
        if set_aside {
            self.lose_for_next_round(now, node, &Reason::new(format!("too slow: {slow}")));
        }
    }

    /// The golden node cannot be set aside; that it is the slow one is said once.
    fn judge_reading(&mut self, now: Duration, stream: StreamId, head: Sample) {
        let elapsed = head.pace.elapsed_ms;
        let waits = share(head.pace.upstream_ms, elapsed) >= BUSY_PERCENT && elapsed >= LEAST_SPAN_MS;
        let others = self.median_without(NodeId::SERVER);
        let Some(run) = self.streaming(stream).filter(|run| !run.head_ended) else {
            return;
        };
        let Some(track) = run.paces.0.get_mut(&NodeId::SERVER) else {
            return;
        };
        let rate = rate(head.received, elapsed.saturating_sub(head.pace.downstream_ms)).unwrap_or_default();
        let slow = others.map(|others| Slow {
            why: Bottleneck::Reading,
            rate,
            others,
        });
        let slow = slow.filter(|slow| waits && slow.rate.saturating_mul(NAMED_TIMES) < slow.others);
        track.named_since = slow.and(track.named_since.or(Some(now)));
        let is_due = track.named_since.is_some_and(|since| now >= since + NAMED_AFTER);
        if let Some(slow) = slow.filter(|_| is_due && !track.is_named) {
            track.is_named = true;
            let (node, set_aside) = (NodeId::SERVER, false);
            self.event(RunEvent::SlowNode {
                node,
                slow,
                set_aside,
            });
        }
    }
}
