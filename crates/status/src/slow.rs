//! Who holds up the chain, as it is shown.

use std::fmt;

use serde::Serialize;

/// What keeps a node, and with it the chain, from going faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlowWhy {
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

/// Why a node holds up the others, and by how much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Slow {
    /// What keeps it.
    pub why: SlowWhy,
    /// What it can do, bytes a second.
    pub rate_bytes: u64,
    /// What the others were lately seen to do, bytes a second: their median.
    pub others_bytes: u64,
    /// How many nodes wait for it.
    pub waiting: u32,
    /// The same for people: "its disk takes 12.0 MB/s, the others take 90.0; all 7 other nodes wait for it".
    pub text: String,
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
