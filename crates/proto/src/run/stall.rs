//! The verdict over a stream that stands still: somebody is out when the stall timeout is over, whatever anybody says.
//!
//! What is known are the nodes' own words ([`super::still`]), and one of them may lie. So a word that excuses a node must be
//! borne out by others: who has no room waits for somebody below it, who then has less than itself. The lowest node that has
//! less than the one before it has no such excuse, so there is always one whose time runs. Where two neighbours contradict
//! each other the lower one goes first, for a liar may cost those below it a round, but nobody above it anything; and
//! then the upper one.

use super::member::Member;
use super::stream::StreamRun;
use super::{Duration, NodeId, Phase, Reason, Run, StreamOffset};

/// Between two looks for nodes that stand still.
pub(super) const STILL_LOOK: Duration = Duration::from_secs(5);

impl StreamRun {
    /// How much is here; who is done has everything, or says so.
    fn has(&self, node: NodeId) -> StreamOffset {
        if node == NodeId::SERVER || self.is_done(node) {
            self.produced
        } else {
            self.still.received(node)
        }
    }

    /// Since when this node has something to do and does nothing, when that is too long. One that has taken all and not
    /// yet said so writes back to its disk.
    fn stands_still(&self, now: Duration, node: NodeId, finishing: Duration) -> Option<Duration> {
        if self.is_done(node) {
            return None;
        }
        if let Some(since) = self.still.takes_nothing_since(node) {
            return Some(since).filter(|since| now >= *since + self.stall);
        }
        let has_all = self.head_ended && self.has(node) >= self.produced;
        let since = self.still.moved_at(node).max(self.head_moved_at);
        Some(since).filter(|since| has_all && now >= *since + finishing)
    }

    /// Starts and stops the clocks of those that get nothing. A relay that failed itself says nothing of how far it is: it
    /// is taken for a part of the line.
    fn compare_all(&mut self, now: Duration, is_active: impl Fn(&NodeId) -> bool) {
        let is_open = |run: &Self, node: &NodeId| is_active(node) && !run.is_done(*node);
        // Who has somebody below it, up to the next branch, that has less.
        let (mut waits_below, mut least) = (Vec::new(), None::<StreamOffset>);
        for node in self.chain.iter().rev() {
            if is_open(self, node) {
                let has = self.has(*node);
                waits_below.push(least.is_some_and(|least| least < has));
                least = Some(least.map_or(has, |least| least.min(has)));
            }
            if self.branches.contains_key(node) {
                least = None;
            }
        }
        let mut available = self.produced;
        for node in self.chain.clone() {
            if self.branches.contains_key(&node) {
                available = self.produced;
            }
            if is_open(self, &node) {
                let waits_below = waits_below.pop().unwrap_or_default();
                let has = self.has(node);
                let is_excused = waits_below && !self.still.has_room(node);
                self.still.compare(now, node, available > has && !is_excused);
                available = has;
            } else if self.is_done(node) {
                available = self.produced;
            }
        }
    }

    /// The first node that gets nothing of what the one before it has, for too long, though it says that it has room. Those
    /// below it get nothing either. Else the first one without room that nobody is the reason for.
    fn gets_nothing(&self, now: Duration, is_active: impl Fn(&NodeId) -> bool) -> Option<(NodeId, Duration)> {
        let open = self
            .chain
            .iter()
            .filter(|node| is_active(node) && !self.is_done(**node));
        let since = open.filter_map(|node| Some((*node, self.still.gets_nothing_since(*node)?)));
        let late: Vec<_> = since.filter(|(_, since)| now >= *since + self.stall).collect();
        let has_room = late.iter().find(|(node, _)| self.still.has_room(*node));
        has_room.or_else(|| late.first()).copied()
    }

    /// It has long not said how far it is, which everybody does all the time until it is done.
    fn is_mute(&self, now: Duration, node: NodeId) -> bool {
        node != NodeId::SERVER && !self.is_done(node) && now >= self.still.said_at(node) + self.stall
    }
}

impl Run {
    /// Looks for nodes that stand still while they have something to do, and sends them away with the place where
    /// they stopped. One that fails only its own part still relays and is let be. Where nobody has anything to take, it is the
    /// link to the first one that gets nothing.
    pub(super) fn stream_timeout(&mut self, now: Duration) {
        let report = self.config.timeouts.report;
        let Phase::Streaming(run) = &mut self.phase else {
            return;
        };
        run.look_at = now + STILL_LOOK;
        let members = &self.members;
        let is_active = |node: &NodeId| members.get(node).is_some_and(Member::is_active);
        run.compare_all(now, is_active);
        let active = run.participants.iter().filter(|node| is_active(node));
        let still: Vec<(NodeId, Duration)> = active
            .clone()
            .filter_map(|node| Some((*node, run.stands_still(now, *node, report)?)))
            .collect();
        // Who takes nothing is the reason for those that get nothing, and its time is up soon.
        let is_reason = |node: &NodeId| {
            let since = run.still.takes_nothing_since(*node);
            !run.is_done(*node) && since.is_some_and(|since| now >= since + run.stall / 2)
        };
        let has_reason = active.clone().any(is_reason);
        let cut_off = run.gets_nothing(now, is_active);
        let cut_off = cut_off.filter(|_| still.is_empty() && !has_reason);
        for (node, since) in still {
            self.give_up_still(now, node, since);
        }
        if let Some((node, since)) = cut_off {
            self.give_up_cut_off(now, node, since);
        }
    }

    /// The server itself was away for so long, and what the nodes said meanwhile is unread: that time is nobody's.
    pub(super) fn excuse_still(&mut self, now: Duration, away: Duration) {
        if let Phase::Streaming(run) = &mut self.phase {
            run.still.excuse(now, away);
        }
    }

    fn give_up_still(&mut self, now: Duration, node: NodeId, since: Duration) {
        let Phase::Streaming(run) = &self.phase else {
            return;
        };
        let (still, consumed) = (now.saturating_sub(since).as_secs(), run.consumed(node));
        let reason = format!("nothing moved for {still} s; it was at byte {consumed} of the stream");
        self.lose_for_next_round(now, node, &Reason::new(reason));
    }

    /// Between which two nothing passes is known, but not which of them is at fault: it is a relay that failed already or
    /// one that says nothing, else the one below, and the one above if it has cost a successor already.
    fn give_up_cut_off(&mut self, now: Duration, node: NodeId, since: Duration) {
        let Phase::Streaming(run) = &mut self.phase else {
            return;
        };
        let waits = !run.still.has_room(node);
        let below = if waits { run.after(node) } else { Some(node) };
        let Some(below) = below.filter(|_| !run.is_mute(now, node)) else {
            return self.give_up_still(now, node, since);
        };
        let above = if waits { node } else { run.before(node) };
        let members = &self.members;
        let is_relay = |node: NodeId| members.get(&node).is_some_and(|member| !member.is_active());
        let is_above = is_relay(above) || (!is_relay(below) && run.is_mute(now, above));
        let strikes = run.strikes.entry(above).or_insert(0);
        *strikes += u32::from(!is_above && !is_relay(below));
        let still = now.saturating_sub(since).as_secs();
        if is_above || (*strikes > 1 && above != NodeId::SERVER) {
            let reason = format!("its successors got nothing from it for {still} s");
            return self.lose_for_next_round(now, above, &Reason::new(reason));
        }
        self.accuse_those_above(below);
        if !waits {
            return self.give_up_still(now, node, since);
        }
        let above = self.name_of(above);
        let reason = format!("{above} waited {still} s for it to take what it says that it has");
        self.lose_for_next_round(now, below, &Reason::new(reason));
    }
}
