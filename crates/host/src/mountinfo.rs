//! The mounts that this process sees: `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::HostError;

/// One line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountInfo {
    /// Major and minor number of the mounted file system; btrfs and others make up an anonymous one.
    pub device: (u32, u32),
    /// Directory of that file system that the mount point shows: `/` unless it is a bind mount or subvolume.
    pub root: PathBuf,
    /// Mount point, as seen from this process's root.
    pub mount_point: PathBuf,
    /// Options of this mount, separated by commas.
    pub options: String,
    /// Type of the file system.
    pub fstype: String,
    /// Source given to mount(2): for disks, a device path.
    pub source: PathBuf,
    /// Options of the file system, separated by commas.
    pub super_options: String,
}

/// Reads all mounts that this process sees, in the kernel's order: of two on one point, the later hides the
/// earlier.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn read() -> Result<Vec<MountInfo>, HostError> {
    let path = "/proc/self/mountinfo";
    let text = fs::read(path).map_err(|source| HostError::new(format!("reading {path}"), source))?;
    Ok(parse(&text))
}

/// Returns the topmost mount exactly at `mount_point` (an absolute, resolved path).
#[must_use]
pub fn find_at<'a>(mounts: &'a [MountInfo], mount_point: &Path) -> Option<&'a MountInfo> {
    mounts.iter().rev().find(|mount| mount.mount_point == mount_point)
}

/// Parses the file's content; lines that are not understood are left out.
#[must_use]
pub fn parse(text: &[u8]) -> Vec<MountInfo> {
    text.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<MountInfo> {
    let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    // Fields 7 and up are optional; a single hyphen ends them.
    let separator = fields.iter().skip(6).position(|field| *field == b"-")? + 6;
    let [_, _, device, root, mount_point, options, ..] = fields.as_slice() else {
        return None;
    };
    let [fstype, source, super_options, ..] = fields.get(separator + 1..)? else {
        return None;
    };
    let (major, minor) = std::str::from_utf8(device).ok()?.split_once(':')?;
    Some(MountInfo {
        device: (major.parse().ok()?, minor.parse().ok()?),
        root: unescape_path(root),
        mount_point: unescape_path(mount_point),
        options: String::from_utf8_lossy(options).into_owned(),
        fstype: String::from_utf8_lossy(fstype).into_owned(),
        source: unescape_path(source),
        super_options: String::from_utf8_lossy(super_options).into_owned(),
    })
}

fn unescape_path(field: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(field)))
}

/// Undoes the octal escapes (`\040` for a space) that the kernel and fstab(5) use in their fields.
#[must_use]
pub fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        match (byte, octal_byte(after)) {
            (b'\\', Some(value)) => {
                plain.push(value);
                rest = &after[3..];
            }
            _ => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    plain
}

fn octal_byte(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits.get(..3)?).ok()?;
    u8::from_str_radix(digits, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_optional_fields_and_escapes_is_understood() {
        let text = b"36 35 98:0 /mnt1 /mnt/my\\040disk rw,noatime master:1 shared:2 - ext3 /dev/ro\\134ot rw,errors=continue\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 1);
        assert_eq!(mounts[0].mount_point, Path::new("/mnt/my disk"));
        assert_eq!(mounts[0].source, Path::new("/dev/ro\\ot"));
        assert_eq!((mounts[0].device, mounts[0].fstype.as_str()), ((98, 0), "ext3"));
    }

    #[test]
    fn truncated_lines_are_left_out_at_every_byte() {
        let line = b"36 35 98:0 / /mnt rw - ext3 /dev/root rw";
        for end in 0..line.len() {
            let _ = parse(&line[..end]);
        }
    }

    #[test]
    fn our_own_root_is_found() {
        let mounts = read().unwrap();
        assert!(find_at(&mounts, Path::new("/")).is_some());
    }
}
