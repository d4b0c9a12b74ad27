//! Comparison of a golden tree with a clone, both mounted, without one line of the product's code.
//!
//! It compares every file's kind, mode, owner, group, size, time in nanoseconds, device number and link
//! target. It also compares extended attributes (so ACLs, capabilities and labels), `chattr` flags, hard
//! links and every byte of contents; holes must stay holes. It walks into mount points: the whole system is
//! one tree here.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::snapshot::{Facts, Kind};

/// Bytes that a clone's file may have allocated beyond the golden one's: other block sizes and extent tails.
const SPARSE_SLACK: u64 = 256 << 10;
/// Most differences that are kept, so that a clone without any right file does not fill the screen.
const MAX_DIFFERENCES: usize = 40;
/// Bytes compared at a time.
const CHUNK: usize = 1 << 18;

/// The differences that are allowed, as the caller states them.
#[derive(Debug, Clone, Default)]
pub struct Allowed {
    /// Directories (relative) whose contents stay at home; the directory itself is compared.
    pub emptied: Vec<PathBuf>,
    /// Directories (relative) left out with `-x`: the clone's must be empty.
    pub excluded: Vec<PathBuf>,
    /// Paths (relative) that may differ in contents, size, time and allocation: `etc/fstab`.
    pub rewritten: Vec<PathBuf>,
    /// Paths (relative) that are not compared at all.
    pub ignored: Vec<PathBuf>,
    /// True if the file systems differ, so that `chattr` flags that one of them lacks are not compared.
    pub other_filesystem: bool,
    /// True if times are compared in whole seconds, for copies made with plain tar.
    pub whole_seconds: bool,
}

impl Allowed {
    /// Returns the differences that every clone of a whole system may have.
    #[must_use]
    pub fn for_system() -> Self {
        let emptied = ["proc", "sys", "dev", "run"].map(PathBuf::from).to_vec();
        Self {
            emptied,
            rewritten: ["etc/fstab", "etc/hostname"].map(PathBuf::from).to_vec(),
            ignored: vec![PathBuf::from("var/log/ka")],
            ..Self::default()
        }
    }
}

/// The extent of a comparison, and its result.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Names compared.
    pub entries: u64,
    /// Regular files among them.
    pub files: u64,
    /// Bytes of contents compared.
    pub bytes: u64,
    /// Extended attributes compared.
    pub xattrs: u64,
    /// Names that share an inode with another.
    pub hard_links: u64,
    /// Files with holes.
    pub sparse: u64,
    /// Differences, one line each.
    pub differences: Vec<String>,
}

impl Comparison {
    /// Insists that the trees are the same.
    ///
    /// # Errors
    /// They are not; the differences follow.
    pub fn expect_same(&self) -> Result<&Self> {
        if !self.differences.is_empty() {
            bail!(
                "the clone differs from the golden tree:\n  {}",
                self.differences.join("\n  ")
            );
        }
        Ok(self)
    }

    fn note(&mut self, path: &Path, what: impl AsRef<str>) {
        if self.differences.len() < MAX_DIFFERENCES {
            self.differences.push(format!("{path:?}: {}", what.as_ref()));
        }
    }
}

impl std::fmt::Display for Comparison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} names, {} files, {:.1} MiB of contents with holes, {} extended attributes, {} hard-linked names, {} sparse files",
            self.entries,
            self.files,
            self.bytes as f64 / f64::from(1 << 20),
            self.xattrs,
            self.hard_links,
            self.sparse
        )
    }
}

/// Compares two trees.
///
/// # Errors
/// One of them cannot be read. Differences are no error: see [`Comparison::expect_same`].
pub fn trees(golden: &Path, clone: &Path, allowed: &Allowed) -> Result<Comparison> {
    let mut walk = Walk {
        allowed,
        found: Comparison::default(),
        inodes: HashMap::new(),
    };
    walk.entry(Path::new(""), golden, clone)?;
    Ok(walk.found)
}

struct Walk<'a> {
    allowed: &'a Allowed,
    found: Comparison,
    /// Golden inode → the clone's inode and the first name: later names must lead to the same.
    inodes: HashMap<(u64, u64), ((u64, u64), PathBuf)>,
}

impl Walk<'_> {
    /// Compares one entry. `path` is its name for messages; `golden` and `clone` are the paths that reach it.
    fn entry(&mut self, path: &Path, golden: &Path, clone: &Path) -> Result<()> {
        if self.allowed.ignored.iter().any(|ignored| ignored == path) {
            return Ok(());
        }
        let was = Facts::read(golden).with_context(|| format!("golden {path:?}"))?;
        let is = Facts::read(clone).with_context(|| format!("cloned {path:?}"))?;
        self.found.entries += 1;
        self.found.xattrs += was.xattrs.len() as u64;
        let rewritten = self.allowed.rewritten.iter().any(|rewritten| rewritten == path);
        self.attributes(path, &was, &is, rewritten);
        self.hard_link(path, &was, &is);
        match was.kind {
            _ if was.kind != is.kind => {}
            Kind::Directory => self
                .directory(path, golden, clone)
                .with_context(|| format!("in {path:?}"))?,
            Kind::File if !rewritten => {
                self.sizes(path, &was, &is);
                if was.size == is.size
                    && let Some(offset) = first_difference(golden, clone, was.size)?
                {
                    self.found
                        .note(path, format!("contents differ near byte {offset}"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn attributes(&mut self, path: &Path, golden: &Facts, clone: &Facts, rewritten: bool) {
        let mut pairs = vec![
            ("kind", format!("{:?}", golden.kind), format!("{:?}", clone.kind)),
            ("mode", format!("{:o}", golden.mode), format!("{:o}", clone.mode)),
            ("owner", golden.uid.to_string(), clone.uid.to_string()),
            ("group", golden.gid.to_string(), clone.gid.to_string()),
            ("device", golden.rdev.to_string(), clone.rdev.to_string()),
            ("names", golden.links.to_string(), clone.links.to_string()),
            (
                "target",
                format!("{:?}", golden.target),
                format!("{:?}", clone.target),
            ),
        ];
        if !rewritten {
            pairs.push(("size", golden.size.to_string(), clone.size.to_string()));
            pairs.push(("time", self.time(golden), self.time(clone)));
        }
        if !self.allowed.other_filesystem {
            pairs.push((
                "flags",
                format!("{:x}", golden.flags),
                format!("{:x}", clone.flags),
            ));
        }
        for (what, golden, clone) in pairs {
            if golden != clone {
                self.found
                    .note(path, format!("{what} {clone} instead of {golden}"));
            }
        }
        for name in golden.xattrs.keys().chain(clone.xattrs.keys()) {
            let (was, is) = (golden.xattrs.get(name), clone.xattrs.get(name));
            if was != is {
                let name = String::from_utf8_lossy(name);
                self.found
                    .note(path, format!("attribute {name} {is:?} instead of {was:?}"));
            }
        }
    }

    fn time(&self, facts: &Facts) -> String {
        let (seconds, nanos) = facts.mtime;
        if self.allowed.whole_seconds {
            seconds.to_string()
        } else {
            format!("{seconds}.{nanos:09}")
        }
    }

    fn hard_link(&mut self, path: &Path, golden: &Facts, clone: &Facts) {
        if golden.links < 2 {
            return;
        }
        self.found.hard_links += 1;
        let known = self
            .inodes
            .entry(golden.identity)
            .or_insert_with(|| (clone.identity, path.to_owned()));
        if known.0 != clone.identity {
            let other = known.1.clone();
            self.found
                .note(path, format!("is not the same file as {other:?} any more"));
        }
    }

    fn directory(&mut self, path: &Path, golden: &Path, clone: &Path) -> Result<()> {
        // Children are reached through the open directory: a path may be longer than the kernel's 4096 bytes.
        let (golden_dir, clone_dir) = (File::open(golden)?, File::open(clone)?);
        let (mut was, mut is) = (names(&golden_dir)?, names(&clone_dir)?);
        let excluded = self.allowed.excluded.iter().any(|excluded| excluded == path);
        if excluded || self.allowed.emptied.iter().any(|emptied| emptied == path) {
            // Mount points beneath /dev and the like are made again; anything else must stay at home.
            is.retain(|_, kind| excluded || *kind != Kind::Directory);
            for name in is.keys() {
                self.found
                    .note(&path.join(as_path(name)), "should have stayed at home");
            }
            return Ok(());
        }
        // mke2fs(8) makes one in every file system's root, other file systems have none.
        was.remove(b"lost+found".as_slice());
        is.remove(b"lost+found".as_slice());
        for name in is.keys().filter(|name| !was.contains_key(*name)) {
            let extra = path.join(as_path(name));
            if !self.allowed.ignored.contains(&extra) {
                self.found.note(&extra, "is on the clone only");
            }
        }
        for name in was.keys() {
            let child = path.join(as_path(name));
            if is.contains_key(name) {
                self.entry(
                    &child,
                    &through(&golden_dir).join(as_path(name)),
                    &through(&clone_dir).join(as_path(name)),
                )?;
            } else if !self.allowed.ignored.contains(&child) {
                self.found.note(&child, "is missing on the clone");
            }
        }
        Ok(())
    }

    fn sizes(&mut self, path: &Path, golden: &Facts, clone: &Facts) {
        self.found.files += 1;
        self.found.bytes += golden.size;
        if golden.allocated < golden.size {
            self.found.sparse += 1;
            if clone.allocated > golden.allocated + SPARSE_SLACK {
                let (is, was) = (clone.allocated, golden.allocated);
                self.found.note(
                    path,
                    format!("takes {is} bytes on disk instead of {was}: holes were filled"),
                );
            }
        }
    }
}

/// Returns a short path to an open directory, even if the directory's own path is too long.
fn through(dir: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()))
}

/// Returns the offset of the chunk in which the files differ. It skips common holes of large sparse files.
fn first_difference(golden: &Path, clone: &Path, size: u64) -> Result<Option<u64>> {
    let open = |path: &Path| File::open(path).with_context(|| format!("opening {}", path.display()));
    let (mut one, mut other) = (open(golden)?, open(clone)?);
    let mut offset = 0;
    while offset < size {
        let data = [next_data(&one, offset, size)?, next_data(&other, offset, size)?]
            .into_iter()
            .min()
            .unwrap_or(size);
        if data >= size {
            break;
        }
        std::io::Seek::seek(&mut one, std::io::SeekFrom::Start(data))?;
        std::io::Seek::seek(&mut other, std::io::SeekFrom::Start(data))?;
        let (was, is) = (read_chunk(&mut one)?, read_chunk(&mut other)?);
        if was != is {
            return Ok(Some(data));
        }
        if was.is_empty() {
            break;
        }
        offset = data + was.len() as u64;
    }
    Ok(None)
}

fn next_data(file: &File, offset: u64, size: u64) -> Result<u64> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(offset)) {
        Ok(found) => Ok(found),
        Err(rustix::io::Errno::NXIO) => Ok(size),
        Err(err) => Err(err.into()),
    }
}

fn read_chunk(file: &mut File) -> Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(CHUNK);
    file.take(CHUNK as u64).read_to_end(&mut chunk)?;
    Ok(chunk)
}

fn names(dir: &File) -> Result<BTreeMap<Vec<u8>, Kind>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(through(dir))? {
        let entry = entry?;
        let kind = if entry.file_type()?.is_dir() {
            Kind::Directory
        } else {
            Kind::File
        };
        found.insert(entry.file_name().as_bytes().to_vec(), kind);
    }
    Ok(found)
}

fn as_path(name: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::set_mtime;
    use std::os::unix::fs::PermissionsExt as _;

    fn two() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (golden, clone) = (dir.path().join("g"), dir.path().join("c"));
        for root in [&golden, &clone] {
            fs::create_dir(root).unwrap();
            fs::write(root.join("a"), "text").unwrap();
            fs::hard_link(root.join("a"), root.join("b")).unwrap();
            set_mtime(&root.join("a"), 5, 6).unwrap();
            set_mtime(root, 1, 2).unwrap();
        }
        (dir, golden, clone)
    }

    fn only_difference(golden: &Path, clone: &Path) -> String {
        let found = trees(golden, clone, &Allowed::default()).unwrap();
        assert_eq!(found.differences.len(), 1, "{:?}", found.differences);
        found.differences[0].clone()
    }

    #[test]
    fn equal_trees_are_equal() {
        let (_dir, golden, clone) = two();
        let found = trees(&golden, &clone, &Allowed::default()).unwrap();
        found.expect_same().unwrap();
        assert_eq!(
            (found.entries, found.files, found.bytes, found.hard_links),
            (3, 2, 8, 2)
        );
    }

    #[test]
    fn one_changed_byte_one_nanosecond_and_one_mode_bit_are_seen() {
        let (_dir, golden, clone) = two();
        set_mtime(&clone, 1, 3).unwrap();
        assert!(only_difference(&golden, &clone).contains("time"));
        set_mtime(&clone, 1, 2).unwrap();
        fs::set_permissions(&clone, fs::Permissions::from_mode(0o701)).unwrap();
        fs::set_permissions(&golden, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(only_difference(&golden, &clone).contains("mode 701 instead of 700"));
        fs::set_permissions(&clone, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(clone.join("a"), "tExt").unwrap();
        set_mtime(&clone.join("a"), 5, 6).unwrap();
        let found = trees(&golden, &clone, &Allowed::default()).unwrap();
        assert!(
            found
                .differences
                .iter()
                .all(|line| line.contains("contents differ")),
            "{found:?}"
        );
    }

    #[test]
    fn a_broken_hard_link_is_seen() {
        let (_dir, golden, clone) = two();
        fs::remove_file(clone.join("b")).unwrap();
        fs::write(clone.join("b"), "text").unwrap();
        set_mtime(&clone.join("b"), 5, 6).unwrap();
        set_mtime(&clone, 1, 2).unwrap();
        let found = trees(&golden, &clone, &Allowed::default()).unwrap();
        assert!(
            found
                .differences
                .iter()
                .any(|line| line.contains("not the same file")),
            "{found:?}"
        );
    }
}
