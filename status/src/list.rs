//! The list of nodes of a running server, one line each.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;

use anyhow::Result;
use ka_cli::exit;
use ka_proto::via::ListedNode;
use ka_transport::nodes_of;

use crate::args::Options;
use crate::keys;

/// Prints the nodes in the order of their names. Returns 0 even without nodes. On a terminal there is a
/// header.
pub(crate) fn run(options: &Options, server: SocketAddr) -> Result<u8> {
    let (key, _) = keys::load(options)?;
    let mut nodes = nodes_of(server, &key)?;
    if nodes.is_empty() {
        ka_cli::say("no node has joined yet");
        return Ok(exit::DONE);
    }
    nodes.sort_by_cached_key(|node| (natural(node.name.as_str()), node.addr));
    let header = io::stdout().is_terminal().then_some(HEADER);
    ka_cli::write(table(header, &nodes).as_bytes())?;
    Ok(exit::DONE)
}

/// Titles of the columns.
const HEADER: [&str; 8] = [
    "NODE",
    "STEP",
    "%",
    "MiB",
    "MiB/s",
    "SINCE",
    "ADDRESS",
    "MAC ADDRESS",
];
/// Columns of numbers, which stand at the right.
const NUMBERS: std::ops::RangeInclusive<usize> = 2..=5;
/// Widest column of steps, in characters. The reason of a failure may be longer, and shifts the rest of its line.
const MAX_STEP: usize = 28;

/// Returns the lines, in columns. What is not known is `-`: only a node at work has figures.
fn table(header: Option<[&str; 8]>, nodes: &[ListedNode]) -> String {
    let header = header.map(|titles| titles.map(str::to_owned));
    let rows: Vec<[String; 8]> = header.into_iter().chain(nodes.iter().map(row)).collect();
    let width = |column: usize| {
        let width = rows
            .iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0);
        if column == 1 { width.min(MAX_STEP) } else { width }
    };
    let widths: Vec<usize> = (0..HEADER.len()).map(width).collect();
    let line = |row: &[String; 8]| {
        let cells = row.iter().zip(&widths).enumerate();
        let cells: Vec<String> = cells
            .map(|(column, (text, width))| match NUMBERS.contains(&column) {
                true => format!("{text:>width$}"),
                false => format!("{text:<width$}"),
            })
            .collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn row(node: &ListedNode) -> [String; 8] {
    let unknown = || "-".to_owned();
    let work = node.work.as_ref();
    let written = work.and_then(|work| work.written);
    [
        node.name.to_string(),
        step(node),
        written
            .and_then(|written| written.percent)
            .map_or_else(unknown, |percent| percent.to_string()),
        written.map_or_else(unknown, |written| mib(written.bytes)),
        written.map_or_else(unknown, |written| mib(written.per_second)),
        work.map_or_else(unknown, |work| clock(work.secs)),
        node.addr.to_canonical().to_string(),
        node.mac.map_or_else(unknown, |mac| mac.to_string()),
    ]
}

/// Returns the step of a node at work, or else its state on one line.
fn step(node: &ListedNode) -> String {
    let state = node.state.as_str().replace('\n', " ");
    match &node.work {
        Some(work) if state.ends_with("; not connected") => format!("{}; not connected", work.step),
        Some(work) => work.step.to_string(),
        None => state,
    }
}

/// Returns mebibytes with one decimal.
fn mib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// Returns `4:07`, or `1:04:07`.
fn clock(secs: u32) -> String {
    let (hours, minutes, seconds) = (secs / 3600, secs / 60 % 60, secs % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

/// Returns the parts of a name in natural order: `n2` comes before `n10`.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts: Vec<(String, u64)> = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let digits_at = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, after) = rest.split_at(digits_at);
        let digits_end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (digits, after) = after.split_at(digits_end);
        parts.push((text.to_owned(), digits.parse().unwrap_or(u64::MAX)));
        rest = after;
    }
    parts
}

#[cfg(test)]
mod tests {
    use ka_mac::MacAddr;
    use ka_proto::via::{Work, Written};
    use ka_proto::{NodeName, Reason};

    use super::*;

    #[test]
    fn every_node_is_one_line_in_columns() {
        let node = |name, mac, addr: [u8; 4], state| ListedNode {
            name: NodeName::new(name).unwrap(),
            mac,
            addr: addr.into(),
            state: Reason::new(state),
            work: None,
        };
        let mac = Some(MacAddr([2, 0, 0, 0, 0, 1]));
        let written = Written {
            bytes: 1536 << 20,
            per_second: 11 << 20,
            percent: Some(62),
        };
        let restoring = Work {
            step: Reason::new("restoring"),
            secs: 3847,
            written: Some(written),
        };
        let nodes = [
            node("n1", mac, [10, 0, 0, 1], "planning"),
            ListedNode {
                work: Some(restoring),
                ..node("n2", mac, [10, 0, 0, 2], "stream 2: 7 bytes taken")
            },
            node("longer", None, [10, 0, 0, 100], "failed:\nno disk"),
        ];
        let expected = "\
NODE    STEP              %     MiB  MiB/s    SINCE  ADDRESS     MAC ADDRESS
n1      planning          -       -      -        -  10.0.0.1    02:00:00:00:00:01
n2      restoring        62  1536.0   11.0  1:04:07  10.0.0.2    02:00:00:00:00:01
longer  failed: no disk   -       -      -        -  10.0.0.100  -
";
        assert_eq!(table(Some(HEADER), &nodes), expected);
        assert_eq!(table(None, &nodes).lines().count(), nodes.len());
    }

    #[test]
    fn names_are_sorted_as_people_count() {
        let mut names = ["n10", "n2", "m", "n2-b", "n02", "n1", "10", "9"];
        names.sort_by_cached_key(|name| natural(name));
        assert_eq!(names, ["9", "10", "m", "n1", "n2", "n02", "n2-b", "n10"]);
    }
}
