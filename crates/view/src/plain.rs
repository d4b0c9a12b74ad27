//! Lines of text for a pipe, a log file or a serial console. Each event has a line, and every few seconds the
//! running stream has one.

use std::io::{self, Write};
use std::time::Duration;

use ka_proto::text::marked_lines;

use crate::board::Board;
use crate::{
    View,
    line::{event_line, is_detail, prepared_lines},
};
use ka_report::run::RunEvent;
use ka_report::text::clock;

/// Shortest interval of progress lines. A log of an hour stays readable.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Most nodes that a progress line names one by one. Of more, only the slowest is named.
const MAX_NAMED_NODES: usize = 4;

/// The amount of text of a plain view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Failures and warnings (`--quiet`).
    Quiet,
    /// The outcome of each node, and progress every few seconds.
    Normal,
    /// Each node's single steps, too (`--verbose`).
    Steps,
    /// Each node's whole plan, too: the log file.
    Full,
}

/// A view that writes plain lines.
#[derive(Debug)]
pub struct PlainView<W> {
    out: W,
    verbosity: Verbosity,
    board: Board,
    last_progress: Duration,
}

impl<W: Write> PlainView<W> {
    /// Returns a view that writes to `out`.
    pub fn new(out: W, verbosity: Verbosity) -> Self {
        Self {
            out,
            verbosity,
            board: Board::default(),
            last_progress: Duration::ZERO,
        }
    }

    fn line(&mut self, at: Duration, text: &str) -> io::Result<()> {
        for line in marked_lines(text) {
            writeln!(self.out, "[{}] {line}", clock(at))?;
        }
        Ok(())
    }

    fn progress(&mut self, at: Duration) -> io::Result<()> {
        if self.verbosity == Verbosity::Quiet || at.saturating_sub(self.last_progress) < PROGRESS_EVERY {
            return Ok(());
        }
        let Some(mut line) = self.board.total(at) else {
            return Ok(());
        };
        self.last_progress = at;
        // Nothing more comes from nodes that are done or out.
        let nodes: Vec<_> = self
            .board
            .nodes()
            .iter()
            .filter(|node| node.is_running())
            .collect();
        if nodes.is_empty() {
            // The line is about the run as a whole.
        } else if nodes.len() <= MAX_NAMED_NODES {
            let each: Vec<_> = nodes.iter().map(|node| node.short()).collect();
            line = format!("{line}; {}", each.join(", "));
        } else if let Some(slowest) = self.board.slowest() {
            line = format!("{line}; {} nodes, last is {}", nodes.len(), slowest.short());
        }
        self.line(at, &line)
    }
}

impl<W: Write + Send> View for PlainView<W> {
    fn handle(&mut self, at: Duration, event: &RunEvent) -> io::Result<()> {
        self.board.handle(at, event);
        match event {
            RunEvent::Progress { .. } => self.progress(at)?,
            event if self.verbosity == Verbosity::Quiet && !is_trouble(event) => return Ok(()),
            event if self.verbosity == Verbosity::Normal && is_detail(event) => return Ok(()),
            event => {
                if matches!(event, RunEvent::SessionStarted { .. }) {
                    self.last_progress = at;
                }
                if let Some(line) = event_line(event) {
                    self.line(at, &line)?;
                }
            }
        }
        if let (Verbosity::Full, RunEvent::NodePrepared { node, plan }) = (self.verbosity, event) {
            for line in prepared_lines(node, plan) {
                self.line(at, &line)?;
            }
        }
        self.out.flush()
    }
}

fn is_trouble(event: &RunEvent) -> bool {
    matches!(
        event,
        RunEvent::NodeFailed { .. }
            | RunEvent::SlowNode { .. }
            | RunEvent::NodeAway { .. }
            | RunEvent::SpoolOff { .. }
            | RunEvent::LeftGroup { .. }
            | RunEvent::Warning { .. }
            | RunEvent::ApprovalWanted { .. }
            | RunEvent::StartWanted
            | RunEvent::NodeRefused { .. }
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{PlainView, Verbosity};
    use crate::View;
    use ka_proto::order::Crossings;
    use ka_report::event::{NodeEvent, Step};
    use ka_report::report::{DiskPlan, NodePlan};
    use ka_report::run::{NodeProgress, NodeRef, RunEvent};

    fn node() -> NodeRef {
        NodeRef {
            id: 1,
            name: "n1".into(),
            addr: "10.0.1.1".into(),
            position: 1,
        }
    }

    fn plan() -> NodePlan {
        let disk = DiskPlan {
            drive: "sda".into(),
            device: "/dev/vda".into(),
            disk_bytes: 4 << 30,
            sector_size_bytes: 512,
            identity: "QEMU 0001".into(),
            holds: "swap".into(),
        };
        NodePlan {
            disks: vec![disk],
            actions: vec!["format /dev/vda1 as ext4".into()],
            warnings: vec![],
        }
    }

    fn events() -> Vec<(u64, RunEvent)> {
        let progress = |mib: u64| RunEvent::Progress {
            sent_bytes: mib << 20,
            content_bytes: mib << 20,
            nodes: vec![NodeProgress {
                id: 1,
                received_bytes: mib << 20,
                consumed_bytes: mib << 20,
                buffered_bytes: 0,
            }],
        };
        vec![
            (
                0,
                RunEvent::Listening {
                    session: "kainstall".into(),
                    addrs: vec!["10.0.1.9:30765".into()],
                    wanted: Some(1),
                    wait_secs: None,
                },
            ),
            (
                5,
                RunEvent::NodeJoined {
                    node: node(),
                    present: 1,
                    wanted: Some(1),
                },
            ),
            (
                5,
                RunEvent::LetsGo {
                    nodes: vec![node()],
                    wiring: vec![None],
                    crossings: Crossings::default(),
                },
            ),
            (
                6,
                RunEvent::NodePrepared {
                    node: node(),
                    plan: plan(),
                },
            ),
            (
                7,
                RunEvent::NodeStep {
                    node: node(),
                    step: NodeEvent::news(Step::Format, "/dev/vda1 as ext4"),
                },
            ),
            (
                8,
                RunEvent::SessionStarted {
                    session: "kainstall2".into(),
                    what: "sending the tree".into(),
                    expected_bytes: Some(500 << 20),
                },
            ),
            (9, progress(10)),
            (12, progress(40)),
            (14, progress(60)),
            (
                15,
                RunEvent::NodeFailed {
                    node: node(),
                    stage: "restoring".into(),
                    reason: "disk full".into(),
                },
            ),
        ]
    }

    fn show(verbosity: Verbosity) -> String {
        let mut out = Vec::new();
        let mut view = PlainView::new(&mut out, verbosity);
        for (at, event) in events() {
            view.handle(Duration::from_secs(at), &event).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_run_without_a_terminal_has_a_line_an_event_and_progress_every_few_seconds() {
        let expected = "\
[0:00] session kainstall on 10.0.1.9:30765: waiting for 1 node
[0:05] n1 (10.0.1.1) is here, 1 of 1 present
[0:05] Let's go: 1 node, chain: 1 n1
[0:06] node 1 n1 (10.0.1.1): ready to start; sda to /dev/vda (4.0 GiB QEMU 0001, now: swap)
[0:08] kainstall2: sending the tree, about 500.0 MiB
[0:14] kainstall2: sending the tree, 60.0 MiB of about 500.0 MiB, 10.0 MiB/s, 0:44 left; n1 60.0 MiB
[0:15] node 1 n1 (10.0.1.1): FAILED at restoring: disk full
";
        assert_eq!(show(Verbosity::Normal), expected);
    }

    #[test]
    fn single_steps_are_shown_on_demand() {
        let steps = show(Verbosity::Steps);
        assert!(
            steps.contains("[0:07] n1> formatting: /dev/vda1 as ext4\n"),
            "{steps}"
        );
        assert_eq!(steps.lines().count(), show(Verbosity::Normal).lines().count() + 1);
    }

    #[test]
    fn quiet_shows_trouble_only() {
        assert_eq!(
            show(Verbosity::Quiet),
            "[0:15] node 1 n1 (10.0.1.1): FAILED at restoring: disk full\n"
        );
    }

    #[test]
    fn the_log_holds_each_nodes_plan() {
        assert!(show(Verbosity::Full).contains("[0:06] n1> format /dev/vda1 as ext4\n"));
    }
}
