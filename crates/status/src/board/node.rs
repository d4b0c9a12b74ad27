//! One node's line.

use std::fmt;
use std::time::Duration;

use super::rate::Rate;
use crate::event::Step;
use crate::run::{NodeProgress, NodeRef};
use crate::text::size;

/// What is known of a node.
#[derive(Debug)]
pub(crate) struct NodeLine {
    pub(super) node: NodeRef,
    pub(super) state: NodeState,
    received_bytes: u64,
    buffered_bytes: u64,
    rate: Rate,
    /// What is the matter with it in the running stream: it holds up the others, or lost its place.
    pub(super) remark: Option<String>,
}

/// Where a node stands.
#[derive(Debug)]
pub(super) enum NodeState {
    /// It is there, and waits for the others.
    Waiting,
    /// It has checked everything.
    Ready,
    /// It is at a step.
    Working(Step),
    /// It is done.
    Done,
    /// It came back from its own disk.
    Booted,
    /// It is out, and why.
    Failed(String),
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str("waiting"),
            Self::Ready => f.write_str("ready to start"),
            Self::Working(step) => write!(f, "{step}"),
            Self::Done => f.write_str("done"),
            Self::Booted => f.write_str("booted"),
            Self::Failed(reason) => write!(f, "FAILED: {reason}"),
        }
    }
}

impl NodeLine {
    /// A node that has just come.
    pub(super) fn new(node: NodeRef) -> Self {
        Self {
            node,
            state: NodeState::Waiting,
            received_bytes: 0,
            buffered_bytes: 0,
            rate: Rate::default(),
            remark: None,
        }
    }

    /// Whether nothing more comes from it.
    pub(super) fn is_settled(&self) -> bool {
        matches!(
            self.state,
            NodeState::Done | NodeState::Booted | NodeState::Failed(_)
        )
    }

    /// Bytes of the running stream that it has.
    pub(super) fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// A new stream begins.
    pub(super) fn begin(&mut self) {
        (self.received_bytes, self.buffered_bytes, self.rate) = (0, 0, Rate::default());
        self.remark = None;
    }

    /// How far it is in the running stream.
    pub(super) fn progress(&mut self, at: Duration, progress: &NodeProgress) {
        self.received_bytes = progress.received_bytes;
        self.buffered_bytes = progress.buffered_bytes;
        self.rate.sample(at, progress.received_bytes);
    }

    /// ` 1 n101 10.0.1.101  restoring  512.0 MiB  101.2 MiB/s  buffered 3.0 MiB`
    pub(crate) fn text(&self) -> String {
        let NodeRef {
            position, name, addr, ..
        } = &self.node;
        let mut line = format!("{position:>3} {name:<12} {addr:<15} {}", self.state);
        if self.received_bytes > 0 {
            line += &format!("  {}", size(self.received_bytes));
            if !self.is_settled() {
                let (rate, buffered) = (size(self.rate.per_second()), size(self.buffered_bytes));
                line += &format!("  {rate}/s  buffered {buffered}");
            }
        }
        if let Some(remark) = self.remark.as_ref().filter(|_| !self.is_settled()) {
            line += &format!("  {remark}");
        }
        line
    }

    /// `n101 510.0 MiB`
    pub(crate) fn short(&self) -> String {
        format!("{} {}", self.node.name, size(self.received_bytes))
    }
}
