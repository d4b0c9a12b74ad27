//! The choice between the chain and multicast. Before the first stream of each round, a probe finds the nodes that
//! a group reaches; the gathering's answer waits for it, at most a second.

use std::sync::Arc;

use ka_proto::group::probe::{ChainReason, Choice, MIN_MEMBERS, Wanted};
use ka_proto::run::{GroupPlan, NodeInfo};
use ka_proto::{NodeId, Reason};

use super::core::Core;
use super::types::ServerEvent;
use crate::group::probing::{ProbeStep, Probed};

impl Core {
    /// The nodes of the round are known. Probes them, if multicast may be of use, and then answers the
    /// gathering.
    pub(super) fn begin_probe(&mut self, gathered: Vec<NodeInfo>) {
        let least = match self.probes.wanted() {
            Wanted::Chain => return self.call.set_gathered(Ok(gathered)),
            Wanted::Auto => MIN_MEMBERS,
            Wanted::Multicast => 1,
        };
        let Some((local, nodes)) = self.run.segment() else {
            self.tell_choice(&Choice::Chain(ChainReason::Ipv6), None, &gathered);
            return self.call.set_gathered(Ok(gathered));
        };
        if nodes.len() < least {
            return self.call.set_gathered(Ok(gathered));
        }
        if let Err((error, gathered)) = self.probes.begin(self.run_id, (local, &nodes), gathered) {
            self.tell_failure(&error.to_string(), &gathered);
            self.call.set_gathered(Ok(gathered));
        }
    }

    /// A probe has news.
    pub(super) fn handle_probe_step(&mut self, step: ProbeStep) {
        match step {
            ProbeStep::Order(node, order) => self.run.probe(node, order),
            ProbeStep::Done(done) => {
                if let Some(gathered) = self.probes.finish() {
                    match done {
                        Ok(probed) => self.take_outcome(&probed, &gathered),
                        Err(reason) => self.tell_failure(&reason, &gathered),
                    }
                    self.call.set_gathered(Ok(gathered));
                }
            }
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
