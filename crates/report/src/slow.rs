//! A slow node that holds up the chain, as the views show it.

use std::fmt;

use ka_proto::pace::Bottleneck;
use serde::Serialize;

/// The cause of a slow node, with the rates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Slow {
    /// The cause of the low rate.
    pub why: Bottleneck,
    /// Rate that it can reach, in bytes a second.
    pub rate_bytes: u64,
    /// Median of the other nodes' latest rates, in bytes a second.
    pub others_bytes: u64,
    /// Number of nodes that wait for it.
    pub waiting: u32,
    /// Text for people: "its disk takes 12.0 MB/s, the others take 90.0; all 7 other nodes wait for it".
    pub text: String,
}

impl From<ka_proto::run::Slow> for Slow {
    fn from(slow: ka_proto::run::Slow) -> Self {
        Self {
            why: slow.why,
            rate_bytes: slow.rate,
            others_bytes: slow.others,
            waiting: slow.waiting,
            text: slow.to_string(),
        }
    }
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
