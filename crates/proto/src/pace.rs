//! How a node spends its time in a stream: what the server needs to find the one that holds up all the others.
//!
//! In a chain everybody goes at the rate of the slowest, so rates say nothing. What a node *could* do is its bytes over
//! the time in which it did not wait for somebody else. Judged by [`crate::run`]; measured by the transport's pump.
//! Specification: `docs/protocol.md`, "Pace".

use std::fmt;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// A node's time since its last [`crate::control::Progress`], in milliseconds, and what it did in it. The first four
/// after `elapsed_ms` add up to it at most; the others overlap with them.
///
/// At the head `upstream_ms` is the producer's own time (it reads, or makes the next block), `downstream_ms` the time in
/// which the producer had a block and no room for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Since the last one.
    pub elapsed_ms: u32,
    /// Nothing to do: there was room, and nothing came from the predecessor (at the head: from the producer).
    pub upstream_ms: u32,
    /// No room, because the own consumer has not taken what is here.
    pub consumer_ms: u32,
    /// No room, because descendants have not acknowledged what is here.
    pub downstream_ms: u32,
    /// Verifying, forwarding, handing out.
    pub work_ms: u32,
    /// The own consumer had something to take.
    pub consumer_busy_ms: u32,
    /// Something was on its way to the successor, and the successor was ready to take it (tcp(7): `tcpi_busy_time` less
    /// `tcpi_rwnd_limited`).
    pub link_busy_ms: u32,
    /// Bytes that the successor's kernel acknowledged in that time.
    pub link_bytes: u64,
    /// The busiest thread of the process ran, or was ready to run and waited for a processor.
    pub processor_ms: u32,
    /// Whom the stream is handed to.
    pub taker: Taker,
}

/// Whom a node hands the stream to.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
