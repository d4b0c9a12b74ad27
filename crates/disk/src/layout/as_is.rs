//! Copying the golden drive's own table onto another disk.

use std::collections::HashSet;

use uuid::Uuid;

use super::{Geometry, LayoutError};
use crate::table::{DiskId, PartitionTable};

/// The same partitions at the same bytes on a disk of `geometry`, with ids of their own unless
/// `keep_ids`.
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
            DiskId::Mbr(_) => DiskId::Mbr(super::plan::fresh_mbr_id(fresh)),
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

/// A disk that was cloned with `dd` or a careless tool may have a partition GUID twice, or none.
fn give_missing_ids(table: &mut PartitionTable, fresh: &mut dyn FnMut() -> Uuid) {
    let mut seen = HashSet::from([Uuid::nil()]);
    for uuid in table.partitions.iter_mut().filter_map(|part| part.uuid.as_mut()) {
        if !seen.insert(*uuid) {
            *uuid = fresh();
            seen.insert(*uuid);
        }
    }
}

/// For the error: the sector sizes, where they differ and may be the reason.
fn sectors(golden: &PartitionTable, sector_size: u32) -> String {
    if golden.sector_size == sector_size {
        return String::new();
    }
    format!(
        " (golden sectors are {} bytes, this disk's {sector_size})",
        golden.sector_size
    )
}
