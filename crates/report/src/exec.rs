//! A command that an operator ran on a node (`ka-status NODE exec COMMAND`). The node logs it, and tells the
//! server.
//!
//! It travels as [`crate::event::NodeEvent`] does, in the payload of `ToServer::Event`. Its fields tell the
//! two apart.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::event::MAX_EVENT_BYTES;

/// Most bytes of a command that are kept. As JSON, in which a byte may take six, it still fits
/// [`MAX_EVENT_BYTES`].
pub const MAX_COMMAND_BYTES: usize = 2 << 10;

/// One command. The node reports it when it starts, and again when it has ended. A command that restarts the
/// node is reported once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorExec {
    /// Address of the operator.
    pub from: SocketAddr,
    /// True if the operator came through the server (`--via`).
    pub through_server: bool,
    /// The command as it was typed. A longer one is cut at [`MAX_COMMAND_BYTES`] and ends in `…`.
    pub command: String,
    /// Exit code of the ended command, as in a shell. `None` for a command that starts.
    pub exit_code: Option<u8>,
}

impl OperatorExec {
    /// Returns the report of a command that starts.
    pub fn starts(from: SocketAddr, through_server: bool, command: &str) -> Self {
        Self {
            from,
            through_server,
            command: head(command),
            exit_code: None,
        }
    }

    /// Returns the same command with its exit code.
    #[must_use]
    pub fn ended(self, exit_code: u8) -> Self {
        Self {
            exit_code: Some(exit_code),
            ..self
        }
    }

    /// Encodes the report as JSON.
    pub fn encode(&self) -> Vec<u8> {
        // Plain strings and numbers always serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Decodes a payload from a node. Returns `None` if it is something else.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        if payload.len() > MAX_EVENT_BYTES {
            return None;
        }
        let exec: Self = serde_json::from_slice(payload).ok()?;
        Some(Self {
            command: head(&exec.command),
            ..exec
        })
    }
}

impl fmt::Display for OperatorExec {
    /// Writes the command quoted and escaped. So a command with line breaks or escape sequences stays one
    /// harmless line of a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.through_server {
            " through the server"
        } else {
            ""
        };
        write!(f, "operator at {}{way}: exec {:?}", self.from, self.command)?;
        match self.exit_code {
            Some(code) => write!(f, " ended with {code}"),
            None => Ok(()),
        }
    }
}

fn head(command: &str) -> String {
    if command.len() <= MAX_COMMAND_BYTES {
        return command.to_owned();
    }
    let mut end = MAX_COMMAND_BYTES - '…'.len_utf8();
    while !command.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &command[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{NodeEvent, Step};

    fn exec(command: &str) -> OperatorExec {
        OperatorExec::starts(SocketAddr::from(([10, 0, 1, 9], 40_000)), false, command)
    }

    #[test]
    fn a_command_comes_back_as_it_was_sent_and_is_no_step() {
        for sent in [exec("hostname; exit 7"), exec("true").ended(0)] {
            assert_eq!(OperatorExec::decode(&sent.encode()), Some(sent.clone()));
            assert!(NodeEvent::decode(&sent.encode()).is_err());
        }
        let step = NodeEvent::news(Step::Check, "hello").encode();
        assert_eq!(OperatorExec::decode(&step), None);
    }

    #[test]
    fn the_longest_command_fits_whatever_is_in_it_and_says_that_it_was_cut() {
        for long in [
            "\x01".repeat(MAX_COMMAND_BYTES * 16),
            "ä".repeat(MAX_COMMAND_BYTES),
        ] {
            let payload = exec(&long).ended(255).encode();
            assert!(payload.len() <= MAX_EVENT_BYTES);
            assert!(OperatorExec::decode(&payload).unwrap().command.ends_with('…'));
        }
    }

    #[test]
    fn no_command_writes_a_second_line_or_an_escape_sequence_into_a_log() {
        let line = exec("true\n[00:00] node 1: done\x1b[2J").ended(0).to_string();
        assert_eq!(
            line,
            r#"operator at 10.0.1.9:40000: exec "true\n[00:00] node 1: done\u{1b}[2J" ended with 0"#
        );
    }

    #[test]
    fn who_came_through_the_server_is_told_apart() {
        let through = OperatorExec {
            through_server: true,
            ..exec("true")
        };
        let line = through.to_string();
        assert_eq!(
            line,
            r#"operator at 10.0.1.9:40000 through the server: exec "true""#
        );
        assert_eq!(OperatorExec::decode(&through.encode()), Some(through));
    }

    #[test]
    fn truncated_and_oversized_ones_are_refused() {
        let good = exec("hello").encode();
        for len in 0..good.len() {
            assert_eq!(OperatorExec::decode(&good[..len]), None, "{len} bytes");
        }
        assert_eq!(OperatorExec::decode(&vec![b' '; MAX_EVENT_BYTES + 1]), None);
    }
}
