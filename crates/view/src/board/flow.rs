//! The figures of the running phase.

use std::time::Duration;

/// Progress of the run, as one line of figures.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    /// Share of the running stream that the last node has, in percent, if the stream's size is known.
    pub(crate) percent: Option<u64>,
    /// The time left, if it can be known.
    pub(crate) left: Option<Duration>,
    /// True if the time left covers the data only. Steps that no node has finished yet follow.
    pub(crate) is_of_data: bool,
    /// Time since this phase began.
    pub(crate) elapsed: Duration,
    /// Content that the last node takes, in bytes a second. `None` if no data flows.
    pub(crate) per_second: Option<u64>,
    /// Content that the last node has, and the total if it is known, both in bytes.
    pub(crate) bytes: Option<(u64, Option<u64>)>,
}
