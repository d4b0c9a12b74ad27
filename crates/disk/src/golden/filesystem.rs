//! One file system of the clone, made from the golden mount points that are placed on it.

use std::collections::BTreeSet;

use super::found::FoundMount;
use super::subvolumes::Volumes;
use super::{features, options};
use crate::desc::DescEntry;
use crate::fs::is_known_xfs_feature;
use crate::fs_type::FsType;
use crate::spec::{BtrfsFeatures, FsFeatures, FsSpec, InstallSpec, MountSpec, Place};

/// Plans the file system of `mounts`: at least one, all on one golden device. `entry` is the desc line of its
/// place; `notes` gets what the operator should know.
pub(super) fn build(
    spec: &mut InstallSpec,
    volumes: &Volumes,
    place: Place,
    first: &FoundMount,
    mounts: &[&FoundMount],
    entry: Option<&DescEntry>,
) -> FsSpec {
    let id = u32::try_from(spec.filesystems.len()).unwrap_or(u32::MAX);
    let fstype = entry.and_then(|entry| entry.fs).unwrap_or(first.fstype);
    let changed = fstype != first.fstype;
    let mut golden = first.golden.clone();
    golden.aliases = mounts
        .iter()
        .flat_map(|mount| mount.golden.aliases.clone())
        .collect();
    golden.aliases.sort();
    golden.aliases.dedup();
    let mut fs = FsSpec::new(id, place, fstype);
    fs.golden_fstype = changed.then_some(first.fstype);
    fs.label = entry
        .and_then(|entry| entry.label.clone())
        .or_else(|| golden.label.clone());
    // A FAT's serial number is no UUID and cannot become one.
    let same_form = (fstype == FsType::Vfat) == (first.fstype == FsType::Vfat);
    fs.uuid = golden.uuid.clone().filter(|_| spec.keep_uuids && same_form);
    fs.golden = Some(golden);
    fs.used_bytes = first.used_bytes;
    fs.used_inodes = first.used_inodes;
    fs.golden_block_bytes = first.block_bytes;
    fs.golden_bytes = first.device.as_ref().map_or(0, |device| device.block.bytes);
    fs.features = if changed {
        FsFeatures::Default
    } else {
        golden_features(spec, volumes, first, mounts)
    };
    fs.mounts = mounts
        .iter()
        .map(|mount| mount_spec(mount, fstype, changed, entry))
        .collect();
    fs
}

fn golden_features(
    spec: &mut InstallSpec,
    volumes: &Volumes,
    first: &FoundMount,
    mounts: &[&FoundMount],
) -> FsFeatures {
    let Some(device) = &first.device else {
        return named_subvolumes(first, mounts);
    };
    let read = features::read(
        first.fstype,
        &device.block.node,
        &device.identity,
        Some(&first.source),
    );
    let read = read.unwrap_or_else(|error| {
        let what = format!(
            "{} gets the defaults of {}",
            first.mount_point,
            first.fstype.mkfs_program()
        );
        spec.notes
            .push(format!("{what}: its golden features cannot be read: {error}"));
        FsFeatures::Default
    });
    match read {
        FsFeatures::Btrfs(golden) => {
            FsFeatures::Btrfs(with_subvolumes(spec, volumes, &golden, first, mounts))
        }
        FsFeatures::Xfs(golden) => {
            let unknown = golden
                .flags
                .iter()
                .filter(|(name, on)| *on && !is_known_xfs_feature(name));
            for (name, _) in unknown {
                spec.notes.push(format!(
                    "{}: KA does not know the xfs feature {name}: whether the clone's has it, its mkfs.xfs decides",
                    first.mount_point
                ));
            }
            FsFeatures::Xfs(golden)
        }
        other => other,
    }
}

/// Returns the features of a btrfs that does not exist yet, from the fstab of a plain directory.
fn named_subvolumes(first: &FoundMount, mounts: &[&FoundMount]) -> FsFeatures {
    if first.fstype != FsType::Btrfs {
        return FsFeatures::Default;
    }
    FsFeatures::Btrfs(BtrfsFeatures {
        subvolumes: mounted_subvolumes(mounts),
        ..BtrfsFeatures::default()
    })
}

/// Returns the mounted subvolumes, sorted by bytes: a parent comes before what is nested in it.
fn mounted_subvolumes(mounts: &[&FoundMount]) -> Vec<String> {
    let paths = mounts.iter().filter_map(|mount| mount.subvol.clone());
    let named: BTreeSet<String> = paths.filter(|path| !path.is_empty()).collect();
    named.into_iter().collect()
}

fn with_subvolumes(
    spec: &mut InstallSpec,
    volumes: &Volumes,
    golden: &BtrfsFeatures,
    first: &FoundMount,
    mounts: &[&FoundMount],
) -> BtrfsFeatures {
    let named = mounted_subvolumes(mounts);
    let subvolumes = volumes
        .of(first)
        .map_or_else(|| named.clone(), |volume| volume.to_make(&named));
    let default = features::default_subvolume(&first.source).unwrap_or_else(|error| {
        spec.notes.push(format!(
            "{}: its default subvolume cannot be read: {error}",
            first.mount_point
        ));
        None
    });
    if let Some(path) = default.as_ref().filter(|path| !subvolumes.contains(path)) {
        spec.notes.push(format!(
            "the default subvolume {path} of the btrfs on {} is mounted by no line of etc/fstab: the clone's default is \
             the top level",
            first.golden.path
        ));
    }
    BtrfsFeatures {
        default_subvolume: default.filter(|path| subvolumes.contains(path)),
        subvolumes,
        node_size: golden.node_size,
    }
}

fn mount_spec(mount: &FoundMount, fstype: FsType, changed: bool, entry: Option<&DescEntry>) -> MountSpec {
    let ordered = entry.and_then(|entry| entry.options.clone());
    let subvol = mount
        .subvol
        .clone()
        .filter(|_| fstype == FsType::Btrfs && !changed);
    let wanted = match ordered {
        Some(ordered) => options::keeping_subvolume(&ordered, &mount.options),
        None if changed => options::generic_only(&mount.options),
        None => mount.options.clone(),
    };
    MountSpec {
        path: mount.mount_point.clone(),
        options_changed: wanted != mount.fstab_options,
        options: wanted,
        subvol,
        mode: mount.mode,
        uid: mount.uid,
        gid: mount.gid,
    }
}
