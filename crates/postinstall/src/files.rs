//! The files of a system, as the plans read them: the restored tree, the golden root, or a few texts in a
//! test.

use std::io;

use crate::error::PostError;

/// A configuration file is a text of a few KiB; the longest that is read is a signed GRUB, of 4 MiB. Bytes.
pub const MAX_TEXT_BYTES: u64 = 16 << 20;

/// The kind of thing that a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Link,
    /// A device, socket or pipe.
    Other,
}

/// A file's length and time of change at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Length, bytes.
    pub len: u64,
    /// Time of the last change of its content: seconds and nanoseconds since 1970, in a test whatever tells
    /// two contents apart.
    pub modified: (i64, u64),
}

/// Files by absolute path. Links on the way and at the end are followed as the system itself would, but for
/// [`Self::kind`], which tells of the link.
pub trait Files {
    /// Returns the content of a regular file; `None` when there is none of that name.
    ///
    /// # Errors
    /// It cannot be read, or is longer than [`MAX_TEXT_BYTES`].
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>>;

    /// Returns a part of a regular file of any length, shorter where the file ends; `None` when there is none
    /// of that name.
    ///
    /// # Errors
    /// It cannot be read.
    fn read_part(&self, path: &str, offset: u64, len: usize) -> io::Result<Option<Vec<u8>>>;

    /// Returns the names in a directory, sorted, without `.` and `..` and without names that are not UTF-8.
    /// Empty if there is no directory.
    fn names(&self, dir: &str) -> Vec<String>;

    /// Returns the kind of the name itself; `None` when there is none.
    fn kind(&self, path: &str) -> Option<Kind>;

    /// True if a file or directory is there, behind links.
    fn exists(&self, path: &str) -> bool;

    /// Something that changes when a file is written, for comparing; `None` when there is none of that name.
    fn stamp(&self, path: &str) -> Option<Stamp>;
}

/// Returns the first of `paths` that is there.
pub(crate) fn first_of<'a>(files: &dyn Files, paths: &[&'a str]) -> Option<&'a str> {
    paths.iter().copied().find(|path| files.exists(path))
}

/// True if a program of this name is in one of the usual directories.
pub(crate) fn has_program(files: &dyn Files, name: &str) -> bool {
    [
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
        "/usr/local/sbin",
        "/usr/local/bin",
    ]
    .iter()
    .any(|dir| files.exists(&format!("{dir}/{name}")))
}

/// The first of `names` that is a program.
pub(crate) fn program<'a>(files: &dyn Files, names: &[&'a str]) -> Option<&'a str> {
    names.iter().copied().find(|name| has_program(files, name))
}

/// Returns the text of a file. Bytes that are not UTF-8 become U+FFFD.
pub(crate) fn text(files: &dyn Files, path: &str) -> io::Result<Option<String>> {
    Ok(files
        .read(path)?
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Returns the same, empty where there is no such file.
pub(crate) fn text_or_empty(files: &dyn Files, path: &str) -> Result<String, PostError> {
    let text = text(files, path).map_err(PostError::reading(path))?;
    Ok(text.unwrap_or_default())
}

#[cfg(test)]
pub(crate) mod fixture {
    //! A system of a few texts.

    use std::collections::BTreeMap;

    use super::{Files, Kind, Stamp, io};

    /// Path and content; a path that ends in `/` is an empty directory, a content that begins with `-> ` a
    /// link.
    #[derive(Debug, Default, Clone)]
    pub(crate) struct Texts(pub(crate) BTreeMap<String, Vec<u8>>);

    impl Texts {
        pub(crate) fn new(files: &[(&str, &str)]) -> Self {
            Self(
                files
                    .iter()
                    .map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()))
                    .collect(),
            )
        }

        pub(crate) fn with(mut self, path: &str, text: &str) -> Self {
            self.0.insert(path.to_owned(), text.as_bytes().to_vec());
            self
        }
    }

    impl Files for Texts {
        fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
            Ok(self.0.get(path).cloned())
        }

        fn read_part(&self, path: &str, offset: u64, len: usize) -> io::Result<Option<Vec<u8>>> {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let part = |bytes: &Vec<u8>| bytes.iter().skip(start).take(len).copied().collect();
            Ok(self.0.get(path).map(part))
        }

        fn names(&self, dir: &str) -> Vec<String> {
            let dir = format!("{}/", dir.trim_end_matches('/'));
            let mut names: Vec<String> = self
                .0
                .keys()
                .filter_map(|path| path.strip_prefix(&dir)?.split('/').next().map(ToOwned::to_owned))
                .filter(|name| !name.is_empty())
                .collect();
            names.dedup();
            names
        }

        fn kind(&self, path: &str) -> Option<Kind> {
            match self.0.get(path) {
                Some(text) if text.starts_with(b"-> ") => Some(Kind::Link),
                Some(_) => Some(Kind::File),
                None if self.exists(path) => Some(Kind::Dir),
                None => None,
            }
        }

        fn exists(&self, path: &str) -> bool {
            let dir = format!("{}/", path.trim_end_matches('/'));
            self.0.contains_key(path) || self.0.keys().any(|file| file.starts_with(&dir))
        }

        fn stamp(&self, path: &str) -> Option<Stamp> {
            let bytes = self.0.get(path)?;
            let sum = bytes
                .iter()
                .fold(7_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte));
            Some(Stamp {
                len: bytes.len() as u64,
                modified: (0, sum),
            })
        }
    }
}
