//! The view for an operator at a terminal. Lines scroll by, and below them stands the state of the run, as
//! [`Screen`] has it.
//!
//! Nothing is shown twice. A standing row may tell the trouble of a node: it failed, it is slow, it is
//! silent. Then its line scrolls by only when the row has no more room or is over. At the end the standing
//! lines go away. The totals, which the program prints, take their place.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use console::Term;
use ka_proto::text::marked_lines;

use crate::board::Board;
use crate::drawer::{Draw, Drawer};
use crate::line::{event_line, is_detail};
use crate::screen::{Now, Screen, Size};
use crate::styled::{Colour, Line, Tone};
use crate::{Verbosity, View};
use ka_report::run::RunEvent;
use ka_report::text::clock;

/// Families of terminals that can move their cursor and erase below it, by the prefix of their names in
/// `TERM`. Any other terminal gets plain lines, which are never wrong.
const FAMILIES: [&str; 24] = [
    "xterm",
    "tmux",
    "screen",
    "linux",
    "vt1",
    "vt2",
    "vt3",
    "vt4",
    "vt5",
    "rxvt",
    "konsole",
    "gnome",
    "vte",
    "alacritty",
    "foot",
    "kitty",
    "wezterm",
    "ghostty",
    "putty",
    "st-",
    "Eterm",
    "iterm",
    "cygwin",
    "mintty",
];

/// Size of a terminal that does not report its own (a serial line).
const USUAL: Size = Size {
    columns: 80,
    rows: 24,
};

/// A view that draws on a terminal.
pub struct TerminalView<W> {
    drawer: Drawer<W>,
    size: Box<dyn Fn() -> Size + Send>,
    drawn_for: Size,
    verbosity: Verbosity,
    board: Board,
    /// Lines about nodes that are held back, because a standing row shows the same.
    held: Vec<(u32, Line)>,
}

/// True if standing lines can be drawn on `out`. It must be a terminal of a kind (the value of `TERM`) that
/// is known to be able to.
pub fn can_draw_on(out: &impl IsTerminal, term: &str) -> bool {
    out.is_terminal() && (term == "st" || FAMILIES.iter().any(|family| term.starts_with(family)))
}

/// Returns the use of colours on a terminal. There are none if `NO_COLOR` is not empty (no-color.org), or if
/// the terminal has none.
pub fn colour_for(term: &str, no_color: Option<&str>) -> Colour {
    let is_unwanted = no_color.is_some_and(|value| !value.is_empty());
    if is_unwanted || term.starts_with("vt") || term.ends_with("-m") || term.ends_with("-mono") {
        Colour::Off
    } else {
        Colour::On
    }
}

/// Returns the size of the terminal on standard error, or 80×24 if it is not known.
pub fn size_of_stderr() -> Size {
    match Term::stderr().size_checked() {
        Some((rows, columns)) if rows > 0 && columns > 0 => Size {
            columns: columns.into(),
            rows: rows.into(),
        },
        _ => USUAL,
    }
}

impl<W: Write> TerminalView<W> {
    /// Returns a view that draws on `out`, a terminal whose current size `size` returns.
    pub fn new(
        out: W,
        colour: Colour,
        verbosity: Verbosity,
        size: impl Fn() -> Size + Send + 'static,
    ) -> Self {
        Self {
            drawer: Drawer::new(out, colour),
            drawn_for: size(),
            size: Box::new(size),
            verbosity,
            board: Board::default(),
            held: Vec::new(),
        }
    }

    /// Draws the changes. `passing` scrolls by, and so do the lines whose row is gone.
    fn redraw(&mut self, at: Duration, mut passing: Vec<Line>) -> io::Result<()> {
        let size = (self.size)();
        let anew = size != std::mem::replace(&mut self.drawn_for, size);
        let since_midnight = since_midnight();
        let screen = Screen::render(&self.board, Now { at, since_midnight }, size);
        let told = |(node, _): &(u32, Line)| screen.told.contains(node);
        let (held, gone) = std::mem::take(&mut self.held).into_iter().partition(told);
        self.held = held;
        passing.extend(gone.into_iter().map(|(_, line)| line));
        // An operator who has a question may be typing.
        let draw = if anew {
            Draw::Anew
        } else if self.board.asks() {
            Draw::BesideTyping(size)
        } else {
            Draw::Changes
        };
        self.drawer.draw(&passing, screen.lines, draw)
    }

    /// Returns the lines of an event. Lines about something that a row can show are held back.
    fn take(&mut self, at: Duration, event: &RunEvent) -> Vec<Line> {
        let is_left_out = match event {
            // The question stands below, in the place where it is answered.
            RunEvent::ApprovalWanted { .. } | RunEvent::StartWanted => true,
            event => self.verbosity != Verbosity::Steps && is_detail(event),
        };
        let text = event_line(event).filter(|_| !is_left_out).unwrap_or_default();
        let tone = tone(event);
        let lines = marked_lines(&text).into_iter().filter(|line| !line.is_empty());
        let lines = lines.map(|line| Line::new(Tone::Plain, format!("[{}] ", clock(at))).with(tone, line));
        match held_for(event) {
            Some(node) => {
                self.held.extend(lines.map(|line| (node, line)));
                Vec::new()
            }
            None => lines.collect(),
        }
    }
}

impl<W: Write + Send> View for TerminalView<W> {
    fn handle(&mut self, at: Duration, event: &RunEvent) -> io::Result<()> {
        let is_end = matches!(event, RunEvent::Ended { .. });
        self.board.handle(at, event);
        if is_end {
            // The totals name the failed nodes. A node that was slow for a while is no news any more.
            self.held.clear();
        }
        let passing = self.take(at, event);
        self.redraw(at, passing)
    }

    fn tick(&mut self, at: Duration) -> io::Result<()> {
        self.redraw(at, Vec::new())
    }
}

impl<W> fmt::Debug for TerminalView<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TerminalView").finish_non_exhaustive()
    }
}

/// Returns the node whose row tells the same as the lines of this event.
fn held_for(event: &RunEvent) -> Option<u32> {
    match event {
        RunEvent::NodeFailed { node, .. } | RunEvent::NodeAway { node, .. } => Some(node.id),
        RunEvent::SlowNode {
            node: Some(node),
            set_aside: false,
            ..
        } => Some(node.id),
        _ => None,
    }
}

fn tone(event: &RunEvent) -> Tone {
    match event {
        RunEvent::NodeFailed { .. } => Tone::Bad,
        RunEvent::NodeDone { .. } | RunEvent::NodeBooted { .. } => Tone::Good,
        RunEvent::Warning { .. }
        | RunEvent::SlowNode { .. }
        | RunEvent::NodeAway { .. }
        | RunEvent::SpoolOff { .. }
        | RunEvent::LeftGroup { .. }
        | RunEvent::NodeRefused { .. } => Tone::Warning,
        _ => Tone::Plain,
    }
}

/// Returns the time of day in the time zone of this machine.
fn since_midnight() -> Option<Duration> {
    let now = jiff::Zoned::now();
    let minutes = u64::try_from(i32::from(now.hour()) * 60 + i32::from(now.minute())).ok()?;
    let seconds = u64::try_from(now.second()).ok()?;
    Some(Duration::from_secs(minutes * 60 + seconds))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::{TerminalView, colour_for};
    use crate::{Colour, Size, Verbosity, View};
    use ka_report::event::{NodeEvent, Step};
    use ka_report::run::{NodeRef, RunEvent};
    use ka_report::summary::RunSummary;

    /// A writer that keeps its text. Each drawing is one write.
    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<String>>>);

    impl io::Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .lock()
                .unwrap()
                .push(String::from_utf8(bytes.to_vec()).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Paper {
        fn last(&self) -> String {
            self.0.lock().unwrap().pop().unwrap_or_default()
        }

        fn drawings(&self) -> usize {
            self.0.lock().unwrap().len()
        }
    }

    fn view(paper: &Paper, columns: Arc<Mutex<usize>>) -> TerminalView<Paper> {
        let size = move || Size {
            columns: *columns.lock().unwrap(),
            rows: 24,
        };
        TerminalView::new(paper.clone(), Colour::Off, Verbosity::Normal, size)
    }

    fn node(id: u32) -> NodeRef {
        NodeRef {
            id,
            name: format!("n{id}"),
            addr: format!("10.0.1.{id}"),
            position: id,
        }
    }

    fn failed(id: u32) -> RunEvent {
        RunEvent::NodeFailed {
            node: node(id),
            stage: "restoring".into(),
            reason: "disk full".into(),
        }
    }

    fn gather(view: &mut TerminalView<Paper>, nodes: u32) {
        for id in 1..=nodes {
            let joined = RunEvent::NodeJoined {
                node: node(id),
                present: usize::try_from(id).unwrap(),
                wanted: Some(nodes),
            };
            view.handle(Duration::ZERO, &joined).unwrap();
        }
    }

    #[test]
    fn what_a_row_says_does_not_scroll_by_until_the_row_has_no_room() {
        let paper = Paper::default();
        let mut view = view(&paper, Arc::new(Mutex::new(80)));
        gather(&mut view, 30);
        view.handle(Duration::from_secs(1), &failed(1)).unwrap();
        let one = paper.last();
        assert!(
            one.contains("FAILED   n1  restoring: disk full") && !one.contains("FAILED at"),
            "{one}"
        );
        for id in 2..=30 {
            view.handle(Duration::from_secs(2), &failed(id)).unwrap();
        }
        let many = paper.last();
        assert!(
            many.contains("[0:02] node 30 n30 (10.0.1.30): FAILED at restoring: disk full\r\n"),
            "{many}"
        );
        assert!(!many.contains("node 1 n1 "), "{many}");
        let summary = RunSummary::default();
        view.handle(Duration::from_secs(3), &RunEvent::Ended { summary })
            .unwrap();
        assert_eq!(paper.last(), "\r\x1b[J", "the totals come on standard output");
    }

    #[test]
    fn single_steps_do_not_scroll_by() {
        let paper = Paper::default();
        let mut view = view(&paper, Arc::new(Mutex::new(80)));
        gather(&mut view, 3);
        let step = |step| RunEvent::NodeStep { node: node(1), step };
        let news = step(NodeEvent::news(Step::Format, "/dev/sda1 as ext4"));
        let before = paper.drawings();
        view.handle(Duration::ZERO, &news).unwrap();
        assert_eq!(paper.drawings(), before);
        let warning = step(NodeEvent::warning(Step::Format, "it is old"));
        view.handle(Duration::ZERO, &warning).unwrap();
        assert!(paper.last().contains("n1> warning: formatting: it is old"));
    }

    #[test]
    fn a_terminal_of_another_size_is_drawn_anew_within_a_tick() {
        let (paper, columns) = (Paper::default(), Arc::new(Mutex::new(80)));
        let mut view = view(&paper, Arc::clone(&columns));
        gather(&mut view, 3);
        let before = paper.drawings();
        view.tick(Duration::ZERO).unwrap();
        assert_eq!(paper.drawings(), before, "nothing has changed");
        *columns.lock().unwrap() = 20;
        view.tick(Duration::ZERO).unwrap();
        let drawn = paper.last();
        assert!(
            drawn.starts_with("\r\x1b[J\r\nwaiting for nodes:…\r\n"),
            "{drawn:?}"
        );
    }

    #[test]
    fn no_color_holds_whatever_it_says_and_old_terminals_have_none() {
        assert_eq!(colour_for("xterm-256color", None), Colour::On);
        assert_eq!(colour_for("xterm-256color", Some("")), Colour::On);
        assert_eq!(colour_for("xterm-256color", Some("0")), Colour::Off);
        assert_eq!(colour_for("vt220", None), Colour::Off);
    }
}
