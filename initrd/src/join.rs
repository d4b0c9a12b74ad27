//! The join code in a boot image: what makes the image a secret.

use ka_cpio::{ALIGNMENT, Writer};

/// Where `/init` looks for it.
const JOIN_FILE: &str = "etc/ka/join";

/// A small uncompressed archive with the join code, readable by root alone, to follow a stage1 image: the kernel
/// unpacks concatenated archives one after another. Its length is a multiple of four; so must be its place.
#[must_use]
pub fn join_member(code: &str) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    let line = format!("{}\n", code.trim());
    // Constant names into memory: nothing here can fail.
    writer.directory("etc", 0o755).ok();
    writer.directory("etc/ka", 0o700).ok();
    writer.file(JOIN_FILE, 0o600, line.as_bytes()).ok();
    writer.finish().unwrap_or_default()
}

/// Appends the join code to an image, at a multiple of four.
pub fn append_join(image: &mut Vec<u8>, code: &str) {
    image.resize(image.len().next_multiple_of(ALIGNMENT), 0);
    image.extend_from_slice(&join_member(code));
}
