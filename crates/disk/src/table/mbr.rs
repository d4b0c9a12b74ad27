//! The master boot record: sector 0 of an MBR disk.

use super::boot_record::{ENTRY_LEN, encode_head, entry};
use super::{DiskId, Encoded, PartitionTable, ebr};

/// Returns the bytes of an MBR table that [`PartitionTable::check`] has passed.
pub(super) fn encode(table: &PartitionTable) -> Result<Encoded, String> {
    let DiskId::Mbr(disk_id) = table.disk_id else {
        return Err("an mbr with a GUID as disk id".to_owned());
    };
    let mut entries = [[0; ENTRY_LEN]; 4];
    for part in table.partitions.iter().filter(|part| !part.logical) {
        let slot = usize::try_from(part.number - 1).unwrap_or(usize::MAX);
        let slot = entries
            .get_mut(slot)
            .ok_or_else(|| format!("partition {} on an mbr", part.number))?;
        *slot = entry(part, 0, table.sector_size)?.encode(0);
    }
    Ok(Encoded {
        head: encode_head(disk_id, &entries),
        rest: ebr::encode(table)?,
    })
}
