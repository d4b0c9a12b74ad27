//! The description of a node that holds up the chain.

use crate::pace::Bottleneck;

/// Payload of Ethernet, in bytes a second for each 10 Mbit/s of the port: 1460 of 1538 bytes at most.
const PORT_BYTES: u64 = 1_187_000;
/// Shares of that rate, in percent, between which a line is as fast as such a port. The measurement contains
/// data that a queue had saved up, too.
const LEAST_OF_PORT: u64 = 85;
const MOST_OF_PORT: u64 = 105;

/// The others, with which the slow node is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measured {
    /// The lines above it in the chain.
    LinesBefore,
    /// All other lines.
    Lines,
    /// All other nodes.
    Nodes,
}

/// A node that holds up the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slow {
    /// The cause.
    pub why: Bottleneck,
    /// Rate that it can reach, in bytes a second.
    pub rate: u64,
    /// Median of the others' latest rates, in bytes a second.
    pub others: u64,
    /// The others that were measured.
    pub measured: Measured,
    /// Number of nodes that wait for it.
    pub waiting: u32,
    /// True if these are all others of the chain, not only those behind it.
    pub everybody: bool,
}

impl std::fmt::Display for Slow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} MB/s", self.why, mega(self.rate))?;
        if self.others < u64::MAX {
            let others = mega(self.others);
            match (self.why, self.measured) {
                (Bottleneck::Reading, _) => write!(f, ", the nodes could take {others}")?,
                (_, Measured::LinesBefore) => write!(f, ", the lines before it {others}")?,
                (_, Measured::Lines) => write!(f, ", the other lines {others}")?,
                (_, Measured::Nodes) => write!(f, ", the others take {others}")?,
            }
        }
        if matches!(self.why, Bottleneck::Link | Bottleneck::Sending)
            && let Some(port) = port(self.rate)
        {
            write!(f, " (port at {port} Mbit/s? ethtool there says)")?;
        }
        match (self.everybody, self.waiting) {
            (_, 0) => Ok(()),
            (true, 1) if self.why == Bottleneck::Reading => write!(f, "; its node waits for it"),
            (true, waiting) if self.why == Bottleneck::Reading => {
                write!(f, "; all {waiting} nodes wait for it")
            }
            (true, 1) => write!(f, "; the other node waits for it"),
            (true, waiting) => write!(f, "; all {waiting} other nodes wait for it"),
            (false, 1) => write!(f, "; the node behind it waits for it"),
            (false, waiting) => write!(f, "; the {waiting} nodes behind it wait for it"),
        }
    }
}

/// Returns the speed of an Ethernet port that carries just this, in Mbit/s.
fn port(rate: u64) -> Option<u64> {
    let carries = |speed: &u64| {
        let full = PORT_BYTES * speed / 10;
        (full * LEAST_OF_PORT / 100..=full * MOST_OF_PORT / 100).contains(&rate)
    };
    [10, 100, 1000].into_iter().find(carries)
}

/// Formats millions, with a tenth if that matters.
fn mega(bytes: u64) -> String {
    if bytes >= 100_000_000 {
        format!("{}", (bytes + 500_000) / 1_000_000)
    } else {
        let tenths = (bytes + 50_000) / 100_000;
        format!("{}.{}", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_say_who_is_compared_and_who_waits() {
        let slow = Slow {
            why: Bottleneck::Link,
            rate: 1_100_000,
            others: 11_800_000,
            measured: Measured::LinesBefore,
            waiting: 5,
            everybody: false,
        };
        assert_eq!(
            slow.to_string(),
            "its line carries 1.1 MB/s, the lines before it 11.8 (port at 10 Mbit/s? ethtool there says); the 5 nodes behind it wait for it"
        );
        let slow = Slow {
            why: Bottleneck::Command,
            rate: 1_500_000,
            measured: Measured::Nodes,
            waiting: 2,
            everybody: true,
            ..slow
        };
        assert_eq!(
            slow.to_string(),
            "its command takes 1.5 MB/s, the others take 11.8; all 2 other nodes wait for it"
        );
        let slow = Slow {
            why: Bottleneck::Reading,
            others: u64::MAX,
            waiting: 1,
            ..slow
        };
        assert_eq!(slow.to_string(), "it reads 1.5 MB/s; its node waits for it");
    }

    #[test]
    fn a_port_is_known_by_what_it_carries_and_by_what_its_queue_had_saved_up() {
        for (rate, is_port) in [
            (900_000, None),
            (1_030_000, Some(10)),
            (1_187_000, Some(10)),
            // Measured at the end of eight nodes, where 128 KiB were saved up.
            (1_220_000, Some(10)),
            (1_300_000, None),
            (11_800_000, Some(100)),
            (117_000_000, Some(1000)),
            (60_000_000, None),
        ] {
            assert_eq!(port(rate), is_port, "{rate}");
        }
    }
}
