//! Compression of whole images. The kernel (stage1) or the client (stage2) decompresses them.

use std::io::{self, Write as _};

use crate::InitrdError;

/// zstd level. It takes seconds, while 19 takes half a minute of two processors for an image an eighth
/// smaller, and the operator waits for a new server to build these images. Its window of 4 MiB is no burden
/// for the smallest node.
const ZSTD_LEVEL: i32 = 12;
/// Number of worker threads. It is constant, because the bytes must not depend on the number of processors.
const ZSTD_WORKERS: u32 = 4;
/// xz level. Its dictionary is the largest that a kernel before 5.9 unpacks on a small node without trouble.
const XZ_LEVEL: u32 = 9;

/// Compression methods of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Zstd,
    Xz,
    Gzip,
}

impl Compression {
    /// Compresses an archive. The result is padded with zeros, which the kernel skips, so that another
    /// archive can follow directly.
    pub(crate) fn pack(self, archive: &[u8]) -> Result<Vec<u8>, InitrdError> {
        let packed = match self {
            Self::Zstd => zstd_pack(archive),
            Self::Xz => xz_pack(archive),
            Self::Gzip => gzip_pack(archive),
        };
        let mut packed = packed.map_err(InitrdError::Compress)?;
        packed.resize(packed.len().next_multiple_of(ka_cpio::ALIGNMENT), 0);
        Ok(packed)
    }
}

fn zstd_pack(archive: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
    encoder.include_contentsize(true)?;
    encoder.set_pledged_src_size(Some(archive.len() as u64))?;
    encoder.multithread(ZSTD_WORKERS)?;
    encoder.write_all(archive)?;
    encoder.finish()
}

fn xz_pack(archive: &[u8]) -> io::Result<Vec<u8>> {
    // The kernel's decoder checks only CRC32 (Documentation/staging/xz.rst).
    let stream = liblzma::stream::Stream::new_easy_encoder(XZ_LEVEL, liblzma::stream::Check::Crc32)
        .map_err(io::Error::other)?;
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(archive)?;
    encoder.finish()
}

fn gzip_pack(archive: &[u8]) -> io::Result<Vec<u8>> {
    // Without name and time the header is always the same.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(archive)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packing_is_undone_repeatable_and_aligned() {
        let archive: Vec<u8> = (0..300_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        for compression in [Compression::Zstd, Compression::Xz, Compression::Gzip] {
            let packed = compression.pack(&archive).unwrap();
            assert_eq!(packed, compression.pack(&archive).unwrap());
            assert_eq!(packed.len() % 4, 0);
            assert!(packed.len() < archive.len() / 2);
            let segments = crate::list::segments(&packed, 64 << 20).unwrap();
            assert_eq!(segments.len(), 1);
            assert_eq!(segments[0].archive.as_ref(), archive);
        }
    }
}
