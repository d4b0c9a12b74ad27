//! The node that holds up the chain: how it is found, the cause, and the remedy.
//!
//! All nodes go at the rate of the slowest, so their rates are all the same. Each hop reports what it waits
//! for ([`hop`]), and that names the node for which all others wait. Their gain without it is known from the
//! rates that they reached before it slowed them down ([`track`]). If it was slow from the beginning, they
//! never reached higher rates. Then one of them is asked to hold back data for some seconds and to send it
//! all at once ([`crate::control::ToNode::Hold`]). A line that could take more shows it.

mod hop;
mod said;
mod track;

use std::collections::BTreeMap;

use super::super::{Duration, NodeId, Progress, StreamOffset};
use super::course::Course;
use crate::pace::Bottleneck;
use hop::{Culprit, Hop};
use track::{Hypothesis, Sample, Track};

pub use said::{Measured, Slow};

/// Factor by which the others could go faster before a node is named. Equal machines differ by less.
const NAMED_TIMES: u64 = 2;
/// Time that a bottleneck must last before it is named.
const NAMED_AFTER: Duration = Duration::from_secs(5);
/// Factor by which the others could go faster before a node is set aside by default. Its clone then costs all
/// others three times what they need themselves.
const SET_ASIDE_TIMES: u64 = 4;
/// Time that a node must be under the floor before it is set aside. With the average over some seconds, a
/// disk that stands still for 10 s is spared.
const SET_ASIDE_AFTER: Duration = Duration::from_secs(10);
/// Least gain of the others without the node, in percent of its rate, if the operator sets the floor.
const LEAST_GAIN_PERCENT: u64 = 125;
/// Least time left for which a node is set aside. For less, the next round costs its own node more.
const LEAST_LEFT: Duration = Duration::from_secs(15);
/// Time that a bottleneck must be the same before a node is asked to show the rate of its line.
const ASKED_AFTER: Duration = Duration::from_secs(2);
/// Bytes held back for that: some times the amount that a line may have saved up. Then the longest hold, and
/// the time until the next question. If the lines below are faster, no node loses time; if they are alike,
/// they stand still meanwhile.
const HELD_BYTES: u64 = 8 << 20;
const MOST_HOLD_MS: u64 = 12_000;
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(300);
/// A hold as short as this may be repeated some times after a short pause.
const SHORT_HOLD_MS: u64 = 1500;
const SHORT_HOLDS: u32 = 3;
const SHORT_HOLD_PAUSE: Duration = Duration::from_secs(4);

/// The rate below which a node that holds up the others is set aside (`--min-rate`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MinRate {
    /// A quarter of the rate that the others could reach (their median).
    #[default]
    Share,
    /// This many bytes a second.
    Bytes(u64),
    /// No node is set aside.
    Off,
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

/// A bottleneck, with the time since which it is the same one ([`is_one_cause`]), and the time since which it is under the
/// floor.
#[derive(Debug, Clone, Copy)]
struct Standing {
    node: NodeId,
    why: Bottleneck,
    since: Duration,
    under_since: Option<Duration>,
}

/// The rules by which a slow node is set aside.
#[derive(Debug, Clone, Copy)]
pub(in crate::run) struct Policy {
    pub(in crate::run) min_rate: MinRate,
    /// True if a node may be set aside at all. There are other nodes, and they keep the data that the nodes
    /// below it would miss.
    pub(in crate::run) may_set_aside: bool,
}

/// A judgement over the node that holds up the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Name the node, and set it aside.
    Slow {
        node: NodeId,
        slow: Slow,
        set_aside: bool,
    },
    /// Have this node hold back the little data that it gets for so long, and then send it all at once.
    Prove { node: NodeId, millis: u32 },
}

/// The recent time of all nodes in a stream.
#[derive(Debug, Default)]
pub(super) struct Paces {
    tracks: BTreeMap<NodeId, Track>,
    standing: Option<Standing>,
    /// Nodes that have been named, with the cause.
    named: Vec<(NodeId, Bottleneck)>,
    /// Senders on slow lines for which a node was set aside.
    slow_senders: Vec<NodeId>,
    /// Time at which a node was last asked to show the rate of its line, and the number of questions.
    asked: Option<(Duration, u32)>,
}

impl Paces {
    pub(super) fn note(&mut self, now: Duration, node: NodeId, progress: &Progress) {
        self.tracks.entry(node).or_default().push(now, progress);
    }

    /// Begins anew, because the chain has changed. The data in the windows runs off first, and the known
    /// rates of lines belong to the old ones.
    pub(super) fn begin_anew(&mut self) {
        self.tracks.values_mut().for_each(Track::begin_anew);
        self.standing = None;
    }

    /// Forgets all nodes but these. A node with another head has nothing to do with the pace of the others.
    pub(super) fn keep_only(&mut self, nodes: &[NodeId]) {
        self.tracks
            .retain(|node, _| *node == NodeId::SERVER || nodes.contains(node));
        self.standing = None;
    }

    fn total(&mut self, now: Duration, node: NodeId) -> Option<Sample> {
        Some(self.tracks.get_mut(&node)?.total(now))
    }

    /// Finds the node that holds up the chain.
    pub(super) fn judge(&mut self, now: Duration, course: &Course, policy: Policy) -> Option<Judgement> {
        let hops = self.hops(now, course);
        let head = self.total(now, NodeId::SERVER).unwrap_or_default();
        let found = hop::culprit(&head, &hops).filter(|found| found.index.is_some() || !course.has_ended());
        let Some(found) = found else {
            self.standing = None;
            return None;
        };
        let node = found
            .index
            .and_then(|index| hops.get(index))
            .map_or(NodeId::SERVER, |hop| hop.node);
        let since = self.stands(now, node, found.why).since;
        match self.weigh(&hops, &found) {
            Some(slow) => self.sentence(now, course, policy, (node, since), slow, &found),
            None if now >= since + ASKED_AFTER => self.ask_for_proof(now, course, &hops, &found),
            None => None,
        }
    }

    /// Returns the nodes of the main chain with the recent time of them and of the nodes before them.
    fn hops(&mut self, now: Duration, course: &Course) -> Vec<Hop> {
        let mut before = self.total(now, NodeId::SERVER);
        let mut hops = Vec::new();
        for node in course.chain().main() {
            let own = self.total(now, *node);
            let received = self.tracks.get(node).map(Track::received);
            let has_all =
                course.has_ended() && received.is_some_and(|received| received >= course.produced());
            hops.push(Hop {
                node: *node,
                own: own.unwrap_or_default(),
                before,
                has_all: has_all || course.is_done(*node),
            });
            before = own;
        }
        hops
    }

    /// Returns the rate that the hop at `index` lately reached, if it is more than supposed. It counts the
    /// bytes that it received, or those that the line to it carried.
    fn proven_over(&self, hops: &[Hop], index: usize, supposed: Hypothesis) -> Option<u64> {
        let before = index.checked_sub(1).and_then(|before| hops.get(before));
        let before = before.map_or(NodeId::SERVER, |before| before.node);
        let track = |node: &NodeId| self.tracks.get(node);
        let came = hops
            .get(index)
            .and_then(|hop| track(&hop.node)?.proven_over(supposed));
        came.max(track(&before).and_then(|track| track.line_proven_over(supposed)))
    }

    /// Returns the rate that the others could gain. `None` while it is not known.
    fn weigh(&self, hops: &[Hop], found: &Culprit) -> Option<Slow> {
        let supposed = match found.why {
            Bottleneck::Link => Hypothesis::policed(found.rate),
            _ => Hypothesis::plain(found.rate),
        };
        let Some(index) = found.index else {
            let could = |index: usize| self.proven_over(hops, index, supposed);
            let others = median((0..hops.len()).filter_map(could).collect());
            let busy = hops
                .first()
                .and_then(|first| first.before)
                .and_then(|head| hop::rate(head.pace.link_bytes, head.pace.link_busy_ms.max(1)));
            let others = others.or(busy).unwrap_or(u64::MAX);
            return Some(slow(hops, found, others, Measured::Nodes));
        };
        let is_port = found.why == Bottleneck::Link && hop::shares_a_port(hops, index, found.rate);
        let is_other = |other: usize| other != index && !(is_port && other == index + 1);
        let could = |index: usize, hop: &Hop| match hop.limit().filter(|_| !hop.has_all) {
            Some((rate, _)) => Some(rate),
            None => self.proven_over(hops, index, supposed),
        };
        let all = hops.iter().enumerate().filter(|(other, _)| is_other(*other));
        let known: Vec<(usize, u64)> = all
            .clone()
            .filter_map(|(other, hop)| Some((other, could(other, hop)?)))
            .collect();
        let above = median(
            known
                .iter()
                .filter(|(other, _)| *other < index)
                .map(|(_, rate)| *rate)
                .collect(),
        );
        let (others, measured) = match (found.why, above) {
            (Bottleneck::Link, Some(above)) => (above, Measured::LinesBefore),
            (Bottleneck::Link, None) => (
                median(known.iter().map(|(_, rate)| *rate).collect())?,
                Measured::Lines,
            ),
            _ => (
                median(known.iter().map(|(_, rate)| *rate).collect())?,
                Measured::Nodes,
            ),
        };
        // Without the slow node the others go no faster than they can themselves, whatever their lines carry.
        let own_limit = |(other, hop): (usize, &Hop)| {
            let handled = hop.handled().filter(|_| found.why == Bottleneck::Processor);
            [could(other, hop), hop.taken(), handled]
                .into_iter()
                .flatten()
                .min()
        };
        let limits = median(all.filter_map(own_limit).collect()).unwrap_or(others);
        Some(if limits < others {
            slow(hops, found, limits, Measured::Nodes)
        } else {
            slow(hops, found, others, measured)
        })
    }

    /// Names the slow node when its time is up, and sets it aside. One at a time, because the next may be
    /// fast enough without it.
    fn sentence(
        &mut self,
        now: Duration,
        course: &Course,
        policy: Policy,
        (node, since): (NodeId, Duration),
        slow: Slow,
        found: &Culprit,
    ) -> Option<Judgement> {
        let is_slow = slow.rate.saturating_mul(NAMED_TIMES) < slow.others;
        let may_go = node != NodeId::SERVER
            && policy.may_set_aside
            && !self.is_nearly_through(course, node, slow.rate);
        let is_under = node != NodeId::SERVER && policy.min_rate.is_under(&slow);
        let before = course.chain().before(node);
        let standing = self.stands(now, node, found.why);
        standing.under_since = is_under.then(|| standing.under_since.unwrap_or(now));
        let is_due = standing
            .under_since
            .is_some_and(|since| now >= since + SET_ASIDE_AFTER);
        // This is the second node with a slow line from the same sender, so the sender is slow.
        let (node, slow) = if found.why == Bottleneck::Link && self.slow_senders.contains(&before) {
            let why = Bottleneck::Sending;
            (before, Slow { why, ..slow })
        } else {
            (node, slow)
        };
        let set_aside = is_due && may_go && node != NodeId::SERVER;
        let is_known = |(named, why): &(NodeId, Bottleneck)| *named == node && is_one_cause(*why, slow.why);
        let is_new = !self.named.iter().any(is_known);
        if !set_aside && !(is_new && (is_slow || is_under) && now >= since + NAMED_AFTER) {
            return None;
        }
        self.named.push((node, slow.why));
        // If the next node behind this sender has a slow line too, the sender is slow. That does not hold if
        // the line was slow already with another sender.
        if set_aside && found.why == Bottleneck::Link && !found.is_next_busy {
            self.slow_senders.push(before);
        }
        Some(Judgement::Slow {
            node,
            slow,
            set_aside,
        })
    }

    /// True if the node needs only some seconds more. The others wait for it.
    fn is_nearly_through(&self, course: &Course, node: NodeId, rate: u64) -> bool {
        let received = self.tracks.get(&node).map(Track::received).unwrap_or_default();
        let left = course.produced().since(received);
        course.has_ended() && left < rate.saturating_mul(LEAST_LEFT.as_secs())
    }

    /// Has the node behind the bottleneck show the rate of its line.
    fn ask_for_proof(
        &mut self,
        now: Duration,
        course: &Course,
        hops: &[Hop],
        found: &Culprit,
    ) -> Option<Judgement> {
        let index = found.index?;
        // The port of the node itself may be the slow part. If it has a node behind it, that one's line is
        // the better witness.
        let may_show = |index: &usize| index + 1 < hops.len();
        let witness = [index + 1, index].into_iter().find(may_show);
        let witness = witness.filter(|witness| *witness != index || found.why == Bottleneck::Link);
        // A line that is busy for most of its time can hardly carry twice as much, so it has nothing to show.
        let witness = witness.filter(|witness| hops.get(witness + 1).is_some_and(Hop::has_resting_line));
        let witness = witness.and_then(|witness| hops.get(witness))?;
        let millis = HELD_BYTES.saturating_mul(1000) / found.rate.max(1);
        let (asked_at, times) = self.asked.unwrap_or_default();
        // A small window shows little, and its result may fall between two reports.
        let pause = if millis <= SHORT_HOLD_MS && times < SHORT_HOLDS {
            SHORT_HOLD_PAUSE
        } else {
            ASKED_AGAIN_AFTER
        };
        if course.has_ended() || (times > 0 && now < asked_at + pause) {
            return None;
        }
        self.asked = Some((now, times + 1));
        Some(Judgement::Prove {
            node: witness.node,
            millis: u32::try_from(millis.min(MOST_HOLD_MS)).unwrap_or_default(),
        })
    }

    /// Returns the record of the bottleneck, the same as at the last check or a new one.
    fn stands(&mut self, now: Duration, node: NodeId, why: Bottleneck) -> &mut Standing {
        let is_same = |old: &Standing| old.node == node && is_one_cause(old.why, why);
        let old = self.standing.filter(is_same);
        self.standing.insert(old.unwrap_or(Standing {
            node,
            why,
            since: now,
            under_since: None,
        }))
    }
}

/// True if these are the same cause, or two parts of a node itself. Its processor and its consumer share the
/// time, so that now one and now the other takes more of it. The node is slow all the while.
fn is_one_cause(one: Bottleneck, other: Bottleneck) -> bool {
    let is_in_the_node = |why| {
        matches!(
            why,
            Bottleneck::Disk | Bottleneck::Command | Bottleneck::Output | Bottleneck::Processor
        )
    };
    one == other || (is_in_the_node(one) && is_in_the_node(other))
}

/// Returns the middle rate, the lower one of two.
fn median(mut rates: Vec<u64>) -> Option<u64> {
    rates.sort_unstable();
    rates.get(rates.len().checked_sub(1)? / 2).copied()
}

/// Returns the finding about the culprit, with the others' rate beside it.
fn slow(hops: &[Hop], found: &Culprit, others: u64, measured: Measured) -> Slow {
    let behind = found.index.map_or(hops.len(), |index| hops.len() - index - 1);
    let (waiting, everybody) = match found.index {
        Some(_) if found.is_backed_up => (hops.len() - 1, true),
        _ => (behind, found.index.is_none()),
    };
    Slow {
        why: found.why,
        rate: found.rate,
        others,
        measured,
        waiting: u32::try_from(waiting).unwrap_or(u32::MAX),
        everybody,
    }
}
