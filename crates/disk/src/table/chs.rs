//! Cylinder, head and sector: three bytes that only `sfdisk --verify` and old BIOSes still read, in the
//! geometry that all of them assume.

/// Heads and sectors per track of the geometry that every BIOS with LBA translation reports.
const HEADS: u64 = 255;
const SECTORS_PER_TRACK: u64 = 63;

/// The last cylinder that ten bits can name.
const LAST_CYLINDER: u64 = 1023;

/// Returns the three bytes for a sector; beyond cylinder 1023 the largest value, as fdisk writes it.
pub(super) fn encode(lba: u64) -> [u8; 3] {
    let cylinder = lba / (HEADS * SECTORS_PER_TRACK);
    if cylinder > LAST_CYLINDER {
        return [0xfe, 0xff, 0xff];
    }
    let head = lba / SECTORS_PER_TRACK % HEADS;
    let sector = lba % SECTORS_PER_TRACK + 1;
    let low = |value: u64| value.to_le_bytes()[0];
    // The two high bits of the cylinder share a byte with the sector.
    [low(head), low(sector | cylinder >> 2 & 0xc0), low(cylinder)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mebibyte_is_head_32_sector_33() {
        assert_eq!(encode(2048), [0x20, 0x21, 0x00]);
    }

    #[test]
    fn the_last_cylinder_is_the_limit() {
        assert_eq!(encode(1024 * 255 * 63 - 1), [0xfe, 0xff, 0xff]);
        assert_eq!(encode(1024 * 255 * 63), [0xfe, 0xff, 0xff]);
        assert_eq!(encode(1023 * 255 * 63), [0x00, 0xc1, 0xff]);
    }
}
