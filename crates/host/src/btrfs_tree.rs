//! Counts of the contents of a btrfs subvolume, from the file system's own trees (`BTRFS_IOC_TREE_SEARCH_V2`,
//! `linux/btrfs.h`, `linux/btrfs_tree.h`): no file is opened, and each reference to a shared extent counts.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Bytes that one call returns: some hundred small files.
const BUFFER_BYTES: usize = 256 * 1024;
/// First and last number of a file: `BTRFS_FIRST_FREE_OBJECTID`, `BTRFS_LAST_FREE_OBJECTID`.
const FIRST_FILE: u64 = 256;
const LAST_FILE: u64 = u64::MAX - 255;
/// Kinds of keys: `BTRFS_INODE_ITEM_KEY`, `BTRFS_EXTENT_DATA_KEY`.
const INODE_ITEM: u32 = 1;
const EXTENT_DATA: u32 = 108;
/// The flag `BTRFS_INODE_COMPRESS`, and the offset of the flags in a `struct btrfs_inode_item`.
const INODE_COMPRESS: u64 = 1 << 11;
const INODE_FLAGS_AT: usize = 64;
/// Types of extents: `BTRFS_FILE_EXTENT_INLINE`, `BTRFS_FILE_EXTENT_REG`.
const INLINE: u8 = 0;
const REGULAR: u8 = 1;
/// Length of `struct btrfs_ioctl_search_header` in bytes.
const HEADER_BYTES: usize = 32;

/// `struct btrfs_ioctl_search_args_v2` with its buffer.
#[repr(C)]
struct Search {
    tree_id: u64,
    min_objectid: u64,
    max_objectid: u64,
    min_offset: u64,
    max_offset: u64,
    min_transid: u64,
    max_transid: u64,
    min_type: u32,
    max_type: u32,
    nr_items: u32,
    unused: u32,
    unused_more: [u64; 4],
    buf_size: u64,
    buf: [u8; BUFFER_BYTES],
}

/// The part of [`Search`] whose size is in the ioctl number.
#[repr(C)]
struct SearchHead([u64; 14]);

mod ioctl {
    nix::ioctl_readwrite!(tree_search_v2, 0x94, 17, super::SearchHead);
}

/// Counts of the files of one subvolume. Data that several files or snapshots share counts for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Number of files, directories and all other inodes.
    pub inodes: u64,
    /// Bytes as they are stored, after any compression.
    pub stored_bytes: u64,
    /// Bytes when only files that are marked for it (`chattr +c`, the property `compression`) are compressed.
    pub marked_bytes: u64,
    /// Bytes without compression.
    pub plain_bytes: u64,
}

impl Held {
    /// Adds the counts of another subvolume.
    pub fn add(&mut self, other: Self) {
        self.inodes += other.inodes;
        self.stored_bytes += other.stored_bytes;
        self.marked_bytes += other.marked_bytes;
        self.plain_bytes += other.plain_bytes;
    }

    fn item(&mut self, kind: u32, item: &[u8], is_marked: &mut bool) {
        match kind {
            INODE_ITEM => {
                self.inodes += 1;
                *is_marked = number(item, INODE_FLAGS_AT) & INODE_COMPRESS != 0;
            }
            EXTENT_DATA => {
                let (stored, plain) = extent(item);
                self.stored_bytes += stored;
                self.plain_bytes += plain;
                self.marked_bytes += if *is_marked { stored } else { plain };
            }
            _ => {}
        }
    }
}

/// Reads the tree of the subvolume `id` (5 is the top level) of the file system that `on` lies on.
///
/// # Errors
/// `ENOTTY` if it is no btrfs, `EPERM` without `CAP_SYS_ADMIN`, `ENOENT` when there is no such subvolume.
pub fn held(on: impl AsFd, id: u64) -> io::Result<Held> {
    let mut search = Box::new(Search {
        tree_id: id,
        min_objectid: FIRST_FILE,
        max_objectid: LAST_FILE,
        min_offset: 0,
        max_offset: u64::MAX,
        min_transid: 0,
        max_transid: u64::MAX,
        min_type: 0,
        max_type: u32::from(u8::MAX),
        nr_items: 0,
        unused: 0,
        unused_more: [0; 4],
        buf_size: BUFFER_BYTES as u64,
        buf: [0; BUFFER_BYTES],
    });
    let mut held = Held::default();
    let mut is_marked = false;
    loop {
        search.nr_items = u32::MAX;
        search.buf_size = BUFFER_BYTES as u64;
        let head = std::ptr::from_mut::<Search>(&mut search).cast::<SearchHead>();
        // SAFETY: the descriptor is open for the whole call; the structure has the layout of
        // `struct btrfs_ioctl_search_args_v2` and is followed by as many bytes as `buf_size` says.
        unsafe { ioctl::tree_search_v2(on.as_fd().as_raw_fd(), head) }?;
        let mut rest: &[u8] = &search.buf;
        let mut last = None;
        for _ in 0..search.nr_items {
            let Some((header, after)) = rest.split_at_checked(HEADER_BYTES) else {
                break;
            };
            let (kind, length) = (half(header, 24), half(header, 28) as usize);
            let Some((item, after)) = after.split_at_checked(length) else {
                break;
            };
            held.item(kind, item, &mut is_marked);
            last = Some((number(header, 8), kind, number(header, 16)));
            rest = after;
        }
        match last.and_then(next_key) {
            Some((objectid, kind, offset)) => {
                (search.min_objectid, search.min_type, search.min_offset) = (objectid, kind, offset);
            }
            None => return Ok(held),
        }
    }
}

/// Returns the smallest key after this one.
fn next_key((objectid, kind, offset): (u64, u32, u64)) -> Option<(u64, u32, u64)> {
    match (offset.checked_add(1), kind < u32::from(u8::MAX)) {
        (Some(offset), _) => Some((objectid, kind, offset)),
        (None, true) => Some((objectid, kind + 1, 0)),
        (None, false) => Some((objectid.checked_add(1)?, 0, 0)),
    }
}

/// Returns the stored and the readable bytes of one `struct btrfs_file_extent_item`. Holes and space that is
/// only reserved count nothing.
fn extent(item: &[u8]) -> (u64, u64) {
    let ram = number(item, 8);
    let is_compressed = item.get(16).is_some_and(|how| *how != 0);
    match item.get(20) {
        Some(&INLINE) => (item.len().saturating_sub(21) as u64, ram),
        Some(&REGULAR) if number(item, 21) > 0 => {
            let (on_disk, seen) = (number(item, 29), number(item, 45));
            let share = u128::from(on_disk) * u128::from(seen) / u128::from(ram.max(1));
            let stored = if is_compressed {
                u64::try_from(share).unwrap_or(on_disk)
            } else {
                seen
            };
            (stored, seen)
        }
        _ => (0, 0),
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let field = bytes.get(at..at + 8).and_then(|field| field.try_into().ok());
    field.map_or(0, u64::from_le_bytes)
}

fn half(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..at + 4).and_then(|field| field.try_into().ok());
    field.map_or(0, u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_as_long_as_the_kernels() {
        assert_eq!(size_of::<SearchHead>(), 112);
        assert_eq!(std::mem::offset_of!(Search, buf), 112);
    }

    #[test]
    fn keys_follow_one_another() {
        assert_eq!(next_key((257, 1, 0)), Some((257, 1, 1)));
        assert_eq!(next_key((257, 1, u64::MAX)), Some((257, 2, 0)));
        assert_eq!(next_key((257, 255, u64::MAX)), Some((258, 0, 0)));
        assert_eq!(next_key((u64::MAX, 255, u64::MAX)), None);
    }

    #[test]
    fn extents_count_by_what_is_seen_of_them() {
        let item = |ram: u64, how: u8, kind: u8, fields: [u64; 4]| {
            let mut item = vec![0; 8];
            item.extend(ram.to_le_bytes());
            item.extend([how, 0, 0, 0, kind]);
            item.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
            item
        };
        assert_eq!(
            extent(&item(8192, 0, REGULAR, [4096, 8192, 0, 4096])),
            (4096, 4096)
        );
        assert_eq!(
            extent(&item(131_072, 3, REGULAR, [4096, 8192, 0, 65_536])),
            (4096, 65_536)
        );
        assert_eq!(extent(&item(4096, 0, REGULAR, [0, 0, 0, 4096])), (0, 0), "a hole");
        assert_eq!(
            extent(&item(4096, 0, 2, [4096, 4096, 0, 4096])),
            (0, 0),
            "reserved"
        );
        assert_eq!(
            extent(&[&item(100, 1, INLINE, [0; 4])[..21], &[7; 40]].concat()),
            (40, 100)
        );
        for end in 0..53 {
            let _ = extent(&item(1, 1, REGULAR, [1; 4])[..end]);
        }
    }
}
