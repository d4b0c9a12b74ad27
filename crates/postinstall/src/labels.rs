//! SELinux labels of files that programs of the clone have made (selinux(8)).
//!
//! The node's kernel knows no policy of the clone's, so new files have no label. To an enforcing system such
//! a file is `unlabeled_t`, and sshd may not read its own key. [`Root`] labels each file that it makes; here the
//! files of other programs are labelled by the same rule. If a label cannot be set, the clone is told to label
//! everything at its first boot (`/.autorelabel`).

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::error::PostError;
use crate::files::{Files, Kind};
use crate::root::Root;

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
/// The most entries that are looked at in one go: more than any system has there.
const MAX_LOOKED_AT: usize = 200_000;
const RELABEL: &str = "/.autorelabel";

/// Sets the label of `path` to that of `model`, which is of the same kind.
pub fn label_like(root: &Root, path: &Path, model: &Path) {
    if let Some(found) = root.label(model)
        && let Err(error) = root.set_label(path, &found)
    {
        tracing::debug!(path = %path.display(), %error, "no label");
    }
}

/// Labels every file without a label in places in which programs of the clone have made files. Returns a line
/// about the result.
///
/// # Errors
/// Labels cannot be set, and the clone cannot be told to do it itself.
pub fn complete(root: &Root) -> Result<Option<String>, PostError> {
    if root.label(Path::new("/etc")).is_none() {
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
            if root.label(&path).is_none() {
                self.give(root, &path);
            }
            let is_dir = path.to_str().and_then(|path| root.kind(path)) == Some(Kind::Dir);
            if is_dir && depth > 1 && !is_kernels(&path) {
                self.search(root, &path, depth - 1);
            }
        }
    }

    fn give(&mut self, root: &Root, path: &Path) {
        let Some(found) = root.fitting_label(path) else {
            return;
        };
        match root.set_label(path, &found) {
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
            root.set_label(Path::new(path), ETC).unwrap();
        }
        root.set_label(Path::new("/etc/ssh/ssh_host_rsa_key"), KEY)
            .unwrap();
        (dir, root)
    }

    #[test]
    fn a_new_file_has_the_label_of_the_one_most_like_it() {
        let (_dir, root) = labelled();
        root.write(Path::new("/etc/ssh/ssh_host_ed25519_key"), b"x", 0o600)
            .unwrap();
        assert_eq!(
            root.label(Path::new("/etc/ssh/ssh_host_ed25519_key")).unwrap(),
            KEY
        );
        root.write(Path::new("/etc/new.d/deep/file"), b"x", 0o644)
            .unwrap();
        for path in ["/etc/new.d", "/etc/new.d/deep", "/etc/new.d/deep/file"] {
            assert_eq!(root.label(Path::new(path)).unwrap(), ETC, "{path}");
        }
        root.link("/etc/fstab", Path::new("/etc/link")).unwrap();
        assert_eq!(root.label(Path::new("/etc/link")).unwrap(), ETC);
    }

    #[test]
    fn what_programs_have_made_is_labelled_at_the_end() {
        let (dir, root) = labelled();
        std::fs::write(dir.path().join("boot/grub.cfg"), "x").unwrap();
        std::fs::create_dir_all(dir.path().join("var/log/ka")).unwrap();
        let said = complete(&root).unwrap().unwrap();
        assert!(said.contains("labelled"), "{said}");
        for path in ["/boot/grub.cfg", "/boot/initrd.img-6.1", "/var/log/ka"] {
            assert_eq!(root.label(Path::new(path)).unwrap(), ETC, "{path}");
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
        assert_eq!(root.label(Path::new("/etc/new")), None);
    }
}
