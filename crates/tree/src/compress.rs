//! The decision to compress a block, and the compressor of one reader thread.
//!
//! `Auto` must never slow a copy down. It compresses only while two conditions hold. The consumer of the
//! blocks keeps the sender waiting most of the time. And this machine has processor time left over, so that
//! compression costs nothing. `/proc/stat` tells the second. If it cannot be read, `Auto` does not compress.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::block;

/// The policy of compression (zstd level 1, each block alone).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compress {
    /// No block is compressed.
    Never,
    /// While the consumer of the blocks is slower than compression and there is processor time to spare.
    #[default]
    Auto,
    /// Every block that becomes smaller.
    Always,
}

/// Level 1: about 500 MB/s a core, faster than the links that make it worth while; higher levels are not.
const LEVEL: i32 = 1;
/// The state is reconsidered that often: long against a block and a tick of `/proc/stat`, short against a
/// copy.
const WINDOW: Duration = Duration::from_millis(100);
/// Start above this share of time spent waiting for the consumer …
const START_WAITING: f64 = 0.5;
/// … and stop below this one: compression itself has become the bottleneck.
const STOP_WAITING: f64 = 0.1;
/// A whole processor, less measurement error, is idle before compression starts …
const START_IDLE: f64 = 0.7;
/// … and some idle time must remain.
const STOP_IDLE: f64 = 0.1;

/// Shared by the thread that hands blocks over and those that make them.
#[derive(Debug)]
pub(crate) struct Gate {
    open: AtomicBool,
    mode: Compress,
}

impl Gate {
    pub(crate) const fn new(mode: Compress) -> Self {
        Self {
            open: AtomicBool::new(matches!(mode, Compress::Always)),
            mode,
        }
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }
}

/// Watches how long the consumer keeps the sender waiting, and opens or closes the gate.
#[derive(Debug)]
pub(crate) struct Meter<'a> {
    gate: &'a Gate,
    began: Instant,
    waited: Duration,
    idle_ticks: Option<u64>,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(gate: &'a Gate) -> Self {
        Self {
            gate,
            began: Instant::now(),
            waited: Duration::ZERO,
            idle_ticks: None,
        }
    }

    /// Runs `emit` and counts the time it takes.
    pub(crate) fn time<T>(&mut self, emit: impl FnOnce() -> T) -> T {
        if self.gate.mode != Compress::Auto {
            return emit();
        }
        let before = Instant::now();
        let result = emit();
        self.waited += before.elapsed();
        if self.began.elapsed() >= WINDOW {
            self.reconsider();
        }
        result
    }

    fn reconsider(&mut self) {
        let window = self.began.elapsed().as_secs_f64();
        let waiting = self.waited.as_secs_f64() / window;
        let ticks_before = self.idle_ticks;
        self.idle_ticks = fs::read_to_string("/proc/stat")
            .ok()
            .and_then(|text| idle_ticks(&text));
        // USER_HZ is 100 on every architecture that Linux still knows (proc(5)).
        let idle = match (ticks_before, self.idle_ticks) {
            (Some(before), Some(now)) => {
                Duration::from_millis(10 * now.saturating_sub(before)).as_secs_f64() / window
            }
            _ => 0.0,
        };
        let open = should_compress(self.gate.is_open(), waiting, idle);
        self.gate.open.store(open, Ordering::Relaxed);
        self.began = Instant::now();
        self.waited = Duration::ZERO;
    }
}

/// `waiting` is the share of time that the consumer kept us waiting, `idle` the number of idle processors.
/// A state that begins easily would flutter, so it ends later than it begins.
fn should_compress(does_now: bool, waiting: f64, idle: f64) -> bool {
    if does_now {
        waiting > STOP_WAITING && idle > STOP_IDLE
    } else {
        waiting > START_WAITING && idle > START_IDLE
    }
}

/// Idle and iowait of all processors together, in ticks, from the first line of `/proc/stat`.
fn idle_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_ascii_whitespace()
        .skip(3);
    let idle: u64 = fields.next()?.parse().ok()?;
    let iowait: u64 = fields.next()?.parse().ok()?;
    Some(idle + iowait)
}

/// After so many blocks in a row that did not shrink, the next ones are not tried …
const PATIENCE: u32 = 2;
/// … doubling each time up to this many: about 4 MiB, after which content may have changed its nature.
const MAX_SKIP: u32 = 16;

/// The compressor of one thread. Remembers that content does not shrink and then leaves it alone for a while.
pub(crate) struct Squeezer<'a> {
    gate: &'a Gate,
    zstd: zstd::bulk::Compressor<'static>,
    failures: u32,
    skip: u32,
}

impl<'a> Squeezer<'a> {
    pub(crate) fn new(gate: &'a Gate) -> io::Result<Self> {
        Ok(Self {
            gate,
            zstd: zstd::bulk::Compressor::new(LEVEL)?,
            failures: 0,
            skip: 0,
        })
    }

    /// Forgets the blocks so far: the next ones have nothing to do with them.
    pub(crate) const fn forget(&mut self) {
        self.failures = 0;
        self.skip = 0;
    }

    /// Writes the block's header; compresses its records when that is wanted and pays.
    pub(crate) fn seal(&mut self, mut block: Vec<u8>) -> Vec<u8> {
        if self.gate.is_open() && !self.should_skip() {
            if let Some(sealed) = block::seal_zstd(&block, &mut self.zstd) {
                self.forget();
                return sealed;
            }
            self.failures += 1;
            if self.failures >= PATIENCE {
                self.skip = (1 << (self.failures - PATIENCE).min(8)).min(MAX_SKIP);
            }
        }
        block::seal_plain(&mut block);
        block
    }

    const fn should_skip(&mut self) -> bool {
        let skip = self.skip > 0;
        self.skip = self.skip.saturating_sub(1);
        skip
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_read_from_the_kernel() {
        let stat = "cpu  10 20 30 400 50 6 7 8 9 10\ncpu0 1 2 3 4 5\n";
        assert_eq!(idle_ticks(stat), Some(450));
        assert_eq!(idle_ticks("intr 1"), None);
    }

    #[test]
    fn compression_starts_when_the_link_is_slow_and_a_processor_idle_and_stops_when_it_is_the_bottleneck() {
        assert!(should_compress(false, 0.9, 1.5));
        assert!(!should_compress(false, 0.9, 0.2), "somebody needs the processor");
        assert!(!should_compress(false, 0.2, 1.9), "the link is fast");
        assert!(should_compress(true, 0.4, 0.5));
        assert!(
            !should_compress(true, 0.05, 0.5),
            "compression is slower than the link"
        );
        assert!(!should_compress(true, 0.9, 0.05), "somebody needs the processor");
    }

    #[test]
    fn content_that_does_not_shrink_is_soon_left_alone() {
        let gate = Gate::new(Compress::Always);
        let mut squeezer = Squeezer::new(&gate).unwrap();
        let noise: Vec<u8> = (0..200u32)
            .flat_map(|n| *blake3::hash(&n.to_le_bytes()).as_bytes())
            .collect();
        let mut block = block::start(noise.len());
        block.extend_from_slice(&noise);
        for _ in 0..10 {
            squeezer.seal(block.clone());
        }
        assert!(squeezer.failures < 6, "{} tries of 10", squeezer.failures);
        squeezer.forget();
        let zeros = vec![0; 10_000];
        assert!(squeezer.seal(zeros).len() < 1000);
    }

    #[test]
    fn auto_does_not_compress_while_the_consumer_is_fast() {
        let gate = Gate::new(Compress::Auto);
        let mut meter = Meter::new(&gate);
        let until = Instant::now() + 3 * WINDOW;
        while Instant::now() < until {
            meter.time(|| ());
        }
        assert!(!gate.is_open());
    }
}
