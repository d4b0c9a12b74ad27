//! The end of a run: totals of each stream and the outcome of each node. Its [`fmt::Display`] is the text
//! that `ka-server` prints last. The failed nodes come at the end, with the state of their disks, so that no
//! operator misses them.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::boot::FirstBoot;
use crate::node::NodeRef;
use crate::report::{Digest, NodeReport};
use crate::spool::Rejoined;
use crate::text::{clock, count, mib, seconds, size, throughput};

/// Most golden problems (unreadable, changed, vanished files) named in the totals. The others are counted,
/// and are in the log.
pub const MAX_SHOWN_PROBLEMS: usize = 20;

/// The totals of one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamTotals {
    /// The session's name, `kainstall2`.
    pub name: String,
    /// Round of the stream, counted from 1.
    pub round: u32,
    /// Bytes sent, after compression.
    pub bytes: u64,
    /// Number of blocks sent.
    pub blocks: u64,
    /// Time from the first block to the last given to the chain, in milliseconds.
    pub sending_ms: u64,
    /// Time from the last block given to the chain until the last node had taken it, in milliseconds.
    pub emptied_in_ms: u64,
    /// Content from the golden node. `None` if only the bytes are known (`-e`).
    pub golden: Option<GoldenTotals>,
}

/// The golden side of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct GoldenTotals {
    /// Number of files, directories, links and devices sent. 0 for a raw partition.
    pub files: u64,
    /// Content sent, in bytes.
    pub bytes: u64,
    /// Digest that each node must report.
    pub digest: Digest,
}

/// The outcome of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum NodeOutcome {
    /// The clone is complete, and its digests match.
    Done {
        /// The node's report.
        report: NodeReport,
    },
    /// The node is out of the run.
    Failed {
        /// Work at which it failed.
        stage: String,
        /// Reason of the failure.
        reason: String,
    },
}

/// A node and its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeSummary {
    /// The node of the outcome.
    pub node: NodeRef,
    /// Round of the outcome, counted from 1: the last one in which the node took part. 0 means before the
    /// server was started again.
    pub round: u32,
    /// MAC address of the node, if it is known.
    pub mac: Option<String>,
    /// The outcome of its last round.
    #[serde(flatten)]
    pub outcome: NodeOutcome,
    /// True if its disks were being written in this run and hold no finished clone. Nothing boots from them.
    pub erased: bool,
    /// Places at which it lost its place in the chain and went on from the spool (`--spool`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rejoined: Vec<Rejoined>,
    /// Result of the wait for its first boot. `None` if the server did not wait, or the node failed before.
    #[serde(flatten)]
    pub first_boot: Option<FirstBoot>,
}

/// The summary of a whole run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RunSummary {
    /// Session name without number.
    pub session: String,
    /// Reason why the run ended early, if it did.
    pub ended_by: Option<String>,
    /// The streams in order.
    pub streams: Vec<StreamTotals>,
    /// Every node that was ever accepted, in chain order, each once, with the outcome of its last round.
    pub nodes: Vec<NodeSummary>,
    /// Golden files that changed, vanished or could not be read. Only some are named.
    pub golden_problems: Vec<String>,
    /// Number of all these files.
    pub golden_problem_count: u64,
    /// Number of these files that could not be read, in whole or in part. The clones are without them.
    pub golden_unreadable_count: u64,
    /// True if the operator accepts such files in a good run (`--allow-unreadable`).
    pub unreadable_allowed: bool,
    /// Duration of the whole run, in milliseconds.
    pub took_ms: u64,
    /// Path of the signed report.
    pub report_file: Option<String>,
    /// True if the run clones disks. Then the end of the text tells the state of the disks.
    #[serde(skip)]
    pub clones: bool,
}

impl RunSummary {
    /// Returns the number of nodes that are done.
    pub fn done(&self) -> usize {
        self.nodes
            .iter()
            .filter(|node| matches!(node.outcome, NodeOutcome::Done { .. }))
            .count()
    }

    /// Returns the clones that the server waited for and that never came back.
    pub fn missing(&self) -> impl Iterator<Item = &NodeRef> {
        let missing = |node: &&NodeSummary| node.first_boot == Some(FirstBoot::NeverCameBack);
        self.nodes.iter().filter(missing).map(|node| &node.node)
    }

    /// True if the clones lack golden files that could not be read, and the operator did not allow that.
    pub fn lacks_unreadable(&self) -> bool {
        self.golden_unreadable_count > 0 && !self.unreadable_allowed
    }

    /// Returns the exit code.
    ///
    /// - 0: all nodes are done, and back if the run waited for that
    /// - 1: nothing was done, and no disk was written
    /// - 3: some nodes failed or never came back, disks were erased that hold no clone, or the golden node
    ///   could not be read as a whole
    pub fn exit_code(&self) -> u8 {
        let is_whole = self.ended_by.is_none() && self.missing().next().is_none() && !self.lacks_unreadable();
        match self.done() {
            0 if self.nodes.iter().any(|node| node.erased) => 3,
            0 => 1,
            done if done == self.nodes.len() && is_whole => 0,
            _ => 3,
        }
    }
}

impl fmt::Display for RunSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for stream in &self.streams {
            write_stream(f, stream)?;
        }
        write_problems(f, self)?;
        let done = self.nodes.iter().filter_map(|node| match &node.outcome {
            NodeOutcome::Done { report } => Some((&node.node, Done(node, report).to_string())),
            NodeOutcome::Failed { .. } => None,
        });
        write_alike(f, "", done.collect())?;
        write_verdict(f, self)
    }
}

fn write_stream(f: &mut fmt::Formatter<'_>, stream: &StreamTotals) -> fmt::Result {
    let name = &match stream.round {
        0 | 1 => stream.name.clone(),
        round => format!("{} (round {round})", stream.name),
    };
    let sending = Duration::from_millis(stream.sending_ms);
    if let Some(golden) = &stream.golden {
        let files = if golden.files == 0 {
            String::new()
        } else {
            format!("{} files, ", golden.files)
        };
        writeln!(
            f,
            "{name}: golden node: {files}{}, digest {}",
            size(golden.bytes),
            golden.digest.short()
        )?;
    }
    writeln!(
        f,
        "{name}: Total data sent = {} MiB ({} bytes), in {}",
        mib(stream.bytes),
        stream.bytes,
        count(usize::try_from(stream.blocks).unwrap_or(usize::MAX), "block")
    )?;
    writeln!(
        f,
        "{name}: Transfer time = {} seconds, throughput = {} MiB/second",
        seconds(sending),
        throughput(stream.bytes, sending)
    )?;
    let emptied = Duration::from_millis(stream.emptied_in_ms);
    writeln!(
        f,
        "{name}: The pipeline was emptied in {} seconds",
        seconds(emptied)
    )
}

fn write_problems(f: &mut fmt::Formatter<'_>, summary: &RunSummary) -> fmt::Result {
    if summary.golden_problem_count == 0 {
        return Ok(());
    }
    let number = |count| usize::try_from(count).unwrap_or(usize::MAX);
    let total = number(summary.golden_problem_count);
    let unreadable = number(summary.golden_unreadable_count);
    let lived = match total.saturating_sub(unreadable) {
        0 => None,
        lived => Some(format!(
            "{} of the golden node changed or vanished",
            count(lived, "file")
        )),
    };
    let lost = match unreadable {
        0 => None,
        lost => Some(format!(
            "{} of the golden node could not be read",
            count(lost, "file")
        )),
    };
    let parts: Vec<String> = lost.into_iter().chain(lived).collect();
    writeln!(f, "{}:", parts.join(", "))?;
    for problem in summary.golden_problems.iter().take(MAX_SHOWN_PROBLEMS) {
        writeln!(f, "  {problem}")?;
    }
    match total.saturating_sub(summary.golden_problems.len().min(MAX_SHOWN_PROBLEMS)) {
        0 => Ok(()),
        more => writeln!(f, "  … and {more} more (--log-dir keeps them)"),
    }
}

/// Most nodes that have a line each. Of more nodes, those with the same lines share them.
const MAX_SINGLE: usize = 8;

/// Writes the lines about each node behind its name; `said` has them with their ends. `word` stands in front
/// of the name. If nodes share their lines, their names follow below.
fn write_alike(f: &mut fmt::Formatter<'_>, word: &str, said: Vec<(&NodeRef, String)>) -> fmt::Result {
    let is_room = said.len() > MAX_SINGLE;
    let mut alike: Vec<(Vec<&NodeRef>, String)> = Vec::new();
    for (node, text) in said {
        match alike.iter_mut().find(|(_, same)| is_room && *same == text) {
            Some((nodes, _)) => nodes.push(node),
            None => alike.push((vec![node], text)),
        }
    }
    for (nodes, text) in alike {
        match nodes[..] {
            [node] => write!(f, "{word}{node}{text}")?,
            _ => {
                let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
                let nodes = count(nodes.len(), "node");
                writeln!(f, "{word}{nodes}{text}  {}", named(&names))?;
            }
        }
    }
    Ok(())
}

/// The text about a node that is done, behind its name.
struct Done<'a>(&'a NodeSummary, &'a NodeReport);

impl fmt::Display for Done<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_done(f, self.0, self.1)
    }
}

fn write_done(f: &mut fmt::Formatter<'_>, summary: &NodeSummary, report: &NodeReport) -> fmt::Result {
    write!(f, ": done{}", in_round(summary.round))?;
    for stream in &report.streams {
        write!(f, "; {}: ", stream.name)?;
        if stream.files > 0 {
            write!(f, "{} files, ", stream.files)?;
        }
        write!(f, "{}", size(stream.bytes))?;
        if let Some(digest) = &stream.digest {
            write!(f, ", digest {}", digest.short())?;
        }
        if stream.problem_count > 0 {
            write!(
                f,
                ", {} not kept in full",
                count(
                    usize::try_from(stream.problem_count).unwrap_or(usize::MAX),
                    "file"
                )
            )?;
        }
    }
    if let Some(read_back) = &report.read_back {
        write!(f, "; {read_back}")?;
    }
    for rejoined in &summary.rejoined {
        write!(f, "; {rejoined}")?;
    }
    match summary.first_boot {
        Some(boot) => writeln!(f, "; {boot}")?,
        None => writeln!(f)?,
    }
    let problems = report.streams.iter().flat_map(|stream| &stream.problems);
    for text in report.warnings.iter().chain(problems).take(MAX_SHOWN_PROBLEMS) {
        writeln!(f, "  warning: {text}")?;
    }
    Ok(())
}

/// Returns the round of an outcome as text. It is empty for the first round, because most runs have only one.
fn in_round(round: u32) -> String {
    match round {
        0 => " before the server was started again".to_owned(),
        1 => String::new(),
        round => format!(" in round {round}"),
    }
}

fn write_verdict(f: &mut fmt::Formatter<'_>, summary: &RunSummary) -> fmt::Result {
    let took = clock(Duration::from_millis(summary.took_ms));
    let total = summary.nodes.len();
    if let Some(path) = &summary.report_file {
        writeln!(f, "Signed report: {path} (ka-server report check)")?;
    }
    if let Some(reason) = &summary.ended_by {
        writeln!(f, "The run was ended after {took}: {reason}")?;
    }
    let failed: Vec<_> = summary
        .nodes
        .iter()
        .filter_map(|node| match &node.outcome {
            NodeOutcome::Failed { stage, reason } => Some((node, stage, reason)),
            NodeOutcome::Done { .. } => None,
        })
        .collect();
    let boots = first_boots(summary);
    if failed.is_empty() {
        match total {
            0 => writeln!(f, "Nothing done: there was no node")?,
            _ => writeln!(f, "{} done in {took}{boots}", count(total, "node"))?,
        }
    } else {
        writeln!(
            f,
            "{} of {} failed, {} done in {took}{boots}",
            failed.len(),
            count(total, "node"),
            summary.done()
        )?;
    }
    for node in summary.missing() {
        writeln!(f, "never came back: {node}")?;
    }
    if summary.lacks_unreadable() {
        writeln!(
            f,
            "not whole: {} of the golden node could not be read, and no clone has what was in it (--allow-unreadable lets \
             that pass)",
            count(
                usize::try_from(summary.golden_unreadable_count).unwrap_or(usize::MAX),
                "file"
            )
        )?;
    }
    let said = failed.into_iter().map(|(node, stage, reason)| {
        let round = in_round(node.round);
        let lines = ka_proto::text::marked_lines(&format!(" at {stage}{round}: {reason}"));
        (&node.node, lines.join("\n") + "\n")
    });
    write_alike(f, "failed: ", said.collect())?;
    write_disks(f, summary)
}

/// Writes the state of the disks of nodes that are not done, and what to do.
fn write_disks(f: &mut fmt::Formatter<'_>, summary: &RunSummary) -> fmt::Result {
    let failed = |erased: bool| {
        let is_one = move |node: &&NodeSummary| {
            matches!(node.outcome, NodeOutcome::Failed { .. }) && node.erased == erased
        };
        let nodes = summary.nodes.iter().filter(is_one);
        nodes.map(|node| node.node.name.as_str()).collect::<Vec<_>>()
    };
    let (erased, untouched) = (failed(true), failed(false));
    if !untouched.is_empty() && summary.clones {
        writeln!(f, "nothing written to the disks of {}", named(&untouched))?;
    }
    if !erased.is_empty() {
        writeln!(
            f,
            "disks erased, and nothing boots from them: {}; run the same command again to clone them",
            named(&erased)
        )?;
    }
    Ok(())
}

/// Most names written: a room's worth.
const MAX_NAMES: usize = 40;

fn named(names: &[&str]) -> String {
    let shown = names
        .iter()
        .take(MAX_NAMES)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    match names.len().saturating_sub(MAX_NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Returns `, 3 booted` if the run waited for first boots.
fn first_boots(summary: &RunSummary) -> String {
    let boots = summary.nodes.iter().filter_map(|node| node.first_boot);
    let (all, missing) = (boots.count(), summary.missing().count());
    match (all, missing) {
        (0, _) => String::new(),
        (all, 0) => format!(", {all} booted"),
        (all, missing) => format!(", {} booted, {missing} never came back", all - missing),
    }
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
