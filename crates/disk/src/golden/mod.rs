//! The golden node: what is mounted where, on which partitions, with which file systems.
//!
//! [`survey`] reads `etc/fstab` below the golden root and checks everything that the server can check before a
//! node is asked to do anything. It writes nothing. fstab says *what* belongs to the system; mountinfo and the
//! devices themselves say what that really is, and where the two disagree the survey stops.

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
mod usage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use error::SurveyError;

use crate::desc::Desc;
use crate::spec::InstallSpec;
use device::BlockDevice;
use found::{Finder, Wishes};
use place::Placer;
use subvolumes::Volumes;

/// What the operator asked for.
#[derive(Debug, Clone, Default)]
pub struct SurveyOptions {
    /// The golden root: `/`, or `--root DIR`.
    pub root: PathBuf,
    /// `-p DRIVE DESC`: drives by name (`sda` or `/dev/sda`) with their desc files.
    pub drives: Vec<(String, Desc)>,
    /// `-x DIR`: absolute paths below the golden root.
    pub excluded_dirs: Vec<PathBuf>,
    /// `--snapshots`: btrfs snapshots travel too.
    pub with_snapshots: bool,
    /// `-X 'sdb|sdc'`: disks by name; bars separate several.
    pub excluded_disks: Vec<String>,
    /// `-m` and `-M`.
    pub boot_code: Vec<BootCodeSource>,
    /// `-D PART`: partitions by golden name (`sda1`).
    pub raw: Vec<String>,
    /// `--keep-uuids`.
    pub keep_uuids: bool,
    /// `-r`.
    pub boot_loader: Option<String>,
}

/// Where a drive's boot code comes from.
#[derive(Debug, Clone)]
pub enum BootCodeSource {
    /// `-m DRIVE`: the golden drive's own master boot record.
    Drive(String),
    /// `-M DRIVE FILE`: a file of exactly 446 bytes.
    File {
        /// The drive that gets it.
        drive: String,
        /// The file.
        file: PathBuf,
    },
}

impl BootCodeSource {
    fn option(&self) -> String {
        match self {
            Self::Drive(drive) => format!("-m {drive}"),
            Self::File { drive, file } => format!("-M {drive} {}", file.display()),
        }
    }
}

/// Surveys the golden node.
///
/// # Errors
/// [`SurveyError`], each one line that names the fstab line, desc line, device or option and says what to do.
pub fn survey(options: &SurveyOptions) -> Result<InstallSpec, SurveyError> {
    let root = resolved_root(&options.root)?;
    let descs = descs_by_drive(&options.drives)?;
    let excluded_disks = excluded_disks(&options.excluded_disks)?;
    let raw: Vec<String> = options.raw.iter().map(|name| kernel_name(name)).collect();
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
    assemble::excluded(&mut spec, &root, &options.excluded_dirs)?;
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

fn wanted_mounts(descs: &BTreeMap<String, Desc>) -> Vec<String> {
    let lines = descs.values().flat_map(Desc::numbered);
    lines.filter_map(|(_, entry)| entry.mount.clone()).collect()
}

/// A desc file for a drive that the golden node has not, and that says of no mount point that it goes there, is a typing
/// error: said before anything else about it.
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

fn descs_by_drive(drives: &[(String, Desc)]) -> Result<BTreeMap<String, Desc>, SurveyError> {
    let mut descs = BTreeMap::new();
    for (drive, desc) in drives {
        let name = kernel_name(drive);
        if let Some(device) = BlockDevice::from_name(&name).filter(|device| device.partition.is_some()) {
            let problem = format!(
                "{name} is a partition; -p takes a whole drive, such as {}",
                device.drive()
            );
            return Err(SurveyError::option(format!("-p {drive}"), problem));
        }
        if descs.insert(name, desc.clone()).is_some() {
            return Err(SurveyError::option(
                format!("-p {drive}"),
                "the drive has a desc file already: give -p once for each drive",
            ));
        }
    }
    Ok(descs)
}

fn excluded_disks(options: &[String]) -> Result<Vec<String>, SurveyError> {
    let names = options
        .iter()
        .flat_map(|option| option.split('|'))
        .map(str::trim)
        .filter(|name| !name.is_empty());
    let checked = names.map(|name| {
        let disk = kernel_name(name);
        match BlockDevice::from_name(&disk) {
            Some(device) if device.partition.is_none() => Ok(disk),
            Some(_) => Err(SurveyError::option(
                format!("-X {name}"),
                "it is a partition; -X takes whole disks",
            )),
            None => Err(SurveyError::option(
                format!("-X {name}"),
                "there is no such disk: name one that lsblk lists",
            )),
        }
    });
    checked.collect()
}

/// `/dev/sda` → `sda`; a link such as `/dev/disk/by-id/…` → what it points to.
fn kernel_name(name: &str) -> String {
    let path = Path::new(name);
    let linked = path.is_absolute().then(|| BlockDevice::from_node(path)).flatten();
    linked.map_or_else(
        || name.strip_prefix("/dev/").unwrap_or(name).to_owned(),
        |device| device.name,
    )
}
