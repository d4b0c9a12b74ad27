//! An archive of tools that is held in memory until the stream it came in is proved, and only then unpacked.
//!
//! Every member of the run can make blocks that its successors take; what it cannot make is the end that the server signs.
//! So nothing of the archive has a name anywhere before that end is here: it lies in an anonymous file in memory
//! (memfd_create(2)), which is gone with its descriptor, whatever becomes of the stream. Tools, `modprobe` among them,
//! which the kernel itself starts, are therefore never those of a stream that is refused later.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, bail};
use rustix::fs::{FallocateFlags, MemfdFlags};

use super::unpack::{self, Limits, Unpacked, check_memory, too_small};

/// What was read is given back to the memory this many bytes at a time.
const GIVE_BACK_BYTES: u64 = 1 << 20;

/// A whole archive, proved, in memory.
#[derive(Debug)]
pub(crate) struct HeldArchive {
    file: File,
    len: u64,
}

impl HeldArchive {
    /// Takes blocks from `next` until it gives `None`, which must mean that the stream's end is signed and agrees with
    /// what came.
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

    /// Unpacks the archive beneath `root`, once all of it has been looked at: a damaged one, or one that this machine has
    /// too little memory for, leaves the root as it was.
    ///
    /// # Errors
    /// It is no zstd frame, damaged, or holds something that is not allowed; the memory does not suffice.
    pub(crate) fn unpack(self, root: &Path, limits: &Limits<'_>) -> anyhow::Result<Unpacked> {
        let found = unpack::measure(self.reader(false), limits)?;
        // What is unpacked takes the place of what it was unpacked from.
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
