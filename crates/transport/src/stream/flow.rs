//! How the pump moves blocks: from the predecessor or the producer into the window, on to the successor, and out to
//! the consumer.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ka_proto::block::{BlockError, BlockHeader, BlockKind};
use ka_proto::link::{Goodbye, UpFrame};
use ka_proto::relay::{RelayError, Send};
use ka_proto::{Reason, StreamOffset};

use super::buffer::{Payload, SealedBlock};
use super::downstream::DownstreamError;
use super::ending::end_block;
use super::pump::Pump;
use super::upstream::{Received, UpstreamError};

/// Blocks read before other work (acknowledgements, the inbox) gets its turn.
const MAX_BLOCKS_PER_TURN: usize = 32;
/// Bytes in the head's window that are not yet in the socket.
const MAX_UNSENT: usize = 2 << 20;

/// Why the link to the predecessor must be closed.
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
    /// Whether the next block may be read from the predecessor.
    pub(super) fn wants_upstream(&self) -> bool {
        self.upstream.is_some() && self.has_room()
    }

    /// The machine counts payload; a window of tiny blocks is bounded by what they really hold.
    fn has_room(&self) -> bool {
        self.relay.wants_upstream() && (self.held < self.window_bytes || self.retained.is_empty())
    }

    /// Whether the next block of the producer shall wake the pump: not while it could not be sent anyway.
    pub(super) fn wants_produced(&self) -> bool {
        self.is_head && self.downstream.is_some() && self.can_take_produced()
    }

    /// The producer's blocks enter the window shortly before they are sent: what lies about unsent is cold in the
    /// cache by then. Without any successor to come there is nothing to wait for.
    fn can_take_produced(&self) -> bool {
        let can_send = match &self.downstream {
            Some(link) => link.unsent() < MAX_UNSENT,
            None => self.relay.expected_successor().is_none(),
        };
        can_send && self.has_room()
    }

    /// Reads what is there, and sends each block on at once, while it is in the cache.
    pub(super) fn read_upstream(&mut self) {
        for _ in 0..MAX_BLOCKS_PER_TURN {
            // After the end, only idle blocks and the predecessor's close are left to read.
            if !self.wants_upstream() && !self.relay.has_ended() {
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
        let Some(upstream) = &mut self.upstream else {
            return Ok(false);
        };
        let (key, expected, is_sealed) = (&self.target.key, self.relay.received(), self.is_sealed);
        let check = |header: &BlockHeader| {
            header.check_place(key.run(), key.stream(), expected)?;
            header.check_form(is_sealed)
        };
        let received = upstream.read_block(&self.shared.pool, check)?;
        let is_alive = upstream.take_activity();
        let now = self.look_at_clock();
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
            BlockKind::Data => self.take_data(received)?,
            BlockKind::End => self.take_end(received)?,
            BlockKind::Idle => self.relay.handle_upstream_alive(now),
        }
        Ok(true)
    }

    fn take_data(&mut self, received: Received) -> Result<(), RelayError> {
        let Received { header, raw, payload } = received;
        self.relay
            .handle_block(self.now(), header.offset, header.length)?;
        self.note_predecessor();
        self.digest.push(&header);
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

    fn retain(&mut self, block: Arc<SealedBlock>) {
        self.held += block.cost();
        if !self.is_head {
            self.fresh_since.get_or_insert(self.clock);
            self.fresh.push(Arc::clone(&block));
            self.unconsumed.push_back(Arc::clone(&block));
        }
        self.retained.push_back(block);
    }

    /// Closes the predecessor's link and tells the machine; what was half received is asked for again.
    fn drop_upstream(&mut self, error: &BadUpstream) {
        if let Some(mut upstream) = self.upstream.take()
            && !matches!(
                error,
                BadUpstream::Link(UpstreamError::Closed | UpstreamError::Io(_))
            )
        {
            upstream.push_up(&UpFrame::Goodbye(Goodbye::BadBlock));
            upstream.flush_up().ok();
            // It has spoken: this is no predecessor that has not been told of us yet, and what it said is the reason.
            self.relay.handle_upstream_alive(self.now());
        }
        self.relay
            .handle_upstream_lost(self.now(), Reason::new(error.to_string()));
        self.obey();
    }

    /// Takes blocks from the producer as far as the window has room, and ends the stream after the last one.
    pub(super) fn take_produced(&mut self) {
        if !self.is_head {
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
            self.digest.push(&header);
            if let Some(keeper) = &self.keeper {
                keeper.keep(&block);
            }
            self.retain(block);
            self.forward();
            self.obey();
        }
        let is_last = self.producer_done && self.end.is_none() && self.produced.is_empty();
        if is_last && self.shared.has_no_produced() {
            self.seal_end();
        }
    }

    fn next_produced(&mut self) -> Option<Arc<SealedBlock>> {
        if self.produced.is_empty() {
            self.shared.take_produced(&mut self.produced, MAX_UNSENT);
        }
        self.produced.pop_front()
    }

    /// A fault of ours, not of the chain: end the stream rather than send something wrong.
    pub(super) fn fail_head(&mut self, reason: &str) {
        self.fail(format!("sending: {reason}"));
    }

    /// Queues everything that the successor does not have yet, and sends what its socket takes.
    pub(super) fn forward(&mut self) {
        while self.downstream.is_some()
            && let Some(what) = self.relay.next_to_send()
        {
            let block = match what {
                Send::Data { offset, .. } => self.block_at(offset),
                Send::End { .. } => self.end.clone(),
                Send::Idle { offset } => self.idle_block(offset),
            };
            let now = self.now();
            self.relay.handle_sent(now, what);
            if let (Some(block), Some(downstream)) = (block, &mut self.downstream) {
                downstream.push(block);
            }
        }
        if let Some(downstream) = &mut self.downstream
            && let Err(error) = downstream.write()
        {
            self.drop_downstream(&error.into());
        }
    }

    /// Nearly always the newest block: then no older one, cold in the cache by now, is looked at.
    fn block_at(&self, offset: StreamOffset) -> Option<Arc<SealedBlock>> {
        if let Some(newest) = self.retained.back().filter(|newest| newest.offset <= offset.0) {
            return Some(Arc::clone(newest));
        }
        let index = self.retained.partition_point(|block| block.offset < offset.0);
        self.retained.get(index).cloned()
    }

    /// A sign of life; none is needed while earlier blocks wait for the socket.
    fn idle_block(&self, offset: StreamOffset) -> Option<Arc<SealedBlock>> {
        if self.downstream.as_ref().is_some_and(|link| link.wants_write()) {
            return None;
        }
        let header = self.target.key.authenticate(BlockKind::Idle, offset, &[]).ok()?;
        Some(end_block(
            header.encode(),
            offset.0,
            Payload::from_producer(Vec::new(), &self.shared.pool),
        ))
    }

    pub(super) fn read_downstream(&mut self) {
        let now = self.now();
        let Some(downstream) = &mut self.downstream else {
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
            self.downstream = None;
            self.relay.handle_downstream_lost(self.now(), Reason::new(reason));
            self.obey();
        }
    }

    fn drop_downstream(&mut self, error: &DownstreamError) {
        self.downstream = None;
        self.relay
            .handle_downstream_lost(self.now(), Reason::new(error.to_string()));
        self.obey();
    }

    /// Sends the acknowledgement that is due, if one is and the predecessor's socket takes it.
    pub(super) fn acknowledge(&mut self) {
        let now = self.now();
        let Some(upstream) = &mut self.upstream else {
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
        while self.unconsumed.front().is_some_and(|block| block.is_consumed()) {
            let Some(block) = self.unconsumed.pop_front() else {
                return;
            };
            let now = self.now();
            self.relay.handle_consumed(now, StreamOffset(block.offset));
        }
    }
}
