//! Settings, actions and errors of a relay.

use std::time::Duration;

use crate::control::{Peer, Side};
use crate::ids::{NodeId, StreamOffset};
use crate::limits;
use crate::link::{Goodbye, ReceiptKeys};
use crate::text::Reason;

/// The source of a node's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The server's own producer: this is the head of the chain.
    Producer,
    /// The stream as the server has kept it: this is the head of a branch. It begins at the offset that its
    /// first successor asks for.
    Spool,
    /// This predecessor.
    Predecessor(Peer),
}

/// The settings of a relay. `Default` is a head without successor.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// The source of blocks.
    pub source: Source,
    /// True if this node uses the stream itself. The head does not.
    pub has_consumer: bool,
    /// The node that will connect.
    pub successor: Option<NodeId>,
    /// The offset at which the stream begins for this node.
    pub start: StreamOffset,
    /// Most payload bytes held. Raised to [`limits::MIN_WINDOW_BLOCKS`] blocks if it is less.
    pub window_bytes: u64,
    /// This node; [`NodeId::SERVER`] at a head.
    pub me: NodeId,
    /// The nodes near enough to keep data for this one, or this one for them, the neighbours left out.
    pub receipts: ReceiptKeys,
    /// True if the server keeps the whole stream. Data that the predecessor no longer has comes from there.
    pub spooled: bool,
    /// True if the stream has a multicast group. Then each link begins on standby, until the successor's
    /// first acknowledgement. A node that is no member calls [`super::Relay::leave_group`] at once.
    pub grouped: bool,
    /// Longest interval of messages each way.
    pub heartbeat: Duration,
    /// Silence after which a neighbour is lost.
    pub silence: Duration,
    /// Time in which a neighbour must be there, and in which the server must name another one after a loss.
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
            grouped: false,
            heartbeat: limits::HEARTBEAT,
            silence: limits::LINK_SILENCE,
            establish: limits::LINK_ESTABLISH_TIMEOUT,
        }
    }
}

impl RelayConfig {
    /// Returns the settings with this link silence, kept within its bounds, and heartbeats to match.
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

/// The next thing that the driver must write downstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transmit {
    /// The data block at this offset, header and payload as they came.
    Data {
        /// The offset at which it begins.
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
        /// The offset at which the next block will begin.
        offset: StreamOffset,
    },
}

/// An action that the driver must carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayOutput {
    /// Connect and shake hands; then [`super::Relay::handle_upstream_joined`] or
    /// [`super::Relay::handle_upstream_lost`].
    Connect {
        /// The node to connect to.
        peer: Peer,
        /// The offset to ask for.
        resume: StreamOffset,
    },
    /// Send this farewell and close. There will be no `handle_upstream_lost` for it.
    CloseUpstream(Goodbye),
    /// Close the successor's connection. There will be no `handle_downstream_lost` for it.
    CloseDownstream,
    /// Payload before this offset may be freed.
    Release {
        /// The first byte still needed.
        below: StreamOffset,
    },
    /// A link stands: tell the server.
    LinkUp {
        /// The neighbour's side.
        side: Side,
        /// The offset at which data goes on.
        offset: StreamOffset,
    },
    /// A link is lost: tell the server.
    LinkLost {
        /// The neighbour's side.
        side: Side,
        /// Offset that this node had reached.
        offset: StreamOffset,
        /// The fault.
        reason: Reason,
    },
    /// The predecessor no longer has the data that is missing here. Tell the server, which keeps all of it
    /// and names another one.
    Gap {
        /// The first byte that is missing.
        offset: StreamOffset,
        /// The reason, with the first byte that the predecessor has instead.
        reason: Reason,
    },
    /// Everything has arrived and the consumer has taken it: tell the server. Descendants may still need this
    /// node.
    Done,
    /// No work is left for any node: flush the messages queued upwards, close everything, drop the machine.
    Closed,
    /// The stream cannot be completed here: close everything, drop the machine, tell the server.
    Failed {
        /// The reason.
        reason: Reason,
    },
}

/// A mistake of a neighbour or of the driver. The link that it came over must be closed and reported lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelayError {
    /// A block that is not the next one.
    #[error("a block at offset {got}, expected {expected}")]
    WrongOffset {
        /// Offset that the block claims.
        got: StreamOffset,
        /// The offset that comes next.
        expected: StreamOffset,
    },
    /// A block while the window has no room, or after the end, or from the group that this node has left. The
    /// driver read too early.
    #[error("a block that nobody asked for at offset {0}")]
    Unasked(StreamOffset),
    /// The node is not the successor that the server named.
    #[error("node {got} connected, expected {expected:?}")]
    WrongSuccessor {
        /// The node that connected.
        got: NodeId,
        /// The node that the server named.
        expected: Option<NodeId>,
    },
    /// The successor wants data that is gone or was never here.
    #[error("node {node} wants to go on at {resume}, this node has {retained_from} to {received}")]
    CannotResume {
        /// The node.
        node: NodeId,
        /// The offset that it asked for.
        resume: StreamOffset,
        /// The first byte here.
        retained_from: StreamOffset,
        /// The first byte not yet here.
        received: StreamOffset,
    },
    /// An acknowledgement of something that the successor cannot have, or that takes an earlier one back.
    #[error("an acknowledgement up to {received}, possible was {sent}")]
    FalseAck {
        /// The offset that it claims.
        received: StreamOffset,
        /// The offsets that are possible.
        sent: StreamOffset,
    },
}
