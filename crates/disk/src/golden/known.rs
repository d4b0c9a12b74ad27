//! Every drive, partition and volume that the golden system's configuration may name, cloned or not. A clone
//! has to recognise such a name, if only to remove it.

use std::collections::BTreeSet;
use std::path::Path;

use ka_host::mountinfo;

use super::SurveyError;
use super::device::{BlockDevice, Drive, Named};
use crate::spec::{InstallSpec, KnownDevice, Place};

/// The most devices in the spec, which has a bound. Most machines have fewer; a server with a thousand paths
/// to its storage may have more.
const MAX_KNOWN: usize = 300;
/// The most links of one device in the spec: a disk has a handful.
const MAX_LINKS: usize = 20;

/// Describes all devices of the golden system. If this machine is the golden node, these are all of its
/// devices, else only the drives that the golden root is on and those that were left out.
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
    let is_memory = |name: &str| {
        let starts = ["loop", "zram", "ram", "sr", "nbd"];
        starts.iter().any(|start| name.starts_with(start))
    };
    let mut blocks = BlockDevice::all()?;
    blocks.retain(|block| {
        if here {
            !is_memory(&block.name)
        } else {
            drives.contains(block.drive())
        }
    });
    // If there are too many, the devices that are cloned come first.
    blocks.sort_by_key(|block| spec.drive(block.drive()).is_none());
    blocks.truncate(MAX_KNOWN);
    // A drive that cannot be read now (empty card reader, failing disk) has nothing to describe.
    let known = blocks.into_iter().filter_map(device).collect();
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
    let mut device = named.golden(None);
    device.aliases.truncate(MAX_LINKS);
    Some(KnownDevice {
        device,
        on: on.map(|(drive, partition)| Place { drive, partition }),
        content: named.identity.fstype,
        table_id,
    })
}
