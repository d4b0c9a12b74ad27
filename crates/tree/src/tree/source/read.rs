//! Reading content straight into a block, without a copy on the way.

use rustix::buffer::spare_capacity;
use rustix::fd::OwnedFd;
use rustix::io::{self, Errno};

/// Appends what a file holds from its front, at most `size` bytes and as many as there are.
pub(super) fn read_to(file: &OwnedFd, block: &mut Vec<u8>, size: usize) -> Result<usize, Errno> {
    if size == 0 {
        return Ok(0);
    }
    let start = block.len();
    // One byte more shows that the file has grown without a second call.
    block.reserve(size + 1);
    let mut at = 0;
    loop {
        match io::pread(file, spare_capacity(block), at) {
            Ok(0) => break,
            Ok(read) => at += read as u64,
            Err(Errno::INTR) => {}
            Err(errno) => {
                block.truncate(start.max(block.len().min(start + size)));
                return Err(errno);
            }
        }
        if block.len() - start >= size {
            break;
        }
    }
    let read = block.len() - start;
    block.truncate(start + size);
    Ok(read)
}

/// Appends up to `len` bytes at `offset`.
pub(super) fn pread_to(file: &OwnedFd, block: &mut Vec<u8>, offset: u64, len: usize) -> Result<usize, Errno> {
    let start = block.len();
    block.resize(start + len, 0);
    let mut read = 0;
    while read < len {
        match io::pread(file, &mut block[start + read..], offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(Errno::INTR) => {}
            Err(errno) if read == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    block.truncate(start + read);
    Ok(read)
}
