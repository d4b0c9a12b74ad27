//! The chain of a running stream: who follows whom, and what happens when a link or a node is lost.

use super::suspects::Witness;
use super::{
    Duration, NodeId, Phase, Reason, Run, RunEvent, Side, SocketAddr, Stage, StreamId, StreamOffset,
    Successor, ToNode, ToServer,
};
use crate::auth;
use crate::control::{Peer, Relink};
use crate::link::LinkKey;

/// How often a broken link between two living nodes is made again without anything moving in between, before one of
/// them has to go: a false alarm or two on a loaded network, and one more.
pub(super) const LINK_RETRIES: u8 = 3;

/// How often a link is made again in one stream, even if it works in between. A line that breaks this often holds up
/// everybody: at a silence of 2 s, for the better part of a minute.
const LINK_REJOINS: u32 = 20;

impl Run {
    /// Where `seen_from` reaches `node`: the server has one address for each network it is on.
    pub(super) fn peer(&self, node: NodeId, seen_from: NodeId) -> Peer {
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

    /// A node that failed but still relays for those below it.
    pub(super) fn handle_relay_only(&mut self, now: Duration, node: NodeId, message: ToServer) {
        match message {
            ToServer::LinkLost {
                stream,
                side,
                offset,
                reason,
            } => self.handle_link_lost(now, node, stream, side, offset, &reason),
            ToServer::DataGone { stream, reason, .. } => self.handle_data_gone(now, node, stream, &reason),
            _ => {}
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
        let seen = reason.clone();
        self.event(RunEvent::LinkLost {
            node,
            stream,
            side,
            offset,
            reason: seen,
        });
        let heal = self.config.heal;
        let Some(run) = self.streaming(stream) else { return };
        let is_in = node == NodeId::SERVER || run.index_of(node).is_some();
        let other = if side == Side::Upstream {
            Some(run.before(node))
        } else {
            run.after(node)
        };
        if !is_in {
            return;
        }
        let witness = Witness {
            node,
            side,
            reason: reason.clone(),
        };
        match other.filter(|other| heal && *other != NodeId::SERVER) {
            Some(other) => self.suspect(now, other, Some(witness)),
            None => self.mend(now, stream, &witness),
        }
    }

    /// The neighbour that `witness` lost lives, or there is nobody to ask: their link is made again.
    pub(super) fn mend(&mut self, now: Duration, stream: StreamId, witness: &Witness) {
        let heal = self.config.heal;
        let Some(run) = self.streaming(stream) else { return };
        let node = witness.node;
        if node != NodeId::SERVER && run.index_of(node).is_none() {
            return;
        }
        match witness.side {
            Side::Downstream => {
                let next = run.after(node).filter(|_| heal);
                // Who has everything needs no link, whoever says that it is broken.
                let next = next.filter(|next| !run.is_done(*next));
                if next.is_some_and(|next| run.is_lost_too_often(next)) {
                    return self.part(now, node, next.unwrap_or_default(), &witness.reason);
                }
                self.name_successor(stream, node, next);
            }
            Side::Upstream => self.handle_upstream_lost(now, node, stream, &witness.reason),
        }
    }

    fn handle_upstream_lost(&mut self, now: Duration, node: NodeId, stream: StreamId, reason: &Reason) {
        let heal = self.config.heal;
        let Some(run) = self.streaming(stream) else { return };
        if run.is_done(node) {
            return;
        }
        let before = run.before(node);
        let remade = run.link_above(node);
        if heal && remade.retries < LINK_RETRIES && remade.rejoins < LINK_REJOINS {
            remade.retries += 1;
            remade.rejoins += 1;
            self.join_neighbours(now, stream, before, node);
            return;
        }
        self.part(now, before, node, reason);
    }

    /// Both live and cannot be linked: one of them must go. Which one is at fault is not known: it is the one above if it has
    /// cost a successor already, so that one bad node costs one good one at most.
    fn part(&mut self, now: Duration, before: NodeId, node: NodeId, reason: &Reason) {
        let heal = self.config.heal;
        let Phase::Streaming(run) = &mut self.phase else {
            return;
        };
        let strikes = run.strikes.entry(before).or_insert(0);
        *strikes += 1;
        if heal && *strikes > 1 && before != NodeId::SERVER {
            // And not those that went at its first strike.
            self.accuse(before);
            let reason = format!("its successors cannot get data from it: {reason}");
            self.lose_for_next_round(now, before, &Reason::new(reason));
            return;
        }
        let orphan_of = run.orphans.get(&node).cloned();
        self.accuse_those_above(node);
        let name = orphan_of.unwrap_or_else(|| self.name_of(before));
        self.lose_for_next_round(
            now,
            node,
            &Reason::new(format!("lost its predecessor {name}: {reason}")),
        );
    }

    pub(super) fn name_of(&self, node: NodeId) -> String {
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
        run.away.remove(&node);
        let Some(index) = run.index_of(node) else { return };
        let (stream, before, after) = (run.stream, run.before(node), run.after(node));
        run.chain.remove(index);
        if let Some(after) = after {
            let mut above = run.formerly_above.remove(&node).unwrap_or_default();
            above.push(node);
            run.formerly_above.entry(after).or_default().extend(above);
        }
        let was_branch = run.branches.remove(&node).is_some();
        run.paces.begin_anew();
        run.still.begin_anew(now);
        run.suspects.retain(|suspect| {
            suspect.node != node
                && suspect
                    .witness
                    .as_ref()
                    .is_none_or(|witness| witness.node != node)
        });
        if was_branch {
            return self.close_branch(now, stream, node, after);
        }
        match after {
            Some(after) if heal => {
                self.join_neighbours(now, stream, before, after);
            }
            Some(after) => {
                run.orphans.insert(after, name);
                self.name_successor(stream, before, None);
            }
            None => self.name_successor(stream, before, None),
        }
    }

    /// Whatever broke the chain here may have taken these two as well, and they have no link yet on which that would
    /// show: so they are asked.
    fn join_neighbours(&mut self, now: Duration, stream: StreamId, before: NodeId, after: NodeId) {
        if self.is_branch(after) {
            return self.branch_off(now, stream, after, None);
        }
        self.suspect(now, before, None);
        self.suspect(now, after, None);
        self.name_successor(stream, before, Some(after));
        self.name_predecessor(stream, after, before, None);
    }

    /// Tells `node` to get the stream from `before`, with the key of that link.
    pub(super) fn name_predecessor(
        &mut self,
        stream: StreamId,
        node: NodeId,
        before: NodeId,
        successor: Option<Successor>,
    ) {
        self.near_is_old();
        let relink = Relink {
            stream,
            predecessor: Some(self.peer(before, node)),
            predecessor_key: Some(self.link_secret(stream, node, before)),
            successor,
            successor_key: None,
        };
        self.send(node, ToNode::Relink(relink));
    }

    const fn near_is_old(&mut self) {
        if let Phase::Streaming(run) = &mut self.phase {
            run.near_is_old = true;
        }
    }

    /// The key of the link on which `from` gets the stream from `to`.
    #[must_use]
    pub fn link_key(&self, stream: StreamId, from: NodeId, to: NodeId) -> LinkKey {
        auth::link_key(&self.config.run_key, self.config.run, stream, (from, to))
    }

    pub(super) fn link_secret(&self, stream: StreamId, from: NodeId, to: NodeId) -> [u8; 32] {
        *self.link_key(stream, from, to).bytes()
    }

    pub(super) fn name_successor(&mut self, stream: StreamId, node: NodeId, next: Option<NodeId>) {
        self.near_is_old();
        let successor = next.map_or(Successor::Nobody, Successor::Node);
        if node == NodeId::SERVER {
            self.event(RunEvent::HeadSuccessor { stream, successor });
        } else {
            let successor_key = next.map(|next| self.link_secret(stream, next, node));
            self.send(
                node,
                ToNode::Relink(Relink {
                    stream,
                    predecessor: None,
                    predecessor_key: None,
                    successor: Some(successor),
                    successor_key,
                }),
            );
        }
    }
}
