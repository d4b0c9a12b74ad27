//! Secrecy of the payload: an AEAD under a key of the stream, the block's offset as nonce, its place as
//! associated data.
//!
//! The hash of a block covers what is encrypted here, so a node forwards blocks that it has verified and not
//! opened.
//! Specification: `docs/protocol.md`, "Blocks", with the argument why no nonce is used twice.

use aws_lc_rs::aead::{
    AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use serde::{Deserialize, Serialize};

use super::{BlockError, BlockHeader, BlockKind, PLACE_LEN, StreamKey};
use crate::ids::StreamOffset;

/// Bytes of a tag, of either cipher.
pub const TAG_LEN: usize = 16;

/// The encryption of payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cipher {
    /// AES-256-GCM (NIST SP 800-38D): fast where the processor has instructions for it.
    Aes256Gcm,
    /// ChaCha20-Poly1305 (RFC 8439): fast enough everywhere.
    ChaCha20Poly1305,
}

impl Cipher {
    const fn number(self) -> u8 {
        match self {
            Self::Aes256Gcm => 1,
            Self::ChaCha20Poly1305 => 2,
        }
    }

    const fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Aes256Gcm => &AES_256_GCM,
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        }
    }

    /// Returns this cipher's key of a stream. Each cipher has its own.
    fn key(self, stream: &StreamKey) -> Result<LessSafeKey, BlockError> {
        let key = stream.sealing_key(self.number());
        let key = UnboundKey::new(self.algorithm(), &key).map_err(|_| BlockError::NoCipher)?;
        Ok(LessSafeKey::new(key))
    }
}

/// Maker of the data blocks of one stream, at the server. There is one for each stream, it is not cloned, and
/// it never goes back. So no offset, and with it no nonce, is used twice.
#[derive(Debug)]
pub struct Sealer {
    key: StreamKey,
    cipher: Option<LessSafeKey>,
    next: StreamOffset,
}

impl Sealer {
    /// Returns a sealer at the beginning of a stream. Without a cipher payload travels as it is,
    /// authenticated.
    ///
    /// # Errors
    /// [`BlockError::NoCipher`].
    pub fn new(key: StreamKey, cipher: Option<Cipher>) -> Result<Self, BlockError> {
        let cipher = cipher.map(|cipher| cipher.key(&key)).transpose()?;
        Ok(Self {
            key,
            cipher,
            next: StreamOffset(0),
        })
    }

    /// Returns the key.
    #[must_use]
    pub const fn key(&self) -> &StreamKey {
        &self.key
    }

    /// Returns the payload bytes sealed so far, which is the offset of the next block.
    #[must_use]
    pub const fn offset(&self) -> StreamOffset {
        self.next
    }

    /// Encrypts the next payload in place and makes its header.
    ///
    /// # Errors
    /// [`BlockError::Length`] if it is empty or too long, [`BlockError::Exhausted`] after 2^64 bytes.
    pub fn seal(&mut self, payload: &mut [u8]) -> Result<BlockHeader, BlockError> {
        let offset = self.next;
        let mut header = self.key.header(BlockKind::Data, offset, payload)?;
        let end = offset.0.checked_add(u64::from(header.length));
        // This comes before anything is encrypted. Even after a failure this offset is used.
        self.next = StreamOffset(end.ok_or(BlockError::Exhausted)?);
        if let Some(cipher) = &self.cipher {
            header.sealed = true;
            let tag = cipher.seal_in_place_separate_tag(nonce(&header), place(&header), payload);
            header
                .tag
                .copy_from_slice(tag.map_err(|_| BlockError::WrongSeal { offset })?.as_ref());
        }
        header.hash = self.key.hash(&header.encode(), payload);
        Ok(header)
    }
}

/// Opener of the data blocks of one stream, at a node, for its own consumer.
#[derive(Debug)]
pub struct Opener {
    cipher: Option<LessSafeKey>,
}

impl Opener {
    /// Returns an opener for a stream with this cipher, or none.
    ///
    /// # Errors
    /// [`BlockError::NoCipher`].
    pub fn new(key: &StreamKey, cipher: Option<Cipher>) -> Result<Self, BlockError> {
        let cipher = cipher.map(|cipher| cipher.key(key)).transpose()?;
        Ok(Self { cipher })
    }

    /// Returns true if payload is encrypted at all.
    #[must_use]
    pub const fn is_needed(&self) -> bool {
        self.cipher.is_some()
    }

    /// Decrypts a verified payload into `plain`, which has its length. The chain still needs `sealed` as it
    /// came, and it is read once only.
    ///
    /// # Errors
    /// [`BlockError::WrongForm`], or [`BlockError::WrongSeal`]. Then nothing in `plain` may be used.
    pub fn open(&self, header: &BlockHeader, sealed: &[u8], plain: &mut [u8]) -> Result<(), BlockError> {
        header.check_form(self.is_needed())?;
        if plain.len() != sealed.len() {
            let length = header.length;
            return Err(BlockError::Length { length });
        }
        let Some(cipher) = &self.cipher else {
            plain.copy_from_slice(sealed);
            return Ok(());
        };
        cipher
            .open_separate_gather(nonce(header), place(header), sealed, &header.tag, plain)
            .map_err(|_| BlockError::WrongSeal {
                offset: header.offset,
            })
    }
}

/// Returns the nonce: the kind, three zeros, the offset. The kind keeps another kind of block from sharing a
/// nonce with data.
fn nonce(header: &BlockHeader) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[0] = header.kind as u8;
    nonce[4..].copy_from_slice(&header.offset.0.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn place(header: &BlockHeader) -> Aad<[u8; PLACE_LEN]> {
    let mut place = [0; PLACE_LEN];
    place.copy_from_slice(&header.encode()[..PLACE_LEN]);
    Aad::from(place)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::auth;
    use crate::ids::{RunId, StreamId};

    /// Returns a block's key and nonce for the AEAD.
    fn use_of(key: &StreamKey, cipher: Cipher, header: &BlockHeader) -> ([u8; 32], [u8; NONCE_LEN]) {
        (key.sealing_key(cipher.number()), *nonce(header).as_ref())
    }

    proptest! {
        #[test]
        fn no_nonce_is_used_twice_with_one_key(
            runs in proptest::collection::hash_set(any::<[u8; 2]>(), 1..4),
            lens in proptest::collection::vec(1usize..40, 1..40),
        ) {
            let mut used = HashSet::new();
            for run in runs {
                let run = RunId(std::array::from_fn(|i| run[i % 2]));
                for stream in (0..3).map(StreamId) {
                    let key = StreamKey::new(auth::stream_key(&[7; 32], run, stream), run, stream);
                    for cipher in [Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305] {
                        let mut sealer = Sealer::new(key.clone(), Some(cipher)).unwrap();
                        for len in &lens {
                            let header = sealer.seal(&mut vec![0; *len]).unwrap();
                            prop_assert!(used.insert(use_of(&key, cipher, &header)));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_refused_block_uses_no_offset_and_no_offset_comes_back() {
        let key = StreamKey::new([1; 32], RunId([2; 16]), StreamId(3));
        let mut sealer = Sealer::new(key, Some(Cipher::Aes256Gcm)).unwrap();
        assert!(sealer.seal(&mut []).is_err());
        assert_eq!(sealer.offset(), StreamOffset(0));
        sealer.seal(&mut [0; 10]).unwrap();
        assert_eq!(sealer.offset(), StreamOffset(10));
        sealer.next = StreamOffset(u64::MAX - 5);
        assert_eq!(sealer.seal(&mut [0; 10]), Err(BlockError::Exhausted));
        assert_eq!(sealer.offset(), StreamOffset(u64::MAX - 5));
    }
}
