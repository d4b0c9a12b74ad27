//! The hashes that both sides make, of an entry's place and of its contents. `docs/tree-format.md` §4.

use xxhash_rust::xxh3::xxh3_128;

use crate::record::Kind;

/// The subject of a hash; different subjects never have equal input.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(crate) enum Domain {
    Root = 1,
    Path = 2,
    Entry = 3,
    Extent = 4,
    FileEnd = 5,
    RawData = 6,
    RawSize = 7,
}

/// Returns the place of a source's root.
pub(crate) fn root_hash(mount_id: u32) -> [u8; 32] {
    hash(Domain::Root, &[0; 32], &[&mount_id.to_le_bytes()])
}

/// Returns the place of the entry `name` in the directory at `parent`.
pub(crate) fn dir_hash(parent: &[u8; 32], name: &[u8]) -> [u8; 32] {
    hash(Domain::Path, parent, &[name])
}

/// Returns the hash of an entry: its record's kind, the record's fields, and its content (or a link's
/// target).
///
/// Content goes in as XXH3-128. BLAKE3 over all of it was a fifth of all processor time of a copy, on both
/// sides. No attacker can come in between here, because the transport's keyed hash covers the same bytes.
pub(crate) fn entry_hash(kind: Kind, place: &[u8; 32], head: &[u8], content: &[u8]) -> [u8; 32] {
    hash(
        Domain::Entry,
        place,
        &[&[kind as u8], head, &content_hash(content)],
    )
}

/// Returns a piece of content at an offset.
pub(crate) fn piece_hash(domain: Domain, place: &[u8; 32], offset: u64, content: &[u8]) -> [u8; 32] {
    hash(domain, place, &[&offset.to_le_bytes(), &content_hash(content)])
}

fn content_hash(content: &[u8]) -> [u8; 16] {
    xxh3_128(content).to_le_bytes()
}

/// BLAKE3 over the domain, a place and further parts, of which only one may vary in length.
pub(crate) fn hash(domain: Domain, place: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[domain as u8]).update(place);
    parts.iter().for_each(|part| {
        hasher.update(part);
    });
    *hasher.finalize().as_bytes()
}
