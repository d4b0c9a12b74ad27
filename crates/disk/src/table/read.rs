//! The reader of a disk's table, of either kind.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use super::disk::Disk;
use super::{DiskId, Partition, PartitionTable, TableError, TableKind};
use super::{boot_record, ebr, flaws, gpt_read};

/// The type of the entry that marks a GPT disk in its protective MBR.
pub(super) const PROTECTIVE: u8 = 0xee;

/// Reads the partition table of a disk or image; `None` if there is none.
///
/// As for the kernel, sector 0 decides. With a protective entry the disk has a GPT; a hybrid MBR's other
/// entries are ignored. Without one an old GPT's remains mean nothing. A GPT whose primary copy is damaged is
/// read from its backup. An MBR without a single partition is no table: an empty one cannot be told from a
/// FAT boot sector.
///
/// # Errors
/// [`TableError`] if there is a table that cannot be trusted, or reading fails.
pub fn read(disk: &File, sector_size: u32) -> Result<Option<PartitionTable>, TableError> {
    let mut disk = disk;
    let disk_bytes = disk.seek(SeekFrom::End(0))?;
    read_from(&mut disk, disk_bytes, sector_size)
}

/// Reads the partition table of anything that can be read like a disk of `disk_bytes`.
///
/// # Errors
/// As [`read`].
pub fn read_from<R: Read + Seek>(
    source: &mut R,
    disk_bytes: u64,
    sector_size: u32,
) -> Result<Option<PartitionTable>, TableError> {
    if !flaws::is_sector_size(sector_size) {
        return Err(TableError::Damaged(format!(
            "a sector size of {sector_size} bytes"
        )));
    }
    let mut disk = Disk {
        source,
        disk_bytes,
        sector_size,
    };
    if disk.sectors() == 0 {
        return Ok(None);
    }
    let sector = disk.sector(0)?;
    let Some(entries) = boot_record::decode_entries(&sector) else {
        return Ok(None);
    };
    let table = if entries.iter().any(|entry| entry.kind == PROTECTIVE) {
        let protective = entries.iter().find(|entry| entry.kind == PROTECTIVE);
        PartitionTable {
            pmbr_boot: protective.is_some_and(|entry| entry.active),
            ..gpt_read::read(&mut disk)?
        }
    } else if entries.iter().any(boot_record::Entry::is_used) {
        read_mbr(&mut disk, &sector, &entries)?
    } else {
        return Ok(None);
    };
    flaws::check_read(&table).map_err(TableError::Damaged)?;
    Ok(Some(table))
}

/// Returns the GPT of a disk whose first sectors were wiped, from the backup in its last sector; `None` if
/// there is no sound one.
#[must_use]
pub fn read_lost_gpt(disk: &File, sector_size: u32) -> Option<PartitionTable> {
    let mut source = disk;
    let disk_bytes = source.seek(SeekFrom::End(0)).ok()?;
    if !flaws::is_sector_size(sector_size) {
        return None;
    }
    gpt_read::read_backup(&mut Disk {
        source: &mut source,
        disk_bytes,
        sector_size,
    })
}

fn read_mbr<R: Read + Seek>(
    disk: &mut Disk<'_, R>,
    sector: &[u8],
    entries: &[boot_record::Entry; 4],
) -> Result<PartitionTable, TableError> {
    let sector_bytes = u64::from(disk.sector_size);
    let used = (1..).zip(entries).filter(|(_, entry)| entry.is_used());
    let mut partitions: Vec<Partition> = used
        .map(|(number, entry)| entry.partition(number, 0, sector_bytes))
        .collect();
    let extended: Vec<Partition> = partitions
        .iter()
        .filter(|part| part.kind.is_extended())
        .cloned()
        .collect();
    match extended.as_slice() {
        [] => {}
        [extended] => partitions.extend(ebr::decode(extended, disk.sector_size, |lba| disk.sector(lba))?),
        _ => return Err(TableError::Damaged("more than one extended partition".to_owned())),
    }
    let id = u32::from_le_bytes([sector[440], sector[441], sector[442], sector[443]]);
    Ok(PartitionTable {
        pmbr_boot: false,
        kind: TableKind::Mbr,
        disk_id: DiskId::Mbr(id),
        sector_size: disk.sector_size,
        disk_bytes: disk.disk_bytes,
        partitions,
    })
}
