//! Records: what a block is made of. `docs/tree-format.md` §2.
//!
//! This file frames them (kind, length, body); `meta` is what they say about an entry. Pure: no file, no
//! system call.

use crate::block::HEADER_BYTES;

/// Kind byte and body length.
pub(crate) const FRAME_BYTES: usize = 5;
/// Added to a kind: the body begins with a hard link group ([`LinkPrefix`]).
const LINKED: u8 = 0x80;

/// Names are no longer, in bytes. 255 on most file systems; vfat and NTFS names grow up to sixfold in UTF-8.
pub(crate) const MAX_NAME_BYTES: usize = 1530;

/// The kind of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Root of a source: mount u32, directory u64, entry.
    Root = 1,
    /// Directory: its number u64, its parent's u64, entry. It becomes the current one.
    Dir = 2,
    /// The current directory, u64, is complete; its parent is current again.
    DirEnd = 3,
    /// The directory of the records that follow, u64. At the beginning of a block that goes on in a
    /// directory.
    At = 4,
    /// A whole regular file: entry, content.
    File = 5,
    /// A regular file whose content follows in extents: its number u64, size u64, entry.
    Big = 6,
    /// Content: file number u64, offset u64, bytes.
    Extent = 7,
    /// The file, u64, has this size u64 and this many extents u64; 1 as u8 when it could not be read whole.
    BigEnd = 8,
    /// Symbolic link: entry, target.
    Symlink = 9,
    /// Device, fifo or socket: entry, major u32, minor u32.
    Special = 10,
    /// One more name of a group, u64: name.
    Link = 11,
    /// End of a tree stream: files u64, directories u64, bytes u64, digest.
    End = 12,
    /// Begin of a raw stream: size u64.
    RawBegin = 13,
    /// Content of a raw stream: offset u64, bytes.
    RawData = 14,
    /// End of a raw stream: bytes sent u64, digest.
    RawEnd = 15,
}

impl Kind {
    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Root,
            2 => Self::Dir,
            3 => Self::DirEnd,
            4 => Self::At,
            5 => Self::File,
            6 => Self::Big,
            7 => Self::Extent,
            8 => Self::BigEnd,
            9 => Self::Symlink,
            10 => Self::Special,
            11 => Self::Link,
            12 => Self::End,
            13 => Self::RawBegin,
            14 => Self::RawData,
            15 => Self::RawEnd,
            _ => return None,
        })
    }
}

/// A record cannot be read; the text says which part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// The first name of a file with several: its group and how many names it has on the golden node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkPrefix {
    pub(crate) group: u64,
    pub(crate) names: u32,
}

/// One record of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) kind: Kind,
    pub(crate) link: Option<LinkPrefix>,
    /// Without the link prefix.
    pub(crate) body: &'a [u8],
}

/// Takes the first record off `rest`. `Ok(None)` at the end.
pub(crate) fn take<'a>(rest: &mut &'a [u8]) -> Result<Option<Record<'a>>, Malformed> {
    if rest.is_empty() {
        return Ok(None);
    }
    let mut cursor = Cursor(rest);
    let kind_byte = cursor.u8()?;
    let len = cursor.u32()? as usize;
    let mut body = Cursor(cursor.bytes(len)?);
    *rest = cursor.0;
    let kind = Kind::from_byte(kind_byte & !LINKED).ok_or(Malformed("a record of unknown kind"))?;
    let link = if kind_byte & LINKED == 0 {
        None
    } else if matches!(kind, Kind::File | Kind::Big | Kind::Symlink | Kind::Special) {
        Some(LinkPrefix {
            group: body.u64()?,
            names: body.u32()?,
        })
    } else {
        return Err(Malformed("a hard link group on a record that cannot have one"));
    };
    Ok(Some(Record {
        kind,
        link,
        body: body.0,
    }))
}

/// Appends a record to a block; `fill` writes its body. Returns where the body without link prefix begins.
pub(crate) fn put(
    block: &mut Vec<u8>,
    kind: Kind,
    link: Option<LinkPrefix>,
    fill: impl FnOnce(&mut Vec<u8>),
) -> usize {
    let body = begin(block, kind, link);
    fill(block);
    finish(block, body, link.is_some());
    body
}

/// As [`put`], for bodies that are filled step by step: [`finish`] must follow.
pub(crate) fn begin(block: &mut Vec<u8>, kind: Kind, link: Option<LinkPrefix>) -> usize {
    block.push(kind as u8 | if link.is_some() { LINKED } else { 0 });
    block.extend_from_slice(&[0; 4]);
    if let Some(LinkPrefix { group, names }) = link {
        block.extend_from_slice(&group.to_le_bytes());
        block.extend_from_slice(&names.to_le_bytes());
    }
    block.len()
}

/// Bytes of a link prefix.
const LINK_BYTES: usize = 12;

/// Writes the length of the record whose body begins at `body` and ends with the block.
pub(crate) fn finish(block: &mut [u8], body: usize, linked: bool) {
    let start = body - if linked { LINK_BYTES } else { 0 };
    debug_assert!(
        start >= HEADER_BYTES + FRAME_BYTES,
        "a body begins after its frame"
    );
    let len = u32::try_from(block.len() - start).unwrap_or(u32::MAX);
    block[start - 4..start].copy_from_slice(&len.to_le_bytes());
}

/// Reads little endian fields off the front; every read is checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self
            .0
            .split_at_checked(len)
            .ok_or(Malformed("a record ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self
            .0
            .split_first_chunk()
            .ok_or(Malformed("a record ends early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn digest(&mut self) -> Result<[u8; 32], Malformed> {
        self.array()
    }

    /// Reads a name within a directory: length u16, bytes. Refuses anything but a single component.
    pub(crate) fn name(&mut self) -> Result<&'a [u8], Malformed> {
        let len = usize::from(self.u16()?);
        let name = self.bytes(len)?;
        let escapes =
            name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0);
        if escapes || len > MAX_NAME_BYTES {
            return Err(Malformed("a name that is no single path component"));
        }
        Ok(name)
    }

    /// Nothing may follow.
    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Malformed("a record is longer than it should be"))
        }
    }
}

/// Appends a name as [`Cursor::name`] reads it.
pub(crate) fn put_name(block: &mut Vec<u8>, name: &[u8]) {
    let len = u16::try_from(name.len()).unwrap_or(u16::MAX);
    block.extend_from_slice(&len.to_le_bytes());
    block.extend_from_slice(name);
}
