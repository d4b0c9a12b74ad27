//! Gathering: its end, and the state that goes on from one round to the next.

use ka_mac::MacAddr;

use super::member::MemberState;
use super::{Duration, NodeId, NodeInfo, Phase, Reason, Run, RunError, RunEvent, RunResult, ToNode};
use crate::identity::Identity;
use crate::ids::RunId;
use crate::order::OrderRule;
use crate::wiring::Wiring;

/// Additional time to come back for nodes that were set aside. They live, and unmount first, which writes
/// back the data that the kernel took from a stream faster than their disks.
const SLOW_GRACE: Duration = Duration::from_secs(160);

impl Run {
    /// Begins the next round with the nodes that wait. It ends with [`RunResult::Gathered`] when all nodes
    /// that were told to come back are there, or after `grace` with the nodes that are there. Without nodes
    /// it ends with [`RunResult::NobodyCame`], and the run is over.
    ///
    /// # Errors
    /// [`RunError`] while another command is under way, after [`Self::abort`], or after the last round.
    pub fn next_round(
        &mut self,
        now: Duration,
        run: RunId,
        run_key: [u8; 32],
        grace: Duration,
    ) -> Result<(), RunError> {
        let is_between = matches!(self.phase, Phase::Idle | Phase::Over);
        // A node may wait with a clone that lacks only its verdict.
        let may_follow = self.rounds.has_next() || self.roster.queued().any(|member| member.holds_clone);
        if self.rounds.has_ended() || !is_between || !may_follow {
            return Err(RunError::WrongPhase {
                command: "next_round",
            });
        }
        let awaited = self.leave_round();
        self.rounds.begin_next(awaited);
        (self.config.run, self.config.run_key, self.config.wanted) = (run, run_key, None);
        self.group = None;
        self.next_ping = self.next_ping.min(now + self.config.heartbeat);
        self.phase = Phase::Gathering {
            until: Some(now + grace),
        };
        for node in self.roster.ids() {
            self.let_in(node);
        }
        if !self.rounds.awaits_somebody() {
            self.gather_timeout(now);
        }
        Ok(())
    }

    /// Forgets the members of the round. Returns those that may come back.
    fn leave_round(&mut self) -> Vec<Identity> {
        let wanted = |failure: &super::Failure| failure.again;
        let returning = self.roster.in_round();
        let returning = returning.filter(|member| member.failure().is_some_and(wanted));
        let awaited = returning.map(|member| member.info.identity()).collect();
        let gone: Vec<NodeId> = self.roster.in_round().map(|member| member.info.id).collect();
        for node in gone {
            self.dismiss(node, Reason::new("the round is over"));
            self.roster.remove(node);
        }
        self.roster.clear_order();
        awaited
    }

    /// Makes a node that has waited take part from now on.
    fn let_in(&mut self, node: NodeId) {
        self.roster.set_state(node, MemberState::Waiting);
        self.send(node, self.accepted(node));
        if let Some(info) = self.roster.info(node) {
            self.rounds.note_present(&info.identity());
            self.tell_joined(info, None);
        }
    }

    /// Tells that a node has joined the round.
    pub(super) fn tell_joined(&mut self, node: NodeInfo, wanted: Option<u32>) {
        let present = self.roster.present();
        self.event(RunEvent::NodeJoined {
            node,
            present,
            wanted,
        });
        self.count_changed = true;
    }

    /// True if the last node that was told to come back is there.
    pub(super) const fn is_complete(&self) -> bool {
        self.rounds.number() > 1 && self.config.wanted.is_none() && !self.rounds.awaits_somebody()
    }

    /// Forgets a node that left before the start. It has not failed.
    pub(super) fn leave_gathering(&mut self, node: NodeId, reason: Reason) {
        let Some(member) = self.roster.remove(node) else {
            return;
        };
        let present = self.roster.present();
        self.event(RunEvent::NodeLeft {
            node: member.info,
            reason,
            present,
        });
        self.count_changed = true;
    }

    /// Tells all nodes how many there are, once a heartbeat. A thousand nodes that come together must not
    /// cause a million messages.
    pub(super) fn announce(&mut self) {
        if !std::mem::take(&mut self.count_changed) || !matches!(self.phase, Phase::Gathering { .. }) {
            return;
        }
        let message = ToNode::Gathering {
            present: self.roster.present(),
            wanted: self.config.wanted,
        };
        for node in self.roster.ids() {
            self.send(node, message.clone());
        }
    }

    /// Fixes the order, and ends the gathering.
    pub(super) fn start(&mut self) {
        let rule = OrderRule {
            list: &self.config.order,
            golden: self.golden_wiring.as_ref(),
        };
        self.roster.fix_order(&rule, |addr| self.accused.contains(addr));
        self.phase = Phase::Idle;
        let nodes = self.nodes().into_iter().map(|(info, _)| info).collect();
        self.result(RunResult::Gathered(nodes));
    }

    /// Takes in the switch port at the other end of the golden node's line. It counts from the next order of a
    /// chain on.
    pub fn set_golden_wiring(&mut self, wiring: Wiring) {
        self.golden_wiring = Some(wiring);
    }

    /// Handles the end of `--wait` or of the grace.
    pub(super) fn gather_timeout(&mut self, now: Duration) {
        if self.rounds.await_the_slow() {
            let until = Some(now + SLOW_GRACE);
            self.phase = Phase::Gathering { until };
            return;
        }
        if self.roster.len() > 0 {
            return self.start();
        }
        self.rounds.nobody_came();
        self.result(RunResult::NobodyCame);
        self.be_over(now);
    }

    /// Marks the clone of this node as good. A node that comes as this one again, or has come already and
    /// waits for the next round, is told so and released.
    pub fn mark_done(&mut self, node: NodeId) {
        let Some(identity) = self.roster.info(node).map(|info| info.identity()) else {
            return;
        };
        let waiting = self.roster.queued().map(|member| member.info.clone());
        let again: Vec<NodeInfo> = waiting
            .filter(|waiting| identity.is(&waiting.identity()))
            .collect();
        self.rounds.keep_done(identity);
        for info in again {
            self.send(info.id, ToNode::Release { delay_ms: 0 });
            self.close(info.id);
            self.roster.remove(info.id);
            self.event(RunEvent::NodeDoneAlready {
                addr: info.addr,
                name: info.name,
            });
        }
    }

    /// Marks a clone as good, as [`Self::mark_done`] does, for a node that an earlier process of the server
    /// saw done. It has the next number.
    pub fn remember_done(&mut self, identity: Identity) {
        self.roster.next_id();
        self.rounds.keep_done(identity);
    }

    /// Forgets that a machine was done, because it is armed again. It is not sent home when it comes.
    pub fn forget_done(&mut self, mac: MacAddr) {
        self.rounds.forget_done(mac);
    }

    /// Numbers streams on from `before`, as after rounds that had so many.
    #[cfg(test)]
    pub(crate) const fn number_streams_from(&mut self, before: u32) {
        self.rounds.number_streams_from(before);
    }
}
