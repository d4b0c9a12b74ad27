//! A member's machine in the simulator: the real member, a consumer, and its lies.

use std::time::Duration;

use super::{Fate, Lie, MemberPlan, SHARD};
use crate::group::{BlockCutter, GroupConfig, Member, Missing, Piece, Report};

/// The stream as it was pushed into the sender: headers and payloads.
pub(super) type Blocks = Vec<([u8; 88], Vec<u8>)>;

/// One member.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) plan: MemberPlan,
    pub(super) member: Member,
    cutter: BlockCutter,
    /// Block that comes next, and bytes of its payload that were compared.
    place: (usize, usize),
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
            member,
            cutter: BlockCutter::new(),
            place: (0, 0),
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
        self.room - self.level.0
    }

    /// Uses what is there. Panics if a byte is wrong.
    pub(super) fn consume(&mut self, now: Duration, blocks: &Blocks) {
        while self.free(now) >= (128 * SHARD) as u64
            && let Some(stripe) = self.member.next_stripe()
        {
            self.level.0 += stripe.len() as u64;
            let mut rest = &stripe[..];
            while let Some(piece) = self.cutter.next(&mut rest).unwrap() {
                match piece {
                    Piece::Header(header) => assert_eq!(header, blocks[self.place.0].0),
                    Piece::Payload(part) => {
                        let end = self.place.1 + part.len();
                        assert_eq!(part, &blocks[self.place.0].1[self.place.1..end]);
                        self.place.1 = end;
                    }
                }
                if self.place.1 == blocks[self.place.0].1.len() {
                    self.place = (self.place.0 + 1, 0);
                }
            }
            self.member.recycle(stripe);
            if self.cutter.has_ended() && self.done.is_none() {
                assert_eq!(self.place, (blocks.len(), 0));
                self.done = Some(now);
                self.member.finish(now);
            }
        }
    }

    /// Returns a report if one is due, true or not.
    pub(super) fn report(&mut self, now: Duration) -> Option<Report> {
        let free = self.free(now);
        let mut report = self.member.report(now, free, || 0)?;
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
