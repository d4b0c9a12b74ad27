//! The chain of extended boot records that holds an MBR's logical partitions.
//!
//! Each logical partition has a boot record of its own somewhere before it. Its first entry is the partition,
//! counted from the record; its second is the next record, counted from the start of the extended partition.
//! Both are 32 bits of sectors, so positions are computed in 64 bits and narrowed at the end. A chain that
//! wraps at 4 GiB or 2 TiB would overwrite the disk's start.

use std::io;

use super::boot_record::{self, Entry};
use super::{Chunk, MBR_SECTORS, PartType, Partition, PartitionTable, TableError};
use crate::desc::MIB;

/// The most logical partitions that are read: the kernel itself stops at 255 partitions a disk.
const MAX_LOGICALS: usize = 250;

/// The type of the link to the next record: plain extended, whatever byte the container has.
const LINK_TYPE: u8 = 0x05;

/// Makes the boot records of all logical partitions.
pub(super) fn encode(table: &PartitionTable) -> Result<Vec<Chunk>, String> {
    let Some(extended) = table.extended() else {
        return Ok(Vec::new());
    };
    let sector_bytes = u64::from(table.sector_size);
    let base = extended.start_bytes / sector_bytes;
    let logicals: Vec<&Partition> = table.partitions.iter().filter(|part| part.logical).collect();
    let places = record_places(extended, &logicals, sector_bytes)?;
    if logicals.is_empty() {
        return Ok(vec![boot_record::record(base, table.sector_size, &[])]);
    }
    let mut chunks = Vec::new();
    for (index, part) in logicals.iter().enumerate() {
        let at = places[index];
        let mut entries = vec![boot_record::entry(part, at, table.sector_size)?.encode(at)];
        if let (Some(next), Some(next_at)) = (logicals.get(index + 1), places.get(index + 1)) {
            let end = next.end_bytes() / sector_bytes;
            entries.push(link(base, *next_at, end)?.encode(base));
        }
        chunks.push(boot_record::record(at, table.sector_size, &entries));
    }
    Ok(chunks)
}

/// Makes the link to the record at `at`, whose partition ends before `end`.
fn link(base: u64, at: u64, end: u64) -> Result<Entry, String> {
    let narrow =
        |value: u64| u32::try_from(value).map_err(|_| "an EBR beyond 32-bit sector numbers".to_owned());
    Ok(Entry {
        active: false,
        kind: LINK_TYPE,
        start: narrow(at - base)?,
        sectors: narrow(end - at)?,
    })
}

/// Returns the sector of each logical partition's record: a MiB before it, or less if there is less room.
///
/// The first record of the chain is at the start of the extended partition, where the kernel looks for it.
/// Partitions of a copied table may lie in another order than that of their numbers.
fn record_places(
    extended: &Partition,
    logicals: &[&Partition],
    sector_bytes: u64,
) -> Result<Vec<u64>, String> {
    let first_free = extended.start_bytes + sector_bytes;
    let place = |(index, part): (usize, &&Partition)| {
        if index == 0 {
            return Ok(extended.start_bytes / sector_bytes);
        }
        let ends = logicals
            .iter()
            .map(|other| other.end_bytes())
            .filter(|end| *end <= part.start_bytes);
        let room = ends.fold(first_free, u64::max);
        if room + sector_bytes > part.start_bytes {
            return Err(format!(
                "partition {} leaves no sector before it for its EBR",
                part.number
            ));
        }
        Ok(room.max(part.start_bytes.saturating_sub(MIB)) / sector_bytes)
    };
    logicals.iter().enumerate().map(place).collect()
}

/// Reads the logical partitions of `extended`; `read_sector` gives a sector of the disk.
pub(super) fn decode(
    extended: &Partition,
    sector_size: u32,
    mut read_sector: impl FnMut(u64) -> io::Result<Vec<u8>>,
) -> Result<Vec<Partition>, TableError> {
    let damaged = |what: String| Err(TableError::Damaged(what));
    let sector_bytes = u64::from(sector_size);
    let base = extended.start_bytes / sector_bytes;
    let end = extended.end_bytes() / sector_bytes;
    let mut seen = Vec::new();
    let mut logicals = Vec::new();
    let mut next = Some(base);
    while let Some(at) = next {
        if seen.contains(&at) {
            return damaged(format!(
                "the chain of logical partitions runs in a circle at sector {at}"
            ));
        }
        if at < base || at >= end || at >= MBR_SECTORS {
            return damaged(format!(
                "the chain of logical partitions leaves the extended one to sector {at}"
            ));
        }
        if seen.len() >= MAX_LOGICALS {
            return damaged(format!("more than {MAX_LOGICALS} logical partitions"));
        }
        seen.push(at);
        let Some([first, second, ..]) = boot_record::decode_entries(&read_sector(at)?) else {
            return damaged(format!(
                "sector {at} in the chain of logical partitions is no boot record"
            ));
        };
        let mut link = None;
        for entry in [first, second].into_iter().filter(Entry::is_used) {
            if PartType::Mbr(entry.kind).is_extended() {
                link = link.or(Some(base + u64::from(entry.start)));
            } else {
                // The chain is bounded, so the number stays small.
                let number = u32::try_from(logicals.len()).unwrap_or(u32::MAX - 5) + 5;
                logicals.push(Partition {
                    logical: true,
                    ..entry.partition(number, at, sector_bytes)
                });
            }
        }
        next = link;
    }
    Ok(logicals)
}
