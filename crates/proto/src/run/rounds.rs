//! Rounds: who is late or comes back waits, connected, until this round is over, and takes part in the next one.
//!
//! A round is one run with its own number, keys and streams; the machine, its connections and the numbers of its nodes
//! go on. Those that wait are members without a place in the order: they are pinged and may leave, and nothing that
//! runs sees them.

use super::member::MemberState;
use super::{
    ChainPosition, ConnId, Duration, Join, Member, NodeId, NodeInfo, Phase, Reason, Run, RunError, RunEvent,
    RunOutput, SocketAddr, ToNode,
};
use crate::identity::Identity;
use crate::ids::{MacAddr, RunId};

/// How much longer than others those have to come back that were set aside: they live, and unmount first, which writes back
/// what the kernel took of a stream that was faster than their disks.
const SLOW_GRACE: Duration = Duration::from_secs(160);

impl Run {
    /// Begins the next round with those that wait; ends with [`RunEvent::Gathered`] as soon as everybody is there who
    /// was told to come back, or after `grace` with whoever is there. With nobody it ends with
    /// [`RunEvent::NobodyCame`], and the run is over.
    ///
    /// # Errors
    /// [`RunError`] while something is going on, after [`Self::abort`], or after the last round.
    pub fn next_round(
        &mut self,
        now: Duration,
        run: RunId,
        run_key: [u8; 32],
        grace: Duration,
    ) -> Result<(), RunError> {
        let is_between = matches!(self.phase, Phase::Idle | Phase::Over);
        let may_follow = self.config.round < self.config.rounds || self.has_clones_waiting();
        if self.ended || !is_between || !may_follow {
            return Err(RunError::WrongPhase {
                command: "next_round",
            });
        }
        self.leave_round();
        let config = &mut self.config;
        (config.run, config.run_key, config.wanted) = (run, run_key, None);
        config.round += 1;
        self.streams_before += std::mem::take(&mut self.streams_opened);
        self.next_ping = self.next_ping.min(now + self.config.heartbeat);
        self.phase = Phase::Gathering {
            until: Some(now + grace),
        };
        let waiting: Vec<NodeId> = self.members.keys().copied().collect();
        for node in waiting {
            self.let_in(node);
        }
        if self.awaited.is_empty() {
            self.gather_timeout(now);
        }
        Ok(())
    }

    /// Who was in the round is forgotten, but for those that may come back.
    fn leave_round(&mut self) {
        let gone: Vec<NodeId> = self.in_round().collect();
        self.awaited = gone
            .iter()
            .filter_map(|node| self.members.get(node))
            .filter(|member| member.failure().is_some_and(|failure| failure.again))
            .map(|member| member.info.identity())
            .collect();
        for node in gone {
            self.dismiss(node, Reason::new("the round is over"));
            self.members.remove(&node);
        }
        self.order.clear();
    }

    fn let_in(&mut self, node: NodeId) {
        self.set_state(node, MemberState::Waiting);
        self.send(node, self.accepted(node));
        let Some(info) = self.members.get(&node).map(|member| member.info.clone()) else {
            return;
        };
        self.is_back(&info);
        let present = self.present();
        self.event(RunEvent::NodeJoined {
            node: info,
            present,
            wanted: None,
        });
        self.count_changed = true;
    }

    /// One that was told to come back has.
    pub(super) fn is_back(&mut self, info: &NodeInfo) {
        let identity = info.identity();
        if let Some(index) = self.awaited.iter().position(|awaited| awaited.is(&identity)) {
            self.awaited.swap_remove(index);
        }
    }

    /// The grace is over: from now on only those are awaited that were set aside because they are slow, and longer.
    pub(super) fn waits_for_the_slow(&mut self, now: Duration) -> bool {
        let slow = std::mem::take(&mut self.set_aside);
        self.awaited.retain(|one| slow.iter().any(|other| other.is(one)));
        if slow.is_empty() || self.awaited.is_empty() {
            return false;
        }
        let until = Some(now + SLOW_GRACE);
        self.phase = Phase::Gathering { until };
        true
    }

    /// Whether the last one that was told to come back is there.
    pub(super) fn is_complete(&self) -> bool {
        self.config.round > 1 && self.config.wanted.is_none() && self.awaited.is_empty()
    }

    /// Members that take part in the round, or did.
    pub(super) fn in_round(&self) -> impl Iterator<Item = NodeId> {
        let members = self.members.iter();
        let in_round = members.filter(|(_, member)| !member.is_queued());
        in_round.map(|(node, _)| *node)
    }

    /// Whether somebody waits for the next round with a clone that lacks nothing but its verdict.
    fn has_clones_waiting(&self) -> bool {
        let mut members = self.members.values();
        members.any(|member| member.is_queued() && member.holds_clone)
    }

    /// Whether a node that comes now may wait for the next round.
    pub(super) const fn may_wait(&self) -> bool {
        !self.ended && self.config.round < self.config.rounds
    }

    /// Keeps a node for the next round.
    pub(super) fn enqueue(&mut self, member: Member, why: String) {
        let (node, info) = (member.info.id, member.info.clone());
        self.members.insert(node, member);
        let (round, reason) = (self.config.round + 1, Reason::new(why));
        self.send(
            node,
            ToNode::Queued {
                round,
                reason: reason.clone(),
            },
        );
        self.event(RunEvent::NodeQueued {
            node: info,
            round,
            reason,
        });
    }

    /// The clone of this node is good: whoever comes as this node again, or has come already and waits for the next round,
    /// is told so, and let go.
    pub fn mark_done(&mut self, node: NodeId) {
        let Some(identity) = self.members.get(&node).map(|member| member.info.identity()) else {
            return;
        };
        let waiting = self.members.values().filter(|member| member.is_queued());
        let again: Vec<NodeInfo> = waiting
            .filter(|member| identity.is(&member.info.identity()))
            .map(|member| member.info.clone())
            .collect();
        self.keep_done(identity);
        for info in again {
            self.send(info.id, ToNode::Release { delay_ms: 0 });
            self.close(info.id);
            self.members.remove(&info.id);
            self.event(RunEvent::NodeDoneAlready {
                addr: info.addr,
                name: info.name,
            });
        }
    }

    /// As [`Self::mark_done`], for one that an earlier process of the server saw done. It has the next number.
    pub fn remember_done(&mut self, identity: Identity) {
        self.last_node += 1;
        self.keep_done(identity);
    }

    /// Streams are numbered on from `before`, as after rounds that had so many.
    pub(crate) const fn number_streams_from(&mut self, before: u32) {
        self.streams_before = before;
    }

    /// A machine that was done is armed again: it is not sent home when it comes.
    pub fn forget_done(&mut self, mac: MacAddr) {
        self.done.retain(|done| done.mac != Some(mac));
    }

    fn keep_done(&mut self, identity: Identity) {
        if !self.done.iter().any(|done| done.is(&identity)) {
            self.done.push(identity);
        }
    }

    /// Tells a node that is done already that it is, if it is.
    pub(super) fn send_home(&mut self, conn: ConnId, join: &Join, addr: SocketAddr) -> bool {
        let identity = Identity {
            mac: join.mac,
            name: join.name.to_string(),
            addr: addr.ip(),
        };
        if !self.done.iter().any(|done| done.is(&identity)) {
            return false;
        }
        let message = ToNode::Release { delay_ms: 0 };
        self.outputs.push_back(RunOutput::Send { conn, message });
        self.outputs.push_back(RunOutput::Close { conn });
        self.event(RunEvent::NodeDoneAlready {
            addr,
            name: join.name.clone(),
        });
        true
    }

    /// A node that comes again with the name and address of one that takes part is that one after a restart: two
    /// cannot listen at one address, and the old one has not answered ([`Self::contest`]).
    pub(super) fn lose_earlier(&mut self, now: Duration, join: &Join, addr: SocketAddr) {
        let same = |member: &&Member| member.info.name == join.name && member.info.addr == addr;
        let members = self.members.values();
        let old = members
            .filter(same)
            .find(|member| member.conn.is_some())
            .map(|member| member.info.id);
        if let Some(old) = old {
            let reason = Reason::new("it started again, and waits for the next round");
            self.lose_for_next_round(now, old, &reason);
        }
    }
}

impl NodeInfo {
    /// What it is known by over rounds.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity {
            mac: self.mac,
            name: self.name.to_string(),
            addr: self.addr.ip(),
        }
    }

    /// A node that has just come.
    pub(super) fn new(id: NodeId, join: Join, addr: SocketAddr) -> Self {
        Self {
            id,
            name: join.name,
            addr,
            mac: join.mac,
            position: ChainPosition(0),
            holds_clone: join.holds_clone,
        }
    }
}
