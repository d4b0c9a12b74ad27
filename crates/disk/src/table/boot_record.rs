//! A boot record: four entries in one sector. Sector 0 of an MBR disk is one, and so is each sector of the chain of
//! logical partitions.

use super::{Chunk, PartType, Partition, chs};

/// Offset of the four entries in a boot record.
pub(super) const ENTRIES_AT: usize = 446;

/// Length of one entry in bytes.
pub(super) const ENTRY_LEN: usize = 16;

/// The last two bytes of every boot record.
pub(super) const SIGNATURE: [u8; 2] = [0x55, 0xaa];

/// One of the four entries of a boot record, in sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) active: bool,
    pub(super) kind: u8,
    /// First sector: counted from the start of the disk, or from the start that its boot record counts from.
    pub(super) start: u32,
    pub(super) sectors: u32,
}

impl Entry {
    /// True if the slot holds a partition; the type alone or the length alone makes none.
    pub(super) fn is_used(&self) -> bool {
        self.kind != 0 && self.sectors != 0
    }

    /// Returns the partition that the entry stands for; `base` is the sector that `start` counts from.
    pub(super) fn partition(&self, number: u32, base: u64, sector_bytes: u64) -> Partition {
        let start_bytes = (base + u64::from(self.start)) * sector_bytes;
        let len_bytes = u64::from(self.sectors) * sector_bytes;
        let kind = PartType::Mbr(self.kind);
        Partition {
            bootable: self.active,
            ..Partition::new(number, start_bytes, len_bytes, kind)
        }
    }

    /// Writes the entry; `base` is the sector that `start` counts from.
    pub(super) fn encode(&self, base: u64) -> [u8; ENTRY_LEN] {
        let first = base + u64::from(self.start);
        let mut bytes = [0; ENTRY_LEN];
        bytes[0] = if self.active { 0x80 } else { 0 };
        bytes[1..4].copy_from_slice(&chs::encode(first));
        bytes[4] = self.kind;
        bytes[5..8].copy_from_slice(&chs::encode(first + u64::from(self.sectors) - 1));
        bytes[8..12].copy_from_slice(&self.start.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.sectors.to_le_bytes());
        bytes
    }
}

/// Decodes the four entries of a boot record; `None` if the sector is no boot record.
///
/// Like the kernel, this refuses a sector whose entries have an unusual first byte. Such a sector may end in
/// 0x55AA because it is the boot sector of a FAT or NTFS file system on the whole disk.
pub(super) fn decode_entries(sector: &[u8]) -> Option<[Entry; 4]> {
    if sector.get(510..512)? != SIGNATURE {
        return None;
    }
    let slot = |index: usize| &sector[ENTRIES_AT + index * ENTRY_LEN..][..ENTRY_LEN];
    if (0..4).any(|index| !matches!(slot(index)[0], 0 | 0x80)) {
        return None;
    }
    let word = |bytes: &[u8], at: usize| {
        u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    };
    Some([0, 1, 2, 3].map(|index| {
        let bytes = slot(index);
        Entry {
            active: bytes[0] == 0x80,
            kind: bytes[4],
            start: word(bytes, 8),
            sectors: word(bytes, 12),
        }
    }))
}

/// Returns the tail of sector 0, from the disk signature on.
pub(super) fn encode_head(disk_id: u32, entries: &[[u8; ENTRY_LEN]]) -> [u8; 72] {
    let mut head = [0; 72];
    head[..4].copy_from_slice(&disk_id.to_le_bytes());
    for (index, entry) in entries.iter().enumerate() {
        head[6 + index * ENTRY_LEN..][..ENTRY_LEN].copy_from_slice(entry);
    }
    head[70..].copy_from_slice(&SIGNATURE);
    head
}

/// Returns the entry of a partition in a boot record that counts from `base` sectors.
pub(super) fn entry(part: &Partition, base: u64, sector_size: u32) -> Result<Entry, String> {
    let PartType::Mbr(kind) = part.kind else {
        return Err(format!("partition {} has no MBR type", part.number));
    };
    let sectors = |bytes: u64| bytes / u64::from(sector_size);
    let narrow = |value: u64| {
        u32::try_from(value)
            .map_err(|_| format!("partition {} lies beyond 32-bit sector numbers", part.number))
    };
    let start = narrow(sectors(part.start_bytes).saturating_sub(base))?;
    Ok(Entry {
        active: part.bootable,
        kind,
        start,
        sectors: narrow(sectors(part.len_bytes))?,
    })
}

/// Returns a boot record that is a sector of its own.
pub(super) fn record(lba: u64, sector_size: u32, entries: &[[u8; ENTRY_LEN]]) -> Chunk {
    let mut bytes = vec![0; usize::try_from(sector_size).unwrap_or(0).max(512)];
    bytes[440..512].copy_from_slice(&encode_head(0, entries));
    Chunk {
        offset: lba * u64::from(sector_size),
        bytes,
    }
}
