//! Whether an EFI program carries a signature: the certificate table of its PE header (PE/COFF specification, section
//! "Optional Header Data Directories"). Not here: whether it is a good one, which is the firmware's to say.

/// Where the header's place stands.
const HEADER_AT: usize = 0x3c;
/// Length of the signature and the COFF header before the optional header.
const COFF_LEN: usize = 24;
/// The data directories of a 64-bit image, and of a 32-bit one, from the optional header's start.
const DIRECTORIES: [(u16, usize); 2] = [(0x20b, 112), (0x10b, 96)];
/// The certificate table is the fifth directory of eight bytes.
const CERTIFICATES_AT: usize = 4 * 8;

/// Whether the image has a certificate table that is not empty.
pub(super) fn is_signed(image: &[u8]) -> bool {
    certificates_len(image).is_some_and(|len| len > 0)
}

fn certificates_len(image: &[u8]) -> Option<u32> {
    let header = usize::try_from(u32_at(image, HEADER_AT)?).ok()?;
    if image.get(header..header.checked_add(4)?)? != b"PE\0\0" {
        return None;
    }
    let optional = header.checked_add(COFF_LEN)?;
    let magic = u16::from_le_bytes(image.get(optional..optional + 2)?.try_into().ok()?);
    let (_, directories) = DIRECTORIES.into_iter().find(|(known, _)| *known == magic)?;
    u32_at(image, optional + directories + CERTIFICATES_AT + 4)
}

fn u32_at(image: &[u8], at: usize) -> Option<u32> {
    let bytes = image.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A header with nothing behind it.
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
        }
        assert!(!is_signed(b"MZ"));
        let mut far = vec![0xff; 512];
        far[..2].copy_from_slice(b"MZ");
        assert!(!is_signed(&far));
    }
}
