//! The end of a run: totals of each stream and what became of each node. Its [`fmt::Display`] is the text that
//! `ka-server` prints last; the failed nodes come at the end, and behind them
//! what is on their disks, where nobody misses it.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::boot::FirstBoot;
use crate::report::{Digest, NodeReport};
use crate::run::NodeRef;
use crate::spool::Rejoined;
use crate::text::{clock, count, mib, seconds, size, throughput};

/// Most golden problems (unreadable, changed, vanished files) named in the totals; the rest is counted and in
/// the log.
pub const MAX_SHOWN_PROBLEMS: usize = 20;

/// What one stream carried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamTotals {
    /// The session's name, `kainstall2`.
    pub name: String,
    /// In which round, counted from 1.
    pub round: u32,
    /// Bytes sent, compressed as they were.
    pub bytes: u64,
    /// Blocks they were sent in.
    pub blocks: u64,
    /// From the first block to the last given to the chain, milliseconds.
    pub sending_ms: u64,
    /// From the last block given to the chain until the last node had taken it, milliseconds.
    pub emptied_in_ms: u64,
    /// What the golden node put in; none where only the bytes are known (`-e`).
    pub golden: Option<GoldenTotals>,
}

/// The golden side of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct GoldenTotals {
    /// Files, directories, links and devices sent; 0 for a raw partition.
    pub files: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Digest each node must report.
    pub digest: Digest,
}

/// What became of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum NodeOutcome {
    /// All there, digests compared.
    Done {
        /// What the node handed in.
        report: NodeReport,
    },
    /// Out of the run.
    Failed {
        /// What it was doing.
        stage: String,
        /// Why.
        reason: String,
    },
}

/// A node and its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeSummary {
    /// The node.
    pub node: NodeRef,
    /// In which round that was, counted from 1: the last one that it took part in. 0: before the server was started
    /// again.
    pub round: u32,
    /// Its hardware address, where it is known.
    pub mac: Option<String>,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: NodeOutcome,
    /// Its disks were being written in this run, and hold no finished clone: nothing boots from them.
    pub erased: bool,
    /// Where it lost its place in the chain and went on from what the server kept (`--spool`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rejoined: Vec<Rejoined>,
    /// Whether it came back from its own disk; none where nobody waited for that, or it failed before.
    #[serde(flatten)]
    pub first_boot: Option<FirstBoot>,
}

/// A whole run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RunSummary {
    /// Session name without number.
    pub session: String,
    /// Why the run ended before its time, if it did.
    pub ended_by: Option<String>,
    /// The streams in order.
    pub streams: Vec<StreamTotals>,
    /// Every node that was ever accepted, in chain order, each once: as the last round that it was in left it.
    pub nodes: Vec<NodeSummary>,
    /// Golden files that changed, vanished or could not be read, named as far as they were kept.
    pub golden_problems: Vec<String>,
    /// All of them.
    pub golden_problem_count: u64,
    /// Those of them that could not be read, wholly or in part: the clones are without them.
    pub golden_unreadable_count: u64,
    /// The operator said that these do not make the run a failure (`--allow-unreadable`).
    pub unreadable_allowed: bool,
    /// The whole run, milliseconds.
    pub took_ms: u64,
    /// Where the signed report is.
    pub report_file: Option<String>,
    /// The run clones disks: their state is told at the end.
    #[serde(skip)]
    pub clones: bool,
}

impl RunSummary {
    /// Nodes that are done.
    pub fn done(&self) -> usize {
        self.nodes
            .iter()
            .filter(|node| matches!(node.outcome, NodeOutcome::Done { .. }))
            .count()
    }

    /// Clones that were waited for and never came back.
    pub fn missing(&self) -> impl Iterator<Item = &NodeRef> {
        let missing = |node: &&NodeSummary| node.first_boot == Some(FirstBoot::NeverCameBack);
        self.nodes.iter().filter(missing).map(|node| &node.node)
    }

    /// Whether the clones lack something of the golden node that it could not read, and nobody said that they may.
    pub fn lacks_unreadable(&self) -> bool {
        self.golden_unreadable_count > 0 && !self.unreadable_allowed
    }

    /// 0 all nodes done, and back where that was waited for; 1 nothing done, and no disk written; 3 some nodes failed or never
    /// came back, disks were erased that hold no clone, or the golden node could not be read as a whole.
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
        for node in &self.nodes {
            if let NodeOutcome::Done { report } = &node.outcome {
                write_done(f, node, report)?;
            }
        }
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

fn write_done(f: &mut fmt::Formatter<'_>, summary: &NodeSummary, report: &NodeReport) -> fmt::Result {
    write!(f, "{}: done{}", summary.node, in_round(summary.round))?;
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

/// Nothing for the first round, which most runs have only.
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
    for (node, stage, reason) in failed {
        let round = in_round(node.round);
        let text = format!("failed: {} at {stage}{round}: {reason}", node.node);
        for line in ka_proto::text::marked_lines(&text) {
            writeln!(f, "{line}")?;
        }
    }
    write_disks(f, summary)
}

/// Says in which state the disks of those are that are not done, and what to do.
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

/// A room's worth of names.
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

/// `, 3 booted`, where first boots were waited for.
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
