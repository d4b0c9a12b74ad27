//! Every drive, partition and volume that the golden system's configuration may name, cloned or not: a clone must
//! know what a name meant, if only to take it out.

use std::collections::BTreeSet;
use std::path::Path;

use ka_host::mountinfo;

use super::SurveyError;
use super::device::{BlockDevice, Drive, Named};
use crate::spec::{InstallSpec, KnownDevice, Place};

/// More than any machine that is worth cloning has; the spec has a bound.
const MAX_KNOWN: usize = 1000;

/// Looks at all devices of the golden system: those of this machine when it is the golden node, else only the drives that
/// the golden root is on and those that were left out.
pub(super) fn devices(
    spec: &InstallSpec,
    root: &Path,
    excluded_disks: &[String],
) -> Result<Vec<KnownDevice>, SurveyError> {
    let here = root == Path::new("/");
    let drives = if here {
        BTreeSet::new()
    } else {
        drives_below(spec, root, excluded_disks)?
    };
    let blocks = BlockDevice::all()?
        .into_iter()
        .filter(|block| here || drives.contains(block.drive()));
    let mut known = Vec::new();
    for block in blocks.take(MAX_KNOWN) {
        let is_memory = ["loop", "zram", "ram", "sr", "nbd"]
            .iter()
            .any(|start| block.name.starts_with(start));
        if here && is_memory {
            continue;
        }
        // A drive that cannot be read now (empty card reader, failing disk) tells nothing.
        known.extend(device(block));
    }
    Ok(known)
}

fn drives_below(
    spec: &InstallSpec,
    root: &Path,
    excluded_disks: &[String],
) -> Result<BTreeSet<String>, SurveyError> {
    let mounted = mountinfo::read()?;
    let below = mounted.iter().filter(|info| info.mount_point.starts_with(root));
    let seen = below.filter_map(|info| match info.device {
        (0, _) => BlockDevice::from_node(&info.source),
        numbers => BlockDevice::from_numbers(numbers).ok(),
    });
    let of_spec = spec.drives.iter().map(|drive| drive.name.clone());
    let seen = seen.map(|block| block.drive().to_owned());
    Ok(of_spec
        .chain(excluded_disks.iter().cloned())
        .chain(seen)
        .collect())
}

fn device(block: BlockDevice) -> Option<KnownDevice> {
    let is_drive = block.partition.is_none();
    let name = block.name.clone();
    let on = block.partition.clone().or_else(|| {
        let is_volume = name.starts_with("dm-") || name.starts_with("md");
        (!is_volume).then(|| (name.clone(), 0))
    });
    let table_id = if is_drive {
        Drive::open(&name)
            .ok()
            .flatten()
            .and_then(|drive| drive.table)
            .map(|table| table.disk_id.to_string())
    } else {
        None
    };
    let named = Named::probe(block).ok()?;
    let device = named.golden(None);
    Some(KnownDevice {
        device,
        on: on.map(|(drive, partition)| Place { drive, partition }),
        content: named.identity.fstype,
        table_id,
    })
}
