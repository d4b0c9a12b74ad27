//! Streams of a run. The orders of [`Stream`] are carried out here, with the addresses, keys and connections
//! that it does not know.

use super::member::Member;
use super::roster::Roster;
use super::stream::{Effect, Effects, Near, Policy, Stream, StreamConfig, Suspect, Witness};
use super::{
    ChainPosition, Duration, Failure, HeadOrder, HeadStream, NodeId, NodeInfo, Phase, Progress, Reason,
    ReceivedStream, Run, RunError, RunEvent, RunResult, Side, SocketAddr, StreamId, StreamName, StreamOffset,
    Successor, ToNode,
};
use crate::auth;
use crate::control::{OpenStream, Peer, Relink, StreamGroup};
use crate::link::{LinkKey, ReceiptKey, ReceiptKeys};
use crate::pace::Pace;

/// One end of a data connection, as its node or the head reports it.
#[derive(Debug, Clone, Copy)]
pub(super) struct LinkEnd {
    /// The node that reports; [`NodeId::SERVER`] is the head.
    node: NodeId,
    stream: StreamId,
    /// The neighbour's side.
    side: Side,
    /// Offset at which data goes on, or up to which it came.
    offset: StreamOffset,
}

impl LinkEnd {
    pub(super) const fn new(node: NodeId, stream: StreamId, side: Side, offset: StreamOffset) -> Self {
        Self {
            node,
            stream,
            side,
            offset,
        }
    }
}

/// The beginning and the end of a stream.
impl Run {
    /// Opens the next stream to every node that is still in. Ends with [`RunResult::StreamDone`].
    ///
    /// # Errors
    /// [`RunError`] while another command is under way, or if no node is left.
    pub fn open_stream(&mut self, now: Duration, name: &StreamName) -> Result<HeadStream, RunError> {
        let nodes = self.ready_for("open_stream")?;
        let is_free = |node: &NodeId| self.roster.get(*node).is_some_and(Member::is_free);
        let chain: Vec<NodeId> = nodes.into_iter().filter(is_free).collect();
        let Some(&successor) = chain.first() else {
            return Err(RunError::NobodyLeft);
        };
        let id = self.rounds.open_stream();
        let key = auth::stream_key(&self.config.run_key, self.config.run, id);
        let group = self.group.as_ref().and_then(|group| group.for_chain(&chain));
        let members = group.as_ref().map_or(Vec::new(), |(_, members)| members.clone());
        let config = StreamConfig {
            members: members.clone(),
            name: name.clone(),
            tolerance: self.config.tolerance,
            is_kept: self.config.spool,
            stall: self.config.timeouts.stall,
        };
        let stream = Stream::new(now, id, chain.clone(), config);
        for (index, (&node, position)) in chain.iter().zip(1..).enumerate() {
            let before = index.checked_sub(1).and_then(|before| chain.get(before)).copied();
            let before = before.unwrap_or(NodeId::SERVER);
            let after = chain.get(index + 1).copied();
            let open = OpenStream {
                stream: id,
                name: name.clone(),
                key,
                position: ChainPosition(position),
                predecessor: self.peer(before, node),
                predecessor_key: self.link_secret(id, node, before),
                successor: after,
                successor_key: after.map(|after| self.link_secret(id, after, node)),
                resume_from: StreamOffset(0),
                receipts: self.receipt_keys(id, node, stream.near(node)),
                cipher: self.config.cipher,
                silence_ms: u32::try_from(self.config.link_silence.as_millis()).unwrap_or(u32::MAX),
                spooled: self.config.spool,
                group: group.as_ref().map(|(group, _)| StreamGroup {
                    is_member: members.contains(&node),
                    ..*group
                }),
            };
            self.send(node, ToNode::OpenStream(open));
        }
        let receipts = self.receipt_keys(id, NodeId::SERVER, stream.near(NodeId::SERVER));
        self.phase = Phase::Streaming(Box::new(stream));
        Ok(HeadStream {
            stream: id,
            key,
            successor,
            receipts,
            group,
        })
    }

    /// Ends the stream if all its nodes are done or failed.
    pub(super) fn finish_stream(&mut self) {
        let Phase::Streaming(stream) = &self.phase else {
            return;
        };
        let roster = &self.roster;
        if !stream.is_over(|node| roster.get(node).and_then(Member::failure).is_some()) {
            return;
        }
        self.tell_leavers(Duration::MAX);
        let Phase::Streaming(stream) = &self.phase else {
            return;
        };
        // Also nodes that were away when it ended, and have no place again.
        let (id, all) = (stream.id(), stream.participants().to_vec());
        let outcomes = all
            .iter()
            .filter_map(|node| stream_outcome(&self.roster, stream, *node))
            .collect();
        self.phase = Phase::Idle;
        for node in all {
            self.send(node, ToNode::EndStream { stream: id });
            if let Some(failure) = self.roster.get(node).and_then(Member::failure) {
                let reason = failure.reason.clone();
                self.dismiss(node, reason);
            }
        }
        self.result(RunResult::StreamDone { stream: id, outcomes });
        self.release_the_reported();
    }
}

fn stream_outcome(
    roster: &Roster,
    stream: &Stream,
    node: NodeId,
) -> Option<(NodeInfo, Result<ReceivedStream, Failure>)> {
    let member = roster.get(node)?;
    let outcome = match member.failure() {
        Some(failure) => Err(failure.clone()),
        None => Ok(stream.received(node)?),
    };
    Some((member.info.clone(), outcome))
}

/// Reports about a stream, from its head and from nodes.
impl Run {
    /// Takes in the bytes that the head has produced, and its end.
    pub fn handle_head_progress(
        &mut self,
        now: Duration,
        stream: StreamId,
        produced: StreamOffset,
        ended: bool,
    ) {
        self.in_stream(now, stream, |stream, _| {
            stream.handle_head_progress(now, produced, ended);
            Effects::new()
        });
    }

    /// Takes in the use of the head's time since the last report.
    pub fn handle_head_pace(&mut self, now: Duration, stream: StreamId, produced: StreamOffset, pace: Pace) {
        self.in_stream(now, stream, |stream, _| {
            stream.handle_head_pace(now, produced, pace);
            Effects::new()
        });
    }

    /// Handles that the head's relay lost its successor.
    pub fn handle_head_link_lost(
        &mut self,
        now: Duration,
        stream: StreamId,
        offset: StreamOffset,
        reason: &Reason,
    ) {
        self.tick(now);
        let end = LinkEnd::new(NodeId::SERVER, stream, Side::Downstream, offset);
        self.handle_link_lost(now, end, reason);
    }

    /// Handles that the head that fed this node from the spool lost it, or could not reach it.
    pub fn handle_branch_lost(&mut self, now: Duration, stream: StreamId, node: NodeId) {
        self.tick(now);
        self.in_stream(now, stream, |stream, _| stream.handle_branch_lost(node));
    }

    /// Handles that this stream and later ones are kept no longer. The nodes that were fed from the spool,
    /// and those that are awaited, go to the next round.
    pub fn handle_spool_lost(&mut self, now: Duration, reason: &Reason) {
        self.tick(now);
        self.config.spool = false;
        self.in_any_stream(now, |stream, _| stream.handle_spool_lost(reason));
    }

    pub(super) fn handle_progress(&mut self, now: Duration, node: NodeId, progress: Progress) {
        self.in_stream(now, progress.stream, |stream, _| {
            stream.handle_progress(now, node, progress)
        });
    }

    pub(super) fn handle_stream_done(
        &mut self,
        now: Duration,
        node: NodeId,
        stream: StreamId,
        received: ReceivedStream,
    ) {
        self.in_stream(now, stream, |stream, _| {
            stream.handle_done(node, received);
            Effects::new()
        });
        self.finish_stream();
    }

    pub(super) fn handle_link_up(&mut self, now: Duration, end: LinkEnd) {
        self.in_stream(now, end.stream, |stream, _| {
            stream.handle_link_up(end.node, end.side, end.offset)
        });
        self.event(RunEvent::LinkUp {
            node: end.node,
            stream: end.stream,
            side: end.side,
            offset: end.offset,
        });
    }

    pub(super) fn handle_link_lost(&mut self, now: Duration, end: LinkEnd, reason: &Reason) {
        self.event(RunEvent::LinkLost {
            node: end.node,
            stream: end.stream,
            side: end.side,
            offset: end.offset,
            reason: reason.clone(),
        });
        let witness = Witness {
            node: end.node,
            side: end.side,
            reason: reason.clone(),
        };
        self.in_stream(now, end.stream, |stream, roster| {
            stream.handle_link_lost(now, roster, witness)
        });
    }

    pub(super) fn handle_data_gone(
        &mut self,
        now: Duration,
        node: NodeId,
        stream: StreamId,
        reason: &Reason,
    ) {
        self.in_stream(now, stream, |stream, roster| {
            stream.handle_data_gone(now, node, roster.is_active(node), reason)
        });
    }

    /// Handles the answer to the ping of this number, which is the time of the ping in whole milliseconds.
    pub(super) fn answered(&mut self, now: Duration, node: NodeId, number: u64) {
        let pinged_at = Duration::from_millis(number);
        self.in_any_stream(now, |stream, _| stream.handle_pong(now, node, pinged_at));
    }

    /// Clears a node that sent a message. It lives, and the links that others lost to it are made again.
    pub(super) fn acquit(&mut self, now: Duration, node: NodeId) {
        let Phase::Streaming(stream) = &mut self.phase else {
            return;
        };
        let id = stream.id();
        // One after another, because the effects for one may part the next one from this node.
        for witness in stream.acquit(node) {
            self.in_stream(now, id, |stream, roster| {
                stream.mend_between(now, roster, node, &witness)
            });
        }
    }

    /// Takes a node that left the run out of the chain of the running stream.
    pub(super) fn leave_chain(&mut self, now: Duration, node: NodeId) {
        self.in_any_stream(now, |stream, _| stream.remove(now, node));
    }

    /// Accuses the nodes that the data of `node` came through in its stream. They may be the reason why it
    /// lost its place.
    pub(super) fn accuse_those_above(&mut self, node: NodeId) {
        let Phase::Streaming(stream) = &self.phase else {
            return;
        };
        for node in stream.above(node) {
            self.accuse(node);
        }
    }

    fn accuse(&mut self, node: NodeId) {
        if let Some(member) = self.roster.get(node) {
            self.accused.add(member.info.addr.ip());
        }
    }
}

/// Time in a stream.
impl Run {
    /// Finds the node that holds up the chain.
    pub(super) fn judge_paces(&mut self, now: Duration) {
        let policy = Policy {
            min_rate: self.config.min_rate,
            // Data that the nodes below miss is kept only if lost neighbours are tolerated at all.
            may_set_aside: self.config.tolerance > 0 && self.roster.active().len() > 1,
        };
        self.in_any_stream(now, |stream, _| stream.judge_paces(now, policy));
    }

    /// Finds nodes that stand still.
    pub(super) fn stream_timeout(&mut self, now: Duration) {
        let report = self.config.timeouts.report;
        self.in_any_stream(now, |stream, roster| stream.look_for_still(now, roster, report));
    }

    /// Returns the time at which the first suspect will have been silent for too long.
    pub(super) fn suspects_due(&self) -> Option<Duration> {
        let Phase::Streaming(stream) = &self.phase else {
            return None;
        };
        let due = stream.suspects().map(|suspect| self.quiet_at(suspect));
        due.min().filter(|_| !self.is_cut_off(self.last_call))
    }

    /// True if the server hears no node at all. Then the server is cut off, and no node is to blame. If it
    /// lasts, the control silence decides.
    fn is_cut_off(&self, now: Duration) -> bool {
        let mut connected = self.roster.connected();
        !connected.any(|member| now < self.quiet_at(member.info.id))
    }

    /// Returns the time at which a node will have been silent towards the server for as long as a link may
    /// be. The server has not heard words yet that were sent while it was away.
    fn quiet_at(&self, node: NodeId) -> Duration {
        let heard = self.roster.get(node).map(|member| member.heard);
        heard.unwrap_or_default().max(self.awake_since) + self.config.link_silence
    }

    /// Judges the suspects. Two witnesses are enough: a neighbour hears nothing, and neither does the server.
    pub(super) fn judge_suspects(&mut self, now: Duration) {
        while let Some(Suspect { node, witness }) = self.silent_suspect(now) {
            let silence = self.config.link_silence.as_secs_f32();
            let reason = match witness {
                None => format!("the server has heard nothing from it for {silence} s"),
                Some(witness) => {
                    let by = self.roster.name_of(witness.node);
                    format!("neither {by} nor the server hears from it: {}", witness.reason)
                }
            };
            self.lose_or_await(now, node, &Reason::new(reason));
        }
    }

    /// Takes out the first suspect that the server does not hear either.
    fn silent_suspect(&mut self, now: Duration) -> Option<Suspect> {
        let Phase::Streaming(stream) = &self.phase else {
            return None;
        };
        let is_silent = |node: &NodeId| now >= self.quiet_at(*node);
        let node = stream
            .suspects()
            .find(is_silent)
            .filter(|_| !self.is_cut_off(now))?;
        let Phase::Streaming(stream) = &mut self.phase else {
            return None;
        };
        stream.take_suspect(|suspect| suspect == node)
    }

    /// Handles a silent node. If the spool has the data that it misses, the node may come back. Otherwise it
    /// is lost at once.
    fn lose_or_await(&mut self, now: Duration, node: NodeId, reason: &Reason) {
        let may_wait = matches!(&self.phase, Phase::Streaming(stream) if stream.may_await(node));
        if may_wait && self.roster.is_active(node) {
            self.in_any_stream(now, |stream, _| stream.await_node(now, node, reason));
        } else {
            self.lose_for_next_round(now, node, reason);
        }
    }
}

/// The running stream, and its effects.
impl Run {
    /// Calls this stream, if it runs, and carries out its effects.
    pub(super) fn in_stream(
        &mut self,
        now: Duration,
        id: StreamId,
        tell: impl FnOnce(&mut Stream, &Roster) -> Effects,
    ) {
        if matches!(&self.phase, Phase::Streaming(stream) if stream.id() == id) {
            self.in_any_stream(now, tell);
        }
    }

    /// Calls the running stream, if there is one, and carries out its effects.
    fn in_any_stream(&mut self, now: Duration, tell: impl FnOnce(&mut Stream, &Roster) -> Effects) {
        let Phase::Streaming(stream) = &mut self.phase else {
            return;
        };
        let id = stream.id();
        for effect in tell(stream, &self.roster) {
            self.carry_out(now, id, effect);
        }
    }

    fn carry_out(&mut self, now: Duration, stream: StreamId, effect: Effect) {
        match effect {
            Effect::Ping(node) => self.ping_node(now, node),
            Effect::Predecessor {
                node,
                predecessor,
                successor,
            } => self.name_predecessor(stream, node, predecessor, successor),
            Effect::Successor { node, successor } => self.name_successor(stream, node, successor),
            Effect::Hold { node, millis } => self.send(node, ToNode::Hold { stream, millis }),
            Effect::LeaveGroup { node, reason } => self.send(node, ToNode::LeaveGroup { stream, reason }),
            Effect::Head(order) => self.head(order),
            Effect::Event(event) => self.event(event),
            Effect::Away { node, reason } => {
                let silence = self.config.silence;
                let info = self.roster.info(node);
                let event = info.map(|node| RunEvent::NodeAway {
                    node,
                    reason,
                    silence,
                });
                self.outputs.extend(event.map(super::RunOutput::Event));
            }
            Effect::Rejoined { node, stream, offset } => {
                let info = self.roster.info(node);
                let event = info.map(|node| RunEvent::NodeRejoined { node, stream, offset });
                self.outputs.extend(event.map(super::RunOutput::Event));
            }
            Effect::Accuse(node) => self.accuse(node),
            Effect::SetAside(node) => {
                if let Some(info) = self.roster.info(node) {
                    self.rounds.set_aside(info.identity());
                }
            }
            Effect::Lose { node, reason } => self.lose_for_next_round(now, node, &reason),
        }
    }

    /// Tells `node` to get the stream from `before`, with the key of that link.
    fn name_predecessor(
        &mut self,
        stream: StreamId,
        node: NodeId,
        before: NodeId,
        successor: Option<Successor>,
    ) {
        let relink = Relink {
            stream,
            predecessor: Some(self.peer(before, node)),
            predecessor_key: Some(self.link_secret(stream, node, before)),
            successor,
            successor_key: None,
        };
        self.send(node, ToNode::Relink(relink));
    }

    fn name_successor(&mut self, stream: StreamId, node: NodeId, next: Option<NodeId>) {
        let successor = next.map_or(Successor::Nobody, Successor::Node);
        if node == NodeId::SERVER {
            return self.head(HeadOrder::Successor { stream, successor });
        }
        let relink = Relink {
            stream,
            predecessor: None,
            predecessor_key: None,
            successor: Some(successor),
            successor_key: next.map(|next| self.link_secret(stream, next, node)),
        };
        self.send(node, ToNode::Relink(relink));
    }

    /// Tells nodes about changes among the nodes near to them.
    pub(super) fn tell_near(&mut self) {
        let Phase::Streaming(running) = &mut self.phase else {
            return;
        };
        let stream = running.id();
        for (node, near) in running.take_changed_near() {
            let keys = self.receipt_keys(stream, node, Some(&near));
            if node == NodeId::SERVER {
                self.head(HeadOrder::Receipts { stream, keys });
            } else {
                self.send(node, ToNode::Receipts { stream, keys });
            }
        }
    }

    /// Returns the address at which `seen_from` reaches `node`. The server has one for each of its networks.
    fn peer(&self, node: NodeId, seen_from: NodeId) -> Peer {
        let addr = if node == NodeId::SERVER {
            let server = self.roster.get(seen_from).map(|member| member.server_addr);
            server.map(|ip| SocketAddr::new(ip, self.config.data_port))
        } else {
            self.roster.get(node).map(|member| member.info.addr)
        };
        Peer {
            node,
            addr: addr.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0))),
        }
    }

    /// Returns the key of the link on which `from` gets the stream from `to`.
    #[must_use]
    pub fn link_key(&self, stream: StreamId, from: NodeId, to: NodeId) -> LinkKey {
        let (run_key, run) = (&self.config.run_key, self.config.run);
        LinkKey::new(auth::link_key(run_key, run, stream, (from, to)), run, stream)
    }

    fn link_secret(&self, stream: StreamId, from: NodeId, to: NodeId) -> [u8; 32] {
        *self.link_key(stream, from, to).bytes()
    }

    /// Returns the key of the receipts that `from` gives to `to`.
    pub(crate) fn receipt_key(&self, stream: StreamId, from: NodeId, to: NodeId) -> [u8; 32] {
        auth::receipt_key(&self.config.run_key, self.config.run, stream, (from, to))
    }

    /// Returns the keys of a node's receipts.
    fn receipt_keys(&self, stream: StreamId, node: NodeId, near: Option<&Near>) -> ReceiptKeys {
        let Some(near) = near else {
            return ReceiptKeys::default();
        };
        let key = |other: NodeId, (from, to)| ReceiptKey {
            node: other,
            key: self.receipt_key(stream, from, to),
        };
        let (above, below) = (near.above.iter(), near.below.iter());
        ReceiptKeys {
            above: above.map(|&above| key(above, (node, above))).collect(),
            below: below.map(|&below| key(below, (below, node))).collect(),
        }
    }
}
