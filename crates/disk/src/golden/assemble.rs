//! The install spec, put together from what was found and its places in the clone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ka_host::{HostError, block, mountinfo, system};

use super::device::{BlockDevice, Named};
use super::found::{FoundMount, FoundSwap};
use super::place::{Extra, Placer};
use super::subvolumes::Volumes;
use super::usage::Usage;
use super::{SurveyError, SurveyOptions, content, filesystem, usage};
use crate::desc::{DescEntry, Size};
use crate::fs::check_label;
use crate::fs_type::FsType;
use crate::spec::{FsSpec, InstallSpec, Place, RawSpec, StreamKind, StreamPlan, TreeSpec, needed_bytes};

/// Number of the first data stream, the tree's; the others count on from it.
const FIRST_STREAM: usize = 2;
const MIB: u64 = 1 << 20;

pub(super) fn empty(options: &SurveyOptions) -> InstallSpec {
    InstallSpec {
        keep_uuids: options.keep_uuids,
        ..InstallSpec::empty(system::hostname())
    }
}

/// Enters the directories of `-x` in the spec.
pub(super) fn excluded(spec: &mut InstallSpec, root: &Path, dirs: &[PathBuf]) {
    for dir in dirs {
        if !below(root, dir).is_dir() {
            let note = format!("-x {}: the golden node has no such directory", dir.display());
            spec.notes.push(note);
        }
        spec.excluded.push(dir.as_os_str().as_bytes().to_vec());
    }
}

/// Places the mount points and plans their file systems; mount points on one partition share one.
pub(super) fn filesystems(
    spec: &mut InstallSpec,
    placer: &mut Placer<'_>,
    volumes: &Volumes,
    mounts: &[FoundMount],
    root: &Path,
) -> Result<(), SurveyError> {
    let mut groups: Vec<(Place, &FoundMount, Vec<&FoundMount>)> = Vec::new();
    // Mount points with a line go first: the other subvolumes of a btrfs follow one of them.
    let (named, others): (Vec<_>, Vec<_>) =
        (0..mounts.len()).partition(|index| placer.has_line(&mounts[*index]));
    let mut places = BTreeMap::new();
    for index in named.into_iter().chain(others) {
        places.insert(index, placer.mount(&mounts[index])?);
    }
    for (index, place) in places {
        let mount = &mounts[index];
        match groups.iter_mut().find(|(known, _, _)| *known == place) {
            Some((_, _, together)) => together.push(mount),
            None => groups.push((place, mount, vec![mount])),
        }
    }
    for (place, first, together) in groups {
        let entry = placer.entry(&place);
        let mut fs = filesystem::build(spec, volumes, place, first, &together, entry);
        check_label(&fs)?;
        let content = content::measure(&fs, first, volumes.of(first))?;
        let content = excluded_here(spec, root, mounts, &fs)
            .into_iter()
            .fold(content, content::Content::without);
        fs.used_bytes = content.bytes;
        fs.used_inodes = content.inodes;
        fs.expanded_bytes = content.bytes.saturating_sub(first.used_bytes);
        spec.notes.extend(expansion_note(&fs, first.used_bytes));
        check_size(placer, &fs, entry)?;
        spec.filesystems.push(fs);
    }
    trees(spec, mounts);
    Ok(())
}

/// Checks a desc line with a size in figures: it is too small on every disk or on none, so no node has to be
/// asked.
fn check_size(placer: &Placer<'_>, fs: &FsSpec, entry: Option<&DescEntry>) -> Result<(), SurveyError> {
    let have_bytes = match entry.map(|entry| entry.size) {
        Some(Size::Mib(mib)) => mib.saturating_mul(MIB),
        Some(Size::Bytes(bytes)) => bytes.next_multiple_of(MIB),
        Some(Size::Percent(_) | Size::Fill) | None => return Ok(()),
    };
    let needed_bytes = needed_bytes(fs);
    if have_bytes >= needed_bytes {
        return Ok(());
    }
    let path = fs.mounts.first().map_or("", |mount| &mount.path);
    let problem = format!(
        "{path} ({}, {} MiB in use) does not go onto {} MiB, it needs {} MiB: make the partition larger, or leave \
         something out with -x",
        fs.fstype,
        fs.used_bytes / MIB,
        have_bytes / MIB,
        needed_bytes.div_ceil(MIB)
    );
    Err(placer.desc_error(&fs.place, problem))
}

/// Places the swap areas. A swap area without a place becomes a note: a clone works without it.
pub(super) fn swaps(
    spec: &mut InstallSpec,
    placer: &mut Placer<'_>,
    swaps: &[FoundSwap],
) -> Result<(), SurveyError> {
    for swap in swaps {
        let Some(place) = placer.swap(swap)? else {
            spec.notes.push(format!(
                "the swap area {} has no place in the clone, and its line of fstab is taken out there: a `swap SIZE` line in \
                 the desc file gives it one",
                swap.golden.path
            ));
            continue;
        };
        let entry = placer.entry(&place);
        let mut fs = FsSpec::new(next_id(spec), place, FsType::Swap);
        fs.label = entry
            .and_then(|entry| entry.label.clone())
            .or_else(|| swap.golden.label.clone());
        fs.uuid = swap.golden.uuid.clone().filter(|_| spec.keep_uuids);
        fs.golden = Some(swap.golden.clone());
        check_label(&fs)?;
        spec.filesystems.push(fs);
    }
    Ok(())
}

/// Places the partitions that are copied raw.
pub(super) fn raw(
    spec: &mut InstallSpec,
    placer: &mut Placer<'_>,
    names: &[String],
) -> Result<(), SurveyError> {
    for name in names {
        let fail = |problem: String| SurveyError::option(format!("-D {name}"), problem);
        let device = BlockDevice::from_name(name);
        let Some((device, (drive, number))) =
            device.and_then(|device| Some((device.clone(), device.partition?)))
        else {
            return Err(fail(
                "the golden node has no such partition: name one as lsblk does, such as sda1".to_owned(),
            ));
        };
        if let Some(at) = mounted_writable(name)? {
            let problem = format!(
                "it is mounted at {} and may change while it is copied",
                at.display()
            );
            return Err(fail(format!("{problem}: unmount it, or remount it read-only")));
        }
        let file = File::open(&device.node)
            .map_err(|error| HostError::new(format!("opening {}", device.node.display()), error))?;
        let bytes =
            block::size_bytes(&file).map_err(|error| fail(format!("asking for its size: {error}")))?;
        let place = placer.raw(name, &drive, number)?;
        let device = Named::probe(device)?;
        spec.raw.push(RawSpec {
            place,
            bytes,
            golden: device.golden(None),
            block_size: device.identity.block_size.unwrap_or(0),
        });
    }
    Ok(())
}

/// Adds what the desc files ask for beyond the golden node's: swap areas, empty file systems.
pub(super) fn extras(spec: &mut InstallSpec, placer: &Placer<'_>) -> Result<(), SurveyError> {
    for Extra { place, fstype, entry } in placer.extras() {
        let mut fs = FsSpec::new(next_id(spec), place, fstype);
        fs.label.clone_from(&entry.label);
        check_label(&fs)?;
        spec.filesystems.push(fs);
    }
    Ok(())
}

/// Names the data streams: one for all trees, then one for each raw partition.
pub(super) fn streams(spec: &mut InstallSpec) {
    let tree = (!spec.trees.is_empty()).then_some(StreamKind::Tree);
    let raw = (0..spec.raw.len())
        .filter_map(|index| u32::try_from(index).ok())
        .map(|index| StreamKind::Raw { index });
    let kinds: Vec<StreamKind> = tree.into_iter().chain(raw).collect();
    let named = kinds.into_iter().enumerate();
    spec.streams = named
        .map(|(index, kind)| StreamPlan {
            name: format!("kainstall{}", index + FIRST_STREAM),
            kind,
        })
        .collect();
}

/// Adds one tree for each mount point, but only one for each subvolume.
fn trees(spec: &mut InstallSpec, mounts: &[FoundMount]) {
    let mut seen: BTreeSet<(u32, Option<String>)> = BTreeSet::new();
    for mount in mounts {
        let holds = |fs: &&FsSpec| fs.mounts.iter().any(|spec| spec.path == mount.mount_point);
        let Some(fs) = spec.filesystems.iter().find(holds) else {
            continue;
        };
        let counted = spec.trees.iter().any(|tree| tree.filesystem == fs.id);
        let tree = TreeSpec {
            id: u32::try_from(spec.trees.len()).unwrap_or(u32::MAX),
            path: mount.mount_point.clone(),
            filesystem: fs.id,
            used_bytes: if counted { 0 } else { fs.used_bytes },
        };
        if seen.insert((fs.id, mount.subvol.clone())) {
            spec.trees.push(tree);
        }
    }
}

/// Returns a note if the clone takes notably more room than the golden file system does.
fn expansion_note(fs: &FsSpec, golden_bytes: u64) -> Option<String> {
    if fs.expanded_bytes < MIB.max(golden_bytes / 20) {
        return None;
    }
    let path = fs.mounts.first().map_or("", |mount| &mount.path);
    Some(format!(
        "{path} needs about {} MiB on a clone: on the golden node files and snapshots share their blocks or are \
         compressed, {} MiB in use",
        needed_bytes(fs).div_ceil(MIB),
        golden_bytes / MIB
    ))
}

/// Measures the excluded directories that lie on this file system.
fn excluded_here(spec: &InstallSpec, root: &Path, mounts: &[FoundMount], fs: &FsSpec) -> Vec<Usage> {
    let holder = |dir: &Path| {
        let holding = mounts.iter().filter(|mount| dir.starts_with(&mount.mount_point));
        holding
            .max_by_key(|mount| mount.mount_point.len())
            .map(|mount| mount.mount_point.clone())
    };
    let dirs = spec
        .excluded
        .iter()
        .map(|bytes| Path::new(std::ffi::OsStr::from_bytes(bytes)));
    let here =
        dirs.filter(|dir| holder(dir).is_some_and(|path| fs.mounts.iter().any(|mount| mount.path == path)));
    // A file system mounted at another place is cloned, though it is also seen below an excluded directory.
    let stops = mounts
        .iter()
        .filter_map(|mount| usage::identity(&mount.source))
        .collect();
    let brought = |dir: &Path| mounts.iter().any(|mount| is_other_view(dir, mount, root));
    here.filter(|dir| !brought(dir))
        .map(|dir| usage::of_tree(&below(root, dir), &stops))
        .collect()
}

/// True if the directory is the root of a mount that is mounted somewhere else.
fn is_other_view(dir: &Path, mount: &FoundMount, root: &Path) -> bool {
    dir != Path::new(&mount.mount_point)
        && usage::identity(&mount.source).is_some()
        && usage::identity(&mount.source) == usage::identity(&below(root, dir))
}

/// Returns where the partition is mounted writable, with or without a line in fstab.
fn mounted_writable(name: &str) -> Result<Option<PathBuf>, SurveyError> {
    let writable = |info: &mountinfo::MountInfo| info.super_options.split(',').any(|option| option == "rw");
    let is_it = |info: &mountinfo::MountInfo| {
        let device = match info.device {
            (0, _) => BlockDevice::from_node(&info.source),
            numbers => BlockDevice::from_numbers(numbers).ok(),
        };
        device.is_some_and(|device| device.name == name)
    };
    let mounts = mountinfo::read()?;
    Ok(mounts
        .into_iter()
        .find(|info| writable(info) && is_it(info))
        .map(|info| info.mount_point))
}

fn next_id(spec: &InstallSpec) -> u32 {
    u32::try_from(spec.filesystems.len()).unwrap_or(u32::MAX)
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}
