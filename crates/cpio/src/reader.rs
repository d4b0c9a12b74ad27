//! Reader of archives. It checks every number before it is used, and allocates nothing on the word of a
//! header alone.

use std::io::{self, Read};

use crate::header::{HEADER_BYTES, Header, Kind};
use crate::{ALIGNMENT, CpioError, MAX_LINK_BYTES, MAX_NAME_BYTES, TRAILER};

/// Limits of a reader.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest number of entries. A stage2 has some thousands.
    pub entries: u64,
    /// Largest total length of data, in bytes.
    pub bytes: u64,
}

impl Default for Limits {
    /// Limits far above any initramfs, and far below what would exhaust a program that lists it.
    fn default() -> Self {
        Self {
            entries: 1 << 20,
            bytes: 16 << 30,
        }
    }
}

/// One entry. Its data is read from the [`Reader`], before the next entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path: relative, without `.`, `..` or empty components. Empty for the root itself (`.`).
    pub name: Vec<u8>,
    /// Type of the entry.
    pub kind: Kind,
    /// Numbers of the header.
    pub header: Header,
    /// Target of a symbolic link, not empty and without NUL.
    pub target: Option<Vec<u8>>,
}

/// Reads one archive, up to its trailer. After that, [`Reader::into_inner`] is positioned behind the
/// trailer's padding.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    limits: Limits,
    offset: u64,
    entries: u64,
    bytes: u64,
    /// Length of the current entry's unread data; the padding behind it is in `padding`.
    left: u64,
    padding: u64,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Creates a reader with [`Limits::default`] for an archive at the start of `input`.
    pub fn new(input: R) -> Self {
        Self::with_limits(input, Limits::default())
    }

    /// Creates a reader with other limits for an archive at the start of `input`.
    pub const fn with_limits(input: R, limits: Limits) -> Self {
        Self {
            input,
            limits,
            offset: 0,
            entries: 0,
            bytes: 0,
            left: 0,
            padding: 0,
            ended: false,
        }
    }

    /// Returns the next entry; `None` at the trailer. Unread data of the entry before is skipped.
    ///
    /// # Errors
    /// Fails if the archive is damaged, exceeds the limits, or cannot be read.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, CpioError> {
        if self.ended {
            return Ok(None);
        }
        self.skip_data()?;
        let at = self.offset;
        let mut bytes = [0; HEADER_BYTES];
        self.fill(&mut bytes)?;
        let header = Header::decode(&bytes).map_err(|what| damaged(at, what))?;
        let raw_name = self.name(at, &header)?;
        if raw_name == TRAILER.as_bytes() {
            self.ended = true;
            return Ok(None);
        }
        self.count(at, &header)?;
        self.left = u64::from(header.size);
        self.padding = padding_after(self.left);
        let name =
            relative(&raw_name).map_err(|what| damaged(at, format!("{}: {what}", shown(&raw_name))))?;
        let Some(kind) = Kind::of_mode(header.mode) else {
            let what = format!("{}: mode {:o} is of no file type", shown(&raw_name), header.mode);
            return Err(damaged(at, what));
        };
        let target = match kind {
            Kind::Symlink => Some(self.target(at, &raw_name)?),
            Kind::File => None,
            _ if header.size != 0 => {
                return Err(damaged(at, format!("{}: only files have data", shown(&raw_name))));
            }
            _ => None,
        };
        Ok(Some(Entry {
            name,
            kind,
            header,
            target,
        }))
    }

    /// Returns all data of the current entry.
    ///
    /// # Errors
    /// Fails if the archive ends too early or cannot be read.
    pub fn data(&mut self) -> Result<Vec<u8>, CpioError> {
        let (at, expected) = (self.offset, self.left);
        let mut data = Vec::new();
        self.read_to_end(&mut data)
            .map_err(|source| CpioError::Io { offset: at, source })?;
        if data.len() as u64 != expected {
            return Err(ends_early(at));
        }
        Ok(data)
    }

    /// Number of bytes of the archive read so far.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the input.
    pub fn into_inner(self) -> R {
        self.input
    }

    fn count(&mut self, at: u64, header: &Header) -> Result<(), CpioError> {
        self.entries += 1;
        self.bytes += u64::from(header.size);
        let too_much = |limit, what| CpioError::TooMuch {
            offset: at,
            limit,
            what,
        };
        if self.entries > self.limits.entries {
            return Err(too_much(self.limits.entries, "entries"));
        }
        if self.bytes > self.limits.bytes {
            return Err(too_much(self.limits.bytes, "bytes of data"));
        }
        Ok(())
    }

    fn name(&mut self, at: u64, header: &Header) -> Result<Vec<u8>, CpioError> {
        if header.name_size == 0 || header.name_size > MAX_NAME_BYTES {
            return Err(damaged(at, format!("a name of {} bytes", header.name_size)));
        }
        let mut name = vec![0; header.name_size as usize];
        self.fill(&mut name)?;
        let padding = padding_after((HEADER_BYTES + name.len()) as u64);
        if name.pop() != Some(0) || name.contains(&0) {
            return Err(damaged(at, "a name that does not end where it says".to_owned()));
        }
        self.skip(padding)?;
        Ok(name)
    }

    fn target(&mut self, at: u64, name: &[u8]) -> Result<Vec<u8>, CpioError> {
        if self.left == 0 || self.left >= MAX_LINK_BYTES {
            let what = format!("{}: a link target of {} bytes", shown(name), self.left);
            return Err(damaged(at, what));
        }
        let mut target = self.data()?;
        // Some writers include a closing NUL in the length.
        if target.last() == Some(&0) {
            target.pop();
        }
        if target.is_empty() || target.contains(&0) {
            return Err(damaged(at, format!("{}: NUL in a link target", shown(name))));
        }
        Ok(target)
    }

    fn skip_data(&mut self) -> Result<(), CpioError> {
        let rest = self.left + self.padding;
        self.left = 0;
        self.padding = 0;
        self.skip(rest)
    }

    fn skip(&mut self, count: u64) -> Result<(), CpioError> {
        let at = self.offset;
        let skipped = io::copy(&mut self.input.by_ref().take(count), &mut io::sink())
            .map_err(|source| CpioError::Io { offset: at, source })?;
        self.offset += skipped;
        if skipped < count {
            return Err(ends_early(self.offset));
        }
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), CpioError> {
        self.input.read_exact(bytes).map_err(|source| CpioError::Io {
            offset: self.offset,
            source,
        })?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

/// Reads the data of the current entry.
impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        // zstd's decoder fails on an empty buffer, so it is not called with one.
        if room == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..room])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        self.offset += count as u64;
        Ok(count)
    }
}

/// Makes a path relative to a directory: drops leading `/` and `.`, refuses `..`.
fn relative(name: &[u8]) -> Result<Vec<u8>, &'static str> {
    let parts: Vec<&[u8]> = name
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .collect();
    if parts.contains(&&b".."[..]) {
        return Err("a name that climbs out with ..");
    }
    Ok(parts.join(&b'/'))
}

const fn padding_after(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGNMENT as u64) - bytes
}

fn damaged(offset: u64, what: String) -> CpioError {
    CpioError::Damaged { offset, what }
}

fn ends_early(offset: u64) -> CpioError {
    CpioError::Io {
        offset,
        source: io::ErrorKind::UnexpectedEof.into(),
    }
}

/// Shows a name of any bytes as one line, for a message.
fn shown(name: &[u8]) -> String {
    const MOST_CHARS: usize = 200;
    let text: String = String::from_utf8_lossy(name).chars().take(MOST_CHARS).collect();
    text.escape_debug().to_string()
}
