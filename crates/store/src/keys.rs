//! Keys, and what is sealed with them: names, chunks, small objects, signatures.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use data_encoding::HEXLOWER;

use crate::error::{Result, StoreError};

/// The bytes that sealing adds to a text: nonce and tag.
pub(crate) const SEAL_BYTES: usize = NONCE_LEN + 16;
/// Public key and signature, before what is signed.
const SIGNED_BYTES: usize = 32 + 64;

/// A keyed hash of a chunk's content.
pub(crate) type ChunkId = [u8; 32];

/// The key of an operator: it wraps the key of a store, and signs versions.
#[derive(Clone)]
pub struct OperatorKey([u8; 32]);

impl OperatorKey {
    /// Makes a new one.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn random() -> Result<Self> {
        random().map(Self)
    }

    /// Reads the text of [`OperatorKey::to_text`].
    ///
    /// # Errors
    /// It is no key.
    pub fn from_text(text: &str) -> Result<Self> {
        let bytes = HEXLOWER.decode(text.trim().as_bytes()).ok();
        let key = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        key.map(Self)
            .ok_or_else(|| StoreError::Refused("a key is 64 hexadecimal digits".to_owned()))
    }

    /// Returns the secret as 64 hexadecimal digits.
    #[must_use]
    pub fn to_text(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// Returns what this key is called in a store.
    pub(crate) fn name(&self) -> String {
        HEXLOWER.encode(&blake3::derive_key("ka store 1 operator name", &self.0)[..8])
    }

    fn wrapping(&self) -> [u8; 32] {
        blake3::derive_key("ka store 1 wrap", &self.0)
    }

    /// Returns public key, signature and `sealed`.
    pub(crate) fn sign(&self, sealed: &[u8]) -> Result<Vec<u8>> {
        let pair = self.pair()?;
        let signature = pair.sign(sealed);
        Ok([pair.public_key().as_ref(), signature.as_ref(), sealed].concat())
    }

    pub(crate) fn public(&self) -> Result<[u8; 32]> {
        let pair = self.pair()?;
        pair.public_key().as_ref().try_into().map_err(|_| no_crypto())
    }

    fn pair(&self) -> Result<Ed25519KeyPair> {
        Ed25519KeyPair::from_seed_unchecked(&blake3::derive_key("ka store 1 sign", &self.0))
            .map_err(|_| no_crypto())
    }
}

/// Checks what [`OperatorKey::sign`] returned: gives the signer's public key and what is signed.
pub(crate) fn signed(bytes: &[u8]) -> std::result::Result<([u8; 32], &[u8]), &'static str> {
    let (head, sealed) = bytes.split_at_checked(SIGNED_BYTES).ok_or("it is cut short")?;
    let (public, signature) = head.split_first_chunk::<32>().ok_or("it is cut short")?;
    UnparsedPublicKey::new(&ED25519, public)
        .verify(sealed, signature)
        .map_err(|_| "its signature is wrong")?;
    Ok((*public, sealed))
}

/// The key of a store's content, and the keys made from it.
#[derive(Clone)]
pub(crate) struct DataKey {
    secret: [u8; 32],
    ids: [u8; 32],
    names: [u8; 32],
    chunks: [u8; 32],
    objects: [u8; 32],
    name: String,
}

impl DataKey {
    /// The first key of this operator in any store. Two savers that begin a store at once must make the same one, and a
    /// store has no lock.
    pub(crate) fn first(operator: &OperatorKey) -> Self {
        Self::new(blake3::derive_key("ka store 1 data", &operator.0))
    }

    /// The key that everybody has.
    pub(crate) fn public() -> Self {
        Self::new(blake3::derive_key("ka store 1 public", b""))
    }

    fn new(secret: [u8; 32]) -> Self {
        Self {
            secret,
            ids: blake3::derive_key("ka store 1 ids", &secret),
            names: blake3::derive_key("ka store 1 names", &secret),
            chunks: blake3::derive_key("ka store 1 chunks", &secret),
            objects: blake3::derive_key("ka store 1 objects", &secret),
            name: HEXLOWER.encode(&blake3::derive_key("ka store 1 key name", &secret)[..8]),
        }
    }

    pub(crate) fn wrapped(&self, operator: &OperatorKey) -> Result<Vec<u8>> {
        seal(&operator.wrapping(), b"key", self.secret.to_vec())
    }

    /// Reads what [`DataKey::wrapped`] made.
    pub(crate) fn unwrap_with(operator: &OperatorKey, wrapped: &[u8]) -> Option<Self> {
        let secret = open(&operator.wrapping(), b"key", wrapped)?;
        secret.try_into().ok().map(Self::new)
    }

    /// Returns what this key is called in names of objects.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn id(&self, content: &[u8]) -> ChunkId {
        *blake3::keyed_hash(&self.ids, content).as_bytes()
    }

    /// Returns 32 hexadecimal digits that tell nothing about `bytes`.
    pub(crate) fn hidden(&self, bytes: &[u8]) -> String {
        HEXLOWER.encode(&blake3::keyed_hash(&self.names, bytes).as_bytes()[..16])
    }

    pub(crate) fn seal_chunk(&self, id: &ChunkId, text: Vec<u8>) -> Result<Vec<u8>> {
        seal(&self.chunk_key(id), id, text)
    }

    pub(crate) fn open_chunk(&self, id: &ChunkId, sealed: &[u8]) -> Option<Vec<u8>> {
        open(&self.chunk_key(id), id, sealed)
    }

    pub(crate) fn seal_object(&self, kind: &str, text: Vec<u8>) -> Result<Vec<u8>> {
        seal(&self.objects, kind.as_bytes(), text)
    }

    pub(crate) fn open_object(&self, kind: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        open(&self.objects, kind.as_bytes(), sealed)
    }

    /// A key for each chunk: a nonce is never met twice with one key.
    fn chunk_key(&self, id: &ChunkId) -> [u8; 32] {
        *blake3::keyed_hash(&self.chunks, id).as_bytes()
    }
}

fn seal(key: &[u8; 32], about: &[u8], mut text: Vec<u8>) -> Result<Vec<u8>> {
    let nonce: [u8; NONCE_LEN] = random()?;
    let tag = aead(key)
        .and_then(|key| {
            key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(about), &mut text)
                .ok()
        })
        .ok_or_else(no_crypto)?;
    Ok([&nonce, &text[..], tag.as_ref()].concat())
}

fn open(key: &[u8; 32], about: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>()?;
    let mut text = text.to_vec();
    let len = aead(key)?
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(about), &mut text)
        .ok()?
        .len();
    text.truncate(len);
    Some(text)
}

fn aead(key: &[u8; 32]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, key).ok().map(LessSafeKey::new)
}

/// Returns random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::Refused(format!("no randomness: {error}")))?;
    Ok(bytes)
}

fn no_crypto() -> StoreError {
    StoreError::Refused("the cryptographic library refuses a key".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_is_wrapped_for_one_operator() {
        let (one, other) = (OperatorKey::random().unwrap(), OperatorKey::random().unwrap());
        let key = DataKey::first(&one);
        assert_ne!(key.name(), DataKey::first(&other).name());
        let wrapped = key.wrapped(&one).unwrap();
        assert_eq!(DataKey::unwrap_with(&one, &wrapped).unwrap().name(), key.name());
        assert!(DataKey::unwrap_with(&other, &wrapped).is_none());
        assert_eq!(OperatorKey::from_text(&one.to_text()).unwrap().name(), one.name());
        assert!(OperatorKey::from_text("abc").is_err());
    }

    #[test]
    fn a_flipped_bit_is_found_in_what_is_sealed_and_signed() {
        let key = DataKey::public();
        let id = key.id(b"text");
        let sealed = key.seal_chunk(&id, b"text".to_vec()).unwrap();
        let signed_bytes = OperatorKey::random().unwrap().sign(&sealed).unwrap();
        assert_eq!(signed(&signed_bytes).unwrap().1, sealed);
        for bit in 0..signed_bytes.len() * 8 {
            let mut flipped = signed_bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(signed(&flipped).is_err());
        }
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(key.open_chunk(&id, &flipped).is_none());
        }
    }

    proptest! {
        #[test]
        fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let key = DataKey::public();
            prop_assert!(key.open_object("index", &bytes).is_none());
            prop_assert!(signed(&bytes).is_err());
        }
    }
}
