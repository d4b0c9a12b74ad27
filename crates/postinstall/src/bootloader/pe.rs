//! The PE header of an EFI program, the signature that it may carry (PE/COFF specification, section "Optional
//! Header Data Directories"), and the place of a section ("Section Table"). Not here: the check of the
//! signature, which the firmware does.

use std::ops::Range;

use crate::files::Files;

/// The offset at which the header's place is stored.
const HEADER_AT: usize = 0x3c;
/// Length of the signature and the COFF header before the optional header.
const COFF_LEN: usize = 24;
/// The data directories of a 64-bit image, and of a 32-bit one, from the optional header's start.
const DIRECTORIES: [(u16, usize); 2] = [(0x20b, 112), (0x10b, 96)];
/// The certificate table is the fifth directory of eight bytes.
const CERTIFICATES_AT: usize = 4 * 8;

/// Of each entry of the section table.
const SECTION_LEN: usize = 40;

/// True if the image has a certificate table that is not empty.
pub(super) fn is_signed(image: &[u8]) -> bool {
    certificates_len(image).is_some_and(|len| len > 0)
}

/// Returns the place in the file of the section of this name (of 8 bytes, with zeros), by the file's
/// beginning.
pub(crate) fn section(head: &[u8], name: [u8; 8]) -> Option<Range<u64>> {
    let optional = optional_header(head)?;
    let count = usize::from(u16_at(head, optional - 18)?);
    let table = optional + usize::from(u16_at(head, optional - 4)?);
    let entries = head.get(table..)?.chunks_exact(SECTION_LEN).take(count);
    let entry = entries.into_iter().find(|entry| entry.starts_with(&name))?;
    // The section may be padded in the file, and longer in memory.
    let len = u32_at(entry, 8)?.min(u32_at(entry, 16)?);
    let start = u64::from(u32_at(entry, 20)?);
    Some(start..start + u64::from(len))
}

/// Headers with their table of sections; shim and GRUB have a KiB of them. Bytes.
const HEAD_LEN: usize = 4096;
/// A dozen lines; shim's own limit is a page. Bytes.
const MAX_SBAT: u64 = 16 << 10;

/// Returns the components and generations in a program's section `.sbat` (shim's `SBAT.md`), without the line
/// that is of the format itself; none where there is no such section.
pub(crate) fn sbat(files: &dyn Files, path: &str) -> Vec<(String, u32)> {
    let part = |offset, len| {
        files
            .read_part(path, offset, len)
            .ok()
            .flatten()
            .unwrap_or_default()
    };
    let Some(place) = section(&part(0, HEAD_LEN), *b".sbat\0\0\0") else {
        return Vec::new();
    };
    let len = (place.end - place.start).min(MAX_SBAT);
    let text = part(place.start, usize::try_from(len).unwrap_or_default());
    sbat_lines(&text)
}

/// Returns the lines `shim,4,UEFI shim,…`: component, generation, and for an image its maker.
pub(crate) fn sbat_lines(text: &[u8]) -> Vec<(String, u32)> {
    let text = String::from_utf8_lossy(text);
    let lines = text.trim_end_matches('\0').lines();
    let fields = lines.filter_map(|line| {
        let mut fields = line.split(',');
        let (component, generation) = (fields.next()?.trim(), fields.next()?.trim().parse().ok()?);
        Some((component.to_owned(), generation))
    });
    fields.filter(|(component, _)| component != "sbat").collect()
}

/// Returns the offset of the optional header, behind signature and COFF header.
fn optional_header(image: &[u8]) -> Option<usize> {
    let header = usize::try_from(u32_at(image, HEADER_AT)?).ok()?;
    if image.get(header..header.checked_add(4)?)? != b"PE\0\0" {
        return None;
    }
    header.checked_add(COFF_LEN)
}

fn certificates_len(image: &[u8]) -> Option<u32> {
    let optional = optional_header(image)?;
    let magic = u16_at(image, optional)?;
    let (_, directories) = DIRECTORIES.into_iter().find(|(known, _)| *known == magic)?;
    u32_at(image, optional + directories + CERTIFICATES_AT + 4)
}

fn u16_at(image: &[u8], at: usize) -> Option<u16> {
    let bytes = image.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(bytes.try_into().ok()?))
}

fn u32_at(image: &[u8], at: usize) -> Option<u32> {
    let bytes = image.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns a header with nothing behind it.
    pub(in super::super) fn image(certificates_len: u32) -> Vec<u8> {
        let mut image = vec![0; 512];
        image[HEADER_AT] = 0x80;
        image[0x80..0x84].copy_from_slice(b"PE\0\0");
        image[0x98..0x9a].copy_from_slice(&0x20b_u16.to_le_bytes());
        let at = 0x98 + 112 + CERTIFICATES_AT + 4;
        image[at..at + 4].copy_from_slice(&certificates_len.to_le_bytes());
        image
    }

    #[test]
    fn a_certificate_table_makes_an_image_signed() {
        assert!(is_signed(&image(1500)));
        assert!(!is_signed(&image(0)));
    }

    #[test]
    fn what_is_no_image_is_not_signed_at_any_length() {
        let whole = image(1500);
        for len in 0..whole.len() {
            let _ = is_signed(&whole[..len]);
            assert_eq!(section(&whole[..len], *b".cmdline"), None);
        }
        assert!(!is_signed(b"MZ"));
        let mut far = vec![0xff; 512];
        far[..2].copy_from_slice(b"MZ");
        assert!(!is_signed(&far));
    }
}
