//! The end of a stream, and the digest over all of it.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

use super::{BlockError, BlockHeader, BlockKind};
use crate::auth::ServerPublicKey;
use crate::ids::{RunId, StreamId};
use crate::wire::{Fields, WireError};

/// Bytes of an Ed25519 signature (RFC 8032).
pub const SIGNATURE_LEN: usize = 64;
/// Bytes of the payload of a [`BlockKind::End`].
pub const END_LEN: usize = TOTALS_LEN + SIGNATURE_LEN;

const TOTALS_LEN: usize = 48;
/// Context in front of the bytes that the server signs, so that the signature means nothing elsewhere. Bytes
/// that TLS 1.3 signs with the same key begin with 64 spaces (RFC 8446 §4.4.3).
const SIGNED_CONTEXT: &[u8; 24] = b"KA 2026-11 v2 stream end";

/// The totals of a whole stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Payload bytes.
    pub bytes: u64,
    /// Data blocks.
    pub blocks: u64,
    /// The [`StreamDigest`] over all blocks.
    pub digest: [u8; 32],
}

impl End {
    /// Returns the bytes that the server signs: context, run, stream, then these totals.
    #[must_use]
    pub fn to_sign(&self, run: RunId, stream: StreamId) -> Vec<u8> {
        let mut bytes = SIGNED_CONTEXT.to_vec();
        bytes.extend_from_slice(&run.0);
        bytes.extend_from_slice(&stream.0.to_le_bytes());
        bytes.extend_from_slice(&self.totals());
        bytes
    }

    fn totals(&self) -> [u8; TOTALS_LEN] {
        let mut bytes = [0; TOTALS_LEN];
        bytes[..8].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.blocks.to_le_bytes());
        bytes[16..].copy_from_slice(&self.digest);
        bytes
    }
}

/// Payload of the last block: the totals of the whole stream, with the server's signature. Every node of the
/// run knows the stream's key and could make blocks, but only the server can make this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedEnd {
    /// The totals that are signed.
    pub end: End,
    /// Ed25519 signature over [`End::to_sign`].
    pub signature: [u8; SIGNATURE_LEN],
}

impl SignedEnd {
    /// Returns the bytes on the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; END_LEN] {
        let mut bytes = [0; END_LEN];
        bytes[..TOTALS_LEN].copy_from_slice(&self.end.totals());
        bytes[TOTALS_LEN..].copy_from_slice(&self.signature);
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
                end: End {
                    bytes: fields.u64()?,
                    blocks: fields.u64()?,
                    digest: fields.take()?,
                },
                signature: fields.take()?,
            })
        };
        read().map_err(|_| BlockError::NotABlock)
    }

    /// Checks that the server of this run has signed this as the end of this stream.
    ///
    /// # Errors
    /// [`BlockError::WrongSignature`].
    pub fn verify(&self, server: &ServerPublicKey, run: RunId, stream: StreamId) -> Result<(), BlockError> {
        UnparsedPublicKey::new(&ED25519, server.0)
            .verify(&self.end.to_sign(run, stream), &self.signature)
            .map_err(|_| BlockError::WrongSignature)
    }
}

/// Hash over a whole stream: BLAKE3 over the hashes of its data blocks in order, so that no payload is hashed
/// twice.
#[derive(Debug, Clone, Default)]
pub struct StreamDigest {
    hasher: blake3::Hasher,
    bytes: u64,
    blocks: u64,
}

impl StreamDigest {
    /// Returns the hash of no blocks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a sealed or verified data block. Other kinds do not count.
    pub fn push(&mut self, header: &BlockHeader) {
        if header.kind == BlockKind::Data {
            self.hasher.update(&header.hash);
            self.bytes = self.bytes.saturating_add(u64::from(header.length));
            self.blocks += 1;
        }
    }

    /// Returns the totals in an end block at this place.
    #[must_use]
    pub fn end(&self) -> End {
        End {
            bytes: self.bytes,
            blocks: self.blocks,
            digest: *self.hasher.finalize().as_bytes(),
        }
    }

    /// Checks an end block against the blocks that arrived.
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
