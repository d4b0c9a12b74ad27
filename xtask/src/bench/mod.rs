//! `cargo xtask bench`: one golden node to N nodes over shaped links inside this machine, KA beside other
//! programs.
//!
//! The lab is that of the project's `bench/lab.sh`: namespaces on a bridge, each line shaped both ways with
//! tbf at RATE × 1514/1538. Wall time runs from the start of the transfer (all receivers ready) to the exit
//! of the last receiver. Processor time is that of control groups. Every received byte is compared outside
//! the clock. For KA the start is the launch of the last node, which lets the server begin: discovery, TLS
//! and the reports are inside the clock.

mod boot;
mod cases;
mod datagram_peers;
mod fault_kinds;
mod faults;
mod head;
mod limit;
mod line;
mod measure;
mod multicast_verdicts;
mod peers;
mod report;
mod stranger;
mod tree;
mod verdicts;

use std::fs;

use anyhow::{Context as _, Result};
use ka_tests::{binaries, interrupt, scratch};

use crate::bench::cases::{Case, Kind};
use crate::bench::report::{FaultCost, Measured, Outcome};
use crate::bench::tree::GoldenTree;
use crate::bench::verdicts::Verdict;
use crate::cli::BenchOptions;
use crate::{packages, root};

/// Runs the chosen cases and prints one table; the figures also go to a JSON file.
pub(crate) fn run(options: &BenchOptions) -> Result<()> {
    interrupt::catch()?;
    if !options.no_setup {
        packages::install_missing(packages::Use::All)?;
    }
    let release = match std::env::var_os(binaries::DIR_VARIABLE) {
        Some(dir) => dir.into(),
        None => binaries::own_dir()?.with_file_name("release"),
    };
    if std::env::var_os(binaries::DIR_VARIABLE).is_none() {
        binaries::build(&release, true)?;
        limit::build(&release)?;
    }
    root::become_root("bench", &release)?;
    scratch::sweep();
    let (mut measured, mut golden_tree) = (Vec::new(), None);
    let cases = cases::all(options.quick);
    for case in cases.iter().filter(|case| is_chosen(case, &cases, &options.only)) {
        let outcomes = match case.kind {
            Kind::Boot => boot::boot_case(case, &release, options)?,
            Kind::Fault | Kind::GroupFault => faults::fault_case(case, &release, options)?,
            Kind::Stream | Kind::Multicast | Kind::Loss | Kind::Processor | Kind::Segments => {
                measure::stream_case(case, &release, options)?
            }
            Kind::Head => head::head_case(case, &release, options)?,
            Kind::Stranger => stranger::stranger_case(case, &release, options)?,
            Kind::Tree => {
                let tree = match golden_tree.take() {
                    Some(tree) => tree,
                    None => GoldenTree::new()?,
                };
                let outcomes = tree::tree_case(case, &tree, &release, options)?;
                golden_tree = Some(tree);
                outcomes
            }
        };
        let done = Measured {
            case: case.clone(),
            outcomes,
        };
        report::print(&done);
        measured.push(done);
        save(options, &measured)?;
    }
    verdicts::print(measured.iter().map(|case| (case, judge(case))));
    Ok(())
}

impl BenchOptions {
    fn rounds(&self) -> usize {
        if self.quick { 1 } else { self.runs.max(1) }
    }
}

/// Returns all verdicts on a case: those of the chain, of trees and of booting, and those of multicast.
fn judge(measured: &Measured) -> Vec<Verdict> {
    let mut found = verdicts::of(measured);
    found.extend(multicast_verdicts::of(measured));
    found
}

fn save(options: &BenchOptions, measured: &[Measured]) -> Result<()> {
    if let Some(dir) = options.json.parent() {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    let text = serde_json::to_string_pretty(measured)?;
    fs::write(&options.json, text).with_context(|| format!("writing {}", options.json.display()))
}

/// True if the case is chosen. A whole name chooses only its case, though other names may begin like it
/// (`stream-1` and `stream-16`).
fn is_chosen(case: &Case, all: &[Case], only: &[String]) -> bool {
    let is_wanted = |wanted: &String| {
        let is_whole = all.iter().any(|case| case.name == *wanted);
        case.name == *wanted || (!is_whole && case.name.starts_with(wanted.as_str()))
    };
    only.is_empty() || only.iter().any(is_wanted)
}

/// Returns the middle one of several outcomes, by wall time. Processor times are medians of their own,
/// because a run that was disturbed on a processor need not have taken longer.
fn median(mut outcomes: Vec<Outcome>) -> Option<Outcome> {
    let middle_of = |figure: fn(&Outcome) -> f64| {
        let mut figures: Vec<f64> = outcomes.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied().unwrap_or_default()
    };
    let cpu_seconds = middle_of(|outcome| outcome.cpu_seconds);
    let fault = outcomes
        .iter()
        .any(|outcome| outcome.fault.is_some())
        .then(|| FaultCost {
            noticed_seconds: middle_of(|outcome| outcome.fault.unwrap_or_default().noticed_seconds),
            lost_seconds: middle_of(|outcome| outcome.fault.unwrap_or_default().lost_seconds),
            received_ratio: middle_of(|outcome| outcome.fault.unwrap_or_default().received_ratio),
        });
    let cpu_sender_seconds = middle_of(|outcome| outcome.cpu_sender_seconds);
    let cpu_per_gib_hop = middle_of(|outcome| outcome.cpu_per_gib_hop);
    let sent_by_node = middle_of(|outcome| outcome.sent_by_node);
    let machine_seconds = middle_of(|outcome| outcome.machine_seconds);
    outcomes.sort_by(|one, other| one.wall_seconds.total_cmp(&other.wall_seconds));
    let middle = outcomes.len() / 2;
    let spread = match (outcomes.first(), outcomes.last()) {
        (Some(first), Some(last)) => (first.wall_seconds, last.wall_seconds),
        _ => return None,
    };
    let runs = outcomes.len();
    outcomes.into_iter().nth(middle).map(|outcome| Outcome {
        spread,
        runs,
        cpu_seconds,
        cpu_sender_seconds,
        cpu_per_gib_hop,
        machine_seconds,
        sent_by_node,
        fault,
        ..outcome
    })
}
