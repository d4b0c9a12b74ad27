//! The sender's book of its members: their place, their room, and who must leave.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use super::rate::Interval;
use super::report::Report;
use super::{FIRST_REPORT, REPORT_SILENCE};
use crate::ids::NodeId;

/// Interval of the samples by which members are compared.
pub(super) const SAMPLE_EVERY: Duration = Duration::from_millis(250);
/// Samples over which loss is judged: two seconds.
const LOSS_SAMPLES: usize = 8;
/// Samples over which slowness is judged: five seconds.
const SLOW_SAMPLES: usize = 20;
/// Time of these samples for which a member may hold up the group. One that holds it up for longer is four
/// times slower than the group could be.
const SLOW_TIME: Duration = Duration::from_millis(3750);
/// Loss, in hundredths of a percent, over which a member leaves, and that of the median under which it does.
const LOSSY: (u32, u32) = (500, 100);
/// Intervals of reports, and least time, without progress after which a member leaves, if others get on.
const STUCK: (u32, Duration) = (12, Duration::from_secs(2));
/// The same, in multiples of that, if nobody gets on.
const ALL_STUCK: u32 = 4;
/// Falls of the rate for one member's full socket, at less than half of the best rate, after which it leaves.
const MAX_FALLS: u32 = 3;

/// The reason why a member leaves the group. The chain feeds it from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaveReason {
    /// No report came in time.
    Silent,
    /// It loses far more than the others.
    Lossy {
        /// Its loss, or the repairs that it asked for alone, in percent of the data.
        percent: u32,
    },
    /// It had no room for most of the last seconds, while others had.
    Slow,
    /// Its socket overflowed at half of the rate that others take.
    Overflowing,
    /// It does not get on, and does not say what it lacks.
    Stuck,
    /// Its report cannot be true.
    Contradicting,
}

impl fmt::Display for LeaveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("it sent no report in time"),
            Self::Lossy { percent } => write!(f, "it loses {percent} % of the datagrams, the others do not"),
            Self::Slow => f.write_str("it is four times slower than the others"),
            Self::Overflowing => f.write_str("it does not read its socket as fast as the others"),
            Self::Stuck => f.write_str("it does not get on and asks for nothing"),
            Self::Contradicting => f.write_str("its reports contradict what was sent"),
        }
    }
}

/// Counts of one member since the stream began.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    /// Data shards that it lost.
    losses: u64,
    /// Repairs for which it asked first.
    asked: u64,
    /// Data shards that were over, by its newest mark.
    shards: u64,
    /// Time for which it had no room and others waited.
    held: Duration,
}

impl Sample {
    /// Returns the loss since `earlier`, in hundredths of a percent.
    fn loss_since(&self, earlier: &Self) -> u32 {
        let lost = (self.losses - earlier.losses).max(self.asked - earlier.asked);
        share(lost, self.shards - earlier.shards)
    }
}

#[derive(Debug)]
struct MemberState {
    next: u32,
    limit: u32,
    mark: u32,
    drops: u64,
    /// Time until which the next report must come.
    patience: Duration,
    /// Time at which `next` moved, or there was nothing to get.
    moved: Duration,
    now: Sample,
    /// Samples of the past, the newest last.
    samples: VecDeque<Sample>,
    /// The sample at the end of the last interval of the rate, and the drops then.
    interval: (Sample, u64),
    /// Falls of the rate that only few members caused, this one among them.
    falls: u32,
}

impl MemberState {
    fn new(now: Duration) -> Self {
        Self {
            next: 0,
            limit: 0,
            mark: 0,
            drops: 0,
            patience: now + FIRST_REPORT,
            moved: now,
            now: Sample::default(),
            samples: VecDeque::new(),
            interval: (Sample::default(), 0),
            falls: 0,
        }
    }

    /// Returns the sample that is `count` intervals old, if there are so many.
    fn past(&self, count: usize) -> Option<&Sample> {
        self.samples.get(self.samples.len().checked_sub(count)?)
    }

    fn recent_loss(&self) -> Option<u32> {
        let past = self.past(LOSS_SAMPLES)?;
        Some(self.now.loss_since(past))
    }
}

/// How far the sender is, as the book needs it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    /// Stripes of which all data was sent.
    pub(super) closed: u32,
    /// Newest mark that was sent.
    pub(super) mark: u32,
    /// Data shards that were over at the report's mark.
    pub(super) shards: u64,
}

/// The members of a sender.
#[derive(Debug)]
pub(super) struct Members {
    members: BTreeMap<NodeId, MemberState>,
    stuck_after: Duration,
    /// Least `next` and least `limit` of all.
    floor: (u32, u32),
}

impl Members {
    pub(super) fn new(nodes: &[NodeId], report_every: Duration, now: Duration) -> Self {
        let members: BTreeMap<_, _> = nodes.iter().map(|node| (*node, MemberState::new(now))).collect();
        Self {
            floor: if members.is_empty() {
                (u32::MAX, u32::MAX)
            } else {
                (0, 0)
            },
            members,
            stuck_after: STUCK.1.max(report_every * STUCK.0),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.members.len()
    }

    pub(super) fn contains(&self, node: NodeId) -> bool {
        self.members.contains_key(&node)
    }

    /// Returns true if the member was one.
    pub(super) fn remove(&mut self, node: NodeId) -> bool {
        let was_member = self.members.remove(&node).is_some();
        self.find_floor();
        was_member
    }

    /// First stripe that some member lacks, as far as reports tell. Without members it is beyond all.
    pub(super) const fn next(&self) -> u32 {
        self.floor.0
    }

    /// First stripe for which some member has no room.
    pub(super) const fn limit(&self) -> u32 {
        self.floor.1
    }

    fn find_floor(&mut self) {
        let members = self.members.values();
        let floor = (u32::MAX, u32::MAX);
        self.floor = members.fold(floor, |(next, limit), member| {
            (next.min(member.next), limit.min(member.limit))
        });
    }

    /// Takes in a report.
    ///
    /// # Errors
    /// The reason for which the member must leave.
    pub(super) fn handle_report(
        &mut self,
        now: Duration,
        node: NodeId,
        report: &Report,
        extent: Extent,
    ) -> Result<(), LeaveReason> {
        let Some(member) = self.members.get_mut(&node) else {
            return Ok(());
        };
        let is_possible = report.mark >= member.mark
            && report.mark <= extent.mark
            && (member.next..=extent.closed.saturating_add(1)).contains(&report.next)
            && report.limit >= member.limit
            && report.losses >= member.now.losses
            && report.drops >= member.drops;
        if !is_possible {
            return Err(LeaveReason::Contradicting);
        }
        if report.next > member.next || report.next >= extent.closed {
            member.moved = now;
        }
        let (next, limit) = (member.next, member.limit);
        member.next = report.next;
        member.limit = report.limit;
        member.mark = report.mark;
        member.drops = report.drops;
        member.now.losses = report.losses;
        member.now.shards = extent.shards.max(member.now.shards);
        member.patience = now + REPORT_SILENCE;
        let moved = member.moved;
        if next == self.floor.0 || limit == self.floor.1 {
            self.find_floor();
        }
        if self.is_stuck(now, moved) {
            Err(LeaveReason::Stuck)
        } else {
            Ok(())
        }
    }

    /// Returns true if a member that moved at this time last is stuck. If most others are too, it is the
    /// line, and there is more time.
    fn is_stuck(&self, now: Duration, moved: Duration) -> bool {
        if now < moved + self.stuck_after {
            return false;
        }
        let others = self.members.values();
        let stuck = others
            .filter(|member| now >= member.moved + self.stuck_after)
            .count();
        stuck * 2 <= self.members.len() || now >= moved + self.stuck_after * ALL_STUCK
    }

    /// Takes note that a report of this member raised the repairs of a stripe.
    pub(super) fn handle_asked(&mut self, node: NodeId, repairs: u32) {
        if let Some(member) = self.members.get_mut(&node) {
            member.now.asked += u64::from(repairs);
        }
    }

    /// Takes note that the sender waited for room for `stripe` for this time.
    pub(super) fn handle_held(&mut self, stripe: u32, time: Duration) {
        let holders = |member: &&mut MemberState| member.limit <= stripe;
        let count = self.members.values_mut().filter(holders).count();
        if count * 2 > self.members.len() {
            return;
        }
        for member in self.members.values_mut().filter(holders) {
            member.now.held += time;
        }
    }

    /// Gives every member this much more time for its report, because the sender itself was away.
    pub(super) fn excuse(&mut self, time: Duration) {
        for member in self.members.values_mut() {
            member.patience += time;
            member.moved += time;
        }
    }

    /// Returns the first member whose report is overdue.
    pub(super) fn silent(&self, now: Duration) -> Option<NodeId> {
        let mut members = self.members.iter();
        members
            .find(|(_, member)| now >= member.patience)
            .map(|(node, _)| *node)
    }

    /// Takes a sample of each member, and returns those that fall out of the group.
    pub(super) fn sample(&mut self) -> Vec<(NodeId, LeaveReason)> {
        let losses = self.members.values().filter_map(MemberState::recent_loss);
        let median = median(losses.collect());
        let out = self.members.iter().filter_map(|(node, member)| {
            let loss = member.recent_loss().unwrap_or_default();
            if loss > LOSSY.0 && median < LOSSY.1 {
                return Some((*node, LeaveReason::Lossy { percent: loss / 100 }));
            }
            let past = member.past(SLOW_SAMPLES)?;
            (member.now.held - past.held >= SLOW_TIME).then_some((*node, LeaveReason::Slow))
        });
        let out = out.collect();
        for member in self.members.values_mut() {
            if member.samples.len() == SLOW_SAMPLES {
                member.samples.pop_front();
            }
            member.samples.push_back(member.now);
        }
        out
    }

    /// Ends an interval of the rate.
    pub(super) fn end_interval(&mut self) -> Interval {
        let mut losses = Vec::with_capacity(self.members.len());
        let mut has_drops = false;
        for member in self.members.values_mut() {
            let (sample, drops) = member.interval;
            let is_overflowing = member.drops > drops;
            has_drops |= is_overflowing;
            member.falls += u32::from(is_overflowing);
            if member.now.shards > sample.shards {
                let lost = member.now.losses - sample.losses;
                losses.push(share(lost, member.now.shards - sample.shards));
            }
            member.interval = (member.now, member.drops);
        }
        Interval {
            loss: (!losses.is_empty()).then(|| median(losses)),
            has_drops,
        }
    }

    /// Returns the few members for whose full sockets alone the rate is low.
    pub(super) fn overflowing(&self) -> Vec<NodeId> {
        let members = self.members.iter();
        let out: Vec<NodeId> = members
            .filter(|(_, member)| member.falls > MAX_FALLS)
            .map(|(node, _)| *node)
            .collect();
        let is_few = out.len() * 2 <= self.members.len();
        if is_few { out } else { Vec::new() }
    }

    /// Forgets whose full socket lowered the rate.
    pub(super) fn forgive(&mut self) {
        for member in self.members.values_mut() {
            member.falls = 0;
        }
    }

    /// Returns the member that is furthest behind, with the first stripe that it lacks.
    pub(super) fn slowest(&self) -> Option<(NodeId, u32)> {
        let members = self.members.iter().map(|(node, member)| (*node, member.next));
        members.min_by_key(|(_, next)| *next)
    }
}

/// Returns `part` of `whole` in hundredths of a percent; at most 100 %.
fn share(part: u64, whole: u64) -> u32 {
    let share = part.saturating_mul(10_000).checked_div(whole).unwrap_or_default();
    u32::try_from(share.min(10_000)).unwrap_or(10_000)
}

/// Returns the lower median, 0 of nothing.
fn median(mut values: Vec<u32>) -> u32 {
    let middle = values.len().saturating_sub(1) / 2;
    if values.is_empty() {
        return 0;
    }
    *values.select_nth_unstable(middle).1
}
