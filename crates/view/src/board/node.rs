//! One node of the run, as the views show it.

use std::fmt;
use std::time::Duration;

use super::rate::Rate;
use ka_report::event::Step;
use ka_report::run::{NodeProgress, NodeRef};
use ka_report::text::size;

/// The known state of a node.
#[derive(Debug)]
pub(crate) struct NodeLine {
    pub(super) node: NodeRef,
    state: NodeState,
    trouble: Option<Trouble>,
    written_bytes: u64,
    rate: Rate,
}

/// The position of a node in the run.
#[derive(Debug)]
pub(super) enum NodeState {
    /// The node waits for the others.
    Waiting,
    /// The node came too late for this round, or came back in it. It waits for the round with this number.
    Queued(u32),
    /// The node has checked everything.
    Ready,
    /// The node is at a step.
    Working(Step),
    /// The node is done.
    Done,
    /// The clone came back from its own disk.
    Booted,
    /// The node is out of the run.
    Failed {
        /// Step at which it failed.
        stage: String,
        /// Reason of the failure.
        reason: String,
    },
}

/// A trouble of a node that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The node holds up the others, for this reason.
    Slow(String),
    /// The node is silent and may come back.
    Silent,
    /// The node lost its place in the chain and is fed from the spool.
    FedFromSpool,
}

/// Nodes that are counted together. The order is that of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// Expected machines that are not here.
    Missing,
    /// Nodes that are out of the run.
    Failed,
    /// Nodes that are silent.
    Silent,
    /// Nodes that hold up the others.
    Slow,
    /// Nodes that wait for the start.
    Waiting,
    /// Nodes that wait for the next round.
    Queued,
    /// Nodes that have checked everything.
    Ready,
    /// Nodes at this step.
    Working(Step),
    /// Nodes whose clones are complete.
    Done,
    /// Clones that came back from their own disks.
    Booted,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Failed => "failed",
            Self::Silent => "silent",
            Self::Slow => "slow",
            Self::Waiting => "waiting",
            Self::Queued => "for the next round",
            Self::Ready => "ready",
            Self::Working(step) => step.doing(),
            Self::Done => "done",
            Self::Booted => "booted",
        })
    }
}

impl NodeLine {
    /// Returns a node that has just come.
    pub(super) fn new(node: NodeRef) -> Self {
        Self {
            node,
            state: NodeState::Waiting,
            trouble: None,
            written_bytes: 0,
            rate: Rate::default(),
        }
    }

    /// Returns the number that the server gave it.
    pub(crate) fn id(&self) -> u32 {
        self.node.id
    }

    /// Returns its host name.
    pub(crate) fn name(&self) -> &str {
        &self.node.name
    }

    /// True if nothing more comes from the node.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(
            self.state,
            NodeState::Done | NodeState::Booted | NodeState::Failed { .. }
        )
    }

    /// True if the node takes part in the current phase. It is not settled and does not wait for the next
    /// round.
    pub(crate) fn is_running(&self) -> bool {
        !self.is_settled() && !matches!(self.state, NodeState::Queued(_))
    }

    /// True if this node was lost, and `node` is the same machine with a new number.
    pub(super) fn comes_again_as(&self, node: &NodeRef) -> bool {
        let lost = matches!(self.state, NodeState::Failed { .. } | NodeState::Queued(_));
        lost && self.node.name == node.name && self.node.addr == node.addr
    }

    /// Returns the group in which it is counted.
    pub(crate) fn group(&self) -> Group {
        match (&self.state, &self.trouble) {
            (NodeState::Failed { .. }, _) => Group::Failed,
            (NodeState::Done, _) => Group::Done,
            (NodeState::Booted, _) => Group::Booted,
            (_, Some(Trouble::Silent)) => Group::Silent,
            (_, Some(Trouble::Slow(_))) => Group::Slow,
            (NodeState::Waiting, _) => Group::Waiting,
            (NodeState::Queued(_), _) => Group::Queued,
            (NodeState::Ready, _) => Group::Ready,
            (NodeState::Working(step), _) => Group::Working(*step),
        }
    }

    /// Returns the work and the reason of a node that is out.
    pub(crate) fn failure(&self) -> Option<(&str, &str)> {
        match &self.state {
            NodeState::Failed { stage, reason } => Some((stage, reason)),
            _ => None,
        }
    }

    /// Returns the trouble of a node that goes on.
    pub(crate) fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref().filter(|_| self.is_running())
    }

    /// Returns the reason why it holds up the others, if it does.
    pub(crate) fn slowness(&self) -> Option<&str> {
        match self.trouble() {
            Some(Trouble::Slow(text)) => Some(text),
            _ => None,
        }
    }

    /// Returns the bytes of the running stream that it has written. Data in its buffers does not count: it
    /// may still be lost, and takes time to write.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Returns the bytes of the running stream that it writes in a second.
    pub(crate) fn per_second(&self) -> u64 {
        self.rate.per_second()
    }

    /// Begins a new stream.
    pub(super) fn begin(&mut self) {
        (self.written_bytes, self.rate, self.trouble) = (0, Rate::default(), None);
    }

    /// Ends the running stream. Its counters have no meaning any more.
    pub(super) fn end(&mut self) {
        self.rate = Rate::default();
        if matches!(self.trouble, Some(Trouble::Slow(_) | Trouble::FedFromSpool)) {
            self.trouble = None;
        }
    }

    /// Sets the node's position in the run.
    pub(super) fn stands_at(&mut self, state: NodeState) {
        self.state = state;
    }

    /// Sets the node's trouble.
    pub(super) fn suffers(&mut self, trouble: Trouble) {
        self.trouble = Some(trouble);
    }

    /// Takes in its progress in the running stream.
    pub(super) fn progress(&mut self, at: Duration, progress: &NodeProgress) {
        self.written_bytes = progress.consumed_bytes;
        self.rate.sample(at, progress.consumed_bytes);
    }

    /// Returns `restoring  512.0 MiB  101.2 MiB/s`: its work and, in a stream, its progress.
    pub(crate) fn doing(&self) -> String {
        let mut text = match (&self.state, &self.trouble) {
            (NodeState::Queued(round), _) => format!("waits for round {round}"),
            (_, Some(Trouble::FedFromSpool)) => format!("{}, fed from the spool", self.group()),
            _ => self.group().to_string(),
        };
        if self.is_running() && self.written_bytes > 0 {
            text += &format!("  {}", size(self.written_bytes));
            if self.per_second() > 0 {
                text += &format!("  {}/s", size(self.per_second()));
            }
        }
        text
    }

    /// Returns `n101 510.0 MiB`: its name and the bytes written.
    pub(crate) fn short(&self) -> String {
        format!("{} {}", self.node.name, size(self.written_bytes))
    }
}
