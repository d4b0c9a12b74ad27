//! Who holds up the chain, why, and what is done about it.
//!
//! Everybody goes at the rate of the slowest, so the rates are all the same. Each hop says for what it waits ([`hop`]), and
//! that names the one that all the others wait for. How much they would gain without it is known from what they were seen to take
//! before it slowed them down ([`track`]); where they have not been seen to take more, because it was slow from the beginning, one of
//! them is asked to hold back some seconds and then to send it all at once ([`ToNode::Hold`]): a line that could take more shows it.

mod hop;
mod said;
mod track;

use std::collections::BTreeMap;

use super::{
    Duration, NodeId, Phase, Progress, Reason, Run, RunEvent, StreamId, StreamOffset, StreamRun, ToNode,
};
use crate::pace::{Bottleneck, Pace};
use hop::{Culprit, Hop};
use track::{Hypothesis, Sample, Track};

pub use said::{Measured, Slow};

/// A node is named when the others could go this many times as fast: less is what equal machines differ by.
const NAMED_TIMES: u64 = 2;
/// For so long, before it is named.
const NAMED_AFTER: Duration = Duration::from_secs(5);
/// By default a node is set aside when the others could go this many times as fast. Its clone then costs everybody else
/// three times what they need themselves.
const SET_ASIDE_TIMES: u64 = 4;
/// For so long, before it is set aside. With the average over some seconds a disk that stands still for 10 s is let be.
const SET_ASIDE_AFTER: Duration = Duration::from_secs(10);
/// With a floor of the operator's own: without the node the others must gain at least this, in percent of its rate.
const LEAST_GAIN_PERCENT: u64 = 125;
/// Nobody is set aside for less: the next round costs its own node more.
const LEAST_LEFT: Duration = Duration::from_secs(15);
/// So long a bottleneck is the same one before a node is asked to show what its line can do.
const ASKED_AFTER: Duration = Duration::from_secs(2);
/// How much is held back for that: some times what a line may have saved up; for how long at most, and when it may be asked
/// again. Where the lines below are faster nobody loses time; where they are alike they stand still meanwhile.
const HELD_BYTES: u64 = 8 << 20;
const MOST_HOLD_MS: u64 = 12_000;
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(300);
/// A hold as short as this may be repeated some times after a short pause.
const SHORT_HOLD_MS: u64 = 1500;
const SHORT_HOLDS: u32 = 3;
const SHORT_HOLD_PAUSE: Duration = Duration::from_secs(4);

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

/// A bottleneck, since when it is the same one, and since when it is under the floor.
#[derive(Debug, Clone, Copy)]
struct Standing {
    node: NodeId,
    why: Bottleneck,
    since: Duration,
    under_since: Option<Duration>,
}

/// Everybody's recent time in a stream.
#[derive(Debug, Default)]
pub(super) struct Paces {
    tracks: BTreeMap<NodeId, Track>,
    standing: Option<Standing>,
    /// Who has been named, and for which reason.
    named: Vec<(NodeId, Bottleneck)>,
    /// From whom the lines were slow for which a node was set aside.
    slow_senders: Vec<NodeId>,
    /// When a node was asked to show what its line can do, and how often.
    asked: Option<(Duration, u32)>,
}

impl Paces {
    pub(super) fn note(&mut self, now: Duration, node: NodeId, progress: &Progress) {
        self.tracks.entry(node).or_default().push(now, progress);
    }

    /// The chain is another one: what is in the windows runs off first, and what is known of lines is of the old ones.
    pub(super) fn begin_anew(&mut self) {
        self.tracks.values_mut().for_each(Track::begin_anew);
        self.standing = None;
    }

    /// Who is fed by another head has nothing to do with the pace of the others.
    pub(super) fn keep_only(&mut self, nodes: &[NodeId]) {
        self.tracks
            .retain(|node, _| *node == NodeId::SERVER || nodes.contains(node));
        self.standing = None;
    }

    fn total(&mut self, now: Duration, node: NodeId) -> Option<Sample> {
        Some(self.tracks.get_mut(&node)?.total(now))
    }

    /// The same bottleneck as at the last look, or another one.
    fn stands(&mut self, now: Duration, node: NodeId, why: Bottleneck) -> &mut Standing {
        let is_same = |old: &Standing| (old.node, old.why) == (node, why);
        let old = self.standing.filter(is_same);
        self.standing.insert(old.unwrap_or(Standing {
            node,
            why,
            since: now,
            under_since: None,
        }))
    }
}

/// The middle one, of the lower half when there are two.
fn median(mut rates: Vec<u64>) -> Option<u64> {
    rates.sort_unstable();
    rates.get(rates.len().checked_sub(1)? / 2).copied()
}

impl StreamRun {
    /// What the hop at `index` was lately seen to do, if that is more than supposed: what it received, or what the line to
    /// it carried.
    fn proven_over(&self, hops: &[Hop], index: usize, supposed: Hypothesis) -> Option<u64> {
        let before = index.checked_sub(1).and_then(|before| hops.get(before));
        let before = before.map_or(NodeId::SERVER, |before| before.node);
        let track = |node: &NodeId| self.paces.tracks.get(node);
        let came = hops
            .get(index)
            .and_then(|hop| track(&hop.node)?.proven_over(supposed));
        came.max(track(&before).and_then(|track| track.line_proven_over(supposed)))
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
        let Some(hops) = self.hops(now) else { return };
        let Phase::Streaming(run) = &mut self.phase else {
            return;
        };
        let head_ended = run.head_ended;
        let head = run.paces.total(now, NodeId::SERVER).unwrap_or_default();
        let found = hop::culprit(&head, &hops).filter(|found| found.index.is_some() || !head_ended);
        let Some(found) = found else {
            run.paces.standing = None;
            return;
        };
        let node = found
            .index
            .and_then(|index| hops.get(index))
            .map_or(NodeId::SERVER, |hop| hop.node);
        let since = run.paces.stands(now, node, found.why).since;
        match self.weigh(&hops, &found) {
            Some(slow) => self.judge(now, node, since, slow, &found),
            None if now >= since + ASKED_AFTER => self.ask_for_proof(now, &hops, &found),
            None => {}
        }
    }

    /// The nodes of the main chain with what they and those before them did lately.
    fn hops(&mut self, now: Duration) -> Option<Vec<Hop>> {
        let Phase::Streaming(run) = &mut self.phase else {
            return None;
        };
        let main = run.main_chain().to_vec();
        let mut before = run.paces.total(now, NodeId::SERVER);
        let mut hops = Vec::with_capacity(main.len());
        for node in main {
            let own = run.paces.total(now, node);
            let received = run.paces.tracks.get(&node).map(Track::received);
            let has_all = run.head_ended && received.is_some_and(|received| received >= run.produced);
            hops.push(Hop {
                node,
                own: own.unwrap_or_default(),
                before,
                has_all: has_all || run.is_done(node),
            });
            before = own;
        }
        Some(hops)
    }

    /// How much the others could gain; `None` while that is not known.
    fn weigh(&self, hops: &[Hop], found: &Culprit) -> Option<Slow> {
        let Phase::Streaming(run) = &self.phase else {
            return None;
        };
        let supposed = match found.why {
            Bottleneck::Link => Hypothesis::policed(found.rate),
            _ => Hypothesis::plain(found.rate),
        };
        let Some(index) = found.index else {
            let could = |index: usize| run.proven_over(hops, index, supposed);
            let others = median((0..hops.len()).filter_map(could).collect());
            let busy = hops
                .first()
                .and_then(|first| first.before)
                .and_then(|head| hop::rate(head.pace.link_bytes, head.pace.link_busy_ms.max(1)));
            let others = others.or(busy).unwrap_or(u64::MAX);
            return Some(self.slow(hops, found, others, Measured::Nodes));
        };
        let is_port = found.why == Bottleneck::Link && hop::shares_a_port(hops, index, found.rate);
        let is_other = |other: usize| other != index && !(is_port && other == index + 1);
        let could = |index: usize, hop: &Hop| match hop.limit().filter(|_| !hop.has_all) {
            Some((rate, _)) => Some(rate),
            None => run.proven_over(hops, index, supposed),
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
        // Without it the others go no faster than they can themselves, whatever their lines carry.
        let own_limit = |(other, hop): (usize, &Hop)| {
            let handled = hop.handled().filter(|_| found.why == Bottleneck::Processor);
            [could(other, hop), hop.taken(), handled]
                .into_iter()
                .flatten()
                .min()
        };
        let limits = median(all.filter_map(own_limit).collect()).unwrap_or(others);
        Some(if limits < others {
            self.slow(hops, found, limits, Measured::Nodes)
        } else {
            self.slow(hops, found, others, measured)
        })
    }

    fn slow(&self, hops: &[Hop], found: &Culprit, others: u64, measured: Measured) -> Slow {
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

    /// Names it when its time is up, and sets it aside: one at a time, for without it the next may do.
    fn judge(&mut self, now: Duration, node: NodeId, since: Duration, slow: Slow, found: &Culprit) {
        let min_rate = self.config.min_rate;
        let is_slow = slow.rate.saturating_mul(NAMED_TIMES) < slow.others;
        let may_go = node != NodeId::SERVER && self.may_set_aside(node, slow.rate);
        let Phase::Streaming(run) = &mut self.phase else {
            return;
        };
        let is_under = node != NodeId::SERVER && min_rate.is_under(&slow);
        let before = run.before(node);
        let standing = run.paces.stands(now, node, found.why);
        standing.under_since = is_under.then(|| standing.under_since.unwrap_or(now));
        let is_due = standing
            .under_since
            .is_some_and(|since| now >= since + SET_ASIDE_AFTER);
        // A second node that hangs on the same line: it is the sender's.
        let (who, slow) = if found.why == Bottleneck::Link && run.paces.slow_senders.contains(&before) {
            let why = Bottleneck::Sending;
            (before, Slow { why, ..slow })
        } else {
            (node, slow)
        };
        let set_aside = is_due && may_go && who != NodeId::SERVER;
        let is_new = !run.paces.named.contains(&(who, slow.why));
        if set_aside || (is_new && (is_slow || is_under) && now >= since + NAMED_AFTER) {
            run.paces.named.push((who, slow.why));
            self.event(RunEvent::SlowNode {
                node: who,
                slow,
                set_aside,
            });
        }
        if set_aside {
            self.note_slow_sender(found, before);
            let identity = self.members.get(&who).map(|member| member.info.identity());
            self.set_aside.extend(identity);
            self.lose_for_next_round(now, who, &Reason::new(format!("too slow: {slow}")));
        }
    }

    /// When the next one hangs on this sender and its line is slow too, that tells of the sender; not so where its line was
    /// slow already while another one sent.
    fn note_slow_sender(&mut self, found: &Culprit, before: NodeId) {
        if let Phase::Streaming(run) = &mut self.phase
            && found.why == Bottleneck::Link
            && !found.is_next_busy
        {
            run.paces.slow_senders.push(before);
        }
    }

    /// Data that those below it miss is kept only where a lost neighbour is tolerated at all; and who needs only some seconds
    /// more is waited for.
    fn may_set_aside(&self, node: NodeId, rate: u64) -> bool {
        let Phase::Streaming(run) = &self.phase else {
            return false;
        };
        let received = run
            .paces
            .tracks
            .get(&node)
            .map(Track::received)
            .unwrap_or_default();
        let left = run.produced.since(received);
        let is_nearly_through = run.head_ended && left < rate.saturating_mul(LEAST_LEFT.as_secs());
        self.config.heal && self.config.tolerance > 0 && self.active().len() > 1 && !is_nearly_through
    }

    /// Has the node behind the bottleneck hold back for some seconds what little it gets.
    fn ask_for_proof(&mut self, now: Duration, hops: &[Hop], found: &Culprit) {
        let Some(index) = found.index else { return };
        // The port of the node itself may be what is slow; where it has one behind it, that one's is the better witness.
        let may_show = |index: &usize| index + 1 < hops.len();
        let witness = [index + 1, index].into_iter().find(may_show);
        let witness = witness.filter(|witness| *witness != index || found.why == Bottleneck::Link);
        // A line that is busy for most of its time can hardly carry twice as much: nothing to be shown.
        let witness = witness.filter(|witness| hops.get(witness + 1).is_some_and(Hop::has_resting_line));
        let Some(witness) = witness.and_then(|witness| hops.get(witness)) else {
            return;
        };
        let Phase::Streaming(run) = &mut self.phase else {
            return;
        };
        let millis = HELD_BYTES.saturating_mul(1000) / found.rate.max(1);
        let (asked_at, times) = run.paces.asked.unwrap_or_default();
        // A small window shows little, and what it shows may fall between two reports.
        let pause = if millis <= SHORT_HOLD_MS && times < SHORT_HOLDS {
            SHORT_HOLD_PAUSE
        } else {
            ASKED_AGAIN_AFTER
        };
        if run.head_ended || (times > 0 && now < asked_at + pause) {
            return;
        }
        run.paces.asked = Some((now, times + 1));
        let stream = run.stream;
        let millis = u32::try_from(millis.min(MOST_HOLD_MS)).unwrap_or_default();
        self.send(witness.node, ToNode::Hold { stream, millis });
    }
}
