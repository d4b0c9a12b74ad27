//! One stream of a run, seen by the server: the nodes that relay it, their progress, and the remedies for a
//! stop.
//!
//! [`Stream`] knows nodes by their numbers and has no output of its own. Each call returns the [`Effects`]
//! for the run to carry out, in order. Each part owns one kind of state. [`Chain`] has the order, [`Links`]
//! the counts of broken links, and [`Suspects`] the nodes that were asked. [`Still`] and [`Paces`] have the
//! clocks and rates, [`Receipts`] the neighbourhoods, and [`Spool`] the nodes that may come back. All of them
//! learn about a change of the chain in one place, [`Stream::remove`].

mod chain;
mod course;
mod effect;
mod group;
mod links;
mod pace;
mod receipts;
mod spool;
mod still;
mod suspects;

use super::roster::Roster;
use super::{
    Duration, HeadOrder, NodeId, Progress, Reason, ReceivedStream, RunEvent, Side, Stage, StreamId,
    StreamName, StreamOffset, Successor,
};
use crate::pace::Pace;
use chain::{Chain, Removed};
use course::Course;
use group::Group;
use links::Links;
use pace::{Judgement, Paces};
use receipts::Receipts;
use spool::Spool;
use still::{Still, Stillness};
use suspects::Suspects;

pub(super) use effect::{Effect, Effects};
pub(super) use pace::Policy;
pub use pace::{Measured, MinRate, Slow};
pub(super) use receipts::Near;
pub(super) use suspects::{Suspect, Witness};

/// One stream, from its opening until every node is done or has failed.
#[derive(Debug)]
pub(super) struct Stream {
    id: StreamId,
    name: StreamName,
    /// The nodes that were in the stream at its start, in order.
    participants: Vec<NodeId>,
    course: Course,
    links: Links,
    suspects: Suspects,
    still: Still,
    paces: Paces,
    receipts: Receipts,
    spool: Spool,
    group: Group,
}

/// The settings of a stream.
#[derive(Debug, Clone)]
pub(super) struct StreamConfig {
    /// The name of the stream.
    pub(super) name: StreamName,
    /// Number of lost neighbours in a row that retained data bridges.
    pub(super) tolerance: u8,
    /// True if the driver keeps the stream.
    pub(super) is_kept: bool,
    /// Time that a node may stand still.
    pub(super) stall: Duration,
    /// The members of its multicast group; none without a group.
    pub(super) members: Vec<NodeId>,
}

impl Stream {
    pub(super) fn new(now: Duration, id: StreamId, nodes: Vec<NodeId>, config: StreamConfig) -> Self {
        let chain = Chain::new(nodes.clone());
        Self {
            id,
            name: config.name,
            participants: nodes,
            links: Links::default(),
            suspects: Suspects::default(),
            still: Still::new(now, config.stall),
            paces: Paces::default(),
            receipts: Receipts::new(usize::from(config.tolerance), &chain),
            spool: Spool::new(config.is_kept),
            group: Group::new(config.members),
            course: Course::new(chain, now),
        }
    }

    pub(super) const fn id(&self) -> StreamId {
        self.id
    }

    /// Returns the nodes that were in the stream at its start, in order.
    pub(super) fn participants(&self) -> &[NodeId] {
        &self.participants
    }

    pub(super) fn is_done(&self, node: NodeId) -> bool {
        self.course.is_done(node)
    }

    /// Returns the totals of a node that is done.
    pub(super) fn received(&self, node: NodeId) -> Option<ReceivedStream> {
        self.course.received(node)
    }

    /// Returns the offset up to which the node's consumer has taken all data.
    pub(super) fn consumed(&self, node: NodeId) -> StreamOffset {
        self.still.consumed(node)
    }

    /// Returns the nodes directly above a node, in the past and now. Its data came through them.
    pub(super) fn above(&self, node: NodeId) -> Vec<NodeId> {
        self.course.chain().above(node)
    }

    /// True if a node that reports its failure in `stage` has the stream's relay open. A node that failed
    /// before it was told of this stream has not, and never will.
    pub(super) fn is_relay(&self, node: NodeId, stage: Stage) -> bool {
        self.course.chain().contains(node) && (stage == Stage::Stream(self.id) || self.is_done(node))
    }

    /// Returns the nodes near to this one, as it was told.
    pub(super) fn near(&self, node: NodeId) -> Option<&Near> {
        self.receipts.near(node)
    }

    /// Returns the nodes that must be told anew which other nodes are near to them.
    pub(super) fn take_changed_near(&mut self) -> Vec<(NodeId, Near)> {
        self.receipts.take_changed(&self.course)
    }
}

/// Progress of the head and of nodes.
impl Stream {
    /// Takes in a node's progress. Only growth is progress, and no node can have data that was not produced.
    /// So a node that changes its word back and forth stands still.
    pub(super) fn handle_progress(&mut self, now: Duration, node: NodeId, progress: Progress) -> Effects {
        let credible = Progress {
            received: progress.received.min(self.course.produced()),
            ..progress
        };
        if self.still.note(now, node, &credible) {
            self.links.note_moved(node);
        }
        if self.course.chain().is_in_main(node) {
            self.paces.note(now, node, &progress);
        }
        vec![Effect::Event(RunEvent::Progress { node, progress })]
    }

    /// Takes in the bytes that the head has produced, and its end.
    pub(super) fn handle_head_progress(&mut self, now: Duration, produced: StreamOffset, has_ended: bool) {
        self.course.note_produced(now, produced, has_ended);
    }

    /// Takes in the use of the head's time.
    pub(super) fn handle_head_pace(&mut self, now: Duration, produced: StreamOffset, pace: Pace) {
        let progress = Progress {
            stream: self.id,
            received: produced,
            consumed: produced,
            buffered: 0,
            pace,
        };
        self.paces.note(now, NodeId::SERVER, &progress);
    }

    /// Records that a node has all data. Its first report counts.
    pub(super) fn handle_done(&mut self, node: NodeId, received: ReceivedStream) {
        if self.participants.contains(&node) && !self.is_done(node) {
            self.course.note_done(node, received);
            self.receipts.chain_has_changed();
        }
    }

    /// True if every node is done or has failed.
    pub(super) fn is_over(&self, has_failed: impl Fn(NodeId) -> bool) -> bool {
        let mut participants = self.participants.iter();
        participants.all(|node| self.is_done(*node) || has_failed(*node))
    }
}

/// Broken links and lost nodes.
impl Stream {
    /// Handles that a node, or the head, lost the link to a neighbour. The neighbour is asked if it lives.
    pub(super) fn handle_link_lost(&mut self, now: Duration, roster: &Roster, witness: Witness) -> Effects {
        let chain = self.course.chain();
        if witness.node != NodeId::SERVER && !chain.contains(witness.node) {
            return Effects::new();
        }
        let other = neighbour(chain, &witness);
        match other.filter(|other| *other != NodeId::SERVER) {
            Some(other) => {
                let mut effects = Effects::new();
                self.suspect(other, Some(witness), &mut effects);
                effects
            }
            None => self.mend(now, roster, &witness),
        }
    }

    /// Makes the link of `witness` again, because the lost neighbour lives, or there is no node to ask.
    fn mend(&mut self, now: Duration, roster: &Roster, witness: &Witness) -> Effects {
        let chain = self.course.chain();
        let node = witness.node;
        let mut effects = Effects::new();
        if node != NodeId::SERVER && !chain.contains(node) {
            return effects;
        }
        match witness.side {
            Side::Downstream => {
                // A node that has all data needs no link, whichever side reports that it is broken.
                let next = chain.after(node).filter(|next| !self.course.is_done(*next));
                let produced = self.course.produced();
                match next {
                    Some(next) if self.links.is_lost_too_often(chain.before(next), next, produced) => {
                        self.part(roster, node, next, &witness.reason, &mut effects);
                    }
                    _ => self.name_successor(node, next, &mut effects),
                }
            }
            Side::Upstream if self.is_done(node) => {}
            Side::Upstream => {
                let before = chain.before(node);
                if self.links.may_be_remade(before, node) {
                    self.join_neighbours(now, before, node, &mut effects);
                } else {
                    self.part(roster, before, node, &witness.reason, &mut effects);
                }
            }
        }
        effects
    }

    /// Removes one of two nodes that live and cannot be linked. The server cannot tell which one is at fault.
    /// It removes the upper one if that has cost a successor already, so that one bad node costs one good one
    /// at most.
    fn part(
        &mut self,
        roster: &Roster,
        before: NodeId,
        node: NodeId,
        reason: &Reason,
        effects: &mut Effects,
    ) {
        if self.links.strikes(before, true) > 1 && before != NodeId::SERVER {
            // The nodes that went at its first strike are not accused.
            effects.push(Effect::Accuse(before));
            effects.push(lose(
                before,
                format!("its successors cannot get data from it: {reason}"),
            ));
            return;
        }
        effects.extend(self.above(node).into_iter().map(Effect::Accuse));
        let name = roster.name_of(before);
        effects.push(lose(node, format!("lost its predecessor {name}: {reason}")));
    }

    /// Removes a node from the chain. Its neighbours are joined, and every part of the stream is told.
    pub(super) fn remove(&mut self, now: Duration, node: NodeId) -> Effects {
        let mut effects = Effects::new();
        self.spool.forget(node);
        if self.group.remove(node) {
            let stream = self.id;
            effects.push(Effect::Head(HeadOrder::LeftGroup { stream, node }));
        }
        let Some(removed) = self.course.chain_mut().remove(node) else {
            return effects;
        };
        self.paces.begin_anew();
        self.still.begin_anew(now);
        self.suspects.forget(node);
        let Removed {
            before,
            after,
            was_branch,
        } = removed;
        if was_branch {
            let stream = self.id;
            effects.push(Effect::Head(HeadOrder::CloseBranch { stream, node }));
        }
        match after {
            // The node below the first one of a branch is the first one now.
            Some(after) if was_branch => self.branch_off(now, after, None, &mut effects),
            Some(after) => self.join_neighbours(now, before, after, &mut effects),
            None if was_branch => {}
            None => self.name_successor(before, None, &mut effects),
        }
        effects
    }

    /// Joins two neighbours. The fault that broke the chain here may have taken these two as well, and they
    /// have no link yet that would show it. So they are asked.
    fn join_neighbours(&mut self, now: Duration, before: NodeId, after: NodeId, effects: &mut Effects) {
        if self.course.chain().is_branch(after) {
            return self.branch_off(now, after, None, effects);
        }
        self.suspect(before, None, effects);
        self.suspect(after, None, effects);
        self.name_successor(before, Some(after), effects);
        self.name_predecessor(after, before, None, effects);
    }

    fn name_predecessor(
        &mut self,
        node: NodeId,
        predecessor: NodeId,
        successor: Option<Successor>,
        effects: &mut Effects,
    ) {
        self.receipts.chain_has_changed();
        effects.push(Effect::Predecessor {
            node,
            predecessor,
            successor,
        });
    }

    fn name_successor(&mut self, node: NodeId, successor: Option<NodeId>, effects: &mut Effects) {
        self.receipts.chain_has_changed();
        effects.push(Effect::Successor { node, successor });
    }
}

/// The spool: nodes that go on from the kept stream.
impl Stream {
    /// Handles that the head of this branch lost its node, or could not reach it. A node that lives reports
    /// that itself, and gets another head.
    pub(super) fn handle_branch_lost(&mut self, node: NodeId) -> Effects {
        let mut effects = Effects::new();
        if self.course.chain().is_branch(node) {
            self.suspect(node, None, &mut effects);
        }
        effects
    }

    /// Handles that the stream is kept no longer. The nodes that were fed from the spool, and those that are
    /// awaited, are lost.
    pub(super) fn handle_spool_lost(&mut self, reason: &Reason) -> Effects {
        self.spool.end();
        let chain = self.course.chain();
        let fed = chain.nodes().iter().skip(chain.main().len()).copied();
        let strays: Vec<NodeId> = fed.chain(self.spool.away()).collect();
        // From the ends of the branches, so that the nodes below a lost one are gone already.
        let losses = strays.into_iter().rev().map(|node| Effect::Lose {
            node,
            reason: reason.clone(),
        });
        losses.collect()
    }

    /// True if the stream may wait for a silent node, because the spool has the data that it misses.
    pub(super) fn may_await(&self, node: NodeId) -> bool {
        self.spool.may_await(self.course.chain(), node)
    }

    /// Closes the chain around a silent node, and waits for it.
    pub(super) fn await_node(&mut self, now: Duration, node: NodeId, reason: &Reason) -> Effects {
        let mut effects = self.remove(now, node);
        self.spool.await_node(now, node);
        effects.push(Effect::Away {
            node,
            reason: reason.clone(),
        });
        effects
    }

    /// Handles the answer to a ping that was sent at this time. If it was sent after the node was given up,
    /// the node is back, and its reports about lost neighbours have come before.
    pub(super) fn handle_pong(&mut self, now: Duration, node: NodeId, pinged_at: Duration) -> Effects {
        let mut effects = Effects::new();
        if !self.spool.is_back(node, pinged_at) {
            return effects;
        }
        if self.is_done(node) {
            self.name_successor(node, None, &mut effects);
        } else {
            self.course.chain_mut().append(node);
            self.branch_off(now, node, Some(Successor::Nobody), &mut effects);
        }
        effects
    }

    /// Handles that no predecessor still holds the data that this node needs. The node becomes the head of a
    /// branch, with all nodes below it, and is fed from the spool. If there is no room for a branch, the node
    /// is lost.
    pub(super) fn handle_data_gone(
        &mut self,
        now: Duration,
        node: NodeId,
        is_active: bool,
        reason: &Reason,
    ) -> Effects {
        let chain = self.course.chain();
        // The report is about a predecessor that the node had before it was away, or before it became a
        // branch.
        if self.spool.is_away(node) || chain.is_branch(node) {
            return Effects::new();
        }
        let may_branch_off = is_active && self.spool.has_room(chain) && chain.contains(node);
        let before = chain.before(node);
        let mut effects: Effects = self.above(node).into_iter().map(Effect::Accuse).collect();
        if may_branch_off {
            self.branch_off(now, node, None, &mut effects);
            self.name_successor(before, None, &mut effects);
        } else {
            effects.push(Effect::Lose {
                node,
                reason: reason.clone(),
            });
        }
        effects
    }

    /// Makes this node the first of a branch, with the nodes below it, fed by a head of its own.
    fn branch_off(
        &mut self,
        now: Duration,
        node: NodeId,
        successor: Option<Successor>,
        effects: &mut Effects,
    ) {
        self.course.chain_mut().branch_off(node);
        self.still.begin_anew(now);
        self.paces.keep_only(self.course.chain().main());
        self.suspect(node, None, effects);
        let stream = self.id;
        // It may have been away, and the group does not repair what it missed meanwhile.
        if self.group.exists() {
            let reason = Reason::new("the spool feeds it");
            effects.extend(self.handle_left_group(now, node, &reason));
            effects.push(Effect::LeaveGroup { node, reason });
        }
        effects.push(Effect::Head(HeadOrder::OpenBranch { stream, node }));
        self.name_predecessor(node, NodeId::SERVER, successor, effects);
    }

    /// Handles that a link of this node stands. For the head of a branch the layer above is told once.
    pub(super) fn handle_link_up(&mut self, node: NodeId, side: Side, offset: StreamOffset) -> Effects {
        let mut effects = Effects::new();
        if side == Side::Upstream && self.course.chain_mut().note_rejoined(node) {
            effects.push(Effect::Rejoined {
                node,
                stream: self.name.clone(),
                offset,
            });
        }
        effects
    }
}

/// Nodes that are slow or stand still.
impl Stream {
    /// Finds the node that holds up the chain. Names it, and sets it aside if it is under the floor for long.
    pub(super) fn judge_paces(&mut self, now: Duration, policy: Policy) -> Effects {
        match self.paces.judge(now, &self.course, policy) {
            None => Effects::new(),
            Some(Judgement::Prove { node, millis }) => vec![Effect::Hold { node, millis }],
            Some(Judgement::Slow {
                node,
                slow,
                set_aside,
            }) => {
                let mut effects = vec![Effect::Event(RunEvent::SlowNode {
                    node,
                    slow,
                    set_aside,
                })];
                if set_aside {
                    effects.push(Effect::SetAside(node));
                    effects.push(lose(node, format!("too slow: {slow}")));
                }
                effects
            }
        }
    }

    /// Returns the time at which [`Self::look_for_still`] must be called.
    pub(super) const fn look_at(&self) -> Duration {
        self.still.look_at()
    }

    /// Excuses all nodes for the time that the server itself was away. Their messages of that time are
    /// unread.
    pub(super) fn excuse(&mut self, now: Duration, away: Duration) {
        self.still.excuse(now, away);
    }

    /// Finds nodes that stand still while they have work to do, and sends them away with the offset where
    /// they stopped. A node that failed only as a clone still relays, and stays.
    pub(super) fn look_for_still(
        &mut self,
        now: Duration,
        roster: &Roster,
        report_timeout: Duration,
    ) -> Effects {
        let participants = self.participants.iter().copied();
        let active: Vec<NodeId> = participants.filter(|node| roster.is_active(*node)).collect();
        match self.still.look(now, &self.course, &active, report_timeout) {
            Stillness::TakeNothing(nodes) => {
                let nodes = nodes.into_iter();
                nodes
                    .map(|(node, since)| self.lose_still(now, node, since))
                    .collect()
            }
            Stillness::GetsNothing(node, since) => self.lose_cut_off(now, roster, node, since),
        }
    }

    fn lose_still(&self, now: Duration, node: NodeId, since: Duration) -> Effect {
        let (still, consumed) = (now.saturating_sub(since).as_secs(), self.consumed(node));
        let reason = format!("nothing moved for {still} s; it was at byte {consumed} of the stream");
        lose(node, reason)
    }

    /// Removes one of two nodes between which nothing passes. The server cannot tell which one is at fault.
    /// It removes a relay that failed already or is mute. Otherwise it removes the lower one, or the upper
    /// one if that has cost a successor already.
    fn lose_cut_off(&mut self, now: Duration, roster: &Roster, node: NodeId, since: Duration) -> Effects {
        let (still, course) = (&self.still, &self.course);
        let is_mute = |node: NodeId| still.is_mute(now, course, node);
        let waits = !still.has_room(node);
        let below = if waits {
            course.chain().after(node)
        } else {
            Some(node)
        };
        let Some(below) = below.filter(|_| !is_mute(node)) else {
            return vec![self.lose_still(now, node, since)];
        };
        let above = if waits { node } else { course.chain().before(node) };
        let is_above = roster.has_failed(above) || (!roster.has_failed(below) && is_mute(above));
        let strikes = self.links.strikes(above, !is_above && !roster.has_failed(below));
        let still = now.saturating_sub(since).as_secs();
        if is_above || (strikes > 1 && above != NodeId::SERVER) {
            let reason = format!("its successors got nothing from it for {still} s");
            return vec![lose(above, reason)];
        }
        let mut effects: Effects = self.above(below).into_iter().map(Effect::Accuse).collect();
        effects.push(if waits {
            let above = roster.name_of(above);
            lose(
                below,
                format!("{above} waited {still} s for it to take what it says that it has"),
            )
        } else {
            self.lose_still(now, node, since)
        });
        effects
    }
}

/// Returns the node that the witness lost.
fn neighbour(chain: &Chain, witness: &Witness) -> Option<NodeId> {
    match witness.side {
        Side::Upstream => Some(chain.before(witness.node)),
        Side::Downstream => chain.after(witness.node),
    }
}

fn lose(node: NodeId, reason: String) -> Effect {
    let reason = Reason::new(reason);
    Effect::Lose { node, reason }
}
