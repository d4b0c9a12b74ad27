//! Target roots, and places beneath them as chains of names: a place may be deeper than `PATH_MAX`.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::fs::{self, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::RestoreError;
use crate::tree::TreeTarget;

/// The flags with which directories beneath a target are opened.
pub(super) const DIR_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The limits for any name: not out of the directory, not through a link.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// A file system that takes entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileSystem {
    /// For messages.
    pub(super) name: String,
    /// It has no owners, modes or links of its own and refuses them with `EPERM`: vfat and its relatives.
    pub(super) is_poor: bool,
}

impl FileSystem {
    /// True when `errno` means that this file system knows no such thing, and not that it failed.
    pub(super) fn lacks(&self, errno: Errno) -> bool {
        matches!(errno, Errno::OPNOTSUPP | Errno::NOSYS)
            || self.is_poor && matches!(errno, Errno::PERM | Errno::INVAL)
    }

    /// True when `errno` means that this file system cannot hold such a name.
    pub(super) fn cannot_name(&self, errno: Errno) -> bool {
        matches!(errno, Errno::NAMETOOLONG | Errno::ILSEQ)
            || self.is_poor && matches!(errno, Errno::INVAL | Errno::EXIST | Errno::NOENT)
    }

    /// The file system of an open file.
    ///
    /// # Errors
    /// fstatfs(2) failed.
    pub(super) fn of(fd: impl AsFd) -> Result<Self, Errno> {
        let magic = fs::fstatfs(fd)?.f_type;
        // linux/magic.h; the type is an i64 on most architectures and holds 32 bits.
        let (name, is_poor) = match magic & 0xffff_ffff {
            0xef53 => ("ext4", false),
            0x5846_5342 => ("xfs", false),
            0x9123_683e => ("btrfs", false),
            0xf2f5_2010 => ("f2fs", false),
            0x3153_464a => ("jfs", false),
            0x5265_4973 => ("reiserfs", false),
            0x0102_1994 => ("tmpfs", false),
            0x4d44 => ("vfat", true),
            0x2011_bab0 => ("exfat", true),
            0x7366_746e => ("ntfs", true),
            _ => {
                return Ok(Self {
                    name: format!("file system {magic:#x}"),
                    is_poor: false,
                });
            }
        };
        Ok(Self {
            name: name.to_owned(),
            is_poor,
        })
    }
}

/// An open target root.
#[derive(Debug)]
pub(super) struct Root {
    fd: OwnedFd,
    path: PathBuf,
}

impl Root {
    pub(super) fn open(target: &TreeTarget) -> Result<Arc<Self>, RestoreError> {
        let path = target.root.clone();
        match fs::openat(CWD, &path, DIR_FLAGS.difference(OFlags::NOFOLLOW), Mode::empty()) {
            Ok(fd) => Ok(Arc::new(Self { fd, path })),
            Err(errno) => Err(RestoreError::Open {
                path,
                source: errno.into(),
            }),
        }
    }
}

impl Root {
    /// Device and inode.
    pub(super) fn identity(&self) -> Option<(u64, u64)> {
        fs::fstat(&self.fd).ok().map(|stat| (stat.st_dev, stat.st_ino))
    }
}

/// A directory beneath a root, by names.
#[derive(Debug)]
pub(super) struct Place {
    root: Arc<Root>,
    parent: Option<Arc<Self>>,
    name: Box<[u8]>,
}

impl Place {
    pub(super) fn root(root: Arc<Root>) -> Arc<Self> {
        Arc::new(Self {
            root,
            parent: None,
            name: Box::default(),
        })
    }

    pub(super) fn child(parent: &Arc<Self>, name: &[u8]) -> Arc<Self> {
        Arc::new(Self {
            root: Arc::clone(&parent.root),
            parent: Some(Arc::clone(parent)),
            name: name.into(),
        })
    }

    /// Opens it from the root, name by name.
    pub(super) fn open(&self) -> io::Result<OwnedFd> {
        let mut fd = rustix::io::fcntl_dupfd_cloexec(&self.root.fd, 0)?;
        for name in self.names().iter().rev() {
            fd = open_dir(&fd, name)?;
        }
        Ok(fd)
    }

    /// The path, for messages.
    pub(super) fn path(&self) -> PathBuf {
        let mut path = self.root.path.clone();
        path.extend(self.names().iter().rev().map(|name| OsStr::from_bytes(name)));
        path
    }

    /// The path of an entry, for messages.
    pub(super) fn path_of(&self, name: &[u8]) -> PathBuf {
        self.path().join(OsStr::from_bytes(name))
    }

    fn names(&self) -> Vec<&[u8]> {
        let mut names = Vec::new();
        let mut place = self;
        while let Some(parent) = &place.parent {
            names.push(&*place.name);
            place = parent;
        }
        names
    }
}

impl Drop for Place {
    /// One by one: a chain of many thousand would overflow the stack.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(mut place) = next.and_then(Arc::into_inner) {
            next = place.parent.take();
        }
    }
}

/// Opens the directory `name` in `parent`: never a link, never elsewhere.
pub(super) fn open_dir(parent: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    loop {
        match fs::openat2(parent.as_fd(), name, DIR_FLAGS, Mode::empty(), RESOLVE) {
            // Somebody renames directories meanwhile (openat2(2)); the next try sees a settled tree.
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Before Linux 5.6. The name is a single component: without following links nothing else is left.
            Err(Errno::NOSYS) => return fs::openat(parent, name, DIR_FLAGS, Mode::empty()),
            opened => return opened,
        }
    }
}
