//! The datagrams of a train that arrived at one node.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::MAX_TRAIN;

/// The account of a train at one node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Datagrams that arrived, each counted once.
    pub received: u32,
    /// Bytes a second between the first and the last arrival; 0 if all came at once.
    pub rate: u64,
    /// Packets that the kernel dropped for want of room, since the node listens.
    pub drops: u32,
    /// Datagrams that were not the sender's, since the node listens.
    pub refused: u32,
}

impl Count {
    /// Returns the share that did not arrive, in parts per million.
    #[must_use]
    pub fn lost_ppm(&self, sent: u32) -> u32 {
        let lost = u64::from(sent.saturating_sub(self.received));
        let ppm = (lost * 1_000_000).checked_div(sent.into()).unwrap_or_default();
        u32::try_from(ppm).unwrap_or(u32::MAX)
    }
}

/// The tally of one train while it arrives.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// One bit for each place of the train, up to the highest that has come.
    seen: Vec<u64>,
    received: u32,
    first: Option<Duration>,
    last: Duration,
    /// Bytes that arrived after the first receive: they took the time from the first to the last arrival.
    later_bytes: u64,
}

impl Tally {
    /// Takes the datagram at this place of the train, `bytes` long. A repeat changes nothing.
    pub(super) fn take(&mut self, now: Duration, place: u32, bytes: usize) {
        let (Ok(word), bit) = (usize::try_from(place / 64), 1 << (place % 64)) else {
            return;
        };
        if place >= MAX_TRAIN {
            return;
        }
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit != 0 {
            return;
        }
        self.seen[word] |= bit;
        self.received += 1;
        if *self.first.get_or_insert(now) != now {
            self.later_bytes = self.later_bytes.saturating_add(bytes as u64);
        }
        self.last = now;
    }

    pub(super) const fn received(&self) -> u32 {
        self.received
    }

    /// Returns the time of the newest arrival.
    pub(super) fn last(&self) -> Option<Duration> {
        self.first.map(|_| self.last)
    }

    /// Returns the bytes a second after the first receive.
    pub(super) fn rate(&self) -> u64 {
        let span = self
            .first
            .map_or(Duration::ZERO, |first| self.last.saturating_sub(first));
        let rate = (u128::from(self.later_bytes) * 1_000_000_000).checked_div(span.as_nanos());
        rate.map_or(0, |rate| u64::try_from(rate).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_datagram_counts_once_and_the_rate_is_that_of_the_arrivals() {
        let mut tally = Tally::default();
        assert_eq!((tally.received(), tally.rate(), tally.last()), (0, 0, None));
        for (ms, place) in [(5, 0), (5, 1), (10, 2), (15, 3), (15, 3), (15, 0)] {
            tally.take(Duration::from_millis(ms), place, 1000);
        }
        assert_eq!(tally.received(), 4);
        assert_eq!(tally.rate(), 200_000, "2000 bytes in 10 ms");
        assert_eq!(tally.last(), Some(Duration::from_millis(15)));
        tally.take(Duration::from_millis(20), MAX_TRAIN, 1000);
        assert_eq!(tally.received(), 4);
    }

    #[test]
    fn loss_is_a_share_of_the_sent() {
        let count = Count {
            received: 98,
            ..Count::default()
        };
        assert_eq!(count.lost_ppm(100), 20_000);
        assert_eq!(count.lost_ppm(90), 0, "a node cannot claim more than all");
        assert_eq!(Count::default().lost_ppm(0), 0);
        assert_eq!(Count::default().lost_ppm(u32::MAX), 1_000_000);
    }
}
