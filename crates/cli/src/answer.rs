//! The answer to a command line that asks for no work.

use std::process::ExitCode;

use crate::{exit, output};

/// The answer to a command line that asks for no work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Help, version, manual page or completion script, for standard output.
    Text(String),
    /// Wrong usage: one line for standard error, without `error: `.
    Wrong(String),
}

impl Answer {
    /// Prints the answer, and returns its exit code.
    #[must_use]
    pub fn give(&self) -> ExitCode {
        match self {
            Self::Text(text) => output::print(text.as_bytes()),
            Self::Wrong(text) => {
                output::say(&format!("error: {text}"));
                ExitCode::from(exit::WRONG_USAGE)
            }
        }
    }
}
