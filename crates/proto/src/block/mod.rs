//! One block of a stream: a fixed 88-byte header, then at most 1 MiB of payload.
//!
//! The header names run, stream and offset, and carries a keyed hash over itself and the payload as it
//! travels. So a block cannot be altered, moved, or taken from another stream or run. A node verifies before
//! it forwards or uses one byte. Payload of the stream travels encrypted ([`Sealer`], [`Opener`]); the end is
//! signed by the server ([`SignedEnd`]). Not here: the meaning of the payload. Specification:
//! `docs/protocol.md`, "Blocks".

mod end;
mod key;
mod seal;

use crate::ids::{RunId, StreamId, StreamOffset};
use crate::limits::MAX_BLOCK;
use crate::wire::{Fields, WireError};

pub use end::{END_LEN, End, SIGNATURE_LEN, SignedEnd, StreamDigest};
pub use key::StreamKey;
pub use seal::{Cipher, Opener, Sealer, TAG_LEN};

/// Bytes of a header.
pub const HEADER_LEN: usize = 88;
/// Bytes of the header that tell the place of the block. They are the associated data of its encryption.
pub const PLACE_LEN: usize = 40;
/// Bytes of the header that the hash covers: all before the hash itself.
pub const HASHED_LEN: usize = PLACE_LEN + TAG_LEN;

const MAGIC: [u8; 4] = *b"KAB1";
const VERSION: u8 = 2;
/// The payload is encrypted.
const SEALED: u16 = 1;

/// The purpose of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum BlockKind {
    /// Payload of the stream.
    Data = 1,
    /// The stream ends at this offset; the payload is an [`End`].
    End = 2,
    /// Sign of life without payload. The offset is where the next block will begin.
    Idle = 3,
}

/// A reason to refuse a block. In all cases the link that it came over is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Not a header of this protocol.
    #[error("not a block header")]
    NotABlock,
    /// A version that this build does not know.
    #[error("block version {0}, this is version {VERSION}")]
    Version(u8),
    /// More payload than a block may have, or the wrong amount for its kind.
    #[error("a block with {length} bytes of payload, at most {MAX_BLOCK} are allowed")]
    Length {
        /// Announced bytes.
        length: u32,
    },
    /// A block of another run.
    #[error("a block of another run")]
    WrongRun,
    /// A block of another stream.
    #[error("a block of stream {got}, expected {expected}")]
    WrongStream {
        /// The stream in the header.
        got: StreamId,
        /// The stream that this link carries.
        expected: StreamId,
    },
    /// Not the next block: a gap, a repeat or a reordering.
    #[error("a block at offset {got}, expected {expected}")]
    WrongOffset {
        /// The offset in the header.
        got: StreamOffset,
        /// The offset that comes next.
        expected: StreamOffset,
    },
    /// The content is not what the server sealed.
    #[error("the block at offset {offset} is damaged: its hash does not match")]
    WrongHash {
        /// Offset that the block claims.
        offset: StreamOffset,
    },
    /// The end does not agree with what came before it.
    #[error("the end of the stream does not match what arrived ({bytes} bytes announced)")]
    WrongEnd {
        /// The total in the end block.
        bytes: u64,
    },
    /// The end was not signed by the server of this run.
    #[error("the end of the stream is not signed with the server's key")]
    WrongSignature,
    /// Encrypted in a stream that is not, or the other way round.
    #[error("{} block at offset {offset} in a stream that is {}", if *.sealed { "an encrypted" } else { "an unencrypted" }, if *.sealed { "not encrypted" } else { "encrypted" })]
    WrongForm {
        /// Offset that the block claims.
        offset: StreamOffset,
        /// The block is encrypted.
        sealed: bool,
    },
    /// The block does not decrypt, though its hash is right. The server did not encrypt it.
    #[error("the block at offset {offset} does not decrypt with the stream's key")]
    WrongSeal {
        /// Offset that the block claims.
        offset: StreamOffset,
    },
    /// The cipher could not be set up. Nothing is sent or taken without it.
    #[error("the cipher of the stream cannot be set up")]
    NoCipher,
    /// A part of the stream would be encrypted a second time.
    #[error("the stream is sealed up to its greatest length already")]
    Exhausted,
}

/// A decoded header. `hash` and `tag` are claims until [`StreamKey::verify`] has succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHeader {
    /// Its purpose.
    pub kind: BlockKind,
    /// The payload is encrypted; data only.
    pub sealed: bool,
    /// The run.
    pub run: RunId,
    /// The stream.
    pub stream: StreamId,
    /// Bytes of payload that follow.
    pub length: u32,
    /// Payload bytes of the stream before this block.
    pub offset: StreamOffset,
    /// Tag of the encryption. Zero without encryption.
    pub tag: [u8; TAG_LEN],
    /// Keyed hash of the payload as it travels and the first 56 bytes of the header.
    pub hash: [u8; 32],
}

impl BlockHeader {
    /// Returns the bytes on the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = self.kind as u8;
        let flags = if self.sealed { SEALED } else { 0 };
        bytes[6..8].copy_from_slice(&flags.to_le_bytes());
        bytes[8..24].copy_from_slice(&self.run.0);
        bytes[24..28].copy_from_slice(&self.stream.0.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.length.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.offset.0.to_le_bytes());
        bytes[PLACE_LEN..HASHED_LEN].copy_from_slice(&self.tag);
        bytes[HASHED_LEN..].copy_from_slice(&self.hash);
        bytes
    }

    /// Decodes a header and checks everything that can be checked before the payload is read.
    ///
    /// # Errors
    /// [`BlockError::NotABlock`], [`BlockError::Version`], [`BlockError::Length`].
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, BlockError> {
        Self::fields(bytes).unwrap_or(Err(BlockError::NotABlock))
    }

    fn fields(bytes: &[u8; HEADER_LEN]) -> Result<Result<Self, BlockError>, WireError> {
        let mut fields = Fields::new("block", bytes);
        fields.magic(MAGIC)?;
        let version = fields.u8()?;
        if version != VERSION {
            return Ok(Err(BlockError::Version(version)));
        }
        let kind = match fields.u8()? {
            1 => BlockKind::Data,
            2 => BlockKind::End,
            3 => BlockKind::Idle,
            _ => return Ok(Err(BlockError::NotABlock)),
        };
        let flags = fields.u16()?;
        let header = Self {
            kind,
            sealed: flags == SEALED,
            run: RunId(fields.take()?),
            stream: StreamId(fields.u32()?),
            length: fields.u32()?,
            offset: StreamOffset(fields.u64()?),
            tag: fields.take()?,
            hash: fields.take()?,
        };
        let may_be_sealed = kind == BlockKind::Data;
        let has_stray_tag = !header.sealed && header.tag != [0; TAG_LEN];
        if flags & !SEALED != 0 || header.sealed && !may_be_sealed || has_stray_tag {
            return Ok(Err(BlockError::NotABlock));
        }
        if !header.length_fits() {
            return Ok(Err(BlockError::Length {
                length: header.length,
            }));
        }
        Ok(Ok(header))
    }

    const fn length_fits(&self) -> bool {
        let length = self.length as usize;
        match self.kind {
            BlockKind::Data => length > 0 && length <= MAX_BLOCK,
            BlockKind::End => length == END_LEN,
            BlockKind::Idle => length == 0,
        }
    }

    /// Checks that data is encrypted exactly if the stream is. Call it before reading the payload.
    ///
    /// # Errors
    /// [`BlockError::WrongForm`].
    pub fn check_form(&self, stream_is_sealed: bool) -> Result<(), BlockError> {
        if self.kind == BlockKind::Data && self.sealed != stream_is_sealed {
            return Err(BlockError::WrongForm {
                offset: self.offset,
                sealed: self.sealed,
            });
        }
        Ok(())
    }

    /// Checks that this is the next block of this stream of this run. Call it before reading the payload.
    ///
    /// # Errors
    /// [`BlockError::WrongRun`], [`BlockError::WrongStream`], [`BlockError::WrongOffset`].
    pub fn check_place(
        &self,
        run: RunId,
        stream: StreamId,
        expected: StreamOffset,
    ) -> Result<(), BlockError> {
        if self.run != run {
            return Err(BlockError::WrongRun);
        }
        if self.stream != stream {
            return Err(BlockError::WrongStream {
                got: self.stream,
                expected: stream,
            });
        }
        if self.offset != expected {
            return Err(BlockError::WrongOffset {
                got: self.offset,
                expected,
            });
        }
        Ok(())
    }
}
