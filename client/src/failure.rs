//! The failures that end `ka-client`, and the exit code of each.

use std::fmt;
use std::process::ExitCode;

use ka_cli::{error_text, exit};
use ka_transport::TransportError;

/// A failure that ends this node. An operator of many nodes has to tell them apart: after
/// [`Self::NothingDone`] the disks are as they were and the command can simply be repeated; after
/// [`Self::Began`] they are not.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No server, refused, or a check failed before anything was written: exit code 1.
    NothingDone(anyhow::Error),
    /// The command line asks for something impossible: exit code 2, as clap's own errors.
    Usage(anyhow::Error),
    /// A disk (or the operator's command) was touched before it failed: exit code 3.
    Began(anyhow::Error),
}

impl Failure {
    /// Returns the process's exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::NothingDone(_) => ExitCode::from(exit::NOTHING_DONE),
            Self::Usage(_) => ExitCode::from(exit::WRONG_USAGE),
            Self::Began(_) => ExitCode::from(exit::FAILED),
        }
    }

    /// [`Self::Began`] when `began`, else [`Self::NothingDone`].
    pub(crate) fn after(began: bool, error: anyhow::Error) -> Self {
        if began {
            Self::Began(error)
        } else {
            Self::NothingDone(error)
        }
    }

    /// True when a disk (or the operator's command) was touched.
    pub(crate) const fn has_begun(&self) -> bool {
        matches!(self, Self::Began(_))
    }

    /// Returns the same failure of a node that had touched something in an earlier try.
    pub(crate) fn into_began(self) -> Self {
        match self {
            Self::NothingDone(error) | Self::Began(error) => Self::Began(error),
            usage @ Self::Usage(_) => usage,
        }
    }

    /// True when the cause is that the connection to the server ended or went silent.
    pub(crate) fn is_server_lost(&self) -> bool {
        let is_lost = |cause: &(dyn std::error::Error + 'static)| {
            matches!(cause.downcast_ref(), Some(TransportError::ServerLost { .. }))
        };
        self.error().chain().any(is_lost)
    }

    fn error(&self) -> &anyhow::Error {
        match self {
            Self::NothingDone(error) | Self::Usage(error) | Self::Began(error) => error,
        }
    }
}

impl fmt::Display for Failure {
    /// Writes the whole chain of causes on one line. Of an error that lists candidates, only its first line:
    /// the list stands right above, in the lines of the failing step.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = error_text(self.error().as_ref());
        f.write_str(text.lines().next().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn the_whole_cause_is_on_one_line() {
        let failure = Failure::NothingDone(anyhow!("no such file\n  a list").context("reading /x"));
        assert_eq!(failure.to_string(), "reading /x: no such file");
    }

    #[test]
    fn a_touched_disk_is_exit_code_three_and_an_untouched_one() {
        assert_eq!(Failure::after(true, anyhow!("x")).exit_code(), ExitCode::from(3));
        assert_eq!(Failure::after(false, anyhow!("x")).exit_code(), ExitCode::from(1));
        assert_eq!(Failure::Usage(anyhow!("x")).exit_code(), ExitCode::from(2));
    }
}
