//! One stream of a run: its beginning, its progress, and its end. [`super::chain`] repairs it meanwhile.

use std::collections::BTreeMap;

use super::member::MemberState;
use super::pace::Paces;
use super::receipts::Near;
use super::spool::Branch;
use super::stall::STILL_LOOK;
use super::still::Still;
use super::suspects::Suspect;
use super::{
    ChainPosition, Duration, Failure, HeadStream, Member, NodeId, NodeInfo, Phase, Progress, Reason,
    Received, Run, RunError, RunEvent, Side, StreamId, StreamName, StreamOffset, ToNode,
};
use crate::auth;
use crate::control::OpenStream;

/// How often one link was made again in a stream.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Remade {
    /// Its upper end.
    above: NodeId,
    /// Without anything moving in between, because the lower end lost it.
    pub(super) retries: u8,
    /// With progress or without.
    pub(super) rejoins: u32,
    /// Because the upper end lost it while nothing was produced.
    lost: u8,
    /// How much was produced when that was counted last.
    lost_at: StreamOffset,
}

#[derive(Debug)]
pub(super) struct StreamRun {
    pub(super) stream: StreamId,
    /// Who takes part in relaying now, in order.
    pub(super) chain: Vec<NodeId>,
    /// Who was in it at the start, in order.
    pub(super) participants: Vec<NodeId>,
    pub(super) done: BTreeMap<NodeId, Received>,
    /// How far everybody is, and since when.
    pub(super) still: Still,
    /// How often the link above each node was made again.
    pub(super) remade: BTreeMap<NodeId, Remade>,
    /// How many successors had to go because they could not be linked to this node.
    pub(super) strikes: BTreeMap<NodeId, u32>,
    /// How everybody spends its time.
    pub(super) paces: Paces,
    /// Nodes that a neighbour does not hear, and that have not answered since.
    pub(super) suspects: Vec<Suspect>,
    /// Whether the driver still keeps it.
    pub(super) spooled: bool,
    /// Who begins a branch of the chain, fed by a head of its own from what is kept, and whether that was told. In `chain`
    /// those behind it follow, up to the next one of these.
    pub(super) branches: BTreeMap<NodeId, Branch>,
    /// Who is silent and was taken out of the chain, and since when.
    pub(super) away: BTreeMap<NodeId, Duration>,
    /// Who was above a node, directly, and is gone from the chain.
    pub(super) formerly_above: BTreeMap<NodeId, Vec<NodeId>>,
    /// Whose predecessor was lost and not replaced, and what it was called.
    pub(super) orphans: BTreeMap<NodeId, String>,
    pub(super) produced: StreamOffset,
    pub(super) head_ended: bool,
    /// When the head produced something last, or said that it is all.
    pub(super) head_moved_at: Duration,
    pub(super) look_at: Duration,
    pub(super) stall: Duration,
    /// The nodes near to each, as they were told last.
    pub(super) near: BTreeMap<NodeId, Near>,
    /// The chain has changed since.
    pub(super) near_is_old: bool,
}

impl StreamRun {
    pub(super) const fn stream(&self) -> StreamId {
        self.stream
    }

    pub(super) fn is_done(&self, node: NodeId) -> bool {
        self.done.contains_key(&node)
    }

    /// When to look whether anything has moved.
    pub(super) const fn deadline(&self) -> Duration {
        self.look_at
    }

    /// Only growth is progress, and nobody can have what was not produced: a node that says one thing and another in turn
    /// stands still.
    fn note_progress(&mut self, now: Duration, node: NodeId, progress: &Progress) {
        let progress = Progress {
            received: progress.received.min(self.produced),
            ..*progress
        };
        if self.still.note(now, node, &progress) {
            self.remade.entry(node).and_modify(|remade| remade.retries = 0);
        }
    }

    fn note_produced(&mut self, now: Duration, produced: StreamOffset, ended: bool) {
        if (self.produced, self.head_ended) == (produced, ended) {
            return;
        }
        (self.produced, self.head_ended, self.head_moved_at) = (produced, ended, now);
    }

    pub(super) fn consumed(&self, node: NodeId) -> StreamOffset {
        self.still.consumed(node)
    }

    /// Counts that its predecessor lost this node, and says whether that was too often while the chain stood still. What the
    /// node itself says it took does not count.
    pub(super) fn is_lost_too_often(&mut self, node: NodeId) -> bool {
        let produced = self.produced;
        let remade = self.link_above(node);
        if remade.lost_at != produced {
            (remade.lost, remade.lost_at) = (0, produced);
        }
        remade.lost = remade.lost.saturating_add(1);
        remade.lost > super::chain::LINK_RETRIES
    }

    /// The counts of the link between this node and the one above it now. Of an earlier link nothing is carried over: it was
    /// perhaps the other end's fault, or its word.
    pub(super) fn link_above(&mut self, node: NodeId) -> &mut Remade {
        let above = self.before(node);
        let remade = self.remade.entry(node).or_default();
        if remade.above != above {
            *remade = Remade {
                above,
                ..Remade::default()
            };
        }
        remade
    }

    pub(super) fn index_of(&self, node: NodeId) -> Option<usize> {
        self.chain.iter().position(|&other| other == node)
    }

    pub(super) fn before(&self, node: NodeId) -> NodeId {
        if self.branches.contains_key(&node) {
            return NodeId::SERVER;
        }
        let before = self.index_of(node).and_then(|index| index.checked_sub(1));
        before
            .and_then(|index| self.chain.get(index))
            .copied()
            .unwrap_or(NodeId::SERVER)
    }

    pub(super) fn after(&self, node: NodeId) -> Option<NodeId> {
        let index = if node == NodeId::SERVER {
            0
        } else {
            self.index_of(node)? + 1
        };
        let after = self.chain.get(index).copied();
        after.filter(|after| !self.branches.contains_key(after))
    }
}

impl Run {
    /// Opens the next stream to every node that is still in; ends with [`RunEvent::StreamDone`].
    ///
    /// # Errors
    /// [`RunError`] when something else is going on or nobody is left.
    pub fn open_stream(&mut self, now: Duration, name: &StreamName) -> Result<HeadStream, RunError> {
        let mut chain = self.ready_for("open_stream")?;
        chain.retain(|node| {
            self.members
                .get(node)
                .is_some_and(|m| !m.holds_clone && matches!(m.state, MemberState::Waiting))
        });
        let Some(&successor) = chain.first() else {
            return Err(RunError::NobodyLeft);
        };
        self.streams_opened += 1;
        let stream = StreamId(self.streams_before + self.streams_opened);
        let key = auth::stream_key(&self.config.run_key, self.config.run, stream);
        self.phase = Phase::Streaming(Box::new(StreamRun {
            stream,
            participants: chain.clone(),
            chain: chain.clone(),
            done: BTreeMap::new(),
            still: Still::default(),
            remade: BTreeMap::new(),
            strikes: BTreeMap::new(),
            paces: Paces::default(),
            suspects: Vec::new(),
            spooled: self.config.spool && self.config.heal,
            branches: BTreeMap::new(),
            away: BTreeMap::new(),
            formerly_above: BTreeMap::new(),
            orphans: BTreeMap::new(),
            produced: StreamOffset(0),
            head_ended: false,
            head_moved_at: now,
            look_at: now + STILL_LOOK,
            stall: self.config.timeouts.stall,
            near: BTreeMap::new(),
            near_is_old: false,
        }));
        let near: BTreeMap<NodeId, Near> = self.all_near().into_iter().collect();
        let keys = |run: &Self, node| run.receipt_keys(stream, node, near.get(&node));
        for (index, (&node, position)) in chain.iter().zip(1..).enumerate() {
            let before = index.checked_sub(1).and_then(|before| chain.get(before)).copied();
            let open = OpenStream {
                stream,
                name: name.clone(),
                key,
                position: ChainPosition(position),
                predecessor: self.peer(before.unwrap_or(NodeId::SERVER), node),
                predecessor_key: self.link_secret(stream, node, before.unwrap_or(NodeId::SERVER)),
                successor: chain.get(index + 1).copied(),
                successor_key: chain
                    .get(index + 1)
                    .map(|&after| self.link_secret(stream, after, node)),
                resume_from: StreamOffset(0),
                receipts: keys(self, node),
                cipher: self.config.cipher,
                silence_ms: u32::try_from(self.config.link_silence.as_millis()).unwrap_or(u32::MAX),
                spooled: self.config.spool && self.config.heal,
            };
            self.send(node, ToNode::OpenStream(open));
        }
        let receipts = keys(self, NodeId::SERVER);
        if let Phase::Streaming(run) = &mut self.phase {
            run.near = near;
        }
        Ok(HeadStream {
            stream,
            key,
            successor,
            receipts,
        })
    }

    pub(super) fn streaming(&mut self, stream: StreamId) -> Option<&mut StreamRun> {
        match &mut self.phase {
            Phase::Streaming(run) if run.stream == stream => Some(run),
            _ => None,
        }
    }

    /// How much the head has produced, and whether that is all.
    pub fn handle_head_progress(
        &mut self,
        now: Duration,
        stream: StreamId,
        produced: StreamOffset,
        ended: bool,
    ) {
        let Some(run) = self.streaming(stream) else { return };
        run.note_produced(now, produced, ended);
    }

    /// The head's relay lost its successor.
    pub fn handle_head_link_lost(
        &mut self,
        now: Duration,
        stream: StreamId,
        offset: StreamOffset,
        reason: &Reason,
    ) {
        self.tick(now);
        self.handle_link_lost(now, NodeId::SERVER, stream, Side::Downstream, offset, reason);
    }

    pub(super) fn handle_progress(&mut self, now: Duration, node: NodeId, progress: Progress) {
        if let Some(run) = self.streaming(progress.stream) {
            run.note_progress(now, node, &progress);
            if run.is_in_main_chain(node) {
                run.paces.note(now, node, &progress);
            }
            self.event(RunEvent::Progress { node, progress });
        }
    }

    pub(super) fn handle_stream_done(&mut self, node: NodeId, stream: StreamId, received: Received) {
        if let Some(run) = self.streaming(stream) {
            // Said once.
            if !run.participants.contains(&node) || run.done.contains_key(&node) {
                return;
            }
            run.done.insert(node, received);
            self.finish_stream();
        }
    }

    /// Ends the stream when everybody who was in it is done or failed.
    pub(super) fn finish_stream(&mut self) {
        let Phase::Streaming(run) = &self.phase else {
            return;
        };
        let failure = |node: &NodeId| self.members.get(node).and_then(Member::failure);
        let open = |node: &NodeId| !run.done.contains_key(node) && failure(node).is_none();
        if run.participants.iter().any(open) {
            return;
        }
        // Also those that were away when it ended, and have not been given a place again.
        let (stream, all) = (run.stream, run.participants.clone());
        let outcomes = run
            .participants
            .iter()
            .filter_map(|node| self.stream_outcome(run, *node))
            .collect();
        self.phase = Phase::Idle;
        for node in all {
            self.send(node, ToNode::EndStream { stream });
            if let Some(failure) = self.members.get(&node).and_then(Member::failure) {
                let reason = failure.reason.clone();
                self.dismiss(node, reason);
            }
        }
        self.event(RunEvent::StreamDone { stream, outcomes });
        self.release_the_reported();
    }

    fn stream_outcome(&self, run: &StreamRun, node: NodeId) -> Option<(NodeInfo, Result<Received, Failure>)> {
        let member = self.members.get(&node)?;
        let outcome = match (member.failure(), run.done.get(&node)) {
            (Some(failure), _) => Err(failure.clone()),
            (None, received) => Ok(*received?),
        };
        Some((member.info.clone(), outcome))
    }
}
