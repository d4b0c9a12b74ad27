//! The simulator of the multicast group: the real sender and members, in virtual time, from a seed.
//!
//! A line of a given rate leads from the sender to a switch, and a port from there to each member. Datagrams
//! are lost alone, in bursts or for everybody at once, come late or twice; members drain slowly, die, go dark
//! or lie. All bytes that a member gets are compared with what was sent. Rates are in datagrams a second:
//! shards are short here, so that a thousand members fit into a second of processor time.
//! 81 000 datagrams of 1472 bytes are a line of 1 Gbit/s.

mod host;
mod path;
mod world;

#[cfg(test)]
mod bytes_tests;
#[cfg(test)]
mod fault_tests;

use std::time::Duration;

use crate::group::{Figures, LeaveReason};

pub(crate) use path::Loss;

/// Bytes of a shard in the simulator.
pub(crate) const SHARD: usize = 64;
/// Datagrams a second on a line of 1 Gbit/s.
pub(crate) const GIGABIT: u64 = 81_000;

/// A scenario.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Amount of data, in stripes of 128 shards.
    pub(crate) stripes: usize,
    /// Rate of the sender's line, in datagrams a second.
    pub(crate) line: u64,
    /// Rate at which the sender begins, in percent of the line.
    pub(crate) start_percent: u64,
    /// Room of each member and of the sender, in stripes.
    pub(crate) window: usize,
    pub(crate) members: Vec<MemberPlan>,
    /// Times in which no datagram reaches anybody.
    pub(crate) outages: Vec<(Duration, Duration)>,
    /// Forged datagrams that reach each member with each burst.
    pub(crate) forged: usize,
    /// True if the stranger's datagrams come before those that he forges.
    pub(crate) forges_first: bool,
}

impl Plan {
    /// Returns a plan for `count` equal members on a line of 1 Gbit/s.
    pub(crate) fn new(count: usize, stripes: usize, member: MemberPlan) -> Self {
        Self {
            seed: 1,
            stripes,
            line: GIGABIT,
            start_percent: 100,
            window: 350,
            members: vec![member; count],
            outages: Vec::new(),
            forged: 0,
            forges_first: false,
        }
    }

    /// Returns the time that the line needs for the data.
    pub(crate) fn line_time(&self) -> Duration {
        let datagrams = self.stripes as u64 * 128;
        Duration::from_nanos(datagrams * 1_000_000_000 / self.line)
    }
}

/// A member in a scenario.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MemberPlan {
    pub(crate) loss: Loss,
    /// Rate of its port and datagrams that wait there, if it is slower than the line.
    pub(crate) port: Option<(u64, u64)>,
    /// Rate at which it uses data, in datagrams a second, if that is a limit.
    pub(crate) drain: Option<u64>,
    /// Datagrams of a thousand that come later than those behind them.
    pub(crate) reordered: u64,
    /// Datagrams of a thousand that come twice.
    pub(crate) duplicated: u64,
    pub(crate) fate: Fate,
    pub(crate) lie: Lie,
}

/// The misfortune of a member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Fate {
    #[default]
    Lives,
    /// It does nothing any more from this time on.
    Dies(Duration),
    /// No datagram reaches it any more from this time on.
    Dark(Duration),
}

/// The lie of a member's reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Lie {
    #[default]
    None,
    /// It has room without end.
    Room,
    /// It lacks nothing, and does not get on.
    NothingMissing,
    /// It lacks everything, for ever.
    EverythingMissing,
    /// It has stripes that were never sent.
    TheFuture,
}

/// The reason why a member was no longer in the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    /// The sender said so.
    Left(LeaveReason),
    /// It saw no datagrams.
    Dark,
}

/// The result of a scenario.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Time at which the sender was complete.
    pub(crate) took: Duration,
    pub(crate) figures: Figures,
    /// Time at which each member had the whole stream.
    pub(crate) done: Vec<Option<Duration>>,
    /// The members that left: when, which, why.
    pub(crate) gone: Vec<(Duration, usize, Gone)>,
    /// Reports that the sender got.
    pub(crate) reports: u64,
    /// Bytes of them on the line: each with 60 bytes of TLS, TCP and IP.
    pub(crate) report_bytes: u64,
    /// Datagrams that members refused.
    pub(crate) refused: u64,
    /// Most stripes that the sender kept at once.
    pub(crate) most_kept: u32,
}

impl Outcome {
    /// Returns the sent datagrams for each datagram of data, in millionths.
    pub(crate) fn overhead(&self) -> u64 {
        // A mark has 40 bytes, a datagram 1472.
        let marks = self.figures.marks * 40 / 1472;
        (self.figures.data + self.figures.repairs + marks) * 1_000_000 / self.figures.data
    }

    /// Returns the bytes of reports as a part of the data's, in millionths.
    pub(crate) fn feedback(&self) -> u64 {
        self.report_bytes * 1_000_000 / (self.figures.data * 1448)
    }

    /// Returns the time until the last member that stayed was done.
    pub(crate) fn wall(&self) -> Duration {
        self.done.iter().flatten().max().copied().unwrap_or_default()
    }
}

/// Runs a scenario to its end.
pub(crate) fn run(plan: &Plan) -> Outcome {
    world::World::new(plan).run()
}
