//! What the pump is told and what it reports.

use std::net::IpAddr;
use std::time::Duration;

use ka_proto::control::{Peer, Side, Successor};
use ka_proto::link::ReceiptKeys;
use ka_proto::relay::RelayConfig;
use ka_proto::{Reason, StreamId, StreamOffset};
use tokio::sync::mpsc;

use super::downstream::Downstream;
use super::ending::EndKey;
use super::link::{BranchId, Door, LinkTarget};
use super::spool::{Branch, Keeper};
use super::upstream::Upstream;

/// What other threads tell the pump.
#[derive(Debug)]
pub(crate) enum Input {
    /// The connection to the predecessor stands.
    Predecessor { link: Box<Upstream>, attempt: u64 },
    /// It could not be made.
    NoPredecessor { reason: String, attempt: u64 },
    /// The predecessor no longer has what is needed.
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
    /// The server names who is near enough to keep data for, and to keep data for this node.
    Receipts(ReceiptKeys),
    /// Keep what comes from the successor for so long.
    Hold(Duration),
    /// The server says that nobody needs the stream any more.
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

/// What the pump tells the task that holds the control connection(s).
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) stream: StreamId,
    /// The head of a branch says it.
    pub(crate) branch: Option<BranchId>,
    pub(crate) what: Happened,
}

/// See [`Report`].
#[derive(Debug)]
pub(crate) enum Happened {
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
    /// The predecessor no longer has what is missing here.
    Gap { offset: StreamOffset, reason: Reason },
    /// The stream is kept no longer.
    SpoolOff { reason: String },
    /// The consumer gave up; the relay goes on.
    ConsumerFailed { reason: String },
    /// The pump has ended in good order.
    Closed,
    /// The pump has ended: the stream cannot be completed here; `unproved`: what arrived is not what the server sent.
    Failed { reason: String, unproved: bool },
}

/// What a pump is made of.
#[derive(Debug)]
pub(crate) struct PumpConfig {
    pub(crate) relay: RelayConfig,
    pub(crate) target: LinkTarget,
    /// Most bytes of memory held in blocks.
    pub(crate) window_bytes: usize,
    /// Whether payload is encrypted; the pump forwards it as it is.
    pub(crate) is_sealed: bool,
    /// What vouches for the end of the stream.
    pub(crate) end_key: EndKey,
    /// Own address to connect from.
    pub(crate) local: Option<IpAddr>,
    pub(crate) door: Door,
    /// Where the head's blocks are kept.
    pub(crate) keeper: Option<Keeper>,
    /// What the head of a branch is fed from.
    pub(crate) branch: Option<Branch>,
    pub(crate) reports: mpsc::UnboundedSender<Report>,
}
