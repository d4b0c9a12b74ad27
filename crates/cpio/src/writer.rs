//! Writer of archives. The same entries in the same order give the same bytes: no clock, no owner and no
//! inode number of the files' own file system gets in.

use std::io::Write;

use crate::header::{HEADER_BYTES, Header, Kind};
use crate::{ALIGNMENT, CpioError, MAX_FILE_BYTES, MAX_LINK_BYTES, MAX_NAME_BYTES, TRAILER};

/// Writes an archive. A directory must be written before its content, because the kernel creates no directory
/// by itself.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    offset: u64,
    inode: u32,
}

impl<W: Write> Writer<W> {
    /// Creates a writer of a new archive.
    pub const fn new(out: W) -> Self {
        Self {
            out,
            offset: 0,
            // 0 and 1 have a special meaning for some readers.
            inode: 2,
        }
    }

    /// Adds a directory.
    ///
    /// # Errors
    /// Fails if the name cannot be stored, or if writing fails.
    pub fn directory(&mut self, name: &str, permissions: u32) -> Result<(), CpioError> {
        self.entry(name, Kind::Directory, permissions, (0, 0), &[])
    }

    /// Adds a regular file.
    ///
    /// # Errors
    /// Fails if the name or the size cannot be stored, or if writing fails.
    pub fn file(&mut self, name: &str, permissions: u32, data: &[u8]) -> Result<(), CpioError> {
        self.entry(name, Kind::File, permissions, (0, 0), data)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// Fails if the name or the target cannot be stored, or if writing fails.
    pub fn symlink(&mut self, name: &str, target: &str) -> Result<(), CpioError> {
        if target.is_empty() || target.len() as u64 >= MAX_LINK_BYTES || target.contains('\0') {
            return Err(refused(name, "its target is empty, too long, or holds a NUL"));
        }
        self.entry(name, Kind::Symlink, 0o777, (0, 0), target.as_bytes())
    }

    /// Adds a device node. `kind` is [`Kind::CharDevice`] or [`Kind::BlockDevice`].
    ///
    /// # Errors
    /// Fails if the name cannot be stored, or if writing fails.
    pub fn device(
        &mut self,
        name: &str,
        kind: Kind,
        permissions: u32,
        number: (u32, u32),
    ) -> Result<(), CpioError> {
        if !matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
            return Err(refused(name, "it is not a device"));
        }
        self.entry(name, kind, permissions, number, &[])
    }

    /// Writes the trailer and returns the output.
    ///
    /// # Errors
    /// Fails if writing fails.
    pub fn finish(mut self) -> Result<W, CpioError> {
        self.raw(
            TRAILER,
            &Header {
                links: 1,
                ..Header::default()
            },
            &[],
        )?;
        Ok(self.out)
    }

    fn entry(
        &mut self,
        name: &str,
        kind: Kind,
        permissions: u32,
        rdevice: (u32, u32),
        data: &[u8],
    ) -> Result<(), CpioError> {
        check_name(name)?;
        let Some(size) = u32::try_from(data.len())
            .ok()
            .filter(|size| u64::from(*size) <= MAX_FILE_BYTES)
        else {
            return Err(refused(name, "it is 4 GiB or larger"));
        };
        let header = Header {
            inode: self.inode,
            mode: kind.bits() | permissions & 0o7777,
            links: if kind == Kind::Directory { 2 } else { 1 },
            size,
            rdevice,
            ..Header::default()
        };
        self.inode = self.inode.wrapping_add(1);
        self.raw(name, &header, data)
    }

    fn raw(&mut self, name: &str, header: &Header, data: &[u8]) -> Result<(), CpioError> {
        let name_size = u32::try_from(name.len() + 1).map_err(|_| refused(name, "its name is too long"))?;
        let header = Header { name_size, ..*header };
        self.put(&header.encode())?;
        self.put(name.as_bytes())?;
        self.put(&[0])?;
        self.pad(HEADER_BYTES + name.len() + 1)?;
        self.put(data)?;
        self.pad(data.len())
    }

    fn pad(&mut self, written: usize) -> Result<(), CpioError> {
        let missing = written.next_multiple_of(ALIGNMENT) - written;
        self.put(&[0; ALIGNMENT][..missing])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), CpioError> {
        self.out.write_all(bytes).map_err(|source| CpioError::Io {
            offset: self.offset,
            source,
        })?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

fn check_name(name: &str) -> Result<(), CpioError> {
    if name.is_empty() || name.starts_with('/') || name == TRAILER {
        return Err(refused(name, "its name must be relative, and not the trailer's"));
    }
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) || name.contains('\0') {
        return Err(refused(
            name,
            "its name has an empty, . or .. component, or a NUL",
        ));
    }
    if name.len() >= MAX_NAME_BYTES as usize {
        return Err(refused(name, "its name is longer than PATH_MAX"));
    }
    Ok(())
}

fn refused(name: &str, what: &'static str) -> CpioError {
    CpioError::Entry {
        name: name.to_owned(),
        what,
    }
}
