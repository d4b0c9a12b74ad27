//! Parity that is sent ahead of any report.
//!
//! In a large group nearly every stripe is lacking somewhere, and each round of reports and repairs takes
//! time and feedback. The least number of repairs that any of the last stripes needed is sent with the next
//! ones at once. It would have been asked for all the same, so it costs next to no bytes.

use std::collections::VecDeque;

use super::MAX_SHARDS;

/// Stripes that are looked at.
const STRIPES: usize = 32;

/// The needs of the last stripes.
#[derive(Debug, Default)]
pub(super) struct Forecast {
    needs: VecDeque<u32>,
}

impl Forecast {
    /// Takes in that a stripe of `shards` is whole everywhere, after `repairs` of which `ahead` were sent
    /// before anybody asked.
    pub(super) fn handle_whole(&mut self, shards: usize, ahead: u32, repairs: u32) {
        if shards < MAX_SHARDS {
            return;
        }
        // If nobody asked for more, the need is not known; it may be less.
        let need = if repairs > ahead {
            repairs
        } else {
            ahead.saturating_sub(1)
        };
        if self.needs.len() == STRIPES {
            self.needs.pop_front();
        }
        self.needs.push_back(need);
    }

    /// Returns the parity to send with a stripe of `shards`.
    pub(super) fn parity(&self, shards: usize) -> usize {
        if shards < MAX_SHARDS || self.needs.len() < STRIPES {
            return 0;
        }
        let least = self.needs.iter().min().copied().unwrap_or_default();
        (least as usize).min(MAX_SHARDS / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_goes_ahead_as_every_stripe_needed() {
        let mut forecast = Forecast::default();
        for stripe in 0..40 {
            forecast.handle_whole(128, 0, 3 + stripe % 5);
        }
        assert_eq!(forecast.parity(128), 3);
        assert_eq!(forecast.parity(5), 0);
    }

    #[test]
    fn it_falls_when_nobody_asks_for_more() {
        let mut forecast = Forecast::default();
        for _ in 0..32 {
            forecast.handle_whole(128, 0, 4);
        }
        for left in (0..4).rev() {
            let ahead = u32::try_from(forecast.parity(128)).unwrap();
            forecast.handle_whole(128, ahead, ahead);
            assert_eq!(forecast.parity(128), left);
        }
    }
}
