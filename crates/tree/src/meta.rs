//! The metadata of one entry in the stream: mode, owner, times, flags, extended attributes, name. Pure.

use crate::record::{Cursor, Malformed, put_name};

const HAS_FLAGS: u8 = 1;
const HAS_PROJECT: u8 = 2;
const HAS_XATTRS: u8 = 4;
/// Set in the first byte of an encoded entry once it is known.
pub(crate) const IS_CHANGED: u8 = 8;
const IS_SUBVOLUME: u8 = 16;
const IS_READ_ONLY: u8 = 32;

/// All extended attributes of one entry, encoded. Far beyond what ext4 (64 KiB) and sane users store, and
/// small enough for one record; what exceeds it is reported by the sender.
pub(crate) const MAX_XATTR_BYTES: usize = 512 * 1024;

/// Seconds and nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
}

/// The kind of a directory: a plain one, or the root of a btrfs subvolume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Subvolume {
    #[default]
    No,
    Writable,
    ReadOnly,
}

/// Metadata and name of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Meta<'a> {
    /// Type and permission bits, `st_mode`.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    pub(crate) atime: Time,
    /// `FS_IOC_GETFLAGS`, only those that a user can set.
    pub(crate) flags: u32,
    pub(crate) project: u32,
    /// Read while it changed.
    pub(crate) changed: bool,
    pub(crate) subvolume: Subvolume,
    /// Encoded attributes, see [`xattrs`].
    pub(crate) xattrs: &'a [u8],
    /// Empty for a root.
    pub(crate) name: &'a [u8],
}

impl<'a> Meta<'a> {
    /// Returns the bytes that [`Meta::put`] writes at most.
    pub(crate) const fn encoded_len(&self) -> usize {
        1 + 2 + 8 + 24 + 4 + 4 + 4 + self.xattrs.len() + 2 + self.name.len()
    }

    /// Appends the entry.
    pub(crate) fn put(&self, block: &mut Vec<u8>) {
        let mut present = 0;
        let mut set = |on: bool, bit: u8| present |= if on { bit } else { 0 };
        set(self.flags != 0, HAS_FLAGS);
        set(self.project != 0, HAS_PROJECT);
        set(!self.xattrs.is_empty(), HAS_XATTRS);
        set(self.changed, IS_CHANGED);
        set(self.subvolume != Subvolume::No, IS_SUBVOLUME);
        set(self.subvolume == Subvolume::ReadOnly, IS_READ_ONLY);
        block.push(present);
        // st_mode has sixteen bits.
        block.extend_from_slice(&self.mode.to_le_bytes()[..2]);
        block.extend_from_slice(&self.uid.to_le_bytes());
        block.extend_from_slice(&self.gid.to_le_bytes());
        for time in [self.mtime, self.atime] {
            block.extend_from_slice(&time.seconds.to_le_bytes());
            block.extend_from_slice(&time.nanos.to_le_bytes());
        }
        if self.flags != 0 {
            block.extend_from_slice(&self.flags.to_le_bytes());
        }
        if self.project != 0 {
            block.extend_from_slice(&self.project.to_le_bytes());
        }
        if !self.xattrs.is_empty() {
            let len = u32::try_from(self.xattrs.len()).unwrap_or(u32::MAX);
            block.extend_from_slice(&len.to_le_bytes());
            block.extend_from_slice(self.xattrs);
        }
        put_name(block, self.name);
    }

    /// Reads an entry with a name.
    pub(crate) fn take(cursor: &mut Cursor<'a>) -> Result<Self, Malformed> {
        let mut meta = Self::take_unnamed(cursor)?;
        meta.name = cursor.name()?;
        Ok(meta)
    }

    /// Reads the entry of a root, whose name is empty.
    pub(crate) fn take_root(cursor: &mut Cursor<'a>) -> Result<Self, Malformed> {
        let meta = Self::take_unnamed(cursor)?;
        if cursor.u16()? != 0 {
            return Err(Malformed("a root with a name"));
        }
        Ok(meta)
    }

    fn take_unnamed(cursor: &mut Cursor<'a>) -> Result<Self, Malformed> {
        let present = cursor.u8()?;
        let mut meta = Self {
            mode: u32::from(cursor.u16()?),
            uid: cursor.u32()?,
            gid: cursor.u32()?,
            mtime: take_time(cursor)?,
            atime: take_time(cursor)?,
            changed: present & IS_CHANGED != 0,
            subvolume: match (present & IS_SUBVOLUME != 0, present & IS_READ_ONLY != 0) {
                (false, _) => Subvolume::No,
                (true, false) => Subvolume::Writable,
                (true, true) => Subvolume::ReadOnly,
            },
            ..Self::default()
        };
        if present & HAS_FLAGS != 0 {
            meta.flags = cursor.u32()?;
        }
        if present & HAS_PROJECT != 0 {
            meta.project = cursor.u32()?;
        }
        if present & HAS_XATTRS != 0 {
            let len = cursor.u32()? as usize;
            if len > MAX_XATTR_BYTES {
                return Err(Malformed("an entry with too many extended attributes"));
            }
            meta.xattrs = cursor.bytes(len)?;
            xattrs(meta.xattrs).try_for_each(|attribute| attribute.map(|_| ()))?;
        }
        Ok(meta)
    }

    /// Returns the permission bits, set-id and sticky included.
    pub(crate) const fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }
}

fn take_time(cursor: &mut Cursor<'_>) -> Result<Time, Malformed> {
    let time = Time {
        seconds: cursor.i64()?,
        nanos: cursor.u32()?,
    };
    if time.nanos < 1_000_000_000 {
        Ok(time)
    } else {
        Err(Malformed("a time with too many nanoseconds"))
    }
}

/// Appends one attribute to an encoded list. A name has at most 255 bytes and a value 64 KiB (xattr(7)).
pub(crate) fn put_xattr(list: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    list.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    list.extend_from_slice(name);
    list.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
    list.extend_from_slice(value);
}

/// Name and value of an extended attribute, or why it cannot be read.
type NameAndValue<'a> = Result<(&'a [u8], &'a [u8]), Malformed>;

/// Returns the attributes of an encoded list, as name and value.
pub(crate) fn xattrs(list: &[u8]) -> impl Iterator<Item = NameAndValue<'_>> {
    let mut cursor = Cursor(list);
    std::iter::from_fn(move || {
        if cursor.0.is_empty() {
            return None;
        }
        let attribute = take_xattr(&mut cursor);
        if attribute.is_err() {
            cursor = Cursor(&[]);
        }
        Some(attribute)
    })
}

fn take_xattr<'a>(cursor: &mut Cursor<'a>) -> NameAndValue<'a> {
    let name_len = usize::from(cursor.u8()?);
    let name = cursor.bytes(name_len)?;
    if name.is_empty() || name.contains(&0) {
        return Err(Malformed("an extended attribute without a proper name"));
    }
    let value_len = cursor.u32()? as usize;
    Ok((name, cursor.bytes(value_len)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::block;
    use crate::record::{Kind, LinkPrefix, put, take};

    fn encode(meta: &Meta<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        meta.put(&mut bytes);
        bytes
    }

    fn sample(xattrs: &[u8]) -> Meta<'_> {
        Meta {
            mode: 0o104_755,
            uid: 70_000,
            gid: 5,
            mtime: Time {
                seconds: -1,
                nanos: 999_999_999,
            },
            atime: Time {
                seconds: 1 << 40,
                nanos: 0,
            },
            flags: 0x10,
            project: 9,
            changed: true,
            subvolume: Subvolume::ReadOnly,
            xattrs,
            name: b"a\nb\xff",
        }
    }

    #[test]
    fn an_entry_comes_back_and_every_truncation_is_refused() {
        let mut list = Vec::new();
        put_xattr(&mut list, b"user.a", b"");
        put_xattr(&mut list, b"security.capability", &[0; 20]);
        let meta = sample(&list);
        let bytes = encode(&meta);
        assert!(bytes.len() <= meta.encoded_len());
        let mut cursor = Cursor(&bytes);
        assert_eq!(Meta::take(&mut cursor).unwrap(), meta);
        cursor.end().unwrap();
        (0..bytes.len())
            .for_each(|len| assert!(Meta::take(&mut Cursor(&bytes[..len])).is_err(), "{len} bytes"));
        let names: Vec<_> = xattrs(&list).map(|attribute| attribute.unwrap().0).collect();
        assert_eq!(names, [&b"user.a"[..], b"security.capability"]);
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0", &[b'x'; 2000]] {
            let bytes = encode(&Meta { name, ..sample(&[]) });
            assert!(Meta::take(&mut Cursor(&bytes)).is_err(), "{name:?}");
        }
    }

    #[test]
    fn records_are_framed_and_carry_their_link_group() {
        let mut bytes = block::start(100);
        let link = LinkPrefix { group: 7, names: 3 };
        put(&mut bytes, Kind::File, Some(link), |body| {
            body.extend_from_slice(b"body")
        });
        put(&mut bytes, Kind::DirEnd, None, |body| {
            body.extend_from_slice(&[0; 8])
        });
        let mut rest = &bytes[block::HEADER_BYTES..];
        let file = take(&mut rest).unwrap().unwrap();
        assert_eq!(
            (file.kind, file.link, file.body),
            (Kind::File, Some(link), &b"body"[..])
        );
        let end = take(&mut rest).unwrap().unwrap();
        assert_eq!((end.kind, end.link, end.body.len()), (Kind::DirEnd, None, 8));
        assert!(take(&mut rest).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Meta::take(&mut Cursor(&bytes));
            let _ = xattrs(&bytes).count();
            let mut rest = &bytes[..];
            while let Ok(Some(_)) = take(&mut rest) {}
        }
    }
}
