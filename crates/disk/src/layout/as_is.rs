//! A layout that copies the golden drive's own table onto another disk.

use std::collections::HashSet;

use uuid::Uuid;

use super::{Geometry, LayoutError};
use crate::table::{DiskId, PartitionTable};

/// Plans the same partitions at the same bytes on a disk of `geometry`, with new ids unless `keep_ids`.
pub(super) fn plan(
    golden: &PartitionTable,
    geometry: &Geometry,
    keep_ids: bool,
    fresh: &mut dyn FnMut() -> Uuid,
) -> Result<PartitionTable, LayoutError> {
    let &Geometry {
        disk_bytes,
        sector_size,
    } = geometry;
    let mut table = PartitionTable {
        sector_size,
        disk_bytes,
        ..golden.clone()
    };
    if !keep_ids {
        table.disk_id = match table.disk_id {
            DiskId::Mbr(_) => DiskId::Mbr(super::fresh_mbr_id(fresh)),
            DiskId::Gpt(_) => DiskId::Gpt(fresh()),
        };
        for part in &mut table.partitions {
            part.uuid = part.uuid.map(|_| fresh());
        }
    }
    give_missing_ids(&mut table, fresh);
    table.check().map_err(|flaw| LayoutError::AsIs {
        flaw,
        sectors: sectors(golden, sector_size),
    })?;
    Ok(table)
}

/// Gives new partition GUIDs for missing and repeated ones: `dd` or a careless tool may have left them on the
/// disk.
fn give_missing_ids(table: &mut PartitionTable, fresh: &mut dyn FnMut() -> Uuid) {
    let mut seen = HashSet::from([Uuid::nil()]);
    for uuid in table.partitions.iter_mut().filter_map(|part| part.uuid.as_mut()) {
        if !seen.insert(*uuid) {
            *uuid = fresh();
            seen.insert(*uuid);
        }
    }
}

/// Returns the sector sizes for the error if they differ, because they may be the reason.
fn sectors(golden: &PartitionTable, sector_size: u32) -> String {
    if golden.sector_size == sector_size {
        return String::new();
    }
    format!(
        " (golden sectors are {} bytes, this disk's {sector_size})",
        golden.sector_size
    )
}
