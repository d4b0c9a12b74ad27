//! Reading what else an entry has: extended attributes, flags, project id.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use ka_host::inode_flags;
use rustix::fs;
use rustix::io::Errno;

use crate::meta::{MAX_XATTR_BYTES, put_xattr};
use crate::problem::ProblemKind;

/// Flags of `chattr` that a user can set, and that mean something on another file system (`linux/fs.h`). Not
/// among them: what the file system decides itself (extents, inline data, index) and what cannot be set
/// (encryption, verity: their content travels readable).
const SETTABLE: u32 = 0x6283_C4FF;

/// The kernel's bound on a value and on a list of names (xattr(7)).
const XATTR_BYTES: usize = 64 * 1024;

/// The attributes in which XFS stores ACLs: the same as `system.posix_acl_*`, once more, and nonsense on
/// another file system.
const NOT_SENT: [&[u8]; 2] = [b"trusted.SGI_ACL_FILE", b"trusted.SGI_ACL_DEFAULT"];

/// The way to an entry: open, or by its name (links, devices: opening them would follow or act).
#[derive(Clone, Copy)]
pub(super) enum At<'a> {
    Open(BorrowedFd<'a>),
    Name(BorrowedFd<'a>, &'a CStr),
}

/// Reads attributes into buffers that are kept between entries.
pub(super) struct Attributes {
    names: Vec<u8>,
    value: Vec<u8>,
    /// Encoded, for the record.
    list: Vec<u8>,
}

/// The entry travels without something.
#[derive(Debug)]
pub(super) enum Missing {
    /// It could not be read.
    Unreadable(String),
    /// The stream has no room for it.
    TooLong(String),
}

impl From<Missing> for ProblemKind {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Unreadable(what) => Self::Unreadable(what),
            Missing::TooLong(what) => Self::Incomplete(what),
        }
    }
}

impl Attributes {
    pub(super) fn new() -> Self {
        Self {
            names: vec![0; XATTR_BYTES],
            value: vec![0; XATTR_BYTES],
            list: Vec::new(),
        }
    }

    /// No attributes, for an entry that cannot be asked.
    pub(super) fn clear(&mut self) {
        self.list.clear();
    }

    /// Returns the encoded attributes of the entry read last.
    pub(super) fn list(&self) -> &[u8] {
        &self.list
    }

    /// Reads all extended attributes. Most entries have none: then this is one system call.
    pub(super) fn read(&mut self, entry: At<'_>) -> Result<(), Missing> {
        self.list.clear();
        let listed = match entry {
            At::Open(fd) => fs::flistxattr(fd, &mut self.names[..]),
            At::Name(dir, name) => fs::llistxattr(by_descriptor(dir, name).as_slice(), &mut self.names[..]),
        };
        let len = match listed {
            Ok(len) => len,
            Err(Errno::OPNOTSUPP | Errno::NODATA) => 0,
            Err(errno) => return Err(missing("its extended attributes", errno)),
        };
        let mut problem = Ok(());
        for name in self.names[..len]
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty() && !NOT_SENT.contains(name))
        {
            let value = match entry {
                At::Open(fd) => fs::fgetxattr(fd, name, &mut self.value[..]),
                At::Name(dir, file) => {
                    fs::lgetxattr(by_descriptor(dir, file).as_slice(), name, &mut self.value[..])
                }
            };
            let what = || format!("its attribute {}", String::from_utf8_lossy(name));
            match value {
                Ok(len) if self.list.len() + name.len() + len + 5 <= MAX_XATTR_BYTES => {
                    put_xattr(&mut self.list, name, &self.value[..len]);
                }
                Ok(_) => {
                    problem = Err(Missing::TooLong(format!(
                        "{}: more than {MAX_XATTR_BYTES} bytes",
                        what()
                    )))
                }
                // Gone since it was listed.
                Err(Errno::NODATA) => {}
                Err(errno) => problem = Err(missing(&what(), errno)),
            }
        }
        problem
    }
}

fn missing(what: &str, errno: Errno) -> Missing {
    Missing::Unreadable(format!("{what}: {}", std::io::Error::from(errno)))
}

/// The l*xattr calls know no directory descriptor before Linux 6.13; proc(5) has names for descriptors.
pub(super) fn by_descriptor(dir: BorrowedFd<'_>, name: &CStr) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    path
}

/// Flags and project ids: asked for until a file system says that it has none.
#[derive(Debug, Default)]
pub(super) struct FlagReader {
    no_flags: AtomicBool,
    no_projects: AtomicBool,
}

impl FlagReader {
    /// Returns the settable flags of an open file or directory.
    pub(super) fn flags(&self, fd: impl AsFd) -> u32 {
        if self.no_flags.load(Ordering::Relaxed) {
            return 0;
        }
        match fs::ioctl_getflags(fd) {
            Ok(flags) => flags.bits() & SETTABLE,
            Err(errno) => {
                self.no_flags.store(is_unknown_to_fs(errno), Ordering::Relaxed);
                0
            }
        }
    }

    /// Returns the project id of an open file or directory.
    pub(super) fn project(&self, fd: impl AsFd) -> u32 {
        if self.no_projects.load(Ordering::Relaxed) {
            return 0;
        }
        match inode_flags::project_id(fd) {
            Ok(project) => project,
            Err(error) => {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                self.no_projects.store(is_unknown_to_fs(errno), Ordering::Relaxed);
                0
            }
        }
    }
}

const fn is_unknown_to_fs(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL
    )
}
