//! An archive of tools that is held in memory until the stream it came in is proved, and only then unpacked.
//!
//! Every member of the run can make blocks that its successors take, but not the end that the server signs.
//! So no part of the archive has a name anywhere before that end is here. It lies in an anonymous file in
//! memory (memfd_create(2)), which is gone with its descriptor, in any case. The kernel itself starts tools,
//! `modprobe` among them. They never come from a stream that is refused later.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, bail};
use rustix::fs::{FallocateFlags, MemfdFlags};

use super::unpack::{self, Limits, UnpackSummary, check_memory, too_small};

/// Bytes of the archive that are freed at a time, once they were read.
const GIVE_BACK_BYTES: u64 = 1 << 20;

/// A whole archive, proved, in memory.
#[derive(Debug)]
pub(crate) struct HeldArchive {
    file: File,
    len: u64,
}

impl HeldArchive {
    /// Takes blocks from `next` until it returns `None`, which must mean that the stream's end is signed and
    /// agrees with the data.
    ///
    /// # Errors
    /// That of `next`; the memory does not suffice. Nothing is left behind.
    pub(crate) fn collect<B: AsRef<[u8]>>(
        mut next: impl FnMut() -> anyhow::Result<Option<B>>,
        limits: &Limits<'_>,
    ) -> anyhow::Result<Self> {
        let memory = rustix::fs::memfd_create("ka-stage2", MemfdFlags::CLOEXEC);
        let mut held = Self {
            file: File::from(memory.context("making a file in memory for the tools")?),
            len: 0,
        };
        while let Some(block) = next()? {
            held.push(block.as_ref(), limits)?;
        }
        Ok(held)
    }

    fn push(&mut self, bytes: &[u8], limits: &Limits<'_>) -> anyhow::Result<()> {
        self.len += bytes.len() as u64;
        if self.len > limits.archive.bytes {
            bail!(
                "the tools are over {} bytes, which no archive of tools has",
                limits.archive.bytes
            );
        }
        check_memory((limits.available)(), limits.reserve_bytes)?;
        self.file.write_all(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::OutOfMemory => too_small((limits.available)()),
            _ => anyhow::Error::new(error).context("keeping the tools in memory"),
        })
    }

    /// Unpacks the archive beneath `root`, after a look at all of it. A damaged archive, or one that this
    /// machine has too little memory for, leaves the root as it was.
    ///
    /// # Errors
    /// It is no zstd frame, damaged, or holds something that is not allowed; the memory does not suffice.
    pub(crate) fn unpack(self, root: &Path, limits: &Limits<'_>) -> anyhow::Result<UnpackSummary> {
        let found = unpack::measure(self.reader(false), limits)?;
        // The unpacked files take the place of the packed data.
        let available = (limits.available)().map(|bytes| bytes.saturating_add(self.len));
        check_memory(available, limits.reserve_bytes.saturating_add(found.bytes))?;
        unpack::unpack_compressed(self.reader(true), root, limits)
    }

    const fn reader(&self, gives_back: bool) -> HeldReader<'_> {
        HeldReader {
            file: &self.file,
            at: 0,
            given_back: 0,
            gives_back,
        }
    }
}

/// Reads the archive from its beginning.
struct HeldReader<'a> {
    file: &'a File,
    at: u64,
    given_back: u64,
    gives_back: bool,
}

impl Read for HeldReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        if self.gives_back && self.at - self.given_back >= GIVE_BACK_BYTES {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(self.file, flags, self.given_back, self.at - self.given_back)?;
            self.given_back = self.at;
        }
        Ok(count)
    }
}

#[cfg(test)]
#[path = "held_tests.rs"]
mod tests;
