//! One node's recent time in a stream, and its highest rates.

use std::collections::VecDeque;

use super::{Duration, Progress, StreamOffset};
use crate::pace::Pace;

/// Span over which a node's time is judged. It is long enough to average away a disk's pause of some seconds.
const WINDOW: Duration = Duration::from_secs(8);
/// Most samples kept of each node, whatever it sends: twice what its heartbeats need.
const MOST_SAMPLES: usize = 160;
/// Time that a fast span of a node counts. It is between this and twice as much.
const PEAK_LIFE: Duration = Duration::from_secs(45);
/// Numbers of samples over which the most bytes are kept.
const SPANS: [usize; 5] = [1, 2, 4, 8, 16];
/// Shortest span that is judged, in milliseconds. Whole blocks come at once.
const LEAST_SPAN_MS: u64 = 500;
/// Largest block that producers make, in bytes. It comes whole.
const BLOCK: u64 = 512 << 10;
/// Shortest busy time that is judged, in milliseconds.
const LEAST_BUSY_MS: u32 = 50;

/// A stretch of a node's time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sample {
    at: Duration,
    pub(super) received: u64,
    pub(super) consumed: u64,
    pub(super) pace: Pace,
}

/// A hypothesis: the others can reach no higher rate either. Bytes that it does not explain speak against it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hypothesis {
    rate: u64,
    /// Bytes that may come beside the rate: those that a line saved up while it was idle, and a block that
    /// comes whole.
    saved: u64,
}

impl Hypothesis {
    /// Returns the hypothesis that the others are lines policed like the slow one. So many seconds of the
    /// rate are saved up (tc-tbf(8), `burst`; switches that police are often set to 1.5 s), and no more than
    /// a MiB.
    pub(super) fn policed(rate: u64) -> Self {
        let burst = (rate.saturating_mul(3) / 2).min(1 << 20);
        let saved = burst + BLOCK;
        Self { rate, saved }
    }

    /// Returns the hypothesis for a slow part that is not a line.
    pub(super) fn plain(rate: u64) -> Self {
        let burst = (rate / 4).min(512 << 10);
        let saved = burst + BLOCK;
        Self { rate, saved }
    }
}

/// The highest counts of bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Peaks {
    /// Bytes in each of [`SPANS`], and its milliseconds.
    came: [(u64, u64); SPANS.len()],
    /// The sample in which the line to the successor carried most.
    sent: Pace,
}

impl Peaks {
    fn note(&mut self, index: usize, bytes: u64, millis: u64) {
        let (most, in_ms) = self.came[index];
        if u128::from(bytes) * u128::from(in_ms) > u128::from(most) * u128::from(millis) || in_ms == 0 {
            self.came[index] = (bytes, millis);
        }
    }

    /// Returns the rate that the line to the successor carries at least, if it is more than `rate`. These are
    /// the bytes beyond all that a line of that rate could have carried, over the time in which it was busy.
    /// A small window, which is full in the tenth of a sample, hides this rate otherwise.
    fn carried(&self, Hypothesis { rate, saved }: Hypothesis) -> u64 {
        let Pace {
            elapsed_ms,
            link_busy_ms,
            link_bytes,
            ..
        } = self.sent;
        let in_time = rate.saturating_mul(u64::from(elapsed_ms).max(LEAST_SPAN_MS)) / 1000;
        let explained = in_time.saturating_add(saved);
        let beyond = link_bytes.saturating_sub(explained).saturating_mul(1000);
        (beyond / u64::from(link_busy_ms.max(LEAST_BUSY_MS))).saturating_add(rate)
    }

    /// Returns the least rate at which this came, however much of it was saved up in a line of `rate`. A
    /// token bucket of that rate lets through no more than its burst and the rate times the span (RFC 2697),
    /// and a block comes whole.
    fn sustained(&self, Hypothesis { saved, .. }: Hypothesis) -> u64 {
        let rates = self.came.iter().map(|(bytes, millis)| {
            bytes.saturating_sub(saved).saturating_mul(1000) / (*millis).max(LEAST_SPAN_MS)
        });
        rates.max().unwrap_or(0)
    }
}

/// One node's recent time.
#[derive(Debug, Default)]
pub(super) struct Track {
    samples: VecDeque<Sample>,
    received: StreamOffset,
    consumed: StreamOffset,
    /// Peaks of this stretch of [`PEAK_LIFE`], and of the one before.
    peaks: [Peaks; 2],
    peaks_since: Duration,
}

impl Track {
    pub(super) fn push(&mut self, now: Duration, progress: &Progress) {
        self.samples.push_back(Sample {
            at: now,
            received: progress.received.since(self.received),
            consumed: progress.consumed.since(self.consumed),
            pace: progress.pace,
        });
        self.received = self.received.max(progress.received);
        self.consumed = self.consumed.max(progress.consumed);
        if self.samples.len() > MOST_SAMPLES {
            self.samples.pop_front();
        }
        if now >= self.peaks_since + PEAK_LIFE {
            (self.peaks[1], self.peaks[0]) = (self.peaks[0], Peaks::default());
            self.peaks_since = now;
        }
        if progress.pace.link_bytes > self.peaks[0].sent.link_bytes {
            self.peaks[0].sent = progress.pace;
        }
        let (mut bytes, mut millis, mut count) = (0, 0, 0);
        for sample in self.samples.iter().rev() {
            bytes = sample.received.saturating_add(bytes);
            millis += u64::from(sample.pace.elapsed_ms);
            count += 1;
            if let Some(index) = SPANS.iter().position(|span| *span == count) {
                self.peaks[0].note(index, bytes, millis);
            }
        }
    }

    /// Begins anew with other neighbours. The use of its time is of the past, but its highest rates stay.
    pub(super) fn begin_anew(&mut self) {
        self.samples.clear();
    }

    /// Returns the progress of the stream at this node.
    pub(super) const fn received(&self) -> StreamOffset {
        self.received
    }

    /// Returns the whole of [`WINDOW`] up to now.
    pub(super) fn total(&mut self, now: Duration) -> Sample {
        while self
            .samples
            .front()
            .is_some_and(|sample| sample.at + WINDOW < now)
        {
            self.samples.pop_front();
        }
        self.samples.iter().fold(Sample::default(), |mut total, sample| {
            total.received = total.received.saturating_add(sample.received);
            total.consumed = total.consumed.saturating_add(sample.consumed);
            total.pace += sample.pace;
            total
        })
    }

    /// Returns the rate at which it lately received, if that is more than was supposed.
    pub(super) fn proven_over(&self, supposed: Hypothesis) -> Option<u64> {
        let sustained = self.peaks.iter().map(|peaks| peaks.sustained(supposed)).max();
        sustained.filter(|sustained| *sustained > supposed.rate)
    }

    /// Returns the rate of its line to the successor, if that is more than was supposed.
    pub(super) fn line_proven_over(&self, supposed: Hypothesis) -> Option<u64> {
        let carried = self.peaks.iter().map(|peaks| peaks.carried(supposed)).max();
        carried.filter(|carried| *carried > supposed.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::StreamId;

    /// Returns the progress of a node whose consumer takes all at once, after `elapsed_ms` since the last.
    fn progress(received: u64, elapsed_ms: u32) -> Progress {
        Progress {
            stream: StreamId(1),
            received: StreamOffset(received),
            consumed: StreamOffset(received),
            buffered: 0,
            pace: Pace {
                elapsed_ms,
                ..Pace::default()
            },
        }
    }

    /// Returns the track of a line that lets `rate` through and has saved up `burst`. `offered` bytes come at
    /// the beginning of each `every` ticks of half a second.
    fn through(rate: u64, burst: u64, offered: u64, every: u64) -> Track {
        let (mut track, mut tokens, mut queue, mut received) = (Track::default(), burst, 0, 0);
        for tick in 1..=120 {
            if tick % every == 0 {
                queue += offered;
            }
            tokens = (tokens + rate / 2).min(burst + rate / 2);
            let carried = tokens.min(queue);
            (tokens, queue, received) = (tokens - carried, queue - carried, received + carried);
            track.push(Duration::from_millis(500 * tick), &progress(received, 500));
        }
        track
    }

    #[test]
    fn what_a_bucket_saved_up_proves_nothing() {
        for rate in [120_000, 1_250_000, 12_500_000, 125_000_000] {
            for burst in [16 << 10, 256 << 10, 1 << 20] {
                let burst = rate.min(burst);
                for (offered, every) in [(rate / 2, 1), (rate, 2), (6 * rate, 12), (40 * rate, 60)] {
                    let track = through(rate, burst, offered, every);
                    let proven = track.proven_over(Hypothesis::policed(rate));
                    assert!(
                        proven.is_none_or(|proven| proven < rate * 3 / 2),
                        "{rate} {burst} {offered} {proven:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn some_seconds_of_a_tenth_of_the_rate_at_once_prove_the_rate() {
        for rate in [11_800_000, 117_000_000] {
            let slow = rate / 10;
            let track = through(rate, 64 << 10, 7 * slow, 14);
            let proven = track.proven_over(Hypothesis::policed(slow)).unwrap();
            assert!((4 * slow..=rate).contains(&proven), "{rate} {proven}");
        }
    }

    #[test]
    fn what_was_proved_is_forgotten_in_time() {
        let mut track = through(11_800_000, 64 << 10, 60_000_000, 200);
        assert_eq!(
            track.proven_over(Hypothesis::policed(1_000_000)),
            None,
            "nothing came yet"
        );
        let mut received = 0;
        let mut pass = |track: &mut Track, from: u64, bytes: u64| {
            for second in from..from + 40 {
                received += bytes;
                track.push(Duration::from_secs(second), &progress(received, 1000));
            }
        };
        pass(&mut track, 60, 10_000_000);
        assert!(track.proven_over(Hypothesis::policed(1_000_000)).is_some());
        for from in [100, 140, 180] {
            pass(&mut track, from, 1_000_000);
        }
        assert_eq!(track.proven_over(Hypothesis::policed(1_000_000)), None);
    }
}
