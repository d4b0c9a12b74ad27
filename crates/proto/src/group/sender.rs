//! The sender of the group.

use std::collections::VecDeque;
use std::time::Duration;

use super::datagram::{DatagramKey, MARK_BYTES, OVERHEAD};
use super::marks::Marks;
use super::members::{Extent, LeaveReason, Members, SAMPLE_EVERY};
use super::parity::ParityEncoder;
use super::rate::Rate;
use super::repairs::Repairs;
use super::report::Report;
use super::store::Store;
use super::stripe::Stripe;
use super::{GroupConfig, MAX_BURST, MAX_BURST_DATAGRAMS};
use crate::ids::{NodeId, StreamId};

/// Most repairs of one stripe. With so many lost, the members that still lack some are not in this group.
const MAX_REPAIRS: u32 = 1024;
/// Time between two calls from which on the sender's own process was away. It is no silence of the members.
const AWAY: Duration = Duration::from_millis(500);

/// Datagrams for one send, all of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burst<'a> {
    /// The datagrams, one after another.
    pub bytes: &'a [u8],
    /// Bytes of each.
    pub datagram: usize,
}

/// News from the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SenderOutput {
    /// A member has left the group: tell it, and let the chain feed it. Nobody waits for it any more.
    Leave {
        /// The member.
        node: NodeId,
        /// The reason.
        why: LeaveReason,
    },
    /// The stream is over, and every remaining member has every stripe. It comes once.
    Complete,
}

/// Figures of a sender, for reports and the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Datagrams with data, each counted once.
    pub data: u64,
    /// Datagrams that repair: parity, and data that was sent again.
    pub repairs: u64,
    /// Marks.
    pub marks: u64,
    /// Bytes of all datagrams.
    pub bytes: u64,
    /// The rate now, in bytes a second.
    pub rate: u64,
    /// Loss of the median member in the last interval, in hundredths of a percent.
    pub loss: u32,
    /// Members that remain.
    pub members: usize,
    /// Stripes that are kept.
    pub stripes: u32,
    /// The member that is furthest behind.
    pub slowest: Option<NodeId>,
}

/// The datagrams that were offered by [`Sender::next_burst`] and are not sent yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offer {
    Nothing,
    /// Data of the first stripe that is not over.
    Data,
    /// Repairs from this byte of the scratch buffer on.
    Repairs(usize),
    /// The mark in the scratch buffer.
    Mark,
}

/// The machine of the sender in one stream. There is one for a key: it never sends two different datagrams
/// with the same header.
#[derive(Debug)]
pub struct Sender {
    config: GroupConfig,
    key: DatagramKey,
    members: Members,
    store: Store,
    repairs: Repairs,
    marks: Marks,
    rate: Rate,
    encoder: ParityEncoder,
    offer: Offer,
    scratch: Vec<u8>,
    clock: Clock,
    figures: Figures,
    progress: Progress,
    output: VecDeque<SenderOutput>,
}

/// The times that a sender goes by.
#[derive(Debug)]
struct Clock {
    last_call: Duration,
    sample_due: Duration,
    interval_due: Duration,
    /// True if there was something to send at the last call, and a member had no room for it.
    is_held: bool,
    /// True from a send that the socket did not take to the next try.
    is_blocked: bool,
    /// The best rate so far.
    best_rate: u64,
}

/// The part of its life that the stream is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Open,
    /// No more bytes come.
    Finished,
    /// Every member has everything.
    Complete,
}

impl Sender {
    /// Returns a sender at the beginning of the stream of `key`. It sends nothing but marks until each of
    /// `members` has reported once.
    #[must_use]
    pub fn new(config: GroupConfig, key: DatagramKey, members: &[NodeId], now: Duration) -> Self {
        let rate = Rate::new(config.start_rate, now);
        Self {
            members: Members::new(members, config.report_every, now),
            store: Store::new(config.shard(), config.stripe()),
            repairs: Repairs::new(config.report_every / 10),
            marks: Marks::new(now),
            encoder: ParityEncoder::default(),
            offer: Offer::Nothing,
            scratch: Vec::new(),
            clock: Clock {
                last_call: now,
                sample_due: now + SAMPLE_EVERY,
                interval_due: now + config.report_every,
                is_held: false,
                is_blocked: false,
                best_rate: rate.bytes_a_second(),
            },
            rate,
            figures: Figures::default(),
            progress: Progress::Open,
            output: VecDeque::new(),
            config,
            key,
        }
    }

    /// Returns the stream.
    #[must_use]
    pub const fn stream(&self) -> StreamId {
        self.key.stream()
    }

    /// Returns true if a block may be pushed.
    #[must_use]
    pub fn wants_bytes(&self) -> bool {
        self.progress == Progress::Open
            && (self.members.count() == 0 || self.store.has_room(self.config.memory))
    }

    /// Returns the bytes of whole stripes that were not sent yet, to within a stripe. Stripes that were flushed
    /// count as whole.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.store.unsent()
    }

    /// Takes the next block, as it goes over a data link. Call it only if the sender [`Self::wants_bytes`];
    /// else memory grows.
    pub fn push(&mut self, header: &[u8], payload: &[u8]) {
        if self.progress == Progress::Open && self.members.count() > 0 {
            self.store.push(header);
            self.store.push(payload);
        }
    }

    /// Sends what was pushed, because nothing more comes for now, or because the sender wants nothing: members
    /// confirm no stripe before they have the whole of its last block. Call it between two blocks only: the rest of
    /// the stripe is padding.
    pub fn flush(&mut self) {
        self.store.flush();
    }

    /// Takes in that the end block was pushed, and sends what is left.
    pub fn finish(&mut self) {
        self.store.flush();
        if self.members.count() == 0 {
            self.store.clear();
        }
        if self.progress == Progress::Open {
            self.progress = Progress::Finished;
            self.look_for_completion();
        }
    }

    /// Returns the next datagrams to send, if any may go now. It returns the same ones until
    /// [`Self::handle_sent`].
    pub fn next_burst(&mut self, now: Duration) -> Option<Burst<'_>> {
        self.tick(now);
        self.clock.is_blocked = false;
        if self.offer == Offer::Nothing {
            self.offer = self.choose(now);
        }
        let size = self.config.shard() + OVERHEAD;
        let (bytes, datagram) = match self.offer {
            Offer::Nothing => return None,
            Offer::Data => {
                let most = most(&self.config);
                let number = self.store.closed();
                let stripe = self.store.stripe(number)?;
                (stripe.unsent(&self.key, number, most), size)
            }
            Offer::Repairs(start) => (self.scratch.get(start..).unwrap_or_default(), size),
            Offer::Mark => (&self.scratch[..], MARK_BYTES),
        };
        Some(Burst { bytes, datagram })
    }

    fn choose(&mut self, now: Duration) -> Offer {
        self.clock.is_held = false;
        if !self.is_running() {
            return Offer::Nothing;
        }
        if now >= self.marks.due() {
            let over = (self.store.closed(), self.store.shards());
            self.marks.make(now, &self.key, over, &mut self.scratch);
            return Offer::Mark;
        }
        let has_room = self.store.closed() < self.members.limit();
        let may_send_new = self.store.has_unsent() && has_room;
        let may_repair =
            !self.repairs.is_empty() && (!may_send_new || self.repairs.are_due(now, most(&self.config)));
        self.clock.is_held = self.store.has_unsent() && !has_room;
        if !may_repair && !may_send_new || !self.rate.may_send(now) {
            return Offer::Nothing;
        }
        if may_repair && self.gather_repairs(now) {
            return Offer::Repairs(0);
        }
        if may_send_new { Offer::Data } else { Offer::Nothing }
    }

    /// Makes a burst of repairs. Returns false if none are owed any more.
    fn gather_repairs(&mut self, now: Duration) -> bool {
        self.scratch.clear();
        let most = most(&self.config);
        let mut count = 0;
        while count < most
            && let Some(number) = self.repairs.front()
        {
            let Some(stripe) = self.store.stripe(number) else {
                self.repairs.pop();
                continue;
            };
            if stripe.owed() == 0 {
                stripe.dequeue();
                self.repairs.pop();
                continue;
            }
            let before = stripe.memory();
            let place = (number, self.marks.next());
            stripe.repair(&self.key, &mut self.encoder, place, &mut self.scratch);
            let growth = stripe.memory() - before;
            self.store.handle_growth(growth);
            count += 1;
        }
        self.repairs.handle_burst(now, count);
        !self.scratch.is_empty()
    }

    /// Takes in that the first `bytes` of the last burst were sent: whole datagrams.
    pub fn handle_sent(&mut self, now: Duration, bytes: usize) {
        self.tick(now);
        let count = bytes / (self.config.shard() + OVERHEAD);
        self.figures.bytes += bytes as u64;
        match self.offer {
            Offer::Nothing => return,
            Offer::Mark => {
                self.figures.marks += 1;
                self.offer = Offer::Nothing;
                return;
            }
            Offer::Data => {
                self.figures.data += count as u64;
                self.offer = Offer::Nothing;
                if let Some((stripe, parity)) = self.store.handle_sent(count, self.marks.next()) {
                    self.handle_stripe_over(now, stripe, parity);
                }
            }
            Offer::Repairs(start) => {
                self.figures.repairs += count as u64;
                let start = start + bytes;
                self.offer = Offer::Repairs(start);
                if start >= self.scratch.len() {
                    self.offer = Offer::Nothing;
                    self.marks.hurry(now);
                }
            }
        }
        self.rate.take(bytes);
    }

    fn handle_stripe_over(&mut self, now: Duration, number: u32, parity: u32) {
        if parity > 0 {
            let is_new = self.store.stripe(number).is_some_and(Stripe::enqueue);
            self.repairs.add(now, number, parity, is_new);
        }
        if self.progress == Progress::Finished && !self.store.has_unsent() {
            self.marks.hurry(now);
        }
    }

    /// Takes in that the socket took nothing. Call [`Self::next_burst`] when it is writable.
    pub fn handle_blocked(&mut self, now: Duration) {
        self.tick(now);
        self.clock.is_blocked = true;
    }

    /// Takes in a member's report. That of another node is ignored.
    pub fn handle_report(&mut self, now: Duration, node: NodeId, report: &Report) {
        self.tick(now);
        if !self.members.contains(node) || self.progress == Progress::Complete {
            return;
        }
        let extent = Extent {
            closed: self.store.closed(),
            mark: self.marks.next() - 1,
            shards: self.marks.shards_at(report.mark),
        };
        let verdict = self.members.handle_report(now, node, report, extent);
        match verdict.and_then(|()| self.queue_repairs(now, node, report)) {
            Ok(()) => self.store.release(self.members.next()),
            Err(why) => self.leave(node, why),
        }
        self.look_for_completion();
    }

    fn queue_repairs(&mut self, now: Duration, node: NodeId, report: &Report) -> Result<(), LeaveReason> {
        let mut asked = 0;
        for missing in &report.missing {
            if missing.stripe >= self.store.closed() {
                break;
            }
            let Some(stripe) = self.store.stripe(missing.stripe) else {
                continue;
            };
            let raised = stripe.want(usize::from(missing.shards), report.mark);
            if raised == 0 {
                continue;
            }
            if stripe.repairs() + stripe.owed() > MAX_REPAIRS {
                return Err(LeaveReason::Lossy { percent: 100 });
            }
            asked += raised;
            let is_new = stripe.enqueue();
            self.repairs.add(now, missing.stripe, raised, is_new);
        }
        self.members.handle_asked(node, asked);
        Ok(())
    }

    /// Takes a member out of the group, because it left by itself or is gone.
    pub fn remove(&mut self, now: Duration, node: NodeId) {
        self.tick(now);
        if self.members.remove(node) {
            self.handle_departure();
        }
    }

    fn leave(&mut self, node: NodeId, why: LeaveReason) {
        if self.members.remove(node) {
            self.output.push_back(SenderOutput::Leave { node, why });
            self.handle_departure();
        }
    }

    fn handle_departure(&mut self) {
        if self.members.count() == 0 {
            self.store.clear();
            self.offer = Offer::Nothing;
        } else {
            self.store.release(self.members.next());
        }
        self.look_for_completion();
    }

    fn look_for_completion(&mut self) {
        let is_over = !self.store.has_unsent() && self.members.next() >= self.store.end();
        if self.progress == Progress::Finished && is_over {
            self.progress = Progress::Complete;
            self.offer = Offer::Nothing;
            self.output.push_back(SenderOutput::Complete);
        }
    }

    /// Returns true while there is somebody to send to.
    fn is_running(&self) -> bool {
        self.progress != Progress::Complete && self.members.count() > 0
    }

    /// Returns the time at which [`Self::next_burst`] must be called again. `None` once all is over, or
    /// nobody is left.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        if !self.is_running() {
            return None;
        }
        let timers = self.clock.sample_due.min(self.clock.interval_due);
        if self.clock.is_blocked {
            return Some(timers);
        }
        if self.offer != Offer::Nothing {
            return Some(self.clock.last_call);
        }
        let may_send_new = self.store.has_unsent() && self.store.closed() < self.members.limit();
        let sending = if may_send_new {
            Some(self.clock.last_call)
        } else {
            self.repairs.due().map(|_| self.clock.last_call)
        };
        let sending = sending.map(|at| at.max(self.rate.ready_at()));
        let all = [Some(self.marks.due()), sending];
        Some(all.into_iter().flatten().fold(timers, Duration::min))
    }

    /// Returns the next news.
    pub fn poll_output(&mut self) -> Option<SenderOutput> {
        self.output.pop_front()
    }

    /// Returns the figures so far.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            rate: self.rate.bytes_a_second(),
            members: self.members.count(),
            stripes: self.store.end() - self.store.first(),
            slowest: self.members.slowest().map(|(node, _)| node),
            ..self.figures
        }
    }

    /// Takes in the time of a call, and does what is due.
    fn tick(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.clock.last_call);
        self.clock.last_call = self.clock.last_call.max(now);
        if passed >= AWAY {
            self.members.excuse(passed);
        } else if self.clock.is_held && !passed.is_zero() {
            self.members.handle_held(self.store.closed(), passed);
        }
        if now >= self.clock.interval_due {
            self.clock.interval_due = now + self.config.report_every;
            self.end_interval(now);
        }
        if now >= self.clock.sample_due {
            self.clock.sample_due = now + SAMPLE_EVERY;
            self.judge_members(now);
        }
    }

    fn end_interval(&mut self, now: Duration) {
        let interval = self.members.end_interval();
        self.figures.loss = interval.loss.unwrap_or(self.figures.loss);
        self.rate.end_interval(now, interval);
        let rate = self.rate.bytes_a_second();
        self.clock.best_rate = self.clock.best_rate.max(rate);
        if rate < self.clock.best_rate / 2 {
            for node in self.members.overflowing() {
                self.leave(node, LeaveReason::Overflowing);
            }
        } else if rate > self.clock.best_rate / 4 * 3 {
            self.members.forgive();
        }
    }

    fn judge_members(&mut self, now: Duration) {
        for (node, why) in self.members.sample() {
            self.leave(node, why);
        }
        while let Some(node) = self.members.silent(now) {
            self.leave(node, LeaveReason::Silent);
        }
    }
}

/// Most datagrams of a burst.
fn most(config: &GroupConfig) -> usize {
    let fitting = MAX_BURST / (config.shard() + OVERHEAD);
    fitting.clamp(1, MAX_BURST_DATAGRAMS)
}
