//! Golden systems as distributions write them: text trees whose tools are stubs, cloned by the real binaries.
//!
//! A shape is a layout of a disk and files with placeholders (`{{root.uuid}}`) in the place of every name of
//! the golden node. The judgement is simple and knows nothing of the product. Each file of the clone is the
//! same text filled in with the clone's names, unless the shape states another text. No text of the clone
//! holds a golden name.
//!
//! This kernel cannot mount FAT. If a system has an EFI system partition, its files are in the directory that
//! would be its mount point, and nodes boot by BIOS. QEMU's tests show the work of a loader on a real one.

mod alpine;
mod arch;
mod debian;
mod names;
mod others;
mod redhat;
mod refused;
mod run;
mod suse;
mod tools;

use std::borrow::Cow;
use std::path::Path;

use anyhow::Result;

use super::{Case, Expected, Part};
use crate::golden::{Plan, Volume};

/// A golden system.
#[derive(Debug, Clone)]
struct Shape {
    /// Name, short enough for the names of namespaces: `rhel8`.
    name: &'static str,
    /// A line for people.
    about: &'static str,
    plan: Plan,
    /// Names of the volumes in placeholders, in the order of the plan.
    volumes: Vec<&'static str>,
    files: Vec<File>,
    becomes: Vec<(&'static str, Becomes)>,
    calls: Vec<&'static str>,
    warnings: Vec<&'static str>,
    args: Vec<&'static str>,
    /// Last change to the golden tree, when all else is there.
    last: Option<fn(&Path) -> Result<()>>,
    outcome: Verdict,
}

/// The right result.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// It becomes a clone, and nothing in it names the golden node.
    Cloned,
    /// It is refused before anything is written, in one line with these words and with `-r none`, which makes
    /// a clone.
    Refused(&'static [&'static str]),
}

#[derive(Debug, Clone)]
struct File {
    path: Cow<'static, str>,
    text: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Program,
    Link,
}

/// The clone's file in the place of a golden one.
#[derive(Debug, Clone)]
enum Becomes {
    /// It is this text.
    Text(&'static str),
    /// It is a text that holds these.
    Holds(Vec<&'static str>),
}

impl Shape {
    /// Begins a system on a disk with this table (a script for `sfdisk`), without files.
    fn new(name: &'static str, about: &'static str, table: &'static str) -> Self {
        let plan = Plan {
            size: 768 << 20,
            sector_size: 512,
            table,
            volumes: Vec::new(),
            foreign_fstab: "",
        };
        Self {
            name,
            about,
            plan,
            volumes: Vec::new(),
            files: Vec::new(),
            becomes: Vec::new(),
            calls: Vec::new(),
            warnings: Vec::new(),
            args: Vec::new(),
            last: None,
            outcome: Verdict::Cloned,
        }
    }

    /// Adds a volume, with its name in placeholders.
    fn volume(mut self, name: &'static str, volume: Volume) -> Self {
        self.volumes.push(name);
        self.plan.volumes.push(volume);
        self
    }

    fn add(mut self, path: &'static str, text: &str, kind: Kind) -> Self {
        self.files.push(File {
            path: path.into(),
            text: text.to_owned(),
            kind,
        });
        self
    }

    /// Adds a text file.
    fn file(self, path: &'static str, text: &str) -> Self {
        self.add(path, text, Kind::Text)
    }

    /// Adds the index of a kernel's modules as depmod leaves it: those of the file systems.
    fn modules(mut self, release: &str) -> Self {
        let dir = format!("usr/lib/modules/{release}");
        for (name, text) in [
            (
                "modules.dep",
                "kernel/fs/xfs/xfs.ko.xz: kernel/lib/libcrc32c.ko.xz\nkernel/lib/libcrc32c.ko.xz:\nkernel/fs/btrfs/btrfs.ko.xz:\nkernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz\nkernel/fs/jbd2/jbd2.ko.xz:\n",
            ),
            ("modules.alias", "alias fs-xfs xfs\n"),
            ("modules.builtin", ""),
        ] {
            self.files.push(File {
                path: format!("{dir}/{name}").into(),
                text: text.to_owned(),
                kind: Kind::Text,
            });
        }
        self
    }

    /// Adds a script that stands for a tool.
    fn program(self, path: &'static str, text: &str) -> Self {
        self.add(path, text, Kind::Program)
    }

    /// Adds a symbolic link.
    fn link(self, path: &'static str, to: &str) -> Self {
        self.add(path, to, Kind::Link)
    }

    /// Declares that a file becomes this text, not its own one with the clone's names.
    fn becomes(mut self, path: &'static str, text: &'static str) -> Self {
        self.becomes.push((path, Becomes::Text(text)));
        self
    }

    /// Declares that a file of the clone holds these texts: a tool makes it, or it has content that is new
    /// for each clone.
    fn holds(mut self, path: &'static str, texts: &[&'static str]) -> Self {
        self.becomes.push((path, Becomes::Holds(texts.to_vec())));
        self
    }

    /// Declares all calls of the stub tools in the clone, in their order.
    fn calls(mut self, lines: &[&'static str]) -> Self {
        self.calls.extend(lines);
        self
    }

    /// Declares the warnings of the run: each of these is in one, and there are no others.
    fn warns(mut self, parts: &[&'static str]) -> Self {
        self.warnings.extend(parts);
        self
    }

    /// Sets options of the server.
    fn args(mut self, args: &[&'static str]) -> Self {
        self.args.extend(args);
        self
    }

    /// Adds a last change to the golden tree.
    fn last(mut self, action: fn(&Path) -> Result<()>) -> Self {
        self.last = Some(action);
        self
    }

    /// Declares that it is refused in one line with these words.
    fn refused(mut self, words: &'static [&'static str]) -> Self {
        self.outcome = Verdict::Refused(words);
        self
    }
}

/// Returns the shapes as cases of the matrix.
#[must_use]
pub fn cases() -> Vec<Case> {
    let shapes = [
        redhat::shapes(),
        suse::shapes(),
        debian::shapes(),
        arch::shapes(),
        alpine::shapes(),
        others::shapes(),
        refused::shapes(),
    ];
    shapes.concat().into_iter().map(Shape::into_case).collect()
}

impl Shape {
    fn into_case(self) -> Case {
        let is_called = |tool: &str| self.calls.iter().any(|call| call.split(' ').next() == Some(tool));
        let among = |tools: &[(&str, &'static str)]| {
            let found = tools.iter().find(|(tool, _)| is_called(tool));
            found.map_or("none", |(_, name)| *name)
        };
        Case {
            name: self.name,
            system: self.about,
            root: self.plan.volumes.first().map_or("", |volume| volume.fs),
            loader: among(&[
                ("grub-install", "GRUB, BIOS"),
                ("grub2-install", "GRUB, BIOS"),
                ("extlinux", "EXTLINUX"),
                ("lilo", "LILO"),
            ]),
            initramfs: among(&[
                ("dracut", "dracut"),
                ("update-initramfs", "initramfs-tools"),
                ("mkinitcpio", "mkinitcpio"),
                ("mkinitfs", "mkinitfs"),
            ]),
            part: Part::Fast,
            expected: match self.outcome {
                Verdict::Cloned => Expected::Cloned,
                Verdict::Refused(words) => Expected::Refused(words),
            },
            run: Box::new(move || run::run(&self)),
        }
    }
}
