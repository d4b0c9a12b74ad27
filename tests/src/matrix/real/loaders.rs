//! Boot loaders of golden systems, installed as an administrator would have done it.

use std::path::Path;

use anyhow::Result;

use crate::mounts::Mounted;
use crate::process::Program;
use crate::qemu::room::Room;

/// Mounts what a system's own tools want to see, for one piece of work in it.
fn within(root: &Path, work: impl FnOnce(&dyn Fn(&[&str]) -> Result<()>) -> Result<()>) -> Result<()> {
    let _mounts = ["dev", "proc", "sys"]
        .map(|dir| Mounted::new(&Path::new("/").join(dir), &root.join(dir), "bind"))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    work(&|words| Program::new("chroot").arg(root).args(words).run().map(drop))
}

/// GRUB in the disk's first sectors.
pub(super) fn grub(room: &Room) -> Result<()> {
    let disk = room.golden.disk().checked()?.display().to_string();
    within(room.golden.root(), |run| {
        run(&["grub-install", "--target=i386-pc", &disk])?;
        run(&["grub-mkconfig", "-o", "/boot/grub/grub.cfg"])
    })
}
