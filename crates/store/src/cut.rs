//! Content-defined cutting: a gear hash with two masks, so that equal content is cut alike wherever it lies.
//!
//! The cuts are part of the format's economy, not of its meaning: another cutter reads every store, and finds less to share.

use std::sync::OnceLock;

/// No chunk but the last is shorter, in bytes.
const SHORTEST: usize = 16 * 1024;
/// The length that chunks aim for, in bytes.
const AIM: usize = 64 * 1024;
/// No chunk is longer, in bytes.
pub(crate) const LONGEST: usize = 256 * 1024;
/// Before the aim, a cut needs 18 zero bits; after it, 14. The high bits depend on the last 64 bytes.
const STRICT: u64 = !0 << (64 - 18);
const LAX: u64 = !0 << (64 - 14);

/// Returns the length of the first chunk of `bytes`.
pub(crate) fn first(bytes: &[u8]) -> usize {
    let len = bytes.len().min(LONGEST);
    if len <= SHORTEST {
        return len;
    }
    let gear = gear();
    let mut hash = 0u64;
    // The window of 64 bytes is filled before the first possible cut.
    for (at, byte) in bytes.iter().enumerate().take(len).skip(SHORTEST - 64) {
        hash = (hash << 1).wrapping_add(gear[usize::from(*byte)]);
        let mask = if at < AIM { STRICT } else { LAX };
        if at >= SHORTEST && hash & mask == 0 {
            return at + 1;
        }
    }
    len
}

/// Returns one value for each byte.
fn gear() -> &'static [u64; 256] {
    static GEAR: OnceLock<[u64; 256]> = OnceLock::new();
    GEAR.get_or_init(|| {
        let mut stream = blake3::Hasher::new_derive_key("ka store 1 gear").finalize_xof();
        let mut table = [0; 256];
        for value in &mut table {
            let mut bytes = [0; 8];
            stream.fill(&mut bytes);
            *value = u64::from_le_bytes(bytes);
        }
        table
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new()
            .update(b"noise")
            .finalize_xof()
            .fill(&mut bytes);
        bytes
    }

    fn chunks(mut bytes: &[u8]) -> Vec<&[u8]> {
        let mut chunks = Vec::new();
        while !bytes.is_empty() {
            let (chunk, rest) = bytes.split_at(first(bytes));
            chunks.push(chunk);
            bytes = rest;
        }
        chunks
    }

    #[test]
    fn chunks_have_their_lengths() {
        let bytes = noise(8 << 20);
        let chunks = chunks(&bytes);
        assert!(chunks.iter().all(|chunk| chunk.len() <= LONGEST));
        assert!(
            chunks[..chunks.len() - 1]
                .iter()
                .all(|chunk| chunk.len() > SHORTEST)
        );
        assert!((90..180).contains(&chunks.len()), "{}", chunks.len());
        assert_eq!(chunks.concat(), bytes);
    }

    #[test]
    fn a_shift_moves_the_cuts_with_the_content() {
        let bytes = noise(4 << 20);
        let shifted = [b"inserted", &bytes[..]].concat();
        let old: HashSet<_> = chunks(&bytes).into_iter().collect();
        let shared = chunks(&shifted)
            .into_iter()
            .filter(|chunk| old.contains(chunk))
            .count();
        assert!(shared * 10 >= old.len() * 9, "{shared} of {}", old.len());
    }

    #[test]
    fn zeros_are_cut_at_the_longest() {
        assert_eq!(first(&vec![0; 1 << 20]), LONGEST);
        assert_eq!(first(&[]), 0);
    }
}
