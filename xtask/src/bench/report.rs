//! Figures as a table for people and as JSON for machines, and the verdicts of issue 2 §7.

use comfy_table::{Table, presets};
use ka_tests::netns::payload_limit;
use serde::Serialize;

use crate::bench::cases::{Case, Kind};
use crate::bench::peers::Peer;

/// What one peer did in one case: the median run.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Outcome {
    /// Who.
    pub(crate) peer: String,
    /// From the start to the last receiver's exit.
    pub(crate) wall_seconds: f64,
    /// Fastest and slowest run.
    pub(crate) spread: (f64, f64),
    /// How many runs.
    pub(crate) runs: usize,
    /// Payload bytes a second, of one copy.
    pub(crate) goodput: f64,
    /// User and system time of all processes.
    pub(crate) cpu_seconds: f64,
    /// The golden node's share of it.
    pub(crate) cpu_sender_seconds: f64,
    /// Processor seconds for a GiB and a hop.
    pub(crate) cpu_per_gib_hop: f64,
    /// Largest resident size of a process of the golden node, in bytes.
    pub(crate) peak_sender_bytes: u64,
    /// Largest resident size of a process of a node, in bytes.
    pub(crate) peak_receiver_bytes: u64,
    /// In the fault case: what the fault cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<FaultCost>,
}

/// What a fault cost the survivors.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct FaultCost {
    /// From the fault until the server had named the last node that it hit.
    pub(crate) noticed_seconds: f64,
    /// Beyond an undisturbed transfer, until the last survivor's exit.
    pub(crate) lost_seconds: f64,
}

impl FaultCost {
    /// What healing itself took.
    fn beyond_noticing(self) -> f64 {
        (self.lost_seconds - self.noticed_seconds).max(0.0)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:<16} {:7.2} s  {:7.1} MB/s  cpu {:6.2} s",
            self.peer,
            self.wall_seconds,
            self.goodput / 1e6,
            self.cpu_seconds
        )
    }
}

/// One case with all its outcomes.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) case: Case,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Measured {
    fn of(&self, peer: Peer) -> Option<&Outcome> {
        self.outcomes.iter().find(|outcome| outcome.peer == peer.name())
    }
}

/// One case as a table.
pub(crate) fn print(measured: &Measured) {
    let case = &measured.case;
    let rate = case.rate.map_or_else(
        || "unshaped".to_owned(),
        |rate| format!("{} Mbit/s", rate / 1_000_000),
    );
    println!(
        "\n{}: {} nodes, {rate}, {} MiB",
        case.name,
        case.nodes,
        case.bytes >> 20
    );
    if case.kind == Kind::Fault {
        return print_faults(measured);
    }
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header([
        "who",
        "wall s",
        "min–max",
        "MB/s",
        "of line",
        "of socat",
        "cpu s",
        "golden cpu s",
        "cpu s/GiB/hop",
        "golden MiB",
        "node MiB",
    ]);
    let plain = measured.of(Peer::Socat).map(|outcome| outcome.goodput);
    for outcome in &measured.outcomes {
        let share = |whole: Option<f64>| {
            whole.map_or("–".to_owned(), |whole| {
                format!("{:.3}", outcome.goodput / whole)
            })
        };
        table.add_row([
            outcome.peer.clone(),
            format!("{:.2}", outcome.wall_seconds),
            format!("{:.2}–{:.2}", outcome.spread.0, outcome.spread.1),
            format!("{:.1}", outcome.goodput / 1e6),
            share(case.rate.map(|rate| payload_limit(rate) as f64)),
            share(plain),
            format!("{:.2}", outcome.cpu_seconds),
            format!("{:.2}", outcome.cpu_sender_seconds),
            format!("{:.2}", outcome.cpu_per_gib_hop),
            (outcome.peak_sender_bytes >> 20).to_string(),
            (outcome.peak_receiver_bytes >> 20).to_string(),
        ]);
    }
    println!("{table}");
}

/// The fault case as a table.
fn print_faults(measured: &Measured) {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header([
        "fault",
        "wall s",
        "min–max",
        "noticed after s",
        "lost s",
        "beyond noticing s",
    ]);
    for outcome in &measured.outcomes {
        let cost = outcome.fault.unwrap_or_default();
        table.add_row([
            outcome.peer.clone(),
            format!("{:.2}", outcome.wall_seconds),
            format!("{:.2}–{:.2}", outcome.spread.0, outcome.spread.1),
            format!("{:.2}", cost.noticed_seconds),
            format!("{:.2}", cost.lost_seconds),
            format!("{:.2}", cost.beyond_noticing()),
        ]);
    }
    println!("{table}");
}

/// One figure that was asked for.
struct Verdict {
    /// Which of our rows.
    who: String,
    asked: &'static str,
    reached: String,
    holds: bool,
}

/// What the issue asks for, and whether it was reached.
pub(crate) fn print_verdicts(all: &[Measured]) {
    println!("\nAsked for, and reached:");
    for measured in all {
        for verdict in verdicts(measured) {
            println!(
                "  {:<14} {:<36} {:<52} {:>8}  {}",
                measured.case.name,
                verdict.who,
                verdict.asked,
                verdict.reached,
                if verdict.holds { "yes" } else { "NO" }
            );
        }
    }
}

fn verdicts(measured: &Measured) -> Vec<Verdict> {
    match measured.case.kind {
        Kind::Boot => boot_verdict(measured).into_iter().collect(),
        Kind::Fault => fault_verdict(measured).into_iter().collect(),
        Kind::Stream | Kind::Tree => {
            let ours = [Peer::Ka, Peer::KaClear, Peer::KaLikeTar];
            let rows = ours.into_iter().filter_map(|peer| measured.of(peer));
            let mut found: Vec<_> = rows.flat_map(|ours| clone_verdicts(measured, ours)).collect();
            found.extend(encryption_verdicts(measured));
            found
        }
    }
}

fn boot_verdict(measured: &Measured) -> Option<Verdict> {
    let line = payload_limit(measured.case.rate?) as f64;
    let ratio = measured.of(Peer::Ka)?.goodput / line;
    Some(Verdict {
        who: Peer::Ka.name().to_owned(),
        asked: "files go out at over 0.8 of the line",
        reached: format!("{ratio:.3}"),
        holds: ratio > 0.8,
    })
}

fn fault_verdict(measured: &Measured) -> Option<Verdict> {
    let costs = measured.outcomes.iter().filter_map(|outcome| outcome.fault);
    let most = costs.map(FaultCost::beyond_noticing).reduce(f64::max)?;
    Some(Verdict {
        who: Peer::Ka.name().to_owned(),
        asked: "a fault costs at most 3 s beyond noticing it",
        reached: format!("{most:.2} s"),
        holds: most < 3.0,
    })
}

fn clone_verdicts(measured: &Measured, ours: &Outcome) -> Vec<Verdict> {
    let mut found = Vec::new();
    let mut ratio = |asked, ours_is: f64, theirs: f64, holds: &dyn Fn(f64) -> bool| {
        let ratio = ours_is / theirs;
        found.push(Verdict {
            who: ours.peer.clone(),
            asked,
            reached: format!("{ratio:.3}"),
            holds: holds(ratio),
        });
    };
    let mbuffer = measured.of(Peer::Mbuffer);
    let shaped = measured.case.rate.is_some();
    match measured.case.kind {
        Kind::Stream => {
            if let (true, Some(plain)) = (shaped, measured.of(Peer::Socat)) {
                ratio(
                    "goodput ≥ 0.98 of one plain TCP stream",
                    ours.goodput,
                    plain.goodput,
                    &|ratio| ratio >= 0.98,
                );
            }
            if let (true, Some(splice)) = (shaped, measured.of(Peer::Splice)) {
                let asked = "cpu per GiB and hop ≤ 1.5 × the splice relay's";
                ratio(asked, ours.cpu_per_gib_hop, splice.cpu_per_gib_hop, &|ratio| {
                    ratio <= 1.5
                });
            }
            if let (true, Some(mbuffer)) = (shaped, mbuffer) {
                ratio(
                    "cpu below mbuffer's",
                    ours.cpu_seconds,
                    mbuffer.cpu_seconds,
                    &|ratio| ratio < 1.0,
                );
            }
            if let (false, Some(mbuffer)) = (shaped, mbuffer) {
                ratio(
                    "unshaped goodput above mbuffer's",
                    ours.goodput,
                    mbuffer.goodput,
                    &|ratio| ratio > 1.0,
                );
            }
        }
        Kind::Tree | Kind::Boot | Kind::Fault => {
            if let Some(mbuffer) = mbuffer {
                let (asked, least) = match (shaped, measured.case.nodes) {
                    (true, _) => ("never slower than tar | mbuffer | tar", 1.0),
                    (false, 1) => ("1.3 × as fast as tar | mbuffer | tar", 1.3),
                    (false, _) => ("faster than tar | mbuffer | tar", 1.0),
                };
                ratio(asked, mbuffer.wall_seconds, ours.wall_seconds, &|ratio| {
                    ratio >= least
                });
                if let Some(ready) = measured.of(Peer::MbufferReady) {
                    let asked = "beside tar on disks made before the clock";
                    ratio(asked, ready.wall_seconds, ours.wall_seconds, &|_| true);
                }
                ratio(
                    "cpu beside tar | mbuffer | tar",
                    ours.cpu_seconds,
                    mbuffer.cpu_seconds,
                    &|_| true,
                );
            }
        }
    }
    found
}

/// What encryption costs, from the two rows of ours.
fn encryption_verdicts(measured: &Measured) -> Vec<Verdict> {
    let (Some(sealed), Some(clear)) = (measured.of(Peer::Ka), measured.of(Peer::KaClear)) else {
        return Vec::new();
    };
    let wall = sealed.wall_seconds / clear.wall_seconds;
    let cpu = sealed.cpu_seconds / clear.cpu_seconds;
    let shaped = measured.case.rate.is_some();
    let verdict = |asked, ratio: f64, holds| Verdict {
        who: sealed.peer.clone(),
        asked,
        reached: format!("{ratio:.3}"),
        holds,
    };
    vec![
        verdict(
            "wall time ≤ 1.1 × that without encryption",
            wall,
            !shaped || wall <= 1.1,
        ),
        verdict("cpu beside that without encryption", cpu, true),
    ]
}
