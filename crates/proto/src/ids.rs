//! Numbers that must not be mixed up, each its own type, and the protocol version.
//!
//! Not here: names and free text ([`crate::text`]).
//! Specification: `docs/protocol.md`, "Names and numbers".

use std::fmt;

use serde::{Deserialize, Serialize};

/// Versions of everything that this crate puts on a wire. The documentation of each variant is the changelog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum ProtocolVersion {
    /// First version: Join with proof, prepare, go, streams over the chain, report, release. It has messages
    /// for healing (`LinkLost`, `Relink`, offsets in the link handshake), which are used when the server
    /// heals.
    V1 = 1,
    /// Rounds: `Abort` says whether the node is wanted in the next round, `Queued` keeps a late node until
    /// then. Payload travels encrypted (`OpenStream` says how, the block's header has a tag), and the end of
    /// a stream is signed by the server. `OpenStream` has the link's silence, `Progress` how the node spent
    /// its time. `Pending` keeps a node waiting while the operator is asked. `OpenStream` says whether the
    /// server keeps the stream, `DataGone` asks to go on from there. `Tunnel`, both ways, carries an
    /// operator's connection to a node that only the server can reach. `Commit` tells a node that its clone
    /// was judged good, and is answered with `Bootable`; a node that lost its server before joins again with
    /// the clone that it holds.
    V2 = 2,
    /// Each data link has a key of its own, for two named nodes: `OpenStream` and `Relink` hand it to both of
    /// them. `Join` says what the node has come for: a node with `--dry-run` gets its `Prepare` at once and
    /// is no member.
    V3 = 3,
    /// Multicast: `OpenStream` names the group of a stream, `GroupReport` and `LeftGroup` come from its
    /// members, `LeaveGroup` goes to them. An acknowledgement says if its sender stands by on the link.
    /// Wiring: `Join` has the switch port that the node heard of (LLDP), and `Wiring` brings it when it is heard
    /// later. The server orders the chain by it.
    V4 = 4,
}

/// The version that this build speaks. A peer with another one is refused by name, see
/// [`crate::control::Join`].
pub const PROTOCOL_VERSION: ProtocolVersion = ProtocolVersion::V4;

impl ProtocolVersion {
    /// Returns the number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number())
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A node within one run, given by the server when it accepts a Join; [`NodeId::SERVER`] is the server
    /// itself.
    NodeId(u32)
}
number! {
    /// Place in the chain of one stream: 1 is the server's successor, 2 the next one.
    ChainPosition(u32)
}
number! {
    /// A stream within one run, counted from 1 in the order in which streams are opened.
    StreamId(u32)
}
number! {
    /// A position in a stream: payload bytes before it.
    StreamOffset(u64)
}
number! {
    /// An amount of payload, in bytes.
    ByteCount(u64)
}

impl NodeId {
    /// The head of every chain.
    pub const SERVER: Self = Self(0);
}

impl StreamOffset {
    /// Returns the offset `bytes` further on. It saturates: a stream of 2^64 bytes does not exist, but a
    /// hostile header may claim one.
    #[must_use]
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }

    /// Returns the bytes from `earlier` to here, 0 if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// One run of the server: 16 random bytes, in every block and every link handshake.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RunId(pub [u8; 16]);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_saturate_instead_of_wrapping() {
        assert_eq!(StreamOffset(u64::MAX).plus(1), StreamOffset(u64::MAX));
        assert_eq!(StreamOffset(1).since(StreamOffset(2)), 0);
    }
}
