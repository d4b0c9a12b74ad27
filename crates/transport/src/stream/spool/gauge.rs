//! The rate at which branches are fed. They take the rest of the server's line, so that the chain does not
//! slow down for nodes that lost their place.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ka_proto::pace::Pace;

/// While the chain's own line is busy for more than this share of the time, in percent, nothing is left of
/// it.
const BUSY_PERCENT: u64 = 70;
/// The part of a busy line that all branches together may take: so the chain loses a ninth at most.
const SHARE_OF_BUSY: u64 = 8;
/// Less is not sensible: a node would be fed for days. Bytes a second.
const LEAST_RATE: u64 = 1 << 20;
/// Longest sleep of a branch before it looks at its rate again: it may have become another one, or the branch
/// is over.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// The rate that branches may take together.
#[derive(Debug)]
pub(crate) struct Gauge {
    bytes_per_second: AtomicU64,
    branches: AtomicUsize,
}

impl Default for Gauge {
    fn default() -> Self {
        Self {
            bytes_per_second: AtomicU64::new(LEAST_RATE),
            branches: AtomicUsize::new(0),
        }
    }
}

impl Gauge {
    /// Adjusts the rate to the use of the head's time since the last call. A busy line leaves an eighth of
    /// what it carries, an idle one twice as much as before.
    pub(crate) fn adjust(&self, pace: &Pace) {
        let elapsed_ms = u64::from(pace.elapsed_ms).max(1);
        let is_busy = u64::from(pace.link_busy_ms) * 100 / elapsed_ms > BUSY_PERCENT;
        let rate = if is_busy {
            pace.link_bytes.saturating_mul(1000) / elapsed_ms / SHARE_OF_BUSY
        } else {
            self.bytes_per_second.load(Ordering::Relaxed).saturating_mul(2)
        };
        self.bytes_per_second
            .store(rate.max(LEAST_RATE), Ordering::Relaxed);
    }

    pub(super) fn enter(&self) {
        self.branches.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leave(&self) {
        self.branches.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns the rate of one branch, bytes a second.
    fn share(&self) -> u64 {
        let branches = self.branches.load(Ordering::Relaxed).max(1) as u64;
        (self.bytes_per_second.load(Ordering::Relaxed) / branches).max(1)
    }
}

/// One branch's own clock.
#[derive(Debug)]
pub(super) struct Throttle {
    paid_until: Instant,
}

impl Throttle {
    pub(super) fn new() -> Self {
        Self {
            paid_until: Instant::now(),
        }
    }

    /// Sleeps as long as `bytes` take at the branch's share, which may change meanwhile, or until it
    /// `is_over`.
    pub(super) fn pay(&mut self, bytes: u64, gauge: &Gauge, is_over: impl Fn() -> bool) {
        // Unused rate is not saved up.
        self.paid_until = self.paid_until.max(Instant::now());
        let mut owed = bytes;
        while owed > 0 && !is_over() {
            let share = gauge.share();
            let whole = Duration::from_micros(owed.saturating_mul(1_000_000) / share);
            let part = whole.min(LONGEST_SLEEP);
            let part_micros = u64::try_from(part.as_micros()).unwrap_or(u64::MAX);
            let paid = if part == whole {
                owed
            } else {
                share.saturating_mul(part_micros) / 1_000_000
            };
            owed = owed.saturating_sub(paid.max(1));
            self.paid_until += part;
            std::thread::sleep(self.paid_until.saturating_duration_since(Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(busy_ms: u32) -> Pace {
        Pace {
            elapsed_ms: 500,
            link_busy_ms: busy_ms,
            link_bytes: 40 << 20,
            ..Pace::default()
        }
    }

    #[test]
    fn branches_take_an_eighth_of_a_busy_line_and_ever_more_of_an_idle_one() {
        let gauge = Gauge::default();
        gauge.enter();
        gauge.adjust(&pace(480));
        assert_eq!(gauge.share(), 10 << 20);
        gauge.enter();
        assert_eq!(gauge.share(), 5 << 20, "together");
        gauge.leave();
        for _ in 0..3 {
            gauge.adjust(&pace(100));
        }
        assert_eq!(gauge.share(), 80 << 20);
        (0..200).for_each(|_| gauge.adjust(&pace(0)));
        assert!(gauge.share() > 1 << 60, "without a bound at last");
        gauge.adjust(&pace(500));
        assert_eq!(gauge.share(), 10 << 20, "and back at once");
    }

    #[test]
    fn a_line_that_carries_nothing_leaves_something() {
        let gauge = Gauge::default();
        gauge.adjust(&Pace {
            elapsed_ms: 500,
            link_busy_ms: 500,
            ..Pace::default()
        });
        assert_eq!(gauge.share(), LEAST_RATE);
    }

    #[test]
    fn a_branch_that_is_over_pays_nothing() {
        let (gauge, began) = (Gauge::default(), Instant::now());
        Throttle::new().pay(u64::MAX, &gauge, || true);
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}
