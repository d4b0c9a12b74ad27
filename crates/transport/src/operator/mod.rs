//! The status connection: a node's door for its operator ([`OperatorDoor`]) and the operator's end of it
//! ([`OperatorConnection`]).
//!
//! Who may in: the holder of the server's key, which the node knows from its join code; everybody else fails in the
//! TLS handshake. The node proves that it is of the run, so that a stranger's machine can neither show a false log nor
//! take an operator's commands. Not here: what a log line is, what runs a command. `ka_proto::operator`.

mod connection;
mod door;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use connection::OperatorConnection;
pub use door::{Operator, OperatorCommands, OperatorDoor, OperatorWriter};

/// From the first byte to the proof: a stranger may hold a slot no longer.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// An end that is gone without a word (a node that reboots, a laptop that is closed) is noticed after this.
const PEER_GONE_AFTER: Duration = Duration::from_secs(10);
