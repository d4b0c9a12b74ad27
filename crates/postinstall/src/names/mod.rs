//! Names of block devices, file systems and volumes, in whatever spelling a configuration has them, and their meaning
//! in the clone: one model for every file that is read.
//!
//! A name is the kernel's (`/dev/sda2`), a link of udev's (`/dev/disk/by-…`), a tag (`UUID=…`), or a volume's
//! (`/dev/mapper/vg-home`, `/dev/vg/home`). All names that are found were written for the golden node. Each has one
//! `Meaning`: what the clone has in its stead, or `Meaning::Gone`. A kernel name that was not cloned is gone even
//! where the node has a device of that name: that would be another disk.
//!
//! - `spelling`: forms of names, quotes and escapes
//! - `text`: lines of files that may not be UTF-8
//! - `words`: kernel command lines
//! - `options`: mount options
//! - `crypttab`, `layers`: what opens and assembles volumes
//! - `units`: systemd units
//! - [`sweep`]: the look at the end for what still names the golden node

pub(crate) mod crypttab;
pub(crate) mod ids;
pub(crate) mod layers;
pub(crate) mod options;
pub(crate) mod spelling;
pub mod sweep;
pub(crate) mod text;
pub(crate) mod units;
pub(crate) mod words;

use ka_disk::fstab::TaggedName;

use crate::facts::{DiskFact, Facts};
use crate::files::Files;
use crate::fstab::{DeviceMap, matching};
use crate::plan::PostError;

/// What a name of the golden node's comes to in the clone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning<'a> {
    /// A file system, a swap area or a raw copy.
    Clone(&'a DeviceMap),
    /// A partition like the golden one, with nothing on it.
    Bare(&'a DeviceMap),
    /// A whole disk.
    Disk(&'a DiskFact),
    /// A volume that the clone opens by itself, or a name that is the clone's own already.
    Own,
    /// A disk, partition or volume that the clone does not have.
    Gone,
}

/// The names of one clone.
#[derive(Debug)]
pub(crate) struct Names<'a> {
    facts: &'a Facts,
    /// Mapped devices that the clone's own crypttab opens.
    opened: Vec<String>,
    /// The kernels are started with an initramfs.
    has_initramfs: bool,
}

impl<'a> Names<'a> {
    /// Reads what the clone opens by itself.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(crate) fn new(files: &dyn Files, facts: &'a Facts) -> Result<Self, PostError> {
        let mut names = Self {
            facts,
            opened: Vec::new(),
            has_initramfs: has_initramfs(files),
        };
        names.opened = layers::opened(files, &names)?;
        Ok(names)
    }

    pub(crate) fn facts(&self) -> &'a Facts {
        self.facts
    }

    /// What `name` (quotes and escapes undone) means; `None` when it is no name of a disk, partition or volume.
    pub(crate) fn meaning(&self, name: &str) -> Option<Meaning<'a>> {
        let name = spelling::plain(name);
        let name = name.as_ref();
        if let Some(map) = self.find(name, &self.facts.devices) {
            return Some(Meaning::Clone(map));
        }
        if let Some(map) = self.find(name, &self.facts.bare) {
            return Some(Meaning::Bare(map));
        }
        if let Some(disk) = self.disk(name) {
            return Some(Meaning::Disk(disk));
        }
        if self.is_own(name) {
            return Some(Meaning::Own);
        }
        spelling::is_device(name).then_some(Meaning::Gone)
    }

    /// What stands in for `name`: `Some` for everything that the clone has.
    pub(crate) fn replacement(&self, name: &str, manner: Manner) -> Option<String> {
        let plain = spelling::plain(name);
        match self.meaning(&plain)? {
            Meaning::Clone(map) => {
                let kernels = self.keeps_kernel_names() || manner == Manner::AtInstall;
                let new = match manner {
                    Manner::ForKernel
                        if !self.has_initramfs && spelling::is_kernel_name(&plain) && !kernels =>
                    {
                        matching::for_bare_kernel(&map.clone)
                    }
                    _ => matching::replacement(&plain, &map.clone, kernels),
                }?;
                let new = if manner == Manner::Path && plain.starts_with("/dev/") {
                    matching::as_path(new)
                } else {
                    new
                };
                Some(if matching::same_name(&plain, &new) {
                    name.to_owned()
                } else {
                    new
                })
            }
            Meaning::Disk(disk) => Some(disk.path.clone()),
            Meaning::Own => Some(name.to_owned()),
            Meaning::Bare(_) | Meaning::Gone => None,
        }
    }

    /// The clone's root file system by the name that its kernel is to be given.
    pub(crate) fn root(&self) -> Option<String> {
        let root = self.facts.mounts.iter().find(|mount| mount.path == "/")?;
        if self.has_initramfs {
            matching::lasting(&root.device)
        } else {
            matching::for_bare_kernel(&root.device)
        }
    }

    /// The text with the clone's ids in the place of golden ones that stand without a tag.
    pub(crate) fn replace_ids(&self, text: &str) -> String {
        ids::replace(text, self.facts)
    }

    pub(crate) fn keeps_kernel_names(&self) -> bool {
        self.facts.boot.kernel_names
    }

    fn find(&self, name: &str, maps: &'a [DeviceMap]) -> Option<&'a DeviceMap> {
        let volume = spelling::volume(name);
        matching::find(name, maps).or_else(|| {
            let volume = volume.as_deref()?;
            maps.iter().find(|map| {
                let golden = std::iter::once(&map.golden.path).chain(&map.golden.aliases);
                golden
                    .into_iter()
                    .any(|known| spelling::volume(known).as_deref() == Some(volume))
            })
        })
    }

    fn disk(&self, name: &str) -> Option<&'a DiskFact> {
        let drive = self.facts.known.iter().find_map(|known| {
            let on = known.on.as_ref().filter(|on| on.partition == 0)?;
            let aliases = &known.device.aliases;
            (aliases.iter().any(|alias| alias == name)).then_some(on.drive.as_str())
        });
        let drive = drive.or_else(|| name.strip_prefix("/dev/"))?;
        self.facts.disks.iter().find(|disk| disk.drive == drive)
    }

    fn is_own(&self, name: &str) -> bool {
        if let Some(volume) = spelling::volume(name) {
            return self.opened.contains(&volume);
        }
        let Some(tagged) = TaggedName::parse(name) else {
            return false;
        };
        self.facts
            .partitions
            .iter()
            .any(|device| tagged.is(matching::value(tagged.tag, device)))
    }
}

/// How a name is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// By programs of the running system that know tags (`UUID=…`): mount(8), fsck(8).
    Usual,
    /// By programs that open what they are given: what was a path stays one.
    Path,
    /// By the kernel or its initramfs: a kernel without an initramfs knows only PARTUUIDs.
    ForKernel,
    /// By a tool that looks the name up while it installs, on this very machine (LILO).
    AtInstall,
}

/// Returns true if kernels are started with an initramfs here.
pub(crate) fn has_initramfs(files: &dyn Files) -> bool {
    let is_image = |name: &String| {
        ["initrd", "initramfs", "booster"]
            .iter()
            .any(|start| name.starts_with(start))
    };
    let releases = files.names("/lib/modules");
    files.names("/boot").iter().any(is_image)
        || releases
            .iter()
            .any(|release| !crate::boot_entries::images(files, release).is_empty())
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
