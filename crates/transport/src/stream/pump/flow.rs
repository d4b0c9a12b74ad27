//! The moves of blocks: from the predecessor or the producer into the window, on to the successor, and out to
//! the consumer.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ka_proto::block::{BlockError, BlockHeader, BlockKind};
use ka_proto::link::{Goodbye, UpFrame};
use ka_proto::relay::{RelayError, Transmit};
use ka_proto::{Reason, StreamOffset};

use super::{LocalEnd, Pump};
use crate::stream::buffer::{Payload, SealedBlock};
use crate::stream::downstream::{Downstream, DownstreamError};
use crate::stream::handle::Ended;
use crate::stream::proof::control_block;
use crate::stream::upstream::{ReceivedBlock, UpstreamError};

/// Blocks read before other work (acknowledgements, the inbox) gets its turn.
const MAX_BLOCKS_PER_TURN: usize = 32;
/// Bytes in the head's window that are not yet in the socket.
const MAX_UNSENT: usize = 2 << 20;

/// The way that a block came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Over the link to the predecessor.
    Link,
    /// From the multicast group.
    Group,
}

/// The reason why the link to the predecessor must be closed, or the group be left.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadUpstream {
    #[error("{0}")]
    Link(#[from] UpstreamError),
    #[error("{0}")]
    Block(#[from] BlockError),
    #[error("{0}")]
    Relay(#[from] RelayError),
}

impl Pump {
    /// True when the link to the predecessor is read. On standby it carries only signs of life, which need no
    /// room.
    pub(super) fn reads_upstream(&self) -> bool {
        self.predecessor.link().is_some() && (self.relay.is_grouped() || self.has_room())
    }

    /// True when there is room for the next block, and a way for it to come.
    pub(super) fn wants_upstream(&self) -> bool {
        (self.predecessor.link().is_some() || self.relay.is_grouped()) && self.has_room()
    }

    pub(super) fn has_room(&self) -> bool {
        self.relay.wants_upstream() && self.window.has_room() && self.group_has_room()
    }

    /// True when the next block of the producer shall wake the pump: not while it could not be sent anyway.
    pub(super) fn wants_produced(&self) -> bool {
        let has_way = self.successor.link().is_some() || self.sends_to_group();
        self.local.is_producer() && has_way && self.can_take_produced()
    }

    /// The producer's blocks enter the window shortly before they are sent: what lies about unsent is cold in
    /// the cache by then. Without any successor to come there is nothing to wait for.
    fn can_take_produced(&self) -> bool {
        let can_send = match self.successor.link() {
            // The group's own queue is the measure, and a successor that is lost keeps nobody from being sent to.
            _ if self.sends_to_group() => true,
            Some(link) => link.unsent() < MAX_UNSENT,
            None => self.relay.expected_successor().is_none(),
        };
        can_send && self.has_room()
    }

    /// Reads the available data, and sends each block on at once, while it is in the cache.
    pub(super) fn read_upstream(&mut self) {
        for _ in 0..MAX_BLOCKS_PER_TURN {
            // After the end, only idle blocks and the predecessor's close are left to read.
            if !self.reads_upstream() && !self.relay.has_ended() {
                return;
            }
            match self.read_block() {
                Ok(true) => self.forward(),
                Ok(false) => return,
                Err(error) => return self.drop_upstream(&error),
            }
        }
    }

    fn read_block(&mut self) -> Result<bool, BadUpstream> {
        let Some(upstream) = self.predecessor.link_mut() else {
            return Ok(false);
        };
        let (key, expected, is_sealed) = (&self.target.key, self.relay.received(), self.is_sealed);
        let has_group = self.relay.has_group();
        let check = |header: &BlockHeader| {
            // The predecessor may not know yet how far this node has come with the group.
            let is_late = has_group && header.offset < expected;
            let place = if is_late { header.offset } else { expected };
            header.check_place(key.run(), key.stream(), place)?;
            header.check_form(is_sealed)
        };
        let received = upstream.read_block(self.target.pump.pool(), check)?;
        let is_alive = upstream.take_activity();
        let now = self.meter.read();
        let Some(received) = received else {
            if is_alive {
                self.relay.handle_upstream_alive(now);
            }
            return Ok(false);
        };
        self.target
            .key
            .verify(&received.header, received.payload.as_slice())?;
        match received.header.kind {
            // It came from the group before.
            _ if received.header.offset < self.relay.received() => self.relay.handle_upstream_alive(now),
            BlockKind::Data => self.take_data(received, Way::Link)?,
            BlockKind::End => self.take_end(received, Way::Link)?,
            BlockKind::Idle => self.relay.handle_upstream_alive(now),
        }
        Ok(true)
    }

    pub(super) fn take_data(&mut self, received: ReceivedBlock, way: Way) -> Result<(), RelayError> {
        let ReceivedBlock { header, raw, payload } = received;
        let (now, offset) = (self.now(), header.offset);
        match way {
            Way::Link => self.relay.handle_block(now, offset, header.length)?,
            Way::Group => self.relay.handle_group_block(now, offset, header.length)?,
        }
        self.note_source(way);
        self.proof.push(&header);
        let block = SealedBlock {
            header: raw,
            offset: header.offset.0,
            payload,
            consumed: AtomicBool::new(false),
        };
        self.retain(Arc::new(block));
        self.obey();
        Ok(())
    }

    fn note_source(&mut self, way: Way) {
        match way {
            Way::Link => self.proof.note_source(self.predecessor.peer()),
            Way::Group => self.proof.note_group(),
        }
    }

    fn retain(&mut self, block: Arc<SealedBlock>) {
        if let LocalEnd::Consumer(delivery) = &mut self.local {
            delivery.push(Arc::clone(&block), self.meter.now());
        }
        self.window.push(block);
    }

    /// Takes the end of the stream, or ends it here as failed. Then the data is not what the server sent, and
    /// no other predecessor could change that.
    pub(super) fn take_end(&mut self, received: ReceivedBlock, way: Way) -> Result<(), RelayError> {
        let ReceivedBlock { header, raw, payload } = received;
        if let Err(error) = self.proof.check(payload.as_slice(), &self.target.key) {
            self.refuse_end(&error, way);
            return Ok(());
        }
        self.window.set_end(control_block(raw, header.offset.0, payload));
        match way {
            Way::Link => self.relay.handle_end(self.now(), header.offset)?,
            Way::Group => self.relay.handle_group_end(self.now(), header.offset)?,
        }
        self.deliver();
        self.handle().end(&Ended::Complete);
        Ok(())
    }

    fn refuse_end(&mut self, error: &BlockError, way: Way) {
        self.note_source(way);
        let reason = self.proof.refuse(error);
        tracing::error!(stream = %self.handle().name(), %reason, "the stream is refused");
        self.predecessor.say_goodbye(match way {
            Way::Link => Goodbye::BadBlock,
            Way::Group => Goodbye::Aborted,
        });
        self.fail(reason);
    }

    /// Closes the predecessor's link and tells the machine. A block that was half received is asked for
    /// again.
    fn drop_upstream(&mut self, error: &BadUpstream) {
        let is_gone = matches!(
            error,
            BadUpstream::Link(UpstreamError::Closed | UpstreamError::Io(_))
        );
        if is_gone {
            self.predecessor.close();
        } else if self.predecessor.say_goodbye(Goodbye::BadBlock) {
            // The predecessor has spoken, so it has been told of us. Its message is the reason.
            self.relay.handle_upstream_alive(self.now());
        }
        self.relay
            .handle_upstream_lost(self.now(), Reason::new(error.to_string()));
        self.obey();
    }

    /// Takes blocks from the producer as far as the window has room, and ends the stream after the last one.
    pub(super) fn take_produced(&mut self) {
        if !self.local.is_producer() {
            return;
        }
        while self.can_take_produced()
            && let Some(block) = self.next_produced()
        {
            // The header was sealed from exactly this; a refusal could only be a fault of ours.
            let Ok(header) = BlockHeader::decode(&block.header) else {
                continue;
            };
            if header.kind == BlockKind::End {
                return self.take_kept_end(block);
            }
            let taken = self.relay.handle_block(self.now(), header.offset, header.length);
            if let Err(error) = taken {
                return self.fail_head(&error.to_string());
            }
            self.proof.push(&header);
            if let LocalEnd::Producer(production) = &self.local {
                production.keep(&block);
            }
            self.retain(block);
            self.push_to_group();
            self.forward();
            self.obey();
        }
        if let LocalEnd::Producer(production) = &self.local
            && self.window.end().is_none()
            && production.is_exhausted(self.handle().production())
        {
            self.seal_end();
        }
    }

    fn next_produced(&mut self) -> Option<Arc<SealedBlock>> {
        match &mut self.local {
            LocalEnd::Producer(production) => production.next(self.target.pump.production(), MAX_UNSENT),
            LocalEnd::Consumer(_) => None,
        }
    }

    /// Signs the end of the stream, at the head.
    fn seal_end(&mut self) {
        let offset = self.relay.received();
        let (header, payload) = match self.proof.sign(&self.target.key, offset) {
            Ok(signed) => signed,
            Err(reason) => return self.fail_head(&reason),
        };
        let payload = Payload::from_producer(payload, self.handle().pool());
        let end = control_block(header.encode(), offset.0, payload);
        if let LocalEnd::Producer(production) = &mut self.local {
            production.keep_end(&end);
        }
        self.take_kept_end(end);
    }

    /// Takes the end block of a stream that is produced here. At the head of a branch it comes from the
    /// spool. It was signed once and is good for every node that has all of the stream.
    fn take_kept_end(&mut self, end: Arc<SealedBlock>) {
        let offset = StreamOffset(end.offset);
        self.window.set_end(end);
        self.push_to_group();
        if let Err(error) = self.relay.handle_end(self.now(), offset) {
            self.fail_head(&error.to_string());
        }
    }

    /// A fault of ours, not of the chain: end the stream rather than send something wrong.
    fn fail_head(&mut self, reason: &str) {
        self.fail(format!("sending: {reason}"));
    }

    /// Queues everything that the successor does not have yet, and sends as much as its socket takes.
    pub(super) fn forward(&mut self) {
        while self.successor.link().is_some()
            && let Some(what) = self.relay.next_to_send()
        {
            let block = match what {
                Transmit::Data { offset, .. } => self.window.block_at(offset).cloned(),
                Transmit::End { .. } => self.window.end().cloned(),
                Transmit::Idle { offset } => self.idle_block(offset),
            };
            let now = self.now();
            self.relay.handle_sent(now, what);
            if let (Some(block), Some(downstream)) = (block, self.successor.link_mut()) {
                downstream.push(block);
            }
        }
        if let Some(downstream) = self.successor.link_mut()
            && let Err(error) = downstream.write()
        {
            self.drop_downstream(&error.into());
        }
    }

    /// Returns a sign of life; none is needed while earlier blocks wait for the socket.
    fn idle_block(&self, offset: StreamOffset) -> Option<Arc<SealedBlock>> {
        if self.successor.link().is_some_and(Downstream::wants_write) {
            return None;
        }
        let header = self.target.key.authenticate(BlockKind::Idle, offset, &[]).ok()?;
        Some(control_block(
            header.encode(),
            offset.0,
            Payload::from_producer(Vec::new(), self.handle().pool()),
        ))
    }

    pub(super) fn read_downstream(&mut self) {
        let now = self.now();
        let Some(downstream) = self.successor.link_mut() else {
            return;
        };
        let mut refused = None;
        let mut goodbye = None;
        let read = downstream.read(|frame| match frame {
            UpFrame::Ack(ack) => {
                if let Err(error) = self.relay.handle_ack(now, &ack) {
                    refused = Some(error.to_string());
                }
            }
            UpFrame::Goodbye(why) => goodbye = Some(format!("the successor closed the link: {why:?}")),
        });
        let reason = refused
            .or(goodbye)
            .or_else(|| read.err().map(|error| error.to_string()));
        self.obey();
        if let Some(reason) = reason {
            self.successor.close();
            self.relay.handle_downstream_lost(self.now(), Reason::new(reason));
            self.obey();
        }
    }

    fn drop_downstream(&mut self, error: &DownstreamError) {
        self.successor.close();
        self.relay
            .handle_downstream_lost(self.now(), Reason::new(error.to_string()));
        self.obey();
    }

    /// Sends the acknowledgement that is due, if one is and the predecessor's socket takes it.
    pub(super) fn acknowledge(&mut self) {
        let now = self.now();
        let Some(upstream) = self.predecessor.link_mut() else {
            return;
        };
        if upstream.wants_write() {
            upstream.flush_up().ok();
        }
        if !upstream.wants_write()
            && let Some(ack) = self.relay.take_ack(now)
        {
            upstream.push_up(&UpFrame::Ack(ack));
            // A broken link shows at the next read, with everything that was still sent on it.
            upstream.flush_up().ok();
        }
    }

    /// Tells the machine which blocks the consumer is done with.
    pub(super) fn note_consumption(&mut self) {
        let now = self.now();
        let LocalEnd::Consumer(delivery) = &mut self.local else {
            return;
        };
        while let Some(offset) = delivery.next_consumed() {
            self.relay.handle_consumed(now, offset);
        }
    }
}
