//! The probes of multicast in a run, one in each round, and the querier of the segment. [`super::choice`] decides
//! when there is one, and what follows from it.

use std::io;
use std::net::Ipv4Addr;

use ka_proto::group::probe::{ProbeAnswer, Wanted};
use ka_proto::group::querier::SegmentQuerier;
use ka_proto::run::NodeInfo;
use ka_proto::{NodeId, RunId};
use tokio::sync::mpsc;

use crate::group::igmp::IgmpQuerier;
use crate::group::probing::{ProbeStep, Probing};

/// The probe under way, and the querier of the segment.
#[derive(Debug)]
pub(super) struct Probes {
    wanted: Wanted,
    /// Number of probes so far.
    count: u32,
    under_way: Option<UnderWay>,
    /// The querier, with the address at which it asks.
    querier: Option<(Ipv4Addr, IgmpQuerier)>,
    steps: mpsc::UnboundedSender<ProbeStep>,
    from_thread: mpsc::UnboundedReceiver<ProbeStep>,
}

#[derive(Debug)]
struct UnderWay {
    probing: Probing,
    /// The nodes of the round, for the gathering's answer.
    gathered: Vec<NodeInfo>,
}

impl Probes {
    pub(super) fn new(wanted: Wanted) -> Self {
        let (steps, from_thread) = mpsc::unbounded_channel();
        Self {
            wanted,
            count: 0,
            under_way: None,
            querier: None,
            steps,
            from_thread,
        }
    }

    /// Returns the next news of a probe.
    pub(super) async fn next_step(&mut self) -> ProbeStep {
        match self.from_thread.recv().await {
            Some(step) => step,
            // The other end is here, too.
            None => std::future::pending().await,
        }
    }

    /// Passes a node's answer on.
    pub(super) fn answer(&self, node: NodeId, answer: ProbeAnswer) {
        if let Some(under_way) = &self.under_way {
            under_way.probing.answer(node, answer);
        }
    }

    /// The round is over: nobody waits for a probe, and no group is in use.
    pub(super) fn end_round(&mut self) {
        self.under_way = None;
        if let Some((_, querier)) = &self.querier {
            querier.end();
        }
    }

    /// Returns the operator's wish.
    pub(super) const fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// Begins to probe these nodes from the interface that has the address `local`. `gathered` is kept until the
    /// probe is over.
    ///
    /// # Errors
    /// Nothing can be sent to a group from there; with the nodes that were gathered.
    pub(super) fn begin(
        &mut self,
        run: RunId,
        (local, nodes): (Ipv4Addr, &[NodeId]),
        gathered: Vec<NodeInfo>,
    ) -> Result<(), (io::Error, Vec<NodeInfo>)> {
        if self.querier.as_ref().is_none_or(|(addr, _)| *addr != local) {
            self.querier = Some((local, IgmpQuerier::start(local)));
        }
        self.count += 1;
        match Probing::start(run, local, nodes, self.count, self.steps.clone()) {
            Ok(probing) => self.under_way = Some(UnderWay { probing, gathered }),
            Err(error) => return Err((error, gathered)),
        }
        Ok(())
    }

    /// Returns the nodes that were gathered, because the probe is over. `None` if the round is over, too.
    pub(super) fn finish(&mut self) -> Option<Vec<NodeInfo>> {
        self.under_way.take().map(|under_way| under_way.gathered)
    }

    /// Asks for the group from now on, if nobody else does.
    pub(super) fn use_group(&self) {
        if let Some((_, querier)) = &self.querier {
            querier.begin();
        }
    }

    /// Returns the querier of the segment that was probed last.
    pub(super) fn querier(&self) -> Option<SegmentQuerier> {
        self.querier.as_ref().map(|(_, querier)| querier.segment())
    }
}
