//! A store in a directory: an object is a file that is written beside its place, synced and renamed.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write as _};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::HEXLOWER;

use crate::backend::{Backend, Object};
use crate::error::{Result, StoreError};

/// The directory of files that are being written; no object is ever listed from it.
const UNFINISHED: &str = "unfinished";
/// No write of one object takes longer.
const IN_WORK: Duration = Duration::from_secs(3600);
/// The kinds of objects, each a directory.
const KINDS: [&str; 5] = ["doomed", "index", "keys", "packs", "versions"];

/// A directory as a backend.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// Opens an existing store.
    ///
    /// # Errors
    /// There is none.
    pub fn open(root: &Path) -> Result<Self> {
        let packs = root.join("packs");
        match fs::metadata(&packs) {
            Ok(meta) if meta.is_dir() => Ok(Self {
                root: root.to_owned(),
            }),
            Ok(_) => Err(StoreError::Refused(format!(
                "{} is no directory",
                packs.display()
            ))),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(StoreError::Refused(format!(
                "{} holds no store of images",
                root.display()
            ))),
            Err(error) => Err(StoreError::io(format!("opening {}", packs.display()), error)),
        }
    }

    /// Opens a store, and makes its directories where they are missing.
    ///
    /// # Errors
    /// The directories cannot be made.
    pub fn create(root: &Path) -> Result<Self> {
        for kind in KINDS.iter().chain([&UNFINISHED]) {
            let path = root.join(kind);
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(|error| StoreError::io(format!("making {}", path.display()), error))?;
        }
        let store = Self {
            root: root.to_owned(),
        };
        store.clear_unfinished();
        Ok(store)
    }

    /// Removes what killed writers left; files of an hour may be in work.
    fn clear_unfinished(&self) {
        let Ok(entries) = fs::read_dir(self.root.join(UNFINISHED)) else {
            return;
        };
        for entry in entries.flatten() {
            let age = entry
                .metadata()
                .and_then(|meta| meta.modified())
                .ok()
                .and_then(|time| time.elapsed().ok());
            if age.is_some_and(|age| age > IN_WORK) {
                // Best effort: a file that stays costs space only.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn path(&self, name: &str) -> Result<PathBuf> {
        let plain = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        match name.split_once('/') {
            Some((kind, rest)) if KINDS.contains(&kind) && plain(rest) => Ok(self.root.join(kind).join(rest)),
            _ => Err(StoreError::Refused(format!("{name:?} names no object"))),
        }
    }

    fn write(&self, unfinished: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create_new(unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        fs::rename(unfinished, path)?;
        File::open(path.parent().unwrap_or(&self.root))?.sync_all()
    }
}

impl Backend for Directory {
    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(name)?;
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| StoreError::Refused(error.to_string()))?;
        let unfinished = self.root.join(UNFINISHED).join(HEXLOWER.encode(&random));
        self.write(&unfinished, &path, bytes).map_err(|error| {
            // Best effort: the error that counts is the first.
            let _ = fs::remove_file(&unfinished);
            StoreError::io(format!("writing {}", path.display()), error)
        })
    }

    fn get(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let path = self.path(name)?;
        let read = || {
            let file = File::open(&path)?;
            let len = file.metadata()?.len();
            if range.start > range.end || range.end > len {
                return Err(io::Error::new(
                    ErrorKind::UnexpectedEof,
                    format!("it has {len} bytes"),
                ));
            }
            let wanted = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
            let mut bytes = vec![0; wanted];
            file.read_exact_at(&mut bytes, range.start)?;
            Ok(bytes)
        };
        read().map_err(|error| match error.kind() {
            ErrorKind::NotFound => StoreError::Missing(name.to_owned()),
            ErrorKind::UnexpectedEof => StoreError::damaged(name, "it is cut short"),
            _ => StoreError::io(format!("reading {}", path.display()), error),
        })
    }

    fn list(&self, prefix: &str) -> Result<Vec<Object>> {
        let kind = prefix.split_once('/').map_or(prefix, |(kind, _)| kind);
        let dir = self.root.join(kind);
        let failed = |error| StoreError::io(format!("listing {}", dir.display()), error);
        let mut objects = Vec::new();
        for entry in fs::read_dir(&dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = format!("{kind}/{}", entry.file_name().to_string_lossy());
            if !name.starts_with(prefix) || self.path(&name).is_err() {
                continue;
            }
            match entry.metadata() {
                Ok(meta) if meta.is_file() => objects.push(Object {
                    name,
                    size: meta.len(),
                }),
                Ok(_) => {}
                // A prune beside this listing.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        objects.sort();
        Ok(objects)
    }

    fn delete(&self, name: &str) -> Result<()> {
        let path = self.path(name)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(StoreError::io(format!("removing {}", path.display()), error))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_written_read_listed_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::create(dir.path()).unwrap();
        store.put("packs/a-1", b"hello").unwrap();
        store.put("packs/b-1", b"").unwrap();
        assert_eq!(store.get("packs/a-1", 1..4).unwrap(), b"ell");
        assert_eq!(
            store.list("packs/a-").unwrap(),
            [Object {
                name: "packs/a-1".into(),
                size: 5
            }]
        );
        assert_eq!(store.list("packs/").unwrap().len(), 2);
        store.delete("packs/a-1").unwrap();
        store.delete("packs/a-1").unwrap();
        assert!(matches!(
            store.get("packs/a-1", 0..1),
            Err(StoreError::Missing(_))
        ));
    }

    #[test]
    fn a_range_beyond_the_end_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::create(dir.path()).unwrap();
        store.put("packs/a", b"hello").unwrap();
        assert!(matches!(
            store.get("packs/a", 0..6),
            Err(StoreError::Damaged { .. })
        ));
        assert!(store.get("packs/a", 0..u64::MAX).is_err());
    }

    #[test]
    fn what_a_killed_writer_left_is_no_object() {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::create(dir.path()).unwrap();
        fs::write(dir.path().join("unfinished/0123"), "half").unwrap();
        for kind in KINDS {
            assert!(store.list(&format!("{kind}/")).unwrap().is_empty());
        }
    }

    #[test]
    fn a_name_cannot_leave_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::create(dir.path()).unwrap();
        for name in [
            "packs/../x",
            "../x",
            "packs/",
            "packs",
            "other/x",
            "packs/a/b",
            "unfinished/x",
        ] {
            assert!(store.put(name, b"").is_err(), "{name}");
        }
    }

    #[test]
    fn a_missing_store_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = Directory::open(dir.path()).unwrap_err().to_string();
        assert!(error.ends_with("holds no store of images"), "{error}");
    }
}
