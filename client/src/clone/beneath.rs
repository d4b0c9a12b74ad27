//! Files of the restored tree, opened without leaving it.
//!
//! The tree came from the golden node, and its symbolic links mean the clone's own root: `/etc/fstab` may be a
//! link to `/data/fstab`. Followed by a plain open, it would lead to this machine's file. The kernel resolves
//! such a path inside the tree (openat2(2), `RESOLVE_IN_ROOT`).

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fchmod, mkdirat, openat2, symlinkat};
use rustix::io::Errno;

/// The tree under the mount directory.
#[derive(Debug)]
pub(crate) struct Root {
    dir: File,
}

impl Root {
    /// Opens the tree's root directory.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        Ok(Self { dir: File::from(dir) })
    }

    /// Opens the existing file `path` (absolute in the clone) with `flags`.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn open_file(&self, path: &Path, flags: OFlags) -> io::Result<File> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let file = openat2(&self.dir, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?;
        Ok(File::from(file))
    }

    /// Makes the file `path` (absolute in the clone) with this mode, or empties the one that is there.
    ///
    /// # Errors
    /// What the kernel says, with the path.
    pub(crate) fn create(&self, path: &Path, mode: u32) -> anyhow::Result<File> {
        let doing = || format!("making the clone's {}", path.display());
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode);
        let file = openat2(&self.dir, path, flags, mode, resolve).with_context(doing)?;
        // Whatever the umask is, and whatever mode a file of that name had.
        fchmod(&file, mode).with_context(doing)?;
        Ok(File::from(file))
    }

    /// Makes the directory `path` (absolute in the clone) where there is none. Its parent must be there.
    ///
    /// # Errors
    /// What the kernel says, with the path.
    pub(crate) fn make_dir(&self, path: &Path, mode: u32) -> anyhow::Result<()> {
        let (dir, name) = self.place(path)?;
        match mkdirat(&dir, name, Mode::from_raw_mode(mode)) {
            Err(Errno::EXIST) => Ok(()),
            made => made.with_context(|| format!("making the clone's {}", path.display())),
        }
    }

    /// Makes the symbolic link `path` (absolute in the clone) to `target`, or lets the one be that is there.
    ///
    /// # Errors
    /// What the kernel says, with the path.
    pub(crate) fn make_link(&self, path: &Path, target: &str) -> anyhow::Result<()> {
        let (dir, name) = self.place(path)?;
        match symlinkat(target, &dir, name) {
            Err(Errno::EXIST) => Ok(()),
            made => made.with_context(|| format!("making the clone's {}", path.display())),
        }
    }

    fn place<'a>(&self, path: &'a Path) -> anyhow::Result<(File, &'a OsStr)> {
        let (parent, name) = path
            .parent()
            .zip(path.file_name())
            .context("a path without a name")?;
        let dir = self
            .open_file(parent, OFlags::PATH | OFlags::DIRECTORY)
            .with_context(|| format!("opening the clone's {}", parent.display()))?;
        Ok((dir, name))
    }

    /// Where the directory `path` of the tree really is, for programs that want a name. Free of links: good until
    /// somebody changes the tree.
    ///
    /// # Errors
    /// No such directory.
    pub(crate) fn real_dir(&self, path: &Path) -> io::Result<PathBuf> {
        let dir = self.open_file(path, OFlags::PATH | OFlags::DIRECTORY)?;
        std::fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn an_absolute_link_stays_inside_the_tree() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), "inside").unwrap();
        symlink("/etc/passwd", dir.path().join("link")).unwrap();
        symlink("../../../../etc", dir.path().join("up")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        for path in ["/link", "/up/passwd", "etc/passwd", "/../../etc/passwd"] {
            let mut text = String::new();
            root.open_file(Path::new(path), OFlags::RDONLY)
                .unwrap()
                .read_to_string(&mut text)
                .unwrap();
            assert_eq!(text, "inside", "{path}");
        }
        assert_eq!(
            root.real_dir(Path::new("/up")).unwrap(),
            dir.path().canonicalize().unwrap().join("etc")
        );
        assert!(root.real_dir(Path::new("/link")).is_err());
    }
}
