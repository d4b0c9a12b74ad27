//! The options about the golden node: the parts of it that are cloned, and how each clone is checked.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use clap::builder::TypedValueParser;
use ka_disk::spec::ReadBackWhen;

use super::words::words;

/// Options that mean nothing for a stream of the operator's own, together with [`super::boot::BOOT_CLONE_ONLY`].
pub(super) const CLONE_ONLY: [&str; 11] = [
    "verify",
    "partitions",
    "exclude",
    "exclude_disks",
    "snapshots",
    "boot_code",
    "boot_code_file",
    "raw",
    "boot_loader",
    "root",
    "keep_uuids",
];

/// Options about the golden node and its clones.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "What is cloned")]
pub(crate) struct GoldenOptions {
    /// Use the desc file DESC for the partition table of DRIVE, instead of the drive's own table (repeatable)
    #[arg(short = 'p', long = "partitions", num_args = 2, value_names = ["DRIVE", "DESC"])]
    pub(crate) partitions: Vec<OsString>,

    /// Leave out the contents of DIR; the clone gets the empty directory (repeatable, or 'DIR|DIR')
    #[arg(short = 'x', long = "exclude", value_name = "DIR")]
    pub(crate) exclude: Vec<OsString>,

    /// Clone btrfs snapshots too, each in full; without it they stay at home (a snapshot that is mounted by fstab is cloned)
    #[arg(long)]
    pub(crate) snapshots: bool,

    /// Leave these disks out: 'sdb|sdc'
    #[arg(short = 'X', long = "exclude-disks", value_name = "DRIVES")]
    pub(crate) exclude_disks: Vec<String>,

    /// Also copy the boot code (446 bytes) of DRIVE's master boot record (repeatable)
    #[arg(short = 'm', long = "boot-code", value_name = "DRIVE")]
    pub(crate) boot_code: Vec<String>,

    /// Use FILE (446 bytes) as the boot code of DRIVE's master boot record (repeatable)
    #[arg(short = 'M', long = "boot-code-file", num_args = 2, value_names = ["DRIVE", "FILE"])]
    pub(crate) boot_code_file: Vec<OsString>,

    /// Also copy partition PART raw, byte for byte: sda2 (repeatable)
    #[arg(short = 'D', long = "raw", value_name = "PART")]
    pub(crate) raw: Vec<String>,

    /// Boot loader to reinstall, with options for the initrd tool: 'grub --with=ata_piix'. By default the golden node's; none
    /// installs none, and clones what could not boot by itself
    #[arg(short = 'r', long = "boot-loader", value_name = "LOADER")]
    pub(crate) boot_loader: Option<String>,

    /// Golden tree, when it is not this machine's own: DIR/etc/fstab says what is mounted where
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,

    /// Give the clones the golden file systems' and partitions' own UUIDs
    #[arg(long)]
    pub(crate) keep_uuids: bool,

    /// Read back what was written and compare it before the clone is changed or made bootable: when it costs less than a
    /// tenth of the run (auto), whatever it costs (always, also without a word), or never
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = verify(), num_args = 0..=1,
          default_missing_value = "always", require_equals = true)]
    pub(crate) verify: ReadBackWhen,
}

/// Returns the parser of `--verify`.
fn verify() -> impl TypedValueParser<Value = ReadBackWhen> {
    words([
        (
            "auto",
            "When it costs less than a tenth of the run; each node finds out",
            ReadBackWhen::Auto,
        ),
        ("always", "Whatever it costs", ReadBackWhen::Always),
        ("never", "Not at all", ReadBackWhen::Never),
    ])
}
