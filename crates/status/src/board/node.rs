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
    written_bytes: u64,
    buffered_bytes: u64,
    rate: Rate,
    /// It was named as the one that holds up the others.
    pub(super) is_slow: bool,
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
            written_bytes: 0,
            buffered_bytes: 0,
            rate: Rate::default(),
            is_slow: false,
            remark: None,
        }
    }

    /// Whether nothing more comes from it.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(
            self.state,
            NodeState::Done | NodeState::Booted | NodeState::Failed(_)
        )
    }

    /// Bytes of the running stream that it has written. What is in its buffers only may still be lost, and takes its time.
    pub(super) fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Bytes of the running stream that it writes in a second.
    pub(super) fn per_second(&self) -> u64 {
        self.rate.per_second()
    }

    /// A new stream begins.
    pub(super) fn begin(&mut self) {
        (self.written_bytes, self.buffered_bytes, self.rate) = (0, 0, Rate::default());
        (self.is_slow, self.remark) = (false, None);
    }

    /// How far it is in the running stream.
    pub(super) fn progress(&mut self, at: Duration, progress: &NodeProgress) {
        self.written_bytes = progress.consumed_bytes;
        self.buffered_bytes = progress.buffered_bytes;
        self.rate.sample(at, progress.consumed_bytes);
    }

    /// ` 1 n101 10.0.1.101  restoring  512.0 MiB  101.2 MiB/s  buffered 3.0 MiB`
    pub(crate) fn text(&self) -> String {
        let NodeRef {
            position, name, addr, ..
        } = &self.node;
        let mut line = format!("{position:>3} {name:<12} {addr:<15} {}", self.state);
        if self.written_bytes > 0 {
            line += &format!("  {}", size(self.written_bytes));
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

    /// `n101 510.0 MiB`: what it has written
    pub(crate) fn short(&self) -> String {
        format!("{} {}", self.node.name, size(self.written_bytes))
    }
}
