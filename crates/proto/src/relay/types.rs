//! What a relay is made of, what it says, and what it refuses.

use std::time::Duration;

use crate::control::{Peer, Side};
use crate::ids::{NodeId, StreamOffset};
use crate::limits;
use crate::link::{Goodbye, ReceiptKeys};
use crate::text::Reason;

/// Where a node's blocks come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The server's own producer: this is the head of the chain.
    Producer,
    /// What the server has kept of the stream: this is the head of a branch. It begins where its first successor asks to.
    Spool,
    /// This predecessor.
    Predecessor(Peer),
}

/// What a relay is made of. `Default` is a head without successor.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// Where blocks come from.
    pub source: Source,
    /// Whether this node uses the stream itself; the head does not.
    pub has_consumer: bool,
    /// Who will connect.
    pub successor: Option<NodeId>,
    /// Where the stream begins for this node.
    pub start: StreamOffset,
    /// Most payload bytes held; raised to [`limits::MIN_WINDOW_BLOCKS`] blocks when less.
    pub window_bytes: u64,
    /// This node; [`NodeId::SERVER`] at a head.
    pub me: NodeId,
    /// The nodes near enough to be kept data for, and to keep data for this node, the neighbours left out.
    pub receipts: ReceiptKeys,
    /// The server keeps the whole stream: what the predecessor no longer has can be had from there.
    pub spooled: bool,
    /// Something goes each way at least this often.
    pub heartbeat: Duration,
    /// A neighbour silent for this long is lost.
    pub silence: Duration,
    /// A neighbour must be there within this long, and the server must name another one within it after a loss.
    pub establish: Duration,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            source: Source::Producer,
            has_consumer: false,
            successor: None,
            start: StreamOffset(0),
            window_bytes: limits::DEFAULT_WINDOW as u64,
            me: NodeId::SERVER,
            receipts: ReceiptKeys::default(),
            spooled: false,
            heartbeat: limits::HEARTBEAT,
            silence: limits::LINK_SILENCE,
            establish: limits::LINK_ESTABLISH_TIMEOUT,
        }
    }
}

impl RelayConfig {
    /// With this link silence, kept within what is sensible, and heartbeats to match.
    #[must_use]
    pub fn with_silence(self, silence: Duration) -> Self {
        let silence = silence.clamp(limits::MIN_LINK_SILENCE, limits::MAX_LINK_SILENCE);
        Self {
            silence,
            heartbeat: limits::link_heartbeat(silence),
            ..self
        }
    }
}

/// What the driver must write downstream next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Send {
    /// The data block at this offset, header and payload as they came.
    Data {
        /// Where it begins.
        offset: StreamOffset,
        /// Payload bytes.
        length: u32,
    },
    /// The end block at this offset.
    End {
        /// Payload bytes of the stream.
        offset: StreamOffset,
    },
    /// An idle block at this offset, sealed afresh.
    Idle {
        /// Where the next block will begin.
        offset: StreamOffset,
    },
}

/// What the driver must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayOutput {
    /// Connect and shake hands; then [`super::Relay::handle_upstream_joined`] or [`super::Relay::handle_upstream_lost`].
    Connect {
        /// To whom.
        peer: Peer,
        /// The offset to ask for.
        resume: StreamOffset,
    },
    /// Send this farewell and close; there will be no `handle_upstream_lost` for it.
    CloseUpstream(Goodbye),
    /// Close the successor's connection; there will be no `handle_downstream_lost` for it.
    CloseDownstream,
    /// Payload before this offset may be freed.
    Release {
        /// The first byte still needed.
        below: StreamOffset,
    },
    /// Tell the server.
    LinkUp {
        /// Which neighbour.
        side: Side,
        /// Where data goes on.
        offset: StreamOffset,
    },
    /// Tell the server.
    LinkLost {
        /// Which neighbour.
        side: Side,
        /// How far it was.
        offset: StreamOffset,
        /// What happened.
        reason: Reason,
    },
    /// The predecessor no longer has what is missing here: tell the server, which keeps all of it and names another one.
    Gap {
        /// The first byte that is missing.
        offset: StreamOffset,
        /// What the predecessor has instead.
        reason: Reason,
    },
    /// Everything has arrived and the consumer took all of it: tell the server. Descendants may still need this node.
    Done,
    /// Nothing more to do, for anyone: flush what was queued upwards, close everything, drop the machine.
    Closed,
    /// The stream cannot be completed here: close everything, drop the machine, tell the server.
    Failed {
        /// Why.
        reason: Reason,
    },
}

/// What a neighbour or the driver did wrong; the link it came over must be closed and reported lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelayError {
    /// A block that is not the next one.
    #[error("a block at offset {got}, expected {expected}")]
    WrongOffset {
        /// Where it says it belongs.
        got: StreamOffset,
        /// What comes next.
        expected: StreamOffset,
    },
    /// A block while the window has no room, or after the end: the driver read without being asked to.
    #[error("a block that nobody asked for at offset {0}")]
    Unasked(StreamOffset),
    /// Not the successor that the server named.
    #[error("node {got} connected, expected {expected:?}")]
    WrongSuccessor {
        /// Who connected.
        got: NodeId,
        /// Who should.
        expected: Option<NodeId>,
    },
    /// The successor wants data that is gone or was never here.
    #[error("node {node} wants to go on at {resume}, this node has {retained_from} to {received}")]
    CannotResume {
        /// Who.
        node: NodeId,
        /// What it asked for.
        resume: StreamOffset,
        /// The first byte here.
        retained_from: StreamOffset,
        /// The first byte not yet here.
        received: StreamOffset,
    },
    /// An acknowledgement of something that was not sent, or that takes an earlier one back.
    #[error("an acknowledgement up to {received}, sent were {sent}")]
    FalseAck {
        /// What it claims.
        received: StreamOffset,
        /// What is possible.
        sent: StreamOffset,
    },
}
