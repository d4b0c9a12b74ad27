//! What the server's user configures and is told.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ka_proto::discovery::BeaconToken;
use ka_proto::identity::Identity;
use ka_proto::limits;
use ka_proto::run::{MinRate, Offer, Slow};
use ka_proto::{ChainPosition, MacAddr, NodeId, SessionName, StreamId};

use super::approvals::ApprovalWanted;
use crate::code::SECRET_LEN;
use crate::key::ServerKey;
use crate::spool_dir::SpoolDir;

/// TCP and UDP port of the control connection and of discovery, as in the original.
pub const CONTROL_PORT: u16 = 30765;
/// TCP port of the chain's data connections, as in the original.
pub const DATA_PORT: u16 = 30764;
/// Bytes a node or the server retains for its successor. With block buffers, kernel buffers and the consumer's own
/// memory this stays far below the 256 MiB a node may use.
pub const DEFAULT_WINDOW_BYTES: usize = 64 << 20;

/// How a server behaves. [`ServerConfig::new`] gives the defaults.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Address to listen on; `0.0.0.0` is every IPv4 address, `::` every address (of IPv4 only where the kernel has no
    /// IPv6).
    pub listen: IpAddr,
    /// TCP port of control connections and UDP port of discovery; 0 takes any free one.
    pub control_port: u16,
    /// TCP port of the data connection to the first node; an ephemeral one is taken when it is in use.
    pub data_port: u16,
    /// Only nodes that ask for this session are taken.
    pub session: SessionName,
    /// The long-lived key that nodes pin.
    pub key: ServerKey,
    /// The run's secret, part of the join code.
    pub secret: [u8; SECRET_LEN],
    /// How many rounds there may be (`--rounds`); in the last one, late nodes are refused.
    pub rounds: u32,
    /// What nodes get here: those that want something else are turned away, and who only looks gets the specification.
    pub offer: Offer,
    /// Who is done already, by an earlier process of this run: told so when it comes.
    pub done: Vec<Identity>,
    /// Start when this many nodes are there (`-n`).
    pub wanted: Option<u32>,
    /// Start with whoever is there after this time (`--wait`), given that someone is.
    pub wait: Option<Duration>,
    /// Whether payload is encrypted on its way; it is authenticated either way.
    pub encrypt: bool,
    /// Bytes retained for the first node, see [`DEFAULT_WINDOW_BYTES`].
    pub window_bytes: usize,
    /// Nodes wait for [`crate::Server::release`] (`-d`); otherwise one that did not ask for that leaves as soon as
    /// its report is there.
    pub hold_release: bool,
    /// Nodes make clones: one that has reported is told by [`crate::Server::commit`] to make its clone bootable.
    pub commits: bool,
    /// No two machines of the run may have one name, but for these, which say nothing: the second one is refused when it
    /// comes. `None`: names do not matter.
    pub unique_names: Option<Vec<String>>,
    /// Whether the neighbours of a lost node are joined to each other, so that the others go on.
    pub heal: bool,
    /// How many lost nodes in a row retained data bridges when healing.
    pub tolerance: u8,
    /// Where each stream is kept while it runs, so that a node which lost its place goes on in the same round (`--spool`).
    pub spool: Option<SpoolDir>,
    /// Under which rate a node that holds up the others is set aside for the next round (`--min-rate`).
    pub min_rate: MinRate,
    /// The operator is asked for each node, and has this long to answer ([`crate::Server::approvals`]); `None` asks nobody.
    pub approval: Option<Duration>,
    /// Only nodes that say one of these hardware addresses are taken; `None` takes any.
    pub known_macs: Option<KnownMacs>,
    /// What is known of hardware addresses, against which what a node says is held; `None` knows nothing.
    pub contradiction: Option<Contradiction>,
    /// Whether a node may listen elsewhere than where its control connection comes from (`--any-address`).
    pub any_address: bool,
    /// Token of the beacons of clones that have booted; none hears none.
    pub beacon: Option<BeaconToken>,
    /// Bounds on waiting.
    pub timeouts: Timeouts,
}

impl ServerConfig {
    /// Listens on every address at the original's ports with default limits; a caller changes fields from there.
    #[must_use]
    pub fn new(session: SessionName, key: ServerKey, secret: [u8; SECRET_LEN]) -> Self {
        Self {
            listen: IpAddr::from([0; 16]),
            control_port: CONTROL_PORT,
            data_port: DATA_PORT,
            session,
            key,
            secret,
            rounds: 1,
            offer: Offer::Anything,
            done: Vec::new(),
            wanted: None,
            wait: None,
            encrypt: true,
            window_bytes: DEFAULT_WINDOW_BYTES,
            hold_release: false,
            commits: false,
            unique_names: None,
            heal: true,
            tolerance: limits::DEFAULT_TOLERANCE,
            spool: None,
            min_rate: MinRate::Share,
            approval: None,
            known_macs: None,
            contradiction: None,
            any_address: false,
            beacon: None,
            timeouts: Timeouts::default(),
        }
    }
}

/// Says what contradicts a node that comes from this address and says this hardware address, for who gave addresses out
/// and knows better.
#[derive(Clone)]
pub struct Contradiction(pub std::sync::Arc<dyn Fn(IpAddr, MacAddr) -> Option<String> + Send + Sync>);

impl fmt::Debug for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Contradiction")
    }
}

/// Says whether a hardware address is on the operator's list, which may grow during the run.
#[derive(Clone)]
pub struct KnownMacs(pub std::sync::Arc<dyn Fn(MacAddr) -> bool + Send + Sync>);

impl fmt::Debug for KnownMacs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KnownMacs")
    }
}

/// Bounds on waiting. A node that exceeds one is dropped and named.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// From accepting a connection to its valid `Join`: a stranger gets no more of our time.
    pub handshake: Duration,
    /// Silence on a data connection after which its other end counts as lost (`--silence`); told to every node.
    pub link_silence: Duration,
    /// Silence on a control connection after which its other end counts as lost while a stream runs, and whenever its
    /// kernel does not answer either.
    pub silence: Duration,
    /// The same while no stream runs and the kernel answers.
    pub idle_silence: Duration,
    /// For checking and planning on a node.
    pub prepare: Duration,
    /// For partitioning, formatting and mounting on a node: mke2fs on a slow, large disk takes minutes.
    pub go: Duration,
    /// For the chain's connections to stand after a stream was opened or a neighbour was lost.
    pub link: Duration,
    /// For a stream in which nothing moves any more.
    pub stall: Duration,
    /// For the finishing steps of a node, after its last stream: a sync of gigabytes to a slow disk.
    pub report: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: limits::JOIN_TIMEOUT,
            link_silence: limits::LINK_SILENCE,
            silence: limits::CONTROL_SILENCE,
            idle_silence: limits::IDLE_SILENCE,
            prepare: limits::PREPARE_TIMEOUT,
            go: limits::GO_TIMEOUT,
            link: limits::LINK_ESTABLISH_TIMEOUT,
            stall: limits::STREAM_STALL_TIMEOUT,
            report: limits::REPORT_TIMEOUT,
        }
    }
}

/// A node as the server knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its number in this run.
    pub id: NodeId,
    /// The host name it gave; not trusted for anything but display.
    pub name: String,
    /// The address its control connection comes from; the chain is ordered by it.
    pub addr: IpAddr,
    /// Hardware address, if it gave one.
    pub mac: Option<MacAddr>,
    /// Place in the chain: 1 is next to the server. 0 as long as there is no order yet.
    pub position: ChainPosition,
    /// Whether it asked to be released by the server (`-w`).
    pub wants_release: bool,
    /// It came with a complete clone that waits for its verdict, and takes no streams.
    pub holds_clone: bool,
}

impl NodeInfo {
    /// What it is known by over rounds.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity {
            mac: self.mac,
            name: self.name.clone(),
            addr: self.addr,
        }
    }
}

impl fmt::Display for NodeInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.addr, self.name)
    }
}

/// How a step ended on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<T> {
    /// Done, with what the node gave.
    Done(T),
    /// The node gave up, was lost, or took too long; it takes no further part.
    Failed(Failure),
}

/// What each node answered to a stage, in chain order.
pub type Answers = Vec<(NodeInfo, Outcome<Vec<u8>>)>;
/// How a stage or a stream ended on each node, in chain order.
pub type Endings = Vec<(NodeInfo, Outcome<()>)>;

/// Why a node takes no further part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What it was at, as "formatting" or "waiting for its report".
    pub stage: String,
    /// One line.
    pub reason: String,
    /// Whether it is wanted in the next round.
    pub again: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.stage, self.reason)
    }
}

/// What happens at the server, for its user interface. Events are dropped when nobody reads them for long.
#[derive(Debug, Clone)]
pub enum ServerEvent {
    /// A node was taken into the run.
    NodeJoined {
        /// Who.
        node: NodeInfo,
        /// Nodes present now.
        present: u32,
    },
    /// A node waits for the operator's word.
    ApprovalWanted(ApprovalWanted),
    /// Someone was turned away: a stranger, garbage, or a node with a wrong session or version.
    Turned {
        /// Where it came from.
        from: SocketAddr,
        /// One line.
        reason: String,
    },
    /// A node that only looked (`--dry-run`) has answered; it was never part of the run.
    NodeLooked {
        /// Who; its number is nobody else's.
        node: NodeInfo,
        /// Its plan, or why it has none.
        plan: Result<Vec<u8>, String>,
    },
    /// A node is too late for this round, or came back in it, and waits for the next one.
    NodeQueued {
        /// Who; the number stays its own.
        node: NodeInfo,
        /// The round that it waits for.
        round: u32,
        /// One line.
        reason: String,
    },
    /// A node came whose clone is good already; it was told so.
    NodeDoneAlready {
        /// Where it came from.
        from: SocketAddr,
        /// Its host name.
        name: String,
    },
    /// A node takes no further part.
    NodeFailed {
        /// Who.
        node: NodeInfo,
        /// At what, and why.
        failure: Failure,
    },
    /// A node passed what it was asked to do (prepare, go) in good order.
    NodeReady {
        /// Who.
        node: NodeId,
    },
    /// An opaque event that the node's program sent.
    NodeEvent {
        /// Who.
        node: NodeId,
        /// As given to `Node::event`.
        payload: Vec<u8>,
    },
    /// A node's program sends more events than are passed on; told at one, ten, a hundred and so on.
    NodeEventsLeftOut {
        /// The node.
        node: NodeId,
        /// Its events that were left out so far.
        so_far: u64,
    },
    /// How far a node is in a stream, about once a second.
    Progress {
        /// Who; the server itself is no node and has no such event.
        node: NodeId,
        /// Which stream.
        stream: StreamId,
        /// Bytes verified and taken from the predecessor.
        received: u64,
        /// Bytes the node's consumer is done with.
        consumed: u64,
        /// Bytes retained in its window.
        buffered: u64,
    },
    /// A node holds up all the others.
    SlowNode {
        /// Who; [`NodeId::SERVER`] is the golden node.
        node: NodeId,
        /// Why, and by how much.
        slow: Slow,
        /// Whether it is taken out of the chain for that; its failure follows.
        set_aside: bool,
    },
    /// Nobody hears a node, and the chain was closed around it; it goes on in this round if it comes back in time.
    NodeAway {
        /// Who.
        node: NodeInfo,
        /// One line.
        reason: String,
        /// How long it may be silent.
        silence: Duration,
    },
    /// A node that lost its place in the chain goes on, fed from what is kept of the stream.
    NodeRejoined {
        /// Who.
        node: NodeInfo,
        /// The stream's name.
        stream: String,
        /// The first byte that it missed.
        offset: u64,
    },
    /// From here on streams are not kept any more.
    SpoolOff {
        /// One line.
        reason: String,
    },
    /// A stream starts.
    StreamOpened {
        /// Which.
        stream: StreamId,
        /// Its name, as `kainstall2`.
        name: String,
        /// The nodes in chain order.
        chain: Vec<NodeInfo>,
    },
    /// A node has the whole stream, verified, and its consumer took it.
    StreamDone {
        /// Who.
        node: NodeId,
        /// Which.
        stream: StreamId,
    },
    /// A node's report is there.
    Reported {
        /// Who.
        node: NodeId,
    },
    /// A clone has booted from its own disk and says so; it may say it several times.
    CloneBooted {
        /// The number that it had in the run.
        node: NodeId,
        /// Its host name, for display.
        name: String,
        /// The hardware address that it gave in the run, if it did.
        mac: Option<MacAddr>,
        /// Where it says it from.
        from: SocketAddr,
    },
    /// A node that was released has closed its connection.
    NodeGone {
        /// Its number.
        node: NodeId,
    },
    /// Nobody read for long: so many events about single steps and progress are left out here.
    LeftOut {
        /// How many.
        events: u64,
    },
    /// A node went away before its round began; nothing is lost.
    NodeLeft {
        /// Who.
        node: NodeInfo,
        /// One line.
        reason: String,
        /// Nodes present now.
        present: u32,
    },
}

/// Totals of one stream.
#[derive(Debug, Clone)]
pub struct StreamSummary {
    /// Which.
    pub stream: StreamId,
    /// Its name.
    pub name: String,
    /// Payload bytes sent.
    pub bytes: u64,
    /// Blocks sent.
    pub blocks: u64,
    /// From the first block to the last one handed to the chain.
    pub sending: Duration,
    /// From the end of sending until the last node had everything.
    pub emptied_in: Duration,
    /// How it went on each node that was in the chain.
    pub nodes: Endings,
}
