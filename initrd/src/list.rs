//! Content of an image: one archive or several in a row, plain or compressed, as the kernel accepts them.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read};

use ka_cpio::{Entry, Kind, Reader};

use crate::InitrdError;

/// Largest number of archives in one file. An image has two or three (early microcode, the image, the join
/// code).
const MAX_SEGMENTS: usize = 64;

/// One of the archives in an image.
#[derive(Debug)]
pub struct Segment<'a> {
    /// Packing: `cpio`, `gzip`, `xz` or `zstd`.
    pub packing: &'static str,
    /// Offset in the file, in bytes.
    pub offset: usize,
    /// Length in the file, in bytes.
    pub packed_bytes: usize,
    /// The unpacked archive.
    pub archive: Cow<'a, [u8]>,
}

/// Splits an image into its archives.
///
/// # Errors
/// Fails if a part is no archive, is damaged, or unpacks to more than `limit_bytes`.
pub fn segments(image: &[u8], limit_bytes: u64) -> Result<Vec<Segment<'_>>, InitrdError> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        // The kernel skips zeros between archives.
        at += image[at..].iter().take_while(|byte| **byte == 0).count();
        if at == image.len() {
            return Ok(found);
        }
        let number = found.len() + 1;
        let failed = |what: String| InitrdError::Segment {
            segment: number,
            offset: at,
            what,
        };
        if number > MAX_SEGMENTS {
            return Err(failed(format!("more than {MAX_SEGMENTS} archives")));
        }
        let segment = segment(&image[at..], limit_bytes).map_err(failed)?;
        let segment = Segment {
            offset: at,
            ..segment
        };
        at += segment.packed_bytes;
        found.push(segment);
    }
}

/// Returns all entries of an archive, or of several archives in one compressed segment.
///
/// # Errors
/// Fails if the archive is damaged.
pub fn entries(archive: &[u8]) -> Result<Vec<Entry>, InitrdError> {
    let mut found = Vec::new();
    let mut rest = archive;
    loop {
        let zeros = rest.iter().take_while(|byte| **byte == 0).count();
        rest = &rest[zeros..];
        if rest.is_empty() {
            return Ok(found);
        }
        let mut reader = Reader::new(rest);
        while let Some(entry) = reader.next_entry()? {
            found.push(entry);
        }
        rest = reader.into_inner();
    }
}

/// An entry as `ls -l` shows it, with the owner as numbers.
#[derive(Debug)]
pub struct Line<'a>(pub &'a Entry);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry {
            name,
            kind,
            header,
            target,
        } = self.0;
        let owner = format!("{}/{}", header.uid, header.gid);
        let size = match kind {
            Kind::CharDevice | Kind::BlockDevice => format!("{},{}", header.rdevice.0, header.rdevice.1),
            _ => header.size.to_string(),
        };
        let name = if name.is_empty() {
            Cow::Borrowed(".")
        } else {
            shown(name)
        };
        write!(
            f,
            "{} {owner:<5} {size:>10} {name}",
            mode(*kind, header.permissions())
        )?;
        match target {
            Some(target) => write!(f, " -> {}", shown(target)),
            None => Ok(()),
        }
    }
}

fn shown(bytes: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(bytes);
    if text.chars().any(char::is_control) {
        Cow::Owned(text.escape_debug().to_string())
    } else {
        text
    }
}

fn mode(kind: Kind, permissions: u32) -> String {
    let letter = match kind {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::Symlink => 'l',
        Kind::CharDevice => 'c',
        Kind::BlockDevice => 'b',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
    };
    let mut text: Vec<char> = std::iter::once(letter)
        .chain("rwxrwxrwx".chars().enumerate().map(|(at, letter)| {
            if permissions & (0o400 >> at) == 0 {
                '-'
            } else {
                letter
            }
        }))
        .collect();
    for (bit, at, with, without) in [
        (0o4000, 3, 's', 'S'),
        (0o2000, 6, 's', 'S'),
        (0o1000, 9, 't', 'T'),
    ] {
        if permissions & bit != 0 {
            text[at] = if text[at] == 'x' { with } else { without };
        }
    }
    text.into_iter().collect()
}

/// Reads the archive at the start of `bytes`. The result has its length.
fn segment(bytes: &[u8], limit: u64) -> Result<Segment<'_>, String> {
    let (packing, mut rest) = match bytes {
        [b'0', b'7', b'0', b'7', b'0', b'1' | b'2', ..] => return plain(bytes),
        [0x1f, 0x8b, ..] => ("gzip", bytes),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => ("xz", bytes),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ("zstd", bytes),
        _ => return Err("neither a cpio archive nor one in gzip, xz or zstd".to_owned()),
    };
    // Each decoder reads from `rest` itself and stops at its own end.
    let archive = match packing {
        "gzip" => drain(flate2::bufread::GzDecoder::new(&mut rest), limit),
        "xz" => drain(liblzma::bufread::XzDecoder::new(&mut rest), limit),
        _ => zstd::Decoder::with_buffer(&mut rest).and_then(|decoder| drain(decoder.single_frame(), limit)),
    };
    let archive = archive.map_err(|err| format!("{packing}: {err}"))?;
    Ok(Segment {
        packing,
        offset: 0,
        packed_bytes: bytes.len() - rest.len(),
        archive: Cow::Owned(archive),
    })
}

fn plain(bytes: &[u8]) -> Result<Segment<'_>, String> {
    let mut reader = Reader::new(bytes);
    while reader.next_entry().map_err(|err| err.to_string())?.is_some() {}
    let packed_bytes = bytes.len() - reader.into_inner().len();
    Ok(Segment {
        packing: "cpio",
        offset: 0,
        packed_bytes,
        archive: Cow::Borrowed(&bytes[..packed_bytes]),
    })
}

fn drain(reader: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut archive = Vec::new();
    reader.take(limit.saturating_add(1)).read_to_end(&mut archive)?;
    if archive.len() as u64 > limit {
        return Err(io::Error::other(format!("it unpacks to more than {limit} bytes")));
    }
    Ok(archive)
}
