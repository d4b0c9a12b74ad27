//! Orders that a stream gives to the run that it belongs to.

use super::super::{HeadOrder, NodeId, Reason, RunEvent, StreamName, StreamOffset, Successor};

/// One order for the run to carry out. A stream knows its nodes by number only. The run has the addresses,
/// keys and connections.
#[derive(Debug)]
pub(in crate::run) enum Effect {
    /// Ask the node if it lives.
    Ping(NodeId),
    /// Tell a node to get the stream from another one, with the key of that link.
    Predecessor {
        node: NodeId,
        predecessor: NodeId,
        /// The new successor, if it changes too.
        successor: Option<Successor>,
    },
    /// Tell a node, or the head ([`NodeId::SERVER`]), its successor.
    Successor { node: NodeId, successor: Option<NodeId> },
    /// Have a node hold back the stream for so long.
    Hold { node: NodeId, millis: u32 },
    /// Tell a node to leave the multicast group, for this reason.
    LeaveGroup { node: NodeId, reason: Reason },
    /// Pass an order to the head of the chain.
    Head(HeadOrder),
    /// Pass an event to the layer above.
    Event(RunEvent),
    /// A node has lost its place in the chain, and its connection stays.
    Away { node: NodeId, reason: Reason },
    /// A node that was away goes on, fed from the spool.
    Rejoined {
        node: NodeId,
        stream: StreamName,
        offset: StreamOffset,
    },
    /// A node may be the reason why a node below it lost its place.
    Accuse(NodeId),
    /// A node is set aside because it is slow: the next round waits for it longer.
    SetAside(NodeId),
    /// A node is out of this round. These are always the last effects of a call: the run asks the stream
    /// again for the effects of the loss.
    Lose { node: NodeId, reason: Reason },
}

/// Orders in the sequence in which they are carried out.
pub(in crate::run) type Effects = Vec<Effect>;
