//! U-Boot's scripts (`boot.scr`): a text behind a header with check sums (U-Boot, `include/image.h`, legacy
//! image format; `mkimage -T script`).

use ka_disk::table::crc32;

use crate::names::text::Rewritten;

/// `struct legacy_img_hdr`.
const HEADER_LEN: usize = 64;
const MAGIC: [u8; 4] = [0x27, 0x05, 0x19, 0x56];
/// Offsets of its fields: the header's own check sum, the length and the check sum of the data behind it, the
/// type of image.
const HEADER_CRC_AT: usize = 4;
const LEN_AT: usize = 12;
const DATA_CRC_AT: usize = 24;
const TYPE_AT: usize = 30;
/// Type of an image that is a script (`IH_TYPE_SCRIPT`).
const SCRIPT: u8 = 6;
/// Behind the header: the length of the text, and a zero, because no other part follows.
const LENGTHS_LEN: usize = 8;

/// Returns true if a file that begins like this is such a script.
pub(crate) fn is_script(head: &[u8]) -> bool {
    head.len() > HEADER_LEN + LENGTHS_LEN && head.starts_with(&MAGIC) && head[TYPE_AT] == SCRIPT
}

/// Returns the script with another text; `None` where it is none, is damaged, or has several parts.
pub(crate) fn rewrite(bytes: &[u8], by: impl FnOnce(&[u8]) -> Rewritten) -> Option<Rewritten> {
    let text = text(bytes)?;
    let new = by(text);
    if new.bytes == text {
        return Some(Rewritten {
            bytes: bytes.to_vec(),
            ..new
        });
    }
    let len = u32::try_from(new.bytes.len()).ok()?;
    let data_len = len.checked_add(u32::try_from(LENGTHS_LEN).ok()?)?;
    let data = [&len.to_be_bytes()[..], &[0; 4], &new.bytes].concat();
    let mut header = bytes[..HEADER_LEN].to_vec();
    put(&mut header, LEN_AT, data_len);
    put(&mut header, DATA_CRC_AT, crc32(&data));
    put(&mut header, HEADER_CRC_AT, 0);
    let sum = crc32(&header);
    put(&mut header, HEADER_CRC_AT, sum);
    Some(Rewritten {
        bytes: [header, data].concat(),
        ..new
    })
}

fn text(bytes: &[u8]) -> Option<&[u8]> {
    if !is_script(bytes) {
        return None;
    }
    let mut header = bytes[..HEADER_LEN].to_vec();
    put(&mut header, HEADER_CRC_AT, 0);
    let data = bytes.get(HEADER_LEN..HEADER_LEN + get(bytes, LEN_AT)?)?;
    let is_whole = crc32(&header) as usize == get(bytes, HEADER_CRC_AT)?
        && crc32(data) as usize == get(bytes, DATA_CRC_AT)?;
    let text = data.get(LENGTHS_LEN..)?;
    let is_alone = get(data, 0)? == text.len() && get(data, 4)? == 0;
    (is_whole && is_alone).then_some(text)
}

fn get(bytes: &[u8], at: usize) -> Option<usize> {
    let field: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(field)).ok()
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns the bytes that `mkimage -A arm64 -T script -C none -n boot -d boot.cmd boot.scr` makes.
    pub(crate) fn script(text: &str) -> Vec<u8> {
        let len = u32::try_from(text.len()).unwrap();
        let data = [&len.to_be_bytes()[..], &[0; 4], text.as_bytes()].concat();
        let mut header = vec![0; HEADER_LEN];
        header[..4].copy_from_slice(&MAGIC);
        header[28..32].copy_from_slice(&[5, 22, SCRIPT, 0]);
        header[32..36].copy_from_slice(b"boot");
        put(&mut header, LEN_AT, len + 8);
        put(&mut header, DATA_CRC_AT, crc32(&data));
        let sum = crc32(&header);
        put(&mut header, HEADER_CRC_AT, sum);
        [header, data].concat()
    }

    fn with(text: &str) -> impl FnOnce(&[u8]) -> Rewritten + '_ {
        move |_| Rewritten {
            bytes: text.as_bytes().to_vec(),
            ..Rewritten::default()
        }
    }

    #[test]
    fn a_changed_script_is_as_if_it_had_been_made_from_the_new_text() {
        let old = script("setenv bootargs root=a\n");
        let new = rewrite(&old, with("setenv bootargs root=longer\n")).unwrap();
        assert_eq!(new.bytes, script("setenv bootargs root=longer\n"));
        let same = rewrite(&old, with("setenv bootargs root=a\n")).unwrap();
        assert_eq!(same.bytes, old);
    }

    #[test]
    fn what_is_damaged_or_something_else_is_left_alone() {
        let good = script("boot\n");
        for at in [0, 5, 13, 25, 30, 40, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(rewrite(&bad, with("x")).is_none(), "{at}");
        }
        for len in 0..good.len() {
            assert!(rewrite(&good[..len], with("x")).is_none(), "{len}");
        }
    }
}
