//! The configuration of a server, and its events for the user.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ka_mac::MacAddr;
use ka_proto::discovery::BeaconToken;
use ka_proto::group::probe::Wanted;
use ka_proto::identity::Identity;
use ka_proto::limits;
use ka_proto::run::{Failure, NodeInfo, RunConfig, RunEvent};
use ka_proto::wire::Payload;
use ka_proto::{NodeId, NodeName, RunId, SessionName, StreamId};

use super::approvals::ApprovalWanted;
use crate::code::SECRET_LEN;
use crate::error::TransportError;
use crate::key::ServerKey;
use crate::spool_dir::SpoolDir;

/// TCP and UDP port of the control connection and of discovery, as in the original.
pub const CONTROL_PORT: u16 = 30765;
/// TCP port of the chain's data connections, as in the original.
pub const DATA_PORT: u16 = 30764;
/// Bytes that a node or the server retains for its successor. With block buffers, kernel buffers and the
/// consumer's own memory this stays far below the 256 MiB that a node may use.
pub const DEFAULT_WINDOW_BYTES: usize = 64 << 20;

/// The settings of a server: its ports and secrets, and the run. [`ServerConfig::new`] has the defaults.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Address to listen on. `0.0.0.0` is every IPv4 address, `::` every address (only those of IPv4 if the
    /// kernel has no IPv6).
    pub listen: IpAddr,
    /// TCP port of control connections and UDP port of discovery. 0 takes any free one.
    pub control_port: u16,
    /// The long-lived key that nodes pin.
    pub key: ServerKey,
    /// The run's secret, part of the join code.
    pub secret: [u8; SECRET_LEN],
    /// The settings of the run. Its `data_port` is tried first; if it is in use, an ephemeral one is taken.
    /// [`crate::Server::start`] sets what follows from other settings: `spool`, `heartbeat`, and a `silence`
    /// that is long enough for `link_silence` and the spool.
    pub run: RunConfig,
    /// Nodes that an earlier process of this run saw done. They are told so when they come.
    pub done: Vec<Identity>,
    /// Bytes retained for the first node, see [`DEFAULT_WINDOW_BYTES`].
    pub window_bytes: usize,
    /// Directory that keeps each stream while it runs, so that a node which lost its place goes on in the
    /// same round (`--spool`).
    pub spool: Option<SpoolDir>,
    /// The operator's wish for the way of streams.
    pub transport: Wanted,
    /// The checks of a node that knows the run's secret.
    pub admission: Admission,
    /// Token of the beacons of clones that have booted. `None` ignores beacons.
    pub beacon: Option<BeaconToken>,
    /// Time from accepting a connection to its valid `Join`. A stranger gets no more.
    pub handshake: Duration,
    /// Time for the chain's connections after a stream was opened or a neighbour was lost.
    pub link_timeout: Duration,
}

impl ServerConfig {
    /// Returns a configuration with default limits that listens on every address at the original's ports, for
    /// one encrypted round that a node with `-g` starts. A caller changes fields from there.
    ///
    /// # Errors
    /// [`TransportError::Random`]: the kernel gave no random bytes for the run's key.
    pub fn new(
        session: SessionName,
        key: ServerKey,
        secret: [u8; SECRET_LEN],
    ) -> Result<Self, TransportError> {
        let (run, run_key) = run_keys()?;
        let run = RunConfig {
            cipher: Some(crate::cipher::fastest()),
            ..RunConfig::new(run, run_key, session, DATA_PORT)
        };
        Ok(Self {
            listen: IpAddr::from([0; 16]),
            control_port: CONTROL_PORT,
            key,
            secret,
            run,
            done: Vec::new(),
            window_bytes: DEFAULT_WINDOW_BYTES,
            spool: None,
            transport: Wanted::Chain,
            admission: Admission::default(),
            beacon: None,
            handshake: limits::JOIN_TIMEOUT,
            link_timeout: limits::LINK_ESTABLISH_TIMEOUT,
        })
    }
}

/// Returns a new round's number and key.
pub(super) fn run_keys() -> Result<(RunId, [u8; 32]), TransportError> {
    let (mut run, mut run_key) = ([0; 16], [0; 32]);
    getrandom::fill(&mut run).map_err(|_| TransportError::Random)?;
    getrandom::fill(&mut run_key).map_err(|_| TransportError::Random)?;
    Ok((RunId(run), run_key))
}

/// The checks of a node that knows the run's secret: the operator's list, then the operator.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    /// Time that the operator has to answer the question about each node ([`crate::Server::approvals`]).
    /// `None` asks no questions.
    pub approval: Option<Duration>,
    /// The MAC addresses that nodes may claim. `None` permits any.
    pub known_macs: Option<KnownMacs>,
    /// Check of a node's claims against known MAC addresses. `None` knows none.
    pub contradiction: Option<Contradiction>,
}

/// Callback that returns the contradiction between a node's address and the MAC address that it claims. The
/// service that gave the addresses knows it.
#[derive(Clone)]
pub struct Contradiction(pub std::sync::Arc<dyn Fn(IpAddr, MacAddr) -> Option<String> + Send + Sync>);

impl fmt::Debug for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Contradiction")
    }
}

/// Callback that returns true if a MAC address is on the operator's list, which may grow during the run.
#[derive(Clone)]
pub struct KnownMacs(pub std::sync::Arc<dyn Fn(MacAddr) -> bool + Send + Sync>);

impl fmt::Debug for KnownMacs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KnownMacs")
    }
}

/// The answer of each node to a stage, or its failure, in chain order.
pub type Answers = Vec<(NodeInfo, Result<Payload, Failure>)>;
/// The end of a stage or a stream on each node, in chain order.
pub type Endings = Vec<(NodeInfo, Result<(), Failure>)>;

/// An event for the user interface of the server. Events are dropped if they are not read for long.
#[derive(Debug, Clone)]
pub enum ServerEvent {
    /// An event of the run.
    Run(RunEvent),
    /// A node waits for the operator's answer.
    ApprovalWanted(ApprovalWanted),
    /// A connection was refused before it belonged to a node: a stranger, garbage, a wrong session or version.
    ConnectionRefused {
        /// The address that it came from.
        from: SocketAddr,
        /// Name that the node gave, if it knows the run's secret.
        name: Option<NodeName>,
        /// Reason, in one line.
        reason: String,
    },
    /// The way of the streams of this round is chosen.
    Transport {
        /// Number of nodes that get streams by multicast.
        multicast: usize,
        /// Number of nodes in the round.
        nodes: usize,
        /// Text for people: what the probe found, and what follows.
        text: String,
    },
    /// Streams are not kept any more from here on (`--spool`).
    SpoolOff {
        /// Reason, in one line.
        reason: String,
    },
    /// A clone has booted from its own disk and reports it. It may report it several times.
    CloneBooted {
        /// Number that it had in the run.
        node: NodeId,
        /// Host name, for display.
        name: String,
        /// MAC address that it gave in the run, if it did.
        mac: Option<MacAddr>,
        /// The address that sent the beacon.
        from: SocketAddr,
    },
    /// The events were not read for long. Events about single steps and progress are left out here.
    LeftOut {
        /// The number of events.
        events: u64,
    },
}

/// Totals of one stream.
#[derive(Debug, Clone)]
pub struct StreamSummary {
    /// The stream of the totals.
    pub stream: StreamId,
    /// Name of the stream.
    pub name: String,
    /// Payload sent, in bytes.
    pub bytes: u64,
    /// Number of blocks sent.
    pub blocks: u64,
    /// Time from the first block to the last one given to the chain.
    pub sending: Duration,
    /// Time from the end of sending until the last node had everything.
    pub emptied_in: Duration,
    /// The results of the nodes that were in the chain.
    pub nodes: Endings,
}
