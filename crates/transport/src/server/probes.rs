//! The probes of multicast in a round, and the querier of the segment. [`super::choice`] decides when there is one,
//! and what follows from it.
//!
//! Nodes are probed while others are still awaited. So the gathering's end waits for a greeting of the last ones
//! only, which takes some milliseconds.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use ka_proto::group::probe::{ProbeAnswer, Wanted};
use ka_proto::group::querier::SegmentQuerier;
use ka_proto::run::NodeInfo;
use ka_proto::{NodeId, RunId};
use tokio::sync::mpsc;

use crate::group::igmp::IgmpQuerier;
use crate::group::probing::{ProbeStep, Probed, Probing};

/// Time from a new node to the probe of those that are there: more of them come together.
const SOON: Duration = Duration::from_millis(250);
/// Time between two probes while nodes gather: each loads the line for a quarter of a second.
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// The probe of this round, and the querier of the segment.
#[derive(Debug)]
pub(super) struct Probes {
    wanted: Wanted,
    /// Number of probes so far.
    count: u32,
    state: State,
    /// Time from which on the nodes that are there are probed, while others are awaited.
    due: Option<Duration>,
    /// Earliest time of the next such probe.
    not_before: Duration,
    /// The querier, with the address at which it asks.
    querier: Option<(Ipv4Addr, IgmpQuerier)>,
    steps: mpsc::UnboundedSender<ProbeStep>,
    from_thread: mpsc::UnboundedReceiver<ProbeStep>,
}

#[derive(Debug)]
enum State {
    /// Nothing is known of this round.
    Idle,
    UnderWay {
        probing: Probing,
        local: Ipv4Addr,
        /// The nodes of the round, for the gathering's answer. `None` while nodes gather.
        gathered: Option<Vec<NodeInfo>>,
    },
    /// The nodes that were there were probed from this address.
    Known { probed: Probed, local: Ipv4Addr },
}

impl Probes {
    pub(super) fn new(wanted: Wanted) -> Self {
        let (steps, from_thread) = mpsc::unbounded_channel();
        Self {
            wanted,
            count: 0,
            state: State::Idle,
            due: None,
            not_before: Duration::ZERO,
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
        if let State::UnderWay { probing, .. } = &self.state {
            probing.answer(node, answer);
        }
    }

    /// The round is over: nobody waits for a probe, and no group is in use.
    pub(super) fn end_round(&mut self) {
        self.state = State::Idle;
        self.due = None;
        if let Some((_, querier)) = &self.querier {
            querier.end();
        }
    }

    /// Returns the operator's wish.
    pub(super) const fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// A node has come while nodes gather.
    pub(super) fn note_joined(&mut self, now: Duration) {
        if self.wanted != Wanted::Chain {
            self.due.get_or_insert((now + SOON).max(self.not_before));
        }
    }

    /// Returns the time at which [`Self::is_due`] is to be asked.
    pub(super) const fn due(&self) -> Option<Duration> {
        self.due
    }

    /// True if the nodes that are there shall be probed now, while others are awaited.
    pub(super) fn is_due(&mut self, now: Duration) -> bool {
        let is_due = self.due.is_some_and(|due| now >= due);
        if is_due {
            self.due = None;
            self.not_before = now + PROBE_EVERY;
        }
        is_due && !matches!(self.state, State::UnderWay { .. })
    }

    /// True if a probe from this address found out how the group reaches all of these nodes.
    pub(super) fn knows(&self, local: Ipv4Addr, nodes: &[NodeId]) -> bool {
        let State::Known { probed, local: from } = &self.state else {
            return false;
        };
        *from == local && nodes.iter().all(|node| probed.outcome.knows(*node))
    }

    /// Begins to probe these nodes from the interface that has the address `local`. With the nodes that were
    /// `gathered`, which are kept until the probe is over, nodes that are not known are greeted only, if a group
    /// reaches some of the others.
    ///
    /// # Errors
    /// Nothing can be sent to a group from there; with the nodes that were gathered.
    pub(super) fn begin(
        &mut self,
        run: RunId,
        (local, nodes): (Ipv4Addr, &[NodeId]),
        gathered: Option<Vec<NodeInfo>>,
    ) -> Result<(), (io::Error, Option<Vec<NodeInfo>>)> {
        if self.querier.as_ref().is_none_or(|(addr, _)| *addr != local) {
            self.querier = Some((local, IgmpQuerier::start(local)));
        }
        self.count += 1;
        let earlier = match std::mem::replace(&mut self.state, State::Idle) {
            State::Known { probed, local: from } if gathered.is_some() && from == local => {
                Some(probed).filter(|probed| probed.outcome.members().next().is_some())
            }
            _ => None,
        };
        let is_known = |node: &NodeId| earlier.as_ref().is_some_and(|known| known.outcome.knows(*node));
        let nodes: Vec<NodeId> = nodes.iter().copied().filter(|node| !is_known(node)).collect();
        match Probing::start(run, local, &nodes, self.count, earlier, self.steps.clone()) {
            Ok(probing) => {
                self.state = State::UnderWay {
                    probing,
                    local,
                    gathered,
                };
                Ok(())
            }
            Err(error) => Err((error, gathered)),
        }
    }

    /// The gathering has ended. Keeps its nodes if a probe is under way, and returns them otherwise.
    pub(super) fn end_gathering(&mut self, nodes: Vec<NodeInfo>) -> Option<Vec<NodeInfo>> {
        self.due = None;
        match &mut self.state {
            State::UnderWay { gathered, .. } => {
                *gathered = Some(nodes);
                None
            }
            State::Idle | State::Known { .. } => Some(nodes),
        }
    }

    /// The probe of this number is over. Returns the nodes that were gathered, if the gathering is over, too.
    pub(super) fn finish(&mut self, number: u32, done: Option<Probed>) -> Option<Vec<NodeInfo>> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::UnderWay { local, gathered, .. } if number == self.count => {
                if let Some(probed) = done {
                    self.state = State::Known { probed, local };
                }
                gathered
            }
            // The round of this probe is over.
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Returns the outcome for these nodes, and the group's sender.
    pub(super) fn probed(&self, nodes: &[NodeId]) -> Option<Probed> {
        let State::Known { probed, .. } = &self.state else {
            return None;
        };
        let mut probed = probed.clone();
        probed.outcome.keep(nodes);
        Some(probed)
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
