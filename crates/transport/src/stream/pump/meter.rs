//! The pump's clock, and its report of where the time goes.

use std::time::{Duration, Instant};

use crate::stream::processor;
use crate::stream::spent::{LinkUse, Spent, Waits};

/// Interval of the readings of the line to the successor. The server gets reports as often.
const LINE_INTERVAL: Duration = Duration::from_millis(500);

/// A clock that is read after each wait and each block: a block's worth of work needs no finer one, and
/// reading it costs as much as a small hash.
#[derive(Debug)]
pub(super) struct Meter {
    epoch: Instant,
    now: Duration,
    /// The end of the last wait.
    woke_at: Duration,
    /// The end of the last sleep.
    working_since: Duration,
    line_read_at: Duration,
}

impl Meter {
    /// Returns a clock that begins now.
    pub(super) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            now: Duration::ZERO,
            woke_at: Duration::ZERO,
            working_since: Duration::ZERO,
            line_read_at: Duration::ZERO,
        }
    }

    /// Returns the time when the clock was read last.
    pub(super) const fn now(&self) -> Duration {
        self.now
    }

    /// Reads the clock.
    pub(super) fn read(&mut self) -> Duration {
        self.now = self.epoch.elapsed();
        self.now
    }

    /// Returns the time at which the pump's last wait ended.
    pub(super) const fn woke_at(&self) -> Duration {
        self.woke_at
    }

    /// A wait is over, with or without sleep: reads the clock.
    pub(super) fn wake(&mut self) {
        self.woke_at = self.read();
    }

    /// Counts the work that is done, and then the time that `sleep` takes as waiting for `waits`.
    pub(super) fn sleep<T>(&mut self, spent: &Spent, waits: Waits, sleep: impl FnOnce(Duration) -> T) -> T {
        let asleep_at = self.read();
        spent.worked(asleep_at.saturating_sub(self.working_since));
        let woken = sleep(asleep_at);
        self.working_since = self.read();
        spent.waited(waits, self.working_since.saturating_sub(asleep_at));
        woken
    }

    /// Adds the use of the line to the successor to `spent`, now and then.
    pub(super) fn read_line(&mut self, spent: &Spent, line: impl FnOnce() -> Option<LinkUse>) {
        if self.woke_at < self.line_read_at + LINE_INTERVAL {
            return;
        }
        self.line_read_at = self.woke_at;
        if let Some(line) = line() {
            spent.line(line);
        }
        spent.wanted(processor::of_this_thread());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_either_work_or_a_wait_for_somebody() {
        let (mut meter, spent) = (Meter::new(), Spent::default());
        std::thread::sleep(Duration::from_millis(30));
        meter.sleep(&spent, Waits::Consumer, |_| {
            std::thread::sleep(Duration::from_millis(50));
        });
        let pace = spent.sums(meter.now(), Duration::ZERO).since(&spent_before());
        assert!(pace.work_ms >= 30 && pace.consumer_ms >= 50, "{pace:?}");
        let counted = pace.work_ms + pace.consumer_ms;
        assert!(pace.elapsed_ms - counted <= 1, "{pace:?}");
    }

    fn spent_before() -> crate::stream::spent::Sums {
        Spent::default().sums(Duration::ZERO, Duration::ZERO)
    }

    #[test]
    fn the_line_is_read_twice_a_second_at_most() {
        let (mut meter, spent, mut reads) = (Meter::new(), Spent::default(), 0);
        for woke_at_ms in [0, 499, 500, 999, 1000, 1001, 5000] {
            meter.woke_at = Duration::from_millis(woke_at_ms);
            meter.read_line(&spent, || {
                reads += 1;
                None
            });
        }
        assert_eq!(reads, 3);
    }
}
