//! The options about data on its way along the chain.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{RangedU64ValueParser, TypedValueParser};
use ka_cli::size::{BufferSize, bounded_size};
use ka_cli::time::bounded_time;
use ka_proto::group::probe::Wanted;
use ka_proto::limits::{DEFAULT_TOLERANCE, MAX_LINK_SILENCE, MAX_TOLERANCE, MIN_LINK_SILENCE};
use ka_proto::run::MinRate;
use ka_tree::Compress;

use super::block_size::BlockSize;
use super::words::words;

/// Range of `--min-rate`, in bytes a second. Every target of a clone is faster than the minimum and slower
/// than the maximum.
const MIN_RATES: RangeInclusive<u64> = 1 << 10..=16 << 30;

/// Options about the chain and the data in it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "How data travels")]
pub(crate) struct StreamOptions {
    /// Memory for data on its way to the first node
    #[arg(long, value_name = "SIZE", default_value = "64M")]
    pub(crate) buffer: BufferSize,

    /// Size of the blocks that data travels in [default: smaller the longer the chain]
    #[arg(long, value_name = "SIZE")]
    pub(crate) block_size: Option<BlockSize>,

    /// When to compress blocks (generic mode never does)
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = compress())]
    pub(crate) compress: Compress,

    /// How data travels: from node to node along the chain, or by multicast to all nodes at once
    #[arg(long, value_name = "WAY", default_value = "chain", value_parser = transport())]
    pub(crate) transport: Wanted,

    /// Send data as it is, for whoever listens on the network to read; it stays authenticated
    #[arg(long)]
    pub(crate) no_encrypt: bool,

    /// A neighbour in the chain that is silent for TIME (500ms to 1m; a bare number is seconds) is lost, and the chain
    /// closes around it
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = link_silence)]
    pub(crate) silence: Duration,

    /// Keep enough data to lose this many neighbours in a row at one moment (0 to 3)
    #[arg(long, value_name = "F", default_value_t = DEFAULT_TOLERANCE,
          value_parser = RangedU64ValueParser::<u8>::new().range(..=MAX_TOLERANCE as u64))]
    pub(crate) tolerate: u8,

    /// Keep each stream in DIR while it runs, encrypted as it is sent: a node that loses its place (silent for seconds, or
    /// too many neighbours lost) goes on in the same round. DIR needs room for the largest stream; nothing stays in it
    #[arg(long, value_name = "DIR")]
    pub(crate) spool: Option<PathBuf>,

    /// Set aside a node that holds up all the others and itself takes less than RATE bytes a second (20M), or `off`: only
    /// name it [default: a quarter of what the others could take]
    #[arg(long, value_name = "RATE", value_parser = min_rate)]
    pub(crate) min_rate: Option<MinRate>,
}

/// Returns the parser of `--compress`.
fn compress() -> impl TypedValueParser<Value = Compress> {
    words([
        (
            "auto",
            "While the network is slower than compression and there is processor time to spare",
            Compress::Auto,
        ),
        ("never", "Never", Compress::Never),
        ("always", "Every block that becomes smaller", Compress::Always),
    ])
}

/// Returns the parser of `--transport`.
fn transport() -> impl TypedValueParser<Value = Wanted> {
    words([
        (
            "auto",
            "Multicast where a probe of at most a second finds that it reaches at least three nodes well, else the chain",
            Wanted::Auto,
        ),
        ("chain", "From node to node", Wanted::Chain),
        (
            "multicast",
            "Multicast for each node that hears it; the chain feeds the others",
            Wanted::Multicast,
        ),
    ])
}

/// Parses a link silence within the protocol's bounds.
fn link_silence(text: &str) -> Result<Duration, String> {
    bounded_time(text, Duration::from_secs(1), MIN_LINK_SILENCE..=MAX_LINK_SILENCE)
}

/// Parses a rate in bytes a second, or `off`.
fn min_rate(text: &str) -> Result<MinRate, String> {
    if text == "off" {
        return Ok(MinRate::Off);
    }
    let rate = bounded_size(text, MIN_RATES).map_err(|error| format!("{error}; `off` sets no node aside"))?;
    Ok(MinRate::Bytes(rate))
}
