//! Content of an image in memory: paths in order, then an archive.
//!
//! Both images are usr-merged, whatever the golden root is: `/bin`, `/sbin`, `/lib`, `/lib64` are links into
//! `/usr`, and each file is stored under its real name there. So stage2 can be unpacked over stage1: no
//! directory meets a link, and no path goes through one.

use std::collections::BTreeMap;
use std::path::Path;

use ka_cpio::{Kind, Writer};

use crate::InitrdError;

/// Names in the root that are links into `/usr`.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

#[derive(Debug, PartialEq, Eq)]
enum Node {
    Directory(u32),
    File(u32, Vec<u8>),
    Symlink(String),
    CharDevice(u32, (u32, u32)),
}

/// Tree of files in memory.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Tree {
    /// Creates a tree that has only the links into `/usr`.
    pub(crate) fn new() -> Self {
        let mut nodes = BTreeMap::new();
        nodes.insert("usr".to_owned(), Node::Directory(0o755));
        for name in MERGED {
            nodes.insert(name.to_owned(), Node::Symlink(format!("usr/{name}")));
            nodes.insert(format!("usr/{name}"), Node::Directory(0o755));
        }
        Self { nodes }
    }

    /// Path in the image of a path in the golden root.
    pub(crate) fn place(path: &Path) -> String {
        let path = path.to_string_lossy();
        let path = path.trim_start_matches('/');
        let first = path.split('/').next().unwrap_or(path);
        if MERGED.contains(&first) {
            format!("usr/{path}")
        } else {
            path.to_owned()
        }
    }

    /// Adds a directory and its parents.
    pub(crate) fn directory(&mut self, name: &str, permissions: u32) -> Result<(), InitrdError> {
        self.add(name, Node::Directory(permissions))
    }

    /// Adds a file and its parents.
    pub(crate) fn file(&mut self, name: &str, permissions: u32, data: Vec<u8>) -> Result<(), InitrdError> {
        self.add(name, Node::File(permissions, data))
    }

    /// Adds a symbolic link and its parents.
    pub(crate) fn symlink(&mut self, name: &str, target: &str) -> Result<(), InitrdError> {
        self.add(name, Node::Symlink(target.to_owned()))
    }

    /// Adds a character device and its parents.
    pub(crate) fn char_device(
        &mut self,
        name: &str,
        permissions: u32,
        number: (u32, u32),
    ) -> Result<(), InitrdError> {
        self.add(name, Node::CharDevice(permissions, number))
    }

    /// True if the tree has this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.nodes.contains_key(name)
    }

    /// Total size of all files, in bytes: the memory that the image takes on a node, apart from rounding to
    /// pages.
    pub(crate) fn bytes(&self) -> u64 {
        let sizes = self.nodes.values().map(|node| match node {
            Node::File(_, data) => data.len() as u64,
            _ => 0,
        });
        sizes.sum()
    }

    /// Returns the archive, in the order of the names, so that parents come before their content.
    pub(crate) fn archive(&self) -> Result<Vec<u8>, InitrdError> {
        let mut writer = Writer::new(Vec::new());
        for (name, node) in &self.nodes {
            match node {
                Node::Directory(permissions) => writer.directory(name, *permissions)?,
                Node::File(permissions, data) => writer.file(name, *permissions, data)?,
                Node::Symlink(target) => writer.symlink(name, target)?,
                Node::CharDevice(permissions, number) => {
                    writer.device(name, Kind::CharDevice, *permissions, *number)?;
                }
            }
        }
        Ok(writer.finish()?)
    }

    fn add(&mut self, name: &str, node: Node) -> Result<(), InitrdError> {
        let clash = || InitrdError::Clash {
            name: name.to_owned(),
        };
        let mut parent = name;
        while let Some((above, _)) = parent.rsplit_once('/') {
            parent = above;
            let is_directory = |node: &Node| matches!(node, Node::Directory(_));
            if !is_directory(
                self.nodes
                    .entry(parent.to_owned())
                    .or_insert(Node::Directory(0o755)),
            ) {
                return Err(clash());
            }
        }
        match self.nodes.insert(name.to_owned(), node) {
            Some(old) if old != self.nodes[name] => Err(clash()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first_whatever_sorts_between() {
        let mut tree = Tree::new();
        tree.file("usr/lib/a/x", 0o644, b"1".to_vec()).unwrap();
        tree.file("usr/lib/a-b", 0o644, b"2".to_vec()).unwrap();
        let archive = tree.archive().unwrap();
        let mut reader = ka_cpio::Reader::new(&archive[..]);
        let mut seen = std::collections::HashSet::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            let name = String::from_utf8(entry.name).unwrap();
            if let Some((parent, _)) = name.rsplit_once('/') {
                assert!(seen.contains(parent), "{name} before {parent}");
            }
            seen.insert(name);
        }
        assert!(seen.contains("usr/lib/a/x") && seen.contains("lib"));
    }

    #[test]
    fn two_things_at_one_place_are_an_error_and_twice_the_same_is_not() {
        let mut tree = Tree::new();
        tree.file("a/b", 0o644, b"1".to_vec()).unwrap();
        tree.file("a/b", 0o644, b"1".to_vec()).unwrap();
        assert!(tree.file("a/b/c", 0o644, Vec::new()).is_err());
        assert!(tree.symlink("a/b", "c").is_err());
        // No path goes through a link.
        assert!(tree.file("lib/x", 0o644, Vec::new()).is_err());
    }

    #[test]
    fn split_and_merged_roots_give_the_same_places() {
        assert_eq!(Tree::place(Path::new("/lib/x/libc.so.6")), "usr/lib/x/libc.so.6");
        assert_eq!(
            Tree::place(Path::new("usr/lib/x/libc.so.6")),
            "usr/lib/x/libc.so.6"
        );
        assert_eq!(Tree::place(Path::new("/library/x")), "library/x");
        assert_eq!(Tree::place(Path::new("/etc/mke2fs.conf")), "etc/mke2fs.conf");
    }
}
