//! One stream at one node. A bounded window holds the blocks until the node's own consumer and enough
//! descendants have them, and they are passed on meanwhile.
//!
//! The machine handles descriptors (offset and length); its driver holds the payload and the sockets:
//! - read upstream only while [`Relay::wants_upstream`]; verify a block, then [`Relay::handle_block`] and
//!   give the payload to the consumer at once; the consumer gives it back with [`Relay::handle_consumed`], in
//!   any order;
//! - write downstream what [`Relay::next_to_send`] names, then [`Relay::handle_sent`];
//! - write upstream what [`Relay::take_ack`] gives;
//! - after every call, drain [`Relay::poll_output`], and call [`Relay::handle_timeout`] at
//!   [`Relay::poll_timeout`].
//!
//! A lost neighbour does not end the stream here. The machine reports [`RelayOutput::LinkLost`], and keeps
//! its data. It waits a bounded time for the server to name another neighbour ([`Relay::set_predecessor`],
//! [`Relay::set_successor`]). Not here: hashes ([`crate::block`]), handshakes ([`crate::link`]), and the
//! order of nodes ([`crate::run`]). Specification: `docs/protocol.md`, "Relay".

mod downstream;
mod group;
mod ledger;
mod timing;
mod types;
mod upstream;
mod window;

#[cfg(test)]
mod spooled;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use crate::control::{Peer, Side, Successor};
use crate::ids::{NodeId, StreamOffset};
use crate::link::{Ack, Goodbye, ReceiptKeys};
use crate::text::Reason;

use downstream::Downstream;
use ledger::Ledger;
use upstream::Upstream;
use window::Window;

pub use types::{RelayConfig, RelayError, RelayOutput, Source, Transmit};

/// The state of the node's own consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Consumer {
    /// There is no consumer, or it failed. Nothing waits for it.
    Absent,
    /// The consumer takes blocks.
    Working,
    /// The consumer has taken everything and reported that.
    Finished,
}

/// The machine's own life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Running,
    /// [`RelayOutput::Done`] was given.
    Done,
    /// [`RelayOutput::Closed`] or [`RelayOutput::Failed`] was given.
    Over,
}

/// One stream at one node. See the module's documentation for how to drive it.
#[derive(Debug)]
pub struct Relay {
    config: RelayConfig,
    window: Window,
    upstream: Upstream,
    downstream: Downstream,
    ledger: Ledger,
    consumer: Consumer,
    life: Life,
    clock: timing::Clock,
    /// True while this node takes the stream from the multicast group.
    in_group: bool,
    /// Time until which only signs of life go to the successor.
    held_until: Option<Duration>,
    outputs: VecDeque<RelayOutput>,
}

impl Relay {
    /// Starts a relay. A node asks for its predecessor at once.
    #[must_use]
    pub fn new(config: RelayConfig, now: Duration) -> Self {
        let window = Window::new(config.window_bytes, config.start);
        let consumer = if config.has_consumer {
            Consumer::Working
        } else {
            Consumer::Absent
        };
        let downstream = Downstream::new(config.successor, config.start, now + config.establish);
        let mut relay = Self {
            window,
            upstream: Upstream::Producer,
            downstream,
            ledger: Ledger::new(config.me, &config.receipts),
            consumer,
            life: Life::Running,
            clock: timing::Clock::new(now),
            in_group: config.grouped && matches!(config.source, Source::Predecessor(_)),
            held_until: None,
            outputs: VecDeque::new(),
            config,
        };
        if let Source::Predecessor(peer) = relay.config.source {
            relay.set_predecessor(now, peer);
        }
        relay
    }

    /// Returns the next output, until `None`.
    pub fn poll_output(&mut self) -> Option<RelayOutput> {
        self.outputs.pop_front()
    }

    /// Returns true if the next block (of any size up to [`crate::limits::MAX_BLOCK`]) may be read from
    /// upstream, or produced.
    #[must_use]
    pub fn wants_upstream(&self) -> bool {
        self.life != Life::Over && self.window.has_room()
    }

    /// Handles a verified block that arrived, or was produced. The consumer gets its payload now.
    ///
    /// # Errors
    /// [`RelayError::WrongOffset`], [`RelayError::Unasked`].
    pub fn handle_block(
        &mut self,
        now: Duration,
        offset: StreamOffset,
        length: u32,
    ) -> Result<(), RelayError> {
        self.tick(now);
        self.window.push(offset, length)?;
        self.upstream.heard(now);
        self.took_block(now, offset, length);
        Ok(())
    }

    /// Gives the new block at the window's end to the consumer.
    fn took_block(&mut self, now: Duration, offset: StreamOffset, length: u32) {
        if self.consumer == Consumer::Absent {
            self.window.consume_all();
        }
        self.check_claim_within(now, offset, length);
        self.settle(now);
    }

    /// Handles the verified end of the stream, which arrived or was produced. A repeat after a new link is
    /// fine.
    ///
    /// # Errors
    /// [`RelayError::WrongOffset`].
    pub fn handle_end(&mut self, now: Duration, offset: StreamOffset) -> Result<(), RelayError> {
        self.tick(now);
        self.window.end(offset)?;
        self.upstream.heard(now);
        self.check_claim_at_end(now);
        self.settle(now);
        Ok(())
    }

    /// Records that bytes came from upstream, be it a part of a block or an idle one. The predecessor is
    /// alive.
    pub fn handle_upstream_alive(&mut self, now: Duration) {
        self.tick(now);
        self.upstream.heard(now);
    }

    /// Records that the consumer has no more use for the block at `offset`, in any order.
    pub fn handle_consumed(&mut self, now: Duration, offset: StreamOffset) {
        self.tick(now);
        self.window.consume(offset);
        self.settle(now);
    }

    /// Records that the consumer has taken the whole stream without a fault.
    pub fn handle_consumer_finished(&mut self, now: Duration) {
        self.tick(now);
        self.consumer = Consumer::Finished;
        self.window.consume_all();
        self.settle(now);
    }

    /// Records that the consumer takes nothing more. The stream goes on for the descendants, without a
    /// `Done`.
    pub fn handle_consumer_failed(&mut self, now: Duration) {
        self.tick(now);
        self.consumer = Consumer::Absent;
        self.window.consume_all();
        self.settle(now);
    }

    /// Handles the server's word that no node needs this stream any more.
    pub fn handle_end_stream(&mut self, now: Duration) {
        self.tick(now);
        if self.life != Life::Over {
            self.life = Life::Over;
            self.outputs.push_back(RelayOutput::Closed);
        }
    }

    /// Returns the offset up to which all data has arrived.
    #[must_use]
    pub fn received(&self) -> StreamOffset {
        self.window.received()
    }

    /// Returns the offset up to which the own consumer has used all data.
    #[must_use]
    pub fn consumed(&self) -> StreamOffset {
        self.window.consumed()
    }

    /// Returns the offset of the first byte that is still here, for the link handshake.
    #[must_use]
    pub fn retained_from(&self) -> StreamOffset {
        self.window.retained_from()
    }

    /// Returns the payload bytes held now.
    #[must_use]
    pub fn buffered(&self) -> u64 {
        self.window.bytes()
    }

    /// Returns true if the end has arrived here.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.window.has_ended()
    }

    /// Returns the node that may connect as the successor now.
    #[must_use]
    pub fn expected_successor(&self) -> Option<NodeId> {
        self.downstream.node()
    }

    /// Returns true if the window is full of data for the own consumer, rather than for descendants.
    #[must_use]
    pub fn is_held_by_consumer(&self) -> bool {
        let needed = self.needed_from();
        let held = needed.unwrap_or(self.received()).min(self.received());
        self.consumed() < held
    }

    /// Sets the nodes that are near enough now to keep data for this one, or this one for them.
    pub fn set_receipts(&mut self, now: Duration, keys: &ReceiptKeys) {
        self.tick(now);
        self.ledger.name(keys);
        self.upstream.hurry();
        self.settle(now);
    }

    /// Returns the first byte that the successor may still ask for, or a node below it for which this one
    /// keeps data. `None` without a successor.
    fn needed_from(&self) -> Option<StreamOffset> {
        let successor = self.downstream.received()?;
        let further = self.ledger.needed_from(self.retained_from());
        Some(further.map_or(successor, |further| further.min(successor)))
    }

    /// True if no node below misses data. The successor reports so for all, and the nodes for which data is
    /// kept prove it.
    fn descendants_have_the_end(&self) -> bool {
        self.downstream
            .has_ended()
            .is_none_or(|ended| ended && self.ledger.all_have_the_end())
    }

    /// Frees data that no node needs, and reports new states. Called after any change.
    fn settle(&mut self, now: Duration) {
        if self.life == Life::Over {
            return;
        }
        let needed = self.needed_from();
        let below = needed.map_or(self.consumed(), |offset| offset.min(self.consumed()));
        if let Some(below) = self.window.release(below) {
            self.outputs.push_back(RelayOutput::Release { below });
        }
        self.upstream.reading(now, self.reads_link());
        if self.life == Life::Running && self.window.has_ended() && self.consumer == Consumer::Finished {
            self.life = Life::Done;
            self.outputs.push_back(RelayOutput::Done);
        }
        if self.is_complete() {
            self.life = Life::Over;
            self.outputs.push_back(RelayOutput::Closed);
        }
    }

    /// True if nothing is missing here, no descendant misses data, and the predecessor knows that.
    fn is_complete(&self) -> bool {
        self.window.has_ended()
            && self.consumer != Consumer::Working
            && self.descendants_have_the_end()
            && self.upstream.knows_the_end()
    }
}
