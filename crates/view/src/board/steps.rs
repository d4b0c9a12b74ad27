//! The usual durations of the steps after the data, learned from the nodes that have finished them.

use std::collections::BTreeMap;
use std::time::Duration;

use ka_report::event::Step;

/// Durations in this run: of each step, and from the end of the data to a complete clone.
#[derive(Debug, Default)]
pub(crate) struct StepTimes {
    steps: BTreeMap<Step, Vec<Duration>>,
    finishing: Vec<Duration>,
}

impl StepTimes {
    /// Adds the duration of a step on one node.
    pub(super) fn took(&mut self, step: Step, time: Duration) {
        self.steps.entry(step).or_default().push(time);
    }

    /// Adds one node's time from the end of the data to a complete clone.
    pub(super) fn finished(&mut self, time: Duration) {
        self.finishing.push(time);
    }

    /// Returns the usual duration of this step, if a node has finished it.
    pub(crate) fn usual(&self, step: Step) -> Option<Duration> {
        self.steps.get(&step).and_then(|times| median(times))
    }

    /// Returns the usual time from the end of the data to a complete clone, if a node has one.
    pub(super) fn usual_finishing(&self) -> Option<Duration> {
        median(&self.finishing)
    }
}

fn median(times: &[Duration]) -> Option<Duration> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}
