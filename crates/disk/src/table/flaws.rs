//! Flaws that make a partition table impossible: checked after one is read and before one is written.
//!
//! A table may come from a damaged disk or over the network, so nothing here trusts its numbers.

use super::{DiskId, MBR_SECTORS, PartType, Partition, PartitionTable, TableKind, gpt};
use crate::desc::{LEGACY_BOOT_BIT, MAX_NAME_UNITS};

/// True if a disk can have sectors of this many bytes.
pub(crate) fn is_sector_size(bytes: u32) -> bool {
    (512..=4096).contains(&bytes) && bytes.is_power_of_two()
}

/// A flaw in words, naming the partition.
type Checked = Result<(), String>;

/// Checks everything that has to hold before a table is written.
pub(super) fn check(table: &PartitionTable) -> Checked {
    check_read(table)?;
    match table.kind {
        TableKind::Mbr => writable_mbr(table),
        TableKind::Gpt => writable_gpt(table),
    }
}

/// Checks what has to hold for any table, even one that KA would not write like this.
pub(super) fn check_read(table: &PartitionTable) -> Checked {
    if !is_sector_size(table.sector_size) {
        return Err(format!("a sector size of {} bytes", table.sector_size));
    }
    let mut last_number = 0;
    for part in &table.partitions {
        if part.number <= last_number {
            return Err(format!("partition {} comes after {last_number}", part.number));
        }
        last_number = part.number;
        bounds(table, part)?;
    }
    match table.kind {
        TableKind::Mbr => mbr_shape(table)?,
        TableKind::Gpt => {}
    }
    for logical in [false, true] {
        overlaps(
            table
                .partitions
                .iter()
                .filter(|part| part.logical == logical)
                .collect(),
        )?;
    }
    Ok(())
}

fn bounds(table: &PartitionTable, part: &Partition) -> Checked {
    let sector_bytes = u64::from(table.sector_size);
    let whole = |bytes: u64| bytes.is_multiple_of(sector_bytes);
    if part.len_bytes == 0 || part.start_bytes == 0 {
        return Err(format!(
            "partition {} is empty or starts at the very beginning of the disk",
            part.number
        ));
    }
    if !whole(part.start_bytes) || !whole(part.len_bytes) {
        return Err(format!(
            "partition {} (start {}, length {} bytes) does not lie on whole {sector_bytes}-byte sectors",
            part.number, part.start_bytes, part.len_bytes
        ));
    }
    if part.end_bytes() > table.disk_bytes {
        return Err(format!(
            "partition {} ends at byte {}, behind the end of the disk at {}",
            part.number,
            part.end_bytes(),
            table.disk_bytes
        ));
    }
    Ok(())
}

fn overlaps(mut parts: Vec<&Partition>) -> Checked {
    parts.sort_by_key(|part| part.start_bytes);
    match parts
        .windows(2)
        .find(|pair| pair[0].end_bytes() > pair[1].start_bytes)
    {
        Some(pair) => Err(format!(
            "partitions {} and {} overlap",
            pair[0].number, pair[1].number
        )),
        None => Ok(()),
    }
}

/// Checks that there is at most one extended partition, with the logical ones inside it, numbered from 5
/// without gaps.
fn mbr_shape(table: &PartitionTable) -> Checked {
    let primaries = || table.partitions.iter().filter(|part| !part.logical);
    if primaries().filter(|part| part.kind.is_extended()).count() > 1 {
        return Err("more than one extended partition".to_owned());
    }
    if let Some(part) = primaries().find(|part| part.number > 4) {
        return Err(format!(
            "primary partition {} on an mbr, which has four",
            part.number
        ));
    }
    for (expected, part) in (5..).zip(table.partitions.iter().filter(|part| part.logical)) {
        let Some(extended) = table.extended() else {
            return Err(format!(
                "logical partition {} without an extended one",
                part.number
            ));
        };
        if part.number != expected || part.kind.is_extended() {
            return Err(format!(
                "partition {} where logical partition {expected} belongs",
                part.number
            ));
        }
        // The sector at the start of the extended partition is the first boot record's.
        if part.start_bytes <= extended.start_bytes || part.end_bytes() > extended.end_bytes() {
            return Err(format!(
                "logical partition {} is not inside the extended one",
                part.number
            ));
        }
    }
    Ok(())
}

fn writable_mbr(table: &PartitionTable) -> Checked {
    if !matches!(table.disk_id, DiskId::Mbr(_)) {
        return Err("an mbr with a GUID as disk id".to_owned());
    }
    let limit = MBR_SECTORS * u64::from(table.sector_size);
    for part in &table.partitions {
        if !matches!(part.kind, PartType::Mbr(1..)) {
            return Err(format!("partition {} has no MBR type", part.number));
        }
        if part.end_bytes() > limit {
            return Err(format!(
                "partition {} ends at byte {}, beyond the {limit} that an mbr with {}-byte sectors can address",
                part.number,
                part.end_bytes(),
                table.sector_size
            ));
        }
        if part.name.is_some() || part.attrs != 0 || part.uuid.is_some() {
            return Err(format!(
                "partition {} has a name, attributes or GUID that an mbr cannot keep",
                part.number
            ));
        }
    }
    Ok(())
}

fn writable_gpt(table: &PartitionTable) -> Checked {
    if !matches!(table.disk_id, DiskId::Gpt(_)) {
        return Err("a gpt without a disk GUID".to_owned());
    }
    if let Some(part) = table
        .partitions
        .last()
        .filter(|part| part.number > gpt::MAX_ENTRIES)
    {
        return Err(format!(
            "partition {} on a gpt, which has {}",
            part.number,
            gpt::MAX_ENTRIES
        ));
    }
    let first = gpt::first_usable_bytes(table.sector_size, gpt::entry_count(table));
    let end = gpt::usable_end_bytes(table.disk_bytes, table.sector_size, gpt::entry_count(table));
    for (index, part) in table.partitions.iter().enumerate() {
        let refuse = |what: &str| Err(format!("partition {} {what}", part.number));
        if !matches!(part.kind, PartType::Gpt(guid) if !guid.is_nil()) {
            return refuse("has no GPT type");
        }
        if part.start_bytes < first || part.end_bytes() > end {
            return refuse(&format!(
                "is not within bytes {first} to {end}, between the two copies of the gpt"
            ));
        }
        if part.uuid.is_none_or(|uuid| uuid.is_nil()) {
            return refuse("has no GUID of its own");
        }
        if table.partitions[..index]
            .iter()
            .any(|other| other.uuid == part.uuid)
        {
            return refuse("has the same GUID as another partition");
        }
        if part
            .name
            .as_ref()
            .is_some_and(|name| name.encode_utf16().count() > MAX_NAME_UNITS)
        {
            return refuse("has a name of more than 36 UTF-16 units");
        }
        if part.logical {
            return refuse("is logical, which a gpt has not");
        }
        if part.bootable != (part.attrs >> LEGACY_BOOT_BIT & 1 == 1) {
            return refuse("is bootable by its flag or by its attributes, but not by both");
        }
    }
    Ok(())
}
