//! The file systems that a machine needs before anything else works.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use ka_host::{HostError, mount, mountinfo};

/// The directory where the kernel shows firmware variables, if UEFI started it.
const EFI: &str = "/sys/firmware/efi";
const EFI_VARIABLES: &str = "/sys/firmware/efi/efivars";

/// Type, place, options. Half of the memory for `/run` and `/tmp` would be too generous beside the tools.
const BASIC: [(&str, &str, &str); 6] = [
    ("proc", "/proc", "nosuid,nodev,noexec"),
    ("sysfs", "/sys", "nosuid,nodev,noexec"),
    ("devtmpfs", "/dev", "nosuid,mode=0755"),
    ("devpts", "/dev/pts", "nosuid,noexec,mode=0620,ptmxmode=0666"),
    ("tmpfs", "/run", "nosuid,nodev,mode=0755,size=64M"),
    ("tmpfs", "/tmp", "nosuid,nodev,mode=1777,size=64M"),
];

/// Mounts them; returns what did not work, which is for the caller to tell: there may be no console to tell
/// it on yet.
pub(super) fn basic() -> Vec<HostError> {
    let mut failed = Vec::new();
    for (fstype, target, options) in BASIC {
        let target = Path::new(target);
        // Exists in our image; in one made by hand perhaps not.
        fs::create_dir_all(target).ok();
        if is_mounted(target) {
            continue;
        }
        if let Err(error) = mount::mount(Path::new(fstype), target, fstype, options) {
            failed.push(error);
        }
    }
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        // Tools and maintainer scripts use them (bash process substitution); udev would make them.
        symlink(target, link).ok();
    }
    failed
}

/// Mounts the firmware's variables where there are any; the driver may come with the tools only.
pub(super) fn efi_variables() -> Result<(), HostError> {
    let target = Path::new(EFI_VARIABLES);
    if !Path::new(EFI).exists() || is_mounted(target) {
        return Ok(());
    }
    mount::mount(Path::new("efivarfs"), target, "efivarfs", "nosuid,nodev,noexec")
}

fn is_mounted(target: &Path) -> bool {
    mountinfo::read().is_ok_and(|mounts| mountinfo::find_at(&mounts, target).is_some())
}
