//! The stripes that a sender keeps: from the first that some member lacks to the one that is being filled.

use std::collections::VecDeque;

use super::MAX_STRIPES;
use super::forecast::Forecast;
use super::stripe::{Filling, Stripe};
use crate::block::HEADER_LEN;
use crate::limits::MAX_BLOCK;

/// Most buffers that are kept for later stripes.
const MAX_SPARE: usize = 8;

/// Stripes in the order of the stream.
#[derive(Debug)]
pub(super) struct Store {
    /// Bytes of a whole stripe's shards.
    stripe: usize,
    filling: Filling,
    stripes: VecDeque<Stripe>,
    /// Number of the first stripe that is kept.
    first: u32,
    /// Number of the first stripe of which not all data was sent.
    closed: u32,
    /// Data shards of all stripes before that.
    shards: u64,
    /// Bytes of the stripes that are kept.
    memory: usize,
    spare: Vec<Vec<u8>>,
    forecast: Forecast,
}

impl Store {
    pub(super) fn new(shard: usize, stripe: usize) -> Self {
        Self {
            stripe,
            filling: Filling::new(shard),
            stripes: VecDeque::new(),
            first: 0,
            closed: 0,
            shards: 0,
            memory: 0,
            spare: Vec::new(),
            forecast: Forecast::default(),
        }
    }

    /// Number of the first stripe that is kept.
    pub(super) const fn first(&self) -> u32 {
        self.first
    }

    /// Number of the first stripe of which not all data was sent.
    pub(super) const fn closed(&self) -> u32 {
        self.closed
    }

    /// Data shards of all stripes of which all was sent.
    pub(super) const fn shards(&self) -> u64 {
        self.shards
    }

    /// Number of the stripe that is being filled.
    pub(super) fn end(&self) -> u32 {
        self.first + u32::try_from(self.stripes.len()).unwrap_or(u32::MAX)
    }

    /// Returns true if there is a stripe of which not all data was sent.
    pub(super) fn has_unsent(&self) -> bool {
        self.closed < self.end()
    }

    /// Returns the bytes of stripes of which not all data was sent.
    pub(super) fn unsent(&self) -> usize {
        (self.end() - self.closed) as usize * self.stripe
    }

    /// Returns true if the largest block fits, in `memory` bytes. It always does when nothing is kept.
    pub(super) fn has_room(&self, memory: usize) -> bool {
        let block = HEADER_LEN + MAX_BLOCK;
        let unsent = self.unsent();
        let stripes = self.stripes.len() + block / self.stripe + 2;
        self.stripes.is_empty()
            || (unsent <= memory / 8 && self.memory + self.stripe + block <= memory && stripes <= MAX_STRIPES)
    }

    /// Takes bytes of the stream.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = self.filling.fill(bytes);
            if self.filling.is_full() {
                self.close();
            }
        }
    }

    /// Closes the stripe that is being filled, if there is anything in it.
    pub(super) fn flush(&mut self) {
        if !self.filling.is_empty() {
            self.close();
        }
    }

    fn close(&mut self) {
        let stripe = self.filling.close(self.spare.pop().unwrap_or_default());
        self.memory += stripe.memory();
        self.stripes.push_back(stripe);
    }

    /// Returns a stripe that is kept.
    pub(super) fn stripe(&mut self, number: u32) -> Option<&mut Stripe> {
        let place = number.checked_sub(self.first)?;
        self.stripes.get_mut(place as usize)
    }

    /// Takes note that `count` datagrams of the stripe [`Self::closed`] were sent. If it is over with that,
    /// returns its number and the parity that it needs at once.
    pub(super) fn handle_sent(&mut self, count: usize, next_mark: u32) -> Option<(u32, u32)> {
        let place = self.closed.checked_sub(self.first)? as usize;
        let stripe = self.stripes.get_mut(place)?;
        stripe.handle_sent(count, next_mark);
        if !stripe.was_sent() {
            return None;
        }
        let parity = stripe.send_ahead(self.forecast.parity(stripe.shards()));
        let number = self.closed;
        self.shards += stripe.shards() as u64;
        self.closed += 1;
        Some((number, parity))
    }

    /// Takes note that stripes grew by so many bytes of parity.
    pub(super) const fn handle_growth(&mut self, bytes: usize) {
        self.memory += bytes;
    }

    /// Forgets the stripes before `number` of which all was sent.
    pub(super) fn release(&mut self, number: u32) {
        while self.first < number.min(self.closed)
            && let Some(stripe) = self.stripes.pop_front()
        {
            self.first += 1;
            self.memory -= stripe.memory().min(self.memory);
            let (ahead, repairs) = (stripe.ahead(), stripe.repairs());
            self.forecast.handle_whole(stripe.shards(), ahead, repairs);
            if self.spare.len() < MAX_SPARE {
                self.spare.push(stripe.into_buffer());
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.first = self.end();
        self.closed = self.first;
        self.stripes.clear();
        self.memory = 0;
    }
}
