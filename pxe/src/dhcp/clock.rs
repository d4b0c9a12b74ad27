//! The clock of leases. It counts elapsed time, so that a step of the wall clock ends no lease.
//!
//! NTP may correct a golden node's wrong hardware clock in the middle of a run. Leases and offers then last
//! as long as promised, because this clock counts `CLOCK_BOOTTIME` (`clock_gettime(2)`), which never jumps
//! and goes on during a suspend. The lease file holds wall time, because it outlives the boot: times are
//! converted when they are written.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use crate::dhcp::lease::{Kept, UnixTime};

/// A clock in seconds since 1970: the wall time at the start plus the time elapsed since.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeaseClock {
    wall_at_start: u64,
    boot_at_start: Duration,
}

impl LeaseClock {
    /// A clock that starts now.
    pub(crate) fn start() -> Self {
        Self::started_at(wall_seconds(), boot_time())
    }

    fn started_at(wall_at_start: u64, boot_at_start: Duration) -> Self {
        Self {
            wall_at_start,
            boot_at_start,
        }
    }

    /// The current time for all decisions about leases.
    pub(crate) fn now(&self) -> UnixTime {
        self.at(boot_time())
    }

    fn at(&self, boot: Duration) -> UnixTime {
        let since = boot.saturating_sub(self.boot_at_start);
        UnixTime(self.wall_at_start.saturating_add(since.as_secs()))
    }

    /// Returns the leases with wall-clock times, for the file. The remaining time of each lease stays the
    /// same.
    pub(crate) fn for_file(&self, kept: Kept) -> Kept {
        moved(kept, self.now(), UnixTime(wall_seconds()))
    }
}

/// Moves every end time so that it is as far from `to` as it was from `from`.
fn moved(mut kept: Kept, from: UnixTime, to: UnixTime) -> Kept {
    // A difference of one second is only rounding: the times in the file stay as they are.
    if from.0.abs_diff(to.0) <= 1 {
        return kept;
    }
    let moved = |until: UnixTime| UnixTime(until.0.saturating_add(to.0).saturating_sub(from.0));
    for lease in &mut kept.leases {
        lease.until = moved(lease.until);
    }
    for one in &mut kept.quarantined {
        one.until = moved(one.until);
    }
    kept
}

fn boot_time() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let (secs, nanos) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    Duration::new(secs.unwrap_or(0), nanos.unwrap_or(0))
}

fn wall_seconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use ka_mac::MacAddr;

    use super::*;
    use crate::dhcp::lease::{Lease, Quarantined};

    fn kept(until: u64) -> Kept {
        Kept {
            leases: vec![Lease {
                mac: MacAddr([2, 0, 0, 0, 0, 1]),
                address: [10, 0, 0, 7].into(),
                until: UnixTime(until),
            }],
            quarantined: vec![Quarantined {
                address: [10, 0, 0, 8].into(),
                until: UnixTime(until + 5),
            }],
        }
    }

    #[test]
    fn only_the_time_that_passed_counts() {
        let clock = LeaseClock::started_at(1_000, Duration::from_millis(500_900));
        assert_eq!(clock.at(Duration::from_millis(500_900)), UnixTime(1_000));
        assert_eq!(clock.at(Duration::from_secs(560)), UnixTime(1_059));
        assert_eq!(
            clock.at(Duration::from_secs(3)),
            UnixTime(1_000),
            "never backwards"
        );
    }

    #[test]
    fn a_stepped_wall_clock_changes_nothing_of_what_is_left() {
        for (from, to) in [(1_000, 1_800_000_000), (1_800_000_000, 1_000), (1_000, 90_000)] {
            let written = moved(kept(from + 300), UnixTime(from), UnixTime(to));
            assert_eq!(written.leases[0].until, UnixTime(to + 300), "{from} {to}");
            assert_eq!(written.quarantined[0].until, UnixTime(to + 305), "{from} {to}");
        }
        // An entry that ended long ago stays ended, and its time does not fall below zero.
        let written = moved(kept(10), UnixTime(5_000), UnixTime(1_000));
        assert_eq!(written.leases[0].until, UnixTime(0));
        assert_eq!(moved(kept(7), UnixTime(10), UnixTime(11)), kept(7));
    }
}
