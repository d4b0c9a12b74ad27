//! The decoder of a GUID partition table; it uses the backup if the primary copy is damaged.

use std::io::{Read, Seek};

use uuid::Uuid;

use super::crc32::crc32;
use super::disk::Disk;
use super::gpt::{ENTRY_LEN, HEADER_LEN, MAGIC, MAX_ENTRIES};
use super::{DiskId, PartType, Partition, PartitionTable, TableError, TableKind};
use crate::desc::LEGACY_BOOT_BIT;

/// The longest entries that are read, in bytes: UEFI allows any power of two from 128.
const MAX_ENTRY_LEN: u32 = 4096;

/// The most bytes of entries that are read and kept in memory.
const MAX_ARRAY_BYTES: u64 = 1 << 20;

/// Reads the table of a disk with a protective MBR.
pub(super) fn read<R: Read + Seek>(disk: &mut Disk<'_, R>) -> Result<PartitionTable, TableError> {
    let last_lba = disk.sectors().saturating_sub(1);
    let primary = read_copy(disk, 1);
    let reason = match primary {
        Ok(table) => return Ok(table),
        Err(Bad::Io(error)) => return Err(error.into()),
        Err(Bad::Because { what, other_lba }) => {
            // A disk that has grown keeps its backup at its old end; only the header knows that place.
            let places = [
                Some(last_lba),
                other_lba.filter(|lba| *lba > 1 && *lba < last_lba),
            ];
            for lba in places.into_iter().flatten() {
                if let Ok(table) = read_copy(disk, lba) {
                    tracing::warn!(
                        "the primary gpt is damaged ({what}); read from its backup at sector {lba}"
                    );
                    return Ok(table);
                }
            }
            what
        }
    };
    Err(TableError::Damaged(format!(
        "the primary gpt has {reason}, and no backup could be read"
    )))
}

/// Reads the copy in the last sector, whatever the first sectors hold.
pub(super) fn read_backup<R: Read + Seek>(disk: &mut Disk<'_, R>) -> Option<PartitionTable> {
    let last_lba = disk.sectors().checked_sub(1)?;
    read_copy(disk, last_lba).ok()
}

/// The state of the two copies.
pub(super) struct Copies {
    /// Reason why the first one cannot be used.
    pub(super) primary_flaw: Option<&'static str>,
    /// Reason why the last one cannot be used.
    pub(super) backup_flaw: Option<&'static str>,
    /// Bytes of the disk behind the backup, if the first copy places it before the end.
    pub(super) bytes_behind: Option<u64>,
}

/// Looks at both copies of a disk with a protective MBR.
pub(super) fn copies<R: Read + Seek>(disk: &mut Disk<'_, R>) -> Copies {
    let flaw = |copy: Result<PartitionTable, Bad>| match copy {
        Ok(_) => None,
        Err(Bad::Because { what, .. }) => Some(what),
        Err(Bad::Io(_)) => Some("it cannot be read"),
    };
    let last_lba = disk.sectors().saturating_sub(1);
    let primary_flaw = flaw(read_copy(disk, 1));
    let backup_flaw = flaw(read_copy(disk, last_lba));
    let other_lba = disk.sector(1).ok().map(|sector| Fields(&sector).u64(32));
    let moved = other_lba.filter(|lba| primary_flaw.is_none() && *lba > 1 && *lba < last_lba);
    Copies {
        primary_flaw,
        backup_flaw,
        bytes_behind: moved.map(|lba| (last_lba - lba) * u64::from(disk.sector_size)),
    }
}

/// Reason why one copy could not be used.
enum Bad {
    Io(std::io::Error),
    Because {
        what: &'static str,
        /// Sector of the other copy, if this copy's own header is sound.
        other_lba: Option<u64>,
    },
}

impl From<std::io::Error> for Bad {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

fn read_copy<R: Read + Seek>(disk: &mut Disk<'_, R>, lba: u64) -> Result<PartitionTable, Bad> {
    let bad = |what| Bad::Because {
        what,
        other_lba: None,
    };
    if lba == 0 || lba >= disk.sectors() {
        return Err(bad("no sector for its header"));
    }
    let sector = disk.sector(lba)?;
    let header = Fields(&sector);
    if sector[..12] != MAGIC {
        return Err(bad("no header"));
    }
    let header_len = header.u32(12);
    if !(HEADER_LEN..=disk.sector_size).contains(&header_len) {
        return Err(bad("a header of strange length"));
    }
    let mut summed = sector[..header_len as usize].to_vec();
    summed[16..20].fill(0);
    if crc32(&summed) != header.u32(16) || header.u64(24) != lba {
        return Err(bad("a header with a wrong checksum or place"));
    }
    let bad = |what| Bad::Because {
        what,
        other_lba: Some(header.u64(32)),
    };
    let (entries, entry_len) = (header.u32(80), header.u32(84));
    let array_bytes = u64::from(entries) * u64::from(entry_len);
    let sane_entry = (ENTRY_LEN..=MAX_ENTRY_LEN).contains(&entry_len) && entry_len.is_power_of_two();
    if !sane_entry || entries == 0 || entries > MAX_ENTRIES || array_bytes > MAX_ARRAY_BYTES {
        return Err(bad("a strange number of entries"));
    }
    let Some(array) = disk.bytes(header.u64(72), array_bytes)? else {
        return Err(bad("its entries behind the end of the disk"));
    };
    if crc32(&array) != header.u32(88) {
        return Err(bad("entries with a wrong checksum"));
    }
    let entries = (1..).zip(array.chunks_exact(entry_len as usize));
    let partitions = entries.filter_map(|(number, entry)| decode_entry(number, entry, disk.sector_size));
    let partitions = partitions
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| bad("a partition of impossible length"))?;
    Ok(PartitionTable {
        kind: TableKind::Gpt,
        disk_id: DiskId::Gpt(header.guid(56)),
        sector_size: disk.sector_size,
        disk_bytes: disk.disk_bytes,
        // Sector 0 is not read here.
        pmbr_boot: false,
        partitions,
    })
}

/// Decodes an entry: `None` if it is unused, `Some(None)` if it makes no sense.
fn decode_entry(number: u32, entry: &[u8], sector_size: u32) -> Option<Option<Partition>> {
    let fields = Fields(entry);
    let kind = fields.guid(0);
    if kind.is_nil() {
        return None;
    }
    let (first, last) = (fields.u64(32), fields.u64(40));
    let bytes = |lba: u64| lba.checked_mul(u64::from(sector_size));
    let span = last
        .checked_sub(first)
        .and_then(|span| span.checked_add(1))
        .and_then(bytes);
    let attrs = fields.u64(48);
    let units = entry[56..128]
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let name = char::decode_utf16(units.take_while(|unit| *unit != 0));
    let name: String = name.map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    Some(bytes(first).zip(span).map(|(start_bytes, len_bytes)| Partition {
        number,
        start_bytes,
        len_bytes,
        kind: PartType::Gpt(kind),
        name: Some(name).filter(|name| !name.is_empty()),
        attrs,
        uuid: Some(fields.guid(16)),
        bootable: attrs >> LEGACY_BOOT_BIT & 1 == 1,
        logical: false,
    }))
}

/// Little-endian fields at fixed offsets in a buffer that is known to be long enough.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.0[at..at + N]);
        bytes
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    fn guid(&self, at: usize) -> Uuid {
        Uuid::from_bytes_le(self.array(at))
    }
}
