//! Files of the restored tree, read and changed without leaving it.
//!
//! The tree came from the golden node, and its symbolic links mean the clone's own root: `/etc/fstab` may be
//! a link to `/data/fstab`. Followed by a plain open, it would lead to this machine's file. The kernel
//! resolves such a path inside the tree (openat2(2), `RESOLVE_IN_ROOT`).
//!
//! A new file gets an SELinux label where the tree has any: that of the most similar file beside it, else of its
//! directory. To an enforcing system a file without one is `unlabeled_t`.
//!
//! A directory keeps its times when a file in it is made or removed: a clone's tree differs from the golden
//! one only where it must.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, IFlags, Mode, OFlags, ResolveFlags, Timespec, Timestamps, fstat, futimens,
    ioctl_getflags, ioctl_setflags, mkdirat, openat2, symlinkat, unlinkat,
};

use crate::files::{Files, Kind, MAX_TEXT_BYTES, Stamp};
use crate::selinux;

/// The tree under the mount directory.
#[derive(Debug)]
pub struct Root {
    dir: File,
}

impl Root {
    /// Opens the tree's root directory.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        Ok(Self { dir: File::from(dir) })
    }

    /// Opens the existing file `path` (absolute in the clone) with `flags`.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn open_file(&self, path: &Path, flags: OFlags) -> io::Result<File> {
        self.open_with(path, flags, Mode::empty())
    }

    /// Returns the real place of the directory `path` of the tree, for programs that want a name. It is free
    /// of links, and good until the tree changes.
    ///
    /// # Errors
    /// No such directory.
    pub fn real_dir(&self, path: &Path) -> io::Result<PathBuf> {
        let dir = self.open_file(path, OFlags::PATH | OFlags::DIRECTORY)?;
        std::fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd()))
    }

    /// Writes a file with this content. An existing file keeps its owner, mode, attributes and its immutable
    /// flag, if it has one. A new one gets `mode`, and its missing directories are made.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let mut file = match self.open_file(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => return self.replace(path, &file, bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.create(path, mode)?,
            Err(error) => return Err(error),
        };
        file.write_all(bytes).and_then(|()| file.sync_all())
    }

    /// Makes an empty file that is not there yet, with its directories, and opens it for writing.
    ///
    /// # Errors
    /// The kernel refused; a dangling link in its place counts as being there.
    pub fn create(&self, path: &Path, mode: u32) -> io::Result<File> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        self.make_dirs(parent)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        self.keeping_times(parent, || {
            let file = self.open_with(path, flags, Mode::from_raw_mode(mode))?;
            // Whatever the umask says.
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
            self.label_new(path);
            Ok(file)
        })
    }

    /// Removes a file or link; no error when it is not there.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = split(path)?;
        if self.kind(&path.to_string_lossy()).is_none() {
            return Ok(());
        }
        self.keeping_times(parent, || {
            let dir = self.open_file(parent, OFlags::PATH | OFlags::DIRECTORY)?;
            Ok(unlinkat(&dir, name, AtFlags::empty())?)
        })
    }

    /// Makes a symbolic link, in the place of any file or link.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn link(&self, target: &str, path: &Path) -> io::Result<()> {
        let (parent, name) = split(path)?;
        self.make_dirs(parent)?;
        self.remove(path)?;
        self.keeping_times(parent, || {
            let dir = self.open_file(parent, OFlags::PATH | OFlags::DIRECTORY)?;
            symlinkat(target, &dir, name)?;
            self.label_new(path);
            Ok(())
        })
    }

    /// Makes a directory and those above it, mode 0755, if they are missing.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn make_dirs(&self, path: &Path) -> io::Result<()> {
        match self.open_file(path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other.map(drop),
        }
        let (parent, _) = split(path)?;
        self.make_dirs(parent)?;
        self.make_dir(path, 0o755)
    }

    /// Makes one directory with this mode where there is none. Its parent must be there.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn make_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        let (parent, name) = split(path)?;
        if self.exists(&path.to_string_lossy()) {
            return Ok(());
        }
        self.keeping_times(parent, || {
            let dir = self.open_file(parent, OFlags::PATH | OFlags::DIRECTORY)?;
            mkdirat(&dir, name, Mode::from_raw_mode(mode))?;
            self.label_new(path);
            Ok(())
        })
    }

    /// Returns the SELinux label of the name itself, behind no link; `None` if it has none.
    pub(crate) fn label(&self, path: &Path) -> Option<Vec<u8>> {
        let (dir, name) = self.dir_and_name(path).ok()?;
        selinux::label(&dir, name)
    }

    /// Sets the SELinux label of the name itself.
    ///
    /// # Errors
    /// The kernel refused.
    pub(crate) fn set_label(&self, path: &Path, label: &[u8]) -> io::Result<()> {
        let (dir, name) = self.dir_and_name(path)?;
        selinux::set_label(&dir, name, label)
    }

    /// Returns the label that fits `path`: of the neighbour of the same kind whose name begins most like it;
    /// else the directory's.
    pub(crate) fn fitting_label(&self, path: &Path) -> Option<Vec<u8>> {
        let parent = path.parent()?;
        let name = path.file_name()?.to_str()?;
        let kind = self.kind(path.to_str()?)?;
        let alike = selinux::alike(self.names(parent.to_str()?), name);
        let beside = alike.iter().find_map(|other| {
            let other = parent.join(other);
            let is_like = self.kind(other.to_str()?) == Some(kind);
            is_like.then(|| self.label(&other)).flatten()
        });
        beside.or_else(|| self.label(parent))
    }

    /// Labels `path`, which is new. Without labels beside it nothing happens.
    fn label_new(&self, path: &Path) {
        if self.label(path).is_none()
            && let Some(found) = self.fitting_label(path)
            && let Err(error) = self.set_label(path, &found)
        {
            tracing::debug!(path = %path.display(), %error, "no label");
        }
    }

    /// Opens the directory of `path`, and returns its name in it. The root's own name is `.`.
    fn dir_and_name<'a>(&self, path: &'a Path) -> io::Result<(File, &'a OsStr)> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let dir = self.open_file(parent, OFlags::PATH | OFlags::DIRECTORY)?;
        Ok((dir, path.file_name().unwrap_or(OsStr::new("."))))
    }

    fn open_regular(&self, path: &str) -> io::Result<Option<File>> {
        match self.open_file(Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => Ok(file.metadata()?.is_file().then_some(file)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open_with(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<File> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let file = openat2(&self.dir, path, flags | OFlags::CLOEXEC, mode, resolve)?;
        Ok(File::from(file))
    }

    fn replace(&self, path: &Path, file: &File, bytes: &[u8]) -> io::Result<()> {
        let locked = IFlags::IMMUTABLE | IFlags::APPEND;
        let flags = ioctl_getflags(file).unwrap_or(IFlags::empty());
        if flags.intersects(locked) {
            ioctl_setflags(file, flags - locked)?;
        }
        let mut writable = self.open_file(path, OFlags::WRONLY | OFlags::TRUNC | OFlags::NONBLOCK)?;
        writable.write_all(bytes).and_then(|()| writable.sync_all())?;
        if flags.intersects(locked) {
            ioctl_setflags(file, flags)?;
        }
        Ok(())
    }

    /// Runs `change` and then restores the times of the directory that it changes.
    fn keeping_times<T>(&self, dir: &Path, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let dir = self.open_file(dir, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let before = fstat(&dir)?;
        let done = change()?;
        let time = |tv_sec, nsec: u64| Timespec {
            tv_sec,
            tv_nsec: i64::try_from(nsec).unwrap_or_default(),
        };
        let times = Timestamps {
            last_access: time(before.st_atime, before.st_atime_nsec),
            last_modification: time(before.st_mtime, before.st_mtime_nsec),
        };
        futimens(&dir, &times)?;
        Ok(done)
    }

    /// Returns true for a regular file that may be run.
    #[must_use]
    pub fn is_executable(&self, path: &str) -> bool {
        let stat = self
            .open_file(Path::new(path), OFlags::PATH)
            .and_then(|file| Ok(fstat(file)?));
        stat.is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_mode & 0o111 != 0
        })
    }
}

impl Files for Root {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.open_regular(path)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(MAX_TEXT_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_TEXT_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("longer than {MAX_TEXT_BYTES} bytes"),
            ));
        }
        Ok(Some(bytes))
    }

    fn read_part(&self, path: &str, offset: u64, len: usize) -> io::Result<Option<Vec<u8>>> {
        let Some(mut file) = self.open_regular(path)? else {
            return Ok(None);
        };
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(len as u64).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn names(&self, dir: &str) -> Vec<String> {
        let opened = self.open_file(Path::new(dir), OFlags::RDONLY | OFlags::DIRECTORY);
        let Ok(entries) = opened.and_then(|dir| Ok(Dir::new(dir)?)) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str().ok().map(ToOwned::to_owned))
            .filter(|name| name != "." && name != "..")
            .collect();
        names.sort();
        names
    }

    fn kind(&self, path: &str) -> Option<Kind> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let stat = fstat(self.open_file(Path::new(path), flags).ok()?).ok()?;
        Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Dir,
            FileType::Symlink => Kind::Link,
            _ => Kind::Other,
        })
    }

    fn exists(&self, path: &str) -> bool {
        self.open_file(Path::new(path), OFlags::PATH).is_ok()
    }

    fn stamp(&self, path: &str) -> Option<Stamp> {
        let stat = fstat(self.open_file(Path::new(path), OFlags::PATH).ok()?).ok()?;
        Some(Stamp {
            len: u64::try_from(stat.st_size).ok()?,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
        })
    }
}

fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, name)),
        _ => Err(io::ErrorKind::InvalidFilename.into()),
    }
}

fn is_absent(error: &io::Error) -> bool {
    let is_loop = rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::LOOP);
    is_loop
        || matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        )
}

#[cfg(test)]
#[path = "root_tests.rs"]
mod tests;
