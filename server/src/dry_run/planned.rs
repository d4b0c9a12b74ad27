//! The partitions of each drive, on a disk that stands for the nodes' own.

use anyhow::{Context, Result};
use ka_disk::layout::{Geometry, LayoutError, PartitionPlan, minimum_bytes, plan};
use ka_disk::spec::{DriveSpec, InstallSpec};
use ka_status::text::size;
use serde::Serialize;

/// A drive with its plan.
#[derive(Debug, Serialize)]
pub(super) struct Planned {
    /// Golden name of the drive.
    pub(super) drive: String,
    /// The plan, on a disk like the golden one where it fits there.
    pub(super) plan: PartitionPlan,
    /// Why it is shown on another disk.
    pub(super) note: Option<String>,
}

/// Plans every drive of the clone.
///
/// # Errors
/// No disk would do for one of them.
pub(super) fn all(spec: &InstallSpec) -> Result<Vec<Planned>> {
    spec.drives
        .iter()
        .map(|drive| planned(drive, spec.keep_uuids))
        .collect()
}

fn planned(drive: &DriveSpec, keep_ids: bool) -> Result<Planned> {
    let (note, golden_bytes) = match on_disk(drive, drive.golden_bytes, keep_ids) {
        Ok(plan) => {
            return Ok(Planned {
                drive: drive.name.clone(),
                plan,
                note: None,
            });
        }
        Err(error) => (error.to_string(), drive.golden_bytes),
    };
    let why = if golden_bytes == 0 {
        format!("the golden node has no {}", drive.name)
    } else {
        format!(
            "it does not fit a disk of {} like the golden one ({note})",
            size(golden_bytes)
        )
    };
    let planning = || format!("planning {}", drive.name);
    let bytes =
        minimum_bytes(&drive.source, drive.golden_sector_size, drive.golden_table).with_context(planning)?;
    let plan = on_disk(drive, bytes, keep_ids).with_context(planning)?;
    let note = format!(
        "{} is shown on the smallest disk that it fits, {}: {why}",
        drive.name,
        size(bytes)
    );
    Ok(Planned {
        drive: drive.name.clone(),
        plan,
        note: Some(note),
    })
}

fn on_disk(drive: &DriveSpec, disk_bytes: u64, keep_ids: bool) -> Result<PartitionPlan, LayoutError> {
    let geometry = Geometry {
        disk_bytes,
        sector_size: drive.golden_sector_size,
    };
    plan(
        &drive.source,
        &geometry,
        drive.golden_table,
        keep_ids,
        &mut uuid::Uuid::new_v4,
    )
}
