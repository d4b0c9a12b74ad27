//! The nodes of a run, with their connections and their order.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::member::{Member, MemberState};
use super::{ChainPosition, ConnId, NodeId, NodeInfo};
use crate::order::OrderRule;

/// Every member, by its number. A number is given once only.
#[derive(Debug, Default)]
pub(super) struct Roster {
    members: BTreeMap<NodeId, Member>,
    connections: BTreeMap<ConnId, NodeId>,
    /// The members that were counted in when this round began, in the order of the chain.
    order: Vec<NodeId>,
    last_node: u32,
}

impl Roster {
    /// Returns a number for a node that has just come.
    pub(super) const fn next_id(&mut self) -> NodeId {
        self.last_node += 1;
        NodeId(self.last_node)
    }

    pub(super) fn insert(&mut self, member: Member) {
        let node = member.info.id;
        self.connections.extend(member.conn.map(|conn| (conn, node)));
        self.members.insert(node, member);
    }

    pub(super) fn remove(&mut self, node: NodeId) -> Option<Member> {
        self.disconnect(node);
        self.members.remove(&node)
    }

    /// Forgets the connection of a node, and returns it.
    pub(super) fn disconnect(&mut self, node: NodeId) -> Option<ConnId> {
        let conn = self.members.get_mut(&node).and_then(|member| member.conn.take());
        conn.inspect(|conn| {
            self.connections.remove(conn);
        })
    }

    pub(super) fn get(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node)
    }

    pub(super) fn get_mut(&mut self, node: NodeId) -> Option<&mut Member> {
        self.members.get_mut(&node)
    }

    pub(super) fn by_connection(&mut self, conn: ConnId) -> Option<&mut Member> {
        let node = self.connections.get(&conn)?;
        self.members.get_mut(node)
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    pub(super) fn members_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.members.values_mut()
    }

    /// Returns the members that have a connection.
    pub(super) fn connected(&self) -> impl Iterator<Item = &Member> {
        self.members().filter(|member| member.conn.is_some())
    }

    /// Returns the numbers of all members.
    pub(super) fn ids(&self) -> Vec<NodeId> {
        self.members.keys().copied().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Returns the number of members, as the nodes and the operator see it.
    pub(super) fn present(&self) -> u32 {
        u32::try_from(self.members.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn info(&self, node: NodeId) -> Option<NodeInfo> {
        self.get(node).map(|member| member.info.clone())
    }

    /// Returns the name of a node, for the operator.
    pub(super) fn name_of(&self, node: NodeId) -> String {
        self.get(node)
            .map_or_else(|| "the server".to_owned(), |member| member.info.name.to_string())
    }

    /// True if the node is a member that has not failed.
    pub(super) fn is_active(&self, node: NodeId) -> bool {
        self.get(node).is_some_and(Member::is_active)
    }

    /// True if the node is a member that has failed. It may still relay a stream.
    pub(super) fn has_failed(&self, node: NodeId) -> bool {
        self.get(node).is_some_and(|member| !member.is_active())
    }

    pub(super) fn is_released(&self, node: NodeId) -> bool {
        let state = self.get(node).map(|member| &member.state);
        matches!(state, Some(MemberState::Reported { released: true, .. }))
    }

    pub(super) fn set_state(&mut self, node: NodeId, state: MemberState) {
        if let Some(member) = self.get_mut(node) {
            member.state = state;
        }
    }

    /// Fixes the order by a rule. Accused addresses come last.
    pub(super) fn fix_order(&mut self, rule: &OrderRule<'_>, is_accused: impl Fn(IpAddr) -> bool) {
        let infos: Vec<&NodeInfo> = self.members.values().map(|member| &member.info).collect();
        let candidates: Vec<_> = infos.iter().map(|info| info.candidate()).collect();
        let mut order: Vec<&NodeInfo> = rule
            .order(&candidates)
            .into_iter()
            .map(|index| infos[index])
            .collect();
        order.sort_by_key(|info| is_accused(info.addr.ip()));
        self.order = order.into_iter().map(|info| info.id).collect();
        for (position, node) in (1..).zip(&self.order) {
            if let Some(member) = self.members.get_mut(node) {
                member.info.position = ChainPosition(position);
            }
        }
    }

    pub(super) fn clear_order(&mut self) {
        self.order.clear();
    }

    /// Returns the members that were counted in, in order.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &Member> {
        self.order.iter().filter_map(|node| self.members.get(node))
    }

    /// Returns the number of nodes that were counted in.
    pub(super) fn counted(&self) -> usize {
        self.order.len()
    }

    /// Returns the nodes that have not failed, in order.
    pub(super) fn active(&self) -> Vec<NodeId> {
        let active = self.in_order().filter(|member| member.is_active());
        active.map(|member| member.info.id).collect()
    }

    /// Returns the members that take part in the round, or did.
    pub(super) fn in_round(&self) -> impl Iterator<Item = &Member> {
        self.members().filter(|member| !member.is_queued())
    }

    /// Returns the members that wait for the next round.
    pub(super) fn queued(&self) -> impl Iterator<Item = &Member> {
        self.members().filter(|member| member.is_queued())
    }
}
