//! The multicast group of a round: the nodes that get streams from it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use super::{Duration, NodeId, Phase, Reason, Run, RunEvent, StreamId, ToNode};
use crate::control::StreamGroup;
use crate::group::probe::ProbeOrder;
use crate::group::{GroupConfig, Report as GroupReport};

/// The multicast group of a round, as the driver has found it by its probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPlan {
    /// Address and port of the group.
    pub addr: SocketAddrV4,
    /// Bytes of a stream in each datagram.
    pub shard_bytes: u16,
    /// The nodes that it reaches.
    pub members: Vec<NodeId>,
}

impl GroupPlan {
    /// Returns the group of a stream to this chain, and its members. `None` if it has none.
    pub(super) fn for_chain(&self, chain: &[NodeId]) -> Option<(StreamGroup, Vec<NodeId>)> {
        let members: Vec<NodeId> = chain
            .iter()
            .copied()
            .filter(|node| self.members.contains(node))
            .collect();
        let every = GroupConfig::report_interval(members.len());
        let group = StreamGroup {
            addr: self.addr,
            sender: NodeId::SERVER,
            shard_bytes: self.shard_bytes,
            report_every_ms: u32::try_from(every.as_millis()).unwrap_or(u32::MAX),
            is_member: true,
        };
        (!members.is_empty()).then_some((group, members))
    }
}

impl Run {
    /// Returns the nodes that a probe of multicast goes to: those that take streams, and reach the server at an
    /// address of IPv4, the same for all. If the nodes are on several of the server's networks, these are the
    /// nodes of the largest. While nodes gather, these are the ones that are there.
    #[must_use]
    pub fn segment(&self) -> Option<(Ipv4Addr, Vec<NodeId>)> {
        let mut segments: BTreeMap<Ipv4Addr, Vec<NodeId>> = BTreeMap::new();
        let gathering = self.roster.in_round().filter(|_| self.roster.counted() == 0);
        let counted = self.roster.in_order();
        for member in gathering.chain(counted).filter(|member| member.is_free()) {
            if let IpAddr::V4(addr) = member.server_addr.to_canonical() {
                segments.entry(addr).or_default().push(member.info.id);
            }
        }
        segments.into_iter().max_by_key(|(_, nodes)| nodes.len())
    }

    /// Sends the server's part of a probe to a node.
    pub fn probe(&mut self, node: NodeId, order: ProbeOrder) {
        self.send(node, ToNode::Probe(order));
    }

    /// Sets the multicast group of the next streams of this round. `None`: the chain alone carries them.
    pub fn set_group(&mut self, group: Option<GroupPlan>) {
        self.group = group;
    }

    /// Handles that the sender takes a member out of the group of this stream. The node is told, and its
    /// predecessor feeds it.
    pub fn handle_group_leave(&mut self, now: Duration, stream: StreamId, node: NodeId, reason: &Reason) {
        self.tick(now);
        if self.is_streaming(stream) {
            let reason = reason.clone();
            self.send(node, ToNode::LeaveGroup { stream, reason });
        }
        self.handle_left_group(now, node, stream, reason);
    }

    /// Handles that nothing is sent to the group of this stream any more. All members leave it.
    pub fn handle_group_ended(&mut self, now: Duration, stream: StreamId, reason: &Reason) {
        self.tick(now);
        let members = match &self.phase {
            Phase::Streaming(running) if running.id() == stream => running.group_members(),
            _ => return,
        };
        self.group = None;
        for node in members {
            self.handle_group_leave(now, stream, node, reason);
        }
    }

    /// Handles that a member has left the group of this stream. It gets later streams of the round over the chain,
    /// too.
    pub(super) fn handle_left_group(
        &mut self,
        now: Duration,
        node: NodeId,
        stream: StreamId,
        reason: &Reason,
    ) {
        if self.is_streaming(stream)
            && let Some(group) = &mut self.group
        {
            group.members.retain(|member| *member != node);
        }
        self.in_stream(now, stream, |stream, _| {
            stream.handle_left_group(now, node, reason)
        });
    }

    pub(super) fn handle_group_report(
        &mut self,
        now: Duration,
        node: NodeId,
        stream: StreamId,
        report: GroupReport,
    ) {
        self.in_stream(now, stream, |stream, _| stream.handle_group_report(node, report));
    }

    /// Returns the time at which leavers of a group are told of.
    pub(super) fn leavers_due(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Streaming(stream) => stream.leavers_due(),
            _ => None,
        }
    }

    /// Tells of the nodes that left a group together.
    pub(super) fn tell_leavers(&mut self, now: Duration) {
        while let Phase::Streaming(stream) = &mut self.phase
            && let Some((nodes, reason, left)) = stream.take_leavers(now)
        {
            let infos = nodes.into_iter().filter_map(|node| self.roster.info(node));
            let event = RunEvent::LeftGroup {
                nodes: infos.collect(),
                left: u32::try_from(left).unwrap_or(u32::MAX),
                reason,
            };
            self.event(event);
        }
    }

    fn is_streaming(&self, id: StreamId) -> bool {
        matches!(&self.phase, Phase::Streaming(stream) if stream.id() == id)
    }
}
