//! Rounds. Nodes that are late or come back stay connected until this round is over, and take part in the
//! next one.
//!
//! A round is one run with its own number, keys and streams. The machine, its connections and the numbers of
//! its nodes go on. Nodes that wait are members without a place in the order. They are pinged and may leave,
//! and the round does not see them.

use ka_mac::MacAddr;

use crate::identity::Identity;
use crate::ids::StreamId;

/// The rounds of a run, and the machines that are known over all of them.
#[derive(Debug)]
pub(super) struct Rounds {
    /// Number of this round, from 1.
    number: u32,
    /// Most rounds of the run. `u32::MAX` means no limit as long as nodes come.
    most: u32,
    /// True if there will be no further round.
    ended: bool,
    /// Nodes that were told to come back and have not yet.
    awaited: Vec<Identity>,
    /// The awaited nodes that were set aside because they are slow. They live, and may have to write back the
    /// data that their kernels took before they are free.
    set_aside: Vec<Identity>,
    /// Machines whose clones are good.
    done: Vec<Identity>,
    /// Number of streams of this round.
    streams_opened: u32,
    /// Number of streams of earlier rounds. Their numbers are not used again.
    streams_before: u32,
}

impl Rounds {
    pub(super) const fn new(number: u32, most: u32) -> Self {
        Self {
            number,
            most,
            ended: false,
            awaited: Vec::new(),
            set_aside: Vec::new(),
            done: Vec::new(),
            streams_opened: 0,
            streams_before: 0,
        }
    }

    /// Returns the number of this round, from 1.
    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    /// True if there may be another round.
    pub(super) const fn has_next(&self) -> bool {
        self.number < self.most
    }

    /// True if the run is over for good, or will be with this round.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    pub(super) const fn end(&mut self) {
        self.ended = true;
    }

    /// True if a node that comes now may wait for the next round.
    pub(super) const fn may_wait(&self) -> bool {
        !self.ended && self.has_next()
    }

    /// Begins the next round, to which these nodes may come back.
    pub(super) fn begin_next(&mut self, awaited: Vec<Identity>) {
        self.awaited = awaited;
        self.number += 1;
        self.streams_before += std::mem::take(&mut self.streams_opened);
    }

    /// Handles that no node came to this round. Without a bound of rounds the next node begins it again;
    /// otherwise the run is over.
    pub(super) const fn nobody_came(&mut self) {
        if self.number > 1 && self.most == u32::MAX {
            self.number -= 1;
        } else {
            self.ended = true;
        }
    }

    /// Returns the number of the next stream.
    pub(super) const fn open_stream(&mut self) -> StreamId {
        self.streams_opened += 1;
        StreamId(self.streams_before + self.streams_opened)
    }

    /// True if a stream was opened in this round.
    pub(super) const fn has_streamed(&self) -> bool {
        self.streams_opened > 0
    }

    /// Numbers streams on from `before`, as after rounds that had so many.
    #[cfg(test)]
    pub(super) const fn number_streams_from(&mut self, before: u32) {
        self.streams_before = before;
    }

    /// Records that a machine was set aside because it is slow.
    pub(super) fn set_aside(&mut self, identity: Identity) {
        self.set_aside.push(identity);
    }

    /// Records that a machine has come. It is awaited no longer.
    pub(super) fn note_present(&mut self, identity: &Identity) {
        if let Some(index) = self.awaited.iter().position(|awaited| awaited.is(identity)) {
            self.awaited.swap_remove(index);
        }
    }

    /// True if a node that was told to come back has not come yet.
    pub(super) const fn awaits_somebody(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// Ends the grace. From now on only nodes that were set aside because they are slow are awaited. Returns
    /// false if there are none.
    pub(super) fn await_the_slow(&mut self) -> bool {
        let slow = std::mem::take(&mut self.set_aside);
        self.awaited.retain(|one| slow.iter().any(|other| other.is(one)));
        !slow.is_empty() && !self.awaited.is_empty()
    }

    /// Returns the machines whose clones are good.
    pub(super) fn done(&self) -> &[Identity] {
        &self.done
    }

    pub(super) fn is_done(&self, identity: &Identity) -> bool {
        self.done.iter().any(|done| done.is(identity))
    }

    pub(super) fn keep_done(&mut self, identity: Identity) {
        if !self.is_done(&identity) {
            self.done.push(identity);
        }
    }

    pub(super) fn forget_done(&mut self, mac: MacAddr) {
        self.done.retain(|done| done.mac != Some(mac));
    }
}
