//! Messages of the control connection: rare, small, inside TLS.
//!
//! A node's first frame is a [`Join`]; its first bytes never change, so that any two versions can tell each other
//! which they are. Everything later is a [`ToServer`] or a [`ToNode`].
//! Specification: `docs/protocol.md`, "Control messages".

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::block::Cipher;
use crate::ids::{ChainPosition, MacAddr, NodeId, PROTOCOL_VERSION, RunId, StreamId, StreamOffset};
use crate::limits::{MAX_ANSWER_FRAME, MAX_CONTROL_FRAME, MAX_JOIN_FRAME};
use crate::link::ReceiptKeys;
use crate::pace::Pace;
use crate::text::{NodeName, Reason, SessionName, StreamName};
use crate::tunnel::TunnelMessage;
use crate::wire::{self, Fields, Payload, WireError};

const JOIN_MAGIC: [u8; 4] = *b"KAJN";

/// What a node has come for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// To become a clone.
    Clone,
    /// To see what a clone would be (`--dry-run`): it is never part of the run.
    Look,
    /// For a plain stream (`-e`, `--output`).
    Stream,
}

/// The first frame of a node: who it is, which session it wants, and the proof that it may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The session that it wants to join.
    pub session: SessionName,
    /// Its host name.
    pub name: NodeName,
    /// The hardware address of the interface it uses, if it knows.
    pub mac: Option<MacAddr>,
    /// Where its successor can reach it. An unspecified address stands for the one this connection comes from.
    pub data_addr: SocketAddr,
    /// What it has come for.
    pub purpose: Purpose,
    /// `-g`: start now with whoever is there.
    pub start_now: bool,
    /// `-w`: wait for the server's release at the end.
    pub wants_release: bool,
    /// It holds a clone of this run that is complete and that the server has not judged yet: its report comes next, and
    /// it takes no streams.
    pub holds_clone: bool,
    /// Fresh random bytes of this attempt.
    pub nonce: [u8; 16],
    /// [`crate::auth::join_proof`].
    pub proof: [u8; 32],
}

impl Join {
    /// The frame's body: `KAJN`, the version as `u16` little-endian (both frozen), then the fields in postcard.
    pub(crate) fn body(&self) -> Vec<u8> {
        let mut body = JOIN_MAGIC.to_vec();
        body.extend_from_slice(&PROTOCOL_VERSION.number().to_le_bytes());
        // Writing these types into a growing vector has no way to fail.
        body.extend(postcard::to_stdvec(self).unwrap_or_default());
        body
    }

    /// The whole frame, length included.
    ///
    /// # Errors
    /// [`WireError::FrameTooLong`], which names within their bounds cannot cause.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        wire::frame(self.body(), MAX_JOIN_FRAME)
    }

    /// Decodes the body of a connection's first frame.
    ///
    /// # Errors
    /// [`WireError::Version`]: answer with [`ToNode::refused`]; anything else: close without a word.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::new("join", body);
        fields.magic(JOIN_MAGIC)?;
        let theirs = fields.u16()?;
        let ours = PROTOCOL_VERSION.number();
        if theirs != ours {
            return Err(WireError::Version { theirs, ours });
        }
        if body.len() > MAX_JOIN_FRAME {
            return Err(WireError::FrameTooLong {
                length: body.len(),
                limit: MAX_JOIN_FRAME,
            });
        }
        wire::decode(body.get(6..).unwrap_or_default(), "join")
    }
}

/// A part of the run, as both sides name it in failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stage {
    /// Waiting for nodes.
    Gather,
    /// Planning and checking; nothing is written.
    Prepare,
    /// Partitioning, making file systems, mounting.
    Go,
    /// Receiving a stream.
    Stream(StreamId),
    /// Finishing steps and report.
    Report,
    /// Waiting to be released.
    Release,
    /// Making a clone bootable that was judged good.
    Commit,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gather => f.write_str("waiting for nodes"),
            Self::Prepare => f.write_str("planning"),
            Self::Go => f.write_str("preparing disks"),
            Self::Stream(stream) => write!(f, "stream {stream}"),
            Self::Report => f.write_str("finishing"),
            Self::Release => f.write_str("release"),
            Self::Commit => f.write_str("making the clone bootable"),
        }
    }
}

/// Which neighbour of a node, in one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Side {
    /// The predecessor, from which data comes.
    Upstream,
    /// The successor, to which data goes.
    Downstream,
}

/// Where a node is with a stream; sent every [`crate::limits::HEARTBEAT`] while something moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Which stream.
    pub stream: StreamId,
    /// Everything before this has arrived and is verified.
    pub received: StreamOffset,
    /// Everything before this has been used by the node's own consumer.
    pub consumed: StreamOffset,
    /// Payload bytes held in the window now.
    pub buffered: u64,
    /// How it spent its time since the last one.
    pub pace: Pace,
}

/// From a node to the server, after its [`Join`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToServer {
    /// Answer to [`ToNode::Ping`], with its number.
    Pong(u64),
    /// The plan is made and everything that can fail was checked; the payload is the plan.
    Prepared(Payload),
    /// The disks are ready for data.
    Ready,
    /// This node cannot go on.
    StepFailed {
        /// In which stage.
        stage: Stage,
        /// Why, for the operator.
        reason: Reason,
    },
    /// Something for the operator to see; the payload belongs to the status layer.
    Event(Payload),
    /// Where it is with a stream.
    Progress(Progress),
    /// A data connection stands.
    LinkUp {
        /// Which stream.
        stream: StreamId,
        /// Which neighbour.
        side: Side,
        /// Where data goes on.
        offset: StreamOffset,
    },
    /// A data connection broke or could not be made. The node keeps what it has and waits for a [`ToNode::Relink`].
    LinkLost {
        /// Which stream.
        stream: StreamId,
        /// Which neighbour.
        side: Side,
        /// What was received (upstream) or acknowledged (downstream) when it broke.
        offset: StreamOffset,
        /// What was seen, for the operator.
        reason: Reason,
    },
    /// The stream cannot be completed here and its relay is gone: what is missing is retained nowhere any more. The
    /// chain must close around this node.
    StreamFailed {
        /// Which stream.
        stream: StreamId,
        /// Why.
        reason: Reason,
        /// Its end was refused: what arrived is not what the server sent. Whatever went wrong with it here is not this node's fault.
        unproved: bool,
    },
    /// The whole stream has arrived, is verified, and the node's consumer took all of it.
    StreamDone {
        /// Which stream.
        stream: StreamId,
        /// Payload bytes.
        bytes: u64,
        /// [`crate::block::StreamDigest`] of what arrived.
        digest: [u8; 32],
    },
    /// The node is finished; the payload is its report.
    Report(Payload),
    /// The node goes away (operator's Ctrl-C).
    Leaving {
        /// Why.
        reason: Reason,
    },
    /// The predecessor no longer has what is missing here, in a stream that the server keeps
    /// ([`OpenStream::spooled`]). The node keeps what it has and waits for a [`ToNode::Relink`].
    DataGone {
        /// Which stream.
        stream: StreamId,
        /// The first byte that is missing.
        offset: StreamOffset,
        /// What was seen, for the operator.
        reason: Reason,
    },
    /// About a way of an operator to this node.
    Tunnel(TunnelMessage),
    /// Answer to [`ToNode::Commit`]: the clone can be booted.
    Bootable,
}

/// A neighbour in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Which node; [`NodeId::SERVER`] is the head.
    pub node: NodeId,
    /// Where it listens for data connections.
    pub addr: SocketAddr,
}

/// A node's place in one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenStream {
    /// Which stream.
    pub stream: StreamId,
    /// Its name, for people.
    pub name: StreamName,
    /// Its key: authenticates and opens blocks. Only nodes of this run are given it.
    pub key: [u8; 32],
    /// Place in the chain.
    pub position: ChainPosition,
    /// From whom to get it.
    pub predecessor: Peer,
    /// The key of the link to it ([`crate::link::LinkKey`]), which these two alone are given.
    pub predecessor_key: [u8; 32],
    /// Who will come for it; `None` at the tail.
    pub successor: Option<NodeId>,
    /// The key of the link from it, where there is one.
    pub successor_key: Option<[u8; 32]>,
    /// Where to begin.
    pub resume_from: StreamOffset,
    /// The nodes near enough to keep data for, and to keep data for this node: as many as may vanish in a row.
    pub receipts: ReceiptKeys,
    /// How its payload is encrypted, if it is.
    pub cipher: Option<Cipher>,
    /// A neighbour on the data link that gave no byte for this long is lost, in milliseconds.
    pub silence_ms: u32,
    /// The server keeps the stream: a node whose data is gone says [`ToServer::DataGone`] and goes on from there.
    pub spooled: bool,
}

/// New neighbours in a running stream; what is `None` stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relink {
    /// Which stream.
    pub stream: StreamId,
    /// Connect to this one and go on where the stream stopped.
    pub predecessor: Option<Peer>,
    /// The key of the link to it.
    pub predecessor_key: Option<[u8; 32]>,
    /// Expect this one, or nobody any more.
    pub successor: Option<Successor>,
    /// The key of the link from it.
    pub successor_key: Option<[u8; 32]>,
}

/// Who comes after a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Successor {
    /// Nobody: this node is the tail now.
    Nobody,
    /// This node will connect.
    Node(NodeId),
}

/// From the server to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToNode {
    /// Not let in, or sent away before the run began. Frozen byte for byte, so that any version understands it.
    Refused {
        /// The server's protocol version.
        version: u16,
        /// Why.
        reason: Reason,
    },
    /// Let in.
    Accepted {
        /// Its number in this run.
        node: NodeId,
        /// The run.
        run: RunId,
        /// A Ping comes at least this often, in milliseconds.
        heartbeat_ms: u32,
        /// Either side gives the other up after this much silence, in milliseconds.
        silence_ms: u32,
    },
    /// How far gathering is, whenever it changes.
    Gathering {
        /// Nodes that are there.
        present: u32,
        /// Nodes wanted (`-n`), if a number was given.
        wanted: Option<u32>,
    },
    /// Plan and check everything, write nothing; the payload is the install specification.
    Prepare(Payload),
    /// Write: partitions, file systems, mounts.
    Go,
    /// A stream begins.
    OpenStream(OpenStream),
    /// New neighbours.
    Relink(Relink),
    /// Everybody who will ever have this stream has it: drop what is retained.
    EndStream {
        /// Which stream.
        stream: StreamId,
    },
    /// The run is over for this node, all is well; go on after the delay.
    Release {
        /// Milliseconds to wait, so that nodes do not all reboot at once (`-d`).
        delay_ms: u32,
    },
    /// The round is over for this node, not well.
    Abort {
        /// Why.
        reason: Reason,
        /// It did nothing wrong and is wanted in the next round: clean up, and join again.
        again: bool,
    },
    /// Are you there? Answered with [`ToServer::Pong`].
    Ping(u64),
    /// No more streams will come: finish and report. A node that knows by itself may have reported before.
    Finish,
    /// Not now, but in the next round: stay connected, answer pings; `Accepted` comes when it begins.
    Queued {
        /// The round that it waits for, counted from 1.
        round: u32,
        /// Why not now.
        reason: Reason,
    },
    /// Whether this node may join is asked of the server's operator: stay connected, show the code
    /// ([`crate::auth::approval_code`]), send nothing. What would have been the answer to the Join comes next.
    Pending {
        /// Seconds until the server gives up waiting for its operator.
        limit_secs: u32,
    },
    /// About a way of an operator to this node; not before `Accepted`.
    Tunnel(TunnelMessage),
    /// The clone was judged good, and all the others of the round were judged: make it bootable.
    Commit,
    /// Send nothing on for so long, but signs of life, and then all of it at once: what the lines below can carry shows then.
    Hold {
        /// Which stream.
        stream: StreamId,
        /// Milliseconds.
        millis: u32,
    },
    /// The chain has changed: these are near enough now to keep data for, and to keep data for this node.
    Receipts {
        /// The stream.
        stream: StreamId,
        /// These nodes, and the keys.
        keys: ReceiptKeys,
    },
}

impl ToNode {
    /// A refusal that carries our version.
    #[must_use]
    pub fn refused(reason: impl AsRef<str>) -> Self {
        Self::Refused {
            version: PROTOCOL_VERSION.number(),
            reason: Reason::new(reason),
        }
    }

    /// The whole frame, length included.
    ///
    /// # Errors
    /// [`WireError::FrameTooLong`] when the payload is over [`crate::limits::MAX_PAYLOAD`].
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        wire::encode(self, "message to a node", MAX_CONTROL_FRAME)
    }

    /// Decodes a frame's body.
    ///
    /// # Errors
    /// [`WireError::Malformed`]: close the connection.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        wire::decode(body, "message from the server")
    }
}

impl ToServer {
    /// The whole frame, length included.
    ///
    /// # Errors
    /// [`WireError::FrameTooLong`] when the payload is over [`crate::limits::MAX_ANSWER`].
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        wire::encode(self, "message to the server", MAX_ANSWER_FRAME)
    }

    /// Decodes a frame's body.
    ///
    /// # Errors
    /// [`WireError::Malformed`]: close the connection.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        wire::decode(body, "message from a node")
    }
}
