//! How fast a counter grows.

use std::collections::VecDeque;
use std::time::Duration;

/// The rate shown is the mean over this span: long enough to be readable, short enough to show a stall.
const RATE_SPAN: Duration = Duration::from_secs(5);

/// Samples kept for a rate; at one a second more than [`RATE_SPAN`] needs.
const MAX_SAMPLES: usize = 32;

/// A mean over the last [`RATE_SPAN`] of a growing counter.
#[derive(Debug, Default)]
pub(super) struct Rate {
    samples: VecDeque<(Duration, u64)>,
}

impl Rate {
    /// The counter as it stood at a time.
    pub(super) fn sample(&mut self, at: Duration, counter: u64) {
        self.samples.push_back((at, counter));
        while self.samples.len() > MAX_SAMPLES
            || self
                .samples
                .get(1)
                .is_some_and(|(second, _)| at.saturating_sub(*second) >= RATE_SPAN)
        {
            self.samples.pop_front();
        }
    }

    /// Growth a second.
    pub(super) fn per_second(&self) -> u64 {
        let (Some((from, first)), Some((to, last))) = (self.samples.front(), self.samples.back()) else {
            return 0;
        };
        let milliseconds = to.saturating_sub(*from).as_millis().max(1);
        u64::try_from(u128::from(last.saturating_sub(*first)) * 1000 / milliseconds).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Rate;

    #[test]
    fn the_rate_forgets_what_is_older_than_its_span() {
        let mut rate = Rate::default();
        for second in 0..20_u64 {
            rate.sample(
                Duration::from_secs(second),
                if second < 10 { second * 1000 } else { 10_000 },
            );
        }
        assert_eq!(rate.per_second(), 0);
    }
}
