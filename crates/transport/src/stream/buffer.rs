//! Memory for blocks: pooled payload buffers, and sealed blocks shared by the chain and the consumer without a copy.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ka_proto::block::HEADER_LEN;

/// Payloads up to this size get memory of their own; pooling whole blocks for them would let a stream of one-byte
/// blocks hold a window of mostly empty buffers.
const SMALL_PAYLOAD: usize = 16 << 10;
/// What a block costs beside its payload: header, `Arc`, queue entries, allocator. Counted against the window so that
/// tiny blocks cannot exceed it.
const BLOCK_OVERHEAD: usize = 512;

/// Buffers of one stream, last in first out: the buffer freed last is the one still in the processor's cache.
#[derive(Debug)]
pub(crate) struct Pool {
    free: Mutex<Vec<Vec<u8>>>,
    /// Most free buffers kept; the rest goes back to the allocator.
    keep: usize,
}

impl Pool {
    pub(crate) fn new(keep: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Mutex::new(Vec::new()),
            keep,
        })
    }

    /// A pool for a stream with a window of this many bytes: enough to take back all of it.
    pub(crate) fn for_window(window_bytes: usize) -> Arc<Self> {
        Self::new(window_bytes.div_ceil(SMALL_PAYLOAD))
    }

    /// A payload of `len` bytes to be filled; what it holds before is left over from earlier blocks.
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

    /// An empty vector for a producer to append to, with the capacity of an earlier block.
    pub(crate) fn vector(&self, capacity: usize) -> Vec<u8> {
        let mut vector = self.pop().unwrap_or_default();
        vector.clear();
        vector.reserve(capacity);
        vector
    }

    fn pop(&self) -> Option<Vec<u8>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn push(&self, storage: Vec<u8>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.keep {
            free.push(storage);
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

/// A block whose hash was checked or made here: what is forwarded, retained and handed to the consumer.
#[derive(Debug)]
pub(crate) struct SealedBlock {
    pub(crate) header: [u8; HEADER_LEN],
    pub(crate) offset: u64,
    pub(crate) payload: Payload,
    /// Set by the consumer when it is done; true from the start where there is no consumer.
    pub(crate) consumed: AtomicBool,
}

impl SealedBlock {
    /// Bytes counted against the window.
    pub(crate) fn cost(&self) -> usize {
        self.payload.storage.capacity() + BLOCK_OVERHEAD
    }

    /// Bytes on a data connection.
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
