//! A stripe at a member: the datagrams that have come, each where it was received.

use std::ops::Range;
use std::sync::Arc;

use super::datagram::{DatagramKey, FIRST_PARITY, Header, Kind, body};
use super::parity::ParityDecoder;

/// A datagram in the buffer that it was received into, which it shares with others.
#[derive(Debug, Clone)]
pub(super) struct Held {
    buffer: Arc<Vec<u8>>,
    place: Range<usize>,
}

impl Held {
    pub(super) fn new(buffer: &Arc<Vec<u8>>, place: Range<usize>) -> Self {
        let buffer = Arc::clone(buffer);
        Self { buffer, place }
    }

    /// Returns the whole datagram.
    pub(super) fn datagram(&self) -> &[u8] {
        self.buffer.get(self.place.clone()).unwrap_or_default()
    }
}

/// A stripe of which at least one shard has come.
#[derive(Debug, Clone)]
pub(super) struct Assembly {
    /// Bytes of a shard.
    shard: usize,
    /// Bit *i* is set if data shard *i* is there.
    present: u128,
    /// A place for each data shard.
    data: Vec<Option<Held>>,
    /// Bit *i* is set if parity shard *i* is there.
    parity_present: u128,
    parity: Vec<(u8, Held)>,
    /// The data shards that parity has brought back, by their index.
    restored: Vec<(usize, Vec<u8>)>,
}

impl Assembly {
    /// Returns a stripe of `shards` data shards of `shard` bytes, none of which is there.
    pub(super) fn new(shards: u8, shard: usize) -> Self {
        Self {
            shard,
            present: 0,
            data: vec![None; usize::from(shards)],
            parity_present: 0,
            parity: Vec::new(),
            restored: Vec::new(),
        }
    }

    /// Number of shards that are lacking.
    pub(super) fn missing(&self) -> usize {
        let there = self.present.count_ones() + self.parity_present.count_ones();
        self.data.len().saturating_sub(there as usize)
    }

    /// Number of data shards that are lacking.
    pub(super) fn missing_data(&self) -> usize {
        self.data.len().saturating_sub(self.present.count_ones() as usize)
    }

    /// Returns true if nothing has come.
    pub(super) const fn is_empty(&self) -> bool {
        self.present == 0 && self.parity_present == 0
    }

    /// Returns the datagram that is in the place of this one.
    pub(super) fn held(&self, header: &Header) -> Option<&Held> {
        match header.kind {
            Kind::Data => self.data.get(usize::from(header.index))?.as_ref(),
            Kind::Parity => {
                let index = header.index - FIRST_PARITY;
                let held = self.parity.iter().find(|(place, _)| *place == index)?;
                Some(&held.1)
            }
            Kind::Mark | Kind::Probe => None,
        }
    }

    /// Returns true if the datagram's shard is of use here.
    pub(super) fn lacks(&self, header: &Header) -> bool {
        self.missing() > 0 && self.held(header).is_none()
    }

    /// Returns true if the datagram speaks of a stripe of this length.
    pub(super) fn agrees(&self, header: &Header) -> bool {
        usize::from(header.shards) == self.data.len()
    }

    /// Puts a datagram into its place, which is empty. Its shard has the size of all others.
    pub(super) fn insert(&mut self, header: &Header, datagram: Held) {
        if header.kind == Kind::Parity {
            let index = header.index - FIRST_PARITY;
            self.parity_present |= 1 << index;
            self.parity.push((index, datagram));
        } else if let Some(place) = self.data.get_mut(usize::from(header.index)) {
            *place = Some(datagram);
            self.present |= 1 << header.index;
        }
    }

    /// Drops the datagrams that carry a wrong MAC, and all that came of them. Returns their number.
    pub(super) fn drop_wrong(&mut self, key: &DatagramKey) -> u64 {
        self.restored.clear();
        let mut dropped = 0;
        for (index, place) in self.data.iter_mut().enumerate() {
            if place.as_ref().is_some_and(|held| !key.is_right(held.datagram())) {
                *place = None;
                self.present &= !(1 << index);
                dropped += 1;
            }
        }
        let present = &mut self.parity_present;
        self.parity.retain(|(index, held)| {
            let is_right = key.is_right(held.datagram());
            if !is_right {
                *present &= !(1 << *index);
                dropped += 1;
            }
            is_right
        });
        dropped
    }

    /// Brings back the data shards that are lacking. Call it when none [`Self::missing`].
    pub(super) fn restore(&mut self, decoder: &mut ParityDecoder) {
        if self.missing_data() == 0 {
            return;
        }
        let data = self.data.iter().enumerate();
        let data = data.filter_map(|(index, held)| Some((index, body(held.as_ref()?.datagram()))));
        let parity = self.parity.iter();
        let parity = parity.map(|(index, held)| (usize::from(*index), body(held.datagram())));
        self.restored = decoder.restore((self.data.len(), self.shard), data, parity);
    }

    /// Number of data shards.
    pub(super) const fn shards(&self) -> usize {
        self.data.len()
    }

    /// Returns the bytes of a data shard: nothing if it is lacking.
    pub(super) fn shard(&self, index: usize) -> &[u8] {
        match self.data.get(index) {
            Some(Some(held)) => body(held.datagram()),
            _ => {
                let restored = self.restored.iter().find(|(place, _)| *place == index);
                restored.map_or(&[], |(_, bytes)| bytes)
            }
        }
    }
}

/// A stripe of which all data is there.
#[derive(Debug, Clone)]
pub(super) struct WholeStripe {
    number: u32,
    assembly: Arc<Assembly>,
}

impl WholeStripe {
    pub(super) fn new(number: u32, assembly: Assembly) -> Self {
        Self {
            number,
            assembly: Arc::new(assembly),
        }
    }

    /// Returns its number, counted from 0.
    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    /// Returns the bytes of the shard that holds the byte at `offset`, from there on. Nothing if the stripe ends
    /// before it.
    pub(super) fn from(&self, offset: usize) -> &[u8] {
        let size = self.assembly.shard.max(1);
        let shard = self.assembly.shard(offset / size);
        shard.get(offset % size..).unwrap_or_default()
    }

    /// Returns the number of bytes of its shards.
    pub(super) fn len(&self) -> usize {
        self.assembly.shards() * self.assembly.shard
    }

    /// Returns the stripe as a member holds it.
    pub(super) fn into_assembly(self) -> Assembly {
        Arc::unwrap_or_clone(self.assembly)
    }
}
