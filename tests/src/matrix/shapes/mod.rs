//! Golden systems as distributions write them: text trees whose tools are stubs, cloned by the real binaries.
//!
//! A shape is a layout of a disk and files with placeholders (`{{root.uuid}}`) in the place of whatever names the golden
//! node. The judgement is simple and knows nothing of the product: each file of the clone is the same text filled in with the
//! clone's names, unless the shape says what else becomes of it; and no text of the clone holds a golden name.
//!
//! This kernel cannot mount FAT: where a system has an EFI system partition, its files lie in the directory in which that would
//! be mounted, and nodes boot by BIOS. What a loader does on a real one is shown by QEMU's tests.

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
    /// Its name, short enough for the names of namespaces: `rhel8`.
    name: &'static str,
    /// A line for people.
    about: &'static str,
    plan: Plan,
    /// The placeholders' names of the volumes, in the order of the plan.
    volumes: Vec<&'static str>,
    files: Vec<File>,
    becomes: Vec<(&'static str, Becomes)>,
    calls: Vec<&'static str>,
    warnings: Vec<&'static str>,
    args: Vec<&'static str>,
    /// Done to the golden tree when all else is there.
    last: Option<fn(&Path) -> Result<()>>,
    outcome: Verdict,
}

/// The right result.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// A clone, and nothing in it names the golden node.
    Cloned,
    /// Refused before anything is written, in one line with these words; a clone with `-r none` where that is said.
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
    /// This text.
    Text(&'static str),
    /// A text that holds these.
    Holds(Vec<&'static str>),
}

impl Shape {
    /// A system on a disk with this table (what `sfdisk` reads), without files.
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

    /// A volume, and what placeholders call it.
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

    /// A text file.
    fn file(self, path: &'static str, text: &str) -> Self {
        self.add(path, text, Kind::Text)
    }

    /// The index of a kernel's modules, as depmod leaves it: those of the file systems.
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

    /// A script that stands for a tool.
    fn program(self, path: &'static str, text: &str) -> Self {
        self.add(path, text, Kind::Program)
    }

    /// A symbolic link.
    fn link(self, path: &'static str, to: &str) -> Self {
        self.add(path, to, Kind::Link)
    }

    /// Says that a file becomes this, and not its own text with the clone's names.
    fn becomes(mut self, path: &'static str, text: &'static str) -> Self {
        self.becomes.push((path, Becomes::Text(text)));
        self
    }

    /// A file of the clone that is made by a tool, or holds what is new for each clone: these texts are in it.
    fn holds(mut self, path: &'static str, texts: &[&'static str]) -> Self {
        self.becomes.push((path, Becomes::Holds(texts.to_vec())));
        self
    }

    /// How the stub tools are called in the clone, all calls in their order.
    fn calls(mut self, lines: &[&'static str]) -> Self {
        self.calls.extend(lines);
        self
    }

    /// Warnings of the run: each of these is in one, and there are no others.
    fn warns(mut self, parts: &[&'static str]) -> Self {
        self.warnings.extend(parts);
        self
    }

    /// Options of the server.
    fn args(mut self, args: &[&'static str]) -> Self {
        self.args.extend(args);
        self
    }

    /// Does something more to the golden tree.
    fn last(mut self, action: fn(&Path) -> Result<()>) -> Self {
        self.last = Some(action);
        self
    }

    /// It is refused in one line with these words.
    fn refused(mut self, words: &'static [&'static str]) -> Self {
        self.outcome = Verdict::Refused(words);
        self
    }
}

/// The shapes as cases of the matrix.
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
