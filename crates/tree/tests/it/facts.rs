//! The facts of a tree, one line an entry, read with `std` and plain system calls.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Immutable, append only, no dump, no atime: what every file system here knows.
pub(crate) const COMMON_FLAGS: u32 = 0xf0;

/// Fails with every entry that differs. Of the flags (`FS_IOC_GETFLAGS`) these are compared, which both file
/// systems must know.
pub(crate) fn assert_same(from: &Path, to: &Path, flags: u32) {
    let (golden, clone) = (facts(from, flags), facts(to, flags));
    let mut different = Vec::new();
    for (path, facts) in &golden {
        match clone.get(path) {
            Some(other) if other == facts => {}
            other => different.push(format!(
                "{}\n  golden {facts}\n  clone  {other:?}",
                path.display()
            )),
        }
    }
    different.extend(
        clone
            .keys()
            .filter(|path| !golden.contains_key(*path))
            .map(|path| format!("more: {path:?}")),
    );
    assert!(
        different.is_empty(),
        "{} differ:\n{}",
        different.len(),
        different.join("\n")
    );
}

fn facts(root: &Path, flags: u32) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut first_names = HashMap::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(path) = todo.pop() {
        let meta = path.symlink_metadata().unwrap();
        let below = path.strip_prefix(root).unwrap().to_path_buf();
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let links = first_names
            .entry((meta.dev(), meta.ino()))
            .or_insert_with(Vec::new);
        links.push(below.clone());
        all.insert(below, line(&path, &meta, flags));
    }
    for names in first_names
        .into_values()
        .filter(|names: &Vec<PathBuf>| names.len() > 1)
    {
        let mut names = names;
        names.sort();
        for name in &names {
            all.get_mut(name)
                .unwrap()
                .push_str(&format!(" same as {:?}", names[0]));
        }
    }
    all
}

fn line(path: &Path, meta: &Metadata, flags: u32) -> String {
    let mut line = format!(
        "{:o} {}:{} m{}.{:09} a{}.{:09}",
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.atime(),
        meta.atime_nsec()
    );
    let kind = meta.file_type();
    if kind.is_symlink() {
        line += &format!(" -> {:?} links {}", fs::read_link(path).unwrap(), meta.nlink());
    } else if kind.is_block_device() || kind.is_char_device() {
        line += &format!(" device {}", meta.rdev());
    } else if kind.is_file() {
        line += &format!(
            " size {} links {} data {:?} {}",
            meta.size(),
            meta.nlink(),
            data(path),
            content(path, meta)
        );
    }
    if kind.is_file() || kind.is_dir() {
        let set = rustix::fs::ioctl_getflags(File::open(path).unwrap()).map_or(0, |set| set.bits());
        line += &format!(" flags {:x}", set & flags);
    }
    line + &xattrs(path)
}

fn xattrs(path: &Path) -> String {
    let mut names = vec![0; 65536];
    let len = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let mut values = BTreeMap::new();
    for name in names[..len]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let text = String::from_utf8_lossy(name).into_owned();
        // XFS shows its ACLs twice.
        if !text.starts_with("trusted.SGI_ACL") {
            let mut value = vec![0; 65536];
            let len = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            values.insert(text, blake3::hash(&value[..len]).to_string()[..8].to_owned());
        }
    }
    format!(" {values:?}")
}

fn content(path: &Path, meta: &Metadata) -> String {
    // Sparse giants are compared by their data only.
    let mut hasher = blake3::Hasher::new();
    if meta.size() < 1 << 30 {
        hasher.update(&fs::read(path).unwrap());
    }
    hasher.finalize().to_string()[..16].to_owned()
}

/// Returns the starts of data, in MiB. Block sizes differ between file systems, holes of this size do not.
fn data(path: &Path) -> Vec<u64> {
    use rustix::fs::{SeekFrom, seek};
    let file = File::open(path).unwrap();
    let mut starts = Vec::new();
    let mut at = 0;
    while let Ok(data) = seek(&file, SeekFrom::Data(at)) {
        starts.push(data >> 20);
        at = seek(&file, SeekFrom::Hole(data)).unwrap();
    }
    starts.dedup();
    starts
}
