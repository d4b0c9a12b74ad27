//! Nodes that went on from the data that the server keeps of a stream (`--spool`).

use std::fmt;

use serde::Serialize;

/// A node that lost its place in the chain and went on in the same round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejoined {
    /// The stream's name, `kainstall2`.
    pub stream: String,
    /// Offset in the stream of the first byte that the node missed.
    pub offset_bytes: u64,
}

impl fmt::Display for Rejoined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stream, offset) = (&self.stream, self.offset_bytes);
        write!(f, "rejoined {stream} at byte {offset} from the spool")
    }
}
