//! Directories of the golden tree as the walk knows them, and lists of names within one.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::FileType;

use crate::hashing;

/// A directory under way. Names, not a path: a path may be longer than `PATH_MAX`.
#[derive(Debug)]
pub(super) struct Dir {
    pub(super) id: u64,
    pub(super) hash: [u8; 32],
    parent: Option<Arc<Self>>,
    name: Box<[u8]>,
    /// The index of the source to which it belongs.
    pub(super) source: usize,
    /// Its device number, to notice files that are mounted over.
    pub(super) device: u64,
    /// The source's root; only on the root itself.
    root: PathBuf,
}

impl Dir {
    /// Returns the root of a source.
    pub(super) fn root(id: u64, device: u64, source: usize, mount_id: u32, root: PathBuf) -> Arc<Self> {
        let hash = hashing::root_hash(mount_id);
        Arc::new(Self {
            id,
            hash,
            parent: None,
            name: Box::default(),
            source,
            device,
            root,
        })
    }

    /// Returns the directory `name` in `parent`.
    pub(super) fn child(parent: &Arc<Self>, id: u64, device: u64, name: &[u8]) -> Arc<Self> {
        let hash = hashing::dir_hash(&parent.hash, name);
        Arc::new(Self {
            id,
            hash,
            parent: Some(Arc::clone(parent)),
            name: name.into(),
            source: parent.source,
            device,
            root: PathBuf::new(),
        })
    }

    pub(super) fn parent_id(&self) -> u64 {
        self.parent.as_ref().map_or(0, |parent| parent.id)
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Returns the whole path, for messages.
    pub(super) fn path(&self) -> PathBuf {
        let mut names = Vec::new();
        let mut dir = self;
        while let Some(parent) = &dir.parent {
            names.push(OsStr::from_bytes(&dir.name));
            dir = parent;
        }
        let mut path = dir.root.clone();
        path.extend(names.iter().rev());
        path
    }

    /// Returns the path of an entry, for messages.
    pub(super) fn path_of(&self, name: &[u8]) -> PathBuf {
        self.path().join(OsStr::from_bytes(name))
    }
}

impl Drop for Dir {
    /// One by one: a chain of many thousand would overflow the stack.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(mut dir) = next.and_then(Arc::into_inner) {
            next = dir.parent.take();
        }
    }
}

/// Names within a directory with their types, in one allocation.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Each with its NUL.
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    inode: u64,
    start: u32,
    kind: FileType,
}

impl Names {
    pub(super) fn push(&mut self, name: &CStr, inode: u64, kind: FileType) {
        let start = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(name.to_bytes_with_nul());
        self.entries.push(Entry { inode, start, kind });
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Inode order is disk order, nearly: on rotating disks and cold caches that is worth seconds.
    pub(super) fn sort(&mut self) {
        self.entries.sort_unstable_by_key(|entry| entry.inode);
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    /// Returns the name and type at `index`.
    pub(super) fn at(&self, index: usize) -> Option<(&CStr, FileType)> {
        self.entries.get(index).map(|entry| self.resolve(*entry))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&CStr, FileType)> {
        self.entries.iter().map(|entry| self.resolve(*entry))
    }

    /// Returns a copy of a part.
    pub(super) fn part(&self, from: usize, to: usize) -> Self {
        let mut part = Self::default();
        for entry in &self.entries[from..to] {
            let (name, kind) = self.resolve(*entry);
            part.push(name, entry.inode, kind);
        }
        part
    }

    fn resolve(&self, entry: Entry) -> (&CStr, FileType) {
        let bytes = self.bytes.get(entry.start as usize..).unwrap_or(&[0]);
        (CStr::from_bytes_until_nul(bytes).unwrap_or(c""), entry.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_put_together_for_messages_only() {
        let root = Dir::root(1, 0, 0, 0, "/mnt/golden".into());
        let var = Dir::child(&root, 2, 0, b"var");
        assert_eq!(
            Dir::child(&var, 3, 0, b"\xff").path_of(b"x"),
            root.path().join(OsStr::from_bytes(b"var/\xff/x"))
        );
    }

    #[test]
    fn a_very_deep_chain_is_dropped_without_recursion() {
        let mut dir = Dir::root(0, 0, 0, 0, "/".into());
        for id in 1..200_000 {
            dir = Dir::child(&dir, id, 0, b"d");
        }
    }

    #[test]
    fn names_come_in_inode_order_and_in_parts() {
        let mut names = Names::default();
        for (name, inode) in [(c"c", 3), (c"a", 1), (c"b", 2)] {
            names.push(name, inode, FileType::RegularFile);
        }
        names.sort();
        assert_eq!(
            names.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            [c"a", c"b", c"c"]
        );
        assert_eq!(names.part(1, 3).at(1).unwrap().0, c"c");
    }
}
