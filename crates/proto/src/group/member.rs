//! A member of the group: takes datagrams, gives whole stripes in order, and reports.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::assembly::{Assembly, Held, WholeStripe};
use super::datagram::{DatagramKey, Header, Kind, MARK_BYTES, OVERHEAD, body};
use super::parity::ParityDecoder;
use super::report::{MAX_REPORTED, Missing, Report};
use super::{DARK_AFTER, FIRST_DATAGRAM, GroupConfig, MAX_SHARDS, MAX_STRIPES};
use crate::ids::StreamId;

/// Least time between two reports, whatever happened.
const LEAST_INTERVAL: Duration = Duration::from_millis(5);
/// Time without a proven datagram after which the MAC of a shard is looked at, too. Marks may be lost one after another.
const PROOF_EVERY: Duration = Duration::from_millis(100);
/// Longest time between two reports that say the same.
const SAME_REPORT: Duration = Duration::from_millis(500);
/// Time between two calls from which on the member's own process was away. It is no silence of the sender.
const AWAY: Duration = Duration::from_millis(500);
/// The machine of one member in one stream.
///
/// It holds at most its window of stripes, and those that it gave out and that are not confirmed.
///
/// The hash of a block proves more than the MACs of its datagrams, so the MACs of shards are not looked at as long as
/// nobody forges any. It becomes *strict*, and looks at every MAC from then on, when two datagrams contradict each
/// other, when one has no sense, or when a block turns out to be wrong ([`super::BlockReader::reject`]). What a stranger forged is
/// dropped then, and the sender repairs it. What remains wrong was forged by another member, who has the key: leave
/// the group. Marks are always checked.
#[derive(Debug)]
pub struct Member {
    config: GroupConfig,
    key: DatagramKey,
    /// Most stripes held at once.
    window: u32,
    /// Number of the first stripe that was not given out.
    first: u32,
    /// Stripes from `first` on. `None` if nothing of one has come.
    stripes: VecDeque<Option<Assembly>>,
    /// First stripe that is not whole.
    next: u32,
    /// First stripe for which no room was promised.
    limit: u32,
    /// Newest mark, and the number of stripes that were over then.
    mark: (u32, u32),
    /// Stripes up to which losses were counted.
    counted: u32,
    losses: u64,
    refused: u64,
    /// The news of the last report: first stripe that is not confirmed, limit, drops.
    last_content: Option<(u32, u32, u64)>,
    decoder: ParityDecoder,
    /// Stripes that were given out and are not confirmed. The last one is that before `first`.
    given: VecDeque<WholeStripe>,
    /// True once the MAC of each datagram is checked.
    is_strict: bool,
    clock: Clock,
    is_finished: bool,
}

/// The times that a member goes by.
#[derive(Debug)]
struct Clock {
    last_call: Duration,
    /// Time of the last datagram whose MAC was right.
    proven: Duration,
    /// Time from which on a silence is dark.
    dark_at: Duration,
    /// Time of the next report on the clock.
    due: Duration,
    last_report: Option<Duration>,
    /// True if the next report is to go at once.
    is_urgent: bool,
}

impl Member {
    /// Returns a member at the beginning of a stream. It holds at most `window` bytes of stripes, and at
    /// least two stripes.
    #[must_use]
    pub fn new(config: GroupConfig, key: DatagramKey, window: usize, now: Duration) -> Self {
        let most = u32::try_from(window / config.stripe()).unwrap_or(u32::MAX);
        let bound = u32::try_from(MAX_STRIPES).unwrap_or(u32::MAX);
        Self {
            config,
            key,
            window: most.clamp(2, bound),
            first: 0,
            stripes: VecDeque::new(),
            next: 0,
            limit: 0,
            mark: (0, 0),
            counted: 0,
            losses: 0,
            refused: 0,
            last_content: None,
            decoder: ParityDecoder::default(),
            given: VecDeque::new(),
            is_strict: false,
            clock: Clock {
                last_call: now,
                proven: now,
                dark_at: now + FIRST_DATAGRAM,
                due: now,
                last_report: None,
                is_urgent: true,
            },
            is_finished: false,
        }
    }

    /// Returns the stream.
    #[must_use]
    pub const fn stream(&self) -> StreamId {
        self.key.stream()
    }

    /// Returns true once it looks at the MAC of each datagram.
    #[must_use]
    pub const fn is_strict(&self) -> bool {
        self.is_strict
    }

    /// Takes what one receive gave, in this place of a buffer: datagrams of `datagram` bytes each, one after
    /// another, the last of which may be shorter. The buffer is kept as long as a datagram in it is needed. A wrong
    /// datagram is counted, and nothing else happens.
    pub fn handle_datagrams(
        &mut self,
        now: Duration,
        buffer: &Arc<Vec<u8>>,
        place: Range<usize>,
        datagram: usize,
    ) {
        self.tick(now);
        let end = place.end.min(buffer.len());
        let mut start = place.start;
        while start < end {
            let next = start.saturating_add(datagram.max(1)).min(end);
            self.handle_datagram(now, Held::new(buffer, start..next));
            start = next;
        }
    }

    fn handle_datagram(&mut self, now: Duration, held: Held) {
        let datagram = held.datagram();
        let header = Header::decode(datagram).filter(|header| header.stream == self.key.stream());
        let outcome = match header {
            Some(header) if header.kind == Kind::Mark => self.handle_mark(&header, datagram),
            Some(header) if header.kind != Kind::Probe => self.handle_shard(now, &header, held),
            _ => Outcome::Refused,
        };
        match outcome {
            Outcome::Proven => {
                self.clock.proven = now;
                self.clock.dark_at = now + DARK_AFTER;
            }
            Outcome::Taken => {}
            Outcome::Refused => self.refused += 1,
        }
    }

    fn handle_mark(&mut self, header: &Header, datagram: &[u8]) -> Outcome {
        let Some(closed) = body(datagram).first_chunk::<4>() else {
            return Outcome::Refused;
        };
        if datagram.len() != MARK_BYTES || !self.key.is_right(datagram) {
            return Outcome::Refused;
        }
        if header.number > self.mark.0 {
            let closed = u32::from_le_bytes(*closed);
            self.mark = (
                header.number,
                closed.max(self.mark.1).min(self.limit.max(self.mark.1)),
            );
        }
        Outcome::Proven
    }

    fn handle_shard(&mut self, now: Duration, header: &Header, datagram: Held) -> Outcome {
        let length = self.config.shard() + OVERHEAD;
        if datagram.datagram().len() != length || header.number >= self.limit {
            self.become_strict();
            return Outcome::Refused;
        }
        if header.number < self.first {
            return Outcome::Taken;
        }
        if !self.is_strict && self.contradicts(header, &datagram) {
            self.become_strict();
        }
        let held = self.stripe(header.number);
        if held.is_some_and(|stripe| stripe.agrees(header) && !stripe.lacks(header)) {
            return Outcome::Taken;
        }
        if held.is_some_and(|stripe| !stripe.agrees(header)) {
            return Outcome::Refused;
        }
        let is_checked = self.is_strict || now >= self.clock.proven + PROOF_EVERY;
        if is_checked && !self.key.is_right(datagram.datagram()) {
            self.become_strict();
            return Outcome::Refused;
        }
        self.insert(header, datagram);
        if is_checked {
            Outcome::Proven
        } else {
            Outcome::Taken
        }
    }

    /// Returns true if this datagram and what is held cannot both be the sender's.
    fn contradicts(&self, header: &Header, datagram: &Held) -> bool {
        let Some(stripe) = self.stripe(header.number) else {
            return false;
        };
        let held = stripe.held(header);
        !stripe.agrees(header) || held.is_some_and(|held| held.datagram() != datagram.datagram())
    }

    fn insert(&mut self, header: &Header, datagram: Held) {
        let place = (header.number - self.first) as usize;
        if self.stripes.len() <= place {
            self.stripes.resize_with(place + 1, || None);
        }
        let shard = self.config.shard();
        let stripe = self.stripes[place].get_or_insert_with(|| Assembly::new(header.shards, shard));
        stripe.insert(header, datagram);
        if stripe.missing() == 0 && header.number == self.next {
            self.advance();
        }
    }

    /// Looks at the MAC of each datagram from now on, and of those that are held.
    fn become_strict(&mut self) {
        if std::mem::replace(&mut self.is_strict, true) {
            return;
        }
        for place in &mut self.stripes {
            if let Some(stripe) = place {
                self.refused += stripe.drop_wrong(&self.key);
            }
            if place.as_ref().is_some_and(Assembly::is_empty) {
                *place = None;
            }
        }
        self.next = self.first;
        self.advance();
    }

    /// Moves `next` over all stripes that are whole.
    fn advance(&mut self) {
        while self.stripe(self.next).is_some_and(|stripe| stripe.missing() == 0) {
            self.next += 1;
        }
    }

    /// Returns the number of stripes that are held, whole or in part.
    #[must_use]
    pub fn held(&self) -> usize {
        self.stripes.iter().flatten().count()
    }

    fn stripe(&self, number: u32) -> Option<&Assembly> {
        let place = number.checked_sub(self.first)? as usize;
        self.stripes.get(place)?.as_ref()
    }

    /// Gives out the next stripe, once it is whole. [`super::BlockReader`] cuts blocks out of it.
    pub(super) fn next_stripe(&mut self) -> Option<WholeStripe> {
        if self.first == self.next {
            return None;
        }
        let mut stripe = self.stripes.pop_front().flatten()?;
        self.count_losses(self.first, &stripe);
        stripe.restore(&mut self.decoder);
        let whole = WholeStripe::new(self.first, stripe);
        self.first += 1;
        self.given.push_back(whole.clone());
        Some(whole)
    }

    /// Takes in that the stripes before this one were right.
    pub(super) fn confirm(&mut self, number: u32) {
        while self.given.front().is_some_and(|stripe| stripe.number() < number) {
            self.given.pop_front();
        }
    }

    /// Takes back the stripes that were given out and are not confirmed, because their bytes were wrong, and drops
    /// those of their datagrams that a stranger forged. Returns false if there are none: then a member has forged
    /// the bytes.
    pub(super) fn recheck(&mut self) -> bool {
        self.become_strict();
        let mut wrong = 0;
        while let Some(stripe) = self.given.pop_back() {
            let mut stripe = stripe.into_assembly();
            wrong += stripe.drop_wrong(&self.key);
            self.stripes.push_front((!stripe.is_empty()).then_some(stripe));
            self.first -= 1;
        }
        self.refused += wrong;
        self.next = self.first;
        self.advance();
        wrong > 0
    }

    /// Returns the number of the first stripe that is not known to be right. The sender keeps it, and later ones.
    fn unconfirmed(&self) -> u32 {
        match self.given.front() {
            Some(stripe) if !self.is_finished => stripe.number(),
            _ => self.first,
        }
    }

    /// Takes in that the end of the stream was cut out of the stripes. The member reports at once, and is
    /// never dark again.
    pub fn finish(&mut self, now: Duration) {
        self.tick(now);
        self.is_finished = true;
        self.clock.is_urgent = true;
    }

    /// Returns a report if one is due. `free` is the room, in bytes, of whom the stripes are given to.
    /// `drops` reads the count of the socket, a system call; it is called only when a report is due.
    pub fn report(&mut self, now: Duration, free: u64, drops: impl FnOnce() -> u64) -> Option<Report> {
        self.tick(now);
        let free = u32::try_from(free / self.config.stripe() as u64).unwrap_or(u32::MAX);
        let limit = self.first.saturating_add(self.window.min(free)).max(self.limit);
        self.clock.is_urgent |= self.is_room_news(limit);
        if now < self.report_due() {
            return None;
        }
        self.clock.due = now + self.config.report_every;
        let drops = drops();
        let unconfirmed = self.unconfirmed();
        let content = (unconfirmed, limit, drops);
        let missing = self.missing();
        let is_same = missing.is_empty() && self.last_content == Some(content);
        let last = self.clock.last_report;
        if is_same && !self.clock.is_urgent && last.is_some_and(|last| now < last + SAME_REPORT) {
            return None;
        }
        self.last_content = Some(content);
        self.limit = limit;
        self.count_all_losses();
        self.clock.is_urgent = false;
        self.clock.last_report = Some(now);
        Some(Report {
            mark: self.mark.0,
            next: unconfirmed,
            limit,
            missing,
            losses: self.losses,
            refused: self.refused,
            drops,
        })
    }

    /// Returns true if the sender may be waiting for the room up to `limit`: if all or half of what was
    /// promised has come.
    const fn is_room_news(&self, limit: u32) -> bool {
        let (left, more) = (self.limit.saturating_sub(self.next), limit - self.limit);
        let (half, quarter) = (self.window / 2, self.window / 4);
        (left == 0 && more > self.window / 16) || (left <= half && more > quarter)
    }

    fn report_due(&self) -> Duration {
        match self.clock.last_report {
            Some(last) if self.clock.is_urgent => self.clock.due.min(last + LEAST_INTERVAL),
            Some(_) => self.clock.due,
            None => Duration::ZERO,
        }
    }

    /// Lists the stripes of which all was sent, and some is lacking.
    fn missing(&self) -> Vec<Missing> {
        (self.next..self.mark.1)
            .filter_map(|stripe| {
                let missing = self.stripe(stripe).map_or(MAX_SHARDS, Assembly::missing);
                let shards = u8::try_from(missing.min(MAX_SHARDS - 1)).unwrap_or_default();
                (shards > 0).then_some(Missing { stripe, shards })
            })
            .take(MAX_REPORTED)
            .collect()
    }

    fn count_all_losses(&mut self) {
        for number in self.counted.max(self.first)..self.mark.1 {
            self.losses += self.stripe(number).map_or(MAX_SHARDS, Assembly::missing_data) as u64;
            self.counted = number + 1;
        }
    }

    /// Counts the losses of a stripe that is given out before a report counted them.
    fn count_losses(&mut self, number: u32, stripe: &Assembly) {
        if number >= self.counted {
            self.losses += stripe.missing_data() as u64;
            self.counted = number + 1;
        }
    }

    /// Returns true if no valid datagram has come for so long that the group does not reach this member.
    /// Then it leaves the group by itself.
    #[must_use]
    pub fn is_dark(&self, now: Duration) -> bool {
        !self.is_finished && now >= self.clock.dark_at && now < self.clock.last_call + AWAY
    }

    /// Returns the time at which [`Self::report`] and [`Self::is_dark`] are to be asked again.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let dark = (!self.is_finished).then_some(self.clock.dark_at);
        Some(dark.map_or(self.report_due(), |dark| dark.min(self.report_due())))
    }

    /// Takes in the time of a call. If the process was away (stopped, swapped out), its socket is unread, and
    /// the sender's silence starts anew.
    fn tick(&mut self, now: Duration) {
        if now >= self.clock.last_call + AWAY {
            self.clock.dark_at = self.clock.dark_at.max(now + DARK_AFTER);
        }
        self.clock.last_call = self.clock.last_call.max(now);
    }
}

/// The end that a datagram takes.
enum Outcome {
    /// It is the sender's, by its MAC.
    Proven,
    /// Its MAC was not looked at: it was taken, or is of no use.
    Taken,
    /// It was wrong.
    Refused,
}
