//! The choice between the chain and multicast. While nodes gather, probes find those that a group reaches. The
//! gathering's answer waits for what is still open, at most a second.

use std::sync::Arc;

use ka_proto::group::probe::{ChainReason, Choice, MIN_MEMBERS, Wanted};
use ka_proto::run::{GroupPlan, NodeInfo};
use ka_proto::{NodeId, Reason};

use super::core::Core;
use super::types::ServerEvent;
use crate::group::probing::{ProbeStep, Probed};

impl Core {
    /// Probes the nodes that are there, while others are awaited, if multicast may be of use.
    pub(super) fn probe_early(&mut self) {
        let (now, Some(least)) = (self.now(), self.least_members()) else {
            return;
        };
        if !self.probes.is_due(now) {
            return;
        }
        let Some((local, nodes)) = self.run.segment() else {
            return;
        };
        if nodes.len() >= least && !self.probes.knows(local, &nodes) {
            // A failure comes again at the end of the gathering, and is told then.
            self.probes.begin(self.run_id, (local, &nodes), None).ok();
        }
    }

    /// Returns the fewest nodes for which a group is of use, or `None` if there is to be no group.
    const fn least_members(&self) -> Option<usize> {
        match self.probes.wanted() {
            Wanted::Chain => None,
            Wanted::Auto => Some(MIN_MEMBERS),
            Wanted::Multicast => Some(1),
        }
    }

    /// The nodes of the round are known. Probes those that were not, if multicast may be of use, and then answers
    /// the gathering.
    pub(super) fn begin_probe(&mut self, gathered: Vec<NodeInfo>) {
        let Some(least) = self.least_members() else {
            return self.call.set_gathered(Ok(gathered));
        };
        let Some(gathered) = self.probes.end_gathering(gathered) else {
            return;
        };
        let Some((local, nodes)) = self.run.segment() else {
            self.tell_choice(&Choice::Chain(ChainReason::Ipv6), None, &gathered);
            return self.call.set_gathered(Ok(gathered));
        };
        if nodes.len() < least {
            return self.call.set_gathered(Ok(gathered));
        }
        if self.probes.knows(local, &nodes)
            && let Some(probed) = self.probes.probed(&nodes)
        {
            self.take_outcome(&probed, &gathered);
            return self.call.set_gathered(Ok(gathered));
        }
        if let Err((error, Some(gathered))) = self.probes.begin(self.run_id, (local, &nodes), Some(gathered))
        {
            self.tell_failure(&error.to_string(), &gathered);
            self.call.set_gathered(Ok(gathered));
        }
    }

    /// A probe has news.
    pub(super) fn handle_probe_step(&mut self, step: ProbeStep) {
        let (number, done) = match step {
            ProbeStep::Order(node, order) => return self.run.probe(node, order),
            ProbeStep::Done(number, done) => (number, done),
        };
        let (probed, failure) = match done {
            Ok(probed) => (Some(probed), None),
            Err(reason) => (None, Some(reason)),
        };
        let Some(gathered) = self.probes.finish(number, probed) else {
            return;
        };
        match failure {
            Some(reason) => {
                self.tell_failure(&reason, &gathered);
                self.call.set_gathered(Ok(gathered));
            }
            // Nodes that came while the probe was under way are greeted.
            None => self.begin_probe(gathered),
        }
    }

    fn take_outcome(&mut self, probed: &Probed, gathered: &[NodeInfo]) {
        let choice = probed.outcome.choose(self.probes.wanted());
        self.tell_choice(&choice, Some(probed), gathered);
        let Choice::Group { members, rate, .. } = choice else {
            return;
        };
        self.run.set_group(Some(GroupPlan {
            addr: probed.group,
            shard_bytes: probed.shard_bytes,
            members,
        }));
        self.streams.set_group(Some((Arc::clone(&probed.socket), rate)));
        self.probes.use_group();
    }

    fn tell_failure(&mut self, reason: &str, gathered: &[NodeInfo]) {
        let why = ChainReason::Failed(Reason::new(reason));
        self.tell_choice(&Choice::Chain(why), None, gathered);
    }

    /// Tells the operator what the probe found, and what follows.
    fn tell_choice(&mut self, choice: &Choice, probed: Option<&Probed>, gathered: &[NodeInfo]) {
        let name = |node: NodeId| {
            let info = gathered.iter().find(|info| info.id == node);
            info.map_or_else(|| node.to_string(), |info| info.name.to_string())
        };
        let mut text = choice.describe(name);
        if let Some(probed) = probed
            && let Some(querier) = self.probes.querier()
        {
            text = format!("{}; {text}", probed.outcome.describe(name, querier));
        }
        let multicast = match choice {
            Choice::Group { members, .. } => members.len(),
            Choice::Chain(_) => 0,
        };
        self.event(ServerEvent::Transport {
            multicast,
            nodes: gathered.len(),
            text,
        });
    }
}
