//! A room in virtual time: a sender and its line, nodes and theirs, and control connections.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::Duration;

use super::super::*;
use crate::ids::{NodeId, RunId};

pub(super) const RUN: RunId = RunId([7; 16]);
pub(super) const DATAGRAM: usize = 1472;
/// Bytes on the line for each datagram.
const FRAME: u64 = 1538;
pub(super) const GIGABIT: u64 = 1_000_000_000;
/// One step of the simulation.
const STEP: Duration = Duration::from_micros(100);
const STEPS_A_SECOND: u64 = 10_000;
/// Way of a message over the control connection.
const CONTROL: Duration = Duration::from_millis(1);

/// A node's line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path {
    /// Bits a second that it carries; more is lost.
    pub(super) line: u64,
    /// Every n-th datagram is lost; 0 for none.
    pub(super) loses_each: u64,
    /// Forwards the group from this time on.
    pub(super) opens: Duration,
    /// The node answers nothing.
    pub(super) is_mute: bool,
}

pub(super) const GOOD: Path = Path {
    line: GIGABIT,
    loses_each: 0,
    opens: Duration::ZERO,
    is_mute: false,
};
pub(super) const DEAF: Path = Path {
    opens: Duration::MAX,
    ..GOOD
};

pub(super) struct Lab {
    prober: Prober,
    /// Real rate of the sender's line.
    pub(super) line: u64,
    /// Bytes of the line's queue.
    queued: u64,
    pub(super) nodes: BTreeMap<NodeId, Place>,
    orders: Vec<(Duration, NodeId, ProbeOrder)>,
    answers: Vec<(Duration, NodeId, ProbeAnswer)>,
    pub(super) now: Duration,
}

pub(super) struct Place {
    path: Path,
    pub(super) listener: Option<Listener>,
    /// Bytes in the queue of the node's switch port.
    queued: u64,
    passed: u64,
}

pub(super) fn invitation() -> Invitation {
    Invitation {
        probe: 3,
        group: crate::group::address::of_sender(RUN, NodeId::SERVER),
        sender: NodeId::SERVER,
        from: SocketAddrV4::new([10, 0, 0, 1].into(), 50_000),
        key: [9; 32],
    }
}

pub(super) fn prober(nodes: u32, line: u64) -> Prober {
    let config = ProberConfig {
        run: RUN,
        invitation: invitation(),
        datagram: DATAGRAM,
        line,
        earlier: None,
    };
    let nodes: Vec<NodeId> = (1..=nodes).map(NodeId).collect();
    Prober::new(config, &nodes, Duration::ZERO).unwrap()
}

pub(super) fn name(node: NodeId) -> String {
    format!("n{node}")
}

impl Lab {
    pub(super) fn new(paths: &[Path]) -> Self {
        let place = |path: &Path| Place {
            path: *path,
            listener: None,
            queued: 0,
            passed: 0,
        };
        Self {
            prober: prober(u32::try_from(paths.len()).unwrap(), GIGABIT),
            line: GIGABIT,
            queued: 0,
            nodes: (1..).map(NodeId).zip(paths.iter().map(place)).collect(),
            orders: Vec::new(),
            answers: Vec::new(),
            now: Duration::ZERO,
        }
    }

    /// Returns a room in which nodes come that an earlier probe did not find. Their numbers begin at `first`.
    pub(super) fn later(paths: &[Path], first: u32, earlier: Outcome) -> Self {
        let mut lab = Self::new(paths);
        lab.nodes = (first..)
            .map(NodeId)
            .zip(std::mem::take(&mut lab.nodes).into_values())
            .collect();
        let config = ProberConfig {
            run: RUN,
            invitation: invitation(),
            datagram: DATAGRAM,
            line: GIGABIT,
            earlier: Some(earlier),
        };
        let nodes: Vec<NodeId> = lab.nodes.keys().copied().collect();
        lab.prober = Prober::new(config, &nodes, Duration::ZERO).unwrap();
        lab
    }

    /// Runs the probe to its end and returns its outcome.
    pub(super) fn run(&mut self) -> Outcome {
        loop {
            while let Some((node, order)) = self.prober.poll_order(self.now) {
                self.orders.push((self.now + CONTROL, node, order));
            }
            if let Some(outcome) = self.prober.outcome() {
                return outcome;
            }
            self.send();
            self.control();
            self.now += STEP;
            assert!(
                self.now < PROBE_TIME + Duration::from_millis(50),
                "the probe never ends"
            );
        }
    }

    fn send(&mut self) {
        let drained = self.line / 8 / STEPS_A_SECOND;
        self.queued = self.queued.saturating_sub(drained);
        // A socket's buffer of some bursts.
        while self.queued < 200_000 {
            let Some(burst) = self.prober.next_burst(self.now) else {
                return;
            };
            let burst = burst.to_vec();
            self.queued += (burst.len() / DATAGRAM) as u64 * FRAME;
            for place in self.nodes.values_mut() {
                place.receive(self.now, &burst);
            }
            self.prober.handle_sent(self.now, burst.len());
        }
        if self.prober.next_burst(self.now).is_some() {
            self.prober.handle_blocked();
        }
    }

    fn control(&mut self) {
        let now = self.now;
        let due = |at: &Duration| *at <= now;
        for (_, node, order) in self.orders.extract_if(.., |(at, ..)| due(at)) {
            let place = self.nodes.get_mut(&node).unwrap();
            match &order {
                ProbeOrder::Listen(invitation) => {
                    place.listener = Some(Listener::new(RUN, invitation.clone(), now).unwrap());
                }
                _ => place.listener.as_mut().unwrap().handle_order(now, &order),
            }
        }
        for (node, place) in &mut self.nodes {
            place.drain();
            let Some(listener) = &mut place.listener else {
                continue;
            };
            while let Some(answer) = listener.poll_answer(now) {
                if !place.path.is_mute {
                    self.answers.push((now + CONTROL, *node, answer));
                }
            }
        }
        for (_, node, answer) in self.answers.extract_if(.., |(at, ..)| due(at)) {
            self.prober.handle_answer(node, answer);
        }
    }
}

impl Place {
    fn drain(&mut self) {
        let drained = self.path.line / 8 / STEPS_A_SECOND;
        self.queued = self.queued.saturating_sub(drained);
    }

    /// A switch port with a queue of 512 KiB, then the node.
    fn receive(&mut self, now: Duration, burst: &[u8]) {
        let Some(listener) = &mut self.listener else {
            return;
        };
        let mut arrived = Vec::new();
        for datagram in burst.chunks(DATAGRAM) {
            self.passed += 1;
            let is_lost = self.path.loses_each > 0 && self.passed.is_multiple_of(self.path.loses_each);
            if now < self.path.opens || is_lost || self.queued > 524_288 {
                continue;
            }
            self.queued += FRAME;
            arrived.extend_from_slice(datagram);
        }
        if !arrived.is_empty() {
            listener.handle_datagrams(now, &arrived, DATAGRAM);
        }
    }
}
