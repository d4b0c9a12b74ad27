//! Disks from sysfs (`/sys/class/block`, sysfs(5); the kernel's Documentation/ABI/stable/sysfs-block).

use std::fs;
use std::io::ErrorKind;
use std::iter::repeat_n;
use std::path::Path;
use std::time::Duration;

use ka_host::busy::while_busy;
use ka_host::{blkpg, block};

use super::users::{Users, device_of, parse_numbers};
use super::{Disk, InventoryError, links};
use crate::contents::{self, Contents};

const SYS_BLOCK: &str = "/sys/class/block";
/// Unit of sizes in sysfs, whatever the sector size is.
const SYS_SECTOR_BYTES: u64 = 512;
/// Name prefixes of disks that are made of files, memory or other disks, and of drives for other media.
const NAMED_ONLY: [&str; 17] = [
    "loop", "ram", "zram", "dm-", "md", "sr", "scd", "fd", "nbd", "rbd", "drbd", "mtdblock", "ubiblock",
    "bcache", "zd", "nullb", "ublkb",
];
/// Attempts to claim a disk: another program's short look at it (udev's blkid) must not count as use.
const CLAIM_TRIES: usize = 5;
const CLAIM_PAUSE: Duration = Duration::from_millis(100);

/// Lists the disks of this machine. Loop, ram, device-mapper and other made-up disks are listed only when
/// they are in `named` (names or paths). Reads the edges of each disk that is not in use, for its contents.
///
/// # Errors
/// [`InventoryError`] when sysfs or the mount table cannot be read.
pub fn disks(named: &[String]) -> Result<Vec<Disk>, InventoryError> {
    let users = Users::read()?;
    let named: Vec<Named> = named.iter().map(|name| Named::new(name)).collect();
    let mut disks = scan(Path::new(SYS_BLOCK), &named, &users)?;
    for disk in disks.iter_mut().filter(|disk| disk.in_use.is_none()) {
        disk.in_use = claimed(&disk.path);
        if disk.in_use.is_none() {
            let kernel = blkpg::list(&disk.path).unwrap_or_default();
            disk.contents = contents::look(&disk.path, disk.sector_size, &kernel);
        }
    }
    Ok(disks)
}

/// Returns major and minor number of the block device behind a name or path, links followed.
#[must_use]
pub fn numbers_of(name: &str) -> Option<(u32, u32)> {
    device_of(&Path::new("/dev").join(name))
}

/// A disk as an option names it: by any name that leads to its device node.
pub(super) struct Named {
    name: String,
    numbers: Option<(u32, u32)>,
}

impl Named {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: kernel_name(name),
            numbers: numbers_of(name),
        }
    }

    /// Finds the disk that it means: by the device node if there is one, else by name, else by udev's link.
    pub(super) fn among<'a>(&self, disks: &'a [Disk]) -> Option<&'a Disk> {
        let by_node = disks.iter().find(|disk| Some(disk.numbers) == self.numbers);
        by_node
            .or_else(|| disks.iter().find(|disk| disk.name == self.name))
            .or_else(|| self.by_link(disks))
    }

    /// Finds the disk by the link that udev would make, on a machine without udev. A name that means two
    /// disks finds none.
    fn by_link<'a>(&self, disks: &'a [Disk]) -> Option<&'a Disk> {
        let link = self
            .name
            .strip_prefix("disk/")
            .filter(|_| self.numbers.is_none())?;
        let is_meant = |disk: &&Disk| match link.split_once('/') {
            Some(("by-id", name)) => links::is_by_id(name, &disk.serial, &disk.wwid),
            Some(("by-path", name)) => disk.by_path.iter().any(|path| path == name),
            _ => false,
        };
        let mut meant = disks.iter().filter(is_meant);
        meant.next().filter(|_| meant.next().is_none())
    }

    fn is(&self, name: &str, numbers: (u32, u32)) -> bool {
        self.numbers == Some(numbers) || self.name == name
    }
}

/// Returns the kernel's name behind a name or path, links followed.
fn kernel_name(name: &str) -> String {
    let path = Path::new("/dev").join(name);
    let resolved = path.canonicalize().unwrap_or(path);
    resolved
        .strip_prefix("/dev")
        .unwrap_or(&resolved)
        .to_string_lossy()
        .into_owned()
}

fn scan(sys_block: &Path, named: &[Named], users: &Users) -> Result<Vec<Disk>, InventoryError> {
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

/// Describes a disk. `None` for partitions, empty drives, hidden paths of multipath disks, and made-up disks
/// that no option names.
fn disk(dir: &Path, named: &[Named], users: &Users) -> Option<Disk> {
    let name = dir.file_name()?.to_string_lossy().replace('!', "/");
    let named_only = NAMED_ONLY.iter().any(|prefix| is_numbered(&name, prefix)) || is_part_of_emmc(&name);
    // The device behind the node is what is looked at; sysfs has the same facts if there is no node yet.
    let path = Path::new("/dev").join(&name);
    let of_sysfs = || read(dir, "dev").as_deref().and_then(parse_numbers);
    let numbers = device_of(&path).or_else(of_sysfs).unwrap_or_default();
    let is_named = named.iter().any(|named| named.is(&name, numbers));
    let hidden = read(dir, "hidden").as_deref() == Some("1");
    if dir.join("partition").exists() || hidden || (named_only && !is_named) {
        return None;
    }
    let bytes = read(dir, "size")?.parse::<u64>().ok().filter(|size| *size > 0)? * SYS_SECTOR_BYTES;
    let sector_size = read(dir, "queue/logical_block_size")
        .and_then(|size| size.parse().ok())
        .unwrap_or(512);
    Some(Disk {
        path,
        bytes,
        sector_size,
        model: first_of(dir, &["device/model", "device/name"]),
        serial: serial(dir),
        wwid: first_of(dir, &["wwid", "device/wwid"]),
        by_path: links::by_path(dir),
        numbers,
        seq: read(dir, "diskseq").and_then(|seq| seq.parse().ok()),
        removable: is_removable(dir),
        named_only,
        in_use: users.of_disk(dir),
        contents: Contents::default(),
        name,
    })
}

/// True for a prefix and a number (`dm-0`, `md127`, `md_d0`): `loop0`, but not `looper`.
fn is_numbered(name: &str, prefix: &str) -> bool {
    let rest = name.strip_prefix(prefix);
    rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || c == '_'))
}

/// Returns the serial number that the disk reports, else one from its place in sysfs.
fn serial(dir: &Path) -> String {
    let plain = first_of(dir, &["serial", "device/serial"]);
    if !plain.is_empty() {
        return plain;
    }
    // SCSI and SATA: the unit's serial number is page 0x80 of its product data, behind four bytes.
    let page = fs::read(dir.join("device/vpd_pg80")).unwrap_or_default();
    let text = String::from_utf8_lossy(page.get(4..).unwrap_or_default()).into_owned();
    match folded(&text) {
        text if text.is_empty() => first_of(dir, &["device/wwid", "wwid"]),
        text => text,
    }
}

/// True for the boot areas and the replay-protected block of an eMMC (`mmcblk0boot0`, `mmcblk0rpmb`), which
/// are disks of their own.
fn is_part_of_emmc(name: &str) -> bool {
    let rest = name
        .strip_prefix("mmcblk")
        .map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    rest.is_some_and(|rest| !rest.is_empty())
}

/// True if the disk can be pulled out. The kernel's flag is about the medium only; sticks, USB cases and SD
/// cards count too.
fn is_removable(dir: &Path) -> bool {
    let on_usb = dir.canonicalize().is_ok_and(|path| {
        path.components()
            .any(|part| part.as_os_str().to_string_lossy().starts_with("usb"))
    });
    let sd_card = read(dir, "device/type").as_deref() == Some("SD");
    read(dir, "removable").as_deref() == Some("1") || on_usb || sd_card
}

/// Returns a use that `/proc` cannot show: mounts in other mount namespaces, and programs that claim the
/// disk.
fn claimed(path: &Path) -> Option<String> {
    let claim = || block::open_exclusive_read_only(path).map_err(|error| error.source);
    match while_busy(repeat_n(CLAIM_PAUSE, CLAIM_TRIES - 1), claim) {
        Err(error) if error.kind() == ErrorKind::ResourceBusy => {
            Some("another program or another container uses it".to_owned())
        }
        // A disk that cannot be opened fails with its own message when it is chosen.
        _ => None,
    }
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
    Some(folded(&text))
}

/// Removes padding from serial numbers and world-wide names, also in their middle.
fn folded(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c == '\0');
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
