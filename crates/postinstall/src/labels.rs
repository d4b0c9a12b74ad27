//! SELinux labels of files that are new in a clone (selinux(8)).
//!
//! The node's kernel knows no policy of the clone's, so what is made there has no label: to an enforcing system such a file is
//! `unlabeled_t`, and sshd may not read its own key. A new file gets the label of the one that it replaces, else of the file
//! beside it that is most like it, else of its directory. Where a label cannot be set, the clone is told to label everything at
//! its first boot (`/.autorelabel`).

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, XattrFlags, lgetxattr, lsetxattr};
use rustix::io::Errno;

use crate::files::{Files, Kind};
use crate::plan::PostError;
use crate::root::Root;

const NAME: &str = "security.selinux";
/// The kernel's bound on a value is 64 KiB; a label with many categories has some hundred bytes.
const MAX_LABEL: usize = 4096;
/// Whole directories in which tools of the clone make files, and how deep.
const SEARCHED: [(&str, usize); 10] = [
    ("/etc", 16),
    ("/boot", 16),
    ("/efi", 16),
    ("/usr/lib/modules", 2),
    ("/lib/modules", 2),
    ("/var/lib/ka", 4),
    ("/var/log", 3),
    ("/var/lib/systemd", 3),
    ("/var/lib", 1),
    ("/", 2),
];
/// What is looked at in one go: more than any system has there.
const MAX_LOOKED_AT: usize = 200_000;
/// Names that begin alike are of one kind: `ssh_`, `initrd`, `vmlinuz`.
const MIN_IN_COMMON: usize = 3;
const RELABEL: &str = "/.autorelabel";

/// Gives `path`, which is new, the label of what is beside it. Where there are no labels nothing happens.
pub(crate) fn label_new(root: &Root, path: &Path) {
    if label(root, path).is_none()
        && let Some(found) = neighbours(root, path)
        && let Err(error) = set_label(root, path, &found)
    {
        tracing::debug!(path = %path.display(), %error, "no label");
    }
}

/// Gives `path` the label of `model`, which is of the same kind.
pub fn label_like(root: &Root, path: &Path, model: &Path) {
    if let Some(found) = label(root, model)
        && let Err(error) = set_label(root, path, &found)
    {
        tracing::debug!(path = %path.display(), %error, "no label");
    }
}

/// Gives every file without a label one where programs of the clone have made files. Says what it did.
///
/// # Errors
/// Labels cannot be set, and neither can the clone be told to do it itself.
pub fn complete(root: &Root) -> Result<Option<String>, PostError> {
    if label(root, Path::new("/etc")).is_none() {
        return Ok(None);
    }
    let mut work = Work::default();
    for (dir, depth) in SEARCHED {
        if root.kind(dir) == Some(Kind::Dir) {
            work.search(root, Path::new(dir), depth);
        }
    }
    if work.refused.is_empty() {
        return Ok(
            (work.given > 0).then(|| format!("{} new files labelled like their neighbours", work.given))
        );
    }
    root.write(Path::new(RELABEL), b"", 0o644)
        .map_err(PostError::file("writing", RELABEL))?;
    Ok(Some(format!(
        "{} has no SELinux label: {RELABEL} is left, and the first boot labels all files, which takes longer",
        work.refused[0].display()
    )))
}

/// The label of the name itself, behind no link.
pub(crate) fn label(root: &Root, path: &Path) -> Option<Vec<u8>> {
    let mut value = vec![0; MAX_LABEL];
    let len = by_descriptor(root, path, |name| Ok(lgetxattr(name, NAME, &mut value[..])?)).ok()?;
    value.truncate(len);
    Some(value).filter(|value| !value.is_empty())
}

/// Sets the label of the name itself.
pub(crate) fn set_label(root: &Root, path: &Path, label: &[u8]) -> io::Result<()> {
    by_descriptor(root, path, |name| {
        Ok(lsetxattr(name, NAME, label, XattrFlags::empty())?)
    })
}

/// The l*xattr calls know no directory descriptor before Linux 6.13; proc(5) has names for descriptors.
fn by_descriptor<T>(root: &Root, path: &Path, call: impl FnOnce(&CString) -> io::Result<T>) -> io::Result<T> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let dir = root.open_file(parent, OFlags::PATH | OFlags::DIRECTORY)?;
    let name = path.file_name().unwrap_or(OsStr::new("."));
    let mut text = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    text.extend_from_slice(name.as_bytes());
    call(&CString::new(text)?)
}

/// The label that fits `path`: of the neighbour of the same kind whose name begins most like it; else the directory's.
fn neighbours(root: &Root, path: &Path) -> Option<Vec<u8>> {
    let parent = path.parent()?;
    let name = path.file_name()?.to_str()?;
    let dir = parent.to_str()?;
    let kind = root.kind(path.to_str()?)?;
    let mut names = root.names(dir);
    // Less in common says nothing of what it is for.
    names.retain(|other| other != name && in_common(other, name) >= MIN_IN_COMMON);
    // The longest beginning in common first.
    names.sort_by_key(|other| std::cmp::Reverse(in_common(other, name)));
    let beside = names.iter().find_map(|other| {
        let other = parent.join(other);
        let is_like = root.kind(other.to_str()?) == Some(kind);
        is_like.then(|| label(root, &other)).flatten()
    });
    beside.or_else(|| label(root, parent))
}

fn in_common(one: &str, other: &str) -> usize {
    one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count()
}

#[derive(Default)]
struct Work {
    looked_at: usize,
    given: usize,
    refused: Vec<PathBuf>,
}

impl Work {
    fn search(&mut self, root: &Root, dir: &Path, depth: usize) {
        let Some(text) = dir.to_str() else { return };
        for name in root.names(text) {
            self.looked_at += 1;
            if self.looked_at > MAX_LOOKED_AT {
                return;
            }
            let path = dir.join(name);
            if label(root, &path).is_none() {
                self.give(root, &path);
            }
            let is_dir = path.to_str().and_then(|path| root.kind(path)) == Some(Kind::Dir);
            if is_dir && depth > 1 && !is_kernels(&path) {
                self.search(root, &path, depth - 1);
            }
        }
    }

    fn give(&mut self, root: &Root, path: &Path) {
        let Some(found) = neighbours(root, path) else {
            return;
        };
        match set_label(root, path, &found) {
            Ok(()) => self.given += 1,
            // FAT has none; a file that was there and is gone needs none.
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::OPNOTSUPP | Errno::NOENT | Errno::ROFS) => {}
                _ => self.refused.push(path.to_owned()),
            },
        }
    }
}

/// File systems of the kernel's that may be mounted for the clone's programs.
fn is_kernels(path: &Path) -> bool {
    ["/proc", "/sys", "/dev", "/run"]
        .iter()
        .any(|kernels| path.starts_with(kernels))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"system_u:object_r:sshd_key_t:s0\0";
    const ETC: &[u8] = b"system_u:object_r:etc_t:s0\0";

    fn labelled() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        for made in ["etc/ssh", "boot", "var/log", "data"] {
            std::fs::create_dir_all(dir.path().join(made)).unwrap();
        }
        for file in [
            "etc/fstab",
            "etc/ssh/sshd_config",
            "etc/ssh/ssh_host_rsa_key",
            "boot/initrd.img-6.1",
        ] {
            std::fs::write(dir.path().join(file), "x").unwrap();
        }
        let root = Root::open(dir.path()).unwrap();
        for path in [
            "/",
            "/etc",
            "/etc/ssh",
            "/boot",
            "/var",
            "/var/log",
            "/data",
            "/etc/fstab",
            "/etc/ssh/sshd_config",
        ] {
            set_label(&root, Path::new(path), ETC).unwrap();
        }
        set_label(&root, Path::new("/etc/ssh/ssh_host_rsa_key"), KEY).unwrap();
        (dir, root)
    }

    #[test]
    fn a_new_file_has_the_label_of_the_one_most_like_it() {
        let (_dir, root) = labelled();
        root.write(Path::new("/etc/ssh/ssh_host_ed25519_key"), b"x", 0o600)
            .unwrap();
        assert_eq!(
            label(&root, Path::new("/etc/ssh/ssh_host_ed25519_key")).unwrap(),
            KEY
        );
        root.write(Path::new("/etc/new.d/deep/file"), b"x", 0o644)
            .unwrap();
        for path in ["/etc/new.d", "/etc/new.d/deep", "/etc/new.d/deep/file"] {
            assert_eq!(label(&root, Path::new(path)).unwrap(), ETC, "{path}");
        }
        root.link("/etc/fstab", Path::new("/etc/link")).unwrap();
        assert_eq!(label(&root, Path::new("/etc/link")).unwrap(), ETC);
    }

    #[test]
    fn what_programs_have_made_is_labelled_at_the_end() {
        let (dir, root) = labelled();
        std::fs::write(dir.path().join("boot/grub.cfg"), "x").unwrap();
        std::fs::create_dir_all(dir.path().join("var/log/ka")).unwrap();
        let said = complete(&root).unwrap().unwrap();
        assert!(said.contains("labelled"), "{said}");
        for path in ["/boot/grub.cfg", "/boot/initrd.img-6.1", "/var/log/ka"] {
            assert_eq!(label(&root, Path::new(path)).unwrap(), ETC, "{path}");
        }
        assert_eq!(complete(&root).unwrap(), None, "nothing is left");
        assert!(!dir.path().join(".autorelabel").exists());
    }

    #[test]
    fn a_tree_without_labels_stays_without() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        root.write(Path::new("/etc/new"), b"x", 0o644).unwrap();
        assert_eq!(complete(&root).unwrap(), None);
        assert_eq!(label(&root, Path::new("/etc/new")), None);
    }
}
