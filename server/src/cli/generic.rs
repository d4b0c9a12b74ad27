//! The options of the generic mode: the source of the stream.

use std::path::PathBuf;

use clap::Args;

use super::boot::BOOT_CLONE_ONLY;
use super::golden::CLONE_ONLY;

/// Options about a stream of the operator's own. Without one of them, the golden node is cloned.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Any stream instead of a clone")]
pub(crate) struct GenericOptions {
    /// Generic mode: send what COMMAND writes (sh -c); the nodes pipe it into their own command
    #[arg(short = 'e', long = "exec", value_name = "COMMAND", conflicts_with = "input",
          conflicts_with_all = CLONE_ONLY, conflicts_with_all = BOOT_CLONE_ONLY)]
    pub(crate) exec: Option<String>,

    /// Generic mode: send FILE (a file, a device, a named pipe) instead of a command's output
    #[arg(long, value_name = "FILE", conflicts_with_all = CLONE_ONLY,
          conflicts_with_all = BOOT_CLONE_ONLY)]
    pub(crate) input: Option<PathBuf>,
}
