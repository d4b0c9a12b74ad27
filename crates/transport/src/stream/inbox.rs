//! The messages to a pump, and its reports.

use std::time::Duration;

use ka_proto::control::{Peer, Side, Successor};
use ka_proto::group::Report as GroupReport;
use ka_proto::link::ReceiptKeys;
use ka_proto::{NodeId, Reason, StreamId, StreamOffset};

use super::downstream::Downstream;
use super::upstream::Upstream;

/// A message of another thread to the pump.
#[derive(Debug)]
pub(crate) enum PumpInput {
    /// The connection to the predecessor stands.
    Predecessor { link: Box<Upstream>, attempt: u64 },
    /// It could not be made.
    NoPredecessor { reason: String, attempt: u64 },
    /// The predecessor no longer has the data that is needed.
    Gap {
        retained_from: StreamOffset,
        attempt: u64,
    },
    /// A successor has proved itself.
    Successor {
        link: Box<Downstream>,
        resume_from: StreamOffset,
    },
    /// The server names new neighbours.
    Relink {
        predecessor: Option<Peer>,
        successor: Option<Successor>,
    },
    /// The server names the nodes that are near enough to keep data for this one, or this one for them.
    Receipts(ReceiptKeys),
    /// Keep new data from the successor for so long.
    Hold(Duration),
    /// The state of a member of the group that this pump sends to.
    GroupReport { node: NodeId, report: GroupReport },
    /// A node is no member any more of the group that this pump sends to.
    LeftGroup(NodeId),
    /// Leave the group, for this reason.
    LeaveGroup(String),
    /// A block from the multicast group, as the server sealed it.
    #[cfg(test)]
    GroupBlock {
        header: [u8; ka_proto::block::HEADER_LEN],
        payload: Vec<u8>,
    },
    /// The server's word that no node needs the stream any more.
    EndStream,
    /// The producer has sent everything.
    ProducerDone,
    /// The consumer took and used everything.
    ConsumerDone,
    /// The consumer gave up.
    ConsumerFailed(String),
    /// The run is over.
    Abort(String),
}

/// One head of a branch: the node that it feeds, and its number among the heads that fed that node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BranchId {
    pub(crate) node: NodeId,
    pub(crate) number: u64,
}

/// A report of the pump to the task that holds the control connection(s).
#[derive(Debug)]
pub(crate) struct PumpReport {
    pub(crate) stream: StreamId,
    /// The branch, if its head reports.
    pub(crate) branch: Option<BranchId>,
    pub(crate) what: PumpEvent,
}

/// The event that a [`PumpReport`] tells.
#[derive(Debug)]
pub(crate) enum PumpEvent {
    /// A data connection stands.
    LinkUp { side: Side, offset: StreamOffset },
    /// A data connection broke.
    LinkLost {
        side: Side,
        offset: StreamOffset,
        reason: Reason,
    },
    /// Everything arrived, is verified, and the consumer took it.
    Done { bytes: u64, digest: [u8; 32] },
    /// The predecessor no longer has the data that is missing here.
    Gap { offset: StreamOffset, reason: Reason },
    /// The state of this member of the group.
    GroupReport(GroupReport),
    /// This node has left the group.
    LeftGroup { reason: String },
    /// The sender takes a member out of the group.
    GroupLeave { node: NodeId, reason: String },
    /// Nothing is sent to the group any more.
    GroupEnded { reason: String },
    /// The stream is kept no longer.
    SpoolOff { reason: String },
    /// The consumer gave up; the relay goes on.
    ConsumerFailed { reason: String },
    /// The pump has ended in good order.
    Closed,
    /// The pump has ended, because the stream cannot be completed here. `unproved` is true if the data is not
    /// what the server sent.
    Failed { reason: String, unproved: bool },
}
