//! The rewriting of names, tried on the golden tree before any node writes. Some faults would fail each clone
//! after its files were restored. The server refuses them here, with the file, the word and the remedy.
//!
//! The clone of the rehearsal has made-up names of the longest kind that disks have. All else is what nodes
//! do themselves: the same plans, and the same checks behind them.

use std::collections::BTreeMap;
use std::io;

use ka_disk::fs_type::FsType;
use ka_disk::layout::Source;
use ka_disk::spec::{InstallSpec, Loader, Place, partition_name};
use ka_distro::efi::BIOS_PLATFORM;

use crate::boot_entries;
use crate::bootloader;
use crate::error::PostError;
use crate::facts::{DiskFact, Facts, Firmware, KnownPartitions, MountFact, SwapFileFact};
use crate::files::{Files, Kind, Stamp, text};
use crate::fstab::{self, CloneDevice, DeviceMap};
use crate::hooks;
use crate::machine_id;
use crate::plan::{Action, Plan};
use crate::references;

const FSTAB: &str = "/etc/fstab";
/// Words of a hook that makes unified kernel images anew.
const IMAGE_TOOLS: [&str; 8] = [
    "ukify",
    "dracut",
    "mkinitcpio",
    "kernel-install",
    "objcopy",
    "mkosi",
    "sbctl",
    "update-initramfs",
];

/// The findings of the rehearsal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rehearsal {
    /// Lines for the operator.
    pub notes: Vec<String>,
    /// The reason for which no node that UEFI has started could boot as a clone, while others could.
    pub uefi_obstacle: Option<String>,
}

/// Tries on the golden tree the steps that a node does with its clone's names. `is_executable` tells if a
/// path may be run.
///
/// # Errors
/// One line that says what would fail each clone, and what to do.
pub fn check(
    files: &dyn Files,
    spec: &InstallSpec,
    is_executable: &dyn Fn(&str) -> bool,
) -> Result<Rehearsal, PostError> {
    let facts = facts(spec);
    let after = rewritten(files, &facts)?;
    let mut found = Rehearsal::default();
    let option = spec.boot.loader.as_deref();
    // A word that is no loader is the node's to refuse, as it always was.
    let named = option.map(|word| word.parse::<Loader>().ok());
    let loader = named.unwrap_or(spec.boot.golden.loader);
    let scripts = hooks(files, spec, is_executable);
    let makes_image =
        |script: &String| !script.starts_with("#!") || IMAGE_TOOLS.iter().any(|word| script.contains(word));
    let of_images = scripts.iter().any(makes_image);
    let of_any = !scripts.is_empty();
    found.judge(machine_id::check_unified(&after, &facts), of_images, TWIN)?;
    if loader != Some(Loader::Grub) {
        found.judge(machine_id::check_made(&after, &facts), of_any, TWIN)?;
    }
    let images = boot_entries::check_unified(&after, &facts);
    if option == Some("none") {
        found.notes.extend(images.err().map(|error| error.to_string()));
        return Ok(found);
    }
    found.judge(images, of_images, IMAGE)?;
    let Some(loader) = loader else {
        return Ok(found);
    };
    found.judge(bootloader::foresee(&after, &facts, loader), of_any, BOOT)?;
    if let Err(error) = bootloader::foresee_uefi(&after, &facts, loader) {
        let platforms = &spec.boot.golden.grub_platforms;
        if of_any || platforms.iter().any(|name| name == BIOS_PLATFORM) {
            found.uefi_obstacle = (!of_any).then(|| error.to_string());
            found.notes.push(format!("nodes that boot by UEFI: {error}"));
        } else {
            found.judge(Err(error), of_any, BOOT)?;
        }
    }
    Ok(found)
}

/// The remedies, by the kind of fault.
const TWIN: &str = "take it out on the golden node, give it a hook in /etc/ka/hooks.d that makes the file anew, or use \
                    --keep-identity";
const IMAGE: &str = "a clone would not boot: correct it on the golden node, give it a hook in /etc/ka/hooks.d with ukify, dracut, \
                     mkinitcpio or kernel-install that makes it anew, or clone without a boot loader (-r none)";
const BOOT: &str = "a clone would not boot: correct it on the golden node, give it a hook in /etc/ka/hooks.d that does it in the \
                    clones, or clone without a boot loader (-r none)";

impl Rehearsal {
    /// Refuses a fault with `otherwise`, or notes it if a hook may correct it.
    fn judge(
        &mut self,
        result: Result<(), PostError>,
        by_hook: bool,
        otherwise: &str,
    ) -> Result<(), PostError> {
        match result {
            Ok(()) => Ok(()),
            Err(error) if by_hook => {
                self.notes
                    .push(format!("{error}: clones count on a hook that corrects it"));
                Ok(())
            }
            Err(error) => Err(PostError::Wrong(format!("{error}: {otherwise}"))),
        }
    }
}

/// Returns the hooks that a clone runs. Of one that is not a text, or is too long, only a part is returned.
fn hooks(files: &dyn Files, spec: &InstallSpec, is_executable: &dyn Fn(&str) -> bool) -> Vec<String> {
    let names = files.names(hooks::DIR).into_iter();
    let paths = names
        .filter(|name| spec.boot.hooks && hooks::has_point(name))
        .map(|name| format!("{}/{name}", hooks::DIR))
        .filter(|path| is_executable(path));
    paths
        .map(|path| text(files, &path).ok().flatten().unwrap_or_default())
        .collect()
}

/// Returns the golden tree as a clone's would be when all names are rewritten.
fn rewritten<'a>(files: &'a dyn Files, facts: &Facts) -> Result<Changed<'a>, PostError> {
    let mut after = Changed {
        under: files,
        changes: BTreeMap::new(),
    };
    let fstab = files.read(FSTAB).map_err(PostError::reading(FSTAB))?;
    if let Some(old) = fstab {
        let plan = fstab::plan(&old, files, facts)?;
        after.changes.insert(FSTAB.to_owned(), Some(plan.text));
    }
    let plan = references::plan(&after, facts)?;
    after.take(plan);
    Ok(after)
}

/// Files with some of them changed, on no disk.
struct Changed<'a> {
    under: &'a dyn Files,
    /// New contents; none where the file is gone.
    changes: BTreeMap<String, Option<Vec<u8>>>,
}

impl Changed<'_> {
    fn take(&mut self, plan: Plan) {
        for action in plan.actions {
            match action {
                Action::Write { path, bytes, .. } => self.changes.insert(path, Some(bytes)),
                Action::Remove { path, .. } => self.changes.insert(path, None),
                Action::Link { .. } | Action::Run(_) => None,
            };
        }
    }
}

impl Files for Changed<'_> {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        match self.changes.get(path) {
            Some(changed) => Ok(changed.clone()),
            None => self.under.read(path),
        }
    }

    fn read_part(&self, path: &str, offset: u64, len: usize) -> io::Result<Option<Vec<u8>>> {
        let Some(changed) = self.changes.get(path) else {
            return self.under.read_part(path, offset, len);
        };
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let part = |bytes: &Vec<u8>| bytes.iter().skip(start).take(len).copied().collect();
        Ok(changed.as_ref().map(part))
    }

    fn names(&self, dir: &str) -> Vec<String> {
        let mut names = self.under.names(dir);
        names.retain(|name| self.changes.get(&format!("{dir}/{name}")) != Some(&None));
        names
    }

    fn kind(&self, path: &str) -> Option<Kind> {
        match self.changes.get(path) {
            Some(changed) => changed.as_ref().map(|_| Kind::File),
            None => self.under.kind(path),
        }
    }

    fn exists(&self, path: &str) -> bool {
        match self.changes.get(path) {
            Some(changed) => changed.is_some(),
            None => self.under.exists(path),
        }
    }

    fn stamp(&self, path: &str) -> Option<Stamp> {
        self.under.stamp(path)
    }
}

/// Returns the facts of a clone that no node has become yet.
fn facts(spec: &InstallSpec) -> Facts {
    let devices = devices(spec);
    let mut mounts = mounts(spec, &devices);
    mounts.sort_by_key(|mount| mount.path.len());
    let swap_files = spec.swap_files.iter().map(|file| SwapFileFact {
        path: file.path.clone(),
        offset_pages: Some(0x7fff_ffff),
    });
    Facts {
        node_name: "node".to_owned(),
        mac: None,
        golden_host: spec.golden_host.clone(),
        session: String::new(),
        server: String::new(),
        firmware: Firmware::Uefi,
        secure_boot: false,
        sbat_level: Vec::new(),
        known_partitions: KnownPartitions::default(),
        keep_uuids: spec.keep_uuids,
        disks: spec
            .drives
            .iter()
            .map(|drive| disk(spec, &drive.name, drive.golden_table))
            .collect(),
        partitions: devices.iter().map(|map| map.clone.clone()).collect(),
        bare: bare(spec, &devices),
        devices,
        known: spec.known.clone(),
        swap_files: swap_files.collect(),
        mounts,
        boot: spec.boot.clone(),
    }
}

fn disk(spec: &InstallSpec, drive: &str, table: ka_disk::table::TableKind) -> DiskFact {
    DiskFact {
        drive: drive.to_owned(),
        path: drive_path(spec, drive),
        table,
        has_bios_partition: false,
        esp: None,
        active: None,
    }
}

/// No golden node has a disk of this name, and few have a longer one.
fn drive_path(spec: &InstallSpec, drive: &str) -> String {
    let index = spec.drives.iter().position(|known| known.name == drive);
    format!("/dev/nvme9n{}", index.unwrap_or_default() + 1)
}

fn devices(spec: &InstallSpec) -> Vec<DeviceMap> {
    let of_filesystems = spec.filesystems.iter().zip(1..).map(|(fs, number)| {
        let golden = spec.completed(fs.golden.clone().unwrap_or_default());
        let kept = golden.uuid.clone().filter(|_| spec.keep_uuids);
        let clone = CloneDevice {
            uuid: fs
                .uuid
                .clone()
                .or(kept)
                .or_else(|| Some(made_up(fs.fstype, number))),
            label: fs.label.clone(),
            fstype: Some(fs.fstype.name().to_owned()),
            ..partition(spec, &fs.place, golden.partuuid.as_deref())
        };
        let changed = fs.mounts.iter().filter(|mount| mount.options_changed);
        DeviceMap {
            golden,
            clone,
            options: changed
                .map(|mount| (mount.path.clone(), mount.options.clone()))
                .collect(),
        }
    });
    let of_raw = spec.raw.iter().map(|raw| DeviceMap {
        golden: raw.golden.clone(),
        clone: CloneDevice {
            uuid: raw.golden.uuid.clone(),
            label: raw.golden.label.clone(),
            ..partition(spec, &raw.place, raw.golden.partuuid.as_deref())
        },
        options: Vec::new(),
    });
    of_filesystems.chain(of_raw).collect()
}

fn partition(spec: &InstallSpec, place: &Place, golden: Option<&str>) -> CloneDevice {
    let made_up = match golden {
        Some(id) if spec.keep_uuids => id.to_owned(),
        Some(id) if id.len() < 36 => format!("f0f0f0f0-{:02x}", place.partition),
        _ => format!("f0f0f0f0-f0f0-4000-8000-{:012x}", place.partition),
    };
    CloneDevice {
        path: partition_name(&drive_path(spec, &place.drive), place.partition),
        partuuid: Some(made_up),
        ..CloneDevice::default()
    }
}

fn made_up(fstype: FsType, number: u32) -> String {
    match fstype {
        FsType::Vfat => format!("F0F0-{number:04X}"),
        _ => format!("f0f0f0f0-0000-4000-8000-{number:012x}"),
    }
}

/// Partitions of copied tables that nothing is put on.
fn bare(spec: &InstallSpec, devices: &[DeviceMap]) -> Vec<DeviceMap> {
    let places = spec.known.iter().filter_map(|known| {
        let on = known.on.as_ref().filter(|on| on.partition > 0)?;
        let drive = spec.drive(&on.drive)?;
        matches!(drive.source, Source::AsIs(_)).then_some((known, on))
    });
    let maps = places.map(|(known, on)| DeviceMap {
        golden: known.device.clone(),
        clone: partition(spec, on, known.device.partuuid.as_deref()),
        options: Vec::new(),
    });
    maps.filter(|map| !devices.iter().any(|other| other.clone.path == map.clone.path))
        .collect()
}

fn mounts(spec: &InstallSpec, devices: &[DeviceMap]) -> Vec<MountFact> {
    let of_each = spec.filesystems.iter().zip(devices);
    of_each
        .flat_map(|(fs, device)| {
            fs.mounts.iter().map(move |mount| MountFact {
                path: mount.path.clone(),
                device: device.clone.clone(),
                disk: drive_path(spec, &fs.place.drive),
                partition: fs.place.partition,
                fstype: fs.fstype.name().to_owned(),
                is_new_type: fs.golden_fstype.is_some(),
                subvol: mount.subvol.clone(),
            })
        })
        .collect()
}

#[cfg(test)]
#[path = "rehearsal_tests.rs"]
mod tests;
