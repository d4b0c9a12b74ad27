//! Messages between an operator and a node (`ka-status`): the node's log as it grows, and the operator's
//! commands with their output and exit code.
//!
//! The connection is TLS 1.3 with raw keys both ways. The node takes no key but the server's, which its join
//! code pins. It shows that it belongs to the run by [`operator_proof`] in its first frame. Frames are those
//! of [`crate::wire`], at most [`MAX_OPERATOR_FRAME`] long. The version is the connection's ALPN name,
//! [`OPERATOR_ALPN`].
//!
//! Not here: sockets, the log, running commands. Specification: `docs/protocol.md`, "Status".

use serde::{Deserialize, Serialize};

use crate::auth::{self, Exporter, Secret};
use crate::text::{NodeName, Reason};
use crate::wire::{self, Payload, WireError};

/// TCP port on which a node answers its operator; the original's.
pub const STATUS_PORT: u16 = 12345;

/// Protocol name and version, offered and demanded in the TLS handshake (RFC 7301).
pub const OPERATOR_ALPN: &[u8] = b"ka-operator/1";

/// Label under which both ends export the keying material of a status connection, with an empty context.
pub const OPERATOR_EXPORTER_LABEL: &[u8] = b"EXPORTER-ka-operator-v1";

/// Longest frame either way, in bytes: the longest command, or a piece of output, with room for the fields
/// around it.
pub const MAX_OPERATOR_FRAME: usize = 64 << 10;

/// Longest command, in bytes, as one typed line or one command line of a shell holds.
pub const MAX_COMMAND: usize = 32 << 10;

/// Most bytes of output in one frame: the size of a pipe.
pub const MAX_OUTPUT: usize = 32 << 10;

const OPERATOR_CONTEXT: &str = "KA 2026-11 v1 operator proof";

/// An output of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Channel {
    /// Its standard output.
    Out,
    /// Its standard error.
    Err,
}

/// From a node to its operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToOperator {
    /// The first frame: the node is there, and belongs to this run.
    Online {
        /// Name of the node.
        name: NodeName,
        /// The proof of [`operator_proof`].
        proof: [u8; 32],
    },
    /// A line of its log, without the line break.
    Line(Reason),
    /// A piece of the running command's output, at most [`MAX_OUTPUT`] bytes.
    Output(Channel, Payload),
    /// The command ended. Holds its exit code, 128 + signal as in a shell, or 127 if it could not be started.
    Exited(u8),
}

/// From an operator to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromOperator {
    /// Run this with `sh -c`, after the earlier commands. At most [`MAX_COMMAND`] bytes.
    Exec(String),
}

/// Returns the node's proof that it holds the run's secret and is at the end of this very TLS connection.
#[must_use]
pub fn operator_proof(secret: &Secret, exporter: &Exporter) -> [u8; 32] {
    *auth::mac(&blake3::derive_key(OPERATOR_CONTEXT, secret), &[exporter]).as_bytes()
}

/// Returns true if `proof` is [`operator_proof`]. Takes the same time for every fault.
#[must_use]
pub fn operator_is_proved(secret: &Secret, exporter: &Exporter, proof: &[u8; 32]) -> bool {
    auth::mac(&blake3::derive_key(OPERATOR_CONTEXT, secret), &[exporter]) == *proof
}

impl ToOperator {
    /// Returns the whole frame, length included.
    ///
    /// # Errors
    /// [`WireError::FrameTooLong`] if output is over [`MAX_OUTPUT`] by far.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        wire::encode(self, "message to the operator", MAX_OPERATOR_FRAME)
    }

    /// Decodes a frame's body.
    ///
    /// # Errors
    /// [`WireError::Malformed`]: close the connection.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        wire::decode(body, "message from a node")
    }
}

impl FromOperator {
    /// Returns the whole frame, length included.
    ///
    /// # Errors
    /// [`WireError::FrameTooLong`] for a command over [`MAX_COMMAND`] by far.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        wire::encode(self, "message to a node", MAX_OPERATOR_FRAME)
    }

    /// Decodes a frame's body.
    ///
    /// # Errors
    /// [`WireError::Malformed`]: close the connection.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let Self::Exec(command) = wire::decode(body, "message from the operator")?;
        if command.len() > MAX_COMMAND {
            return Err(WireError::malformed(
                "message from the operator",
                "command too long",
            ));
        }
        Ok(Self::Exec(command))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn a_proof_is_worth_nothing_on_another_connection_or_in_another_run() {
        let proof = operator_proof(&[1; 16], &[2; 32]);
        assert!(operator_is_proved(&[1; 16], &[2; 32], &proof));
        assert!(!operator_is_proved(&[1; 16], &[3; 32], &proof));
        assert!(!operator_is_proved(&[9; 16], &[2; 32], &proof));
    }

    #[test]
    fn a_command_over_its_bound_is_refused() {
        let frame = FromOperator::Exec("x".repeat(MAX_COMMAND + 1)).encode().unwrap();
        assert!(FromOperator::decode(&frame[4..]).is_err());
        let frame = FromOperator::Exec("x".repeat(MAX_COMMAND)).encode().unwrap();
        assert!(FromOperator::decode(&frame[4..]).is_ok());
    }

    #[test]
    fn the_largest_output_fits_a_frame() {
        let full = ToOperator::Output(Channel::Out, Payload(vec![0; MAX_OUTPUT]));
        let frame = full.encode().unwrap();
        assert_eq!(ToOperator::decode(&frame[4..]), Ok(full));
    }

    proptest! {
        #[test]
        fn random_and_truncated_bytes_never_panic(bytes in any::<Vec<u8>>(), cut in 0usize..64) {
            let _ = ToOperator::decode(&bytes);
            let _ = FromOperator::decode(&bytes);
            let frame = ToOperator::Line(Reason::new("Formatting /dev/sda2")).encode().unwrap();
            let _ = ToOperator::decode(&frame[4..frame.len().saturating_sub(cut).max(4)]);
        }
    }
}
