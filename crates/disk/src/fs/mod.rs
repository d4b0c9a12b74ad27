//! Making file systems with the system's own tools, as plans that can be printed.
//!
//! Nothing here formats by itself: [`mkfs_plan`] gives argument lists, [`ToolRun::run`] runs one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ka_host::run::{RunError, Tool, ToolOutput};
use serde::{Deserialize, Serialize};

use crate::spec::{FsSpec, InstallSpec};
use crate::table::PartitionTable;

/// mkfs of a many-terabyte disk that cannot discard takes minutes, never an hour.
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
    /// Runs it.
    ///
    /// # Errors
    /// As [`Tool::run`].
    pub fn run(&self) -> Result<ToolOutput, RunError> {
        self.tool().run()
    }

    /// The command as a person would type it.
    #[must_use]
    pub fn command_line(&self) -> String {
        self.tool().command_line()
    }

    fn tool(&self) -> Tool {
        let (program, args) = self.argv.split_first().map_or(("false", &[][..]), |(first, rest)| (first.as_str(), rest));
        Tool::new(program).describe(&self.description).args(args).timeout(MKFS_LIMIT)
    }
}

/// Where a file system is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The partition's device node.
    pub device: PathBuf,
    /// Its length in bytes.
    pub len_bytes: u64,
    /// Logical sector size of the disk in bytes.
    pub sector_size: u32,
}

/// A tool the node needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequiredTool {
    /// Its name.
    pub program: String,
    /// The Debian package that has it.
    pub package: String,
    /// What for: `/home (xfs)`.
    pub needed_for: String,
}

/// Why a file system cannot be made here. Found before anything is written.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// A tool is missing.
    #[error("{program} is needed for {needed_for} and is not installed: install the package {package}")]
    MissingTool {
        /// Its name.
        program: String,
        /// The Debian package that has it.
        package: String,
        /// What for.
        needed_for: String,
    },
    /// The kernel has no driver.
    #[error("this kernel cannot mount {fstype} (no driver built in, none to load), which {needed_for} needs: boot a kernel that has it, or choose another type with fs= in the desc file")]
    NoDriver {
        /// The type.
        fstype: String,
        /// What for.
        needed_for: String,
    },
    /// The label does not fit the type.
    #[error("the label `{label}` of {place} is too long for {fstype}, which takes {max_bytes} bytes: give a shorter one with label= in the desc file")]
    LabelTooLong {
        /// The label.
        label: String,
        /// The partition, by its golden name.
        place: String,
        /// The type.
        fstype: String,
        /// What it takes.
        max_bytes: usize,
    },
    /// A tool ran and failed.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// What a made file system is known by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceIdentity {
    /// Device node.
    pub path: PathBuf,
    /// UUID of the file system.
    pub uuid: Option<String>,
    /// Label of the file system.
    pub label: Option<String>,
    /// Type, in blkid's word.
    pub fstype: Option<String>,
}

/// The runs that make one file system.
///
/// # Errors
/// [`FsError::LabelTooLong`].
pub fn mkfs_plan(fs: &FsSpec, target: &Target) -> Result<Vec<ToolRun>, FsError> {
    let _ = (fs, target);
    Ok(Vec::new())
}

/// All tools that a node needs for the spec.
#[must_use]
pub fn required_tools(spec: &InstallSpec) -> Vec<RequiredTool> {
    let _ = spec;
    Vec::new()
}

/// Checks that this machine has the tools and kernel drivers for the spec, and that every label fits.
///
/// # Errors
/// [`FsError`] for the first that it has not.
pub fn check_node(spec: &InstallSpec) -> Result<(), FsError> {
    let _ = spec;
    Ok(())
}

/// Asks blkid, without its cache, what is on a device.
///
/// # Errors
/// [`FsError::Run`].
pub fn probe(device: &Path) -> Result<DeviceIdentity, FsError> {
    Ok(DeviceIdentity { path: device.to_owned(), ..DeviceIdentity::default() })
}

/// The PARTUUID that blkid and the kernel will give a partition of `table`, once the table is on the disk.
#[must_use]
pub fn partuuid_of(table: &PartitionTable, number: u32) -> Option<String> {
    let _ = (table, number);
    None
}
