//! The chain of a running stream: who follows whom, and what happens when a link or a node is lost.

use super::{
    Duration, NodeId, Phase, Reason, Run, RunEvent, Side, SocketAddr, Stage, StreamId, StreamOffset,
    Successor, ToNode, ToServer,
};
use crate::control::{Peer, Relink};

/// How often a broken link between two living nodes is made again before one of them has to go.
const LINK_RETRIES: u8 = 1;

/// A node that has not answered for this many pings, of which each is answered at once, is quiet.
const QUIET_PINGS: u32 = 4;

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
        // Two witnesses are enough: a neighbour hears nothing, and neither do we.
        if let Some(other) = other.filter(|other| is_in && heal && self.is_quiet(now, *other)) {
            let reason = format!(
                "neither {} nor the server hears from it: {reason}",
                self.name_of(node)
            );
            self.lose_for_next_round(now, other, &Reason::new(reason));
            return;
        }
        match side {
            Side::Downstream => self.name_successor(stream, node, other.filter(|_| heal)),
            Side::Upstream if is_in => self.handle_upstream_lost(now, node, stream, reason),
            Side::Upstream => {}
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
        // Both live, and one of them must go. Which one is at fault is not known: it is the one above if it has cost a
        // successor already, so that one bad node costs one good one at most.
        let strikes = run.strikes.entry(before).or_insert(0);
        *strikes += 1;
        if heal && *strikes > 1 && before != NodeId::SERVER {
            let reason = format!("its successors cannot get data from it: {reason}");
            self.lose_for_next_round(now, before, &Reason::new(reason));
            return;
        }
        let orphan_of = run.orphans.get(&node).cloned();
        let name = orphan_of.unwrap_or_else(|| self.name_of(before));
        self.lose_for_next_round(
            now,
            node,
            &Reason::new(format!("lost its predecessor {name}: {reason}")),
        );
    }

    /// Whether a node missed answers that it should have given by now.
    fn is_quiet(&self, now: Duration, node: NodeId) -> bool {
        let allowed = self.config.heartbeat * QUIET_PINGS;
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
}
