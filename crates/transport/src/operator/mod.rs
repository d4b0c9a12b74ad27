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

use std::io::{self, Read};
use std::time::Duration;

use ka_proto::wire::FrameReader;

pub use connection::OperatorConnection;
pub use door::{Operator, OperatorCommands, OperatorDoor, OperatorEntrance, OperatorWriter};
pub use server::nodes_of;

/// From the first byte to the proof: a stranger may hold a slot no longer.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// An end that is gone without a word (a node that reboots, a laptop that is closed) is noticed after this.
const PEER_GONE_AFTER: Duration = Duration::from_secs(10);

/// Bytes taken from a connection at once.
const READ_BYTES: usize = 16 << 10;

/// Waits for the body of the next frame; `None` when the other end is gone, in order or not.
fn next_body(frames: &mut FrameReader, from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = [0; READ_BYTES];
    loop {
        if let Some(body) = frames.next_frame().map_err(io::Error::other)? {
            return Ok(Some(body));
        }
        match from.read(&mut bytes) {
            Ok(0) => return Ok(None),
            Ok(count) => frames.push(&bytes[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_end(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// A peer that was killed, or a node that reboots, says no goodbye.
fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::TimedOut
    )
}
