//! The status connection: a node's door for its operator ([`OperatorDoor`]) and the operator's end of it
//! ([`OperatorConnection`]).
//!
//! Who may in: the holder of the server's key, which the node knows from its join code; everybody else fails in the
//! TLS handshake. Both work on any byte stream: a connection to the node's port, or a way through the server to which
//! the operator has proved the same ([`server`]). The node proves that it is of the run, so that a stranger's machine can neither show a false log nor
//! take an operator's commands. Not here: what a log line is, what runs a command. `ka_proto::operator`.

mod carrier;
mod connection;
mod door;
mod server;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use connection::OperatorConnection;
pub use door::{Operator, OperatorCommands, OperatorDoor, OperatorEntrance, OperatorWriter};
pub use server::nodes_of;

/// From the first byte to the proof: a stranger may hold a slot no longer.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// An end that is gone without a word (a node that reboots, a laptop that is closed) is noticed after this.
const PEER_GONE_AFTER: Duration = Duration::from_secs(10);
