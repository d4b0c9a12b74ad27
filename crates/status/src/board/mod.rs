//! What is known of a run at a moment, folded from its events: the lines of the terminal view and the progress
//! lines of the plain one. Pure; times are given with the events.

mod node;
mod rate;
mod session;

use std::time::Duration;

pub(crate) use node::NodeLine;
use node::NodeState;
use session::{Last, Session};

use crate::event::StepState;
use crate::run::{NodeProgress, NodeRef, RunEvent};

/// The state of a run, for showing.
#[derive(Debug, Default)]
pub(crate) struct Board {
    phase: Phase,
    nodes: Vec<NodeLine>,
}

/// What the run as a whole is doing.
#[derive(Debug, Default)]
enum Phase {
    /// Nothing to say yet, or any more.
    #[default]
    Silent,
    /// Nodes are coming.
    Gathering { present: usize, wanted: Option<u32> },
    /// A session of the run.
    Session(Session),
    /// Every node has the stream of this session.
    After { session: String },
    /// Clones come back from their own disks.
    Booting { seen: usize, all: usize },
}

impl Board {
    /// Takes in an event that happened `at` this long after the run began.
    pub(crate) fn handle(&mut self, at: Duration, event: &RunEvent) {
        match event {
            RunEvent::Listening { wanted, .. } => self.gathering(0, *wanted),
            RunEvent::NodeJoined {
                node,
                present,
                wanted,
            } => {
                self.gathering(*present, *wanted);
                self.line(node).state = NodeState::Waiting;
            }
            RunEvent::LetsGo { nodes } => self.order(nodes),
            RunEvent::SessionStarted {
                session,
                what,
                expected_bytes,
            } => {
                self.phase = Phase::Session(Session::new(session, what, at, *expected_bytes));
                self.nodes.iter_mut().for_each(NodeLine::begin);
            }
            RunEvent::NodePrepared { node, .. } => self.line(node).state = NodeState::Ready,
            RunEvent::NodeStep { node, step } if step.state == StepState::Started => {
                self.line(node).state = NodeState::Working(step.step);
            }
            RunEvent::Progress {
                sent_bytes,
                content_bytes,
                nodes,
            } => {
                if let Phase::Session(session) = &mut self.phase {
                    session.progress(at, *sent_bytes, *content_bytes);
                }
                self.progress(at, nodes);
            }
            RunEvent::SlowNode {
                node: Some(node),
                slow,
                ..
            } => {
                let line = self.line(node);
                (line.is_slow, line.remark) = (true, Some(format!("SLOW: {}", slow.text)));
            }
            RunEvent::SessionEnded { totals } => {
                self.phase = Phase::After {
                    session: totals.name.clone(),
                }
            }
            RunEvent::NodeFailed { node, reason, .. } => {
                self.line(node).state = NodeState::Failed(reason.clone());
            }
            RunEvent::NodeDone { node, .. } => self.line(node).state = NodeState::Done,
            RunEvent::WaitingForBoots { nodes, .. } => self.phase = Phase::Booting { seen: 0, all: *nodes },
            RunEvent::NodeBooted { node, .. } => {
                self.line(node).state = NodeState::Booted;
                if let Phase::Booting { seen, .. } = &mut self.phase {
                    *seen += 1;
                }
            }
            RunEvent::Ended { .. } => self.phase = Phase::Silent,
            RunEvent::RoundEnded { .. } => self.gathering(0, None),
            other => self.beside(other),
        }
    }

    /// What is beside the course of things: of it only who lost its place in the chain shows in its row.
    fn beside(&mut self, event: &RunEvent) {
        match event {
            RunEvent::NodeAway { node, .. } => {
                self.line(node).remark = Some("SILENT: may come back".to_owned())
            }
            RunEvent::NodeRejoined { node, .. } => {
                self.line(node).remark = Some("fed from the spool".to_owned());
            }
            _ => {}
        }
    }

    fn progress(&mut self, at: Duration, nodes: &[NodeProgress]) {
        for progress in nodes {
            if let Some(line) = self.nodes.iter_mut().find(|line| line.node.id == progress.id) {
                line.progress(at, progress);
            }
        }
    }

    /// The nodes in chain order.
    pub(crate) fn nodes(&self) -> &[NodeLine] {
        &self.nodes
    }

    /// One line about the whole: what is going on, bytes, rate, time left. None where there is nothing to say.
    pub(crate) fn total(&self, at: Duration) -> Option<String> {
        match &self.phase {
            Phase::Silent => None,
            Phase::Gathering { present, wanted } => {
                let of = wanted.map_or_else(String::new, |wanted| format!(" of {wanted}"));
                Some(format!("waiting for nodes: {present}{of} present"))
            }
            Phase::Session(session) => Some(session.text(at, self.last())),
            Phase::Booting { seen, all } => Some(format!("first boots: {seen} of {all} clones are back")),
            Phase::After { session } => Some(format!("{session} is through, the nodes go on")),
        }
    }

    /// Share of the running stream that has been sent, for a bar: (done, all) in bytes.
    pub(crate) fn share(&self) -> Option<(u64, u64)> {
        let Phase::Session(session) = &self.phase else {
            return None;
        };
        session.share(self.last())
    }

    /// The node that everybody waits for at the end of the stream.
    fn last(&self) -> Option<Last> {
        let nodes = self.nodes.iter().filter(|line| !line.is_settled());
        let behind = nodes.min_by_key(|line| line.written_bytes())?;
        Some(Last {
            written_bytes: behind.written_bytes(),
            per_second: behind.per_second(),
        })
    }

    /// The node that holds up the others, if one was named; else the one that is furthest behind in the running stream.
    pub(crate) fn slowest(&self) -> Option<&NodeLine> {
        let nodes = || self.nodes.iter().filter(|line| !line.is_settled());
        nodes()
            .find(|line| line.is_slow)
            .or_else(|| nodes().min_by_key(|line| line.written_bytes()))
    }

    fn gathering(&mut self, present: usize, wanted: Option<u32>) {
        self.phase = Phase::Gathering { present, wanted };
    }

    fn order(&mut self, nodes: &[NodeRef]) {
        self.phase = Phase::Silent;
        for node in nodes {
            self.line(node).node = node.clone();
        }
        self.nodes.sort_by_key(|line| line.node.position);
    }

    fn line(&mut self, node: &NodeRef) -> &mut NodeLine {
        let index = self
            .nodes
            .iter()
            .position(|line| line.node.id == node.id)
            .unwrap_or_else(|| {
                self.nodes.push(NodeLine::new(node.clone()));
                self.nodes.len() - 1
            });
        &mut self.nodes[index]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Board, NodeLine};
    use crate::event::{NodeEvent, Step};
    use crate::run::{NodeProgress, NodeRef, RunEvent};
    use crate::summary::StreamTotals;

    fn node(id: u32, position: u32) -> NodeRef {
        NodeRef {
            id,
            name: format!("n{id}"),
            addr: format!("10.0.1.{id}"),
            position,
        }
    }

    fn running() -> Board {
        let mut board = Board::default();
        for (at, event) in [
            (
                0,
                RunEvent::NodeJoined {
                    node: node(2, 1),
                    present: 1,
                    wanted: Some(2),
                },
            ),
            (
                1,
                RunEvent::NodeJoined {
                    node: node(1, 1),
                    present: 2,
                    wanted: Some(2),
                },
            ),
            (
                2,
                RunEvent::LetsGo {
                    nodes: vec![node(1, 1), node(2, 2)],
                },
            ),
            (
                3,
                RunEvent::SessionStarted {
                    session: "kainstall2".into(),
                    what: "sending the tree".into(),
                    expected_bytes: Some(1 << 30),
                },
            ),
            (
                3,
                RunEvent::NodeStep {
                    node: node(1, 1),
                    step: NodeEvent::started(Step::Restore),
                },
            ),
            (4, progress(100)),
            (6, progress(300)),
        ] {
            board.handle(Duration::from_secs(at), &event);
        }
        board
    }

    fn progress(mib: u64) -> RunEvent {
        let at = |id, behind| NodeProgress {
            id,
            received_bytes: (mib - behind) << 20,
            consumed_bytes: (mib - behind) << 20,
            buffered_bytes: 3 << 20,
        };
        RunEvent::Progress {
            sent_bytes: mib << 19,
            content_bytes: mib << 20,
            nodes: vec![at(1, 0), at(2, 50)],
        }
    }

    #[test]
    fn each_node_has_a_line_in_chain_order_with_state_bytes_and_rate() {
        let board = running();
        let lines: Vec<_> = board.nodes().iter().map(NodeLine::text).collect();
        assert_eq!(
            lines,
            [
                "  1 n1           10.0.1.1        restoring  300.0 MiB  100.0 MiB/s  buffered 3.0 MiB",
                "  2 n2           10.0.1.2        waiting  250.0 MiB  100.0 MiB/s  buffered 3.0 MiB",
            ]
        );
        assert_eq!(board.slowest().map(NodeLine::short).unwrap(), "n2 250.0 MiB");
    }

    #[test]
    fn the_one_that_holds_up_the_others_is_shown_and_not_one_that_is_only_below_it() {
        let mut board = running();
        let slow = crate::slow::Slow {
            why: crate::slow::SlowWhy::Link,
            rate_bytes: 1_100_000,
            others_bytes: 11_800_000,
            waiting: 1,
            text: "its line carries 1.1 MB/s".to_owned(),
        };
        let named = RunEvent::SlowNode {
            node: Some(node(1, 1)),
            slow,
            set_aside: false,
        };
        board.handle(Duration::from_secs(7), &named);
        assert_eq!(board.slowest().map(NodeLine::short).unwrap(), "n1 300.0 MiB");
    }

    #[test]
    fn the_total_has_bytes_rate_and_time_left() {
        let total = running().total(Duration::from_secs(6)).unwrap();
        assert_eq!(
            total,
            "kainstall2: sending the tree, 300.0 MiB of about 1.0 GiB (150.0 MiB sent), 100.0 MiB/s, 0:07 left"
        );
    }

    #[test]
    fn the_total_says_who_is_waited_for_and_what_comes_after_the_data() {
        let mut board = Board::default();
        assert_eq!(board.total(Duration::ZERO), None);
        board.handle(
            Duration::ZERO,
            &RunEvent::NodeJoined {
                node: node(2, 1),
                present: 1,
                wanted: Some(2),
            },
        );
        assert_eq!(
            board.total(Duration::ZERO).unwrap(),
            "waiting for nodes: 1 of 2 present"
        );
        let totals = StreamTotals {
            round: 1,
            name: "kainstall2".into(),
            bytes: 1,
            blocks: 1,
            sending_ms: 1,
            emptied_in_ms: 1,
            golden: None,
        };
        board.handle(Duration::ZERO, &RunEvent::SessionEnded { totals });
        assert_eq!(
            board.total(Duration::ZERO).unwrap(),
            "kainstall2 is through, the nodes go on"
        );
    }

    #[test]
    fn a_failed_node_keeps_its_reason_and_is_no_longer_the_slowest() {
        let mut board = running();
        let failed = RunEvent::NodeFailed {
            node: node(2, 2),
            stage: "restoring".into(),
            reason: "disk full".into(),
        };
        board.handle(Duration::from_secs(7), &failed);
        assert!(board.nodes()[1].text().contains("FAILED: disk full"));
        assert_eq!(board.slowest().unwrap().node.id, 1);
    }

    #[test]
    fn the_time_left_and_the_bar_are_those_of_the_last_node() {
        let mut board = running();
        let at = |id, mib: u64| NodeProgress {
            id,
            received_bytes: mib << 20,
            consumed_bytes: mib << 20,
            buffered_bytes: 0,
        };
        // The golden node has read everything; n2 has 100 of 512 MiB of the stream, and takes 10 MiB in a second.
        for (secs, slow) in [(8, 80), (10, 100)] {
            board.handle(
                Duration::from_secs(secs),
                &RunEvent::Progress {
                    sent_bytes: 512 << 20,
                    content_bytes: 1 << 30,
                    nodes: vec![at(1, 512), at(2, slow)],
                },
            );
        }
        let total = board.total(Duration::from_secs(10)).unwrap();
        let left = total.rsplit(", ").next().unwrap();
        assert_ne!(left, "0:00 left", "{total}");
        let (done, all) = board.share().unwrap();
        assert_eq!((done, all), (200 << 20, 1 << 30));
    }
}
