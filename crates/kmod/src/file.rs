//! A module's file: plain ELF, or what `CONFIG_MODULE_COMPRESS_*` makes of it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::KmodError;

/// The largest module there is has some MiB, one with debug information some tens.
pub const MAX_MODULE_BYTES: u64 = 512 << 20;
/// What an ELF file begins with.
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// Reads a module, decompressing it as its first bytes tell. The bytes are those that were signed: a signature at
/// their end stays valid.
///
/// # Errors
/// The file cannot be read, is damaged, larger than [`MAX_MODULE_BYTES`], or no ELF file.
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

/// Undoes gzip, xz or zstd, whichever the first bytes tell; anything else is given back as it is. At most
/// `limit` + 1 bytes come out: whoever gets more than `limit` knows that there was more.
///
/// # Errors
/// The compressed data is damaged.
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
