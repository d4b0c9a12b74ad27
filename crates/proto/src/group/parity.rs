//! Reed-Solomon parity of a stripe: [`MAX_SHARDS`] parity shards over its 1 to 128 data shards.
//!
//! The code is that of the crate `reed-solomon-simd`: systematic, over GF(2^16), of any *k* shards of data
//! and parity the data comes back.

use std::sync::LazyLock;

use reed_solomon_simd::ReedSolomonEncoder;
use reed_solomon_simd::engine::{
    DefaultEngine, Engine, GF_MODULUS, GF_ORDER, GfElement, ShardsRefMut, tables,
};
use reed_solomon_simd::rate::{DefaultRateDecoder, RateDecoder as _};

use super::MAX_SHARDS;

/// Maker of parity. It keeps its working memory.
#[derive(Default)]
pub(super) struct ParityEncoder {
    inner: Option<ReedSolomonEncoder>,
}

impl ParityEncoder {
    /// Returns the first `count` parity shards over `data`, one after another. Returns nothing if the shards
    /// are not 1 to 128 of `shard` bytes each.
    pub(super) fn encode<'a>(
        &mut self,
        data: impl ExactSizeIterator<Item = &'a [u8]>,
        shard: usize,
        count: usize,
    ) -> Vec<u8> {
        self.try_encode(data, shard, count).unwrap_or_default()
    }

    fn try_encode<'a>(
        &mut self,
        data: impl ExactSizeIterator<Item = &'a [u8]>,
        shard: usize,
        count: usize,
    ) -> Result<Vec<u8>, reed_solomon_simd::Error> {
        let shards = data.len();
        let encoder = match &mut self.inner {
            Some(encoder) => {
                encoder.reset(shards, MAX_SHARDS, shard)?;
                encoder
            }
            none => none.insert(ReedSolomonEncoder::new(shards, MAX_SHARDS, shard)?),
        };
        for bytes in data {
            encoder.add_original_shard(bytes)?;
        }
        let result = encoder.encode()?;
        let mut parity = Vec::with_capacity(count * shard);
        for bytes in result.recovery_iter().take(count) {
            parity.extend_from_slice(bytes);
        }
        Ok(parity)
    }
}

impl std::fmt::Debug for ParityEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ParityEncoder")
    }
}

/// Restorer of data shards. It keeps its working memory.
#[derive(Default)]
pub(super) struct ParityDecoder {
    inner: Option<DefaultRateDecoder<FewShards>>,
}

impl ParityDecoder {
    /// Returns the data shards that a stripe lacks, with their indices. `shape`: the number of its data shards, and
    /// the bytes of each. `data` and `parity` are the shards that are there, with their indices. Returns nothing
    /// if they do not suffice.
    pub(super) fn restore<'a>(
        &mut self,
        shape: (usize, usize),
        data: impl Iterator<Item = (usize, &'a [u8])>,
        parity: impl Iterator<Item = (usize, &'a [u8])>,
    ) -> Vec<(usize, Vec<u8>)> {
        self.try_restore(shape, data, parity).unwrap_or_default()
    }

    fn try_restore<'a>(
        &mut self,
        (shards, shard): (usize, usize),
        data: impl Iterator<Item = (usize, &'a [u8])>,
        parity: impl Iterator<Item = (usize, &'a [u8])>,
    ) -> Result<Vec<(usize, Vec<u8>)>, reed_solomon_simd::Error> {
        let decoder = match &mut self.inner {
            Some(decoder) => {
                decoder.reset(shards, MAX_SHARDS, shard)?;
                decoder
            }
            none => {
                let engine = FewShards(DefaultEngine::new());
                none.insert(DefaultRateDecoder::new(shards, MAX_SHARDS, shard, engine, None)?)
            }
        };
        for (index, bytes) in data {
            decoder.add_original_shard(index, bytes)?;
        }
        for (index, bytes) in parity {
            decoder.add_recovery_shard(index, bytes)?;
        }
        let restored = decoder.decode()?;
        let restored = restored.restored_original_iter();
        Ok(restored.map(|(index, bytes)| (index, bytes.to_vec())).collect())
    }
}

impl std::fmt::Debug for ParityDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ParityDecoder")
    }
}

/// The library's engine, with a short cut for codes of few shards. The library evaluates the polynomial of
/// the erasures at all 65 536 places by a transform, which takes 0.4 ms. Of a stripe only the first
/// [`PLACES`] are ever read, and a sum over the erased ones takes some microseconds.
struct FewShards(DefaultEngine);

/// Places of a code of at most 128 and 128 shards, whichever way the library lays them out.
const PLACES: usize = 256;
/// Places of an aligned block. Seen from any place, a block is a permutation of one block of logarithms.
const BLOCK: usize = 32;

/// Logarithms of the field's first elements, and sums of them.
struct Logs {
    near: [i64; PLACES],
    blocks: [i64; PLACES / BLOCK],
    far: i64,
}

static LOGS: LazyLock<Logs> = LazyLock::new(|| {
    let logs = &tables::get_exp_log().log;
    // The logarithm of zero does not count.
    let log = |place: usize| if place == 0 { 0 } else { i64::from(logs[place]) };
    Logs {
        near: std::array::from_fn(log),
        blocks: std::array::from_fn(|block| (block * BLOCK..(block + 1) * BLOCK).map(log).sum()),
        far: (PLACES..GF_ORDER).map(log).sum(),
    }
});

/// The erased places as whole blocks, with places that are erased beside them and such that are not.
#[derive(Default)]
struct Erased {
    blocks: Vec<usize>,
    beside: Vec<usize>,
    without: Vec<usize>,
}

impl Erased {
    fn new(places: &[GfElement]) -> Self {
        let mut erased = Self::default();
        for (block, places) in places.chunks_exact(BLOCK).enumerate() {
            let count = places.iter().filter(|place| **place != 0).count();
            let is_most = count > BLOCK / 2;
            if is_most {
                erased.blocks.push(block);
            }
            let odd = places
                .iter()
                .enumerate()
                .filter(|(_, place)| (**place == 0) == is_most);
            let odd = odd.map(|(index, _)| block * BLOCK + index);
            if is_most {
                erased.without.extend(odd);
            } else {
                erased.beside.extend(odd);
            }
        }
        erased
    }

    /// Returns the sum of log(place ⊕ j) over all erased j.
    fn sum(&self, place: usize, logs: &Logs) -> i64 {
        let near = |other: &usize| logs.near[place ^ *other];
        let blocks = self
            .blocks
            .iter()
            .map(|block| logs.blocks[(place / BLOCK) ^ *block]);
        blocks.sum::<i64>() + self.beside.iter().map(near).sum::<i64>()
            - self.without.iter().map(near).sum::<i64>()
    }
}

impl Engine for FewShards {
    fn fft(&self, data: &mut ShardsRefMut<'_>, pos: usize, size: usize, truncated: usize, skew: usize) {
        self.0.fft(data, pos, size, truncated, skew);
    }

    fn ifft(&self, data: &mut ShardsRefMut<'_>, pos: usize, size: usize, truncated: usize, skew: usize) {
        self.0.ifft(data, pos, size, truncated, skew);
    }

    fn mul(&self, x: &mut [[u8; 64]], log_m: GfElement) {
        self.0.mul(x, log_m);
    }

    /// Replaces the erased places (1) by the logarithm of the erasures' polynomial at each place: the sum of
    /// log(i ⊕ j) over all erased j, modulo 65 535.
    fn eval_poly(erasures: &mut [GfElement; GF_ORDER], truncated: usize) {
        let (near, far) = erasures.split_at_mut(PLACES);
        let is_far_erased = far[0];
        if far.iter().any(|place| *place != is_far_erased) {
            DefaultEngine::eval_poly(erasures, truncated);
            return;
        }
        let logs = &*LOGS;
        let erased = Erased::new(near);
        let far = i64::from(is_far_erased) * logs.far;
        for (place, value) in near.iter_mut().enumerate() {
            let sum = (erased.sum(place, logs) + far).rem_euclid(i64::from(GF_MODULUS));
            *value = GfElement::try_from(sum).unwrap_or_default();
        }
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "small numbers of a test")]
mod tests {
    use super::*;
    use crate::sim::Rng;

    #[test]
    fn any_enough_shards_of_a_stripe_give_its_data() {
        let (mut encoder, mut decoder) = (ParityEncoder::default(), ParityDecoder::default());
        let mut rng = Rng::new(7);
        for shards in [1, 2, 3, 5, 31, 32, 33, 63, 64, 65, 96, 127, 128] {
            for shard in [2, 64, 90] {
                let data: Vec<u8> = (0..shards * shard).map(|_| rng.next() as u8).collect();
                let parity = encoder.encode(data.chunks_exact(shard), shard, MAX_SHARDS);
                assert_eq!(parity.len(), MAX_SHARDS * shard);
                let lost = rng.between(1, shards as u64) as usize;
                let mut present = u128::MAX;
                let mut damaged = data.clone();
                while (!present).count_ones() < lost as u32 {
                    let index = rng.between(0, shards as u64 - 1) as usize;
                    present &= !(1 << index);
                    damaged[index * shard..][..shard].fill(0xee);
                }
                let first = rng.between(0, (MAX_SHARDS - lost) as u64) as usize;
                let some: Vec<(usize, &[u8])> = (first..first + lost)
                    .map(|index| (index, &parity[index * shard..][..shard]))
                    .collect();
                let there = || {
                    let all = damaged.chunks_exact(shard).enumerate();
                    all.filter(|(index, _)| present & 1 << index != 0)
                };
                let shape = (shards, shard);
                let too_few = decoder.restore(shape, there(), some[1..].iter().copied());
                assert!(too_few.is_empty());
                let restored = decoder.restore(shape, there(), some.into_iter());
                for (index, bytes) in restored {
                    damaged[index * shard..][..shard].copy_from_slice(&bytes);
                }
                assert_eq!(damaged, data, "{shards} shards of {shard} bytes, {lost} lost");
            }
        }
    }

    #[test]
    fn nonsense_is_refused_and_not_a_panic() {
        let (mut encoder, mut decoder) = (ParityEncoder::default(), ParityDecoder::default());
        assert!(encoder.encode([].into_iter(), 64, 5).is_empty());
        let mut restore = |shape, parity: &[(usize, &[u8])]| {
            let parity = parity.iter().copied();
            decoder.restore(shape, std::iter::empty(), parity).is_empty()
        };
        assert!(restore((0, 0), &[]));
        assert!(restore((1, 64), &[(200, &[0; 64])]));
        assert!(restore((1, 64), &[(0, &[0; 62])]));
    }
}
