//! Disks from sysfs (`/sys/class/block`, sysfs(5); the kernel's Documentation/ABI/stable/sysfs-block).

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use ka_host::block;

use super::users::Users;
use super::{Disk, InventoryError};

const SYS_BLOCK: &str = "/sys/class/block";
/// sysfs counts in these, whatever the sector size is.
const SYS_SECTOR_BYTES: u64 = 512;
/// Names of disks that are made of files, memory or other disks, and of drives for other media.
const NAMED_ONLY: [&str; 10] = [
    "loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd", "drbd", "mtdblock",
];
/// Another program's short look at a disk (udev's blkid) must not count as use.
const CLAIM_TRIES: u32 = 5;
const CLAIM_PAUSE: Duration = Duration::from_millis(100);
const EBUSY: i32 = 16;

/// The disks of this machine. Loop, ram, device-mapper and other made-up disks are listed only when they are
/// in `named` (names or paths).
///
/// # Errors
/// [`InventoryError`] when sysfs or the mount table cannot be read.
pub fn disks(named: &[String]) -> Result<Vec<Disk>, InventoryError> {
    let users = Users::read()?;
    let named: Vec<String> = named.iter().map(|name| kernel_name(name)).collect();
    let mut disks = scan(Path::new(SYS_BLOCK), &named, &users)?;
    for disk in disks.iter_mut().filter(|disk| disk.in_use.is_none()) {
        disk.in_use = claimed(&disk.path);
    }
    Ok(disks)
}

/// The kernel's name behind a name or path: links are followed.
pub(super) fn kernel_name(name: &str) -> String {
    let path = Path::new("/dev").join(name);
    let resolved = path.canonicalize().unwrap_or(path);
    resolved
        .strip_prefix("/dev")
        .unwrap_or(&resolved)
        .to_string_lossy()
        .into_owned()
}

fn scan(sys_block: &Path, named: &[String], users: &Users) -> Result<Vec<Disk>, InventoryError> {
    let entries = fs::read_dir(sys_block).map_err(|source| InventoryError {
        path: sys_block.to_owned(),
        source,
    })?;
    let mut disks: Vec<Disk> = entries
        .flatten()
        .filter_map(|entry| disk(&entry.path(), named, users))
        .collect();
    disks.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(disks)
}

/// `None` for partitions, empty drives, hidden paths of multipath disks, and made-up disks that nobody named.
fn disk(dir: &Path, named: &[String], users: &Users) -> Option<Disk> {
    let name = dir.file_name()?.to_string_lossy().replace('!', "/");
    let named_only = NAMED_ONLY.iter().any(|prefix| is_numbered(&name, prefix));
    let hidden = read(dir, "hidden").as_deref() == Some("1");
    if dir.join("partition").exists() || hidden || (named_only && !named.contains(&name)) {
        return None;
    }
    let bytes = read(dir, "size")?.parse::<u64>().ok().filter(|size| *size > 0)? * SYS_SECTOR_BYTES;
    let sector_size = read(dir, "queue/logical_block_size")
        .and_then(|size| size.parse().ok())
        .unwrap_or(512);
    Some(Disk {
        path: Path::new("/dev").join(&name),
        bytes,
        sector_size,
        model: first_of(dir, &["device/model", "device/name"]),
        serial: first_of(dir, &["serial", "device/serial", "device/wwid", "wwid"]),
        removable: is_removable(dir),
        named_only,
        in_use: users.of_disk(dir),
        name,
    })
}

/// `loop0`, but not `looper`: a prefix and a number (`dm-0`, `md127`, `md_d0`).
fn is_numbered(name: &str, prefix: &str) -> bool {
    let rest = name.strip_prefix(prefix);
    rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || c == '_'))
}

/// The kernel's flag is about the medium; sticks, USB cases and SD cards are as easily pulled out.
fn is_removable(dir: &Path) -> bool {
    let on_usb = dir.canonicalize().is_ok_and(|path| {
        path.components()
            .any(|part| part.as_os_str().to_string_lossy().starts_with("usb"))
    });
    let sd_card = read(dir, "device/type").as_deref() == Some("SD");
    read(dir, "removable").as_deref() == Some("1") || on_usb || sd_card
}

/// What `/proc` cannot show: mounts in other mount namespaces, and programs that hold the disk for themselves.
fn claimed(path: &Path) -> Option<String> {
    for tries_left in (0..CLAIM_TRIES).rev() {
        match block::open_exclusive_read_only(path) {
            Err(error) if error.errno() == Some(EBUSY) && tries_left > 0 => thread::sleep(CLAIM_PAUSE),
            Err(error) if error.errno() == Some(EBUSY) => {
                return Some("another program or another container uses it".to_owned());
            }
            // What cannot be opened fails with its own message when it is chosen.
            _ => return None,
        }
    }
    None
}

fn first_of(dir: &Path, files: &[&str]) -> String {
    files
        .iter()
        .find_map(|file| read(dir, file).filter(|text| !text.is_empty()))
        .unwrap_or_default()
}

fn read(dir: &Path, file: &str) -> Option<String> {
    let bytes = fs::read(dir.join(file)).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    Some(
        text.trim_matches(|c: char| c.is_whitespace() || c == '\0')
            .to_owned(),
    )
}

/// All directories below a disk's that are partitions of it.
pub(super) fn partition_dirs(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut dirs: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("partition").exists())
        .collect();
    dirs.sort();
    dirs
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
