//! What is known of a run at a moment, folded from its events: the lines of the terminal view and the progress
//! lines of the plain one. Pure; times are given with the events.

use std::{collections::VecDeque, time::Duration};

use crate::{
    event::StepState,
    run::{NodeRef, RunEvent},
    text::{clock, size},
};

/// The rate shown is the mean over this span: long enough to be readable, short enough to show a stall.
const RATE_SPAN: Duration = Duration::from_secs(5);

/// Samples kept for a rate; at one a second more than [`RATE_SPAN`] needs.
const MAX_SAMPLES: usize = 32;

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
}

/// One node's line.
#[derive(Debug)]
pub(crate) struct NodeLine {
    pub(crate) node: NodeRef,
    state: String,
    settled: bool,
    received_bytes: u64,
    buffered_bytes: u64,
    rate: Rate,
}

#[derive(Debug)]
struct Session {
    name: String,
    what: String,
    started: Duration,
    expected_bytes: Option<u64>,
    sent_bytes: u64,
    content_bytes: u64,
    rate: Rate,
}

/// A mean over the last [`RATE_SPAN`] of a growing counter.
#[derive(Debug, Default)]
struct Rate {
    samples: VecDeque<(Duration, u64)>,
}

impl Board {
    /// Takes in an event that happened `at` this long after the run began.
    pub(crate) fn handle(&mut self, at: Duration, event: &RunEvent) {
        match event {
            RunEvent::Listening { wanted, .. } => {
                self.phase = Phase::Gathering {
                    present: 0,
                    wanted: *wanted,
                }
            }
            RunEvent::NodeJoined {
                node,
                present,
                wanted,
            } => {
                self.phase = Phase::Gathering {
                    present: *present,
                    wanted: *wanted,
                };
                self.line(node).state = "waiting".into();
            }
            RunEvent::LetsGo { nodes } => {
                self.phase = Phase::Silent;
                self.order(nodes);
            }
            RunEvent::SessionStarted {
                session,
                what,
                expected_bytes,
            } => {
                self.begin(at, session, what, *expected_bytes);
            }
            RunEvent::NodePrepared { node, .. } => self.line(node).state = "ready to start".into(),
            RunEvent::NodeStep { node, step } if step.state == StepState::Started => {
                self.line(node).state = step.step.to_string();
            }
            RunEvent::Progress {
                sent_bytes,
                content_bytes,
                nodes,
            } => {
                if let Phase::Session(session) = &mut self.phase {
                    (session.sent_bytes, session.content_bytes) = (*sent_bytes, *content_bytes);
                    session.rate.sample(at, *content_bytes);
                }
                for progress in nodes {
                    if let Some(line) = self.nodes.iter_mut().find(|line| line.node.id == progress.id) {
                        line.received_bytes = progress.received_bytes;
                        line.buffered_bytes = progress.buffered_bytes;
                        line.rate.sample(at, progress.received_bytes);
                    }
                }
            }
            RunEvent::SessionEnded { totals } => {
                self.phase = Phase::After {
                    session: totals.name.clone(),
                }
            }
            RunEvent::Ended { .. } => self.phase = Phase::Silent,
            RunEvent::NodeFailed { node, reason, .. } => self.settle(node, format!("FAILED: {reason}")),
            RunEvent::NodeDone { node, .. } => self.settle(node, "done".into()),
            _ => {}
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
            Phase::Session(session) => Some(session.text(at)),
            Phase::After { session } => Some(format!("{session} is through, the nodes go on")),
        }
    }

    /// Share of the running stream that has been sent, for a bar: (done, all) in bytes.
    pub(crate) fn share(&self) -> Option<(u64, u64)> {
        let Phase::Session(session) = &self.phase else {
            return None;
        };
        session
            .expected_bytes
            .map(|expected| (session.content_bytes.min(expected), expected))
    }

    /// The node that is furthest behind in the running stream.
    pub(crate) fn slowest(&self) -> Option<&NodeLine> {
        self.nodes
            .iter()
            .filter(|line| !line.settled)
            .min_by_key(|line| line.received_bytes)
    }

    fn begin(&mut self, at: Duration, name: &str, what: &str, expected_bytes: Option<u64>) {
        self.phase = Phase::Session(Session {
            name: name.to_owned(),
            what: what.to_owned(),
            started: at,
            expected_bytes,
            sent_bytes: 0,
            content_bytes: 0,
            rate: Rate::default(),
        });
        for line in &mut self.nodes {
            (line.received_bytes, line.buffered_bytes, line.rate) = (0, 0, Rate::default());
        }
    }

    fn order(&mut self, nodes: &[NodeRef]) {
        for node in nodes {
            self.line(node).node = node.clone();
        }
        self.nodes.sort_by_key(|line| line.node.position);
    }

    fn settle(&mut self, node: &NodeRef, state: String) {
        let line = self.line(node);
        (line.state, line.settled) = (state, true);
    }

    fn line(&mut self, node: &NodeRef) -> &mut NodeLine {
        let index = self
            .nodes
            .iter()
            .position(|line| line.node.id == node.id)
            .unwrap_or_else(|| {
                self.nodes.push(NodeLine {
                    node: node.clone(),
                    state: String::new(),
                    settled: false,
                    received_bytes: 0,
                    buffered_bytes: 0,
                    rate: Rate::default(),
                });
                self.nodes.len() - 1
            });
        &mut self.nodes[index]
    }
}

impl Session {
    fn text(&self, at: Duration) -> String {
        let mut line = format!("{}: {}", self.name, self.what);
        if self.sent_bytes == 0 {
            return line;
        }
        let rate = self.rate.per_second();
        line += &format!(", {}", size(self.content_bytes));
        if let Some(expected) = self.expected_bytes {
            line += &format!(" of about {}", size(expected));
        }
        if self.sent_bytes != self.content_bytes {
            line += &format!(" ({} sent)", size(self.sent_bytes));
        }
        line += &format!(", {}/s", size(rate));
        let left = self
            .expected_bytes
            .map(|expected| expected.saturating_sub(self.content_bytes));
        match left.and_then(|left| left.checked_div(rate)) {
            Some(left) => line += &format!(", {} left", clock(Duration::from_secs(left))),
            None => line += &format!(", {} so far", clock(at.saturating_sub(self.started))),
        }
        line
    }
}

impl NodeLine {
    /// ` 1 n101 10.0.1.101  restoring  512.0 MiB  101.2 MiB/s  buffered 3.0 MiB`
    pub(crate) fn text(&self) -> String {
        let NodeRef {
            position, name, addr, ..
        } = &self.node;
        let mut line = format!("{position:>3} {name:<12} {addr:<15} {}", self.state);
        if self.received_bytes > 0 {
            line += &format!("  {}", size(self.received_bytes));
            if !self.settled {
                line += &format!(
                    "  {}/s  buffered {}",
                    size(self.rate.per_second()),
                    size(self.buffered_bytes)
                );
            }
        }
        line
    }

    /// `n101 510.0 MiB`
    pub(crate) fn short(&self) -> String {
        format!("{} {}", self.node.name, size(self.received_bytes))
    }
}

impl Rate {
    fn sample(&mut self, at: Duration, counter: u64) {
        self.samples.push_back((at, counter));
        while self.samples.len() > MAX_SAMPLES
            || self
                .samples
                .get(1)
                .is_some_and(|(second, _)| at.saturating_sub(*second) >= RATE_SPAN)
        {
            self.samples.pop_front();
        }
    }

    fn per_second(&self) -> u64 {
        let (Some((from, first)), Some((to, last))) = (self.samples.front(), self.samples.back()) else {
            return 0;
        };
        let milliseconds = to.saturating_sub(*from).as_millis().max(1);
        u64::try_from(u128::from(last.saturating_sub(*first)) * 1000 / milliseconds).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Board, Rate};
    use crate::{
        event::{NodeEvent, Step},
        run::{NodeProgress, NodeRef, RunEvent},
        summary::StreamTotals,
    };

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
            consumed_bytes: 0,
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
        let lines: Vec<_> = board.nodes().iter().map(super::NodeLine::text).collect();
        assert_eq!(
            lines,
            [
                "  1 n1           10.0.1.1        restoring  300.0 MiB  100.0 MiB/s  buffered 3.0 MiB",
                "  2 n2           10.0.1.2        waiting  250.0 MiB  100.0 MiB/s  buffered 3.0 MiB",
            ]
        );
        assert_eq!(
            board.slowest().map(super::NodeLine::short).unwrap(),
            "n2 250.0 MiB"
        );
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
    fn the_rate_forgets_what_is_older_than_its_span() {
        let mut rate = Rate::default();
        for second in 0..20_u64 {
            rate.sample(
                Duration::from_secs(second),
                if second < 10 { second * 1000 } else { 10_000 },
            );
        }
        assert_eq!(rate.per_second(), 0);
    }
}
