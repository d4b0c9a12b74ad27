//! The status connection: a node's listener for its operators ([`OperatorListener`]) and the operator's end
//! of it ([`OperatorConnection`]).
//!
//! TLS authenticates the holder of the server's key: the node knows that key from its join code, and any
//! other operator fails in the handshake. Both ends work on any byte stream. It is a connection to the node's
//! port, or a tunnel through the server, to which the operator has proved the same ([`server`]). The node
//! proves that it belongs to the run, so that a stranger's machine can neither show a false log nor take an
//! operator's commands. Not here: the meaning of a log line, and running a command. `ka_proto::operator`.

mod connection;
mod framed;
mod listener;
mod node_stream;
mod server;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use connection::OperatorConnection;
pub use listener::{Operator, OperatorAcceptor, OperatorCommands, OperatorListener, OperatorWriter};
pub use server::nodes_of;

/// From the first byte to the proof: a stranger may hold a slot no longer.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// An end that is gone without a word (a node that reboots, a laptop that is closed) is noticed after this.
const PEER_GONE_AFTER: Duration = Duration::from_secs(10);
