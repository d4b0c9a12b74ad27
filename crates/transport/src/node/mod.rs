//! The node's side: a blocking facade over one task that owns the control connection.
//!
//! Here: joining, orders, answers. Not here: what decides (`ka_proto::node`, driven by [`core`]), and what the
//! payloads mean. Issue 2 §4 and §6, `docs/protocol.md`.

mod aborts;
mod connection;
mod core;
mod find;
mod join;
mod streams;
pub(crate) mod types;

use std::net::SocketAddr;
use std::time::Duration;

use crossbeam_channel::Receiver;
use ka_proto::{MacAddr, NodeId, NodeName};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use self::aborts::Aborts;
use crate::error::TransportError;

pub use types::{NodeConfig, Order};

/// A node that a server has accepted. Dropping it closes the connection.
#[derive(Debug)]
pub struct Node {
    commands: mpsc::UnboundedSender<connection::Command>,
    orders: Receiver<Result<Order, TransportError>>,
    joined: Joined,
    aborts: Aborts,
    runtime: Option<Runtime>,
}

/// Where a node has joined.
#[derive(Debug, Clone)]
pub struct Joined {
    /// The server's control address.
    pub server: SocketAddr,
    /// Own address on the control connection.
    pub local: SocketAddr,
    /// Where this node's successor connects.
    pub data: SocketAddr,
    /// Number in this run.
    pub id: NodeId,
    /// The name it gave.
    pub name: NodeName,
    /// The hardware address it gave.
    pub mac: Option<MacAddr>,
}

/// What happens while a node looks for its server, for display.
#[derive(Debug, Clone)]
pub enum JoinEvent {
    /// A try begins: "asking by broadcast on …", "connecting to …".
    Trying {
        /// Counted from 1.
        attempt: u32,
        /// What is tried.
        what: String,
    },
    /// The server has this node wait for its next round; it may take long.
    Queued {
        /// That round, counted from 1.
        round: u32,
        /// Why not now.
        reason: String,
    },
    /// The server's operator is asked whether this node may join. Show the code: the operator compares it.
    Pending {
        /// The same code as the operator sees, if nobody is in between.
        code: String,
        /// How long the server waits.
        limit: Duration,
    },
    /// A try ended without a server.
    Failed {
        /// Counted from 1.
        attempt: u32,
        /// Why.
        reason: String,
        /// Pause before the next try; none after the last.
        pause: Option<Duration>,
    },
}

impl Node {
    /// Looks for the server and joins its run, trying again with growing pauses. `on_try` is told each try.
    ///
    /// # Errors
    /// [`TransportError::DoneAlready`] when the server has seen its clone;
    /// [`TransportError::NoServer`] after the last try, with what was tried; [`TransportError::Refused`] at once
    /// when the server has this run's key and says no; [`TransportError::Listen`] when no data port can be had.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a configuration is for one node; a join code is not left behind"
    )]
    pub fn join(config: NodeConfig, on_try: impl FnMut(&JoinEvent)) -> Result<Self, TransportError> {
        join::join(&config, on_try)
    }

    /// Where it joined.
    #[must_use]
    pub const fn joined(&self) -> &Joined {
        &self.joined
    }

    /// Waits for the server's next order. [`Order::Release`] and [`Order::Aborted`] are the last ones.
    ///
    /// # Errors
    /// [`TransportError::ServerLost`] when the connection ended or went silent.
    pub fn next_order(&self) -> Result<Order, TransportError> {
        self.orders.recv().unwrap_or_else(|_| {
            Err(TransportError::ServerLost {
                reason: "the connection has ended".to_owned(),
            })
        })
    }

    /// Calls `told` with the reason when the server has ended the run for this node for good: at once, whatever this node is
    /// doing. [`Order::Aborted`] comes all the same.
    pub fn when_aborted(&self, told: impl FnOnce(&str) + Send + 'static) {
        self.aborts.when_aborted(Box::new(told));
    }

    /// Answers [`Order::Prepare`]: everything that can fail was checked; `payload` is the plan.
    ///
    /// # Errors
    /// [`TransportError::ServerLost`]; [`TransportError::Misuse`] out of order or with a payload over the limit.
    pub fn prepared(&self, payload: Vec<u8>) -> Result<(), TransportError> {
        self.tell(connection::Answer::Prepared(payload))
    }

    /// Answers [`Order::Go`]: file systems are made and mounted.
    ///
    /// # Errors
    /// [`TransportError::ServerLost`]; [`TransportError::Misuse`] out of order.
    pub fn ready(&self) -> Result<(), TransportError> {
        self.tell(connection::Answer::Ready)
    }

    /// Gives up: at `stage`, because of `reason`. The server drops and names this node.
    ///
    /// # Errors
    /// [`TransportError::ServerLost`].
    pub fn step_failed(&self, stage: &str, reason: &str) -> Result<(), TransportError> {
        self.tell(connection::Answer::StepFailed {
            stage: stage.to_owned(),
            reason: reason.to_owned(),
        })
    }

    /// Sends an event for the operator. Events are cheap and rare; they may be lost with the connection.
    ///
    /// # Errors
    /// [`TransportError::ServerLost`]; [`TransportError::Misuse`] with a payload over 64 KiB.
    pub fn event(&self, payload: Vec<u8>) -> Result<(), TransportError> {
        self.tell(connection::Answer::Event(payload))
    }

    /// Answers [`Order::Finish`] with the node's report.
    ///
    /// # Errors
    /// [`TransportError::ServerLost`]; [`TransportError::Misuse`] out of order or with a payload over the limit.
    pub fn report(&self, payload: Vec<u8>) -> Result<(), TransportError> {
        self.tell(connection::Answer::Report(payload))
    }

    /// Answers [`Order::Commit`]: the clone can be booted.
    ///
    /// # Errors
    /// [`TransportError::ServerLost`]; [`TransportError::Misuse`] out of order.
    pub fn bootable(&self) -> Result<(), TransportError> {
        self.tell(connection::Answer::Bootable)
    }

    /// A handle that sends events from another thread (a progress display, a log) while this one waits for orders.
    #[must_use]
    pub fn event_sender(&self) -> EventSender {
        EventSender {
            commands: self.commands.clone(),
        }
    }

    fn tell(&self, answer: connection::Answer) -> Result<(), TransportError> {
        connection::tell(&self.commands, answer)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            connection::leave(&self.commands, "the node ended");
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

/// Sends a node's events from any thread.
#[derive(Debug, Clone)]
pub struct EventSender {
    commands: mpsc::UnboundedSender<connection::Command>,
}

impl EventSender {
    /// Like [`Node::event`].
    ///
    /// # Errors
    /// As [`Node::event`].
    pub fn event(&self, payload: Vec<u8>) -> Result<(), TransportError> {
        connection::tell(&self.commands, connection::Answer::Event(payload))
    }

    /// Leaves the run: the server is told why, streams end, and [`Node::next_order`] gives [`Order::Aborted`]. Waits
    /// until that is sent, at most two seconds. For an operator's Ctrl-C.
    pub fn leave(&self, reason: &str) {
        connection::leave(&self.commands, reason);
    }
}
