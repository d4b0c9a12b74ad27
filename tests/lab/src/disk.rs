//! Disks for tests: loop devices over sparse files of our own, and no other devices.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::Mode;

use crate::interrupt;
use crate::process::Program;
use crate::scratch::Scratch;

/// Bytes in a MiB.
pub const MIB: u64 = 1 << 20;
/// Bytes in a GiB.
pub const GIB: u64 = 1 << 30;

/// Types of extended partitions: partx gives them 1 KiB, which a disk with 4096-byte sectors cannot have.
const EXTENDED: [&str; 3] = ["0x5", "0xf", "0x85"];

/// A loop device over a sparse file; detached and deleted on drop.
#[derive(Debug)]
pub struct Disk {
    file: PathBuf,
    device: PathBuf,
    sector_size: u32,
    /// Directory of the file, if the disk has one of its own; removed after the file.
    home: Option<Scratch>,
}

impl Disk {
    /// Makes a disk of `size` bytes with sectors of 512 or 4096 bytes, in a directory of its own.
    ///
    /// # Errors
    /// As [`Disk::new`].
    pub fn scratch(size: u64, sector_size: u32) -> Result<Self> {
        Self::in_its_own(Scratch::new("disk")?, size, sector_size)
    }

    /// Makes such a disk with its directory below another one, such as `/dev/shm`.
    ///
    /// # Errors
    /// As [`Disk::new`].
    pub fn scratch_below(base: &Path, size: u64, sector_size: u32) -> Result<Self> {
        Self::in_its_own(Scratch::below(base, "disk")?, size, sector_size)
    }

    fn in_its_own(home: Scratch, size: u64, sector_size: u32) -> Result<Self> {
        let mut disk = Self::new(&home, "disk", size, sector_size)?;
        disk.home = Some(home);
        Ok(disk)
    }

    /// Makes a disk of `size` bytes with sectors of 512 or 4096 bytes.
    ///
    /// # Errors
    /// No space, no free loop device, or not root.
    pub fn new(scratch: &Scratch, name: &str, size: u64, sector_size: u32) -> Result<Self> {
        Self::over(scratch.path().join(format!("{name}.img")), size, sector_size)
    }

    /// Makes a disk over a new file at another place, for disks with faults: if the file cannot grow or is
    /// cut off, the disk has input and output errors.
    ///
    /// # Errors
    /// As [`Disk::new`].
    pub fn over(file: PathBuf, size: u64, sector_size: u32) -> Result<Self> {
        File::create_new(&file)
            .with_context(|| format!("making {}", file.display()))?
            .set_len(size)?;
        let whole = interrupt::shield();
        let device = Program::new("losetup")
            // Kernels without GD_SUPPRESS_PART_SCAN refuse BLKPG on a device without --partscan.
            .args([
                "--find",
                "--show",
                "--partscan",
                "--sector-size",
                &sector_size.to_string(),
            ])
            .arg(&file)
            .run()
            .with_context(|| format!("attaching {}", file.display()))?;
        let disk = Self {
            file,
            device: PathBuf::from(device.trim()),
            sector_size,
            home: None,
        };
        drop(whole);
        disk.checked()?;
        disk.forget_former_partitions()?;
        Ok(disk)
    }

    /// Removes the partitions of the loop device's former owner: the kernel keeps them if that owner did not
    /// ask for partition scanning.
    fn forget_former_partitions(&self) -> Result<()> {
        for _ in 0..200 {
            if self.listed_partitions()? == 0 {
                return Ok(());
            }
            let _ = Program::new("partx")
                .args(["--delete", "--nr", "1:64"])
                .arg(&self.device)
                .run();
            thread::sleep(Duration::from_millis(50));
        }
        bail!(
            "{} has partitions of a former owner that are still in use",
            self.device.display()
        );
    }

    /// Returns the device, such as `/dev/loop7`. Fails if it is not ours any more: no caller may ever write
    /// elsewhere.
    ///
    /// # Errors
    /// The device is no loop device over our own file.
    pub fn checked(&self) -> Result<&Path> {
        check_is_ours(&self.device, &self.file)?;
        Ok(&self.device)
    }

    /// Opens the disk for reading and writing without claiming it. A claim outlives its file for the moment in
    /// which another test's thread is between fork and exec, and mkfs would find the disk busy.
    ///
    /// # Errors
    /// The device is not ours any more, or cannot be opened.
    pub fn open(&self) -> Result<File> {
        let device = self.checked()?;
        let file = File::options().read(true).write(true).open(device);
        file.with_context(|| format!("opening {}", device.display()))
    }

    /// Returns the device without a check, for messages and reading.
    #[must_use]
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// Returns the device's kernel name, such as `loop7`.
    #[must_use]
    pub fn name(&self) -> String {
        self.device
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// Returns the file beneath the device.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Returns the bytes of one sector.
    #[must_use]
    pub fn sector_size(&self) -> u32 {
        self.sector_size
    }

    /// Returns a partition's device node, such as `/dev/loop7p2`.
    #[must_use]
    pub fn partition(&self, number: u32) -> PathBuf {
        PathBuf::from(format!("{}p{number}", self.device.display()))
    }

    /// Writes a partition table with `sfdisk` and tells the kernel of it.
    ///
    /// # Errors
    /// `sfdisk` or `partx` fails.
    pub fn write_table(&self, script: &str) -> Result<()> {
        let device = self.checked()?;
        Program::new("sfdisk")
            .args(["--quiet", "--no-reread", "--no-tell-kernel"])
            .arg(device)
            .input(script)
            .run()
            .context("writing a partition table")?;
        self.show_partitions()
    }

    /// Tells the kernel the partitions of the disk's table: it has no parser of its own for loop devices
    /// here.
    ///
    /// # Errors
    /// `partx` fails, or there is no table.
    pub fn show_partitions(&self) -> Result<()> {
        for _ in 0..100 {
            let numbers = self.table()?;
            for number in &numbers {
                // Delete and add would fail: a partition that another test's process holds in its mount
                // namespace cannot go.
                let update = ["--update", "--nr", &number.to_string()];
                Program::new("partx").args(update).arg(self.checked()?).run()?;
            }
            // Nodes appear in /dev a moment after the kernel knows the partition.
            if !numbers.is_empty() && numbers.iter().all(|number| self.partition(*number).exists()) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!(
            "{}: no partitions, or their nodes do not appear in /dev",
            self.device.display()
        );
    }

    /// Returns the numbers of the partitions in the table, without extended ones.
    fn table(&self) -> Result<Vec<u32>> {
        let rows = ["--show", "--noheadings", "--output", "NR,TYPE"];
        let shown = Program::new("partx")
            .args(rows)
            .arg(self.checked()?)
            .finish()?
            .stdout;
        let rows = shown
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let rows = rows.filter(|row| !row.iter().any(|word| EXTENDED.contains(word)));
        Ok(rows
            .filter_map(|row| row.first().and_then(|number| number.parse().ok()))
            .collect())
    }

    /// Drops the kernel's cache of the disk, because a machine has since written to the file beneath.
    ///
    /// # Errors
    /// The device is not ours any more, or in use.
    pub fn reread(&self) -> Result<()> {
        self.hide_partitions();
        Program::new("blockdev")
            .arg("--flushbufs")
            .arg(self.checked()?)
            .run()
            .map(drop)
    }

    /// Makes the kernel forget the partitions.
    pub fn hide_partitions(&self) {
        if let Ok(device) = self.checked()
            && self.listed_partitions().is_ok_and(|number| number > 0)
        {
            let _ = Program::new("partx")
                .args(["--delete", "--nr", "1:64"])
                .arg(device)
                .run();
        }
    }

    /// Returns the number of partitions that the kernel knows of this disk.
    ///
    /// # Errors
    /// sysfs cannot be read.
    pub fn listed_partitions(&self) -> Result<usize> {
        let name = self.name();
        let entries = fs::read_dir(Path::new("/sys/block").join(&name))?.flatten();
        Ok(entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&name))
            .count())
    }

    /// Returns a digest of every byte of the disk; an equal one shows that nothing was written.
    ///
    /// # Errors
    /// The device cannot be flushed or read.
    pub fn fingerprint(&self) -> Result<String> {
        Program::new("blockdev")
            .arg("--flushbufs")
            .arg(&self.device)
            .run()?;
        File::open(&self.device)?.sync_all()?;
        let line = Program::new("sha256sum").arg(&self.file).run()?;
        Ok(line.split_whitespace().next().unwrap_or_default().to_owned())
    }

    /// Returns the first bytes of the disk, read past every cache.
    ///
    /// # Errors
    /// The device cannot be read.
    pub fn first_bytes(&self, length: usize) -> Result<Vec<u8>> {
        use std::os::unix::fs::FileExt as _;
        let mut bytes = vec![0; length];
        File::open(&self.device)?.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// True if a machine or an operator would take the disk for an installed one: a boot signature or a GPT
    /// header.
    ///
    /// # Errors
    /// The device cannot be read.
    pub fn looks_finished(&self) -> Result<bool> {
        let sector = self.sector_size as usize;
        let start = self.first_bytes(2 * sector)?;
        Ok(start[510..512] == [0x55, 0xaa] || start[sector..].starts_with(b"EFI PART"))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _whole = interrupt::shield();
        self.hide_partitions();
        for _ in 0..20 {
            // The check runs each time: a device that is detached may belong to another process the next
            // moment.
            if self.checked().is_err()
                || Program::new("losetup")
                    .arg("--detach")
                    .arg(&self.device)
                    .run()
                    .is_ok()
            {
                let _ = fs::remove_file(&self.file);
                drop(self.home.take());
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        eprintln!("lab: {} stays attached", self.device.display());
    }
}

/// Checks that the device is a loop device over this file: the lab's one safety catch.
fn check_is_ours(device: &Path, file: &Path) -> Result<()> {
    let name = device
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    ensure!(
        device.parent() == Some(Path::new("/dev")) && name.starts_with("loop"),
        "{} is no loop device: the lab writes to no other",
        device.display()
    );
    let backing = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file"))
        .with_context(|| format!("{} is not attached", device.display()))?;
    ensure!(
        Path::new(backing.trim_end()) == file,
        "{} belongs to {}: the lab writes to its own only",
        device.display(),
        backing.trim_end()
    );
    Ok(())
}

/// Makes a sparse file of this many bytes, for payloads.
///
/// # Errors
/// It cannot be made.
pub fn sparse_file(path: &Path, size: u64) -> Result<()> {
    let file = File::create(path).with_context(|| format!("making {}", path.display()))?;
    file.set_len(size)?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_no_loop_device_is_refused() {
        let err = check_is_ours(Path::new("/dev/vda"), Path::new("/var/tmp/x.img")).unwrap_err();
        assert!(err.to_string().contains("no loop device"), "{err}");
    }

    #[test]
    fn a_device_of_somebody_else_is_refused() {
        let (ours, other) = (Disk::scratch(MIB, 512).unwrap(), Disk::scratch(MIB, 512).unwrap());
        let err = check_is_ours(other.device(), ours.file()).unwrap_err();
        assert!(
            err.to_string().contains("the lab writes to its own only"),
            "{err}"
        );
    }

    #[test]
    fn a_scratch_disk_takes_partitions_and_leaves_nothing_behind() {
        let disk = Disk::scratch(16 * MIB, 4096).unwrap();
        disk.write_table("label: dos\nsize=4MiB\n").unwrap();
        let (node, device) = (disk.partition(1), disk.device().to_owned());
        let file = disk.file().to_owned();
        assert!(node.exists() && file.exists());
        drop(disk);
        assert!(!node.exists() && !file.parent().unwrap().exists());
        assert!(check_is_ours(&device, &file).is_err());
    }

    #[test]
    fn a_file_that_cannot_be_made_is_named() {
        let err = Disk::over(PathBuf::from("/no/such/disk"), MIB, 512).unwrap_err();
        assert!(err.to_string().contains("/no/such/disk"), "{err}");
    }
}
