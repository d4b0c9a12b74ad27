//! The partitions of each drive, on a disk that stands for the nodes' own.

use anyhow::{Context, Result};
use ka_disk::layout::{Geometry, LayoutError, PartitionPlan, minimum_bytes, plan};
use ka_disk::spec::{DriveSpec, FitError, InstallSpec, check_fit};
use ka_report::text::size;
use serde::Serialize;

const MIB: u64 = 1 << 20;
/// Most steps of growing the disk. Each step makes room for one file system, or for a part of one whose size
/// is a share of the disk.
const MAX_STEPS: usize = 64;

/// A drive with its plan.
#[derive(Debug, Serialize)]
pub(super) struct Planned {
    /// Golden name of the drive.
    pub(super) drive: String,
    /// The plan, on a disk like the golden one if it fits there.
    pub(super) plan: PartitionPlan,
    /// A line for the operator if the clone does not fit a disk like the golden one.
    pub(super) note: Option<String>,
    /// Partitions that grow with the disk.
    #[serde(skip)]
    rest: Vec<Rest>,
}

/// A partition that takes the rest of the disk, or a share of it.
#[derive(Debug)]
struct Rest {
    number: u32,
    /// Smallest size that holds the files, in bytes.
    least_bytes: u64,
}

impl Planned {
    /// Returns the size of a partition, for people. A partition that grows with the disk also has its
    /// smallest size.
    pub(super) fn size_text(&self, number: u32, len_bytes: u64) -> String {
        match self.rest.iter().find(|rest| rest.number == number) {
            Some(rest) => format!("{}, rest (>= {})", size(len_bytes), size(rest.least_bytes)),
            None => size(len_bytes),
        }
    }
}

/// Plans every drive of the clone.
///
/// # Errors
/// There is a drive that no disk could hold.
pub(super) fn all(spec: &InstallSpec) -> Result<Vec<Planned>> {
    spec.drives.iter().map(|drive| planned(spec, drive)).collect()
}

fn planned(spec: &InstallSpec, drive: &DriveSpec) -> Result<Planned> {
    let keep_ids = spec.keep_uuids;
    let (error, golden_bytes) = match on_disk(drive, drive.golden_bytes, keep_ids) {
        Ok(plan) => {
            // A node's own disk may be larger. If it is not, the node refuses with the same words.
            let note = check_fit(spec, &drive.name, &plan)
                .err()
                .map(|error| error.to_string());
            return Ok(Planned {
                drive: drive.name.clone(),
                rest: rest(spec, drive, &plan, drive.golden_bytes),
                plan,
                note,
            });
        }
        Err(error) => (error.to_string(), drive.golden_bytes),
    };
    let why = if golden_bytes == 0 {
        format!("the golden node has no {}", drive.name)
    } else {
        format!(
            "it does not fit a disk of {} like the golden one ({error})",
            size(golden_bytes)
        )
    };
    let planning = || format!("planning {}", drive.name);
    let bytes =
        minimum_bytes(&drive.source, drive.golden_sector_size, drive.golden_table).with_context(planning)?;
    let (bytes, plan) = with_the_files(spec, drive, bytes).with_context(planning)?;
    let note = format!(
        "{} is shown on the smallest disk that it fits with its files, {}: {why}",
        drive.name,
        size(bytes)
    );
    Ok(Planned {
        drive: drive.name.clone(),
        rest: rest(spec, drive, &plan, bytes),
        plan,
        note: Some(note),
    })
}

/// Returns the partitions that a larger disk would enlarge, with their size on the smallest disk that takes
/// the files.
fn rest(spec: &InstallSpec, drive: &DriveSpec, plan: &PartitionPlan, disk_bytes: u64) -> Vec<Rest> {
    const MORE_BYTES: u64 = 1 << 30;
    let smallest = minimum_bytes(&drive.source, drive.golden_sector_size, drive.golden_table);
    let smallest = smallest.and_then(|bytes| with_the_files(spec, drive, bytes));
    let larger = on_disk(drive, disk_bytes + MORE_BYTES, spec.keep_uuids);
    let (Ok((_, smallest)), Ok(larger)) = (smallest, larger) else {
        return Vec::new();
    };
    let partitions = plan.partitions().iter().filter_map(|partition| {
        let number = partition.number;
        let grows = larger.table.find(number)?.len_bytes > partition.len_bytes;
        let least_bytes = smallest.table.find(number)?.len_bytes;
        grows.then_some(Rest { number, least_bytes })
    });
    partitions.collect()
}

/// Grows the disk until the golden node's files fit, too.
fn with_the_files(
    spec: &InstallSpec,
    drive: &DriveSpec,
    mut bytes: u64,
) -> Result<(u64, PartitionPlan), LayoutError> {
    let mut plan = on_disk(drive, bytes, spec.keep_uuids)?;
    for _ in 0..MAX_STEPS {
        let Err(FitError::TooSmall {
            have_bytes,
            needed_bytes,
            ..
        }) = check_fit(spec, &drive.name, &plan)
        else {
            break;
        };
        bytes += (needed_bytes - have_bytes).next_multiple_of(MIB);
        plan = on_disk(drive, bytes, spec.keep_uuids)?;
    }
    Ok((bytes, plan))
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
