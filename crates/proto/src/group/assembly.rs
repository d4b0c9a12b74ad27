//! A stripe at a member: the shards that have come, each in its place.

use super::datagram::{FIRST_PARITY, Header, Kind};
use super::parity::ParityDecoder;

/// A stripe of which at least one shard has come.
#[derive(Debug)]
pub(super) struct Assembly {
    shards: u8,
    /// Bit *i* is set if data shard *i* is there.
    present: u128,
    data: Vec<u8>,
    /// Bit *i* is set if parity shard *i* is there.
    parity_present: u128,
    parity: Vec<(u8, Vec<u8>)>,
}

impl Assembly {
    /// Returns a stripe of `shards` data shards of `shard` bytes, none of which is there, in `buffer`.
    pub(super) fn new(shards: u8, shard: usize, mut buffer: Vec<u8>) -> Self {
        buffer.resize(usize::from(shards) * shard, 0);
        Self {
            shards,
            present: 0,
            data: buffer,
            parity_present: 0,
            parity: Vec::new(),
        }
    }

    /// Number of shards that are lacking.
    pub(super) fn missing(&self) -> usize {
        let there = self.present.count_ones() + self.parity_present.count_ones();
        usize::from(self.shards).saturating_sub(there as usize)
    }

    /// Number of data shards that are lacking.
    pub(super) fn missing_data(&self) -> usize {
        usize::from(self.shards).saturating_sub(self.present.count_ones() as usize)
    }

    /// Returns true if the datagram's shard has a place here that is empty.
    pub(super) const fn lacks(&self, header: &Header) -> bool {
        match header.kind {
            Kind::Data => self.present & 1 << header.index == 0,
            Kind::Parity => self.parity_present & 1 << (header.index - FIRST_PARITY) == 0,
            Kind::Mark | Kind::Probe => false,
        }
    }

    /// Returns true if the datagram speaks of a stripe of this length.
    pub(super) const fn agrees(&self, header: &Header) -> bool {
        header.shards == self.shards
    }

    /// Puts a shard into its place. It is one that [`Self::lacks`], and of the size of all others.
    pub(super) fn insert(&mut self, header: &Header, shard: &[u8]) {
        if header.kind == Kind::Parity {
            let index = header.index - FIRST_PARITY;
            self.parity_present |= 1 << index;
            self.parity.push((index, shard.to_vec()));
            return;
        }
        let start = usize::from(header.index) * shard.len();
        if let Some(place) = self.data.get_mut(start..start + shard.len()) {
            place.copy_from_slice(shard);
            self.present |= 1 << header.index;
        }
    }

    /// Returns the bytes of the data shards. Call it when none [`Self::missing`].
    pub(super) fn into_bytes(mut self, decoder: &mut ParityDecoder) -> Option<Vec<u8>> {
        let is_whole = self.missing_data() == 0
            || decoder.restore(
                &mut self.data,
                usize::from(self.shards),
                self.present,
                &self.parity,
            );
        is_whole.then_some(self.data)
    }
}
