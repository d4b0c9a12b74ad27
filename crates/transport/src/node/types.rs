//! The configuration of a node, and the orders that it gets.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ka_mac::MacAddr;
use ka_proto::control::Purpose;
use ka_proto::pace::Taker;
use ka_proto::wiring::Wiring;
use ka_proto::{NodeName, SessionName};

use crate::code::JoinCode;
use crate::operator::OperatorAcceptor;
use crate::server::types::{CONTROL_PORT, DATA_PORT, DEFAULT_WINDOW_BYTES};
use crate::stream::StreamReader;

/// The configuration of a node: its search for the server and its part in the run. [`NodeConfig::new`] has
/// the defaults.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Session to join.
    pub session: SessionName,
    /// Address or host name of the server (`-h`), with or without `:PORT`; none asks by broadcast.
    pub server: Option<String>,
    /// Proof that this node may join, and the key that the server must have.
    pub join: JoinCode,
    /// Own address: the data port listens on it and the control connection comes from it.
    pub listen: Option<IpAddr>,
    /// UDP port of discovery, and the control port where [`NodeConfig::server`] names none.
    pub control_port: u16,
    /// Data port; an ephemeral one is taken when it is in use.
    pub data_port: u16,
    /// Tries after the first one, with growing pauses, before giving up.
    pub retries: u32,
    /// The purpose for which this node joins.
    pub purpose: Purpose,
    /// True to make the server start with the nodes present (`-g`).
    pub start_now: bool,
    /// Wants to be released by the server at the end (`-w`).
    pub wants_release: bool,
    /// Holds a clone of this run that waits for its verdict; its report comes next.
    pub holds_clone: bool,
    /// Bytes retained for the successor.
    pub window_bytes: usize,
    /// The consumer of the streams, for the message about a slow node.
    pub taker: Taker,
    /// Host name, for display.
    pub name: NodeName,
    /// MAC address, for display and for node lists.
    pub mac: Option<MacAddr>,
    /// The source of the wiring that the server is told. [`WiringSource::default`] tells none.
    pub wiring: WiringSource,
    /// Accepts operators that come through the server; `None` accepts none.
    pub operators: Option<OperatorAcceptor>,
    /// Silence on the control connection after which the server counts as lost.
    pub silence: Duration,
}

impl NodeConfig {
    /// Looks for the server by broadcast, with default limits; a caller changes fields from there.
    #[must_use]
    pub fn new(session: SessionName, join: JoinCode, name: NodeName) -> Self {
        Self {
            session,
            server: None,
            join,
            listen: None,
            control_port: CONTROL_PORT,
            data_port: DATA_PORT,
            retries: 5,
            purpose: Purpose::Clone,
            start_now: false,
            wants_release: false,
            holds_clone: false,
            window_bytes: DEFAULT_WINDOW_BYTES,
            taker: Taker::Disk,
            name,
            mac: None,
            wiring: WiringSource::default(),
            operators: None,
            silence: Duration::from_secs(20),
        }
    }
}

/// The source of a node's wiring: a function of the address by which the node reaches the server.
#[derive(Clone, Default)]
pub struct WiringSource(Option<Arc<WiringFn>>);

type WiringFn = dyn Fn(IpAddr) -> Option<Wiring> + Send + Sync;

impl WiringSource {
    /// Returns a source that asks `wiring_of` whenever the server is to be told.
    #[must_use]
    pub fn new(wiring_of: impl Fn(IpAddr) -> Option<Wiring> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(wiring_of)))
    }

    /// Returns the switch port at the other end of the line with this address, if it is known.
    #[must_use]
    pub fn wiring_of(&self, addr: IpAddr) -> Option<Wiring> {
        self.0.as_ref().and_then(|wiring_of| wiring_of(addr))
    }
}

impl fmt::Debug for WiringSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WiringSource")
    }
}

/// An order of the server: the next piece of work.
#[derive(Debug)]
pub enum Order {
    /// Plan and check with this payload, write nothing; answer with `prepared` or `step_failed`.
    Prepare(Vec<u8>),
    /// All nodes have checked. Do the destructive part, and answer with `ready` or `step_failed`.
    Go,
    /// Take this stream.
    Stream(StreamReader),
    /// All streams are through: do the finishing steps and answer with `report`.
    Finish,
    /// The clone was judged good: make it bootable and answer with `bootable` or `step_failed`.
    Commit,
    /// The run is over for this node; it may reboot.
    Release,
    /// The server ended the run, or dropped this node.
    Aborted {
        /// One line.
        reason: String,
        /// The server wants this node in the next round.
        again: bool,
    },
}
