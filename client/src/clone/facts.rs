//! From the plan and what was made of it to the facts that the post-installation plans from.

use anyhow::{Context, bail};
use ka_disk::fs::DeviceIdentity;
use ka_disk::layout::Source;
use ka_disk::spec::{FsSpec, partition_name};
use ka_disk::table::KnownType;
use ka_postinstall::chroot;
use ka_postinstall::facts::{DiskFact, Facts, Firmware, MountFact};
use ka_postinstall::fstab::{CloneDevice, DeviceMap};
use ka_proto::NodeName;

use super::plan::{ClonePlan, PlannedDisk};
use crate::session::Session;

/// Where the kernel shows the machine.
pub(crate) const SYS: &str = "/sys";

/// What this node is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Me {
    /// The name it has joined under.
    pub(crate) name: String,
    /// That name was given (`--name`), not found.
    pub(crate) named: bool,
    /// Its hardware address, as far as it is known.
    pub(crate) mac: Option<String>,
    /// The server it has joined.
    pub(crate) server: String,
    /// The session.
    pub(crate) session: String,
}

impl Me {
    pub(crate) fn of(session: &Session<'_>) -> Self {
        session.me()
    }

    /// The clone's name: the one given, else the host name when it is this machine's own, else `node-MAC`.
    fn clone_name(&self, golden_host: &str) -> String {
        let is_nameless = NodeName::new(&self.name).map_or(true, |name| name.is_nameless());
        if self.named || !(is_nameless || self.name == golden_host) {
            return self.name.clone();
        }
        match &self.mac {
            Some(mac) => format!("node-{}", mac.replace(':', "")),
            None => self.name.clone(),
        }
    }
}

/// The facts before anything is written: no file system has a UUID yet.
pub(crate) fn planned(plan: &ClonePlan, me: &Me) -> Facts {
    let firmware = Firmware::of(SYS.as_ref());
    let secure_boot = firmware == Firmware::Uefi && {
        chroot::mount_efivars_here();
        chroot::secure_boot(SYS.as_ref()) == Some(true)
    };
    Facts {
        node_name: me.clone_name(&plan.spec.golden_host),
        mac: me.mac.clone(),
        golden_host: plan.spec.golden_host.clone(),
        session: me.session.clone(),
        server: me.server.clone(),
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

/// The same with the file systems as they were made.
///
/// # Errors
/// A file system was made in the place of another.
pub(crate) fn made(
    plan: &ClonePlan,
    identities: &[(u32, DeviceIdentity)],
    before: Facts,
) -> anyhow::Result<Facts> {
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

/// All partitions with a device node of their own; what is known of the file system on each.
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

/// Which golden device became which of ours: for every file system, swap area and raw partition that the golden
/// node has.
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
            // One that only the desc file asks for: no reference can mean it.
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

/// A raw copy keeps everything inside the partition (UUID, label, type); only the partition's own names are new.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_is_named_as_told_else_as_it_is_called_else_by_its_address() {
        let me = |name: &str, named| Me {
            name: name.to_owned(),
            named,
            mac: Some("52:54:00:00:00:07".to_owned()),
            server: String::new(),
            session: String::new(),
        };
        assert_eq!(me("n7", false).clone_name("golden"), "n7");
        assert_eq!(me("golden", false).clone_name("golden"), "node-525400000007");
        assert_eq!(me("localhost", false).clone_name("golden"), "node-525400000007");
        assert_eq!(me("golden", true).clone_name("golden"), "golden");
        let lost = Me {
            mac: None,
            ..me("localhost", false)
        };
        assert_eq!(lost.clone_name("golden"), "localhost");
    }
}
