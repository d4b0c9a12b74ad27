//! Results as a table for people and as JSON for programs.

use comfy_table::{Table, presets};
use ka_tests::netns::payload_limit;
use serde::Serialize;

use crate::bench::cases::{Case, Kind};
use crate::bench::peers::Peer;

/// Result of one program in one case: the median run.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Outcome {
    /// Name of the program, or of the fault.
    pub(crate) peer: String,
    /// Time from the start to the last receiver's exit.
    pub(crate) wall_seconds: f64,
    /// Wall time of the fastest and of the slowest run.
    pub(crate) spread: (f64, f64),
    /// Number of runs.
    pub(crate) runs: usize,
    /// Payload bytes per second, of one copy.
    pub(crate) goodput: f64,
    /// User and system time of all processes.
    pub(crate) cpu_seconds: f64,
    /// The golden node's share of the processor time.
    pub(crate) cpu_sender_seconds: f64,
    /// Processor seconds for each GiB and hop.
    pub(crate) cpu_per_gib_hop: f64,
    /// Time for which the machine's processors were busy, with interrupts and everything else that ran.
    pub(crate) machine_seconds: f64,
    /// Bytes that a node sent on its line, as a multiple of the payload: near 1 in a chain, near 0 by multicast.
    pub(crate) sent_by_node: f64,
    /// Largest resident size of a process of the golden node, in bytes.
    pub(crate) peak_sender_bytes: u64,
    /// Largest resident size of a process of a node, in bytes.
    pub(crate) peak_receiver_bytes: u64,
    /// Cost of the fault, in the fault case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<FaultCost>,
}

/// Cost of a fault for the survivors.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct FaultCost {
    /// Time from the fault until the server had reported the last node that it hit, or until the data went on at
    /// every node if it hit none. Zero if that did not happen.
    pub(crate) noticed_seconds: f64,
    /// Time until the last survivor's exit, beyond that of an undisturbed transfer.
    pub(crate) lost_seconds: f64,
    /// Most bytes that a survivor received on its line, as a multiple of the payload.
    pub(crate) received_ratio: f64,
}

impl FaultCost {
    /// Time that healing itself took, in seconds. It is NaN if one of the times is.
    pub(crate) fn beyond_noticing(self) -> f64 {
        (self.lost_seconds - self.noticed_seconds).clamp(0.0, f64::INFINITY)
    }

    /// Time until the fault was noticed, for people: a dash if nothing was.
    fn noticed(self) -> String {
        if self.noticed_seconds > 0.0 {
            format!("{:.2}", self.noticed_seconds)
        } else {
            "–".to_owned()
        }
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

/// One case with all its results.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) case: Case,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Measured {
    /// Returns the result of this program in this case.
    pub(crate) fn of(&self, peer: Peer) -> Option<&Outcome> {
        self.outcomes.iter().find(|outcome| outcome.peer == peer.name())
    }
}

/// Prints one case as a table.
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
    for condition in case.conditions() {
        println!("{condition}");
    }
    if matches!(case.kind, Kind::Fault | Kind::GroupFault) {
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
        "machine cpu s",
        "sent by a node",
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
            format!("{:.2}", outcome.machine_seconds),
            format!("{:.2}", outcome.sent_by_node),
            (outcome.peak_sender_bytes >> 20).to_string(),
            (outcome.peak_receiver_bytes >> 20).to_string(),
        ]);
    }
    println!("{table}");
}

/// Prints the fault case as a table.
fn print_faults(measured: &Measured) {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header([
        "fault",
        "wall s",
        "min–max",
        "noticed after s",
        "lost s",
        "beyond noticing s",
        "received of payload",
    ]);
    for outcome in &measured.outcomes {
        let cost = outcome.fault.unwrap_or_default();
        table.add_row([
            outcome.peer.clone(),
            format!("{:.2}", outcome.wall_seconds),
            format!("{:.2}–{:.2}", outcome.spread.0, outcome.spread.1),
            cost.noticed(),
            format!("{:.2}", cost.lost_seconds),
            format!("{:.2}", cost.beyond_noticing()),
            format!("{:.3}", cost.received_ratio),
        ]);
    }
    println!("{table}");
}
