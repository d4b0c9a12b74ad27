//! The screen of the terminal view, as lines of text. First comes a header with the phase, the progress and
//! the slow nodes. Then come the nodes counted by group, and the nodes that need attention. Pure: tests cover
//! every size without a terminal.

use std::time::Duration;

use ka_proto::text::marked_lines;
use ka_report::approval;
use ka_report::text::{clock, count, size};

use crate::board::{Board, Flow, Group, NodeLine, Trouble};
use crate::line::START_QUESTION;
use crate::styled::{Line, Tone};

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Characters in a row.
    pub columns: usize,
    /// Number of rows.
    pub rows: usize,
}

/// The time at which a screen is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    /// Time since the run began.
    pub(crate) at: Duration,
    /// Time since midnight, by the operator's clock. `None` if it is not known.
    pub(crate) since_midnight: Option<Duration>,
}

/// The lines that stand on the terminal.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Screen {
    /// The lines, each narrower than the terminal.
    pub(crate) lines: Vec<Line>,
    /// Nodes whose trouble is on the screen, by number.
    pub(crate) told: Vec<u32>,
}

/// Most questions that stand one by one.
const MAX_QUESTIONS: usize = 4;
/// Most missing machines that have a row each. More are named in one row.
const MAX_MISSING_ROWS: usize = 3;
/// Width of the bar with its brackets, in columns.
const BAR: usize = 18;
/// Width of the word that begins a row, in columns: `FAILED`, `MISSING`.
const WORD: usize = 7;
/// Longest name that fits its column, in characters.
const MAX_NAME: usize = 24;

const DAY: u64 = 24 * 60 * 60;

/// A row about a node or a machine.
struct Row {
    node: Option<u32>,
    tone: Tone,
    word: &'static str,
    name: String,
    text: String,
}

impl Screen {
    /// Returns the screen of a run on a terminal of this size. It is empty if there is nothing to show, or no
    /// room.
    pub(crate) fn render(board: &Board, now: Now, size: Size) -> Self {
        // A full row would wrap on some terminals. One row is for the operator's typing, and the events need
        // some rows, too.
        let columns = size.columns.saturating_sub(1);
        let room = size.rows.saturating_sub(1 + (size.rows / 3).max(2));
        let Some(headline) = board.headline(now.at) else {
            return Self::default();
        };
        let mut screen = Self::default();
        let waited = board.start_wanted_for(now.at);
        screen.lines.extend(waited.map(|waited| {
            let question = format!("{START_QUESTION} ({} so far)", clock(waited));
            Line::new(Tone::Strong, question)
        }));
        screen.lines.extend(questions(board));
        screen.lines.push(Line::new(Tone::Strong, headline));
        let flow = board.flow(now.at);
        screen.lines.extend(flow.map(|flow| figures(&flow, now, columns)));
        let mut rows = holders(board);
        if let Some(first) = (!rows.is_empty()).then(|| rows.remove(0)) {
            screen.told.extend(first.node);
            screen.lines.push(held_up(&first));
        }
        screen.lines.extend(counts(board, columns));
        let left = room.saturating_sub(screen.lines.len());
        screen.add_rows(board, now, rows, left);
        screen.lines = screen
            .lines
            .into_iter()
            .take(room)
            .map(|line| line.cut(columns))
            .collect();
        screen
    }

    /// Adds the rows of the nodes that need attention. The other nodes follow if there is room for all.
    fn add_rows(&mut self, board: &Board, now: Now, holders: Vec<Row>, room: usize) {
        let mut rows: Vec<Row> = failed(board).collect();
        rows.extend(holders);
        rows.extend(silent(board));
        rows.extend(missing(board, now.at));
        rows.extend(
            board
                .straggler()
                .filter(|node| !self.told.contains(&node.id()))
                .map(last),
        );
        let more = if rows.len() > room {
            rows.split_off(room.saturating_sub(1))
        } else {
            Vec::new()
        };
        self.told.extend(rows.iter().filter_map(|row| row.node));
        let others: Vec<Row> = quiet(board).collect();
        if more.is_empty() && rows.len() + others.len() <= room {
            rows.extend(others);
        }
        let width = rows
            .iter()
            .map(|row| row.name.chars().count())
            .max()
            .unwrap_or(0)
            .min(MAX_NAME);
        self.lines.extend(rows.iter().map(|row| row.line(width)));
        if !more.is_empty() && room > 0 {
            self.lines.push(Line::new(
                Tone::Warning,
                format!("and {} more of these", more.len()),
            ));
        }
    }
}

impl Row {
    fn line(&self, width: usize) -> Line {
        let line = Line::new(self.tone, format!("{:<WORD$}", self.word));
        line.with(Tone::Plain, format!("  {:<width$}  {}", self.name, self.text))
    }

    fn of(node: &NodeLine, tone: Tone, word: &'static str, text: impl Into<String>) -> Self {
        Self {
            node: Some(node.id()),
            tone,
            word,
            name: node.name().to_owned(),
            text: text.into(),
        }
    }
}

/// Returns the questions of `--approve`: the line that `y` answers, or all waiting nodes with their numbers.
fn questions(board: &Board) -> Vec<Line> {
    match board.questions() {
        [] => Vec::new(),
        [one] => vec![Line::new(Tone::Strong, approval::question(&one.text))],
        all => {
            let head = format!("{} wait: let in? y NUMBER, n NUMBER or a (all)", all.len());
            let mut lines = vec![Line::new(Tone::Strong, head)];
            let shown = all.iter().take(MAX_QUESTIONS);
            lines
                .extend(shown.map(|one| Line::new(Tone::Plain, format!("{:>3}: {}", one.request, one.text))));
            if all.len() > MAX_QUESTIONS {
                let more = all.len() - MAX_QUESTIONS;
                lines.push(Line::new(
                    Tone::Plain,
                    format!("     and {more} more: Enter lists them"),
                ));
            }
            lines
        }
    }
}

/// Returns `62%  0:41 left (22:31)  11.2 MiB/s  [====>    ]  124.0 MiB of 200.0 MiB`. The most important
/// parts are at the left; parts that do not fit are left out from the right.
fn figures(flow: &Flow, now: Now, columns: usize) -> Line {
    let mut parts = Vec::new();
    parts.extend(flow.percent.map(|percent| format!("{percent:>3}%")));
    parts.push(time(flow, now));
    parts.extend(flow.per_second.map(|rate| format!("{}/s", size(rate))));
    parts.extend(flow.percent.map(bar));
    parts.extend(flow.bytes.map(|bytes| match bytes {
        (has, Some(all)) => format!("{} of {}", size(has), size(all)),
        (has, None) => size(has),
    }));
    let mut line = Line::default();
    for part in parts {
        let part = if line.width() == 0 {
            part
        } else {
            format!("  {part}")
        };
        if line.width() + part.chars().count() > columns {
            break;
        }
        line = line.with(Tone::Plain, part);
    }
    line
}

fn time(flow: &Flow, now: Now) -> String {
    let so_far = clock(flow.elapsed);
    let left = match flow.left {
        None => return format!("{so_far} so far"),
        Some(left) if left.is_zero() && flow.per_second.is_none() => {
            return format!("{so_far} so far, longer than usual");
        }
        Some(left) => left,
    };
    let of = if flow.is_of_data { "data " } else { "" };
    let day = now.since_midnight.map_or_else(String::new, |since| {
        let minutes = (since + left).as_secs() % DAY / 60;
        format!(" ({:02}:{:02})", minutes / 60, minutes % 60)
    });
    format!("{of}{} left{day}", clock(left))
}

fn bar(percent: u64) -> String {
    let inner = BAR - 2;
    let done = usize::try_from(percent).unwrap_or(100).min(100) * inner / 100;
    let head = if done < inner { ">" } else { "" };
    format!("[{:<inner$}]", format!("{}{head}", "=".repeat(done)))
}

/// Returns `200: 3 missing · 1 failed · 171 restoring · 23 done`, with as many groups as fit.
fn counts(board: &Board, columns: usize) -> Option<Line> {
    let counts = board.counts();
    let total: usize = counts.values().sum();
    if total == 0 {
        return None;
    }
    let mut line = Line::new(Tone::Strong, format!("{total}:"));
    for (index, (group, number)) in counts.into_iter().enumerate() {
        let dot = if index == 0 { " " } else { " · " };
        let usual = match group {
            Group::Working(step) => board.step_times().usual(step).filter(|time| time.as_secs() >= 10),
            _ => None,
        };
        let usual = usual.map_or_else(String::new, |time| format!(" (usually {})", clock(time)));
        let group_text = format!("{number} {group}{usual}");
        if line.width() + dot.chars().count() + group_text.chars().count() > columns {
            return Some(line.with(Tone::Plain, " …"));
        }
        line = line.with(Tone::Plain, dot).with(tone(group), group_text);
    }
    Some(line)
}

const fn tone(group: Group) -> Tone {
    match group {
        Group::Failed => Tone::Bad,
        Group::Missing | Group::Silent | Group::Slow => Tone::Warning,
        Group::Done | Group::Booted => Tone::Good,
        _ => Tone::Plain,
    }
}

/// Returns the rows of those that hold up the others: the golden node, then nodes in chain order.
fn holders(board: &Board) -> Vec<Row> {
    let golden = board.golden_slowness().map(|text| Row {
        node: None,
        tone: Tone::Warning,
        word: "SLOW",
        name: "the golden node".to_owned(),
        text: text.to_owned(),
    });
    let slow = |node: &NodeLine| Some(Row::of(node, Tone::Warning, "SLOW", node.slowness()?));
    golden
        .into_iter()
        .chain(board.nodes().iter().filter_map(slow))
        .collect()
}

/// Returns `n103 is slow: its line carries 1.1 MB/s, the lines before it 11.8; the 5 nodes behind it wait for
/// it`.
fn held_up(row: &Row) -> Line {
    Line::new(Tone::Warning, format!("{} is slow", row.name)).with(Tone::Plain, format!(": {}", row.text))
}

fn failed(board: &Board) -> impl Iterator<Item = Row> {
    board.nodes().iter().filter_map(|node| {
        let (stage, reason) = node.failure()?;
        let reason = marked_lines(reason).into_iter().next().unwrap_or_default();
        Some(Row::of(node, Tone::Bad, "FAILED", format!("{stage}: {reason}")))
    })
}

fn silent(board: &Board) -> impl Iterator<Item = Row> {
    let silent = board.nodes().iter();
    let silent = silent.filter(|node| node.trouble() == Some(&Trouble::Silent));
    silent.map(|node| Row::of(node, Tone::Warning, "SILENT", "nobody hears it; it may come back"))
}

/// Returns the missing machines of the node list: a row each, or all names in one row if they are many.
fn missing(board: &Board, at: Duration) -> Vec<Row> {
    let absent: Vec<_> = board.expected().absent(at).collect();
    let row = |name: String, text: String| Row {
        node: None,
        tone: Tone::Warning,
        word: "MISSING",
        name,
        text,
    };
    if absent.len() <= MAX_MISSING_ROWS {
        let each = absent.into_iter();
        return each.map(|(name, seen)| row(name.to_owned(), seen)).collect();
    }
    let names: Vec<&str> = absent.iter().map(|(name, _)| *name).collect();
    vec![row(count(names.len(), "machine"), names.join(" "))]
}

fn last(node: &NodeLine) -> Row {
    Row::of(node, Tone::Plain, "last", node.doing())
}

/// Returns the rows of nodes without trouble, which show only their work.
fn quiet(board: &Board) -> impl Iterator<Item = Row> {
    let straggler = board.straggler().map(NodeLine::id);
    let is_quiet = move |node: &&NodeLine| {
        node.failure().is_none()
            && !matches!(node.trouble(), Some(Trouble::Slow(_) | Trouble::Silent))
            && straggler != Some(node.id())
    };
    let quiet = board.nodes().iter().filter(is_quiet);
    quiet.map(|node| Row::of(node, Tone::Plain, "", node.doing()))
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
