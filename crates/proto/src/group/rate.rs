//! The rate of a sender: a token bucket, steered by what members report.
//!
//! The rate rises while it is the limit and nobody loses anything, and falls when the group loses or a
//! member's socket overflows. Near the rate of the last congestion it rises slowly. Loss that a lower rate
//! does not cure is the line's own: it is told apart by trying, and is no congestion afterwards.

use std::time::Duration;

/// Loss of the median member, in hundredths of a percent, that is congestion.
const CONGESTED: u32 = 300;
/// Intervals from one fall to the next one at least.
const SETTLE: u32 = 3;
/// Part of the start rate that the rate never falls below.
const FLOOR: u64 = 64;
/// Time whose tokens the bucket holds: a thread may wake up so late.
const DEPTH: Duration = Duration::from_millis(2);

/// An interval between two looks at the members.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Interval {
    /// Loss of the median member, in hundredths of a percent. `None` if nobody told any.
    pub(super) loss: Option<u32>,
    /// True if the socket of a member dropped datagrams.
    pub(super) has_drops: bool,
}

/// The token bucket.
#[derive(Debug)]
pub(super) struct Rate {
    /// Bytes a second.
    rate: u64,
    floor: u64,
    /// Bytes that may go now. A burst may go as long as this is not negative, and leaves a debt.
    tokens: i64,
    refilled: Duration,
    /// Bytes that were sent since the interval began, and its beginning.
    sent: (u64, Duration),
    /// Rate at which the group was congested last.
    ceiling: Option<u64>,
    /// Loss that is the line's own, in hundredths of a percent.
    background: u32,
    /// Loss, and bytes a second that arrived, before the last fall, until it is known what the fall did.
    before: Option<(u32, u64)>,
    since_fall: u32,
}

impl Rate {
    /// Returns a bucket that gives `start` bytes a second.
    pub(super) fn new(start: u64, now: Duration) -> Self {
        let rate = start.max(FLOOR * 1024);
        Self {
            rate,
            floor: rate / FLOOR,
            tokens: 0,
            refilled: now,
            sent: (0, now),
            ceiling: None,
            background: 0,
            before: None,
            since_fall: SETTLE,
        }
    }

    /// Returns the rate, in bytes a second.
    pub(super) const fn bytes_a_second(&self) -> u64 {
        self.rate
    }

    /// Returns true if a burst may go now.
    pub(super) fn may_send(&mut self, now: Duration) -> bool {
        self.refill(now);
        self.tokens >= 0
    }

    /// Returns the time at which a burst may go.
    pub(super) fn ready_at(&self) -> Duration {
        let debt = u64::try_from(-self.tokens).unwrap_or_default();
        self.refilled + Duration::from_nanos(nanos(debt, self.rate))
    }

    /// Takes the tokens of a burst that was sent.
    pub(super) fn take(&mut self, bytes: usize) {
        self.tokens = self
            .tokens
            .saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.sent.0 += bytes as u64;
    }

    fn refill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.refilled);
        let gained = bytes_in(passed, self.rate);
        if gained == 0 {
            return;
        }
        let depth = bytes_in(DEPTH, self.rate);
        let tokens = self
            .tokens
            .saturating_add(i64::try_from(gained).unwrap_or(i64::MAX));
        self.tokens = tokens.min(i64::try_from(depth).unwrap_or(i64::MAX));
        self.refilled = now;
    }

    /// Ends an interval.
    pub(super) fn end_interval(&mut self, now: Duration, interval: Interval) {
        let (sent, since) = std::mem::replace(&mut self.sent, (0, now));
        let was_limit = sent >= bytes_in(now.saturating_sub(since), self.rate) / 10 * 9;
        self.since_fall = self.since_fall.saturating_add(1);
        let Some(loss) = interval.loss else {
            if interval.has_drops {
                self.fall(None);
            }
            return;
        };
        self.background = self.background.min(loss);
        if self.since_fall == SETTLE
            && let Some((before, arrived)) = self.before.take()
            && loss <= before / 10 * 11 + 50
            && arriving(self.rate, loss) < arrived / 1000 * 925
        {
            // At a bottleneck less would be lost, and as much arrive as before.
            self.background = loss;
        }
        if loss > CONGESTED + self.background {
            self.fall(Some(loss));
        } else if interval.has_drops {
            self.fall(None);
        } else if was_limit {
            self.rise();
        }
    }

    fn fall(&mut self, loss: Option<u32>) {
        if self.since_fall < SETTLE {
            return;
        }
        self.ceiling = Some(self.rate);
        self.before = loss.map(|loss| (loss, arriving(self.rate, loss)));
        self.rate = (self.rate / 100 * 85).max(self.floor);
        self.since_fall = 0;
    }

    fn rise(&mut self) {
        let is_near = self.ceiling.is_some_and(|ceiling| self.rate >= ceiling / 20 * 19);
        let step = if is_near { self.rate / 200 } else { self.rate / 20 };
        self.rate = self.rate.saturating_add(step);
        self.ceiling = self.ceiling.filter(|ceiling| self.rate <= ceiling / 20 * 21);
    }
}

/// Returns the bytes a second that arrive, with a loss in hundredths of a percent.
fn arriving(rate: u64, loss: u32) -> u64 {
    rate / 10_000 * u64::from(10_000_u32.saturating_sub(loss))
}

/// Returns the bytes that go at `rate` in this time.
fn bytes_in(time: Duration, rate: u64) -> u64 {
    let bytes = time.as_nanos() * u128::from(rate) / 1_000_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Returns the nanoseconds that `bytes` take at `rate`, rounded up.
fn nanos(bytes: u64, rate: u64) -> u64 {
    let nanos = (u128::from(bytes) * 1_000_000_000).div_ceil(u128::from(rate.max(1)));
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(50);

    const fn loss(loss: u32) -> Interval {
        Interval {
            loss: Some(loss),
            has_drops: false,
        }
    }

    /// Ends an interval in which the rate was the limit.
    fn limited(rate: &mut Rate, interval: Interval) {
        rate.sent.0 = rate.rate / 20;
        rate.end_interval(rate.sent.1 + EVERY, interval);
    }

    #[test]
    fn tokens_come_at_the_rate_and_do_not_pile_up() {
        let mut rate = Rate::new(100_000_000, Duration::ZERO);
        let (mut now, mut sent) = (Duration::ZERO, 0u64);
        while now < Duration::from_secs(1) {
            while rate.may_send(now) {
                rate.take(64_768);
                sent += 64_768;
            }
            now = rate.ready_at();
        }
        assert!((99_900_000..100_200_000).contains(&sent), "{sent}");
        rate.refill(now + Duration::from_secs(60));
        assert!(rate.tokens <= 200_000, "{}", rate.tokens);
    }

    #[test]
    fn the_rate_rises_only_while_it_is_the_limit() {
        let mut rate = Rate::new(1_000_000, Duration::ZERO);
        rate.sent.0 = 40_000;
        rate.end_interval(EVERY, loss(0));
        assert_eq!(rate.bytes_a_second(), 1_000_000);
        limited(&mut rate, loss(0));
        assert_eq!(rate.bytes_a_second(), 1_050_000);
    }

    #[test]
    fn congestion_lowers_the_rate_and_is_approached_slowly_afterwards() {
        let mut rate = Rate::new(1_000_000, Duration::ZERO);
        limited(&mut rate, loss(2000));
        assert_eq!(rate.bytes_a_second(), 850_000);
        limited(&mut rate, loss(2000));
        assert_eq!(rate.bytes_a_second(), 850_000, "twice for one congestion");
        for _ in 0..12 {
            limited(&mut rate, loss(0));
        }
        assert!((950_000..1_050_000).contains(&rate.bytes_a_second()), "{rate:?}");
    }

    #[test]
    fn loss_that_a_lower_rate_does_not_cure_is_no_congestion() {
        let mut rate = Rate::new(1_000_000, Duration::ZERO);
        for _ in 0..100 {
            limited(&mut rate, loss(500));
        }
        assert!(rate.bytes_a_second() >= 1_000_000, "{rate:?}");
        for _ in 0..10 {
            limited(&mut rate, loss(1500));
        }
        assert_eq!(rate.background, 500.max(rate.background), "{rate:?}");
    }

    #[test]
    fn the_rate_falls_to_a_bottleneck_far_below_it() {
        let mut rate = Rate::new(1_000_000, Duration::ZERO);
        for _ in 0..100 {
            let lost = rate.bytes_a_second().saturating_sub(300_000) * 10_000 / rate.bytes_a_second();
            limited(&mut rate, loss(u32::try_from(lost).unwrap()));
        }
        assert!((250_000..320_000).contains(&rate.bytes_a_second()), "{rate:?}");
    }

    #[test]
    fn the_rate_has_a_floor() {
        let mut rate = Rate::new(6_400_000, Duration::ZERO);
        for _ in 0..1000 {
            let drops = Interval {
                loss: None,
                has_drops: true,
            };
            limited(&mut rate, drops);
        }
        assert_eq!(rate.bytes_a_second(), 100_000);
    }
}
