//! A member's machine in the simulator: the real member, a consumer, and its lies.

use std::time::Duration;

use super::{Fate, Lie, MemberPlan, SHARD};
use crate::group::{BlockReader, GroupConfig, Member, Missing, Report};

/// The stream as it was pushed into the sender: headers and payloads.
pub(super) type Blocks = Vec<([u8; 88], Vec<u8>)>;

/// One member.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) plan: MemberPlan,
    reader: BlockReader<Vec<u8>>,
    /// Number of blocks that were right.
    blocks: usize,
    /// Number of blocks that strangers had forged.
    pub(super) wrong: usize,
    /// Bytes that the consumer holds, and the time of that.
    level: (u64, Duration),
    room: u64,
    pub(super) done: Option<Duration>,
    pub(super) is_member: bool,
    pub(super) refused: u64,
    /// Time for which a wake-up is planned.
    pub(super) wakes_at: Duration,
}

impl Host {
    pub(super) fn new(plan: MemberPlan, member: Member, config: &GroupConfig, window: usize) -> Self {
        Self {
            plan,
            reader: BlockReader::new(member),
            blocks: 0,
            wrong: 0,
            level: (0, Duration::ZERO),
            room: (window * config.stripe()) as u64,
            done: None,
            is_member: true,
            refused: 0,
            wakes_at: Duration::MAX,
        }
    }

    pub(super) fn is_alive(&self, now: Duration) -> bool {
        !matches!(self.plan.fate, Fate::Dies(at) if now >= at)
    }

    /// Returns true if datagrams reach it.
    pub(super) fn hears(&self, now: Duration) -> bool {
        let is_dark = matches!(self.plan.fate, Fate::Dark(at) if now >= at);
        self.is_member && self.is_alive(now) && !is_dark
    }

    fn free(&mut self, now: Duration) -> u64 {
        let (level, since) = self.level;
        let used = match self.plan.drain {
            Some(rate) => {
                let nanos = now.saturating_sub(since).as_nanos();
                u64::try_from(nanos * u128::from(rate) * SHARD as u128 / 1_000_000_000).unwrap()
            }
            None => level,
        };
        if used > 0 {
            self.level = (level.saturating_sub(used), now);
        }
        self.room.saturating_sub(self.level.0)
    }

    pub(super) const fn member(&mut self) -> &mut Member {
        self.reader.member_mut()
    }

    /// Uses what is there. Panics if a byte is wrong that no stranger has forged.
    pub(super) fn consume(&mut self, now: Duration, blocks: &Blocks) {
        while self.free(now) >= (128 * SHARD) as u64
            && let Some((header, payload)) = self.reader.next_block(|length| vec![0; length]).unwrap()
        {
            let is_right = blocks
                .get(self.blocks)
                .is_some_and(|right| (right.0, &right.1) == (header, &payload));
            if !is_right {
                self.wrong += 1;
                assert!(self.reader.reject(), "block {} is wrong", self.blocks);
                continue;
            }
            self.level.0 += (header.len() + payload.len()) as u64;
            self.blocks += 1;
            self.reader.accept();
            if self.reader.has_ended() && self.done.is_none() {
                assert_eq!(self.blocks, blocks.len());
                self.done = Some(now);
                self.reader.member_mut().finish(now);
            }
        }
    }

    /// Returns a report if one is due, true or not.
    pub(super) fn report(&mut self, now: Duration) -> Option<Report> {
        let free = self.free(now);
        let mut report = self.reader.member_mut().report(now, free, || 0)?;
        self.refused = report.refused;
        match self.plan.lie {
            Lie::None => {}
            Lie::Room => report.limit = u32::MAX,
            Lie::NothingMissing => report.missing.clear(),
            Lie::EverythingMissing => {
                report.next = 0;
                report.missing = (0..64).map(|stripe| Missing { stripe, shards: 127 }).collect();
            }
            Lie::TheFuture => report.next += 1000,
        }
        Some(report)
    }
}
