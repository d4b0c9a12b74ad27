//! The golden node: its mounts, their partitions and their file systems.
//!
//! [`survey`] reads `etc/fstab` below the golden root and checks everything that the server can check before
//! it asks a node to do anything. It writes nothing. fstab defines *what* belongs to the system; mountinfo
//! and the devices show what each of them is. If the two disagree, the survey stops.

mod advice;
mod assemble;
mod classify;
mod content;
mod device;
mod drives;
mod error;
mod features;
mod filesystem;
mod found;
mod known;
mod options;
mod place;
mod subvolumes;
mod typed;
mod usage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use advice::MountDesc;
pub use error::SurveyError;
pub use typed::{DeviceName, TypedOptions};

use crate::desc::Desc;
use crate::spec::InstallSpec;
use crate::table::BOOT_CODE_LEN;
use device::BlockDevice;
use found::{Finder, Wishes};
use place::Placer;
use subvolumes::Volumes;

/// The operator's wishes about the golden node, as [`SurveyOptions::parse`] gives them.
#[derive(Debug, Clone, Default)]
pub struct SurveyOptions {
    /// The golden root: `/`, or `--root DIR`.
    pub root: PathBuf,
    /// `-p DRIVE DESC`: drives with their desc files.
    pub drives: BTreeMap<DeviceName, Desc>,
    /// `-x DIR`: absolute paths below the golden root, without `.` and `..`.
    pub excluded_dirs: Vec<PathBuf>,
    /// `--snapshots`: btrfs snapshots are cloned too.
    pub with_snapshots: bool,
    /// `-X DISK`: disks of the golden node that are left out.
    pub excluded_disks: Vec<DeviceName>,
    /// `-m` and `-M`: boot code for the clones' drives.
    pub boot_code: Vec<BootCode>,
    /// `-D PARTITION`: partitions that are copied byte by byte.
    pub raw: Vec<DeviceName>,
    /// `--keep-uuids`: the clones get the golden UUIDs.
    pub keep_uuids: bool,
    /// `-r`: the boot loader to install, and options for the initial RAM disk.
    pub boot_loader: Option<String>,
}

/// Boot code for the master boot record of one of the clones' drives.
#[derive(Debug, Clone)]
pub enum BootCode {
    /// `-m DRIVE`: the code of the golden drive.
    OfDrive(DeviceName),
    /// `-M DRIVE FILE`.
    FromFile {
        /// Name of the drive that gets it.
        drive: DeviceName,
        /// The file that it was read from.
        file: PathBuf,
        /// The code: the first bytes of the file.
        code: Box<[u8; BOOT_CODE_LEN]>,
    },
}

impl BootCode {
    /// Returns the drive that gets it.
    const fn drive(&self) -> &DeviceName {
        match self {
            Self::OfDrive(drive) | Self::FromFile { drive, .. } => drive,
        }
    }

    fn option(&self) -> String {
        match self {
            Self::OfDrive(drive) => format!("-m {drive}"),
            Self::FromFile { drive, file, .. } => format!("-M {drive} {}", file.display()),
        }
    }
}

/// Surveys the golden node.
///
/// # Errors
/// [`SurveyError`], each one line that names the fstab line, desc line, device or option and says what to do.
pub fn survey(options: &SurveyOptions) -> Result<InstallSpec, SurveyError> {
    let root = resolved_root(&options.root)?;
    let descs = options
        .drives
        .iter()
        .map(|(name, desc)| (name.to_string(), desc.clone()))
        .collect();
    let excluded_disks = excluded_disks(&options.excluded_disks)?;
    let raw: Vec<String> = options.raw.iter().map(ToString::to_string).collect();
    let wishes = Wishes {
        excluded_disks,
        raw: raw.clone(),
        excluded: options.excluded_dirs.clone(),
        wanted: wanted_mounts(&descs),
        described: descs.keys().cloned().collect(),
        bootable: options.boot_loader.as_deref().map(str::trim) != Some("none"),
    };
    let found = Finder::new(&root, &wishes)?.find()?;

    let mut placer = Placer::new(&descs);
    check_drive_names(&descs, &found)?;
    placer.check_mount_lines(&found.mounts)?;
    advice::check_places(&found, |mount| placer.has_place(mount, &found.mounts))?;
    let mut spec = assemble::empty(options);
    spec.notes.extend(found.notes.iter().cloned());
    assemble::excluded(&mut spec, &root, &options.excluded_dirs);
    let volumes = Volumes::choose(&mut spec, &found.mounts, options.with_snapshots);
    assemble::filesystems(&mut spec, &mut placer, &volumes, &found.mounts, &root)?;
    assemble::swaps(&mut spec, &mut placer, &found.swaps)?;
    assemble::raw(&mut spec, &mut placer, &raw)?;
    assemble::extras(&mut spec, &placer)?;
    spec.swap_files = found.swap_files;
    drives::build(&mut spec, &descs, &placer, &options.boot_code)?;
    assemble::streams(&mut spec);
    spec.known = known::devices(&spec, &root, &wishes.excluded_disks)?;
    Ok(spec)
}

/// Describes the golden node at `root` by its mount points, whatever they lie on: plain partitions, LVM, LUKS, RAID, whole
/// disks.
///
/// # Errors
/// [`SurveyError`]: the root cannot be read, or a line of its fstab cannot be followed.
pub fn describe(root: &Path) -> Result<MountDesc, SurveyError> {
    let root = resolved_root(root)?;
    let found = Finder::new(&root, &Wishes::default())?.find()?;
    let mounts: Vec<_> = found.mounts.iter().collect();
    Ok(MountDesc::of(&found, &mounts))
}

fn wanted_mounts(descs: &BTreeMap<String, Desc>) -> Vec<String> {
    let lines = descs.values().flat_map(Desc::numbered);
    lines.filter_map(|(_, entry)| entry.mount.clone()).collect()
}

/// Refuses a desc file for a drive that the golden node lacks if none of its lines names a mount point. This
/// is a typing error, so it is reported before any other fault of the file.
fn check_drive_names(descs: &BTreeMap<String, Desc>, found: &found::Found) -> Result<(), SurveyError> {
    let drives: std::collections::BTreeSet<&str> = found
        .mounts
        .iter()
        .filter_map(|mount| Some(mount.on.as_ref()?.0.as_str()))
        .collect();
    for (name, desc) in descs {
        let takes_something = desc.numbered().iter().any(|(_, entry)| entry.mount.is_some());
        let is_there = drives.contains(name.as_str()) || BlockDevice::from_name(name).is_some();
        if !is_there && !takes_something && !drives.is_empty() {
            let there: Vec<&str> = drives.iter().copied().collect();
            let problem = format!(
                "the golden node has no drive of that name (its files are on {}), and no line of the desc file takes one \
                 of its mount points with mount=",
                there.join(", ")
            );
            return Err(SurveyError::option(format!("-p {name}"), problem));
        }
    }
    Ok(())
}

fn resolved_root(root: &Path) -> Result<PathBuf, SurveyError> {
    let failed = |problem: String| SurveyError::Root {
        root: root.to_owned(),
        problem,
    };
    let resolved = root.canonicalize().map_err(|error| failed(error.to_string()))?;
    if resolved.is_dir() {
        Ok(resolved)
    } else {
        Err(failed("it is not a directory".to_owned()))
    }
}

/// Checks the disks of `-X`, which the golden node must have.
fn excluded_disks(names: &[DeviceName]) -> Result<Vec<String>, SurveyError> {
    let checked = names
        .iter()
        .map(|name| match BlockDevice::from_name(name.as_str()) {
            Some(device) if device.partition.is_none() => Ok(name.to_string()),
            Some(_) => Err(SurveyError::option(
                format!("-X {name}"),
                "it is a partition; -X takes whole disks",
            )),
            None => Err(SurveyError::option(
                format!("-X {name}"),
                "there is no such disk: name one that lsblk lists",
            )),
        });
    checked.collect()
}
