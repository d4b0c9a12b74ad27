//! The judge of a clone's names: a byte-by-byte search for the golden node's, which knows nothing of how KA
//! finds them.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::disk::Disk;
use crate::golden;
use crate::process::Program;
use crate::scratch::Scratch;

/// Directories in which names of disks lead to a boot, or to a disk that is mounted.
const SEARCHED: [&str; 2] = ["etc", "boot"];
/// Tags that `blkid` finds on a partition and that another disk must not have.
const TAGS: [&str; 2] = ["UUID", "PARTUUID"];
/// Most partitions of any table of the lab.
const PARTITIONS: u32 = 8;

/// The names of the golden node that no clone may have.
pub(super) struct Names(Vec<String>);

impl Names {
    /// Returns the names of the disk's partitions.
    pub(super) fn of(disk: &Disk) -> Result<Self> {
        let mut names = Vec::new();
        for number in 1..=PARTITIONS {
            let device = disk.partition(number);
            if !device.exists() {
                continue;
            }
            for tag in TAGS {
                names.push(golden::tag(&device, tag)?);
            }
        }
        names.retain(|name| !name.is_empty());
        ensure!(!names.is_empty(), "the golden disk has no names");
        Ok(Self(names))
    }

    /// Insists that no file of a clone's `/etc` and `/boot` has one of them.
    pub(super) fn expect_none_below(&self, root: &Path) -> Result<()> {
        let mut found = Vec::new();
        for dir in SEARCHED {
            self.search(&root.join(dir), &mut found)?;
        }
        ensure!(found.is_empty(), "the clone names the golden node: {found:#?}");
        Ok(())
    }

    /// Insists that no file of an EFI system partition has one: this kernel need not be able to mount it.
    pub(super) fn expect_none_on_esp(&self, scratch: &Scratch, partition: &Path) -> Result<()> {
        let copy = scratch.dir("esp-copy")?;
        Program::new("mcopy")
            .args(["-s", "-n", "-i"])
            .arg(partition)
            .arg("::/")
            .arg(&copy)
            .run()?;
        let mut found = Vec::new();
        self.search(&copy, &mut found)?;
        ensure!(
            found.is_empty(),
            "the EFI system partition names the golden node: {found:#?}"
        );
        Ok(())
    }

    fn search(&self, dir: &Path, found: &mut Vec<String>) -> Result<()> {
        for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
            let entry = entry?;
            let path = entry.path();
            let kind = entry.file_type()?;
            if let Some(name) = self.in_bytes(entry.file_name().as_encoded_bytes()) {
                found.push(format!("{} (its name: {name})", path.display()));
            }
            if kind.is_dir() {
                self.search(&path, found)?;
            } else if kind.is_file()
                && let Some(name) = self.in_bytes(&fs::read(&path)?)
            {
                found.push(format!("{}: {name}", path.display()));
            }
        }
        Ok(())
    }

    fn in_bytes(&self, bytes: &[u8]) -> Option<&str> {
        let text = String::from_utf8_lossy(bytes).to_lowercase();
        let names = self.0.iter().map(String::as_str);
        // systemd escapes the dashes of a device's name.
        let mut names = names.filter(|name| {
            let name = name.to_lowercase();
            text.contains(&name) || text.contains(&name.replace('-', "\\x2d"))
        });
        names.next()
    }
}
