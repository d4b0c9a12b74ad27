//! A range of bytes of a disk, for reading only.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes that are read of the beginning and of the end of a region: signatures that KA's own wipe removes lie
/// there.
pub(super) const EDGE_BYTES: u64 = 1 << 20;

/// The whole disk or one partition of it, with its edges in memory.
pub(super) struct Region<'a> {
    file: &'a File,
    start: u64,
    len: u64,
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl<'a> Region<'a> {
    /// Reads the edges of `len` bytes from `start`.
    ///
    /// # Errors
    /// The kernel's error when the disk cannot be read.
    pub(super) fn read(file: &'a File, start: u64, len: u64) -> io::Result<Self> {
        let edge = len.min(EDGE_BYTES);
        let read = |at: u64| {
            let mut bytes = vec![0; usize::try_from(edge).unwrap_or(0)];
            file.read_exact_at(&mut bytes, at).map(|()| bytes)
        };
        Ok(Self {
            head: read(start)?,
            tail: read(start + len - edge)?,
            file,
            start,
            len,
        })
    }

    /// Length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The first bytes, at most [`EDGE_BYTES`].
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Reads `N` bytes at an offset; `None` behind the end, or if they cannot be read.
    pub(super) fn bytes<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        let end = at.checked_add(N as u64).filter(|end| *end <= self.len)?;
        let edge = self.head.len() as u64;
        let tail_at = self.len - edge;
        let from = |bytes: &[u8], at: u64| {
            let at = usize::try_from(at).ok()?;
            bytes.get(at..at + N)?.try_into().ok()
        };
        if end <= edge {
            return from(&self.head, at);
        }
        if at >= tail_at {
            return from(&self.tail, at - tail_at);
        }
        let mut bytes = [0; N];
        self.file.read_exact_at(&mut bytes, self.start + at).ok()?;
        Some(bytes)
    }

    /// True if `magic` is at the offset `at`.
    pub(super) fn has(&self, at: u64, magic: &[u8]) -> bool {
        let end = at.checked_add(magic.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            return false;
        }
        magic
            .iter()
            .zip(at..)
            .all(|(byte, at)| self.bytes::<1>(at) == Some([*byte]))
    }

    /// Reads a little-endian `u32` at an offset.
    pub(super) fn le32(&self, at: u64) -> Option<u32> {
        self.bytes(at).map(u32::from_le_bytes)
    }

    /// Reads a little-endian `u64` at an offset.
    pub(super) fn le64(&self, at: u64) -> Option<u64> {
        self.bytes(at).map(u64::from_le_bytes)
    }

    /// Reads text that ends at a NUL or at the end of its field of `N` bytes.
    pub(super) fn text<const N: usize>(&self, at: u64) -> Option<String> {
        let bytes: [u8; N] = self.bytes(at)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(N);
        let text = super::shown(&String::from_utf8_lossy(&bytes[..end]));
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }
}
