//! The subcommands of `ka-server`, such as `ka-server key …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{DEFAULT_SESSION, DEFAULT_STATE_DIR};

/// Everything that is no run.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// The server's key: what join codes pin, and what opens nodes to ka-status
    #[command(subcommand)]
    Key(KeyCommand),
    /// Let nodes of a run with --approve in, by the numbers of the questions; without a number, show who waits
    Approve(Answer),
    /// The signed reports of runs
    #[command(subcommand)]
    Report(ReportCommand),
}

/// About reports.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ReportCommand {
    /// Check every signature of a report, and that nothing was taken out; exit code 0 when it is good, else 1
    Check {
        /// The report
        file: PathBuf,
        /// Where the key is that should have signed it, or whose predecessors should have
        #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR, conflicts_with = "key")]
        state_dir: PathBuf,
        /// The fingerprint of the key that should have signed it (ka-server key show), where that key is not here
        #[arg(long, value_name = "FINGERPRINT")]
        key: Option<String>,
    },
}

/// About the server's key.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum KeyCommand {
    /// Show the key's fingerprint (never the key)
    Show(StateDir),
    /// Put a new key in place of the old one, which is kept nowhere. Join codes and boot images made with the old key are
    /// worth nothing afterwards, and nodes that still wait with one find no server. Refused while a run uses the key
    Rotate(StateDir),
}

/// The answers to questions about nodes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Answer {
    /// Numbers of the questions
    #[arg(value_name = "NUMBER")]
    pub(crate) requests: Vec<u64>,

    /// Send these nodes away
    #[arg(long, requires = "requests", conflicts_with = "all")]
    pub(crate) deny: bool,

    /// Let everybody in, also those who come later
    #[arg(long, conflicts_with = "requests")]
    pub(crate) all: bool,

    /// Session of the run
    #[arg(short = 's', long, value_name = "SESSION", default_value = DEFAULT_SESSION)]
    pub(crate) session: String,

    #[command(flatten)]
    pub(crate) at: StateDir,
}

/// Where the key is.
#[derive(Debug, Clone, Args)]
pub(crate) struct StateDir {
    /// Where the server's key lives
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    pub(crate) state_dir: PathBuf,
}
