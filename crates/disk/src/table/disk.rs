//! Reading sectors of anything that can be read like a disk.

use std::io::{self, Read, Seek, SeekFrom};

/// A disk that sectors are read from.
pub(super) struct Disk<'a, R> {
    pub(super) source: &'a mut R,
    pub(super) disk_bytes: u64,
    pub(super) sector_size: u32,
}

impl<R: Read + Seek> Disk<'_, R> {
    pub(super) fn sectors(&self) -> u64 {
        self.disk_bytes / u64::from(self.sector_size)
    }

    /// Reads one sector.
    pub(super) fn sector(&mut self, lba: u64) -> io::Result<Vec<u8>> {
        let sector = self.bytes(lba, u64::from(self.sector_size))?;
        sector.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("no sector {lba} on the disk"),
            )
        })
    }

    /// Reads `len` bytes from the start of a sector; `None` if they are not all on the disk.
    pub(super) fn bytes(&mut self, lba: u64, len: u64) -> io::Result<Option<Vec<u8>>> {
        let start = lba.checked_mul(u64::from(self.sector_size));
        let end = start.and_then(|start| start.checked_add(len));
        let (Some(start), Ok(len), true) = (
            start,
            usize::try_from(len),
            end.is_some_and(|end| end <= self.disk_bytes),
        ) else {
            return Ok(None);
        };
        let mut bytes = vec![0; len];
        self.source.seek(SeekFrom::Start(start))?;
        self.source.read_exact(&mut bytes)?;
        Ok(Some(bytes))
    }
}
