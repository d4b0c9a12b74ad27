//! What both sides hash: where an entry lies and what it is. `docs/image-format.md` §4.

/// What a hash is about; different things never have equal input.
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

/// The place of a source's root.
pub(crate) fn root_hash(mount_id: u32) -> [u8; 32] {
    hash(Domain::Root, &[0; 32], &[&mount_id.to_le_bytes()])
}

/// The place of the entry `name` in the directory at `parent`.
pub(crate) fn dir_hash(parent: &[u8; 32], name: &[u8]) -> [u8; 32] {
    hash(Domain::Path, parent, &[name])
}

/// BLAKE3 over the domain, a place and further parts, of which only the last may vary in length.
pub(crate) fn hash(domain: Domain, place: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[domain as u8]).update(place);
    parts.iter().for_each(|part| {
        hasher.update(part);
    });
    *hasher.finalize().as_bytes()
}
