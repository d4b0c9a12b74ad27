//! The join code in a boot image. It makes the image a secret.

use ka_cpio::{ALIGNMENT, Writer};

/// Path of the join code for `/init`.
const JOIN_FILE: &str = "etc/ka/join";

/// Makes a small uncompressed archive with the join code, readable only by root, for the end of a stage1
/// image: the kernel unpacks concatenated archives one after another. Its length is a multiple of four, and
/// its offset in the image must be one too.
#[must_use]
pub fn join_member(code: &str) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    let line = format!("{}\n", code.trim());
    // Writing constant names to memory cannot fail.
    writer.directory("etc", 0o755).ok();
    writer.directory("etc/ka", 0o700).ok();
    writer.file(JOIN_FILE, 0o600, line.as_bytes()).ok();
    writer.finish().unwrap_or_default()
}

/// Appends the join code to an image, at an offset that is a multiple of four.
pub fn append_join(image: &mut Vec<u8>, code: &str) {
    image.resize(image.len().next_multiple_of(ALIGNMENT), 0);
    image.extend_from_slice(&join_member(code));
}
