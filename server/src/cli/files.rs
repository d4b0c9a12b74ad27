//! The options about the files that the server writes.

use std::path::PathBuf;

use clap::Args;

use super::DEFAULT_STATE_DIR;

/// Options about the server's own files.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Files")]
pub(crate) struct FileOptions {
    /// Where the server's key lives, and what is kept of a run until it ends
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    pub(crate) state_dir: PathBuf,

    /// Write a log of the run, one of each node, and the report as JSON into DIR
    #[arg(long, value_name = "DIR")]
    pub(crate) log_dir: Option<PathBuf>,

    /// Write the join code to FILE, readable by its owner only; an existing FILE is replaced
    #[arg(long, value_name = "FILE")]
    pub(crate) join_file: Option<PathBuf>,
}
