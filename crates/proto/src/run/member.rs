//! One node, as the server knows it.

use std::net::IpAddr;
use std::time::Duration;

use super::talk::Talk;
use super::{ConnId, Failure, NodeInfo};
use crate::wire::Payload;

#[derive(Debug)]
pub(super) struct Member {
    pub(super) info: NodeInfo,
    /// Connection of the node. `None` once it is closed.
    pub(super) conn: Option<ConnId>,
    /// The server's address as this node reaches it.
    pub(super) server_addr: IpAddr,
    pub(super) wants_release: bool,
    /// True if it came with a complete clone that waits for its verdict. It reports, and takes no other part.
    pub(super) holds_clone: bool,
    pub(super) heard: Duration,
    pub(super) state: MemberState,
    pub(super) talk: Talk,
}

#[derive(Debug)]
pub(super) enum MemberState {
    /// The node is not in this round and waits for the next one.
    Queued,
    /// The node is in the run, and has no question to answer.
    Waiting,
    /// The node was asked and has not answered.
    Asked,
    /// The node has answered the last question.
    Answered(Payload),
    /// The node has finished. Its report is kept for [`super::Run::collect_reports`].
    Reported {
        report: Payload,
        /// True if it was told to make its clone bootable, and did.
        committed: bool,
        released: bool,
    },
    /// The node is out. It may still be connected, as a relay of a stream for the nodes below.
    Failed(Failure),
}

impl Member {
    pub(super) const fn is_active(&self) -> bool {
        !matches!(self.state, MemberState::Failed(_))
    }

    /// True if the node takes part, holds no clone yet, and has no open question. Commands and streams may go
    /// to it.
    pub(super) const fn is_free(&self) -> bool {
        !self.holds_clone && matches!(self.state, MemberState::Waiting)
    }

    pub(super) const fn is_queued(&self) -> bool {
        matches!(self.state, MemberState::Queued)
    }

    pub(super) const fn failure(&self) -> Option<&Failure> {
        match &self.state {
            MemberState::Failed(failure) => Some(failure),
            _ => None,
        }
    }
}
