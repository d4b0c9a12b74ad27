//! File systems made with the system's own tools, as plans that can be printed.
//!
//! [`mkfs_plan`] returns argument lists and runs nothing; [`ToolRun::run`] runs one. [`check_node`] finds a
//! missing tool, a missing driver or a label that is too long, before anything is written. [`probe()`] asks
//! blkid for the contents of a device.

mod check;
mod ext;
mod mkfs;
mod probe;
mod swap_file;
mod tools;

use std::path::PathBuf;
use std::time::Duration;

use ka_host::run::{RunError, Tool, ToolOutput};
use serde::{Deserialize, Serialize};

pub(crate) use ext::wanted_inodes;

pub use check::{RequiredTool, check_node, required_tools};
pub(crate) use mkfs::is_known_xfs_feature;
pub use mkfs::{check_label, mkfs_plan};
pub use probe::{DeviceIdentity, probe, probe_area};
pub use swap_file::{SwapFileError, make_swap_file};
pub use tools::{ToolVersion, ToolVersions};

/// Time limit of one mkfs run. On a disk of many terabytes that cannot discard, mkfs takes minutes, never an
/// hour.
const MKFS_LIMIT: Duration = Duration::from_secs(3600);

/// One run of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolRun {
    /// Gerund and object: `Formatting /dev/sda2 as ext4`.
    pub description: String,
    /// Program and arguments.
    pub argv: Vec<String>,
}

impl ToolRun {
    /// Runs the tool with a time limit of one hour.
    ///
    /// # Errors
    /// As [`Tool::run`].
    pub fn run(&self) -> Result<ToolOutput, RunError> {
        self.tool().run()
    }

    /// Returns the command as a person would type it.
    #[must_use]
    pub fn command_line(&self) -> String {
        self.tool().command_line()
    }

    fn tool(&self) -> Tool {
        let program = self.argv.first().map_or("", String::as_str);
        Tool::new(program)
            .describe(&self.description)
            .args(self.argv.iter().skip(1))
            .timeout(MKFS_LIMIT)
    }
}

/// The device on which a file system is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The partition's device node.
    pub device: PathBuf,
    /// Length of the partition in bytes.
    pub len_bytes: u64,
    /// Logical sector size of the disk in bytes.
    pub sector_size: u32,
}

/// The reason why a file system cannot be made here. All but the last are found before anything is written.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// A tool is missing.
    #[error("{program} is needed for {needed_for} and is not installed: install the package {package}")]
    MissingTool {
        /// Name of the program.
        program: String,
        /// Debian package that contains it.
        package: String,
        /// Mount point and type that need it.
        needed_for: String,
    },
    /// The kernel has no driver.
    #[error(
        "this kernel cannot mount {fstype} (not built in, no module to load), needed for {needed_for}: \
         boot a kernel that can, or choose another type with fs= in the desc file"
    )]
    NoDriver {
        /// Type of the file system, as fstab names it.
        fstype: String,
        /// Mount point that needs it.
        needed_for: String,
    },
    /// The label does not fit the type.
    #[error(
        "the label `{label}` of {place} is too long for {fstype}, which takes {max_bytes} bytes: \
         give a shorter one with label= in the desc file"
    )]
    LabelTooLong {
        /// The label that is too long.
        label: String,
        /// The partition, by its golden name.
        place: String,
        /// Type of the file system, as fstab names it.
        fstype: String,
        /// Longest label of that type in bytes.
        max_bytes: usize,
    },
    /// A tool ran and failed.
    #[error(transparent)]
    Run(#[from] RunError),
}
