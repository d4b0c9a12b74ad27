//! Processor time of a set of processes, with what the kernel does in their name, from a control group.
//!
//! cgroup v1 `cpuacct` or v2 `cpu.stat` (`Documentation/admin-guide/cgroup-v1/cpuacct.rst`, `cgroup-v2.rst`).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

/// A control group of ours; removed on drop, when its processes are gone.
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
        let v1 = Path::new("/sys/fs/cgroup/cpuacct");
        let base = if v1.is_dir() {
            v1
        } else {
            Path::new("/sys/fs/cgroup")
        };
        let path = base.join(format!("ka-{}-{role}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("making control group {}", path.display()))?;
        Ok(Self { path })
    }

    /// Its directory, for [`crate::process::Program::cgroup`].
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// User and system time of every process that was ever in it.
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

    /// The largest resident size that any process now in the group has had, in bytes. Ask often: the dead are not counted.
    #[must_use]
    pub fn peak_resident(&self) -> u64 {
        let pids = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        pids.lines().filter_map(high_water).max().unwrap_or(0)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}

fn high_water(pid: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}
