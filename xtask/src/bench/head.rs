//! Processor time of the golden node as the group grows.
//!
//! Each size is measured twice: with the whole file, and with a short one, for the time that the joins, the
//! reports and the end take.

use std::path::Path;

use anyhow::{Context as _, Result};
use ka_tests::scratch::Scratch;

use crate::bench::cases::Case;
use crate::bench::line;
use crate::bench::measure::{MEMORY, StreamRun, ensure_room, write_noise};
use crate::bench::median;
use crate::bench::peers::Peer;
use crate::bench::report::Outcome;
use crate::cli::BenchOptions;

/// Smallest group.
pub(crate) const FEWEST: usize = 2;
/// Sizes between the smallest group and the whole network.
const BETWEEN: [usize; 1] = [8];
/// Length of the short file, in bytes.
const SHORT_BYTES: u64 = 1 << 20;
/// Number of nodes that keep the file. The others only drop it, so that memory does not limit the group.
const KEPT: usize = 4;

/// Returns the name of the row of a whole file to so many nodes.
pub(crate) fn whole_row(nodes: usize) -> String {
    format!("{nodes} nodes")
}

/// Returns the name of the row of the short file to so many nodes.
pub(crate) fn short_row(nodes: usize) -> String {
    format!("{nodes} nodes, 1 MiB only")
}

/// Runs every size `runs` times, in turns. Returns the median of each.
pub(crate) fn head_case(case: &Case, release: &Path, options: &BenchOptions) -> Result<Vec<Outcome>> {
    let scratch = Scratch::below(Path::new(MEMORY), "bench-head")?;
    ensure_room(scratch.path(), case.bytes * (KEPT as u64 + 1))?;
    let (whole, short) = (scratch.path().join("whole"), scratch.path().join("short"));
    write_noise(&whole, case.bytes)?;
    write_noise(&short, SHORT_BYTES)?;
    let network = line::network(case)?;
    let sizes = std::iter::once(FEWEST).chain(BETWEEN).chain([case.nodes]);
    let rows: Vec<(String, usize, &Path)> = sizes
        .flat_map(|nodes| {
            [
                (whole_row(nodes), nodes, whole.as_path()),
                (short_row(nodes), nodes, short.as_path()),
            ]
        })
        .collect();
    let mut outcomes: Vec<Vec<Outcome>> = vec![Vec::new(); rows.len()];
    for round in 0..options.rounds() {
        for ((name, nodes, source), outcomes) in rows.iter().zip(&mut outcomes) {
            let run = StreamRun {
                network: &network,
                scratch: &scratch,
                release,
                rate: case.rate,
                source,
                nodes: *nodes,
                kept: KEPT,
            };
            let outcome = run
                .of(Peer::KaMulticast)
                .with_context(|| format!("{}: {name}", case.name))?;
            let outcome = Outcome {
                peer: name.clone(),
                ..outcome
            };
            eprintln!("  {} round {}: {outcome}", case.name, round + 1);
            outcomes.push(outcome);
        }
    }
    Ok(outcomes.into_iter().filter_map(median).collect())
}
