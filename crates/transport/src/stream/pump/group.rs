//! The multicast group as a second way for blocks to come. A member's link to its predecessor stands by.
//!
//! The relay machine decides; here is the check of each block. Not here: the group's socket and its stripes.

use ka_proto::block::{BlockHeader, BlockKind, HEADER_LEN};

use super::Pump;
use super::flow::{BadUpstream, Way};
use crate::stream::buffer::Payload;
use crate::stream::upstream::ReceivedBlock;

impl Pump {
    /// True when the next block may be taken from the group.
    pub(super) fn wants_group_block(&self) -> bool {
        self.relay.is_grouped() && self.has_room()
    }

    /// Takes a block from the group, as the server sealed it: header and payload. Drops it if it is here
    /// already, or if this node is no member. A successor that does not stand by gets it at once. Call it
    /// only while [`Pump::wants_group_block`].
    ///
    /// # Errors
    /// [`BadUpstream`]: the group sends something else than the server's next block. Leave it.
    pub(super) fn take_group_block(
        &mut self,
        raw: [u8; HEADER_LEN],
        payload: Payload,
    ) -> Result<(), BadUpstream> {
        let header = BlockHeader::decode(&raw)?;
        let (key, expected) = (&self.target.key, self.relay.received());
        header.check_place(key.run(), key.stream(), expected.min(header.offset))?;
        // First of all: what strangers forged may say anything.
        key.verify(&header, payload.as_slice())?;
        let is_here = header.offset < expected || self.relay.has_ended();
        if is_here || !self.relay.is_grouped() || header.kind == BlockKind::Idle {
            return Ok(());
        }
        header.check_form(self.is_sealed)?;
        let received = ReceivedBlock { header, raw, payload };
        match header.kind {
            BlockKind::Data => self.take_data(received, Way::Group)?,
            _ => self.take_end(received, Way::Group)?,
        }
        self.forward();
        Ok(())
    }

    /// Leaves the group for the rest of the stream. The predecessor learns of it at once and sends the rest.
    pub(super) fn leave_group(&mut self) {
        self.relay.leave_group(self.now());
        self.acknowledge();
        self.obey();
    }

    /// Does what the part that reads the group's socket will do.
    #[cfg(test)]
    pub(super) fn take_test_block(&mut self, header: [u8; HEADER_LEN], payload: Vec<u8>) {
        assert!(self.wants_group_block() || self.relay.has_ended() || !self.relay.is_grouped());
        let payload = Payload::from_producer(payload, self.handle().pool());
        if self.take_group_block(header, payload).is_err() {
            self.leave_group();
        }
    }
}
