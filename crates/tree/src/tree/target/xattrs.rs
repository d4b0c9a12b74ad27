//! Setting extended attributes; which refusals mean that the target cannot hold one.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{self, XattrFlags};
use rustix::io::Errno;

use super::entry::Entry;
use super::shared::Halt;
use crate::meta::{Meta, xattrs};
use crate::warning::WarningKind;

/// The entry that takes them.
#[derive(Clone, Copy)]
pub(super) enum On<'a> {
    Open(BorrowedFd<'a>),
    /// A name in a directory, not followed.
    Name(BorrowedFd<'a>, &'a [u8]),
}

/// Sets all attributes of an entry.
pub(super) fn set(entry: Entry<'_>, on: On<'_>, meta: &Meta<'_>) -> Result<(), Halt> {
    for attribute in xattrs(meta.xattrs) {
        let (name, value) = attribute.map_err(|malformed| entry.shared.damaged(malformed))?;
        let set = match on {
            On::Open(fd) => fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            On::Name(dir, file) => {
                // The l*xattr calls know no directory descriptor before Linux 6.13 (proc(5)).
                let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
                path.extend_from_slice(file);
                fs::lsetxattr(path.as_slice(), name, value, XattrFlags::empty())
            }
        };
        if let Err(errno) = set {
            let excused = cannot_hold(entry, on, name, errno).then(|| warning(name));
            entry.judge(excused, "setting an attribute of", errno)?;
        }
    }
    Ok(())
}

/// True when the target cannot hold the attribute, and nothing else is wrong.
fn cannot_hold(entry: Entry<'_>, on: On<'_>, attribute: &[u8], errno: Errno) -> bool {
    match errno {
        Errno::OPNOTSUPP | Errno::TOOBIG | Errno::RANGE | Errno::NODATA => true,
        // ext4 says "no space" to a value that does not fit into one block.
        Errno::NOSPC => has_space(on),
        // A policy that is not loaded, a name space that this kernel keeps from us.
        Errno::PERM | Errno::INVAL | Errno::ACCESS => {
            !attribute.starts_with(b"user.") || entry.file_system().is_poor
        }
        _ => false,
    }
}

fn warning(attribute: &[u8]) -> WarningKind {
    if attribute == b"security.selinux" {
        WarningKind::SelinuxLabel
    } else if attribute.starts_with(b"system.posix_acl_") {
        WarningKind::Acl
    } else {
        let space = attribute.split(|byte| *byte == b'.').next().unwrap_or(attribute);
        WarningKind::Xattr(String::from_utf8_lossy(space).into_owned())
    }
}

fn has_space(on: On<'_>) -> bool {
    let (On::Open(fd) | On::Name(fd, _)) = on;
    // A few blocks are always needed for something else.
    fs::fstatvfs(fd).is_ok_and(|stat| stat.f_bfree > 64 && stat.f_ffree != 0)
}
