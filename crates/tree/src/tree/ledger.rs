//! The ledger of a restore, kept for the comparison with the tree that is read back: 24 bytes for each entry.
//!
//! A [`Line`] is the same for an entry of the stream and for the same entry read from a disk, whatever the
//! layout there. Holes and written zeros are equal. A file may come whole or in extents, and its names in any
//! order. So it is no part of the stream's digest. `docs/tree-format.md` §7.

use std::fmt;
use std::path::Path;
use std::sync::Mutex;

use xxhash_rust::xxh3::xxh3_64;

use super::MAX_OPEN_LINKS;
use crate::meta::{Meta, Subvolume, xattrs};
use crate::record::Kind;
use crate::sync::lock;

/// Entries that are remembered: 400 MB of lines. A tree of more cannot be read back.
pub(crate) const MAX_LINES: usize = 1 << 24;
/// Content is compared in pieces of so many bytes: no file system has smaller blocks, so every extent and
/// every hole begins at a multiple of it.
const PIECE_BYTES: usize = 512;
/// btrfs sets it on its own when content does not shrink (`FS_NOCOMP_FL`), perhaps long after the write.
const NOT_COMPARED_FLAGS: u32 = 0x400;
/// The file in which a kernel says that it labels files itself.
const SELINUX: &str = "/sys/fs/selinux/enforce";
/// The metadata hash of an entry whose metadata is not compared.
const NO_META: u64 = 0;

/// The record of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    /// The hash of its place.
    pub(super) key: u64,
    pub(super) facts: Facts,
}

/// The facts of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Facts {
    /// Over its metadata; [`NO_META`] when its file system cannot hold all of that.
    pub(super) meta: u64,
    /// Over kind, size and content; for a directory the number of its entries.
    pub(super) content: u64,
}

/// Returns a hash that names a place. It has a quarter of the digest's length, because lines are short.
pub(super) fn key(place: &[u8; 32]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&place[..8]);
    u64::from_le_bytes(first)
}

/// The comparison of metadata on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    /// True to ignore labels. A kernel with SELinux gives every file a label, also files that came without
    /// one.
    skip_labels: bool,
}

impl Rule {
    pub(super) fn here() -> Self {
        Self {
            skip_labels: Path::new(SELINUX).exists(),
        }
    }

    /// Over everything that a record says about an entry but its name and content.
    pub(super) fn meta(self, kind: Kind, meta: &Meta<'_>) -> u64 {
        let mut bytes = Vec::with_capacity(64);
        bytes.push(class(kind));
        bytes.extend_from_slice(&shown_mode(meta).to_le_bytes());
        for number in [
            meta.uid,
            meta.gid,
            meta.flags & !NOT_COMPARED_FLAGS,
            meta.project,
            meta.mtime.nanos,
            meta.atime.nanos,
        ] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for seconds in [meta.mtime.seconds, meta.atime.seconds] {
            bytes.extend_from_slice(&seconds.to_le_bytes());
        }
        bytes.extend_from_slice(&self.attributes(meta).to_le_bytes());
        // A mounted subvolume's root is no subvolume where it is a file system of its own.
        bytes.push(match (kind, meta.subvolume) {
            (Kind::Root, _) | (_, Subvolume::No) => 0,
            (_, Subvolume::Writable) => 1,
            (_, Subvolume::ReadOnly) => 2,
        });
        xxh3_64(&bytes).max(1)
    }

    /// In whatever order a file system lists them.
    fn attributes(self, meta: &Meta<'_>) -> u64 {
        let counted = |name: &[u8]| !(self.skip_labels && name == b"security.selinux");
        xattrs(meta.xattrs)
            .flatten()
            .filter(|(name, _)| counted(name))
            .fold(0, |sum: u64, (name, value)| {
                let pair = xxh3_64(name).rotate_left(1) ^ xxh3_64(value);
                sum.wrapping_add(xxh3_64(&pair.to_le_bytes()))
            })
    }
}

/// A symbolic link has no mode of its own.
fn shown_mode(meta: &Meta<'_>) -> u32 {
    const TYPE: u32 = 0o170_000;
    const LINK: u32 = 0o120_000;
    if meta.mode & TYPE == LINK { LINK } else { meta.mode }
}

/// A file is a file, whole or in extents; a root is a directory.
const fn class(kind: Kind) -> u8 {
    match kind {
        Kind::Big => Kind::File as u8,
        Kind::Root => Kind::Dir as u8,
        other => other as u8,
    }
}

/// Returns a part of a file's content; parts may be added in any order, and zeros add nothing.
pub(super) fn content_sum(offset: u64, content: &[u8]) -> u64 {
    const ZEROS: [u8; PIECE_BYTES] = [0; PIECE_BYTES];
    let pieces = content.chunks(PIECE_BYTES).zip((offset / PIECE_BYTES as u64)..);
    pieces
        .filter(|(piece, _)| **piece != ZEROS[..piece.len()])
        .fold(0, |sum: u64, (piece, number)| {
            sum.wrapping_add(xxh3_64(piece).wrapping_mul(scatter(number) | 1))
        })
}

/// Returns a number of its own for each place (SplitMix64's finisher, Steele and others 2014): two pieces
/// that change places do not have the same sum.
const fn scatter(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Over kind, size and the sum of all parts.
pub(super) fn content(kind: Kind, size: u64, sum: u64) -> u64 {
    let mut bytes = [0; 17];
    bytes[0] = class(kind);
    bytes[1..9].copy_from_slice(&size.to_le_bytes());
    bytes[9..].copy_from_slice(&sum.to_le_bytes());
    xxh3_64(&bytes)
}

/// Over what a record of one piece holds: a small file, a link's target, a device's numbers.
pub(super) fn whole(kind: Kind, bytes: &[u8]) -> u64 {
    content(kind, bytes.len() as u64, content_sum(0, bytes))
}

/// The entries that a restore has written, by place. Made by [`super::restore`] on request.
pub struct Ledger {
    pub(super) rule: Rule,
    lines: Vec<Line>,
}

/// Short, because millions of lines help no reader.
impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ledger({} entries)", self.lines.len())
    }
}

impl Ledger {
    /// Entries in it, directories included.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.lines.len()
    }

    /// Returns the number of entries whose metadata is not compared: their file system cannot hold all of it.
    #[must_use]
    pub fn content_only(&self) -> usize {
        let without = |line: &&Line| line.facts.meta == NO_META;
        self.lines.iter().filter(without).count()
    }

    pub(super) fn find(&self, key: u64) -> Option<Facts> {
        let at = self.lines.binary_search_by_key(&key, |line| line.key).ok()?;
        self.lines.get(at).map(|line| line.facts)
    }
}

impl Facts {
    /// True if the metadata read back is the written one.
    pub(super) const fn has_meta(self, found: u64) -> bool {
        self.meta == NO_META || self.meta == found
    }
}

/// Collects the lines of all writers.
#[derive(Debug)]
pub(super) struct Keeper {
    rule: Rule,
    kept: Mutex<LedgerLines>,
}

#[derive(Debug, Default)]
struct LedgerLines {
    lines: Vec<Line>,
    /// Places of which not all metadata could be held.
    inexact: Vec<u64>,
    /// More names of a file, and its first.
    names: Vec<(u64, u64)>,
    is_full: bool,
}

impl Keeper {
    pub(super) fn new() -> Self {
        Self {
            rule: Rule::here(),
            kept: Mutex::default(),
        }
    }

    /// Of an entry on a file system that has no owners and modes of its own (`is_poor`) only content is
    /// compared.
    pub(super) fn meta(&self, is_poor: bool, kind: Kind, meta: &Meta<'_>) -> u64 {
        if is_poor {
            NO_META
        } else {
            self.rule.meta(kind, meta)
        }
    }

    /// Records the facts of the entry at `key`.
    pub(super) fn note(&self, key: u64, facts: Facts) {
        let mut kept = lock(&self.kept);
        if kept.lines.len() < MAX_LINES {
            kept.lines.push(Line { key, facts });
        } else {
            kept.is_full = true;
        }
    }

    /// One more name of the file whose first name is at `first`.
    pub(super) fn note_name(&self, key: u64, first: u64, facts: Facts) {
        self.note(key, facts);
        let mut kept = lock(&self.kept);
        if kept.names.len() < MAX_LINES {
            kept.names.push((key, first));
        }
    }

    /// The target does not hold everything of the entry at `key`.
    pub(super) fn inexact(&self, key: u64) {
        let mut kept = lock(&self.kept);
        // The same entry may be refused several things.
        if kept.inexact.len() < MAX_LINES + MAX_OPEN_LINKS {
            kept.inexact.push(key);
        } else {
            kept.is_full = true;
        }
    }

    /// Returns the whole ledger. `None` if it was too much to keep.
    pub(super) fn into_ledger(self) -> Option<Ledger> {
        let rule = self.rule;
        let mut kept = self
            .kept
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if kept.is_full {
            return None;
        }
        kept.inexact.sort_unstable();
        let more: Vec<u64> = kept
            .names
            .iter()
            .filter(|(_, first)| kept.inexact.binary_search(first).is_ok())
            .map(|(key, _)| *key)
            .collect();
        kept.inexact.extend(more);
        kept.inexact.sort_unstable();
        kept.lines.sort_unstable();
        for line in &mut kept.lines {
            if kept.inexact.binary_search(&line.key).is_ok() {
                line.facts.meta = NO_META;
            }
        }
        kept.lines.shrink_to_fit();
        Some(Ledger {
            rule,
            lines: kept.lines,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::put_xattr;

    fn facts(meta: u64) -> Facts {
        Facts { meta, content: 1 }
    }

    #[test]
    fn a_hole_is_as_good_as_zeros_and_order_does_not_matter() {
        let mut bytes = vec![0; 3000];
        bytes[1024..1600].fill(7);
        let whole = content_sum(0, &bytes);
        let parts = content_sum(1536, &bytes[1536..]).wrapping_add(content_sum(1024, &bytes[1024..1536]));
        assert_eq!(whole, parts, "with the hole in front left out");
        assert_ne!(whole, content_sum(512, &bytes), "at another place");
        let mut swapped = bytes.clone();
        swapped[1024..1536].fill(8);
        assert_ne!(whole, content_sum(0, &swapped));
    }

    #[test]
    fn two_pieces_that_change_places_are_noticed() {
        let (a, b) = ([1; PIECE_BYTES], [2; PIECE_BYTES]);
        assert_ne!(content_sum(0, &[a, b].concat()), content_sum(0, &[b, a].concat()));
    }

    #[test]
    fn every_piece_of_metadata_counts_and_the_order_of_attributes_does_not() {
        let rule = Rule { skip_labels: false };
        let list = |names: [&[u8]; 2]| {
            let mut list = Vec::new();
            for name in names {
                put_xattr(&mut list, name, name);
            }
            list
        };
        let (forward, backward) = (list([b"user.a", b"user.b"]), list([b"user.b", b"user.a"]));
        let meta = Meta {
            mode: 0o100_644,
            xattrs: &forward,
            ..Meta::default()
        };
        let value = rule.meta(Kind::File, &meta);
        assert_eq!(
            value,
            rule.meta(
                Kind::Big,
                &Meta {
                    xattrs: &backward,
                    ..meta
                }
            )
        );
        for other in [
            Meta {
                mode: 0o100_600,
                ..meta
            },
            Meta { uid: 1, ..meta },
            Meta { gid: 1, ..meta },
            Meta { flags: 0x10, ..meta },
            Meta { project: 1, ..meta },
            Meta { xattrs: &[], ..meta },
            Meta {
                mtime: crate::meta::Time { seconds: 0, nanos: 1 },
                ..meta
            },
            Meta {
                atime: crate::meta::Time { seconds: 1, nanos: 0 },
                ..meta
            },
        ] {
            assert_ne!(value, rule.meta(Kind::File, &other), "{other:?}");
        }
        assert_eq!(value, rule.meta(Kind::File, &Meta { flags: 0x400, ..meta }));
    }

    #[test]
    fn what_a_file_system_cannot_hold_is_compared_by_content_under_all_its_names() {
        let keeper = Keeper::new();
        keeper.note(5, facts(50));
        keeper.note(3, facts(30));
        keeper.note_name(9, 5, facts(50));
        keeper.inexact(5);
        keeper.inexact(77);
        let ledger = keeper.into_ledger().unwrap();
        assert_eq!((ledger.entries(), ledger.content_only()), (3, 2));
        assert!(ledger.find(9).unwrap().has_meta(1));
        assert!(!ledger.find(3).unwrap().has_meta(1));
        assert!(ledger.find(3).unwrap().has_meta(30));
        assert_eq!(ledger.find(4), None);
    }
}
