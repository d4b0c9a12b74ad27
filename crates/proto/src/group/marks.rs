//! The marks of a sender, and what was over at each of them.

use std::collections::VecDeque;
use std::time::Duration;

use super::MARK_EVERY;
use super::datagram::{DatagramKey, HEADER_BYTES, Header, Kind, MARK_BYTES};

/// Most marks that are remembered: with one after each burst of repairs, more than a second of them.
const MAX_LOG: usize = 4096;

/// The numbering of marks.
#[derive(Debug)]
pub(super) struct Marks {
    /// Number of the next mark; the first one is 1.
    next: u32,
    due: Duration,
    /// Data shards that were over at the last marks, the newest last.
    log: VecDeque<u64>,
}

impl Marks {
    pub(super) const fn new(now: Duration) -> Self {
        Self {
            next: 1,
            due: now,
            log: VecDeque::new(),
        }
    }

    /// Returns the number of the next mark.
    pub(super) const fn next(&self) -> u32 {
        self.next
    }

    /// Returns the time at which the next mark must go.
    pub(super) const fn due(&self) -> Duration {
        self.due
    }

    /// Asks for a mark at once.
    pub(super) fn hurry(&mut self, now: Duration) {
        self.due = self.due.min(now);
    }

    /// Makes the next mark: `closed` stripes are over, which have `shards` data shards in all.
    pub(super) fn make(
        &mut self,
        now: Duration,
        key: &DatagramKey,
        (closed, shards): (u32, u64),
        datagram: &mut Vec<u8>,
    ) {
        datagram.clear();
        datagram.resize(MARK_BYTES, 0);
        datagram[HEADER_BYTES..HEADER_BYTES + 4].copy_from_slice(&closed.to_le_bytes());
        let header = Header {
            kind: Kind::Mark,
            index: 0,
            shards: 0,
            stream: key.stream(),
            number: self.next,
        };
        key.seal(&header, datagram);
        self.next = self.next.saturating_add(1);
        self.due = now + MARK_EVERY;
        if self.log.len() == MAX_LOG {
            self.log.pop_front();
        }
        self.log.push_back(shards);
    }

    /// Returns the data shards that were over at this mark, 0 if it is too old.
    pub(super) fn shards_at(&self, mark: u32) -> u64 {
        let age = self.next.saturating_sub(mark) as usize;
        let place = self.log.len().checked_sub(age);
        let shards = place.and_then(|place| self.log.get(place));
        shards.copied().unwrap_or_default()
    }
}
