//! The command line of `ka-desc`.

use std::path::PathBuf;

use clap::Parser;
use ka_disk::desc::MIB;
use ka_disk::table::TableKind;

/// Write the desc file that makes a disk like DISK, or explain a desc file.
///
/// Nothing is ever written to a disk.
#[derive(Debug, Parser)]
#[command(name = "ka-desc", version)]
#[command(
    after_help = "Exit codes: 0 done; 1 the disk could not be read, has no partition table, or the desc file is \
                        wrong (FILE:LINE: what is wrong, what to do); 2 wrong usage."
)]
pub(crate) struct Options {
    /// Disk to describe: a name like sda, a device path or an image file
    #[arg(
        value_name = "DISK",
        required_unless_present_any = ["check", "golden"],
        conflicts_with = "check"
    )]
    pub(crate) disk: Option<PathBuf>,

    /// Explain the desc file FILE instead: what each of its lines becomes
    #[arg(long, value_name = "FILE")]
    pub(crate) check: Option<PathBuf>,

    /// Describe this machine's mount points instead, each as a line with mount=: for a golden node with LVM, LUKS, RAID or
    /// a file system on a whole disk, whose clones get plain partitions
    #[arg(long, conflicts_with_all = ["disk", "check"])]
    pub(crate) golden: bool,

    /// With --golden: golden tree, when it is not this machine's own
    #[arg(long, value_name = "DIR", default_value = "/", conflicts_with_all = ["disk", "check"])]
    pub(crate) root: PathBuf,

    /// With --check: on a disk of this size (8G, 500M; a bare number is MiB); without it, on the smallest that will do
    #[arg(long, value_name = "SIZE", value_parser = disk_bytes, conflicts_with_all = ["disk", "golden"])]
    pub(crate) disk_size: Option<u64>,

    /// Sector size in bytes of an image file or of the disk for --check [default: what is found, else 512]
    #[arg(long, value_name = "BYTES", value_parser = sector_size, conflicts_with = "golden")]
    pub(crate) sector_size: Option<u32>,

    /// With --check: kind of the golden drive's table (mbr or gpt), for a file without a `table` line
    #[arg(long, value_name = "KIND", conflicts_with_all = ["disk", "golden"])]
    pub(crate) table: Option<TableKind>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn disk_bytes(text: &str) -> Result<u64, String> {
    match ka_units::size(text, MIB) {
        Ok(0) => Err("a disk has at least 1 MiB".to_owned()),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(format!("{error}; a bare number is MiB")),
    }
}

fn sector_size(text: &str) -> Result<u32, String> {
    match text {
        "512" => Ok(512),
        "4096" => Ok(4096),
        _ => Err("write 512 or 4096".to_owned()),
    }
}
