//! The check of the running kernel, before anything is written: it must have everything that KA needs.
//!
//! | needed | since | without it |
//! |---|---|---|
//! | `openat2(2)` | Linux 5.6 | files of a clone cannot be changed without leaving its tree |
//! | `STATX_ATTR_MOUNT_ROOT` of `statx(2)` | Linux 5.8 | a walk of the golden tree leaves its file system |
//! | `syncfs(2)` that reports lost writes | Linux 5.8 | lost writes go unnoticed; the clone is read back |
//!
//! The first two are tried, because distributions bring them to older kernels too. No call shows the third,
//! so the version decides ([`hears_of_lost_writes`]).

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags, openat2, statx};
use rustix::io::Errno;

/// The oldest kernel that has all of it.
pub const MINIMUM: &str = "5.8";

/// `STATX_ATTR_MOUNT_ROOT` (`linux/stat.h`).
const MOUNT_ROOT: u64 = 0x2000;

/// The running kernel is too old for KA.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this kernel ({release}) is too old: {missing}; KA needs Linux {MINIMUM} or newer here (a newer live system, or one booted \
     from the network with --pxe). Nothing was written"
)]
pub struct KernelTooOld {
    release: String,
    missing: &'static str,
}

/// Tries everything that KA needs of the kernel.
///
/// # Errors
/// The first missing feature, and the version that has it.
pub fn check() -> Result<(), KernelTooOld> {
    let missing = missing(opened_beneath(), known_attributes());
    missing.map_or(Ok(()), |missing| {
        Err(KernelTooOld {
            release: release(),
            missing,
        })
    })
}

/// True if this kernel's syncfs(2) reports writes that were lost since the file system was opened. Otherwise
/// only reading back finds them.
#[must_use]
pub fn hears_of_lost_writes() -> bool {
    is_at_least(&release(), (5, 8))
}

/// Returns `uname -r`; empty if the call fails.
#[must_use]
pub fn release() -> String {
    // SAFETY: all zeros are a valid utsname: arrays of characters.
    let mut name: nix::libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: uname(2) fills the structure that it is given.
    if unsafe { nix::libc::uname(&raw mut name) } != 0 {
        return String::new();
    }
    let text = name.release.iter().take_while(|c| **c != 0);
    text.map(|c| char::from(c.to_ne_bytes()[0])).collect()
}

/// Returns the first missing feature.
fn missing(opened: Result<(), Errno>, attributes: Result<u64, Errno>) -> Option<&'static str> {
    if opened == Err(Errno::NOSYS) {
        return Some("it has no openat2, which came with 5.6");
    }
    match attributes {
        Ok(known) if known & MOUNT_ROOT != 0 => None,
        _ => Some(
            "its statx does not tell where a file system is mounted (STATX_ATTR_MOUNT_ROOT), which came with 5.8",
        ),
    }
}

fn opened_beneath() -> Result<(), Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(CWD, c".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve).map(drop)
}

/// Returns the attributes that statx knows for the root: a mask, since an attribute that is not set may be
/// unknown.
fn known_attributes() -> Result<u64, Errno> {
    let stat = statx(CWD, c"/", AtFlags::empty(), StatxFlags::BASIC_STATS)?;
    Ok(stat.stx_attributes_mask.bits())
}

/// True if a release (`5.10.0-28-amd64`, `6.1+`) is of this version or a later one, or cannot be parsed.
fn is_at_least(release: &str, (major, minor): (u32, u32)) -> bool {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|word| word.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(found), _) if found != major => found > major,
        (Some(_), found) => found.unwrap_or(0) >= minor,
        (None, _) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_is_new_enough() {
        assert_eq!(check(), Ok(()));
    }

    #[test]
    fn what_is_missing_is_told_with_the_version_that_has_it() {
        let no_openat2 = missing(Err(Errno::NOSYS), Ok(MOUNT_ROOT)).unwrap();
        assert!(no_openat2.contains("openat2") && no_openat2.contains("5.6"));
        // An error with another reason means that the call exists.
        assert_eq!(missing(Err(Errno::ACCESS), Ok(MOUNT_ROOT)), None);
        for attributes in [Ok(!MOUNT_ROOT), Ok(0), Err(Errno::NOSYS)] {
            assert!(
                missing(Ok(()), attributes).unwrap().contains("5.8"),
                "{attributes:?}"
            );
        }
        let error = KernelTooOld {
            release: "5.4.0-150-generic".to_owned(),
            missing: no_openat2,
        };
        let text = error.to_string();
        assert!(
            text.contains("5.4.0-150-generic") && text.contains("Linux 5.8 or newer"),
            "{text}"
        );
    }

    #[test]
    fn releases_are_read_as_distributions_write_them() {
        for new in [
            "5.8.0",
            "5.8",
            "5.10.0-28-amd64",
            "6.1.0-42-amd64",
            "6",
            "10.0-rc1",
            "6.6.8+",
            "odd",
        ] {
            assert!(is_at_least(new, (5, 8)), "{new}");
        }
        for old in [
            "5.7.19",
            "5.4.0-150-generic",
            "4.19.0-26-amd64",
            "4.18.0-553.el8_10.x86_64",
            "3.10",
            "5",
            "2.6.69+",
        ] {
            assert!(!is_at_least(old, (5, 8)), "{old}");
        }
    }
}
