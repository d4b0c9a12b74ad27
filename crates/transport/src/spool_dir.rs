//! The directory of `--spool`: the check that it can be used, and the files in it.
//!
//! A file there has no name (open(2), `O_TMPFILE`), or loses it at once. When this process ends, in any way,
//! the kernel removes the file, and the directory is as it was.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{CWD, Mode, OFlags, openat, statvfs};
use rustix::io::Errno;

/// Begins the names that files have for a moment where the file system knows no file without one.
const NAME_PREFIX: &str = ".ka-spool-";
/// Free space below which a directory counts as full, in bytes: a few blocks of the thread behind it.
const LEAST_FREE: u64 = 64 << 20;

/// A directory in which streams can be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolDir {
    path: PathBuf,
}

/// The reason why a directory cannot be used; one line that names it.
#[derive(Debug, thiserror::Error)]
pub enum SpoolDirError {
    /// It is not there, or something else is.
    #[error("{path} is not a directory that can be used: {source}; make it, or name another one")]
    NotThere {
        /// The directory.
        path: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// No file can be made in it.
    #[error("no file can be written in {path}: {source}; name a directory on a writable disk")]
    NotWritable {
        /// The directory.
        path: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// There is less room than the stream may need.
    #[error(
        "{path} has {} free, a stream of this run may need {}; make room, or name another directory",
        mib(*free), mib(*needed)
    )]
    Full {
        /// The directory.
        path: String,
        /// Bytes that are free.
        free: u64,
        /// Bytes that may be needed.
        needed: u64,
    },
}

/// Formats whole MiB, rounded up, so that the need is never larger than the text.
fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

impl SpoolDir {
    /// Checks that files can be made and written there; nothing of it stays. What a killed process left with
    /// a name is removed.
    ///
    /// # Errors
    /// [`SpoolDirError`].
    pub fn open(path: &Path) -> Result<Self, SpoolDirError> {
        let name = || path.display().to_string();
        let there =
            std::fs::read_dir(path).map_err(|source| SpoolDirError::NotThere { path: name(), source })?;
        // Another server that makes a file just now has it open, and removes its name itself.
        for left in there.flatten() {
            if left.file_name().to_string_lossy().starts_with(NAME_PREFIX) {
                std::fs::remove_file(left.path()).ok();
            }
        }
        let dir = Self {
            path: path.to_owned(),
        };
        let written = dir
            .file()
            .and_then(|mut file| io::Write::write_all(&mut file, &[0; 4096]));
        match written {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => dir.check_room(LEAST_FREE)?,
            Err(source) => return Err(SpoolDirError::NotWritable { path: name(), source }),
            Ok(()) => {}
        }
        dir.check_room(LEAST_FREE)?;
        Ok(dir)
    }

    /// Returns the path of the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the bytes that this process may still write there.
    #[must_use]
    pub fn free(&self) -> u64 {
        statvfs(&self.path).map_or(0, |found| found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// Checks that a stream of `bytes` fits.
    ///
    /// # Errors
    /// [`SpoolDirError::Full`].
    pub fn check_room(&self, bytes: u64) -> Result<(), SpoolDirError> {
        let (free, needed) = (self.free(), bytes.max(LEAST_FREE));
        if free < needed {
            let path = self.path.display().to_string();
            return Err(SpoolDirError::Full { path, free, needed });
        }
        Ok(())
    }

    /// Returns a new file without a name, for its owner alone.
    ///
    /// # Errors
    /// The kernel's error.
    pub(crate) fn file(&self) -> io::Result<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match openat(CWD, &self.path, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Ok(file.into()),
            // As file systems say that do not know it (open(2), BUGS).
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => self.file_that_loses_its_name(),
            Err(errno) => Err(errno.into()),
        }
    }

    fn file_that_loses_its_name(&self) -> io::Result<File> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = self
            .path
            .join(format!("{NAME_PREFIX}{}-{count}", std::process::id()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let names = std::fs::read_dir(dir).unwrap().flatten();
        names
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn files_have_no_names_and_keep_what_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let spool = SpoolDir::open(dir.path()).unwrap();
        for mut file in [spool.file().unwrap(), spool.file_that_loses_its_name().unwrap()] {
            file.write_all(b"kept").unwrap();
            file.rewind().unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "kept");
            let mode = std::os::unix::fs::MetadataExt::mode(&file.metadata().unwrap());
            assert_eq!(mode & 0o777, 0o600);
            assert_eq!(names(dir.path()), [""; 0]);
        }
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".ka-spool-7-0", "ka-spool", "precious"] {
            std::fs::write(dir.path().join(name), b"x").unwrap();
        }
        SpoolDir::open(dir.path()).unwrap();
        let mut left = names(dir.path());
        left.sort();
        assert_eq!(left, ["ka-spool", "precious"]);
    }

    #[test]
    fn what_is_no_directory_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [Path::new("/no/such/dir"), file.path()] {
            let error = SpoolDir::open(path).unwrap_err().to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
    }

    #[test]
    fn more_than_there_is_room_for_is_refused_with_both_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let spool = SpoolDir::open(dir.path()).unwrap();
        let error = spool.check_room(u64::MAX).unwrap_err().to_string();
        assert!(error.contains("free") && error.contains("may need"), "{error}");
        spool.check_room(1).unwrap();
    }
}
