//! One node, as the server keeps it.

use std::net::IpAddr;
use std::time::Duration;

use super::talk::Talk;
use super::{ConnId, Failure, NodeInfo};
use crate::wire::Payload;

#[derive(Debug)]
pub(super) struct Member {
    pub(super) info: NodeInfo,
    /// `None` once it is closed.
    pub(super) conn: Option<ConnId>,
    /// The server's address as this node reaches it.
    pub(super) server_addr: IpAddr,
    pub(super) wants_release: bool,
    /// It came with a complete clone that waits for its verdict: it reports, and takes no other part.
    pub(super) holds_clone: bool,
    pub(super) heard: Duration,
    pub(super) state: MemberState,
    pub(super) talk: Talk,
}

#[derive(Debug)]
pub(super) enum MemberState {
    /// Not in this round: it waits for the next one.
    Queued,
    /// In the run, nothing to answer.
    Waiting,
    /// Asked, not answered.
    Asked,
    /// Answered the last question.
    Answered(Payload),
    /// Finished; the report is kept for [`super::Run::collect_reports`].
    Reported {
        report: Payload,
        /// It was told to make its clone bootable, and did.
        committed: bool,
        released: bool,
    },
    /// Out. It may still be connected, as a relay of a stream for those below.
    Failed(Failure),
}

impl Member {
    pub(super) const fn is_active(&self) -> bool {
        !matches!(self.state, MemberState::Failed(_))
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
