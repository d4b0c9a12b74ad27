//! The encoder of a GUID partition table: protective MBR, and header and entries at both ends of the disk.
//!
//! KA has its own code for it: gptman's reader panics on entries longer than 128 bytes and reserves memory
//! for as many entries as a damaged header claims. Its writer needs a disk to write to, and a plan must be
//! checked without one. UEFI 2.10 section 5.3.

use super::crc32::crc32;
use super::{Chunk, DiskId, Encoded, PartType, Partition, PartitionTable, boot_record, chs};

/// Usual number of entries of a table, and the fewest that UEFI wants room for.
pub(crate) const USUAL_ENTRIES: u32 = 128;

/// The most entries that are read or written: sixteen times the usual number.
pub(super) const MAX_ENTRIES: u32 = 2048;

/// Length of an entry in bytes.
pub(super) const ENTRY_LEN: u32 = 128;

/// Length of the header in bytes, as far as it has a meaning and counts in the check sum.
pub(super) const HEADER_LEN: u32 = 92;

/// Start of a header: its signature and revision 1.0.
pub(super) const MAGIC: [u8; 12] = *b"EFI PART\0\0\x01\0";

/// Returns the number of entries that a table is written with.
pub(super) fn entry_count(table: &PartitionTable) -> u32 {
    let last = table.partitions.last().map_or(0, |part| part.number);
    // Entries fill whole sectors of any size: 32 × 128 bytes are 4096.
    last.next_multiple_of(32).max(USUAL_ENTRIES)
}

fn array_bytes(entries: u32) -> u64 {
    u64::from(entries) * u64::from(ENTRY_LEN)
}

/// Returns the first byte that a partition may use: behind sector 0, the header and the entries.
pub(crate) fn first_usable_bytes(sector_size: u32, entries: u32) -> u64 {
    2 * u64::from(sector_size) + array_bytes(entries)
}

/// Returns the end of the space for partitions on a disk: before the backup entries and header.
pub(super) fn usable_end_bytes(disk_bytes: u64, sector_size: u32, entries: u32) -> u64 {
    let sector_bytes = u64::from(sector_size);
    let whole_sectors = disk_bytes / sector_bytes * sector_bytes;
    whole_sectors.saturating_sub(sector_bytes + array_bytes(entries))
}

/// Returns the bytes of a GPT that [`PartitionTable::check`] has passed.
pub(super) fn encode(table: &PartitionTable) -> Result<Encoded, String> {
    let DiskId::Gpt(disk_guid) = table.disk_id else {
        return Err("a gpt without a disk GUID".to_owned());
    };
    let sector_bytes = u64::from(table.sector_size);
    let entries = entry_count(table);
    let mut array = vec![0; usize::try_from(array_bytes(entries)).map_err(|error| error.to_string())?];
    for part in &table.partitions {
        let mut slots = array.chunks_exact_mut(ENTRY_LEN as usize);
        let slot = slots.nth((part.number - 1) as usize);
        let slot = slot.ok_or_else(|| format!("partition {} on a gpt", part.number))?;
        encode_entry(part, sector_bytes, slot);
    }
    let last_lba = (table.disk_bytes / sector_bytes).saturating_sub(1);
    let end = usable_end_bytes(table.disk_bytes, table.sector_size, entries);
    let header = Header {
        here_lba: 1,
        other_lba: last_lba,
        first_usable_lba: first_usable_bytes(table.sector_size, entries) / sector_bytes,
        last_usable_lba: (end / sector_bytes).saturating_sub(1),
        disk_guid: disk_guid.to_bytes_le(),
        array_lba: 2,
        entries,
        array_crc: crc32(&array),
    };
    let backup = Header {
        here_lba: last_lba,
        other_lba: 1,
        array_lba: end / sector_bytes,
        ..header
    };
    let chunk = |lba: u64, bytes: Vec<u8>| Chunk {
        offset: lba * sector_bytes,
        bytes,
    };
    let rest = vec![
        chunk(backup.array_lba, array.clone()),
        chunk(last_lba, backup.encode(table.sector_size)),
        chunk(2, array),
        chunk(1, header.encode(table.sector_size)),
    ];
    Ok(Encoded {
        head: boot_record::encode_head(0, &[protective_entry(last_lba, table.pmbr_boot)]),
        rest,
    })
}

/// Returns the one entry that tells MBR tools to keep off: UEFI 2.10 table 5.4, where the first sector's CHS
/// is fixed whatever the geometry.
fn protective_entry(last_lba: u64, active: bool) -> [u8; boot_record::ENTRY_LEN] {
    let sectors = u32::try_from(last_lba).unwrap_or(u32::MAX);
    let mut entry = boot_record::Entry {
        active,
        kind: 0xee,
        start: 1,
        sectors: sectors.max(1),
    }
    .encode(0);
    entry[1..4].copy_from_slice(&[0x00, 0x02, 0x00]);
    entry[5..8].copy_from_slice(&match chs::encode(last_lba) {
        [0xfe, 0xff, 0xff] => [0xff, 0xff, 0xff],
        exact => exact,
    });
    entry
}

fn encode_entry(part: &Partition, sector_bytes: u64, slot: &mut [u8]) {
    if let PartType::Gpt(guid) = part.kind {
        slot[..16].copy_from_slice(&guid.to_bytes_le());
    }
    slot[16..32].copy_from_slice(&part.uuid.unwrap_or_default().to_bytes_le());
    slot[32..40].copy_from_slice(&(part.start_bytes / sector_bytes).to_le_bytes());
    slot[40..48].copy_from_slice(&(part.end_bytes() / sector_bytes - 1).to_le_bytes());
    slot[48..56].copy_from_slice(&part.attrs.to_le_bytes());
    let name = part.name.iter().flat_map(|name| name.encode_utf16());
    for (unit, place) in name.zip(slot[56..].chunks_exact_mut(2)) {
        place.copy_from_slice(&unit.to_le_bytes());
    }
}

/// The fields of a header that differ between disks.
#[derive(Debug, Clone, Copy)]
struct Header {
    here_lba: u64,
    other_lba: u64,
    first_usable_lba: u64,
    last_usable_lba: u64,
    disk_guid: [u8; 16],
    array_lba: u64,
    entries: u32,
    array_crc: u32,
}

impl Header {
    /// Returns one sector with the header in it.
    fn encode(&self, sector_size: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(sector_size as usize);
        bytes.extend(MAGIC);
        bytes.extend(HEADER_LEN.to_le_bytes());
        bytes.extend([0; 8]); // the header's own sum, filled in below, and four reserved bytes
        for lba in [
            self.here_lba,
            self.other_lba,
            self.first_usable_lba,
            self.last_usable_lba,
        ] {
            bytes.extend(lba.to_le_bytes());
        }
        bytes.extend(self.disk_guid);
        bytes.extend(self.array_lba.to_le_bytes());
        for word in [self.entries, ENTRY_LEN, self.array_crc] {
            bytes.extend(word.to_le_bytes());
        }
        let sum = crc32(&bytes);
        bytes[16..20].copy_from_slice(&sum.to_le_bytes());
        bytes.resize(sector_size as usize, 0);
        bytes
    }
}
