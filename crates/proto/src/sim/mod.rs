//! The simulator: the same machines that run on the wire, with up to a thousand nodes, in virtual time, from a seed.
//!
//! Processes are killed (the server's may be started again), machines lose power, freeze or are cut off, disks stall and fail, in any stage. The driver
//! here does what the transport does, with descriptors for payload. It checks all the time that no consumer gets a
//! wrong byte or one out of order, that nobody holds more than its window, that every machine that is not finished
//! has a timer; and at the end that every node is done or named, and that those that nothing happened to are done.
//! A seed that fails is named in the [`Violation`] and replays exactly: `KA_SIM_SEED=… cargo test -p ka-proto sim`.
//! Not here: codecs of the data path, which have their own tests (control messages do go through theirs).
//! Specification: `docs/protocol.md`, "Simulator".

mod branches;
mod check;
mod control;
mod data;
mod event;
mod host;
mod liar;
mod net;
mod pump;
mod restart;
mod rng;
mod rounds;
mod scenario;
mod server;
mod spent;
mod world;

#[cfg(test)]
mod liar_tests;
#[cfg(test)]
mod pace_tests;
#[cfg(test)]
mod sabotage_tests;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::ids::StreamOffset;
use crate::node::Ending;
use crate::pace::Bottleneck;
use crate::run::{Failure, NodeInfo};

pub use liar::Liar;
pub use rng::Rng;
pub use scenario::{Fault, Planned, Sabotage, Scenario, Step};

/// What came of a simulation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Virtual time until the run was over.
    pub took: Duration,
    /// The server's list: every node that was counted in, with its failure.
    pub nodes: Vec<(NodeInfo, Option<Failure>)>,
    /// What each host saw, host 1 first: how its run ended, if its process lived to know.
    pub endings: Vec<Option<Ending>>,
    /// How often a node that had lost its place went on from what is kept.
    pub rejoined: u32,
    /// How often a host came back for a next round.
    pub returned: u32,
    /// How often the server was started again.
    pub server_restarts: u32,
    /// Hosts that are done, by what the server said in their round: host 1 first.
    pub done: Vec<bool>,
    /// Who was said to hold up the chain, in order.
    pub slow: Vec<Accused>,
    /// Events simulated.
    pub events: u64,
    /// What happened, line by line, when it was asked for.
    pub trace: Vec<String>,
}

/// What the server said of one that holds up the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accused {
    /// Virtual time.
    pub at: Duration,
    /// Who; 0 is the golden node.
    pub host: usize,
    /// Why.
    pub why: Bottleneck,
    /// Whether it was set aside for that.
    pub set_aside: bool,
}

/// An invariant that did not hold.
#[derive(Debug, Clone, thiserror::Error)]
#[error("at {at:?} on host {host}: {what}")]
pub struct Violation {
    /// Virtual time.
    pub at: Duration,
    /// Where; 0 is the server.
    pub host: usize,
    /// What is wrong.
    pub what: String,
    /// What happened before, when it was asked for.
    pub trace: Vec<String>,
}

/// Runs a scenario to its end.
///
/// # Errors
/// [`Violation`] names the invariant that did not hold.
pub fn run(scenario: &Scenario, trace: bool) -> Result<Report, Violation> {
    world::World::new(scenario.clone(), trace).run()
}

/// Where a stream of this many bytes ends.
const fn end_of(bytes: u64) -> StreamOffset {
    StreamOffset(bytes)
}
