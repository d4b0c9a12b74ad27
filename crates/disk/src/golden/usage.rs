//! Space in use: of a file system, and of a tree.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use ka_host::HostError;

/// Unit of `st_blocks`, whatever the file system's block size is (stat(2)).
const STAT_BLOCK_BYTES: u64 = 512;
/// The most threads: each file costs a system call or a read of the disk, and more threads gain nothing.
const MAX_THREADS: usize = 4;
/// Directories to find before the threads share them.
const SHARED_OUT: usize = 64;

/// Space and inodes in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) bytes: u64,
    /// Inodes in use; 0 if the file system does not count them.
    pub(super) inodes: u64,
    /// Block size in bytes; 0 if it is not known.
    pub(super) block_bytes: u32,
}

/// Returns the counts of the file system at `path` itself.
pub(super) fn of_file_system(path: &Path) -> Result<Usage, HostError> {
    let stat = rustix::fs::statvfs(path)
        .map_err(|errno| HostError::new(format!("asking for the usage of {}", path.display()), errno))?;
    Ok(Usage {
        bytes: stat.f_blocks.saturating_sub(stat.f_bfree) * stat.f_frsize,
        inodes: stat.f_files.saturating_sub(stat.f_ffree),
        block_bytes: u32::try_from(stat.f_frsize).unwrap_or(0),
    })
}

/// Returns device and inode, which identify a directory.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    let meta = fs::symlink_metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

/// Measures a tree on its own file system, without the directories in `stops`. A file counts once, even if it
/// has other names inside or outside the tree. A file that cannot be read counts nothing: the sending of the
/// tree will report it.
pub(super) fn of_tree(path: &Path, stops: &HashSet<(u64, u64)>) -> Usage {
    let Ok(top) = fs::symlink_metadata(path) else {
        return Usage::default();
    };
    let tree = Tree {
        device: top.dev(),
        stops,
        linked: Mutex::default(),
    };
    let mut total = Counted::default();
    total.add(&top);
    let mut directories = vec![path.to_owned()];
    while directories.len() < SHARED_OUT
        && let Some(directory) = directories.pop()
    {
        let mut found = Vec::new();
        tree.list(&directory, &mut total, &mut found);
        // Directories found last are looked at last: the first ones are the widest.
        directories.splice(0..0, found);
    }
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MAX_THREADS);
    let work = || {
        let mut part = Counted::default();
        while let Some(directory) = directories.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut below = vec![directory.clone()];
            while let Some(directory) = below.pop() {
                tree.list(&directory, &mut part, &mut below);
            }
        }
        part
    };
    let parts: Vec<Counted> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        let others = others.into_iter().filter_map(|thread| thread.join().ok());
        std::iter::once(own).chain(others).collect()
    });
    for part in parts {
        total.bytes += part.bytes;
        total.inodes += part.inodes;
    }
    Usage {
        bytes: total.bytes,
        inodes: total.inodes,
        block_bytes: u32::try_from(top.blksize()).unwrap_or(0),
    }
}

#[derive(Default)]
struct Counted {
    bytes: u64,
    inodes: u64,
}

impl Counted {
    fn add(&mut self, meta: &Metadata) {
        self.bytes += meta.blocks() * STAT_BLOCK_BYTES;
        self.inodes += 1;
    }
}

struct Tree<'a> {
    device: u64,
    stops: &'a HashSet<(u64, u64)>,
    /// Inodes with several names that were counted.
    linked: Mutex<HashSet<u64>>,
}

impl Tree<'_> {
    /// Counts the entries of one directory, and adds its subdirectories to the list.
    fn list(&self, directory: &Path, total: &mut Counted, subdirectories: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(directory) else {
            return;
        };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.dev() != self.device || self.stops.contains(&(meta.dev(), meta.ino())) {
                continue;
            }
            if meta.is_dir() {
                subdirectories.push(entry.path());
            } else if meta.nlink() > 1 && !self.is_new(meta.ino()) {
                continue;
            }
            total.add(&meta);
        }
    }

    fn is_new(&self, inode: u64) -> bool {
        self.linked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_measured_with_its_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/file"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(dir.path().join("sub/file"), dir.path().join("again")).unwrap();
        let usage = of_tree(dir.path(), &HashSet::new());
        assert!((1 << 20..2 << 20).contains(&usage.bytes), "{usage:?}");
        assert_eq!(usage.inodes, 3);
    }

    #[test]
    fn other_names_outside_the_tree_take_nothing_off() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, other) = (dir.path().join("tree"), dir.path().join("other"));
        for each in [&tree, &other] {
            fs::create_dir(each).unwrap();
        }
        fs::write(tree.join("file"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(tree.join("file"), other.join("file")).unwrap();
        assert!(of_tree(&tree, &HashSet::new()).bytes >= 1 << 20);
    }

    #[test]
    fn a_wide_and_deep_tree_is_counted_whole_and_stops_are_not() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..150 {
            let deep = dir.path().join(format!("{number}/a/b"));
            fs::create_dir_all(&deep).unwrap();
            fs::write(deep.join("file"), "x").unwrap();
        }
        let whole = of_tree(dir.path(), &HashSet::new());
        assert_eq!(whole.inodes, 1 + 150 * 4);
        let stops = [identity(&dir.path().join("7")).unwrap()].into();
        assert_eq!(of_tree(dir.path(), &stops).inodes, whole.inodes - 4);
    }
}
