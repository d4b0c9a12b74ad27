//! Tunnels: byte streams between an operator at the server and a node, inside the control connection that the
//! node keeps to its server. They reach nodes to which no connection can be made: through NAT and firewalls.
//!
//! The control connection belongs to the run. So a tunnel sends at most [`PIECE_WINDOW`] pieces of
//! [`MAX_PIECE`] bytes that the other end has not used, and there are at most [`MAX_TUNNELS_OF_NODE`]. A
//! driver sends a message of a tunnel only when no other message waits. [`Tunnels`] counts for one
//! connection, at either end. No message of a peer makes it hold more.
//!
//! Not here: sockets, and the meaning of the bytes (TLS of the status connection, [`crate::operator`]).
//! Specification: `docs/protocol.md`, "Tunnels".

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::text::Reason;
use crate::wire::Payload;

/// Most bytes of one piece: a TLS record of the operator's connection. A heartbeat waits for at most one that
/// is being sent.
pub const MAX_PIECE: usize = 16 << 10;

/// Most pieces of a tunnel that the other end has not used. 64 KiB on their way keep a screen full. With
/// every tunnel of a node it is 256 KiB, which a line of 10 Mbit/s carries in a fifth of a second.
pub const PIECE_WINDOW: usize = 4;

/// Most tunnels of one node at a time: a few people look at one node.
pub const MAX_TUNNELS_OF_NODE: usize = 4;

/// Most tunnels of one run at a time, for an operator who looks at a room of machines. Each costs the server
/// two tasks.
pub const MAX_TUNNELS_OF_RUN: usize = 256;

/// Most messages of all tunnels of a connection that can wait to be sent: pieces, credits, the opening and
/// the end.
pub const MAX_TUNNEL_MESSAGES: usize = MAX_TUNNELS_OF_NODE * (2 * PIECE_WINDOW + 2);

/// A tunnel within one control connection; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TunnelId(pub u32);

impl fmt::Display for TunnelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A message about tunnels between the two ends of a control connection, the same both ways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TunnelMessage {
    /// An operator wants a connection. Sent by the server only.
    Open {
        /// The tunnel's number.
        tunnel: TunnelId,
        /// The operator's address, as the server sees it.
        from: SocketAddr,
    },
    /// The next bytes, at most [`MAX_PIECE`], and one of the receiver's credits.
    Piece {
        /// The tunnel.
        tunnel: TunnelId,
        /// The bytes.
        bytes: Payload,
    },
    /// One piece was used, so one more may come.
    Credit {
        /// The tunnel.
        tunnel: TunnelId,
    },
    /// This end is gone. Nothing more comes, and nothing more is taken.
    Close {
        /// The tunnel.
        tunnel: TunnelId,
        /// The reason, for the operator.
        reason: Reason,
    },
}

/// An end of the control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelEnd {
    /// The server, which opens tunnels.
    Server,
    /// The node, which takes them.
    Node,
}

/// An event of a tunnel, for the driver to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TunnelEvent {
    /// A tunnel is open.
    Opened {
        /// The tunnel.
        tunnel: TunnelId,
        /// The operator's address.
        from: SocketAddr,
    },
    /// Bytes for the user of this end, which calls [`Tunnels::used`] when it has taken them.
    Piece {
        /// The tunnel of the bytes.
        tunnel: TunnelId,
        /// The payload, in order.
        bytes: Vec<u8>,
    },
    /// [`Tunnels::claim`] succeeds again.
    Credit {
        /// The tunnel.
        tunnel: TunnelId,
    },
    /// The tunnel is gone. After the earlier pieces there is nothing more. If the peer does not know it yet,
    /// `answer` must be sent.
    Closed {
        /// The tunnel.
        tunnel: TunnelId,
        /// The reason.
        reason: Reason,
        /// The message for the peer.
        answer: Option<TunnelMessage>,
    },
    /// Nothing to do: the message was about a tunnel that is gone at this end.
    Nothing,
}

/// The permission to send a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// The piece may be sent, and counts as sent.
    Granted,
    /// The piece must wait for [`TunnelEvent::Credit`].
    Wait,
    /// No piece may be sent any more: the tunnel is gone.
    Gone,
}

/// The tunnels of one control connection, at one end.
#[derive(Debug)]
pub struct Tunnels {
    end: TunnelEnd,
    open: BTreeMap<TunnelId, Flow>,
    last: u32,
}

#[derive(Debug)]
struct Flow {
    may_send: usize,
    may_come: usize,
}

impl Tunnels {
    /// Begins with no tunnel open.
    #[must_use]
    pub const fn new(end: TunnelEnd) -> Self {
        Self {
            end,
            open: BTreeMap::new(),
            last: 0,
        }
    }

    /// Opens a tunnel to the node, for an operator at `from`. Returns its number, and the message for the
    /// node.
    ///
    /// # Errors
    /// For the operator: [`MAX_TUNNELS_OF_NODE`] are open.
    pub fn open(&mut self, from: SocketAddr) -> Result<(TunnelId, TunnelMessage), Reason> {
        if self.open.len() >= MAX_TUNNELS_OF_NODE {
            return Err(too_many());
        }
        self.last = self.last.wrapping_add(1);
        let tunnel = TunnelId(self.last);
        self.open.insert(tunnel, Flow::new());
        Ok((tunnel, TunnelMessage::Open { tunnel, from }))
    }

    /// Handles a message of the other end.
    pub fn handle(&mut self, message: TunnelMessage) -> TunnelEvent {
        match message {
            TunnelMessage::Open { tunnel, from } => self.handle_open(tunnel, from),
            TunnelMessage::Piece { tunnel, bytes } => self.handle_piece(tunnel, bytes.0),
            TunnelMessage::Credit { tunnel } => match self.open.get_mut(&tunnel) {
                Some(flow) if flow.may_send < PIECE_WINDOW => {
                    flow.may_send += 1;
                    TunnelEvent::Credit { tunnel }
                }
                Some(_) => self.violated(tunnel, "more credit than was used"),
                None => TunnelEvent::Nothing,
            },
            TunnelMessage::Close { tunnel, reason } => match self.open.remove(&tunnel) {
                Some(_) => TunnelEvent::Closed {
                    tunnel,
                    reason,
                    answer: None,
                },
                None => TunnelEvent::Nothing,
            },
        }
    }

    /// Takes a credit for one piece.
    pub fn claim(&mut self, tunnel: TunnelId) -> Permit {
        match self.open.get_mut(&tunnel) {
            Some(flow) if flow.may_send > 0 => {
                flow.may_send -= 1;
                Permit::Granted
            }
            Some(_) => Permit::Wait,
            None => Permit::Gone,
        }
    }

    /// Records that the user of this end has taken a piece. Returns the message for the other end.
    pub fn used(&mut self, tunnel: TunnelId) -> Option<TunnelMessage> {
        let flow = self.open.get_mut(&tunnel)?;
        flow.may_come = (flow.may_come + 1).min(PIECE_WINDOW);
        Some(TunnelMessage::Credit { tunnel })
    }

    /// Records that the user of this end is gone. Returns the message for the other end.
    pub fn close(&mut self, tunnel: TunnelId, reason: Reason) -> Option<TunnelMessage> {
        self.open.remove(&tunnel)?;
        Some(TunnelMessage::Close { tunnel, reason })
    }

    fn handle_open(&mut self, tunnel: TunnelId, from: SocketAddr) -> TunnelEvent {
        // A node has no operators to send.
        if self.end == TunnelEnd::Server || self.open.contains_key(&tunnel) {
            return TunnelEvent::Nothing;
        }
        if self.open.len() >= MAX_TUNNELS_OF_NODE {
            let reason = too_many();
            return TunnelEvent::Closed {
                tunnel,
                reason: reason.clone(),
                answer: Some(TunnelMessage::Close { tunnel, reason }),
            };
        }
        self.open.insert(tunnel, Flow::new());
        TunnelEvent::Opened { tunnel, from }
    }

    fn handle_piece(&mut self, tunnel: TunnelId, bytes: Vec<u8>) -> TunnelEvent {
        let Some(flow) = self.open.get_mut(&tunnel) else {
            return TunnelEvent::Nothing;
        };
        if bytes.len() > MAX_PIECE {
            return self.violated(tunnel, "a piece is too long");
        }
        if flow.may_come == 0 {
            return self.violated(tunnel, "more pieces than there was credit for");
        }
        flow.may_come -= 1;
        TunnelEvent::Piece { tunnel, bytes }
    }

    /// Ends a tunnel whose other end breaks the rules. The run goes on without it.
    fn violated(&mut self, tunnel: TunnelId, what: &str) -> TunnelEvent {
        let reason = Reason::new(format!("the other end broke the protocol: {what}"));
        TunnelEvent::Closed {
            tunnel,
            reason: reason.clone(),
            answer: self.close(tunnel, reason),
        }
    }
}

impl Flow {
    const fn new() -> Self {
        Self {
            may_send: PIECE_WINDOW,
            may_come: PIECE_WINDOW,
        }
    }
}

fn too_many() -> Reason {
    Reason::new(format!(
        "{MAX_TUNNELS_OF_NODE} operators are at this node through the server already"
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::{Strategy, any, proptest};

    use super::*;

    const OPERATOR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7);

    fn piece(tunnel: TunnelId, len: usize) -> TunnelMessage {
        TunnelMessage::Piece {
            tunnel,
            bytes: Payload(vec![7; len]),
        }
    }

    /// Returns both ends with one tunnel open.
    fn connected() -> (Tunnels, Tunnels, TunnelId) {
        let (mut server, mut node) = (Tunnels::new(TunnelEnd::Server), Tunnels::new(TunnelEnd::Node));
        let (tunnel, open) = server.open(OPERATOR).unwrap();
        assert_eq!(
            node.handle(open),
            TunnelEvent::Opened {
                tunnel,
                from: OPERATOR
            }
        );
        (server, node, tunnel)
    }

    #[test]
    fn a_sender_stops_at_the_window_and_goes_on_with_each_piece_used() {
        let (mut server, mut node, tunnel) = connected();
        for _ in 0..PIECE_WINDOW {
            assert_eq!(node.claim(tunnel), Permit::Granted);
            assert!(matches!(
                server.handle(piece(tunnel, MAX_PIECE)),
                TunnelEvent::Piece { .. }
            ));
        }
        assert_eq!(node.claim(tunnel), Permit::Wait);
        let credit = server.used(tunnel).unwrap();
        assert_eq!(node.handle(credit), TunnelEvent::Credit { tunnel });
        assert_eq!(node.claim(tunnel), Permit::Granted);
        assert_eq!(node.claim(tunnel), Permit::Wait);
    }

    #[test]
    fn who_sends_more_than_it_may_loses_the_tunnel_and_nothing_else() {
        for (count, len, expected) in [
            (PIECE_WINDOW + 1, 1, "more pieces"),
            (1, MAX_PIECE + 1, "too long"),
        ] {
            let (mut server, _, tunnel) = connected();
            let (other, _) = server.open(OPERATOR).unwrap();
            let last = (0..count).map(|_| server.handle(piece(tunnel, len))).last();
            let Some(TunnelEvent::Closed {
                reason,
                answer: Some(TunnelMessage::Close { .. }),
                ..
            }) = last
            else {
                panic!("{last:?}")
            };
            assert!(reason.as_str().contains(expected), "{reason}");
            assert_eq!(server.claim(tunnel), Permit::Gone);
            assert_eq!(server.claim(other), Permit::Granted);
        }
        let (mut server, _, tunnel) = connected();
        let unearned = server.handle(TunnelMessage::Credit { tunnel });
        assert!(matches!(unearned, TunnelEvent::Closed { .. }), "{unearned:?}");
    }

    #[test]
    fn a_node_has_so_many_operators_and_no_more_and_a_place_is_free_again() {
        let (mut server, mut node, first) = connected();
        for _ in 1..MAX_TUNNELS_OF_NODE {
            let (_, open) = server.open(OPERATOR).unwrap();
            node.handle(open);
        }
        assert!(server.open(OPERATOR).is_err());
        // A server that does not count its tunnels gets a refusal.
        let beyond = TunnelMessage::Open {
            tunnel: TunnelId(99),
            from: OPERATOR,
        };
        assert!(matches!(
            node.handle(beyond),
            TunnelEvent::Closed {
                answer: Some(TunnelMessage::Close { .. }),
                ..
            }
        ));
        let close = node.close(first, Reason::new("left")).unwrap();
        assert!(matches!(
            server.handle(close),
            TunnelEvent::Closed { answer: None, .. }
        ));
        assert!(server.open(OPERATOR).is_ok());
    }

    #[test]
    fn a_node_opens_nothing_at_the_server() {
        let mut server = Tunnels::new(TunnelEnd::Server);
        let open = TunnelMessage::Open {
            tunnel: TunnelId(5),
            from: OPERATOR,
        };
        assert_eq!(server.handle(open), TunnelEvent::Nothing);
        assert_eq!(server.claim(TunnelId(5)), Permit::Gone);
    }

    fn message() -> impl Strategy<Value = TunnelMessage> {
        let tunnel = (0u32..8).prop_map(TunnelId);
        (tunnel, 0..4, any::<bool>()).prop_map(|(tunnel, kind, long)| match kind {
            0 => TunnelMessage::Open {
                tunnel,
                from: OPERATOR,
            },
            1 => piece(tunnel, if long { MAX_PIECE + 1 } else { 3 }),
            2 => TunnelMessage::Credit { tunnel },
            _ => TunnelMessage::Close {
                tunnel,
                reason: Reason::new("bye"),
            },
        })
    }

    proptest! {
        /// The bytes that wait for the consumer of one tunnel never exceed the window, whatever a peer sends.
        #[test]
        fn no_peer_makes_an_end_hold_more_than_its_window(
            messages in proptest::collection::vec(message(), 0..200),
        ) {
            for end in [TunnelEnd::Server, TunnelEnd::Node] {
                let mut this = Tunnels::new(end);
                if end == TunnelEnd::Server {
                    this.open(OPERATOR).unwrap();
                }
                let mut held: BTreeMap<TunnelId, VecDeque<usize>> = BTreeMap::new();
                for message in &messages {
                    if let TunnelEvent::Piece { tunnel, bytes } = this.handle(message.clone()) {
                        held.entry(tunnel).or_default().push_back(bytes.len());
                    }
                    assert!(this.open.len() <= MAX_TUNNELS_OF_NODE);
                    held.retain(|tunnel, _| this.open.contains_key(tunnel));
                    for pieces in held.values() {
                        assert!(pieces.len() <= PIECE_WINDOW && pieces.iter().all(|len| *len <= MAX_PIECE));
                    }
                }
            }
        }
    }
}
