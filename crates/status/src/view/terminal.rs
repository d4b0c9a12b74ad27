//! The view for somebody who watches: events scroll by, below them stands one line a node and one for the whole.
//!
//! The draw target is given by the binary, which has made sure that it is a terminal: indicatif shows nothing,
//! not even printed lines, on anything else.

use std::io;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use ka_proto::text::marked_lines;

use crate::board::Board;
use crate::run::RunEvent;
use crate::text::{clock, count};
use crate::view::{View, line::event_line};

/// Most node lines that stand on the screen, so that a room of sixty does not scroll the total away.
const MAX_NODE_LINES: usize = 20;

const MESSAGE: &str = "{wide_msg}";
const BAR: &str = "[{bar:20}] {wide_msg}";

/// Draws on a terminal.
#[derive(Debug)]
pub struct TerminalView {
    screen: MultiProgress,
    board: Board,
    lines: Vec<ProgressBar>,
    total: ProgressBar,
}

impl TerminalView {
    /// A view that draws on `target`.
    pub fn new(target: ProgressDrawTarget) -> Self {
        let screen = MultiProgress::with_draw_target(target);
        let total = screen.add(ProgressBar::new(0).with_style(message_style()));
        Self {
            screen,
            board: Board::default(),
            lines: Vec::new(),
            total,
        }
    }

    fn redraw(&mut self, at: Duration) {
        let nodes = self.board.nodes();
        while self.lines.len() < nodes.len().min(MAX_NODE_LINES) {
            let line = ProgressBar::new(0).with_style(message_style());
            self.lines.push(self.screen.insert_before(&self.total, line));
        }
        for (line, node) in self.lines.iter().zip(nodes) {
            line.set_message(node.text());
        }
        let mut text = self.board.total(at).unwrap_or_default();
        if let Some((node, more)) = self
            .board
            .slowest()
            .zip(nodes.len().checked_sub(MAX_NODE_LINES + 1))
        {
            text += &format!("; {} more, last is {}", count(more + 1, "node"), node.short());
        }
        match self.board.share() {
            Some((done, all)) => {
                self.total.set_style(bar_style());
                self.total.set_length(all);
                self.total.set_position(done);
            }
            None => self.total.set_style(message_style()),
        }
        self.total.set_message(text);
        self.total.tick();
    }
}

impl View for TerminalView {
    fn handle(&mut self, at: Duration, event: &RunEvent) -> io::Result<()> {
        self.board.handle(at, event);
        if let Some(line) = event_line(event) {
            for line in marked_lines(&line) {
                self.screen.println(format!("[{}] {line}", clock(at)))?;
            }
        }
        if matches!(event, RunEvent::Ended { .. }) {
            // The totals follow on standard output; the standing lines have nothing to add to them, and a bar
            // that is not finished would draw itself once more when it is dropped.
            self.lines.drain(..).for_each(|line| line.finish_and_clear());
            self.total.finish_and_clear();
            return self.screen.clear();
        }
        self.redraw(at);
        Ok(())
    }
}

fn message_style() -> ProgressStyle {
    // A test proves that the template is valid; the default is only there for the type.
    ProgressStyle::with_template(MESSAGE).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template(BAR)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use indicatif::{ProgressBar, ProgressDrawTarget};

    use super::{BAR, MAX_NODE_LINES, MESSAGE, ProgressStyle, TerminalView};
    use crate::run::{NodeProgress, NodeRef, RunEvent};
    use crate::view::View;

    fn node(id: u32) -> NodeRef {
        NodeRef {
            id,
            name: format!("n{id}"),
            addr: format!("10.0.1.{id}"),
            position: id,
        }
    }

    fn drawn(nodes: u32) -> TerminalView {
        let mut view = TerminalView::new(ProgressDrawTarget::hidden());
        let progress = |id| NodeProgress {
            id,
            received_bytes: 64 << 20,
            consumed_bytes: 64 << 20,
            buffered_bytes: 1 << 20,
        };
        let progress = RunEvent::Progress {
            sent_bytes: 64 << 20,
            content_bytes: 64 << 20,
            nodes: (1..=nodes).map(progress).collect(),
        };
        let started = RunEvent::SessionStarted {
            session: "kainstall2".into(),
            what: "sending".into(),
            expected_bytes: Some(128 << 20),
        };
        let lets_go = RunEvent::LetsGo {
            nodes: (1..=nodes).map(node).collect(),
        };
        for (at, event) in [(0, lets_go), (0, started), (9, progress)] {
            view.handle(Duration::from_secs(at), &event).unwrap();
        }
        view
    }

    #[test]
    fn the_screen_has_a_line_a_node_and_a_total() {
        let view = drawn(2);
        let lines: Vec<_> = view.lines.iter().map(ProgressBar::message).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("  1 n1           10.0.1.1"), "{lines:?}");
        assert!(view.total.message().contains("64.0 MiB of about 128.0 MiB"));
        assert_eq!(
            (view.total.position(), view.total.length()),
            (64 << 20, Some(128 << 20))
        );
    }

    #[test]
    fn a_room_of_sixty_does_not_scroll_the_total_away() {
        let view = drawn(60);
        assert_eq!(view.lines.len(), MAX_NODE_LINES);
        assert!(
            view.total
                .message()
                .ends_with("; 40 nodes more, last is n1 64.0 MiB"),
            "{}",
            view.total.message()
        );
    }

    #[test]
    fn the_templates_are_valid() {
        assert!(ProgressStyle::with_template(MESSAGE).is_ok());
        assert!(ProgressStyle::with_template(BAR).is_ok());
    }
}
