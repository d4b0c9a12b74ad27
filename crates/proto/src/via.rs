//! Messages between an operator and the server (`ka-status --via`): the list of nodes, and a way to one of
//! them through its control connection.
//!
//! The connection is TLS 1.3 with raw keys both ways, on the server's control port, and known by its ALPN
//! name, [`VIA_ALPN`]. Both ends show the same key, the server's, and each takes no other. Frames are those
//! of [`crate::wire`], at most [`MAX_VIA_FRAME`] long. After [`FromServer::Connected`] both send the bytes of
//! a second TLS connection, as [`crate::operator`] describes it, whose other end is the node. So the node
//! lets in only operators whom it would let in at its own port.
//!
//! Not here: sockets, and the way of the bytes to the node ([`crate::tunnel`]). Specification:
//! `docs/protocol.md`, "Status through the server".

use ka_mac::MacAddr;
use serde::{Deserialize, Serialize};

use crate::limits::MAX_REASON;
use crate::text::{NodeHandle, NodeName, Reason};
use crate::tunnel::MAX_PIECE;
use crate::wire::{self, Payload, WireError};

/// Protocol name and version, offered in the TLS handshake (RFC 7301) on the server's control port.
pub const VIA_ALPN: &[u8] = b"ka-via/2";

/// Longest frame either way, in bytes: a piece, or a node with the longest state, and the fields around it.
pub const MAX_VIA_FRAME: usize = MAX_PIECE + MAX_REASON;

/// Longest name of a step, in bytes.
pub const MAX_STEP: usize = 64;

/// From an operator to the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AskServer {
    /// A request for the list of nodes. Answered with [`FromServer::Node`] for each and [`FromServer::End`].
    List,
    /// A request for a way to this node: its address, name, or MAC address. Answered with
    /// [`FromServer::Connected`] or [`FromServer::End`].
    Connect(NodeHandle),
    /// The next bytes for the node, at most [`MAX_PIECE`].
    Bytes(Payload),
}

/// A node as the server knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedNode {
    /// Host name that the node gave.
    pub name: NodeName,
    /// MAC address that the node gave.
    pub mac: Option<MacAddr>,
    /// Address of the node for the server.
    pub addr: std::net::IpAddr,
    /// Its state, for people.
    pub state: Reason,
    /// The step that it works at, if it is at work.
    pub work: Option<Work>,
}

/// The step that a node works at, and its place in the stream that it receives meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// The step, for people: `restoring`.
    pub step: Reason,
    /// Time since the step began, in seconds.
    pub secs: u32,
    /// The part of the stream that the node has written. `None` outside of streams.
    pub written: Option<Written>,
}

/// The part of a stream that a node has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Bytes of the stream.
    pub bytes: u64,
    /// Bytes in a second, lately.
    pub per_second: u64,
    /// Percent of the whole, if its size is known.
    pub percent: Option<u8>,
}

/// From the server to an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromServer {
    /// One of the run's nodes.
    Node(ListedNode),
    /// The way to the node is open, and bytes may go.
    Connected,
    /// The next bytes of the node, at most [`MAX_PIECE`].
    Bytes(Payload),
    /// Nothing more comes. With a reason, the request is not possible, or not any longer.
    End(Option<Reason>),
}

impl AskServer {
    /// Returns the whole frame, length included.
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
    /// Returns the whole frame, length included.
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
            work: Some(Work {
                step: Reason::new("x".repeat(MAX_STEP)),
                secs: u32::MAX,
                written: Some(Written {
                    bytes: u64::MAX,
                    per_second: u64::MAX,
                    percent: Some(100),
                }),
            }),
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
