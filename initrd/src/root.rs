//! The golden root. Paths are followed as the golden node's kernel follows them, and never lead out of the
//! root.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use crate::InitrdError;

/// Largest number of links in one path: the kernel's own limit (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;
/// Largest file that is read from a golden node, in bytes. The image is held in memory.
const MAX_FILE_BYTES: u64 = 512 << 20;

/// A directory that is the `/` of a system.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    dir: PathBuf,
}

impl Root {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The directory itself.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Resolves a path in the root (absolute or not) with all links followed. The result is relative to the
    /// root; `None` if the path does not exist.
    pub(crate) fn resolve(&self, path: impl AsRef<Path>) -> Option<PathBuf> {
        let mut done = PathBuf::new();
        let mut rest = reversed(path.as_ref());
        let mut links = 0;
        while let Some(part) = rest.pop() {
            if part == ".." {
                done.pop();
                continue;
            }
            let next = done.join(&part);
            let meta = fs::symlink_metadata(self.dir.join(&next)).ok()?;
            if !meta.file_type().is_symlink() {
                done = next;
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return None;
            }
            let target = fs::read_link(self.dir.join(&next)).ok()?;
            if target.is_absolute() {
                done = PathBuf::new();
            }
            rest.extend(reversed(&target));
        }
        Some(done)
    }

    /// Path on the host of a resolved path.
    pub(crate) fn host(&self, resolved: &Path) -> PathBuf {
        self.dir.join(resolved)
    }

    /// Path on the host of a path in the root, if it exists.
    pub(crate) fn find(&self, path: impl AsRef<Path>) -> Option<PathBuf> {
        self.resolve(path).map(|resolved| self.host(&resolved))
    }

    /// Sorted names in a directory of the root. Empty if there is no such directory.
    pub(crate) fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let Some(dir) = self.find(path) else {
            return Vec::new();
        };
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Content of a small text file in the root. `None` if it does not exist or cannot be read.
    pub(crate) fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let bytes = read(&self.find(path)?).ok()?;
        String::from_utf8(bytes).ok()
    }
}

/// Reads a whole file of at most [`MAX_FILE_BYTES`].
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, InitrdError> {
    let failed = |source| InitrdError::read(path, source);
    let file = fs::File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(failed(io::Error::other("not a regular file")));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(InitrdError::damaged(
            path,
            format!("larger than {MAX_FILE_BYTES} bytes"),
        ));
    }
    Ok(bytes)
}

/// Parts of a path, last first, without `.` and the root.
fn reversed(path: &Path) -> Vec<std::ffi::OsString> {
    let parts = path.components().rev();
    parts
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_inside_the_root_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("usr/lib")).unwrap();
        fs::write(dir.path().join("usr/lib/real.so.1"), "x").unwrap();
        symlink("usr/lib", dir.path().join("lib")).unwrap();
        symlink("real.so.1", dir.path().join("usr/lib/real.so")).unwrap();
        symlink("/lib/real.so", dir.path().join("absolute")).unwrap();
        symlink("../../../../../etc/passwd", dir.path().join("out")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        let root = Root::new(dir.path());
        for path in ["/lib/real.so", "absolute", "./usr/../lib//real.so"] {
            assert_eq!(
                root.resolve(path),
                Some(PathBuf::from("usr/lib/real.so.1")),
                "{path}"
            );
        }
        // /etc/passwd exists on the host, but not in the root.
        assert_eq!(root.resolve("out"), None);
        assert_eq!(root.resolve("loop"), None);
        assert_eq!(root.names("lib"), ["real.so", "real.so.1"]);
        assert_eq!(root.text("absolute").as_deref(), Some("x"));
    }
}
