//! Stripes at the sender: filled with the bytes of blocks, in place in the datagrams that carry them.

use super::MAX_SHARDS;
use super::datagram::{DatagramKey, FIRST_PARITY, HEADER_BYTES, Header, Kind, OVERHEAD};
use super::parity::ParityEncoder;

/// Parity shards that are kept at least, once a stripe needs any.
const LEAST_PARITY: usize = 16;

/// The stripe that is being filled.
#[derive(Debug)]
pub(super) struct Filling {
    shard: usize,
    datagrams: Vec<u8>,
    /// Bytes of the shards that are filled.
    used: usize,
}

impl Filling {
    /// Returns an empty stripe of shards of this size.
    pub(super) fn new(shard: usize) -> Self {
        Self::from_buffer(shard, Vec::new())
    }

    fn from_buffer(shard: usize, mut datagrams: Vec<u8>) -> Self {
        datagrams.resize(MAX_SHARDS * (shard + OVERHEAD), 0);
        Self {
            shard,
            datagrams,
            used: 0,
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.used == 0
    }

    pub(super) const fn is_full(&self) -> bool {
        self.used == self.shard * MAX_SHARDS
    }

    /// Takes bytes up to the end of the stripe and returns the rest.
    pub(super) fn fill<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        while !bytes.is_empty() && !self.is_full() {
            let (index, filled) = (self.used / self.shard, self.used % self.shard);
            let (part, rest) = bytes.split_at(bytes.len().min(self.shard - filled));
            let start = index * (self.shard + OVERHEAD) + HEADER_BYTES + filled;
            self.datagrams[start..start + part.len()].copy_from_slice(part);
            self.used += part.len();
            bytes = rest;
        }
        bytes
    }

    /// Closes the stripe, with zeros behind what it has, and begins the next one in `buffer`.
    pub(super) fn close(&mut self, buffer: Vec<u8>) -> Stripe {
        let shards = self.used.div_ceil(self.shard);
        let padding = shards * self.shard - self.used;
        let size = self.shard + OVERHEAD;
        let end = shards * size - (OVERHEAD - HEADER_BYTES);
        self.datagrams[end - padding..end].fill(0);
        let next = Self::from_buffer(self.shard, buffer);
        let mut datagrams = std::mem::replace(self, next).datagrams;
        datagrams.truncate(shards * size);
        if shards <= MAX_SHARDS / 2 {
            datagrams.shrink_to_fit();
        }
        Stripe {
            size,
            datagrams,
            sealed: 0,
            sent: 0,
            parity: Vec::new(),
            repairs: 0,
            wanted: 0,
            ahead: 0,
            counts_from: 0,
            is_queued: false,
        }
    }
}

/// A closed stripe, kept until every member has it.
#[derive(Debug)]
pub(super) struct Stripe {
    /// Bytes of a datagram.
    size: usize,
    datagrams: Vec<u8>,
    /// Datagrams with header and MAC.
    sealed: usize,
    /// Data datagrams that were sent once.
    sent: usize,
    /// The first parity shards, made when they are needed.
    parity: Vec<u8>,
    /// Repairs that were sent.
    repairs: u32,
    /// Repairs that are needed in all, as far as reports tell.
    wanted: u32,
    /// Repairs that were sent before anybody asked.
    ahead: u32,
    /// First mark after which a count includes everything that was sent of this stripe.
    counts_from: u32,
    /// True while the stripe stands in the sender's queue of repairs.
    is_queued: bool,
}

impl Stripe {
    /// Number of data shards, 1 to 128.
    pub(super) fn shards(&self) -> usize {
        self.datagrams.len() / self.size
    }

    /// Bytes that this holds.
    pub(super) const fn memory(&self) -> usize {
        self.datagrams.capacity() + self.parity.capacity()
    }

    /// True once each data shard was sent once.
    pub(super) fn was_sent(&self) -> bool {
        self.sent == self.shards()
    }

    /// Returns the buffer, for another stripe.
    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.datagrams
    }

    /// Returns at most `most` data datagrams that were not sent yet, sealed.
    pub(super) fn unsent(&mut self, key: &DatagramKey, number: u32, most: usize) -> &[u8] {
        let until = self.shards().min(self.sent + most);
        while self.sealed < until {
            let header = self.header(key, Kind::Data, self.sealed, number);
            let start = self.sealed * self.size;
            key.seal(&header, &mut self.datagrams[start..start + self.size]);
            self.sealed += 1;
        }
        &self.datagrams[self.sent * self.size..until * self.size]
    }

    /// Takes note that the next `count` data datagrams were sent, before the mark `next_mark`.
    pub(super) fn handle_sent(&mut self, count: usize, next_mark: u32) {
        self.sent = self.shards().min(self.sent + count);
        self.counts_from = next_mark;
    }

    /// Takes in that somebody lacks `missing` shards, counted at `mark`. Returns by how many repairs more are
    /// wanted for that. A count from before the last datagram of this stripe says nothing.
    pub(super) fn want(&mut self, missing: usize, mark: u32) -> u32 {
        if mark < self.counts_from {
            return 0;
        }
        let missing = u32::try_from(missing.min(self.shards())).unwrap_or_default();
        let before = self.wanted;
        self.wanted = before.max(self.repairs + missing);
        self.wanted - before
    }

    /// Asks for `count` repairs before anybody else does.
    pub(super) fn send_ahead(&mut self, count: usize) -> u32 {
        self.ahead = self.want(count, self.counts_from);
        self.ahead
    }

    /// Number of repairs that were sent before anybody asked.
    pub(super) const fn ahead(&self) -> u32 {
        self.ahead
    }

    /// Number of repairs that were sent.
    pub(super) const fn repairs(&self) -> u32 {
        self.repairs
    }

    /// Number of repairs that are to be sent.
    pub(super) const fn owed(&self) -> u32 {
        self.wanted - self.repairs
    }

    /// Sets the place in the queue of repairs. Returns true if it had none.
    pub(super) const fn enqueue(&mut self) -> bool {
        let was_queued = self.is_queued;
        self.is_queued = true;
        !was_queued
    }

    /// Takes the stripe out of the queue of repairs.
    pub(super) const fn dequeue(&mut self) {
        self.is_queued = false;
    }

    /// Appends the next repair to `burst`, sealed. Parity comes first, each shard once, then data again.
    pub(super) fn repair(
        &mut self,
        key: &DatagramKey,
        encoder: &mut ParityEncoder,
        (number, next_mark): (u32, u32),
        burst: &mut Vec<u8>,
    ) {
        let cycle = MAX_SHARDS + self.shards();
        let place = self.repairs as usize % cycle;
        self.repairs += 1;
        self.wanted = self.wanted.max(self.repairs);
        self.counts_from = next_mark;
        if let Some(index) = place.checked_sub(MAX_SHARDS) {
            burst.extend_from_slice(&self.datagrams[index * self.size..(index + 1) * self.size]);
            return;
        }
        let shard = self.size - OVERHEAD;
        if self.parity.len() <= place * shard {
            self.make_parity(encoder, place);
        }
        let Some(parity) = self.parity.get(place * shard..(place + 1) * shard) else {
            return;
        };
        let start = burst.len();
        burst.resize(start + self.size, 0);
        let datagram = &mut burst[start..];
        datagram[HEADER_BYTES..HEADER_BYTES + shard].copy_from_slice(parity);
        let header = self.header(key, Kind::Parity, place, number);
        key.seal(&header, datagram);
    }

    fn make_parity(&mut self, encoder: &mut ParityEncoder, place: usize) {
        let count = MAX_SHARDS.min(
            LEAST_PARITY
                .max(2 * (place + 1))
                .max(self.owed() as usize + place),
        );
        let (size, shard) = (self.size, self.size - OVERHEAD);
        let data = self
            .datagrams
            .chunks_exact(size)
            .map(|datagram| &datagram[HEADER_BYTES..HEADER_BYTES + shard]);
        self.parity = encoder.encode(data, shard, count);
    }

    fn header(&self, key: &DatagramKey, kind: Kind, index: usize, number: u32) -> Header {
        let index = u8::try_from(index).unwrap_or_default();
        Header {
            kind,
            index: if kind == Kind::Parity {
                FIRST_PARITY + index
            } else {
                index
            },
            shards: u8::try_from(self.shards()).unwrap_or_default(),
            stream: key.stream(),
            number,
        }
    }
}
