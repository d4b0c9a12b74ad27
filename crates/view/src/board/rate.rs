//! The rate of a growing counter.

use std::collections::VecDeque;
use std::time::Duration;

/// Span over which the rate is the mean. It is long enough to be readable, and short enough to show a stall.
const RATE_SPAN: Duration = Duration::from_secs(5);

/// Most samples kept for a rate. With one a second this is more than [`RATE_SPAN`] needs.
const MAX_SAMPLES: usize = 32;

/// The mean rate of a growing counter over the last [`RATE_SPAN`].
#[derive(Debug, Default)]
pub(super) struct Rate {
    samples: VecDeque<(Duration, u64)>,
}

impl Rate {
    /// Adds the counter's value at a time.
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

    /// Returns the growth in a second.
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
