//! Memory for blocks: pooled payload buffers, and sealed blocks shared by the chain and the consumer without
//! a copy.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ka_proto::block::HEADER_LEN;

/// Payloads up to this size get memory of their own; pooling whole blocks for them would let a stream of
/// one-byte blocks hold a window of mostly empty buffers.
const SMALL_PAYLOAD: usize = 16 << 10;
/// The cost of a block beside its payload: header, `Arc`, queue entries, allocator. Counted against the
/// window so that tiny blocks cannot exceed it.
const BLOCK_OVERHEAD: usize = 512;

/// Part of a window that free buffers may hold. A relay takes a buffer for each one it returns, so few are
/// free. A producer with vectors of its own takes none, and without this limit all that it ever sent would
/// stay.
const FREE_SHARE: usize = 4;

/// Buffers of one stream, last in first out: the buffer freed last is the one still in the processor's cache.
#[derive(Debug)]
pub(crate) struct Pool {
    free: Mutex<Free>,
    /// Most bytes of free buffers kept; the rest goes back to the allocator.
    keep_bytes: usize,
}

#[derive(Debug, Default)]
struct Free {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Pool {
    pub(crate) fn new(keep_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Mutex::default(),
            keep_bytes,
        })
    }

    /// Returns a pool for a stream with a window of this many bytes.
    pub(crate) fn for_window(window_bytes: usize) -> Arc<Self> {
        Self::new(window_bytes / FREE_SHARE)
    }

    /// Returns a payload of `len` bytes to be filled. Its old contents are left over from earlier blocks.
    pub(crate) fn payload(self: &Arc<Self>, len: usize) -> Payload {
        if len <= SMALL_PAYLOAD {
            return Payload {
                storage: vec![0; len],
                len,
                pool: None,
            };
        }
        let size = len.next_power_of_two();
        let storage = self
            .pop()
            .filter(|free| free.len() >= len)
            .unwrap_or_else(|| vec![0; size]);
        Payload {
            storage,
            len,
            pool: Some(Arc::clone(self)),
        }
    }

    /// Returns an empty vector for a producer to append to, with the capacity of an earlier block.
    pub(crate) fn vector(&self, capacity: usize) -> Vec<u8> {
        let mut vector = self.pop().unwrap_or_default();
        vector.clear();
        vector.reserve(capacity);
        vector
    }

    fn pop(&self) -> Option<Vec<u8>> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let buffer = free.buffers.pop()?;
        free.bytes -= buffer.capacity();
        Some(buffer)
    }

    fn push(&self, buffer: Vec<u8>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.bytes + buffer.capacity() <= self.keep_bytes {
            free.bytes += buffer.capacity();
            free.buffers.push(buffer);
        }
    }
}

/// Payload of one block.
#[derive(Debug)]
pub(crate) struct Payload {
    storage: Vec<u8>,
    len: usize,
    pool: Option<Arc<Pool>>,
}

impl AsMut<[u8]> for Payload {
    fn as_mut(&mut self) -> &mut [u8] {
        self.as_mut_slice()
    }
}

impl Payload {
    /// Takes a producer's vector; its memory goes to `pool` afterwards.
    pub(crate) fn from_producer(bytes: Vec<u8>, pool: &Arc<Pool>) -> Self {
        let len = bytes.len();
        let pool = (len > SMALL_PAYLOAD).then(|| Arc::clone(pool));
        Self {
            storage: bytes,
            len,
            pool,
        }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.storage[..self.len]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.storage[..self.len]
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.push(std::mem::take(&mut self.storage));
        }
    }
}

/// A block whose hash was checked or made here. It is forwarded, retained and given to the consumer.
#[derive(Debug)]
pub(crate) struct SealedBlock {
    pub(crate) header: [u8; HEADER_LEN],
    pub(crate) offset: u64,
    pub(crate) payload: Payload,
    /// Set by the consumer when it is done; true from the start where there is no consumer.
    pub(crate) consumed: AtomicBool,
}

impl SealedBlock {
    /// Returns the bytes counted against the window.
    pub(crate) fn cost(&self) -> usize {
        self.payload.storage.capacity() + BLOCK_OVERHEAD
    }

    /// Returns the bytes on a data connection.
    pub(crate) const fn wire_len(&self) -> usize {
        HEADER_LEN + self.payload.len
    }

    pub(crate) fn end(&self) -> u64 {
        self.offset + self.payload.len as u64
    }

    pub(crate) fn is_consumed(&self) -> bool {
        self.consumed.load(Ordering::Acquire)
    }
}

/// Returns a block of `len` zeros at `offset` that the consumer has not used yet, for tests of parts that
/// hold blocks.
#[cfg(test)]
pub(super) fn tests_block(offset: u64, len: usize) -> Arc<SealedBlock> {
    Arc::new(SealedBlock {
        header: [0; HEADER_LEN],
        offset,
        payload: Pool::new(0).payload(len),
        consumed: AtomicBool::new(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_producer_sends_without_taking_buffers_back_does_not_stay() {
        let pool = Pool::for_window(1 << 20);
        for _ in 0..100 {
            drop(Payload::from_producer(vec![1; 100_000], &pool));
        }
        assert_eq!(pool.free.lock().unwrap().buffers.len(), 2);
        assert_eq!(pool.vector(10).capacity(), 100_000);
        assert_eq!(pool.free.lock().unwrap().bytes, 100_000);
    }
}
