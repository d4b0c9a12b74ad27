//! Directories for one run, and the sweep that undoes what killed runs left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::{OWNER_VARIABLE, Program};
use crate::{caretaker, cgroup, interrupt, netns};

/// Directory of scratch directories unless `KA_LAB_DIR` names another: on a real disk, for disks of some GiB.
const BASE: &str = "/var/tmp";
const PREFIX: &str = "ka-lab-";
/// Attempts, and the pause between them, to undo something that a dying process may still hold.
const SWEEPS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// A directory of this process. On drop it is removed with its mounts and attached devices, but never while
/// something stays mounted beneath it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes an empty directory whose name has the process's id and the label.
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
        caretaker::engage();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("{PREFIX}{}-{number}-{label}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self { path })
    }

    /// Returns the directory.
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
        // The mounts and devices of a killed program go first, such as debootstrap's /proc.
        if let Err(err) = undo(&self.path) {
            eprintln!("lab: {} stays behind: {err:#}", self.path.display());
        }
    }
}

/// Undoes what killed runs left behind: namespaces, control groups, mounts, loop devices, directories. It
/// leaves alone what belongs to a process that still lives.
pub fn sweep() {
    for name in stale_namespaces() {
        eprintln!("lab: removing namespace {name} of a run that was killed");
        netns::remove_stale(&name);
    }
    cgroup::remove_stale(is_stale);
    for base in [base(), PathBuf::from("/dev/shm")] {
        for dir in stale_dirs(&base) {
            eprintln!("lab: removing {} of a run that was killed", dir.display());
            if let Err(err) = undo(&dir) {
                eprintln!("lab: {} stays behind: {err:#}", dir.display());
            }
        }
    }
}

/// Undoes what one process, which has ended, left behind: the processes that it had started, namespaces,
/// control groups, mounts, loop devices, directories.
pub fn sweep_after(pid: u32) {
    let owned = |rest: Option<&str>| owner(rest) == Some(pid);
    kill_programs_of(pid);
    for name in names_in(Path::new("/run/netns")) {
        if owned(name.strip_prefix("ka-")) {
            netns::remove_stale(&name);
        }
    }
    cgroup::remove_stale(owned);
    for base in [base(), PathBuf::from("/dev/shm")] {
        for name in names_in(&base) {
            if owned(name.strip_prefix(PREFIX)) {
                undo_with_patience(&base.join(name));
            }
        }
    }
}

/// Returns true if there is a process of this id that has not ended (a zombie has).
#[must_use]
pub fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // proc(5): the state follows the name, which is in brackets and may hold anything.
    let state = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.split_whitespace().next());
    state.is_some_and(|state| state != "Z" && state != "X")
}

/// Ends the programs that a lab's process had started: all of them have its id in their environment.
fn kill_programs_of(owner: u32) {
    let mark = format!("{OWNER_VARIABLE}={owner}");
    let marked = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|word| word == mark.as_bytes())
    };
    // It tries again and again, because a process may start another one just before it is killed.
    for _ in 0..SWEEPS {
        let pids: Vec<i32> = names_in(Path::new("/proc"))
            .iter()
            .filter_map(|name| name.parse().ok())
            .filter(marked)
            .collect();
        if pids.is_empty() {
            return;
        }
        for pid in pids {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        thread::sleep(PAUSE);
    }
}

/// Undoes a directory, with several attempts: a program that was killed a moment ago may still hold a mount.
fn undo_with_patience(dir: &Path) {
    for _ in 0..SWEEPS {
        if undo(dir).is_ok() {
            return;
        }
        thread::sleep(PAUSE);
    }
    if let Err(err) = undo(dir) {
        eprintln!("lab: {} stays behind: {err:#}", dir.display());
    }
}

/// Returns the mount points at or below a directory, innermost last.
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
    for name in names_in(Path::new("/sys/block")) {
        let file = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file"));
        if file.is_ok_and(|file| Path::new(file.trim_end()).starts_with(dir)) {
            let device = Path::new("/dev").join(name);
            Program::new("losetup").arg("--detach").arg(device).run()?;
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

fn is_stale(rest: Option<&str>) -> bool {
    owner(rest).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

/// Returns the id of the process that made the thing: `rest` begins with it.
fn owner(rest: Option<&str>) -> Option<u32> {
    rest.and_then(|rest| rest.split('-').next())
        .and_then(|pid| pid.parse().ok())
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
