//! The digest of a stream's content: a sum, so that parallel readers and writers may add in any order.
//!
//! Every entry and every extent is one 256-bit BLAKE3 value; the digest is their sum modulo 2²⁵⁶ (AdHash,
//! Bellare and Micciancio 1997). It finds accidents and our own mistakes; against attackers stands the
//! transport's keyed hash.

use std::fmt;

/// Digest of a tree or a partition; equal on both sides when the same entries were read and written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct TreeDigest([u8; 32]);

impl TreeDigest {
    /// From the 32 bytes of [`TreeDigest::to_bytes`].
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Little endian bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Display for TreeDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TreeDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreeDigest({self})")
    }
}

/// A running sum of entry hashes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DigestSum([u64; 4]);

impl DigestSum {
    pub(crate) fn add(&mut self, hash: &[u8; 32]) {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(hash.chunks_exact(8)) {
            let mut le = [0; 8];
            le.copy_from_slice(bytes);
            *word = u64::from_le_bytes(le);
        }
        self.merge(&Self(words));
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        let mut carry = false;
        for (word, add) in self.0.iter_mut().zip(other.0) {
            let (sum, first) = word.overflowing_add(add);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            *word = sum;
            carry = first || second;
        }
    }

    pub(crate) fn finish(&self) -> TreeDigest {
        let mut bytes = [0; 32];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        TreeDigest(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_does_not_depend_on_the_order_and_carries_over_words() {
        let hashes = [[0xff; 32], [1; 32], *blake3::hash(b"x").as_bytes()];
        let mut forward = DigestSum::default();
        hashes.iter().for_each(|hash| forward.add(hash));
        let mut backward = DigestSum::default();
        hashes.iter().rev().for_each(|hash| backward.add(hash));
        assert_eq!(forward.finish(), backward.finish());

        let mut carried = DigestSum([u64::MAX, u64::MAX, 0, 0]);
        carried.merge(&DigestSum([1, 0, 0, 0]));
        assert_eq!(carried.0, [0, 0, 1, 0]);
    }
}
