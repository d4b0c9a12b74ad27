//! The simulator. It runs the same machines as on the wire, with up to a thousand nodes, in virtual time,
//! from a seed.
//!
//! In any stage, processes are killed (the server's may be started again), machines lose power, freeze or are
//! cut off, and disks stall and fail. The driver here does the work of the transport, with descriptors for
//! payload. It checks all the time that no consumer gets a wrong block or one out of order, and that no host
//! holds more than its window. It also checks that every unfinished machine has a timer. At the end every
//! node must be done or named, and nodes that nothing happened to must be done. The [`Violation`] names a
//! seed that fails, and the seed replays exactly: `KA_SIM_SEED=… cargo test -p ka-proto sim`.
//!
//! Not here: codecs of the data path, which have their own tests (control messages do go through theirs).
//! Specification: `docs/protocol.md`, "Simulator".

mod branches;
mod check;
mod control;
mod data;
mod event;
mod group;
mod host;
mod liar;
mod net;
mod pump;
mod restart;
mod ring;
mod rng;
mod rounds;
mod scenario;
mod server;
mod spent;
mod standby;
mod world;

#[cfg(test)]
mod liar_tests;
#[cfg(test)]
mod pace_tests;
#[cfg(test)]
mod sabotage_tests;
#[cfg(test)]
mod standby_tests;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::ids::StreamOffset;
use crate::node::Ending;
use crate::pace::Bottleneck;
use crate::run::{Failure, NodeInfo};

pub(crate) use liar::Liar;
pub(crate) use rng::Rng;
pub(crate) use scenario::{Fault, Planned, Sabotage, Scenario, Step};
pub(crate) use standby::GroupPlan;

/// The result of a simulation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// Virtual time until the run was over.
    pub(crate) took: Duration,
    /// The server's list: every node that was counted in, with its failure.
    pub(crate) nodes: Vec<(NodeInfo, Option<Failure>)>,
    /// The end of the run on each host, host 1 first. `None` if its process did not live to see it.
    pub(crate) endings: Vec<Option<Ending>>,
    /// Number of times that a node that had lost its place went on from the spool.
    pub(crate) rejoined: u32,
    /// Number of times that a host came back for a next round.
    pub(crate) returned: u32,
    /// Number of restarts of the server.
    pub(crate) server_restarts: u32,
    /// True for each host that is done, by the server's word in its round. Host 1 is first.
    pub(crate) done: Vec<bool>,
    /// The hosts that were called slow, in order.
    pub(crate) slow: Vec<Accused>,
    /// Payload bytes that went over all links.
    pub(crate) linked_bytes: u64,
    /// Number of simulated events.
    pub(crate) events: u64,
    /// The events, line by line, if a trace was requested.
    pub(crate) trace: Vec<String>,
}

/// The server's word about a host that holds up the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accused {
    /// Virtual time of the word.
    pub(crate) at: Duration,
    /// Number of the host; 0 is the golden node.
    pub(crate) host: usize,
    /// Cause that the server named.
    pub(crate) why: Bottleneck,
    /// True if the host was set aside for that.
    pub(crate) set_aside: bool,
}

/// An invariant that did not hold.
#[derive(Debug, Clone, thiserror::Error)]
#[error("at {at:?} on host {host}: {what}")]
pub(crate) struct Violation {
    /// Virtual time of the violation.
    pub(crate) at: Duration,
    /// Number of the host; 0 is the server.
    pub(crate) host: usize,
    /// The fault.
    pub(crate) what: String,
    /// The events before it, if a trace was requested.
    pub(crate) trace: Vec<String>,
}

/// Runs a scenario to its end.
///
/// # Errors
/// [`Violation`] names the invariant that did not hold.
pub(crate) fn run(scenario: &Scenario, trace: bool) -> Result<Report, Violation> {
    world::World::new(scenario.clone(), trace).run()
}

/// Returns the end of a stream of this many bytes.
const fn end_of(bytes: u64) -> StreamOffset {
    StreamOffset(bytes)
}
