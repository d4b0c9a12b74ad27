//! The options about the nodes of a run: how many, how long they are waited for, and when they go.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use ka_cli::time::{bounded_time, seconds_up_to};

use super::DEFAULT_SESSION;

/// Longest pause between two released nodes. A longer one is a typing error.
const MAX_RELEASE_DELAY: Duration = Duration::from_secs(600);
/// Unit of a bare number of `-d`.
const TENTH: Duration = Duration::from_millis(100);
/// Rounds without `--rounds`: the first one, one for late or lost nodes, and one for nodes that were lost
/// again.
const DEFAULT_ROUNDS: u32 = 3;
/// Largest `--rounds`. A server that runs permanently is another thing.
const MAX_ROUNDS: u64 = 100;
/// Longest `--wait`: one week.
const MAX_WAIT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Options about the nodes and rounds of a run.
#[derive(Debug, Clone, Args)]
pub(crate) struct NodeOptions {
    /// Number of nodes to wait for; without it, until a node says go (ka-client -g) or --wait is over
    #[arg(short = 'n', long = "clients", value_name = "NUM", value_parser = nodes())]
    pub(crate) wanted: Option<u32>,

    /// Start after TIME (15m; a bare number is seconds) with whoever is there, even if it is fewer than -n
    #[arg(long, value_name = "TIME", value_parser = longest_wait)]
    pub(crate) wait: Option<Duration>,

    /// Session name; a node joins only a session of the same name
    #[arg(short = 's', long = "session", value_name = "SESSION", default_value = DEFAULT_SESSION)]
    pub(crate) session: String,

    /// Order of the chain: FILE has one name, address or hardware address a line. A NAME in square brackets on a line of its
    /// own begins a group of nodes on one switch. Nodes that are not in FILE come last. Without FILE: by the switch ports
    /// that nodes hear of (LLDP), else by address
    #[arg(long, value_name = "FILE")]
    pub(crate) order: Option<PathBuf>,

    /// Rounds at most: a node that comes late, or is lost and comes back, waits connected and is cloned in the next
    /// round, which begins by itself (-e runs COMMAND again); 1 refuses late ones
    #[arg(long, value_name = "N", default_value_t = DEFAULT_ROUNDS,
          value_parser = RangedU64ValueParser::<u32>::new().range(1..=MAX_ROUNDS))]
    pub(crate) rounds: u32,

    /// Begin anew, although an earlier run of this session with the same job was cut short: without it that run is taken
    /// up, with its join code and without the nodes that are done
    #[arg(long)]
    pub(crate) fresh: bool,

    /// Release the nodes one after another, TIME apart (2s; a bare number is tenths of a second)
    #[arg(short = 'd', long = "release-delay", value_name = "TIME", default_value = "0", value_parser = release_delay)]
    pub(crate) release_delay: Duration,

    /// Ask for each node before it is let in: its name, hardware address and a code that the node shows too. Answer y, n or a
    /// (all) on the terminal, or with ka-server approve
    #[arg(long)]
    pub(crate) approve: bool,

    /// Erase disks without asking. On a terminal the server asks once, after it has shown what will be erased; without one
    /// it never asks
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Returns the parser of `-n`: from one to the most nodes that a run takes.
fn nodes() -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(1..=ka_proto::limits::MAX_NODES as u64)
}

/// Parses the pause between two released nodes.
fn release_delay(text: &str) -> Result<Duration, String> {
    bounded_time(text, TENTH, Duration::ZERO..=MAX_RELEASE_DELAY)
}

fn longest_wait(text: &str) -> Result<Duration, String> {
    seconds_up_to(text, MAX_WAIT)
}
