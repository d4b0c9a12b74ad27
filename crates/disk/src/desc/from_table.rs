//! The desc file of a disk's partition table: it makes such a disk again.

use super::{Desc, DescEntry, LEGACY_BOOT_BIT, MIB, Size};
use crate::table::{PartType, Partition, PartitionTable, TableKind};

impl Desc {
    /// Returns the desc file that reproduces `table`.
    ///
    /// Lines follow the order on the disk, so `number=` appears if the numbers do not follow it. Sizes are
    /// whole MiB, rounded up so that no partition shrinks. The exception is the last partition: if it reaches
    /// the end of the disk (or of the extended partition), its size is `fill`. Unused space between
    /// partitions is not kept.
    pub fn from_table(table: &PartitionTable, origin: &str) -> Self {
        let mut primaries: Vec<&Partition> = table.partitions.iter().filter(|part| !part.logical).collect();
        primaries.sort_by_key(|part| part.start_bytes);
        let logicals: Vec<&Partition> = table.partitions.iter().filter(|part| part.logical).collect();
        let mut entries = Vec::new();
        let end_bytes = usable_end_bytes(table);
        for part in &primaries {
            let last = primaries
                .iter()
                .all(|other| other.start_bytes <= part.start_bytes);
            let extended = part.kind.is_extended();
            let size = if last && reaches(part, end_bytes) {
                Size::Fill
            } else if extended {
                Size::Mib(mib(part).max(logicals.iter().map(|part| mib(part) + 1).sum()))
            } else {
                Size::Mib(mib(part))
            };
            entries.push(entry(part, size));
            if extended {
                entries.extend(logical_entries(&logicals, part.end_bytes()));
            }
        }
        if table.kind == TableKind::Mbr {
            keep_one_boot(&mut entries);
        }
        keep_numbers(&mut entries);
        for (line, entry) in (2..).zip(&mut entries) {
            entry.line = line;
        }
        Self {
            origin: origin.to_owned(),
            table: Some(table.kind),
            pmbr_boot: table.pmbr_boot,
            entries,
        }
    }
}

/// Returns the lines of the logical partitions in the order of their numbers, which `number=` cannot change.
fn logical_entries(logicals: &[&Partition], end_bytes: u64) -> Vec<DescEntry> {
    let last_start = logicals.iter().map(|part| part.start_bytes).max();
    let line = |part: &&Partition| {
        let fills = Some(part.start_bytes) == last_start && reaches(part, end_bytes);
        entry(part, if fills { Size::Fill } else { Size::Mib(mib(part)) })
    };
    logicals.iter().map(line).collect()
}

fn entry(part: &Partition, size: Size) -> DescEntry {
    let kind = match (part.kind, part.kind.known()) {
        // A byte keeps its name if the name stands for that byte only; FAT has several bytes that differ in
        // meaning.
        (PartType::Mbr(byte), Some(known)) if known.mbr_byte() == Some(byte) => PartType::Named(known),
        (PartType::Gpt(_), Some(known)) => PartType::Named(known),
        (kind, _) => kind,
    };
    DescEntry {
        logical: part.logical,
        number: Some(part.number),
        name: part.name.clone(),
        boot: part.bootable,
        attrs: part.attrs & !(1 << LEGACY_BOOT_BIT),
        ..DescEntry::new(0, kind, size)
    }
}

/// Keeps only the first `boot`: a BIOS starts the first active partition it finds, and a desc line refuses a
/// second one.
fn keep_one_boot(entries: &mut [DescEntry]) {
    for entry in entries.iter_mut().filter(|entry| entry.boot).skip(1) {
        entry.boot = false;
    }
}

/// Drops every `number=` that repeats the number that KA would give anyway.
fn keep_numbers(entries: &mut [DescEntry]) {
    for entry in entries.iter_mut().filter(|entry| entry.logical) {
        entry.number = None;
    }
    let in_order = (1..).zip(entries.iter().filter(|entry| !entry.logical));
    if in_order
        .into_iter()
        .all(|(number, entry)| entry.number == Some(number))
    {
        for entry in entries {
            entry.number = None;
        }
    }
}

/// Returns the end that a `fill` would reach: the last whole MiB before the backup GPT, or of the disk.
fn usable_end_bytes(table: &PartitionTable) -> u64 {
    let end_bytes = table.kind.usable_end_bytes(table.disk_bytes, table.sector_size);
    end_bytes / MIB * MIB
}

/// True if less than a MiB is free behind the partition.
fn reaches(part: &Partition, end_bytes: u64) -> bool {
    part.end_bytes() + MIB > end_bytes
}

fn mib(part: &Partition) -> u64 {
    part.len_bytes.div_ceil(MIB)
}
