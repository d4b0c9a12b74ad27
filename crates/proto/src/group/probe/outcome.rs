//! The outcome of a probe: how the group reaches each node.

use std::collections::BTreeMap;

use super::{Count, Train};
use crate::group::querier::SegmentQuerier;
use crate::ids::NodeId;
use crate::text::Reason;

/// Most loss of a member, in parts per million: parity for more than that costs more than the chain does.
const MAX_LOSS_PPM: u32 = 20_000;
/// Fewest tenths of the sent rate that a member must receive.
const MIN_TENTHS: u128 = 9;
/// Most nodes that a line names one by one.
const MAX_NAMED: usize = 4;

/// All that is known of a node during a probe.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured {
    pub(super) heard: bool,
    pub(super) unable: Option<Reason>,
    half: Option<Count>,
    full: Option<Count>,
}

/// A train as the sender sent it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sent {
    pub(super) datagrams: u32,
    /// Bytes a second that were planned.
    pub(super) rate: u64,
    /// True if the sender kept to the plan.
    pub(super) is_on_time: bool,
    /// True if the line took less than was planned.
    pub(super) was_blocked: bool,
}

/// The state of the path from the sender to one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// The node can be a member.
    Good {
        /// Bytes a second that it received.
        rate: u64,
        /// Loss, in parts per million.
        lost_ppm: u32,
    },
    /// Too much was lost.
    Lossy {
        /// Loss, in parts per million.
        lost_ppm: u32,
    },
    /// The datagrams came too slowly.
    Slow {
        /// Bytes a second that it received.
        rate: u64,
    },
    /// No datagram of the group arrived.
    Deaf,
    /// The node did not say in time how much arrived.
    Silent,
    /// The node cannot be a member.
    Unable {
        /// The cause.
        why: Reason,
    },
}

/// The outcome of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    nodes: BTreeMap<NodeId, Reach>,
    rate: u64,
    line: u64,
    failure: Option<Reason>,
}

impl Measured {
    /// True if nothing more is expected of the greetings at this node.
    pub(super) const fn is_settled(&self) -> bool {
        self.heard || self.unable.is_some()
    }

    pub(super) const fn has_answered(&self, train: Train) -> bool {
        self.unable.is_some() || self.count(train).is_some()
    }

    pub(super) const fn set(&mut self, train: Train, count: Count) {
        match train {
            Train::Greeting => {}
            Train::Half => self.half = Some(count),
            Train::Full => self.full = Some(count),
        }
    }

    const fn count(&self, train: Train) -> Option<Count> {
        match train {
            Train::Greeting => None,
            Train::Half => self.half,
            Train::Full => self.full,
        }
    }

    /// Judges the path by a train, in which `rate` bytes a second were sent.
    fn reach(&self, train: Train, sent: Sent, rate: u64) -> Reach {
        if let Some(why) = &self.unable {
            return Reach::Unable { why: why.clone() };
        }
        let Some(count) = self.count(train) else {
            return if self.heard { Reach::Silent } else { Reach::Deaf };
        };
        if count.received == 0 && !self.heard {
            return Reach::Deaf;
        }
        let lost_ppm = count.lost_ppm(sent.datagrams);
        if lost_ppm > MAX_LOSS_PPM {
            return Reach::Lossy { lost_ppm };
        }
        // A rate above the sent one, or none at all, means that the node read the datagrams late.
        let received = if count.rate == 0 {
            rate
        } else {
            count.rate.min(rate)
        };
        if is_at_least(received, rate) {
            let rate = received;
            Reach::Good { rate, lost_ppm }
        } else {
            Reach::Slow { rate: received }
        }
    }
}

/// True if `rate` is at least nine tenths of `wanted`.
pub(super) fn is_at_least(rate: u64, wanted: u64) -> bool {
    u128::from(rate) * 10 >= u128::from(wanted) * MIN_TENTHS
}

impl Outcome {
    /// Judges a probe. `line` is the rate of the sender's line, in bytes of datagrams a second.
    pub(super) fn new(
        nodes: &BTreeMap<NodeId, Measured>,
        half: Sent,
        full: Option<Sent>,
        line: u64,
        failure: Option<Reason>,
    ) -> Self {
        let by_half = Self::by(Train::Half, nodes, half, line, failure.clone());
        let by_full = full.map(|sent| Self::by(Train::Full, nodes, sent, line, failure));
        // Where the full rate is too much for most nodes, the half rate is what the group carries.
        by_full
            .filter(|full| full.members().count() * 2 >= by_half.members().count())
            .unwrap_or(by_half)
    }

    fn by(
        train: Train,
        nodes: &BTreeMap<NodeId, Measured>,
        sent: Sent,
        line: u64,
        failure: Option<Reason>,
    ) -> Self {
        let measured = if sent.is_on_time {
            sent.rate
        } else {
            median_rate(nodes, train)
        };
        let judged = nodes
            .iter()
            .map(|(node, known)| (*node, known.reach(train, sent, measured)));
        let nodes: BTreeMap<NodeId, Reach> = judged.collect();
        let good = nodes.values().filter(|reach| matches!(reach, Reach::Good { .. }));
        let rates = good.filter_map(Reach::rate);
        Self {
            rate: rates.min().unwrap_or_default(),
            // A line that takes less than its card says, such as one behind a shaper, has this rate for the
            // chain, too.
            line: if sent.was_blocked && !sent.is_on_time {
                measured
            } else {
                line
            },
            nodes,
            failure,
        }
    }

    /// True if at least half of those that hear the group and counted the first train can be members. Then the full
    /// rate is tried: loss that the half rate does not explain, such as a bad cable's, is no reason for half the rate.
    pub(super) fn is_worth_more(nodes: &BTreeMap<NodeId, Measured>, half: Sent) -> bool {
        let hearing = nodes.values().filter(|node| node.heard);
        let lost = hearing.filter_map(|node| node.half);
        let lost: Vec<u32> = lost.map(|count| count.lost_ppm(half.datagrams)).collect();
        let good = lost.iter().filter(|ppm| **ppm <= MAX_LOSS_PPM).count();
        good > 0 && good * 2 >= lost.len()
    }

    /// Returns this outcome with nodes that were only greeted, later. Those that heard it receive what the others
    /// do, as far as is known.
    pub(super) fn with_greeted(&self, greeted: &BTreeMap<NodeId, Measured>, failure: Option<Reason>) -> Self {
        let mut all = self.clone();
        for (node, known) in greeted {
            let reach = match &known.unable {
                Some(why) => Reach::Unable { why: why.clone() },
                None if known.heard => Reach::Good {
                    rate: self.rate,
                    lost_ppm: 0,
                },
                None => Reach::Deaf,
            };
            all.nodes.insert(*node, reach);
        }
        all.failure = failure.or(all.failure);
        all
    }

    /// Forgets the nodes that are not among these.
    pub fn keep(&mut self, nodes: &[NodeId]) {
        self.nodes.retain(|node, _| nodes.contains(node));
    }

    /// True if the probe found out how the group reaches this node.
    #[must_use]
    pub fn knows(&self, node: NodeId) -> bool {
        self.nodes.contains_key(&node)
    }

    /// Returns how the group reaches each node.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Reach)> {
        self.nodes.iter().map(|(node, reach)| (*node, reach))
    }

    /// Returns the nodes that can be members.
    pub fn members(&self) -> impl Iterator<Item = NodeId> {
        let good = self
            .nodes()
            .filter(|(_, reach)| matches!(reach, Reach::Good { .. }));
        good.map(|(node, _)| node)
    }

    /// Returns the rate that every possible member receives, in bytes of datagrams a second.
    #[must_use]
    pub const fn rate(&self) -> u64 {
        self.rate
    }

    /// Returns the rate of the sender's line, in bytes of datagrams a second.
    #[must_use]
    pub const fn line(&self) -> u64 {
        self.line
    }

    /// Returns the reason why nothing could be sent, if there is one.
    #[must_use]
    pub const fn failure(&self) -> Option<&Reason> {
        self.failure.as_ref()
    }

    /// Returns the outcome in one line for the operator.
    #[must_use]
    pub fn describe(&self, name: impl Fn(NodeId) -> String, querier: SegmentQuerier) -> String {
        if let Some(why) = &self.failure {
            return format!("multicast reaches nobody: {why}");
        }
        let (good, all) = (self.members().count(), self.nodes.len());
        let mut line = format!(
            "multicast reaches {good} of {all} {}",
            if all == 1 { "node" } else { "nodes" }
        );
        if good > 0 {
            line += &format!(" at {} {}", megabits(self.rate), self.loss());
        }
        for trouble in self.troubles(&name) {
            line += "; ";
            line += &trouble;
        }
        format!("{line} (IGMP querier: {querier})")
    }

    fn loss(&self) -> String {
        let good = self
            .nodes
            .values()
            .filter(|reach| matches!(reach, Reach::Good { .. }));
        let losses = good.filter_map(Reach::lost_ppm);
        match losses.max().unwrap_or_default() {
            0 => "without loss".to_owned(),
            most => format!("with {} loss", percent(most)),
        }
    }

    /// The nodes that cannot be members, those of one kind together.
    fn troubles(&self, name: &impl Fn(NodeId) -> String) -> Vec<String> {
        let mut kinds: Vec<(u8, Vec<NodeId>, Vec<&Reach>)> = Vec::new();
        for (node, reach) in self.nodes() {
            let Some(kind) = reach.kind() else { continue };
            let at = kinds
                .iter()
                .position(|(known, ..)| *known == kind)
                .unwrap_or_else(|| {
                    kinds.push((kind, Vec::new(), Vec::new()));
                    kinds.len() - 1
                });
            kinds[at].1.push(node);
            kinds[at].2.push(reach);
        }
        kinds.sort_by_key(|(kind, ..)| *kind);
        let described = kinds.iter().filter_map(|(_, nodes, reaches)| {
            let names = listed(nodes, name);
            Some(format!("{names} {}", trouble(reaches)?))
        });
        described.collect()
    }
}

impl Reach {
    const fn rate(&self) -> Option<u64> {
        match self {
            Self::Good { rate, .. } | Self::Slow { rate } => Some(*rate),
            _ => None,
        }
    }

    const fn lost_ppm(&self) -> Option<u32> {
        match self {
            Self::Good { lost_ppm, .. } | Self::Lossy { lost_ppm } => Some(*lost_ppm),
            _ => None,
        }
    }

    /// A number for each kind of trouble, in the order of the line.
    const fn kind(&self) -> Option<u8> {
        match self {
            Self::Good { .. } => None,
            Self::Deaf => Some(0),
            Self::Lossy { .. } => Some(1),
            Self::Slow { .. } => Some(2),
            Self::Silent => Some(3),
            Self::Unable { .. } => Some(4),
        }
    }
}

/// The trouble of nodes of one kind, as a verb and its object.
fn trouble(reaches: &[&Reach]) -> Option<String> {
    let is_one = reaches.len() == 1;
    let verb = |one: &'static str, many: &'static str| if is_one { one } else { many };
    Some(match reaches.first()? {
        Reach::Good { .. } => return None,
        Reach::Deaf => format!("{} nothing", verb("hears", "hear")),
        Reach::Lossy { .. } => {
            let most = reaches
                .iter()
                .filter_map(|reach| reach.lost_ppm())
                .max()
                .unwrap_or_default();
            let up_to = if is_one { "" } else { "up to " };
            format!("{} {up_to}{}", verb("loses", "lose"), percent(most))
        }
        Reach::Slow { .. } => {
            let least = reaches
                .iter()
                .filter_map(|reach| reach.rate())
                .min()
                .unwrap_or_default();
            format!("{} only {}", verb("receives", "receive"), megabits(least))
        }
        Reach::Silent => "did not say in time how much arrived".to_owned(),
        Reach::Unable { why } => format!("cannot listen: {why}"),
    })
}

/// The names of nodes, not more than a line can hold.
pub(super) fn listed(nodes: &[NodeId], name: impl Fn(NodeId) -> String) -> String {
    let mut names: Vec<String> = nodes.iter().take(MAX_NAMED).map(|node| name(*node)).collect();
    match nodes.len().saturating_sub(names.len()) {
        0 => {}
        1 => names.extend(nodes.last().map(|node| name(*node))),
        more => names.push(format!("{more} others")),
    }
    match names.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// A rate in bytes a second, as people name the speed of a line.
pub(super) fn megabits(rate: u64) -> String {
    let megabits = rate / 125_000;
    if megabits >= 10_000 {
        let tenths = megabits / 100;
        return format!("{}.{} Gbit/s", tenths / 10, tenths % 10);
    }
    format!("{megabits} Mbit/s")
}

fn percent(ppm: u32) -> String {
    if ppm >= 100_000 {
        return format!("{} %", ppm / 10_000);
    }
    // Rounded up: a loss is never shown as none.
    let hundredths = ppm.div_ceil(100);
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}

/// The rate that half of the nodes received at least.
fn median_rate(nodes: &BTreeMap<NodeId, Measured>, train: Train) -> u64 {
    let counts = nodes.values().filter_map(|node| node.count(train));
    let mut rates: Vec<u64> = counts.map(|count| count.rate).filter(|rate| *rate > 0).collect();
    rates.sort_unstable();
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}
