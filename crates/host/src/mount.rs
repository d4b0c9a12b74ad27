//! Mounts by mount(2), without mount(8): the boot image has no such program, and mount(8) would read the
//! fstab of another system.
//!
//! A [`MountGuard`] unmounts when it is dropped. It tries again while the kernel reports busy, then logs and
//! leaves the mount. It never detaches it lazily (the disk would still be written to) and never deletes.

use std::io;
use std::iter::successors;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags};

use crate::HostError;
use crate::busy::while_busy;

/// Attempts to unmount, about 6 seconds in all: a file system just filled may be busy for a moment (udev, a
/// scanner).
const UNMOUNT_TRIES: usize = 12;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Mounts `source` at `target`. `options` is a comma-separated list as in fstab's fourth field: the generic
/// ones (mount(8), "filesystem-independent mount options") become flags, the rest goes to the file system.
///
/// # Errors
/// [`HostError`] naming source, type and target; errno `ENODEV` means the kernel does not know `fstype`.
pub fn mount(source: &Path, target: &Path, fstype: &str, options: &str) -> Result<(), HostError> {
    let (flags, data) = split_options(options);
    let data = (!data.is_empty()).then_some(data.as_str());
    nix::mount::mount(Some(source), target, Some(fstype), flags, data).map_err(|errno| {
        let with = if options.is_empty() {
            String::new()
        } else {
            format!(" with {options}")
        };
        let what = format!(
            "mounting {} on {} as {fstype}{with}",
            source.display(),
            target.display()
        );
        HostError::new(what, errno)
    })
}

/// Unmounts `target`, trying again for about six seconds while it is busy.
///
/// # Errors
/// [`HostError`]; errno `EBUSY` when it still was in use at the last try, `EINVAL` when nothing is mounted.
pub fn unmount(target: &Path) -> Result<(), HostError> {
    let pauses = successors(Some(FIRST_PAUSE), |pause| Some((*pause * 2).min(LONGEST_PAUSE)));
    while_busy(pauses.take(UNMOUNT_TRIES - 1), || {
        nix::mount::umount2(target, MntFlags::UMOUNT_NOFOLLOW).map_err(io::Error::from)
    })
    .map_err(|source| HostError::new(format!("unmounting {}", target.display()), source))
}

/// A mount of this process, unmounted at the latest when this is dropped.
#[derive(Debug)]
#[must_use = "dropping the guard unmounts"]
pub struct MountGuard {
    target: PathBuf,
    mounted: bool,
}

impl MountGuard {
    /// Mounts like [`mount`] and returns the guard.
    ///
    /// # Errors
    /// As [`mount`].
    pub fn mount(source: &Path, target: &Path, fstype: &str, options: &str) -> Result<Self, HostError> {
        mount(source, target, fstype, options)?;
        Ok(Self {
            target: target.to_owned(),
            mounted: true,
        })
    }

    /// Returns the mount point.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Unmounts now and reports the result. After an error, drop tries once more.
    ///
    /// # Errors
    /// As [`unmount`].
    pub fn unmount(mut self) -> Result<(), HostError> {
        unmount(&self.target)?;
        self.mounted = false;
        Ok(())
    }
}

impl Drop for MountGuard {
    fn drop(&mut self) {
        if !self.mounted {
            return;
        }
        if let Err(error) = unmount(&self.target) {
            tracing::error!(%error, "left mounted");
        }
    }
}

fn split_options(options: &str) -> (MsFlags, String) {
    let mut flags = MsFlags::empty();
    let mut data = Vec::new();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match generic_flag(option) {
            Some((flag, true)) => flags.insert(flag),
            Some((flag, false)) => flags.remove(flag),
            None => data.push(option),
        }
    }
    (flags, data.join(","))
}

/// Returns the flag of a generic option, and true if the option sets it, false if it clears it.
fn generic_flag(option: &str) -> Option<(MsFlags, bool)> {
    Some(match option {
        "defaults" => (MsFlags::empty(), true),
        "ro" => (MsFlags::MS_RDONLY, true),
        "rw" => (MsFlags::MS_RDONLY, false),
        "nosuid" => (MsFlags::MS_NOSUID, true),
        "suid" => (MsFlags::MS_NOSUID, false),
        "nodev" => (MsFlags::MS_NODEV, true),
        "dev" => (MsFlags::MS_NODEV, false),
        "noexec" => (MsFlags::MS_NOEXEC, true),
        "exec" => (MsFlags::MS_NOEXEC, false),
        "noatime" => (MsFlags::MS_NOATIME, true),
        "atime" => (MsFlags::MS_NOATIME, false),
        "nodiratime" => (MsFlags::MS_NODIRATIME, true),
        "relatime" => (MsFlags::MS_RELATIME, true),
        "strictatime" => (MsFlags::MS_STRICTATIME, true),
        "sync" => (MsFlags::MS_SYNCHRONOUS, true),
        "async" => (MsFlags::MS_SYNCHRONOUS, false),
        "dirsync" => (MsFlags::MS_DIRSYNC, true),
        "bind" => (MsFlags::MS_BIND, true),
        "rbind" => (MsFlags::MS_BIND.union(MsFlags::MS_REC), true),
        "remount" => (MsFlags::MS_REMOUNT, true),
        "silent" => (MsFlags::MS_SILENT, true),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nix::errno::Errno;

    use super::*;

    #[test]
    fn generic_options_become_flags_and_the_rest_goes_to_the_file_system() {
        let (flags, data) = split_options("defaults,noatime,compress=zstd:1,ro,rw,subvol=@home");
        assert_eq!(flags, MsFlags::MS_NOATIME);
        assert_eq!(data, "compress=zstd:1,subvol=@home");
    }

    #[test]
    fn a_guard_unmounts_when_it_is_dropped_even_below_a_busy_moment() {
        let dir = tempfile::tempdir().unwrap();
        let guard = MountGuard::mount(Path::new("ka-test"), dir.path(), "tmpfs", "size=1M,nodev").unwrap();
        std::fs::write(dir.path().join("file"), b"x").unwrap();
        let open = std::fs::File::open(dir.path().join("file")).unwrap();
        let holder = thread::spawn(move || {
            thread::sleep(Duration::from_millis(150));
            drop(open);
        });
        drop(guard);
        holder.join().unwrap();
        assert!(!dir.path().join("file").exists());
    }

    #[test]
    fn an_unknown_file_system_is_named_in_the_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = mount(Path::new("/dev/null"), dir.path(), "nosuchfs", "").unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENODEV as i32));
        assert!(error.to_string().contains("as nosuchfs"), "{error}");
    }
}
