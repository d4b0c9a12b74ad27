//! Nodes that lost their place in a stream that the driver keeps: they go on in the same round, each fed from what is kept
//! by a head of its own. The chain was closed without them and does not wait for them.
//!
//! A *branch* is such a node and whoever is below it. There is no window to keep for it: what its first node misses can
//! be had again from the beginning, so when that one is lost, the next one becomes the first of a branch.
//! Not here: where the stream is kept, and how fast branches are fed (the driver).
//! Specification: `docs/protocol.md`, "Spool".

use super::stream::StreamRun;
use super::{
    Duration, Member, NodeId, Phase, Reason, Run, RunEvent, Side, StreamId, StreamOffset, Successor,
};

/// Branches and nodes that are awaited, at once. Each branch takes the stream from the server once more. From here on the
/// next round costs everybody less: there one chain serves all of them.
const MAX_STRAYS: usize = 4;

/// A branch of the chain, by its first node.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Branch {
    /// [`RunEvent::NodeRejoined`] was said.
    is_told: bool,
}

impl StreamRun {
    /// Who is fed by the head itself, in order.
    pub(super) fn main_chain(&self) -> &[NodeId] {
        let end = self
            .chain
            .iter()
            .position(|node| self.branches.contains_key(node));
        self.chain
            .get(..end.unwrap_or(self.chain.len()))
            .unwrap_or_default()
    }

    pub(super) fn is_in_main_chain(&self, node: NodeId) -> bool {
        self.branches.is_empty() || self.main_chain().contains(&node)
    }

    fn has_room_for_strays(&self) -> bool {
        self.spooled && self.branches.len() + self.away.len() < MAX_STRAYS
    }
}

impl Run {
    /// The head that fed this node from what is kept lost it, or could not get it. A node that lives says so itself, and
    /// gets another one.
    pub fn handle_branch_lost(&mut self, now: Duration, stream: StreamId, node: NodeId) {
        self.tick(now);
        if self.streaming(stream).is_some() && self.is_branch(node) {
            self.suspect(now, node, None);
        }
    }

    /// The stream is kept no longer, nor are later ones. Who was fed from it, and who is awaited, goes to the next round.
    pub fn handle_spool_lost(&mut self, now: Duration, reason: &Reason) {
        self.tick(now);
        self.config.spool = false;
        let Phase::Streaming(run) = &mut self.phase else {
            return;
        };
        run.spooled = false;
        let main = run.main_chain().len();
        let strays = run.chain.iter().skip(main).chain(run.away.keys());
        let strays: Vec<NodeId> = strays.copied().collect();
        // From the ends of the branches: whoever is below one that goes is gone already.
        for node in strays.into_iter().rev() {
            self.lose_for_next_round(now, node, reason);
        }
    }

    pub(super) fn is_branch(&self, node: NodeId) -> bool {
        matches!(&self.phase, Phase::Streaming(run) if run.branches.contains_key(&node))
    }

    /// A node that nobody hears. Where what it misses is kept it may come back, otherwise it is lost at once.
    pub(super) fn lose_or_await(&mut self, now: Duration, node: NodeId, reason: &Reason) {
        let is_active = self.members.get(&node).is_some_and(Member::is_active);
        let may_wait = matches!(&self.phase, Phase::Streaming(run) if {
            // One that is itself a branch leaves its room to whoever is below it.
            run.has_room_for_strays() || (run.spooled && run.branches.contains_key(&node) && run.after(node).is_none())
        });
        if !is_active || !may_wait {
            return self.lose_for_next_round(now, node, reason);
        }
        self.leave_chain(now, node);
        if let Phase::Streaming(run) = &mut self.phase {
            run.away.insert(node, now);
        }
        if let Some(info) = self.members.get(&node).map(|member| member.info.clone()) {
            self.event(RunEvent::NodeAway {
                node: info,
                reason: reason.clone(),
                silence: self.config.silence,
            });
        }
    }

    /// The answer to a ping. One that was sent after the node was given up says that it is back, and that what it had
    /// to say of its lost neighbours has come before.
    pub(super) fn answered(&mut self, now: Duration, node: NodeId, number: u64) {
        let Phase::Streaming(run) = &mut self.phase else {
            return;
        };
        let sent_at = Duration::from_millis(number);
        // The number has whole milliseconds.
        let is_back = run.away.get(&node).is_some_and(|since| sent_at > *since);
        if !is_back {
            return;
        }
        run.away.remove(&node);
        let (stream, is_done) = (run.stream, run.is_done(node));
        if is_done {
            return self.name_successor(stream, node, None);
        }
        run.chain.push(node);
        self.branch_off(now, stream, node, Some(Successor::Nobody));
    }

    /// What a node misses its predecessor no longer has, and those further up have even less: from here on it is fed, with
    /// those below it, from what is kept.
    pub(super) fn handle_data_gone(
        &mut self,
        now: Duration,
        node: NodeId,
        stream: StreamId,
        reason: &Reason,
    ) {
        let is_active = self.members.get(&node).is_some_and(Member::is_active);
        let Some(run) = self.streaming(stream) else { return };
        // Of a predecessor that it had before it was away, or before it became a branch.
        if run.away.contains_key(&node) || run.branches.contains_key(&node) {
            return;
        }
        if !is_active || !run.has_room_for_strays() || run.index_of(node).is_none() {
            self.accuse_those_above(node);
            return self.lose_for_next_round(now, node, reason);
        }
        let before = run.before(node);
        self.accuse_those_above(node);
        self.branch_off(now, stream, node, None);
        self.name_successor(stream, before, None);
    }

    /// From here on this node, with those below it, is fed by a head of its own.
    pub(super) fn branch_off(
        &mut self,
        now: Duration,
        stream: StreamId,
        node: NodeId,
        successor: Option<Successor>,
    ) {
        let Some(run) = self.streaming(stream) else { return };
        run.branches.insert(node, Branch::default());
        run.still.begin_anew(now);
        let main = run.main_chain().to_vec();
        run.paces.keep_only(&main);
        self.suspect(now, node, None);
        self.event(RunEvent::Branch { stream, node });
        self.name_predecessor(stream, node, NodeId::SERVER, successor);
    }

    /// The first node of a branch left it: the one below is now the first.
    pub(super) fn close_branch(
        &mut self,
        now: Duration,
        stream: StreamId,
        node: NodeId,
        after: Option<NodeId>,
    ) {
        self.event(RunEvent::BranchClosed { stream, node });
        if let Some(after) = after {
            self.branch_off(now, stream, after, None);
        }
    }

    /// A branch's first node has its new link: that is told once.
    pub(super) fn note_rejoined(&mut self, node: NodeId, stream: StreamId, side: Side, offset: StreamOffset) {
        let Some(run) = self.streaming(stream).filter(|_| side == Side::Upstream) else {
            return;
        };
        let Some(branch) = run.branches.get_mut(&node) else {
            return;
        };
        if !std::mem::replace(&mut branch.is_told, true)
            && let Some(info) = self.members.get(&node).map(|member| member.info.clone())
        {
            self.event(RunEvent::NodeRejoined {
                node: info,
                stream,
                offset,
            });
        }
    }
}
