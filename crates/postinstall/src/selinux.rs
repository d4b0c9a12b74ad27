//! The SELinux label of one file (selinux(8)), by its directory and name.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};

const NAME: &str = "security.selinux";
/// The kernel's bound on a value is 64 KiB; a label with many categories has some hundred bytes.
const MAX_LABEL: usize = 4096;
/// Names that begin alike are of one kind: `ssh_`, `initrd`, `vmlinuz`.
const MIN_IN_COMMON: usize = 3;

/// Returns the label of the name itself, behind no link.
pub(crate) fn label(dir: &File, name: &OsStr) -> Option<Vec<u8>> {
    let mut value = vec![0; MAX_LABEL];
    let len = lgetxattr(&by_descriptor(dir, name).ok()?, NAME, &mut value[..]).ok()?;
    value.truncate(len);
    Some(value).filter(|value| !value.is_empty())
}

/// Sets the label of the name itself.
///
/// # Errors
/// The kernel refused.
pub(crate) fn set_label(dir: &File, name: &OsStr, label: &[u8]) -> io::Result<()> {
    let path = by_descriptor(dir, name)?;
    Ok(lsetxattr(&path, NAME, label, XattrFlags::empty())?)
}

/// Returns those of `names` whose files are likely of the same purpose as `name`, the likeliest first: they begin
/// like it. With less in common, a name does not tell the purpose.
pub(crate) fn alike(mut names: Vec<String>, name: &str) -> Vec<String> {
    names.retain(|other| other != name && in_common(other, name) >= MIN_IN_COMMON);
    names.sort_by_key(|other| std::cmp::Reverse(in_common(other, name)));
    names
}

fn in_common(one: &str, other: &str) -> usize {
    one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count()
}

/// The l*xattr calls know no directory descriptor before Linux 6.13; proc(5) has names for descriptors.
fn by_descriptor(dir: &File, name: &OsStr) -> io::Result<CString> {
    let mut text = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    text.extend_from_slice(name.as_bytes());
    Ok(CString::new(text)?)
}
