//! The processor time that threads got and wanted: the kernel's scheduler statistics.
//!
//! `/proc/PID/task/TID/schedstat` (`Documentation/scheduler/sched-stats.rst`): nanoseconds on a processor,
//! nanoseconds ready to run and waiting for one, a count. A thread whose control group has used up its share
//! waits too.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::time::Duration;

/// Returns the time on a processor and waiting for one, of the thread that asks; `None` where the kernel does
/// not say (`CONFIG_SCHED_INFO`).
pub(super) fn of_this_thread() -> Option<Duration> {
    wanted(&fs::read_to_string("/proc/thread-self/schedstat").ok()?)
}

fn wanted(schedstat: &str) -> Option<Duration> {
    let mut numbers = schedstat.split_ascii_whitespace().map(str::parse::<u64>);
    let (ran, waited) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(Duration::from_nanos(ran.saturating_add(waited)))
}

/// The same of every thread of this process, to find the busiest.
#[derive(Debug, Default)]
pub(crate) struct Threads(BTreeMap<OsString, Duration>);

impl Threads {
    /// Milliseconds that the busiest thread ran or wanted to since this was asked last; a thread that is new
    /// counts from the next time on.
    pub(crate) fn busiest_ms(&mut self) -> u32 {
        let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let now: BTreeMap<OsString, Duration> = tasks
            .filter_map(|task| {
                let schedstat = fs::read_to_string(task.path().join("schedstat")).ok()?;
                Some((task.file_name(), wanted(&schedstat)?))
            })
            .collect();
        let since = |(thread, time): (&OsString, &Duration)| Some(time.saturating_sub(*self.0.get(thread)?));
        let most = now.iter().filter_map(since).max().unwrap_or_default();
        self.0 = now;
        u32::try_from(most.as_millis()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_computes_is_seen_and_one_that_sleeps_is_not() {
        let mut threads = Threads::default();
        threads.busiest_ms();
        let (begun, before) = (std::time::Instant::now(), of_this_thread().unwrap());
        let mut sum = 0_u64;
        while begun.elapsed() < Duration::from_millis(200) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(of_this_thread().unwrap() - before >= Duration::from_millis(100));
        assert!(threads.busiest_ms() >= 100);
        assert_eq!(wanted("12 30 2"), Some(Duration::from_nanos(42)));
        assert_eq!(wanted(""), None);
    }
}
