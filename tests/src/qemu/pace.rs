//! The time that a test waits for a machine. A limit is written for the machine KA is developed on, and
//! stretched if the machine under the test is slower or busy with something else.
//!
//! Three things stretch it:
//!
//! - A slower processor: a fixed piece of work is timed once, in processor time, so that other programs do
//!   not count.
//! - A busy one: time in which QEMU's threads were ready and had no processor does not count as waiting
//!   (`/proc/PID/task/TID/schedstat`, second field, nanoseconds; kernel document `scheduler/sched-stats`).
//! - A machine that still prints something new: it gets more time than a silent one.

use std::fs;
use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Processor time of [`work`] on the machine that the limits were written on.
const REFERENCE: Duration = Duration::from_millis(40);
/// Largest factor by which a slow machine stretches a limit.
const SLOWEST: f64 = 8.0;
/// Time since its last output in which a machine counts as alive.
const ALIVE: Duration = Duration::from_secs(60);
/// Factor for the limit of a machine that is alive.
const ALIVE_TIMES: u32 = 2;
/// Longest wait in wall clock time, however much it is stretched.
const LONGEST: Duration = Duration::from_secs(3600);

/// The patience with one wait for one machine.
#[derive(Debug)]
pub struct Patience {
    began: Instant,
    limit: Duration,
    process: Option<u32>,
    delayed_before: Duration,
    heard: (usize, Instant),
}

impl Patience {
    /// Begins to wait, at most `limit`, for a machine whose QEMU is `process`.
    #[must_use]
    pub fn begin(limit: Duration, process: Option<u32>) -> Self {
        Self {
            began: Instant::now(),
            limit: limit.mul_f64(slowness()),
            process,
            delayed_before: process.map_or(Duration::ZERO, delay),
            heard: (0, Instant::now()),
        }
    }

    /// Checks that the wait may go on; `said` is the number of bytes of the machine's output by now. The
    /// error's text says how long it waited and how much of that counted.
    ///
    /// # Errors
    /// The wait has lasted too long.
    pub fn check(&mut self, said: usize) -> Result<(), String> {
        if said != self.heard.0 {
            self.heard = (said, Instant::now());
        }
        let wall = self.began.elapsed();
        if wall < self.limit {
            return Ok(());
        }
        let delayed = self.process.map_or(Duration::ZERO, delay);
        let delayed = delayed.saturating_sub(self.delayed_before);
        self.judge(wall, delayed, self.heard.1.elapsed())
    }

    fn judge(&self, wall: Duration, delayed: Duration, silent: Duration) -> Result<(), String> {
        let counted = wall.saturating_sub(delayed);
        let is_alive = silent < ALIVE;
        let limit = if is_alive {
            self.limit * ALIVE_TIMES
        } else {
            self.limit
        };
        if counted < limit && wall < LONGEST {
            return Ok(());
        }
        Err(format!(
            "did not come within {} s ({} s by the clock, in which it had no processor for {} s; silent for {} s; this \
             machine is {:.1} times slower than the one the limit is for)",
            limit.as_secs(),
            wall.as_secs(),
            delayed.as_secs(),
            silent.as_secs(),
            slowness()
        ))
    }
}

/// Returns the factor by which this machine's processor is slower than that of the limits; 1 if it is
/// quicker.
pub fn slowness() -> f64 {
    static FOUND: OnceLock<f64> = OnceLock::new();
    *FOUND.get_or_init(|| {
        // The best of three counts: the first one also warms the caches.
        let took = (0..3).map(|_| timed(work)).min().unwrap_or(REFERENCE);
        (took.as_secs_f64() / REFERENCE.as_secs_f64()).clamp(1.0, SLOWEST)
    })
}

/// Returns the longest time that one thread of a process was ready to run and did not.
fn delay(process: u32) -> Duration {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        return Duration::ZERO;
    };
    let delays = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        delay_in(&text)
    });
    delays.max().unwrap_or(Duration::ZERO)
}

fn delay_in(schedstat: &str) -> Option<Duration> {
    let nanos = schedstat.split_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

fn timed(work: impl FnOnce()) -> Duration {
    let before = processor_time();
    work();
    processor_time().saturating_sub(before)
}

fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let (secs, nanos) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    Duration::new(secs.unwrap_or(0), nanos.unwrap_or(0))
}

/// Runs multiplications, table look-ups and branches that depend on each other, as an emulator has them.
fn work() {
    let mut table = [0_u64; 4096];
    let mut state = black_box(0x9e37_79b9_7f4a_7c15_u64);
    for _ in 0..8_000_000_u32 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let place = usize::try_from(state & 4095).unwrap_or(0);
        table[place] = table[place].wrapping_mul(31).wrapping_add(state);
        if table[place] & 1 == 1 {
            state = state.wrapping_add(table[place]);
        }
    }
    black_box((table, state));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience(limit: u64) -> Patience {
        Patience {
            began: Instant::now(),
            limit: Duration::from_secs(limit),
            process: None,
            delayed_before: Duration::ZERO,
            heard: (0, Instant::now()),
        }
    }

    #[test]
    fn time_without_a_processor_does_not_count_and_a_silent_machine_is_given_up_first() {
        let secs = Duration::from_secs;
        let patience = patience(900);
        let silent = ALIVE;
        assert!(patience.judge(secs(899), secs(0), silent).is_ok());
        let text = patience.judge(secs(900), secs(0), silent).unwrap_err();
        assert!(
            text.contains("within 900 s") && text.contains("silent for 60 s"),
            "{text}"
        );
        assert!(
            patience.judge(secs(1700), secs(801), silent).is_ok(),
            "the host was busy"
        );
        assert!(
            patience.judge(secs(1799), secs(0), secs(5)).is_ok(),
            "it still talks"
        );
        assert!(patience.judge(secs(1800), secs(0), secs(5)).is_err());
        assert!(
            patience.judge(LONGEST, LONGEST, secs(0)).is_err(),
            "nothing is for ever"
        );
    }

    #[test]
    fn the_kernel_says_how_long_a_thread_waited_for_a_processor() {
        assert_eq!(
            delay_in("426935 67304958 2\n"),
            Some(Duration::from_nanos(67_304_958))
        );
        assert_eq!(delay_in(""), None);
        // This process runs, so it has a line.
        let text = fs::read_to_string("/proc/self/schedstat").unwrap();
        assert!(delay_in(&text).is_some(), "{text}");
    }

    #[test]
    fn this_machine_has_a_pace() {
        assert!((1.0..=SLOWEST).contains(&slowness()));
    }
}
