//! The file of a module: plain ELF, or compressed by `CONFIG_MODULE_COMPRESS_*`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::KmodError;

/// Largest module accepted, in bytes. Real modules have some MiB, those with debug information some tens.
pub const MAX_MODULE_BYTES: u64 = 512 << 20;
/// First bytes of an ELF file.
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// Reads a module. Decompresses it if its first bytes are those of gzip, xz or zstd. The result is what was
/// signed, so a signature at its end stays valid.
///
/// # Errors
/// Fails if the file cannot be read, is damaged, is larger than [`MAX_MODULE_BYTES`], or is no ELF file.
pub fn read_module(path: &Path) -> Result<Vec<u8>, KmodError> {
    let read_error = |source| KmodError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(read_error)?;
    let mut bytes = Vec::new();
    file.take(MAX_MODULE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(read_error)?;
    let plain = decompress(&bytes, MAX_MODULE_BYTES).map_err(|err| KmodError::Module {
        path: path.to_owned(),
        what: format!("cannot be decompressed: {err}"),
    })?;
    if plain.len() as u64 > MAX_MODULE_BYTES {
        return Err(KmodError::TooLarge {
            path: path.to_owned(),
            limit: MAX_MODULE_BYTES,
        });
    }
    if !plain.starts_with(ELF_MAGIC) {
        return Err(KmodError::Module {
            path: path.to_owned(),
            what: "is no ELF file, nor one in xz, zstd or gzip".to_owned(),
        });
    }
    Ok(plain)
}

/// Decompresses gzip, xz or zstd, as the first bytes tell. Other data is returned unchanged. At most one
/// byte more than `limit` is decompressed, so a result longer than `limit` means that there was more.
///
/// # Errors
/// Fails if the compressed data is damaged.
pub fn decompress(bytes: &[u8], limit: u64) -> io::Result<Vec<u8>> {
    match bytes {
        [0x1f, 0x8b, ..] => drain(flate2::read::MultiGzDecoder::new(bytes), limit),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            drain(liblzma::read::XzDecoder::new_multi_decoder(bytes), limit)
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => drain(zstd::stream::read::Decoder::with_buffer(bytes)?, limit),
        _ => Ok(bytes.to_vec()),
    }
}

fn drain(reader: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    reader.take(limit.saturating_add(1)).read_to_end(&mut plain)?;
    Ok(plain)
}
