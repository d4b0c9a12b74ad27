//! CRC-32 as GPT uses it (ISO 3309, UEFI 2.10 section 4.2), bit by bit.
//!
//! A table, or a script of U-Boot's, has at most a few hundred KiB and is written once a run: speed does not
//! matter here.

/// The reflected polynomial of ISO 3309.
const POLYNOMIAL: u32 = 0xedb8_8320;

/// Returns the check sum of `bytes`.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| {
        if crc & 1 == 1 {
            crc >> 1 ^ POLYNOMIAL
        } else {
            crc >> 1
        }
    };
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_standard_comes_out() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
