//! The end of a stream, and the digest over all of it.

use super::{BlockError, BlockHeader, BlockKind};
use crate::wire::{Fields, WireError};

/// Bytes of the payload of a [`BlockKind::End`].
pub const END_LEN: usize = 48;

/// Payload of the last block: what the whole stream was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Payload bytes.
    pub bytes: u64,
    /// Data blocks.
    pub blocks: u64,
    /// [`StreamDigest`] over all of them.
    pub digest: [u8; 32],
}

impl End {
    /// The bytes on the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; END_LEN] {
        let mut bytes = [0; END_LEN];
        bytes[..8].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.blocks.to_le_bytes());
        bytes[16..].copy_from_slice(&self.digest);
        bytes
    }

    /// Decodes the payload of an end block.
    ///
    /// # Errors
    /// [`BlockError::NotABlock`] when the length is wrong.
    pub fn decode(payload: &[u8]) -> Result<Self, BlockError> {
        let bytes: &[u8; END_LEN] = payload.try_into().map_err(|_| BlockError::NotABlock)?;
        let mut fields = Fields::new("end", bytes);
        let mut read = || {
            Ok::<_, WireError>(Self {
                bytes: fields.u64()?,
                blocks: fields.u64()?,
                digest: fields.take()?,
            })
        };
        read().map_err(|_| BlockError::NotABlock)
    }
}

/// Hash over a whole stream: BLAKE3 over the hashes of its data blocks in order, so that no payload is hashed twice.
#[derive(Debug, Clone, Default)]
pub struct StreamDigest {
    hasher: blake3::Hasher,
    bytes: u64,
    blocks: u64,
}

impl StreamDigest {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a sealed or verified data block; other kinds do not count.
    pub fn push(&mut self, header: &BlockHeader) {
        if header.kind == BlockKind::Data {
            self.hasher.update(&header.hash);
            self.bytes = self.bytes.saturating_add(u64::from(header.length));
            self.blocks += 1;
        }
    }

    /// What an end block at this place says.
    #[must_use]
    pub fn end(&self) -> End {
        End {
            bytes: self.bytes,
            blocks: self.blocks,
            digest: *self.hasher.finalize().as_bytes(),
        }
    }

    /// Checks an end block against what arrived.
    ///
    /// # Errors
    /// [`BlockError::WrongEnd`].
    pub fn check(&self, end: &End) -> Result<(), BlockError> {
        if self.end() == *end {
            Ok(())
        } else {
            Err(BlockError::WrongEnd { bytes: end.bytes })
        }
    }
}
