//! The use of a node's time in a stream. The server needs it to find the node that holds up all the others.
//!
//! In a chain all nodes go at the rate of the slowest, so rates tell nothing. The rate that a node *could*
//! reach is its bytes over the time in which it did not wait for another node. [`crate::run`] judges it; the
//! transport's pump measures it. Specification: `docs/protocol.md`, "Pace".

use std::fmt;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// A node's time since its last [`crate::control::Progress`], in milliseconds, and its use. The first four
/// after `elapsed_ms` add up to it at most; the others overlap with them.
///
/// At the head `upstream_ms` is the producer's own time (it reads, or makes the next block). `downstream_ms`
/// is the time in which the producer had a block and no room for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Time since the last report.
    pub elapsed_ms: u32,
    /// Time without work: there was room, and nothing came from the predecessor (at the head: from the
    /// producer).
    pub upstream_ms: u32,
    /// Time without room, because the own consumer has not taken the data here.
    pub consumer_ms: u32,
    /// Time without room, because descendants have not acknowledged the data here.
    pub downstream_ms: u32,
    /// Time of verifying, forwarding and handing out.
    pub work_ms: u32,
    /// Time in which the own consumer had data to take.
    pub consumer_busy_ms: u32,
    /// Time in which data was on its way to the successor, and the successor was ready to take it (tcp(7):
    /// `tcpi_busy_time` less `tcpi_rwnd_limited`).
    pub link_busy_ms: u32,
    /// Bytes that the successor's kernel acknowledged in that time.
    pub link_bytes: u64,
    /// Time in which the busiest thread of the process ran, or was ready to run and waited for a processor.
    pub processor_ms: u32,
    /// The consumer of the stream.
    pub taker: Taker,
}

/// A kind of consumer of the stream on a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Taker {
    /// The node itself, which writes to its disks.
    #[default]
    Disk,
    /// A command (`-e`).
    Command,
    /// A file or standard output.
    Output,
}

impl AddAssign for Pace {
    fn add_assign(&mut self, more: Self) {
        self.elapsed_ms = self.elapsed_ms.saturating_add(more.elapsed_ms);
        self.upstream_ms = self.upstream_ms.saturating_add(more.upstream_ms);
        self.consumer_ms = self.consumer_ms.saturating_add(more.consumer_ms);
        self.downstream_ms = self.downstream_ms.saturating_add(more.downstream_ms);
        self.work_ms = self.work_ms.saturating_add(more.work_ms);
        self.consumer_busy_ms = self.consumer_busy_ms.saturating_add(more.consumer_busy_ms);
        self.link_busy_ms = self.link_busy_ms.saturating_add(more.link_busy_ms);
        self.link_bytes = self.link_bytes.saturating_add(more.link_bytes);
        self.processor_ms = self.processor_ms.saturating_add(more.processor_ms);
        self.taker = more.taker;
    }
}

/// The cause that keeps a node, and with it the chain, from going faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bottleneck {
    /// Its disk.
    Disk,
    /// The command that takes the stream.
    Command,
    /// The file or the standard output that takes it.
    Output,
    /// The line from its predecessor.
    Link,
    /// Its own line, to each successor that it had.
    Sending,
    /// Its processor.
    Processor,
    /// The golden node's own reading.
    Reading,
}

impl From<Taker> for Bottleneck {
    fn from(taker: Taker) -> Self {
        match taker {
            Taker::Disk => Self::Disk,
            Taker::Command => Self::Command,
            Taker::Output => Self::Output,
        }
    }
}

impl fmt::Display for Bottleneck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disk => "its disk takes",
            Self::Command => "its command takes",
            Self::Output => "its output takes",
            Self::Link => "its line carries",
            Self::Sending => "its line carries to others",
            Self::Processor => "its processor handles",
            Self::Reading => "it reads",
        })
    }
}
