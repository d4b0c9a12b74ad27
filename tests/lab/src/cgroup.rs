//! Processor time of a set of processes, with the kernel's work for them: counted, or limited, by a control
//! group.
//!
//! cgroup v1 `cpuacct` and `cpu`, or v2 (`Documentation/admin-guide/cgroup-v1/cpuacct.rst`, `cgroup-v2.rst`;
//! `Documentation/scheduler/sched-bwc.rst`).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::caretaker;

/// Directory of the control groups of version 2, and of the controllers of version 1.
const ROOT: &str = "/sys/fs/cgroup";
/// Start of a group's name; the id of the process that made it follows.
const PREFIX: &str = "ka-";

/// A control group of this process; removed on drop, when its processes are gone.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes a group for one role of one run.
    ///
    /// # Errors
    /// There is no cgroup file system, or not root.
    pub fn new(role: &str) -> Result<Self> {
        Self::below(&base("cpuacct"), role)
    }

    /// Makes a group whose processes together get `quota` of processor time in each `period` (1 ms to 1 s),
    /// and then wait for the next.
    ///
    /// # Errors
    /// The machine's control groups cannot limit a processor, or not root.
    pub fn limited(role: &str, quota: Duration, period: Duration) -> Result<Self> {
        let base = base("cpu");
        // Version 2 passes the controller to new groups only on request; the kernel refuses if it has no such
        // controller.
        let _ = fs::write(base.join("cgroup.subtree_control"), "+cpu");
        let group = Self::below(&base, role)?;
        let (quota, period) = (quota.as_micros(), period.as_micros());
        let is_limited = group.set("cpu.cfs_period_us", &period.to_string())?
            && group.set("cpu.cfs_quota_us", &quota.to_string())?;
        if !is_limited && !group.set("cpu.max", &format!("{quota} {period}"))? {
            bail!(
                "control groups here cannot limit a processor: {} has neither cpu.cfs_quota_us (v1) nor cpu.max (v2); mount the \
                 cpu controller, with CONFIG_CFS_BANDWIDTH in the kernel",
                group.path.display()
            );
        }
        Ok(group)
    }

    /// Removes the limit on its processes, from now on.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn lift(&self) -> Result<()> {
        self.set("cpu.cfs_quota_us", "-1")?;
        self.set("cpu.max", "max").map(drop)
    }

    /// Sets this value; returns false if there is no such setting.
    fn set(&self, name: &str, value: &str) -> Result<bool> {
        let file = self.path.join(name);
        if file.exists() {
            fs::write(&file, value).with_context(|| format!("writing {value:?} to {}", file.display()))?;
            return Ok(true);
        }
        Ok(false)
    }

    fn below(base: &Path, role: &str) -> Result<Self> {
        caretaker::engage();
        let path = base.join(format!("{PREFIX}{}-{role}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("making control group {}", path.display()))?;
        Ok(Self { path })
    }

    /// Returns its directory, for [`crate::process::Program::cgroup`].
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns user and system time of every process that was ever in it.
    ///
    /// # Errors
    /// The accounting file cannot be read.
    pub fn used(&self) -> Result<Duration> {
        if let Ok(nanos) = fs::read_to_string(self.path.join("cpuacct.usage")) {
            return Ok(Duration::from_nanos(nanos.trim().parse()?));
        }
        let stat = fs::read_to_string(self.path.join("cpu.stat")).context("reading cpu.stat")?;
        let micros = stat.lines().find_map(|line| line.strip_prefix("usage_usec "));
        Ok(Duration::from_micros(
            micros.context("no usage_usec in cpu.stat")?.trim().parse()?,
        ))
    }

    /// Returns the largest resident size that any process now in the group has had, in bytes. Ask often:
    /// processes that have ended are not counted.
    #[must_use]
    pub fn peak_resident(&self) -> u64 {
        let pids = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        pids.lines().filter_map(high_water).max().unwrap_or(0)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The last process may have been killed a moment ago.
        for _ in 0..20 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        eprintln!("lab: control group {} stays behind", self.path.display());
    }
}

/// Removes the groups whose owner has ended. `is_gone` decides that from the part behind [`PREFIX`] in their
/// names; their processes must have ended.
pub(crate) fn remove_stale(is_gone: impl Fn(Option<&str>) -> bool) {
    for base in ["cpuacct", "cpu"].map(base) {
        for entry in fs::read_dir(&base).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if is_gone(name.to_str().and_then(|name| name.strip_prefix(PREFIX))) {
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}

/// Returns the directory of groups of a controller: that of version 1, or the common one.
fn base(controller: &str) -> PathBuf {
    let v1 = Path::new(ROOT).join(controller);
    if v1.is_dir() { v1 } else { PathBuf::from(ROOT) }
}

fn high_water(pid: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}
