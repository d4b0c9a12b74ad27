//! The machine as a whole: host name, limits, file systems the kernel knows, sync, reboot.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};

use crate::HostError;
use crate::run::Tool;

/// Wanted limit of open files: enough for many readers and writers and a chain of sockets, below every
/// distribution's hard limit.
const WANTED_OPEN_FILES: u64 = 65_536;
/// Time limit of modprobe, which answers at once or hangs on a broken driver.
const MODPROBE_LIMIT: Duration = Duration::from_secs(30);

/// Returns the machine's host name as it is set (no lookup); it need not be fully qualified.
#[must_use]
pub fn hostname() -> String {
    let name = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty() && name != "(none)")
        .unwrap_or_else(|| "localhost".to_owned())
}

/// True if this process runs as root, which every disk operation needs.
#[must_use]
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Raises the soft limit of open files to 65 536, or to the hard limit. Returns the limit now in force.
///
/// # Errors
/// When the kernel refuses.
pub fn raise_nofile() -> Result<u64, HostError> {
    let failed = |errno: nix::Error| HostError::new("raising the limit of open files", errno);
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    let wanted = WANTED_OPEN_FILES.min(hard).max(soft);
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).map_err(failed)?;
    Ok(wanted)
}

/// True if the kernel can mount file systems of type `name`; loads its module when there is one.
///
/// Reads `/proc/filesystems`; the only change it may make is that `modprobe` loads a module.
#[must_use]
pub fn kernel_mounts(name: &str) -> bool {
    let listed = || {
        fs::read_to_string("/proc/filesystems").is_ok_and(|text| {
            text.lines()
                .any(|line| line.split_whitespace().last() == Some(name))
        })
    };
    if listed() {
        return true;
    }
    let load = Tool::new("modprobe")
        .describe(format!("loading the driver of {name}"))
        .args(["-q", "--", name]);
    match load.timeout(MODPROBE_LIMIT).run() {
        Ok(_) => listed(),
        Err(error) => {
            tracing::debug!(%error, "no such file system driver");
            false
        }
    }
}

/// Returns the most memory this process has held so far, in bytes (`ru_maxrss` of getrusage(2)); 0 when the
/// kernel does not say.
#[must_use]
pub fn peak_memory_bytes() -> u64 {
    let kib = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| usage.max_rss());
    u64::try_from(kib).unwrap_or(0) * 1024
}

/// Returns the memory that programs can still get without swapping, in bytes (`MemAvailable` of
/// proc_meminfo(5)); `None` when the kernel does not say.
#[must_use]
pub fn available_memory_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim()
        .strip_suffix(" kB")?
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

/// Writes everything cached to the disks.
pub fn sync() {
    nix::unistd::sync();
}

/// Reboots the machine. If an init runs, it is asked as `systemctl reboot` or `reboot` would. If this process
/// is the first one itself, it syncs and calls reboot(2).
///
/// # Errors
/// When neither way is open. On success of reboot(2) it does not return.
pub fn reboot() -> Result<(), HostError> {
    sync();
    if nix::unistd::getpid().as_raw() == 1 {
        // SAFETY: reboot(2) takes a number; everything has been written out above.
        unsafe { nix::libc::reboot(nix::libc::RB_AUTOBOOT) };
        return Err(HostError::new("rebooting", std::io::Error::last_os_error()));
    }
    let tool = Tool::new("reboot")
        .describe("rebooting")
        .timeout(Duration::from_secs(60));
    tool.run()
        .map(|_| ())
        .map_err(|error| HostError::new("rebooting", std::io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_open_file_limit_never_falls() {
        let before = getrlimit(Resource::RLIMIT_NOFILE).unwrap().0;
        assert!(raise_nofile().unwrap() >= before.min(WANTED_OPEN_FILES));
    }

    #[test]
    fn the_kernel_mounts_ext4_but_no_invention() {
        assert!(kernel_mounts("ext4"));
        assert!(!kernel_mounts("ka-no-such-fs"));
    }

    #[test]
    fn memory_is_known_in_bytes() {
        assert!(peak_memory_bytes() > 1 << 20);
        assert!(available_memory_bytes().unwrap() > 1 << 20);
    }

    #[test]
    fn the_host_name_needs_no_domain() {
        assert!(!hostname().is_empty());
    }
}
