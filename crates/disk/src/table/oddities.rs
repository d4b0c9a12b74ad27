//! Unusual features of a disk's table that a clone will not have, or that need a repair.

use std::fs::File;
use std::io::{Seek, SeekFrom};

use super::disk::Disk;
use super::read::PROTECTIVE;
use super::{boot_record, flaws, gpt_read};

const MIB: u64 = 1 << 20;

/// Returns one line for each oddity of a GPT. These are a damaged copy, a backup that is not at the end, and
/// an MBR with partitions of its own beside the protective one. Empty for an MBR, an empty disk, and a table
/// that cannot be read.
#[must_use]
pub fn oddities(disk: &File, sector_size: u32) -> Vec<String> {
    let mut source = disk;
    let Ok(disk_bytes) = source.seek(SeekFrom::End(0)) else {
        return Vec::new();
    };
    if !flaws::is_sector_size(sector_size) || disk_bytes < 2 * u64::from(sector_size) {
        return Vec::new();
    }
    let mut disk = Disk {
        source: &mut source,
        disk_bytes,
        sector_size,
    };
    let Some(entries) = disk
        .sector(0)
        .ok()
        .and_then(|sector| boot_record::decode_entries(&sector))
    else {
        return Vec::new();
    };
    if !entries.iter().any(|entry| entry.kind == PROTECTIVE) {
        return Vec::new();
    }
    let mut told = Vec::new();
    let others = entries
        .iter()
        .filter(|entry| entry.is_used() && entry.kind != PROTECTIVE);
    if others.count() > 0 {
        told.push(
            "hybrid MBR: its own partitions are not described; clones get a plain protective MBR".to_owned(),
        );
    }
    let copies = gpt_read::copies(&mut disk);
    if let Some(what) = copies.primary_flaw {
        told.push(format!(
            "the primary GPT is damaged ({what}); this is read from its backup (sgdisk -v shows more, sgdisk -e repairs)"
        ));
    }
    if let Some(bytes) = copies.bytes_behind {
        told.push(format!(
            "the backup GPT is not at the end of the disk: {} MiB behind it are unused (sgdisk -e moves it)",
            bytes / MIB
        ));
    } else if let Some(what) = copies.backup_flaw {
        told.push(format!(
            "the backup GPT is damaged ({what}); sgdisk -e repairs it"
        ));
    }
    told
}
