//! Messages of the control connection: rare, small, inside TLS.
//!
//! A node's first frame is a [`Join`]; its first bytes never change, so that any two versions can tell each
//! other which they are. Everything later is a [`ToServer`] or a [`ToNode`]. Specification:
//! `docs/protocol.md`, "Control messages".

use std::fmt;
use std::net::{SocketAddr, SocketAddrV4};

use blake3::Hash;
use ka_mac::MacAddr;
use serde::{Deserialize, Serialize};

use crate::auth::{self, Exporter, Secret};
use crate::block::Cipher;
use crate::group::Report as GroupReport;
use crate::group::probe::{ProbeAnswer, ProbeOrder};
use crate::ids::{ChainPosition, NodeId, PROTOCOL_VERSION, RunId, StreamId, StreamOffset};
use crate::limits::{MAX_ANSWER_FRAME, MAX_CONTROL_FRAME, MAX_JOIN_FRAME};
use crate::link::ReceiptKeys;
use crate::pace::Pace;
use crate::text::{NodeName, Reason, SessionName, StreamName};
use crate::tunnel::TunnelMessage;
use crate::wire::{self, Fields, Payload, WireError};
use crate::wiring::Wiring;

const JOIN_MAGIC: [u8; 4] = *b"KAJN";
const JOIN_CONTEXT: &str = "KA 2026-11 v1 join proof";

/// The purpose of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// To become a clone.
    Clone,
    /// To see its plan for a clone (`--dry-run`). It is never part of the run.
    Look,
    /// For a plain stream (`-e`, `--output`).
    Stream,
}

/// The first frame of a node: its name, the session that it wants, and the proof that it may join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The session that it wants to join.
    pub session: SessionName,
    /// Its host name.
    pub name: NodeName,
    /// MAC address of the interface that it uses, if known.
    pub mac: Option<MacAddr>,
    /// Address at which its successor can reach it. An unspecified one stands for the source address of this
    /// connection.
    pub data_addr: SocketAddr,
    /// Its purpose.
    pub purpose: Purpose,
    /// `-g`: start now with the nodes that are there.
    pub start_now: bool,
    /// `-w`: wait for the server's release at the end.
    pub wants_release: bool,
    /// True if it holds a complete clone of this run that the server has not judged yet. Its report comes
    /// next, and it takes no streams.
    pub holds_clone: bool,
    /// The switch port at the other end of its line, if it has heard of it.
    pub wiring: Option<Wiring>,
    /// Fresh random bytes of this attempt.
    pub nonce: [u8; 16],
    /// The proof: [`Join::prove`].
    pub proof: [u8; 32],
}

impl Join {
    /// Returns the frame's body: `KAJN`, the version as `u16` little-endian (both frozen), then the fields in
    /// postcard.
    fn body(&self) -> Vec<u8> {
        let mut body = JOIN_MAGIC.to_vec();
        body.extend_from_slice(&PROTOCOL_VERSION.number().to_le_bytes());
        // Writing these types into a growing vector has no way to fail.
        body.extend(postcard::to_stdvec(self).unwrap_or_default());
        body
    }

    /// Returns the whole frame, length included.
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

    /// Sets the proof that the sender knows `secret` and is at the end of this very TLS connection. It covers
    /// every other field.
    pub fn prove(&mut self, secret: &Secret, exporter: &Exporter) {
        self.proof = *self.hash(secret, exporter).as_bytes();
    }

    /// Returns true if this carries the right proof. Takes the same time for every fault.
    #[must_use]
    pub fn is_proved(&self, secret: &Secret, exporter: &Exporter) -> bool {
        self.hash(secret, exporter) == self.proof
    }

    fn hash(&self, secret: &Secret, exporter: &Exporter) -> Hash {
        let unproved = Self {
            proof: [0; 32],
            ..self.clone()
        };
        let key = blake3::derive_key(JOIN_CONTEXT, secret);
        auth::mac(&key, &[exporter, &unproved.body()])
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

/// A neighbour of a node, in one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Side {
    /// The predecessor, from which data comes.
    Upstream,
    /// The successor, to which data goes.
    Downstream,
}

/// Progress of a node in a stream, sent every [`crate::limits::HEARTBEAT`] while something moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The stream.
    pub stream: StreamId,
    /// Offset up to which all data has arrived and is verified.
    pub received: StreamOffset,
    /// Offset up to which the node's own consumer has used all data.
    pub consumed: StreamOffset,
    /// Payload bytes held in the window now.
    pub buffered: u64,
    /// The use of its time since the last report.
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
        /// The stage in which it failed.
        stage: Stage,
        /// The reason, for the operator.
        reason: Reason,
    },
    /// An event for the operator. The payload belongs to the status layer.
    Event(Payload),
    /// Progress of the node in a stream.
    Progress(Progress),
    /// A data connection stands.
    LinkUp {
        /// The stream.
        stream: StreamId,
        /// The neighbour's side.
        side: Side,
        /// The offset at which data goes on.
        offset: StreamOffset,
    },
    /// A data connection broke or could not be made. The node keeps its data and waits for a
    /// [`ToNode::Relink`].
    LinkLost {
        /// The stream.
        stream: StreamId,
        /// The neighbour's side.
        side: Side,
        /// The offset up to which data was received (upstream) or acknowledged (downstream) when it broke.
        offset: StreamOffset,
        /// The fault as the node saw it, for the operator.
        reason: Reason,
    },
    /// The stream cannot be completed here and its relay is gone: the missing data is retained nowhere any
    /// more. The chain must close around this node.
    StreamFailed {
        /// The stream.
        stream: StreamId,
        /// The reason.
        reason: Reason,
        /// True if its end was refused: the bytes that arrived are not those that the server sent. The node
        /// is not at fault.
        unproved: bool,
    },
    /// The whole stream has arrived, is verified, and the node's consumer took all of it.
    StreamDone {
        /// The stream.
        stream: StreamId,
        /// Payload bytes.
        bytes: u64,
        /// The [`crate::block::StreamDigest`] of the data that arrived.
        digest: [u8; 32],
    },
    /// The node is finished; the payload is its report.
    Report(Payload),
    /// The node goes away (operator's Ctrl-C).
    Leaving {
        /// The reason.
        reason: Reason,
    },
    /// The predecessor no longer has the data that is missing here, in a stream that the server keeps
    /// ([`OpenStream::spooled`]). The node keeps its data and waits for a [`ToNode::Relink`].
    DataGone {
        /// The stream.
        stream: StreamId,
        /// Offset of the first byte that is missing.
        offset: StreamOffset,
        /// The fault as the node saw it, for the operator.
        reason: Reason,
    },
    /// A message about a tunnel from an operator to this node.
    Tunnel(TunnelMessage),
    /// Answer to [`ToNode::Commit`]: the clone can be booted.
    Bootable,
    /// The switch port at the other end of the node's line, heard after the node has joined. It counts for the
    /// next order of a chain.
    Wiring(Wiring),
    /// The state of a member of a stream's multicast group.
    GroupReport {
        /// The stream.
        stream: StreamId,
        /// Its state.
        report: GroupReport,
    },
    /// The node's part of a probe of multicast.
    Probe(ProbeAnswer),
    /// The node has left the multicast group of this stream. Its predecessor feeds it from now on.
    LeftGroup {
        /// The stream.
        stream: StreamId,
        /// The reason, for the operator.
        reason: Reason,
    },
}

/// A neighbour in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The number of the node; [`NodeId::SERVER`] is the head.
    pub node: NodeId,
    /// The address at which it listens for data connections.
    pub addr: SocketAddr,
}

/// A node's place in one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenStream {
    /// The stream.
    pub stream: StreamId,
    /// Its name, for people.
    pub name: StreamName,
    /// Its key: authenticates and opens blocks. Only nodes of this run are given it.
    pub key: [u8; 32],
    /// Place in the chain.
    pub position: ChainPosition,
    /// The node to get it from.
    pub predecessor: Peer,
    /// The key of the link to it ([`crate::link::LinkKey`]), which these two alone are given.
    pub predecessor_key: [u8; 32],
    /// The node that will connect for it; `None` at the tail.
    pub successor: Option<NodeId>,
    /// The key of the link from it, if there is one.
    pub successor_key: Option<[u8; 32]>,
    /// The offset at which to begin.
    pub resume_from: StreamOffset,
    /// The nodes that are near enough to keep data for this one, or this one for them. They are as many as
    /// may vanish in a row.
    pub receipts: ReceiptKeys,
    /// Encryption of its payload. `None` means that payload is not encrypted.
    pub cipher: Option<Cipher>,
    /// A neighbour on the data link that gave no byte for this long is lost, in milliseconds.
    pub silence_ms: u32,
    /// True if the server keeps the stream. A node whose data is gone sends [`ToServer::DataGone`] and goes
    /// on from there.
    pub spooled: bool,
    /// The multicast group of the stream. `None`: all data comes over the links of the chain.
    pub group: Option<StreamGroup>,
}

/// The multicast group of a stream, as one node of the chain is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamGroup {
    /// Address and port of the group.
    pub addr: SocketAddrV4,
    /// The node that sends to it; [`NodeId::SERVER`] is the head.
    pub sender: NodeId,
    /// Bytes of the stream in each datagram.
    pub shard_bytes: u16,
    /// Interval of a member's reports, in milliseconds.
    pub report_every_ms: u32,
    /// True if this node is a member. Other nodes are fed by their predecessors, and know that their successors
    /// may be members.
    pub is_member: bool,
}

/// New neighbours in a running stream. A field that is `None` changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relink {
    /// The stream.
    pub stream: StreamId,
    /// Connect to this one and go on where the stream stopped.
    pub predecessor: Option<Peer>,
    /// The key of the link to it.
    pub predecessor_key: Option<[u8; 32]>,
    /// The successor to expect, or none any more.
    pub successor: Option<Successor>,
    /// The key of the link from it.
    pub successor_key: Option<[u8; 32]>,
}

/// The node that comes after another one in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Successor {
    /// No successor: this node is the tail now.
    Nobody,
    /// This node will connect.
    Node(NodeId),
}

/// From the server to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToNode {
    /// The node is not let in, or is sent away before the run began. Frozen byte for byte, so that any
    /// version understands it.
    Refused {
        /// The server's protocol version.
        version: u16,
        /// The reason.
        reason: Reason,
    },
    /// The node is let in.
    Accepted {
        /// Its number in this run.
        node: NodeId,
        /// The run.
        run: RunId,
        /// Longest interval of Pings, in milliseconds.
        heartbeat_ms: u32,
        /// Silence after which either side gives the other up, in milliseconds.
        silence_ms: u32,
    },
    /// Progress of gathering, sent whenever it changes.
    Gathering {
        /// Number of nodes present.
        present: u32,
        /// Number of nodes wanted (`-n`), if one was given.
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
    /// All nodes that will ever have this stream have it. The retained data can be dropped.
    EndStream {
        /// The stream.
        stream: StreamId,
    },
    /// The run is over for this node, and all is well. It goes on after the delay.
    Release {
        /// Milliseconds to wait, so that nodes do not all reboot at once (`-d`).
        delay_ms: u32,
    },
    /// The round is over for this node, not well.
    Abort {
        /// The reason.
        reason: Reason,
        /// True if it did nothing wrong and is wanted in the next round. It cleans up, and joins again.
        again: bool,
    },
    /// Question if the node lives. Answered with [`ToServer::Pong`].
    Ping(u64),
    /// No more streams will come: finish and report. A node that knew this by itself may have reported
    /// before.
    Finish,
    /// The node is let in in the next round. It stays connected and answers pings; `Accepted` comes when the
    /// round begins.
    Queued {
        /// The round that it waits for, counted from 1.
        round: u32,
        /// The reason why it is not in this round.
        reason: Reason,
    },
    /// The server's operator is asked to let this node in. The node stays connected, shows the code
    /// ([`crate::auth::approval_code`]), and sends nothing. The answer to the Join comes next.
    Pending {
        /// Seconds until the server gives up waiting for its operator.
        limit_secs: u32,
    },
    /// A message about a tunnel from an operator to this node, not before `Accepted`.
    Tunnel(TunnelMessage),
    /// The clone was judged good, and all the others of the round were judged: make it bootable.
    Commit,
    /// Send nothing but signs of life for so long, and then all of it at once. That shows the rate of the
    /// lines below.
    Hold {
        /// The stream.
        stream: StreamId,
        /// Duration, in milliseconds.
        millis: u32,
    },
    /// The chain has changed. Names the nodes that are near enough now to keep data for this one, or this one
    /// for them.
    Receipts {
        /// The stream.
        stream: StreamId,
        /// These nodes, and the keys.
        keys: ReceiptKeys,
    },
    /// The server's part of a probe of multicast.
    Probe(ProbeOrder),
    /// Leave the multicast group of this stream, and take the data from the predecessor.
    LeaveGroup {
        /// The stream.
        stream: StreamId,
        /// The reason, for the node's log.
        reason: Reason,
    },
}

impl ToNode {
    /// Returns a refusal that carries our version.
    #[must_use]
    pub fn refused(reason: impl AsRef<str>) -> Self {
        Self::Refused {
            version: PROTOCOL_VERSION.number(),
            reason: Reason::new(reason),
        }
    }

    /// Returns the whole frame, length included.
    ///
    /// # Errors
    /// [`WireError::FrameTooLong`] if the payload is over [`crate::limits::MAX_PAYLOAD`].
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
    /// Returns the whole frame, length included.
    ///
    /// # Errors
    /// [`WireError::FrameTooLong`] if the payload is over [`crate::limits::MAX_ANSWER`].
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
