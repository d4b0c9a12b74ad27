//! The facts for the post-installation, made from the plan and its results.

use anyhow::{Context, bail};
use ka_disk::fs::DeviceIdentity;
use ka_disk::layout::Source;
use ka_disk::spec::{FsSpec, partition_name};
use ka_disk::table::KnownType;
use ka_postinstall::chroot;
use ka_postinstall::facts::{DiskFact, Facts, Firmware, MountFact};
use ka_postinstall::fstab::{CloneDevice, DeviceMap};

use super::plan::{ClonePlan, PlannedDisk};
use super::target::Target;
use crate::local_node::LocalNode;

/// The directory where the kernel shows the machine.
pub(crate) const SYS: &str = "/sys";

/// Learns the facts of a clone whose file systems are made.
///
/// # Errors
/// A file system was made in the place of another.
pub(crate) fn learn(target: &Target, node: &LocalNode) -> anyhow::Result<Facts> {
    made(&target.plan, &target.identities, planned(&target.plan, node))
}

/// The facts before anything is written: no file system has a UUID yet.
pub(crate) fn planned(plan: &ClonePlan, node: &LocalNode) -> Facts {
    let firmware = Firmware::of(SYS.as_ref());
    let secure_boot = firmware == Firmware::Uefi && {
        chroot::mount_efivars_here();
        chroot::secure_boot(SYS.as_ref()) == Some(true)
    };
    Facts {
        node_name: node.clone_name(&plan.spec.golden_host),
        mac: node.mac.clone(),
        golden_host: plan.spec.golden_host.clone(),
        session: node.session.clone(),
        server: node.server.clone(),
        firmware,
        secure_boot,
        sbat_level: chroot::sbat_level(SYS.as_ref()),
        known_partitions: plan.known_partitions.clone(),
        keep_uuids: plan.spec.keep_uuids,
        disks: plan.disks.iter().map(disk).collect(),
        partitions: Vec::new(),
        devices: Vec::new(),
        bare: Vec::new(),
        known: plan.spec.known.clone(),
        swap_files: Vec::new(),
        mounts: mounts(plan),
        boot: plan.spec.boot.clone(),
    }
}

/// Returns the same with the file systems as they were made.
///
/// # Errors
/// A file system was made in the place of another.
fn made(plan: &ClonePlan, identities: &[(u32, DeviceIdentity)], before: Facts) -> anyhow::Result<Facts> {
    let devices = device_maps(plan, identities)?;
    let mut facts = Facts {
        partitions: partitions(plan, &devices),
        bare: bare_maps(plan, &devices),
        devices,
        ..before
    };
    for mount in &mut facts.mounts {
        let made = facts
            .partitions
            .iter()
            .find(|made| made.path == mount.device.path);
        if let Some(made) = made {
            mount.device = made.clone();
        }
    }
    Ok(facts)
}

fn disk(planned: &PlannedDisk) -> DiskFact {
    let partitions = planned.partitions.partitions();
    let of_type = |kind| partitions.iter().find(|part| part.kind.known() == Some(kind));
    DiskFact {
        drive: planned.drive.clone(),
        path: planned.disk.path.display().to_string(),
        table: planned.partitions.table.kind,
        has_bios_partition: of_type(KnownType::Bios).is_some(),
        esp: of_type(KnownType::Esp).map(|part| part.number),
        active: partitions
            .iter()
            .find(|part| part.bootable)
            .map(|part| part.number),
    }
}

fn mounts(plan: &ClonePlan) -> Vec<MountFact> {
    let mut mounts: Vec<MountFact> = plan
        .spec
        .filesystems
        .iter()
        .zip(&plan.filesystems)
        .flat_map(|(fs, planned)| {
            let disk = plan
                .disk(&fs.place.drive)
                .map(|disk| disk.disk.path.display().to_string());
            let disk = disk.unwrap_or_default();
            fs.mounts.iter().map(move |mount| MountFact {
                path: mount.path.clone(),
                device: CloneDevice {
                    path: planned.device.display().to_string(),
                    ..CloneDevice::default()
                },
                disk: disk.clone(),
                partition: fs.place.partition,
                fstype: fs.fstype.name().to_owned(),
                is_new_type: fs.golden_fstype.is_some(),
                subvol: mount.subvol.clone(),
            })
        })
        .collect();
    mounts.sort_by_key(|mount| mount.path.len());
    mounts
}

/// Returns all partitions with a device node of their own, with the known facts of the file system on each.
fn partitions(plan: &ClonePlan, devices: &[DeviceMap]) -> Vec<CloneDevice> {
    let mut all = Vec::new();
    for disk in &plan.disks {
        let table = &disk.partitions.table;
        for partition in table.partitions.iter().filter(|part| !part.kind.is_extended()) {
            let path = partition_name(&disk.disk.path.display().to_string(), partition.number);
            let made = devices.iter().find(|map| map.clone.path == path);
            all.push(made.map_or_else(
                || CloneDevice {
                    partuuid: table.partuuid(partition),
                    partlabel: partition.name.clone(),
                    path: path.clone(),
                    ..CloneDevice::default()
                },
                |map| map.clone.clone(),
            ));
        }
    }
    all
}

/// Returns the pairs of golden device and new device, for every file system, swap area and raw partition that
/// the golden node has.
fn device_maps(plan: &ClonePlan, identities: &[(u32, DeviceIdentity)]) -> anyhow::Result<Vec<DeviceMap>> {
    let mut maps = Vec::new();
    for ((id, identity), fs) in identities.iter().zip(&plan.spec.filesystems) {
        if *id != fs.id {
            bail!("file system {id} was made in the place of {}", fs.id);
        }
        let mut clone = partition_names(plan, &fs.place.drive, fs.place.partition)?;
        clone.path = identity.path.display().to_string();
        clone.uuid.clone_from(&identity.uuid);
        clone.label.clone_from(&identity.label);
        clone.fstype = Some(fs.fstype.name().to_owned());
        maps.push(DeviceMap {
            // Only the desc file asks for this one, so no reference can mean it.
            golden: plan.spec.completed(fs.golden.clone().unwrap_or_default()),
            clone,
            options: changed_options(fs),
        });
    }
    maps.extend(raw_maps(plan)?);
    Ok(maps)
}

/// Golden partitions of copied tables that nothing was put on: the clone has the same, empty.
fn bare_maps(plan: &ClonePlan, devices: &[DeviceMap]) -> Vec<DeviceMap> {
    let mut maps = Vec::new();
    for known in &plan.spec.known {
        let Some(on) = known.on.as_ref().filter(|on| on.partition > 0) else {
            continue;
        };
        let is_copied = plan
            .spec
            .drive(&on.drive)
            .is_some_and(|drive| matches!(drive.source, Source::AsIs(_)));
        let (Ok(disk), Ok(names)) = (
            plan.disk(&on.drive),
            partition_names(plan, &on.drive, on.partition),
        ) else {
            continue;
        };
        let path = partition_name(&disk.disk.path.display().to_string(), on.partition);
        if is_copied && !devices.iter().any(|map| map.clone.path == path) {
            maps.push(DeviceMap {
                golden: known.device.clone(),
                clone: CloneDevice { path, ..names },
                options: Vec::new(),
            });
        }
    }
    maps
}

/// A raw copy keeps everything inside the partition (UUID, label, type); only the partition's own names are
/// new.
fn raw_maps(plan: &ClonePlan) -> anyhow::Result<Vec<DeviceMap>> {
    plan.spec
        .raw
        .iter()
        .map(|raw| {
            let mut clone = partition_names(plan, &raw.place.drive, raw.place.partition)?;
            clone.path = plan.raw_target(raw)?.0.display().to_string();
            clone.uuid.clone_from(&raw.golden.uuid);
            clone.label.clone_from(&raw.golden.label);
            Ok(DeviceMap {
                golden: raw.golden.clone(),
                clone,
                options: Vec::new(),
            })
        })
        .collect()
}

fn partition_names(plan: &ClonePlan, drive: &str, number: u32) -> anyhow::Result<CloneDevice> {
    let table = &plan.disk(drive)?.partitions.table;
    let partition = table
        .find(number)
        .with_context(|| format!("{drive} has no partition {number}"))?;
    Ok(CloneDevice {
        partuuid: table.partuuid(partition),
        partlabel: partition.name.clone(),
        ..CloneDevice::default()
    })
}

fn changed_options(fs: &FsSpec) -> Vec<(String, String)> {
    let changed = fs.mounts.iter().filter(|mount| mount.options_changed);
    changed
        .map(|mount| (mount.path.clone(), mount.options.clone()))
        .collect()
}
