//! One stream of a run: the chain, its repair, and its end.

use std::collections::BTreeMap;

use super::member::MemberState;
use super::{
    ChainPosition, Duration, Failure, HeadStream, Member, NodeId, NodeInfo, Phase, Progress, Reason,
    Received, Run, RunError, RunEvent, Side, SocketAddr, Stage, StreamId, StreamName, StreamOffset,
    Successor, ToNode, ToServer,
};
use crate::auth;
use crate::control::{OpenStream, Peer, Relink};

/// How often a broken link between two living nodes is made again before one of them has to go.
const LINK_RETRIES: u8 = 1;

#[derive(Debug)]
pub(super) struct StreamRun {
    stream: StreamId,
    /// Who takes part in relaying now, in order.
    chain: Vec<NodeId>,
    /// Who was in it at the start, in order.
    participants: Vec<NodeId>,
    done: BTreeMap<NodeId, Received>,
    consumed: BTreeMap<NodeId, StreamOffset>,
    retries: BTreeMap<NodeId, u8>,
    /// How many successors had to go because they could not be linked to this node.
    strikes: BTreeMap<NodeId, u32>,
    /// Whose predecessor was lost and not replaced, and what it was called.
    orphans: BTreeMap<NodeId, String>,
    produced: StreamOffset,
    head_ended: bool,
    moved_at: Duration,
    stall: Duration,
}

impl StreamRun {
    pub(super) const fn stream(&self) -> StreamId {
        self.stream
    }

    pub(super) fn is_done(&self, node: NodeId) -> bool {
        self.done.contains_key(&node)
    }

    /// When to look whether anything has moved.
    pub(super) fn deadline(&self) -> Duration {
        self.moved_at + self.stall
    }

    fn note_progress(&mut self, now: Duration, node: NodeId, consumed: StreamOffset) {
        if self.consumed.insert(node, consumed) != Some(consumed) {
            self.moved_at = now;
            self.retries.remove(&node);
        }
    }

    fn consumed(&self, node: NodeId) -> StreamOffset {
        self.consumed.get(&node).copied().unwrap_or_default()
    }

    /// Whether a node has something left to do. While nobody has, it is the producer that is slow, and it may be.
    fn is_behind(&self, node: NodeId) -> bool {
        !self.is_done(node) && (self.head_ended || self.consumed(node) < self.produced)
    }

    fn index_of(&self, node: NodeId) -> Option<usize> {
        self.chain.iter().position(|&other| other == node)
    }

    fn before(&self, node: NodeId) -> NodeId {
        let before = self.index_of(node).and_then(|index| index.checked_sub(1));
        before
            .and_then(|index| self.chain.get(index))
            .copied()
            .unwrap_or(NodeId::SERVER)
    }

    fn after(&self, node: NodeId) -> Option<NodeId> {
        let index = if node == NodeId::SERVER {
            0
        } else {
            self.index_of(node)? + 1
        };
        self.chain.get(index).copied()
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
                .is_some_and(|m| matches!(m.state, MemberState::Waiting))
        });
        let Some(&successor) = chain.first() else {
            return Err(RunError::NobodyLeft);
        };
        self.streams_opened += 1;
        let stream = StreamId(self.streams_opened);
        let key = auth::stream_key(&self.config.run_key, self.config.run, stream);
        self.phase = Phase::Streaming(StreamRun {
            stream,
            participants: chain.clone(),
            chain: chain.clone(),
            done: BTreeMap::new(),
            consumed: BTreeMap::new(),
            retries: BTreeMap::new(),
            strikes: BTreeMap::new(),
            orphans: BTreeMap::new(),
            produced: StreamOffset(0),
            head_ended: false,
            moved_at: now,
            stall: self.config.timeouts.stall,
        });
        for (index, (&node, position)) in chain.iter().zip(1..).enumerate() {
            let before = index.checked_sub(1).and_then(|before| chain.get(before)).copied();
            let open = OpenStream {
                stream,
                name: name.clone(),
                key,
                position: ChainPosition(position),
                predecessor: self.peer(before.unwrap_or(NodeId::SERVER), node),
                successor: chain.get(index + 1).copied(),
                resume_from: StreamOffset(0),
                tolerance: self.config.tolerance,
            };
            self.send(node, ToNode::OpenStream(open));
        }
        Ok(HeadStream {
            stream,
            key,
            successor,
        })
    }

    /// Where `seen_from` reaches `node`: the server has one address for each network it is on.
    fn peer(&self, node: NodeId, seen_from: NodeId) -> Peer {
        let addr = if node == NodeId::SERVER {
            let server = self.members.get(&seen_from).map(|member| member.server_addr);
            server.map(|ip| SocketAddr::new(ip, self.config.data_port))
        } else {
            self.members.get(&node).map(|member| member.info.addr)
        };
        Peer {
            node,
            addr: addr.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0))),
        }
    }

    fn streaming(&mut self, stream: StreamId) -> Option<&mut StreamRun> {
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
        if (run.produced, run.head_ended) != (produced, ended) {
            (run.produced, run.head_ended) = (produced, ended);
            run.moved_at = now;
        }
    }

    /// The head's relay lost its successor.
    pub fn handle_head_link_lost(
        &mut self,
        now: Duration,
        stream: StreamId,
        offset: StreamOffset,
        reason: &Reason,
    ) {
        self.handle_link_lost(now, NodeId::SERVER, stream, Side::Downstream, offset, reason);
    }

    pub(super) fn handle_progress(&mut self, now: Duration, node: NodeId, progress: Progress) {
        if let Some(run) = self.streaming(progress.stream) {
            run.note_progress(now, node, progress.consumed);
            self.event(RunEvent::Progress { node, progress });
        }
    }

    pub(super) fn handle_stream_done(
        &mut self,
        now: Duration,
        node: NodeId,
        stream: StreamId,
        received: Received,
    ) {
        if let Some(run) = self.streaming(stream) {
            run.moved_at = now;
            run.done.insert(node, received);
            self.finish_stream();
        }
    }

    /// A node that failed but still relays for those below it.
    pub(super) fn handle_relay_only(&mut self, now: Duration, node: NodeId, message: ToServer) {
        if let ToServer::LinkLost {
            stream,
            side,
            offset,
            reason,
        } = message
        {
            self.handle_link_lost(now, node, stream, side, offset, &reason);
        }
    }

    /// Whether a node that says that it failed in `stage` has the running stream's relay open. One that failed before
    /// it was told of this stream has not, and never will.
    pub(super) fn is_relay(&self, node: NodeId, stage: Stage) -> bool {
        let Phase::Streaming(run) = &self.phase else {
            return false;
        };
        run.index_of(node).is_some() && (stage == Stage::Stream(run.stream) || run.is_done(node))
    }

    pub(super) fn handle_link_lost(
        &mut self,
        now: Duration,
        node: NodeId,
        stream: StreamId,
        side: Side,
        offset: StreamOffset,
        reason: &Reason,
    ) {
        self.event(RunEvent::LinkLost {
            node,
            stream,
            side,
            offset,
            reason: reason.clone(),
        });
        let heal = self.config.heal;
        let Some(run) = self.streaming(stream) else { return };
        match side {
            Side::Downstream => {
                let next = run.after(node).filter(|_| heal);
                self.name_successor(stream, node, next);
            }
            Side::Upstream if run.index_of(node).is_none() => {}
            Side::Upstream => self.handle_upstream_lost(now, node, stream, reason),
        }
    }

    fn handle_upstream_lost(&mut self, now: Duration, node: NodeId, stream: StreamId, reason: &Reason) {
        let heal = self.config.heal;
        let Some(run) = self.streaming(stream) else { return };
        let before = run.before(node);
        let tries = run.retries.entry(node).or_insert(0);
        if heal && *tries < LINK_RETRIES {
            *tries += 1;
            self.join_neighbours(stream, before, node);
            return;
        }
        // One of the two must go, and which one is at fault is not known: it is the one above if it is silent or has
        // cost a successor already, so that one bad node costs one good one at most.
        let repeated = run.strikes.get(&before).is_some_and(|strikes| *strikes > 0);
        if heal && (repeated || self.is_quiet(now, before)) && before != NodeId::SERVER {
            self.lose(
                now,
                before,
                &Reason::new(format!("its successors cannot get data from it: {reason}")),
            );
            return;
        }
        let Some(run) = self.streaming(stream) else { return };
        *run.strikes.entry(before).or_insert(0) += 1;
        let orphan_of = run.orphans.get(&node).cloned();
        let name = orphan_of.unwrap_or_else(|| self.name_of(before));
        self.lose(
            now,
            node,
            &Reason::new(format!("lost its predecessor {name}: {reason}")),
        );
    }

    /// Whether a node missed answers that it should have given by now.
    fn is_quiet(&self, now: Duration, node: NodeId) -> bool {
        let allowed = self.config.heartbeat * 4;
        self.members
            .get(&node)
            .is_some_and(|member| now >= member.heard + allowed)
    }

    fn name_of(&self, node: NodeId) -> String {
        self.members
            .get(&node)
            .map_or_else(|| "the server".to_owned(), |member| member.info.name.to_string())
    }

    /// A node left the chain: its neighbours are joined, or the one above goes on without a successor and the one
    /// below finds out by itself, for it may already have everything.
    pub(super) fn leave_chain(&mut self, now: Duration, node: NodeId) {
        let (heal, name) = (self.config.heal, self.name_of(node));
        let Phase::Streaming(run) = &mut self.phase else {
            return;
        };
        let Some(index) = run.index_of(node) else { return };
        let (stream, before, after) = (run.stream, run.before(node), run.after(node));
        run.chain.remove(index);
        run.moved_at = now;
        match after {
            Some(after) if heal => self.join_neighbours(stream, before, after),
            Some(after) => {
                run.orphans.insert(after, name);
                self.name_successor(stream, before, None);
            }
            None => self.name_successor(stream, before, None),
        }
    }

    fn join_neighbours(&mut self, stream: StreamId, before: NodeId, after: NodeId) {
        self.name_successor(stream, before, Some(after));
        let predecessor = Some(self.peer(before, after));
        self.send(
            after,
            ToNode::Relink(Relink {
                stream,
                predecessor,
                successor: None,
            }),
        );
    }

    fn name_successor(&mut self, stream: StreamId, node: NodeId, next: Option<NodeId>) {
        let successor = next.map_or(Successor::Nobody, Successor::Node);
        if node == NodeId::SERVER {
            self.event(RunEvent::HeadSuccessor { stream, successor });
        } else {
            self.send(
                node,
                ToNode::Relink(Relink {
                    stream,
                    predecessor: None,
                    successor: Some(successor),
                }),
            );
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
        let (stream, chain) = (run.stream, run.chain.clone());
        let outcomes = run
            .participants
            .iter()
            .filter_map(|node| self.stream_outcome(run, *node))
            .collect();
        self.phase = Phase::Idle;
        for node in chain {
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

    /// Nothing moved for too long: those that are behind are out, each with the place where it stopped.
    pub(super) fn stream_timeout(&mut self, now: Duration) {
        let Phase::Streaming(run) = &mut self.phase else {
            return;
        };
        run.moved_at = now;
        let behind = run
            .participants
            .iter()
            .copied()
            .filter(|node| run.is_behind(*node));
        let behind: Vec<_> = behind.map(|node| (node, run.consumed(node))).collect();
        let stall = run.stall.as_secs_f32();
        for (node, consumed) in behind {
            let reason = format!("nothing moved for {stall} s; it was at byte {consumed} of the stream");
            self.lose(now, node, &Reason::new(reason));
        }
    }
}
