//! What a node's user configures and is told.

use std::net::IpAddr;
use std::time::Duration;

use ka_proto::control::Purpose;
use ka_proto::pace::Taker;
use ka_proto::{MacAddr, NodeName, SessionName};

use crate::code::JoinCode;
use crate::operator::OperatorEntrance;
use crate::server::types::{CONTROL_PORT, DATA_PORT, DEFAULT_WINDOW_BYTES};
use crate::stream::StreamReader;

/// How a node looks for its server and takes part. [`NodeConfig::new`] gives the defaults.
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
    /// How often to try again, with growing pauses, before giving up.
    pub retries: u32,
    /// What this node has come for.
    pub purpose: Purpose,
    /// Tells the server to start with whoever is there (`-g`).
    pub start_now: bool,
    /// Wants to be released by the server at the end (`-w`).
    pub wants_release: bool,
    /// Holds a clone of this run that waits for its verdict; its report comes next.
    pub holds_clone: bool,
    /// Bytes retained for the successor.
    pub window_bytes: usize,
    /// Whom the streams are handed to, for the words when it is slow.
    pub taker: Taker,
    /// Host name, for display.
    pub name: NodeName,
    /// Hardware address, for display and later for node lists.
    pub mac: Option<MacAddr>,
    /// Where operators are let in that come through the server; none lets in none.
    pub operators: Option<OperatorEntrance>,
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
            operators: None,
            silence: Duration::from_secs(20),
        }
    }
}

/// What the server wants next.
#[derive(Debug)]
pub enum Order {
    /// Plan and check with this payload, write nothing; answer with `prepared` or `step_failed`.
    Prepare(Vec<u8>),
    /// Everybody is checked: do the destructive part; answer with `ready` or `step_failed`.
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
        /// Whether the server wants this node in the next round.
        again: bool,
    },
}
