//! What an operator and the server say to each other (`ka-status --via`): which nodes there are, and a way to one of
//! them through its control connection.
//!
//! The connection is TLS 1.3 with raw keys both ways, on the server's control port, and known by its ALPN name,
//! [`VIA_ALPN`]. Both ends show the same key, the server's, and each takes no other. Frames are those of [`crate::wire`],
//! at most [`MAX_VIA_FRAME`] long. After [`FromServer::Connected`] both send bytes: those of a second TLS connection, the
//! one that [`crate::operator`] describes, whose other end is the node. So the node lets in nobody whom it would not let
//! in at its own port.
//!
//! Not here: sockets, and how the bytes reach the node ([`crate::tunnel`]). Specification: `docs/protocol.md`, "Status
//! through the server".

use serde::{Deserialize, Serialize};

use crate::ids::MacAddr;
use crate::limits::MAX_REASON;
use crate::text::{NodeHandle, NodeName, Reason};
use crate::tunnel::MAX_PIECE;
use crate::wire::{self, Payload, WireError};

/// Protocol name and version, offered in the TLS handshake (RFC 7301) on the server's control port.
pub const VIA_ALPN: &[u8] = b"ka-via/1";

/// Longest frame either way, in bytes: a piece, or a node with the longest state, and the fields around it.
pub const MAX_VIA_FRAME: usize = MAX_PIECE + MAX_REASON;

/// From an operator to the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AskServer {
    /// Which nodes are there? Answered with [`FromServer::Node`] for each and [`FromServer::End`].
    List,
    /// A way to this one: its address, name, or hardware address. Answered with [`FromServer::Connected`] or
    /// [`FromServer::End`].
    Connect(NodeHandle),
    /// The next bytes for the node, at most [`MAX_PIECE`].
    Bytes(Payload),
}

/// A node as the server has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedNode {
    /// The host name it gave.
    pub name: NodeName,
    /// The hardware address it gave.
    pub mac: Option<MacAddr>,
    /// The address it is known by.
    pub addr: std::net::IpAddr,
    /// What it is at, for people.
    pub state: Reason,
}

/// From the server to an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromServer {
    /// One of the run's nodes.
    Node(ListedNode),
    /// The way to the node is there; bytes may go.
    Connected,
    /// The next bytes of the node, at most [`MAX_PIECE`].
    Bytes(Payload),
    /// Nothing more comes. With a reason: what was asked for cannot be had, or not any longer.
    End(Option<Reason>),
}

impl AskServer {
    /// The whole frame, length included.
    ///
    /// # Errors
    /// [`WireError::FrameTooLong`] with more bytes than [`MAX_PIECE`] by far.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        wire::encode(self, "message to the server", MAX_VIA_FRAME)
    }

    /// Decodes a frame's body.
    ///
    /// # Errors
    /// [`WireError::Malformed`]: close the connection.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        wire::decode(body, "message from the operator")
    }
}

impl FromServer {
    /// The whole frame, length included.
    ///
    /// # Errors
    /// [`WireError::FrameTooLong`] with more bytes than [`MAX_PIECE`] by far.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        wire::encode(self, "message to the operator", MAX_VIA_FRAME)
    }

    /// Decodes a frame's body.
    ///
    /// # Errors
    /// [`WireError::Malformed`]: close the connection.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        wire::decode(body, "message from the server")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn the_largest_messages_fit_a_frame() {
        let piece = Payload(vec![0; MAX_PIECE]);
        for asked in [AskServer::List, AskServer::Bytes(piece.clone())] {
            let frame = asked.encode().unwrap();
            assert_eq!(AskServer::decode(&frame[4..]), Ok(asked));
        }
        let node = ListedNode {
            name: NodeName::new(&format!("{}.n", "n".repeat(62))).unwrap(),
            mac: Some(MacAddr([255; 6])),
            addr: [0; 16].into(),
            state: Reason::new("x".repeat(MAX_REASON)),
        };
        for said in [FromServer::Bytes(piece), FromServer::Node(node)] {
            let frame = said.encode().unwrap();
            assert_eq!(FromServer::decode(&frame[4..]), Ok(said));
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in any::<Vec<u8>>()) {
            let _ = AskServer::decode(&bytes);
            let _ = FromServer::decode(&bytes);
        }
    }
}
