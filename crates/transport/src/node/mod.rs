//! The node's side: a blocking facade over one task that owns the control connection.
//!
//! Here: joining, orders, answers. Not here: the decisions (`ka_proto::node`, driven by [`core`]), and the
//! meaning of the payloads. `docs/protocol.md`.

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
use ka_mac::MacAddr;
use ka_proto::wiring::Wiring;
use ka_proto::{NodeId, NodeName};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use self::aborts::Aborts;
use crate::error::TransportError;

pub use types::{NodeConfig, Order, WiringSource};

/// A node that a server has accepted. Dropping it closes the connection.
#[derive(Debug)]
pub struct Node {
    commands: mpsc::UnboundedSender<connection::Command>,
    orders: Receiver<Result<Order, TransportError>>,
    joined: Joined,
    aborts: Aborts,
    runtime: Option<Runtime>,
}

/// A node's place in the run that it has joined.
#[derive(Debug, Clone)]
pub struct Joined {
    /// The server's control address.
    pub server: SocketAddr,
    /// Own address on the control connection.
    pub local: SocketAddr,
    /// The address that this node's successor connects to.
    pub data: SocketAddr,
    /// Number in this run.
    pub id: NodeId,
    /// The name it gave.
    pub name: NodeName,
    /// MAC address that the node gave.
    pub mac: Option<MacAddr>,
    /// The switch port at the other end of its line, as far as the server knows it.
    pub wiring: Option<Wiring>,
}

/// An event of looking for a server, for display.
#[derive(Debug, Clone)]
pub enum JoinEvent {
    /// A try begins: "asking by broadcast on …", "connecting to …".
    Trying {
        /// Counted from 1.
        attempt: u32,
        /// The try, as "connecting to 10.0.0.1".
        what: String,
    },
    /// The server has this node wait for its next round; it may take long.
    Queued {
        /// That round, counted from 1.
        round: u32,
        /// The reason of the failure, one line.
        reason: String,
    },
    /// The server's operator is asked to let this node in. Show the code, because the operator compares it.
    Pending {
        /// Code that the operator sees, too, unless an attacker is in between.
        code: String,
        /// The time that the server waits for the answer.
        limit: Duration,
    },
    /// A try ended without a server, and another one follows. After the last try the error says why.
    Failed {
        /// Counted from 1.
        attempt: u32,
        /// The reason in brief, one line: "no answer".
        reason: String,
        /// Pause before the next try.
        pause: Duration,
    },
}

impl Node {
    /// Looks for the server and joins its run. It tries again with growing pauses, and calls `on_try` for
    /// each try.
    ///
    /// # Errors
    /// [`TransportError::DoneAlready`] if the server has seen its clone. [`TransportError::NoServer`] after
    /// the last try, with the attempts. [`TransportError::Refused`] at once if the server has this run's key
    /// and refuses. [`TransportError::Listen`] if no data port is free.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a configuration is for one node; a join code is not left behind"
    )]
    pub fn join(config: NodeConfig, on_try: impl FnMut(&JoinEvent)) -> Result<Self, TransportError> {
        join::join(&config, on_try)
    }

    /// Returns the run that it has joined.
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

    /// Calls `told` with the reason when the server has ended the run for this node for good: at once,
    /// whatever this node is doing. [`Order::Aborted`] comes all the same.
    pub fn when_aborted(&self, told: impl FnOnce(&str) + Send + 'static) {
        self.aborts.when_aborted(Box::new(told));
    }

    /// Answers [`Order::Prepare`]: everything that can fail was checked; `payload` is the plan.
    ///
    /// # Errors
    /// [`TransportError::ServerLost`]; [`TransportError::Misuse`] out of order or with a payload over the
    /// limit.
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
    /// [`TransportError::ServerLost`]; [`TransportError::Misuse`] out of order or with a payload over the
    /// limit.
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

    /// Returns a handle that sends events from another thread (a progress display, a log) while this one
    /// waits for orders.
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

    /// Tells the server the switch port at the other end of this node's line. It counts for the next order of a
    /// chain.
    ///
    /// # Errors
    /// [`TransportError::ServerLost`].
    pub fn wiring(&self, wiring: Wiring) -> Result<(), TransportError> {
        connection::tell(&self.commands, connection::Answer::Wiring(wiring))
    }

    /// Leaves the run. The server gets the reason, streams end, and [`Node::next_order`] returns
    /// [`Order::Aborted`]. Waits until that is sent, at most two seconds. For an operator's Ctrl-C.
    pub fn leave(&self, reason: &str) {
        connection::leave(&self.commands, reason);
    }
}
