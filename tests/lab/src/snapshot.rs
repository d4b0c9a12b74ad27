//! Every fact that the kernel can tell about one file, read with plain system calls.
//!
//! These facts are not read, because no test compares them: inode numbers, access, change and birth times,
//! sizes of directories.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, CWD, IFlags, Mode, OFlags};

/// The kinds of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// The facts about one file.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Kind of the file.
    pub kind: Kind,
    /// Permission bits, with set-id and sticky.
    pub mode: u32,
    /// User id of the owner.
    pub uid: u32,
    /// Group id of the file.
    pub gid: u32,
    /// Size of a regular file in bytes.
    pub size: u64,
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// Device number of a device.
    pub rdev: u64,
    /// Number of its names.
    pub links: u64,
    /// Device and inode: the same for every name of a file.
    pub identity: (u64, u64),
    /// Bytes allocated on disk.
    pub allocated: u64,
    /// Target of a symbolic link.
    pub target: Option<Vec<u8>>,
    /// Extended attributes, all name spaces.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Flags of `chattr` that every file system of the tests can keep.
    pub flags: u32,
}

/// Flags compared: immutable, append only, no dump, no atime updates, synchronous.
const FLAGS: IFlags = IFlags::IMMUTABLE
    .union(IFlags::APPEND)
    .union(IFlags::NODUMP)
    .union(IFlags::NOATIME)
    .union(IFlags::SYNC);
/// Longest list of attribute names and longest value the kernel gives, in bytes (`XATTR_LIST_MAX`,
/// `XATTR_SIZE_MAX`).
const XATTR_MAX: usize = 65_536;

impl Facts {
    /// Reads all facts about a path without following it.
    ///
    /// # Errors
    /// The path cannot be read; the error names it.
    pub fn read(path: &Path) -> Result<Self> {
        Self::read_inner(path).with_context(|| format!("looking at {}", path.display()))
    }

    fn read_inner(path: &Path) -> Result<Self> {
        let meta = fs::symlink_metadata(path)?;
        let kind = kind_of(&meta);
        let target = match kind {
            Kind::Link => Some(fs::read_link(path)?.as_os_str().as_bytes().to_vec()),
            _ => None,
        };
        Ok(Self {
            kind,
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            size: if kind == Kind::File { meta.size() } else { 0 },
            mtime: (meta.mtime(), meta.mtime_nsec()),
            rdev: if matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
                meta.rdev()
            } else {
                0
            },
            links: if kind == Kind::Directory { 1 } else { meta.nlink() },
            identity: (meta.dev(), meta.ino()),
            allocated: meta.blocks() * 512,
            target,
            xattrs: xattrs(path)?,
            flags: flags(path, kind)?,
        })
    }
}

fn kind_of(meta: &Metadata) -> Kind {
    let kind = meta.file_type();
    if kind.is_dir() {
        Kind::Directory
    } else if kind.is_symlink() {
        Kind::Link
    } else if kind.is_char_device() {
        Kind::CharDevice
    } else if kind.is_block_device() {
        Kind::BlockDevice
    } else if kind.is_fifo() {
        Kind::Fifo
    } else if kind.is_socket() {
        Kind::Socket
    } else {
        Kind::File
    }
}

fn xattrs(path: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0; XATTR_MAX];
    let length = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => return Ok(BTreeMap::new()),
        Err(err) => return Err(err.into()),
    };
    let mut found = BTreeMap::new();
    for name in names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0; XATTR_MAX];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..])?;
        value.truncate(length);
        found.insert(name.to_vec(), value);
    }
    Ok(found)
}

fn flags(path: &Path, kind: Kind) -> Result<u32> {
    if !matches!(kind, Kind::File | Kind::Directory) {
        return Ok(0);
    }
    let file = File::from(rustix::fs::openat(
        CWD,
        path,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOATIME,
        Mode::empty(),
    )?);
    match rustix::fs::ioctl_getflags(&file) {
        Ok(flags) => Ok((flags & FLAGS).bits()),
        Err(rustix::io::Errno::NOTTY | rustix::io::Errno::NOTSUP) => Ok(0),
        Err(err) => Err(err.into()),
    }
}

/// Sets the time of a path without following it; for making trees.
///
/// # Errors
/// The kernel refuses.
pub fn set_mtime(path: &Path, seconds: i64, nanos: u32) -> Result<()> {
    let time = rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: nanos.into(),
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .with_context(|| format!("setting the time of {}", path.display()))
}
