//! The work of each node: the step that it is at, and how fast it writes. For operators who ask the server
//! (`ka-status --via`).

use std::collections::BTreeMap;
use std::time::Duration;

use ka_proto::Reason;
use ka_proto::via::{Work, Written};
use ka_report::event::{NodeEvent, Step, StepState};
use ka_report::run::NodeProgress;

use super::progress::Sent;

/// Least time between two samples of a rate.
const SAMPLE: Duration = Duration::from_secs(2);

/// The nodes at work, by number.
#[derive(Debug, Default)]
pub(super) struct Works(BTreeMap<u32, NodeWork>);

#[derive(Debug)]
struct NodeWork {
    step: Step,
    since: Duration,
    rate: Rate,
}

/// Rate of one node in the running stream.
#[derive(Debug, Default)]
struct Rate {
    sample: Option<(Duration, u64)>,
    bytes: u64,
    per_second: u64,
}

impl Works {
    /// Takes in the event of a node.
    pub(super) fn step(&mut self, at: Duration, id: u32, event: &NodeEvent) {
        if event.state == StepState::Started {
            let work = NodeWork {
                step: event.step,
                since: at,
                rate: Rate::default(),
            };
            self.0.insert(id, work);
        }
    }

    /// Takes in the progress of a node in the running stream.
    pub(super) fn progress(&mut self, at: Duration, progress: &NodeProgress) {
        if let Some(work) = self.0.get_mut(&progress.id) {
            work.rate.sample(at, progress.consumed_bytes);
        }
    }

    /// Forgets the node, which is done or out.
    pub(super) fn ended(&mut self, id: u32) {
        self.0.remove(&id);
    }

    /// Returns the work of a node. `sent` is that of the running stream, if there is one.
    pub(super) fn of(&self, at: Duration, id: u32, sent: Option<Sent>) -> Option<Work> {
        let work = self.0.get(&id)?;
        let written = sent.map(|sent| Written {
            bytes: work.rate.bytes,
            per_second: work.rate.per_second,
            percent: percent(work.rate.bytes, sent),
        });
        Some(Work {
            step: Reason::new(work.step.doing()),
            secs: u32::try_from(at.saturating_sub(work.since).as_secs()).unwrap_or(u32::MAX),
            written,
        })
    }
}

impl Rate {
    fn sample(&mut self, at: Duration, bytes: u64) {
        self.bytes = bytes;
        let Some((then, before)) = self.sample else {
            self.sample = Some((at, bytes));
            return;
        };
        let passed = at.saturating_sub(then);
        if passed >= SAMPLE {
            let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
            self.per_second = bytes.saturating_sub(before).saturating_mul(1000) / millis;
            self.sample = Some((at, bytes));
        }
    }
}

/// Returns the percentage of all content that a node has written. Its bytes are those of the compressed stream.
fn percent(written: u64, sent: Sent) -> Option<u8> {
    let whole = u128::from(sent.bytes) * u128::from(sent.expected?);
    let has = u128::from(written) * u128::from(sent.content);
    u8::try_from((has / whole.div_ceil(100).max(1)).min(100)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(bytes: u64, content: u64, expected: Option<u64>) -> Sent {
        Sent {
            bytes,
            content,
            expected,
        }
    }

    #[test]
    fn the_step_its_time_and_the_rate_of_a_node_are_told_until_it_ends() {
        let mut works = Works::default();
        let secs = Duration::from_secs;
        works.step(secs(10), 1, &NodeEvent::started(Step::Restore));
        works.step(secs(11), 1, &NodeEvent::news(Step::Restore, "x"));
        for (at, consumed_bytes) in [(12, 0), (14, 20 << 20), (15, 25 << 20)] {
            let progress = NodeProgress {
                id: 1,
                received_bytes: 0,
                consumed_bytes,
                buffered_bytes: 0,
            };
            works.progress(secs(at), &progress);
        }
        // Half of the content is sent, compressed to a half.
        let work = works.of(secs(20), 1, Some(sent(50 << 20, 100 << 20, Some(200 << 20))));
        let work = work.unwrap();
        assert_eq!((work.step.as_str(), work.secs), (Step::Restore.doing(), 10));
        let written = Written {
            bytes: 25 << 20,
            per_second: 10 << 20,
            percent: Some(25),
        };
        assert_eq!(work.written, Some(written));
        assert_eq!(works.of(secs(20), 1, None).unwrap().written, None);
        works.ended(1);
        assert_eq!(works.of(secs(20), 1, None), None);
    }

    #[test]
    fn a_stream_of_unknown_size_has_no_percentage() {
        assert_eq!(percent(1, sent(1, 1, None)), None);
        assert_eq!(percent(0, sent(0, 0, Some(0))), Some(0));
        assert_eq!(percent(u64::MAX, sent(1, u64::MAX, Some(1))), Some(100));
    }
}
