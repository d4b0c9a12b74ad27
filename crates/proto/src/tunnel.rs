//! Tunnels: byte streams between an operator at the server and a node, inside the control connection that the node keeps
//! to its server. They go where no connection to the node does: through NAT and firewalls.
//!
//! The control connection belongs to the run. So a tunnel sends at most [`PIECE_WINDOW`] pieces of [`MAX_PIECE`] bytes
//! that the other end has not used, there are at most [`MAX_TUNNELS_OF_NODE`], and a driver sends a message of a tunnel
//! only when no other message waits. [`Tunnels`] counts for one connection, at either end; nothing it is told by a peer
//! makes it hold more.
//!
//! Not here: sockets, and what the bytes mean (TLS of the status connection, [`crate::operator`]). Specification:
//! `docs/protocol.md`, "Tunnels".

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::text::Reason;
use crate::wire::Payload;

/// Most bytes of one piece: a TLS record of the operator's connection. A heartbeat waits behind at most one that is being
/// sent.
pub const MAX_PIECE: usize = 16 << 10;

/// Pieces of a tunnel that the other end has not used: 64 KiB on their way keep a screen full, and with every tunnel of a
/// node it is 256 KiB, which a line of 10 Mbit/s carries in a fifth of a second.
pub const PIECE_WINDOW: usize = 4;

/// Tunnels of one node at a time: a few people look at one node.
pub const MAX_TUNNELS_OF_NODE: usize = 4;

/// Tunnels of one run at a time: an operator who looks at a room of machines. Each costs the server two tasks.
pub const MAX_TUNNELS_OF_RUN: usize = 256;

/// Messages of all tunnels of a connection that can be waiting to be sent: pieces, credits, the opening and the end.
pub const MAX_TUNNEL_MESSAGES: usize = MAX_TUNNELS_OF_NODE * (2 * PIECE_WINDOW + 2);

/// A tunnel within one control connection; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TunnelId(pub u32);

impl fmt::Display for TunnelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the two ends of a control connection say about tunnels, the same both ways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TunnelMessage {
    /// From the server only: an operator wants in.
    Open {
        /// The tunnel's number.
        tunnel: TunnelId,
        /// Where the operator is, as the server sees it.
        from: SocketAddr,
    },
    /// The next bytes, at most [`MAX_PIECE`], and one of the receiver's credits.
    Piece {
        /// Which tunnel.
        tunnel: TunnelId,
        /// The bytes.
        bytes: Payload,
    },
    /// One piece was used up: one more may come.
    Credit {
        /// Which tunnel.
        tunnel: TunnelId,
    },
    /// This end is gone; nothing more comes, and nothing more is taken.
    Close {
        /// Which tunnel.
        tunnel: TunnelId,
        /// Why, for the operator.
        reason: Reason,
    },
}

/// Which end of the control connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It opens tunnels.
    Server,
    /// It takes them.
    Node,
}

/// What came, for the driver to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// A tunnel is open.
    Opened {
        /// Which.
        tunnel: TunnelId,
        /// Where the operator is.
        from: SocketAddr,
    },
    /// Bytes for whoever is at this end; [`Tunnels::used`] when they were taken.
    Piece {
        /// Of which tunnel.
        tunnel: TunnelId,
        /// They.
        bytes: Vec<u8>,
    },
    /// [`Tunnels::claim`] succeeds again.
    Credit {
        /// In which tunnel.
        tunnel: TunnelId,
    },
    /// The tunnel is gone: after the pieces that came before, there is nothing more. Where the peer does not know it yet,
    /// it is to be sent `answer`.
    Closed {
        /// Which.
        tunnel: TunnelId,
        /// Why.
        reason: Reason,
        /// For the peer.
        answer: Option<TunnelMessage>,
    },
    /// Nothing to do: about a tunnel that is gone at this end.
    Nothing,
}

/// Whether a piece may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// One may; it counts as sent.
    Granted,
    /// Not before [`Came::Credit`].
    Wait,
    /// Never again: the tunnel is gone.
    Gone,
}

/// The tunnels of one control connection, at one end.
#[derive(Debug)]
pub struct Tunnels {
    end: End,
    open: BTreeMap<TunnelId, Flow>,
    last: u32,
}

#[derive(Debug)]
struct Flow {
    may_send: usize,
    may_come: usize,
}

impl Tunnels {
    /// None open.
    #[must_use]
    pub const fn new(end: End) -> Self {
        Self {
            end,
            open: BTreeMap::new(),
            last: 0,
        }
    }

    /// Opens one to the node, for an operator at `from`: its number, and what the node is to be told.
    ///
    /// # Errors
    /// For the operator, when [`MAX_TUNNELS_OF_NODE`] are open.
    pub fn open(&mut self, from: SocketAddr) -> Result<(TunnelId, TunnelMessage), Reason> {
        if self.open.len() >= MAX_TUNNELS_OF_NODE {
            return Err(too_many());
        }
        self.last = self.last.wrapping_add(1);
        let tunnel = TunnelId(self.last);
        self.open.insert(tunnel, Flow::new());
        Ok((tunnel, TunnelMessage::Open { tunnel, from }))
    }

    /// A message of the other end.
    pub fn handle(&mut self, message: TunnelMessage) -> Came {
        match message {
            TunnelMessage::Open { tunnel, from } => self.handle_open(tunnel, from),
            TunnelMessage::Piece { tunnel, bytes } => self.handle_piece(tunnel, bytes.0),
            TunnelMessage::Credit { tunnel } => match self.open.get_mut(&tunnel) {
                Some(flow) if flow.may_send < PIECE_WINDOW => {
                    flow.may_send += 1;
                    Came::Credit { tunnel }
                }
                Some(_) => self.violated(tunnel, "more credit than was used"),
                None => Came::Nothing,
            },
            TunnelMessage::Close { tunnel, reason } => match self.open.remove(&tunnel) {
                Some(_) => Came::Closed {
                    tunnel,
                    reason,
                    answer: None,
                },
                None => Came::Nothing,
            },
        }
    }

    /// Takes a credit for one piece.
    pub fn claim(&mut self, tunnel: TunnelId) -> Claim {
        match self.open.get_mut(&tunnel) {
            Some(flow) if flow.may_send > 0 => {
                flow.may_send -= 1;
                Claim::Granted
            }
            Some(_) => Claim::Wait,
            None => Claim::Gone,
        }
    }

    /// A piece that came was taken by whoever is at this end; what the other end is to be told.
    pub fn used(&mut self, tunnel: TunnelId) -> Option<TunnelMessage> {
        let flow = self.open.get_mut(&tunnel)?;
        flow.may_come = (flow.may_come + 1).min(PIECE_WINDOW);
        Some(TunnelMessage::Credit { tunnel })
    }

    /// Whoever is at this end is gone; what the other end is to be told.
    pub fn close(&mut self, tunnel: TunnelId, reason: Reason) -> Option<TunnelMessage> {
        self.open.remove(&tunnel)?;
        Some(TunnelMessage::Close { tunnel, reason })
    }

    fn handle_open(&mut self, tunnel: TunnelId, from: SocketAddr) -> Came {
        // A node has no operators to send.
        if self.end == End::Server || self.open.contains_key(&tunnel) {
            return Came::Nothing;
        }
        if self.open.len() >= MAX_TUNNELS_OF_NODE {
            let reason = too_many();
            return Came::Closed {
                tunnel,
                reason: reason.clone(),
                answer: Some(TunnelMessage::Close { tunnel, reason }),
            };
        }
        self.open.insert(tunnel, Flow::new());
        Came::Opened { tunnel, from }
    }

    fn handle_piece(&mut self, tunnel: TunnelId, bytes: Vec<u8>) -> Came {
        let Some(flow) = self.open.get_mut(&tunnel) else {
            return Came::Nothing;
        };
        if bytes.len() > MAX_PIECE {
            return self.violated(tunnel, "a piece is too long");
        }
        if flow.may_come == 0 {
            return self.violated(tunnel, "more pieces than there was credit for");
        }
        flow.may_come -= 1;
        Came::Piece { tunnel, bytes }
    }

    /// The run goes on without a tunnel whose other end does not keep to the rules.
    fn violated(&mut self, tunnel: TunnelId, what: &str) -> Came {
        let reason = Reason::new(format!("the other end broke the protocol: {what}"));
        Came::Closed {
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

    /// Both ends with one tunnel open.
    fn connected() -> (Tunnels, Tunnels, TunnelId) {
        let (mut server, mut node) = (Tunnels::new(End::Server), Tunnels::new(End::Node));
        let (tunnel, open) = server.open(OPERATOR).unwrap();
        assert_eq!(
            node.handle(open),
            Came::Opened {
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
            assert_eq!(node.claim(tunnel), Claim::Granted);
            assert!(matches!(
                server.handle(piece(tunnel, MAX_PIECE)),
                Came::Piece { .. }
            ));
        }
        assert_eq!(node.claim(tunnel), Claim::Wait);
        let credit = server.used(tunnel).unwrap();
        assert_eq!(node.handle(credit), Came::Credit { tunnel });
        assert_eq!(node.claim(tunnel), Claim::Granted);
        assert_eq!(node.claim(tunnel), Claim::Wait);
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
            let Some(Came::Closed {
                reason,
                answer: Some(TunnelMessage::Close { .. }),
                ..
            }) = last
            else {
                panic!("{last:?}")
            };
            assert!(reason.as_str().contains(expected), "{reason}");
            assert_eq!(server.claim(tunnel), Claim::Gone);
            assert_eq!(server.claim(other), Claim::Granted);
        }
        let (mut server, _, tunnel) = connected();
        let unearned = server.handle(TunnelMessage::Credit { tunnel });
        assert!(matches!(unearned, Came::Closed { .. }), "{unearned:?}");
    }

    #[test]
    fn a_node_has_so_many_operators_and_no_more_and_a_place_is_free_again() {
        let (mut server, mut node, first) = connected();
        for _ in 1..MAX_TUNNELS_OF_NODE {
            let (_, open) = server.open(OPERATOR).unwrap();
            node.handle(open);
        }
        assert!(server.open(OPERATOR).is_err());
        // A server that does not count is told so.
        let beyond = TunnelMessage::Open {
            tunnel: TunnelId(99),
            from: OPERATOR,
        };
        assert!(matches!(
            node.handle(beyond),
            Came::Closed {
                answer: Some(TunnelMessage::Close { .. }),
                ..
            }
        ));
        let close = node.close(first, Reason::new("left")).unwrap();
        assert!(matches!(server.handle(close), Came::Closed { answer: None, .. }));
        assert!(server.open(OPERATOR).is_ok());
    }

    #[test]
    fn a_node_opens_nothing_at_the_server() {
        let mut server = Tunnels::new(End::Server);
        let open = TunnelMessage::Open {
            tunnel: TunnelId(5),
            from: OPERATOR,
        };
        assert_eq!(server.handle(open), Came::Nothing);
        assert_eq!(server.claim(TunnelId(5)), Claim::Gone);
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
        /// Whatever a peer says, what waits for the consumer of one tunnel is never over the window.
        #[test]
        fn no_peer_makes_an_end_hold_more_than_its_window(
            messages in proptest::collection::vec(message(), 0..200),
        ) {
            for end in [End::Server, End::Node] {
                let mut this = Tunnels::new(end);
                if end == End::Server {
                    this.open(OPERATOR).unwrap();
                }
                let mut held: BTreeMap<TunnelId, VecDeque<usize>> = BTreeMap::new();
                for message in &messages {
                    if let Came::Piece { tunnel, bytes } = this.handle(message.clone()) {
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
