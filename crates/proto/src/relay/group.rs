//! A stream that comes from a multicast group, beside links that stand by.
//!
//! A member of the group says so in its acknowledgements ([`Ack::standby`]). Its predecessor then sends only
//! signs of life, and keeps its window as ever. A node that leaves the group says so in its next
//! acknowledgement, and data goes on over the link that stands, at the acknowledged byte. Leaving is final.
//!
//! A member may be ahead of its predecessor. So an acknowledgement may name data that is not here yet, and is
//! checked when that data arrives. Not here: the group itself, and the drop of blocks that came both ways.

use std::time::Duration;

use super::{Ack, Reason, Relay, RelayError, RelayOutput, Source};
use crate::ids::StreamOffset;

impl Relay {
    /// Returns true while this node is a member of the stream's group, so that its link to the predecessor
    /// stands by. The driver reads that link even while [`Self::wants_upstream`] is false. Never true at a
    /// head.
    #[must_use]
    pub const fn is_grouped(&self) -> bool {
        self.in_group
    }

    /// Returns true if the stream has a group, of which this node may be no member. A sign of life from the
    /// predecessor may then be for an offset that this node has passed.
    #[must_use]
    pub const fn has_group(&self) -> bool {
        self.config.grouped
    }

    /// Handles a verified block from the group. It says nothing about the predecessor.
    ///
    /// # Errors
    /// [`RelayError::WrongOffset`] if it is not the next block; the driver drops blocks before
    /// [`Self::received`]. [`RelayError::Unasked`] without room, after the end, or after
    /// [`Self::leave_group`].
    pub fn handle_group_block(
        &mut self,
        now: Duration,
        offset: StreamOffset,
        length: u32,
    ) -> Result<(), RelayError> {
        self.tick(now);
        if !self.in_group {
            return Err(RelayError::Unasked(offset));
        }
        self.window.push(offset, length)?;
        self.took_block(now, offset, length);
        Ok(())
    }

    /// Handles the verified end of the stream from the group.
    ///
    /// # Errors
    /// [`RelayError::WrongOffset`], or [`RelayError::Unasked`] after [`Self::leave_group`].
    pub fn handle_group_end(&mut self, now: Duration, offset: StreamOffset) -> Result<(), RelayError> {
        self.tick(now);
        if !self.in_group {
            return Err(RelayError::Unasked(offset));
        }
        self.window.end(offset)?;
        self.upstream.end_is_here();
        self.check_claim_at_end(now);
        self.settle(now);
        Ok(())
    }

    /// Leaves the group for the rest of the stream. Data comes from the predecessor from now on, which learns
    /// of it by the next acknowledgement.
    pub fn leave_group(&mut self, now: Duration) {
        self.tick(now);
        if std::mem::take(&mut self.in_group) {
            self.upstream.hurry();
            self.settle(now);
        }
    }

    /// Returns true if the link to the predecessor is read. On standby it carries only signs of life, for
    /// which the window needs no room.
    pub(super) fn reads_link(&self) -> bool {
        self.in_group || self.window.has_room()
    }

    /// Returns true if the successor may have all data before `offset`, which is not here yet. No node is
    /// ahead of the producer, or of the end.
    pub(super) fn may_be_ahead(&self, offset: StreamOffset) -> bool {
        self.config.grouped
            && self.config.source != Source::Producer
            && !self.window.has_ended()
            && offset > self.received()
    }

    /// Returns true if the successor may send this acknowledgement after `known`, with all data before `sent`
    /// written to it.
    pub(super) fn is_possible(&self, ack: &Ack, known: &Ack, sent: StreamOffset) -> bool {
        let follows = ack.received >= known.received && (ack.ended || !ack.tail_ended);
        let is_sent = ack.received <= sent;
        let has_ended = self.window.has_ended();
        if !known.standby {
            let may_have_end = has_ended || known.ended;
            return follows && !ack.standby && is_sent && (may_have_end || !ack.ended);
        }
        let is_edge = is_sent || self.window.is_boundary(ack.received) || self.may_be_ahead(ack.received);
        let is_end = if has_ended {
            ack.received == self.received()
        } else {
            self.config.source != Source::Producer && ack.received >= self.received()
        };
        follows && is_edge && (is_end || !ack.ended)
    }

    /// Checks an acknowledgement of data that was not here yet against the block that has arrived.
    pub(super) fn check_claim_within(&mut self, now: Duration, offset: StreamOffset, length: u32) {
        let end = offset.plus(u64::from(length));
        let is_false = |claim: &Ack| claim.received < end && (claim.received > offset || claim.ended);
        self.lose_liar_if(now, is_false);
    }

    /// Checks an acknowledgement of data that was not here yet against the end of the stream.
    pub(super) fn check_claim_at_end(&mut self, now: Duration) {
        let end = self.received();
        let is_false = |claim: &Ack| claim.received > end || (claim.ended && claim.received < end);
        self.lose_liar_if(now, is_false);
    }

    /// Closes the link to a successor if its last acknowledgement is false: it names data which does not exist.
    /// Reports it.
    fn lose_liar_if(&mut self, now: Duration, is_false: impl Fn(&Ack) -> bool) {
        let Some(received) = self
            .downstream
            .claim()
            .filter(|claim| is_false(claim))
            .map(|claim| claim.received)
        else {
            return;
        };
        let sent = self.received();
        self.downstream.disbelieve(sent);
        self.outputs.push_back(RelayOutput::CloseDownstream);
        let why = RelayError::FalseAck { received, sent };
        self.lose_downstream(now, Reason::new(why.to_string()));
    }
}
