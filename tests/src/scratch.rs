//! Directories for one run, and the sweep that undoes what killed runs left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};

use crate::interrupt;
use crate::netns;
use crate::process::Program;

/// Where scratch directories lie unless `KA_LAB_DIR` says otherwise: on a real disk, for disks of some GiB.
const BASE: &str = "/var/tmp";
const PREFIX: &str = "ka-lab-";

/// A directory of this process; removed on drop with whatever is mounted and attached in it, never while something stays
/// mounted beneath it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes an empty directory whose name says whose and what for.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(label: &str) -> Result<Self> {
        Self::below(&base(), label)
    }

    /// Makes it below another directory, such as `/dev/shm`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn below(base: &Path, label: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("{PREFIX}{}-{number}-{label}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self { path })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a directory in it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _whole = interrupt::shield();
        // What a program that was killed had mounted or attached in here goes first, as debootstrap's /proc.
        if let Err(err) = undo(&self.path) {
            eprintln!("lab: {} stays behind: {err:#}", self.path.display());
        }
    }
}

/// Undoes what runs that were killed left behind: namespaces, mounts, loop devices, directories. What belongs to a
/// process that still lives is left alone.
pub fn sweep() {
    for name in stale_namespaces() {
        eprintln!("lab: removing namespace {name} of a run that was killed");
        netns::remove_stale(&name);
    }
    for base in [base(), PathBuf::from("/dev/shm")] {
        for dir in stale_dirs(&base) {
            eprintln!("lab: removing {} of a run that was killed", dir.display());
            if let Err(err) = undo(&dir) {
                eprintln!("lab: {} stays behind: {err:#}", dir.display());
            }
        }
    }
}

/// The mount points at or below a directory, innermost last.
///
/// # Errors
/// `/proc/self/mountinfo` cannot be read.
pub fn mounts_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    // proc(5): the fifth field is the mount point, with octal escapes; ours have none.
    let points = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from);
    let mut below: Vec<PathBuf> = points.filter(|point| point.starts_with(dir)).collect();
    below.sort();
    Ok(below)
}

fn base() -> PathBuf {
    std::env::var_os("KA_LAB_DIR").map_or_else(|| PathBuf::from(BASE), PathBuf::from)
}

fn undo(dir: &Path) -> Result<()> {
    for point in mounts_below(dir)?.iter().rev() {
        Program::new("umount").arg(point).run()?;
    }
    let loops = Program::new("losetup")
        .args(["--list", "--noheadings", "--output", "NAME,BACK-FILE"])
        .run()?;
    for line in loops.lines() {
        let mut words = line.split_whitespace();
        if let (Some(device), Some(file)) = (words.next(), words.next())
            && Path::new(file).starts_with(dir)
        {
            Program::new("losetup").args(["--detach", device]).run()?;
        }
    }
    remove(dir)
}

fn remove(dir: &Path) -> Result<()> {
    let mounted = mounts_below(dir)?;
    anyhow::ensure!(mounted.is_empty(), "{} is still mounted", mounted[0].display());
    fs::remove_dir_all(dir).context("removing it")
}

fn stale_namespaces() -> Vec<String> {
    names_in(Path::new("/run/netns"))
        .into_iter()
        .filter(|name| is_stale(name.strip_prefix("ka-")))
        .collect()
}

fn stale_dirs(base: &Path) -> Vec<PathBuf> {
    let names = names_in(base)
        .into_iter()
        .filter(|name| is_stale(name.strip_prefix(PREFIX)));
    names.map(|name| base.join(name)).collect()
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// `rest` begins with the id of the process that made the thing.
fn is_stale(rest: Option<&str>) -> bool {
    let owner = rest
        .and_then(|rest| rest.split('-').next())
        .and_then(|pid| pid.parse::<u32>().ok());
    owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_things_of_dead_processes_are_stale() {
        assert!(!is_stale(Some(&format!("{}-1-x", std::process::id()))));
        assert!(is_stale(Some("4194305-1-x")));
        assert!(!is_stale(Some("sw")));
        assert!(!is_stale(None));
    }
}
