//! The options about what the server shows.

use clap::Args;

/// Options about standard output and the terminal.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputOptions {
    /// Print everything that would be sent and done, touch nothing, open no port
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// JSON on standard output: events as lines, or the plan of --dry-run
    #[arg(long)]
    pub(crate) json: bool,

    /// Show failures and totals only
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,

    /// Show each node's single steps, too; the log (--log-dir) always has them
    #[arg(short = 'v', long, conflicts_with = "quiet")]
    pub(crate) verbose: bool,

    /// Golden files that cannot be read do not make the run a failure (exit code 3); they are named all the same
    #[arg(long)]
    pub(crate) allow_unreadable: bool,
}
