//! The command line of `ka-desc` (issue "Clone a golden node", §2).

use std::path::PathBuf;

use clap::Parser;
use ka_disk::desc::{MIB, Size};
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
    #[arg(value_name = "DISK", required_unless_present_any = ["check", "man"], conflicts_with = "check")]
    pub(crate) disk: Option<PathBuf>,

    /// Explain the desc file FILE instead: what each of its lines becomes
    #[arg(long, value_name = "FILE")]
    pub(crate) check: Option<PathBuf>,

    /// With --check: on a disk of this size (8G, 500M; a bare number is MiB); without it, on the smallest that will do
    #[arg(long, value_name = "SIZE", value_parser = disk_bytes, conflicts_with = "disk")]
    pub(crate) disk_size: Option<u64>,

    /// Sector size in bytes of an image file or of the disk for --check [default: what is found, else 512]
    #[arg(long, value_name = "BYTES", value_parser = sector_size)]
    pub(crate) sector_size: Option<u32>,

    /// With --check: kind of the golden drive's table (mbr or gpt), for a file without a `table` line
    #[arg(long, value_name = "KIND", conflicts_with = "disk")]
    pub(crate) table: Option<TableKind>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// Print the manual page (roff)
    #[arg(long, exclusive = true)]
    pub(crate) man: bool,
}

fn disk_bytes(text: &str) -> Result<u64, String> {
    match text.parse::<Size>() {
        Ok(Size::Bytes(bytes)) => Ok(bytes),
        Ok(Size::Mib(mib)) => Ok(mib * MIB),
        _ => Err("write a size like 8G, 500M or 4096 (MiB)".to_owned()),
    }
}

fn sector_size(text: &str) -> Result<u32, String> {
    match text {
        "512" => Ok(512),
        "4096" => Ok(4096),
        _ => Err("write 512 or 4096".to_owned()),
    }
}
