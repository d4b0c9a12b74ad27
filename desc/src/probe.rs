//! The present content of a partition, for the comments. It comes from signatures, the mount table and the
//! kernel's holders.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use ka_disk::contents::Contents;
use ka_disk::fs::probe;
use ka_disk::table::Partition;
use ka_host::{blkpg, mountinfo};
use serde::Serialize;

const MIB: u64 = 1 << 20;
/// Deepest stack of devices that is followed. LUKS on LVM on md is three.
const DEEPEST: usize = 8;

/// The known content of a partition. A desc file needs nothing of it.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Content {
    /// The file system or other signature, in blkid's word.
    kind: Option<String>,
    label: Option<String>,
    /// The larger whole that it is a part of: `LVM (volume group vg0)`.
    member: Option<String>,
    /// Present mount points.
    mounted_on: Vec<String>,
    /// Devices that the kernel has made of it.
    on_it: Vec<Upper>,
}

/// A device that lies on a partition: a logical volume, an opened LUKS container, an array.
#[derive(Debug, Serialize)]
struct Upper {
    /// Name such as `vg0-root`, else the kernel's name.
    name: String,
    kind: Option<String>,
    mounted_on: Vec<String>,
    /// Used space of its file system, in bytes, if it is mounted.
    used_bytes: Option<u64>,
}

/// Returns the contents of one partition, out of those of its disk.
pub(crate) fn content(disk: &Path, contents: &Contents, part: &Partition) -> Content {
    let area = contents
        .areas
        .iter()
        .find(|area| area.partition == Some(part.number));
    let known = blkpg::list(disk).unwrap_or_default();
    let node = known.into_iter().find(|known| known.number == part.number);
    Content {
        kind: area.and_then(|area| area.fstype.clone()),
        label: area.and_then(|area| area.label.clone()),
        member: area.and_then(|area| area.member.clone()),
        mounted_on: node.as_ref().map_or_else(Vec::new, |node| mounted_on(&node.path)),
        on_it: node.map_or_else(Vec::new, |node| uppers(&node.name)),
    }
}

impl Content {
    /// Returns comment lines with a desc file that would clone the devices assembled on the partition. Empty
    /// if there are none.
    pub(crate) fn instead(&self) -> Vec<String> {
        if self.member.is_none() {
            return Vec::new();
        }
        let mut lines = vec![
            "a clone gets no LVM, RAID or LUKS: in place of the next line write one with mount= for each mount point"
                .to_owned(),
        ];
        for upper in &self.on_it {
            let kind = upper.kind.as_deref().unwrap_or("no file system found");
            for point in &upper.mounted_on {
                let used_mib = upper.used_bytes.unwrap_or(0) / MIB;
                // A quarter more than the used space, and room to grow.
                let wanted_mib = (used_mib + used_mib / 4 + 256).next_multiple_of(256);
                lines.push(format!(
                    "linux {wanted_mib} mount={point}   ({}: {kind}, {used_mib} MiB in use)",
                    upper.name
                ));
            }
            if upper.mounted_on.is_empty() && kind == "swap" {
                lines.push(format!("swap 1024   ({})", upper.name));
            }
        }
        if lines.len() == 1 {
            lines.push("(as desc-examples/from-lvm.desc does)".to_owned());
        }
        lines
    }
}

fn mounted_on(node: &Path) -> Vec<String> {
    let mounts = mountinfo::read().unwrap_or_default();
    let here = mounts.into_iter().filter(|mount| mount.source == node);
    here.map(|mount| {
        mount
            .mount_point
            .display()
            .to_string()
            .replace(char::is_control, "?")
    })
    .collect()
}

/// Returns the topmost devices of the stack on a device.
fn uppers(name: &str) -> Vec<Upper> {
    let mut found = Vec::new();
    collect(name, DEEPEST, &mut found);
    found
}

fn collect(name: &str, depth: usize, found: &mut Vec<Upper>) {
    for holder in holders(name) {
        if depth > 0 && !holders(&holder).is_empty() {
            collect(&holder, depth - 1, found);
        } else {
            found.push(upper(&holder));
        }
    }
}

fn holders(name: &str) -> Vec<String> {
    let entries = fs::read_dir(Path::new("/sys/class/block").join(name).join("holders"));
    let names = entries.into_iter().flatten().flatten();
    let mut names: Vec<String> = names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn upper(kernel: &str) -> Upper {
    let mapped = fs::read_to_string(Path::new("/sys/class/block").join(kernel).join("dm/name"));
    let mapped = mapped.ok().map(|name| name.trim().to_owned());
    let name = mapped.clone().unwrap_or_else(|| kernel.to_owned());
    let plain = Path::new("/dev").join(kernel);
    let nodes: Vec<PathBuf> = mapped
        .iter()
        .map(|name| Path::new("/dev/mapper").join(name))
        .chain([plain.clone()])
        .collect();
    let mounted_on: Vec<String> = nodes.iter().flat_map(|node| mounted_on(node)).collect();
    Upper {
        used_bytes: mounted_on.first().and_then(|point| used_bytes(Path::new(point))),
        kind: probe(&plain).ok().and_then(|found| found.fstype),
        name,
        mounted_on,
    }
}

fn used_bytes(point: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(point).ok()?;
    Some(stat.f_blocks.saturating_sub(stat.f_bfree) * stat.f_frsize)
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.member, &self.kind) {
            (Some(member), _) => write!(f, "a part of {member}")?,
            (None, Some(kind)) => f.write_str(kind)?,
            (None, None) => f.write_str("no file system found")?,
        }
        if let Some(label) = self.label.as_ref().filter(|_| self.member.is_none()) {
            // A label may hold any character, and a comment ends with its line.
            write!(f, " {label:?}")?;
        }
        if !self.mounted_on.is_empty() {
            write!(f, ", mounted on {}", self.mounted_on.join(", "))?;
        }
        Ok(())
    }
}
