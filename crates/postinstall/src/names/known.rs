//! The names that are known of one clone, and the meaning of each.

use ka_disk::fstab::TaggedName;

use super::{ids, spelling};
use crate::facts::{DiskFact, Facts};
use crate::fstab::{DeviceMap, matching};

/// The meaning in the clone of one of the golden node's names.
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
    /// The names of a clone that opens nothing by itself.
    pub(super) const fn new(facts: &'a Facts, has_initramfs: bool) -> Self {
        Self {
            facts,
            opened: Vec::new(),
            has_initramfs,
        }
    }

    /// Returns the same with the mapped devices that the clone's own crypttab opens.
    pub(super) fn opening(self, opened: Vec<String>) -> Self {
        Self { opened, ..self }
    }

    pub(crate) fn facts(&self) -> &'a Facts {
        self.facts
    }

    /// Returns the meaning of `name` (quotes and escapes undone); `None` when it is no name of a disk,
    /// partition or volume.
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

    /// Returns the clone's name for `name`: `Some` for everything that the clone has.
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

    /// Returns the name of the clone's root file system for its kernel.
    pub(crate) fn root(&self) -> Option<String> {
        let root = self.facts.mounts.iter().find(|mount| mount.path == "/")?;
        if self.has_initramfs {
            matching::lasting(&root.device)
        } else {
            matching::for_bare_kernel(&root.device)
        }
    }

    /// Returns the text with the clone's ids in the place of golden ones that stand without a tag.
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

/// The use of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// By programs of the running system that know tags (`UUID=…`): mount(8), fsck(8).
    Usual,
    /// For programs that open the name: a path stays a path.
    Path,
    /// By the kernel or its initramfs: a kernel without an initramfs knows only PARTUUIDs.
    ForKernel,
    /// By a tool that looks the name up while it installs, on this very machine (LILO).
    AtInstall,
}
