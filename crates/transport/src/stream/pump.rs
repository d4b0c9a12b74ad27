//! The pump thread: all sockets of one stream at one node, and the memory of its window.
//!
//! It does what `ka_proto::relay` decides. Here: the loop, its inbox, the machine's outputs; [`super::flow`] moves
//! blocks, [`super::poll`] waits. One thread does everything, so a block that was received is hashed, passed on and handed out while it is
//! in the processor's cache, and no lock is taken per byte.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ka_proto::block::StreamDigest;
use ka_proto::control::Peer;
use ka_proto::link::{Goodbye, UpFrame};
use ka_proto::relay::{Relay, RelayError, RelayOutput, Source};
use ka_proto::{Reason, StreamOffset};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::buffer::SealedBlock;
use super::downstream::Downstream;
use super::ending::EndKey;
use super::inbox::{Happened, Input, PumpConfig, Report};
use super::link::{Door, LinkTarget, Predecessor, connect};
use super::poll::Ready;
use super::processor;
use super::shared::{Ended, Shared};
use super::spool::{Branch, Keeper};
use super::upstream::Upstream;
use crate::error::TransportError;

/// At the end, how long to wait for the predecessor to take the last acknowledgement.
const FAREWELL: Duration = Duration::from_secs(1);
/// Blocks are handed to the consumer this many bytes at a time, or after [`DELIVERY_DELAY`]: waking its thread costs
/// more than a small block's worth of work. The chain does not wait for it.
const DELIVERY_BYTES: u64 = 1 << 20;
pub(super) const DELIVERY_DELAY: Duration = Duration::from_millis(100);

/// Between two looks at what the line to the successor did: as often as the server hears of it.
const LINE_LOOK: Duration = Duration::from_millis(500);

/// A successor that was named to the door, and that the machine has not heard of yet. It gives up by itself when it
/// hears nothing.
#[derive(Debug)]
struct EarlySuccessor {
    link: Box<Downstream>,
    resume_from: StreamOffset,
}

/// State of the pump thread.
#[derive(Debug)]
pub(super) struct Pump {
    pub(super) relay: Relay,
    pub(super) target: LinkTarget,
    pub(super) shared: Arc<Shared>,
    pub(super) upstream: Option<Upstream>,
    pub(super) downstream: Option<Downstream>,
    /// Everything in the window, in order.
    pub(super) retained: VecDeque<Arc<SealedBlock>>,
    /// The end block, once it is here.
    pub(super) end: Option<Arc<SealedBlock>>,
    /// Handed to the consumer and not yet known to the machine as consumed.
    pub(super) unconsumed: VecDeque<Arc<SealedBlock>>,
    /// Verified in this round, to be handed to the consumer at its end.
    pub(super) fresh: Vec<Arc<SealedBlock>>,
    /// When the first of them came.
    pub(super) fresh_since: Option<Duration>,
    /// Sealed by the producer, not yet in the window.
    pub(super) produced: VecDeque<Arc<SealedBlock>>,
    pub(super) producer_done: bool,
    pub(super) digest: StreamDigest,
    /// Memory of the window, by [`SealedBlock::cost`].
    pub(super) held: usize,
    pub(super) window_bytes: usize,
    pub(super) is_sealed: bool,
    pub(super) end_key: EndKey,
    /// Where the blocks come from.
    pub(super) predecessor: Option<Peer>,
    /// Everybody that blocks were taken from, the last one at the end.
    pub(super) taken_from: Vec<Peer>,
    /// The end was refused.
    pub(super) is_unproved: bool,
    pub(super) is_head: bool,
    pub(super) has_consumer: bool,
    pub(super) epoch: Instant,
    /// The time since `epoch` when it was last looked at: after each wait and each block. A block's worth of work needs
    /// no finer one, and a look costs as much as a small hash.
    pub(super) clock: Duration,
    /// When the last wait ended.
    woke_at: Duration,
    /// Since when it works without having slept.
    pub(super) working_since: Duration,
    line_looked_at: Duration,
    local: Option<IpAddr>,
    door: Door,
    pub(super) keeper: Option<Keeper>,
    branch: Option<Branch>,
    runtime: Handle,
    reports: mpsc::UnboundedSender<Report>,
    early_successor: Option<EarlySuccessor>,
    connecting: Option<JoinHandle<()>>,
    attempt: u64,
    over: Option<Ended>,
}

/// Starts the pump thread of one stream; must be called inside the runtime that makes its connections.
pub(crate) fn spawn(config: PumpConfig) -> Result<(), TransportError> {
    let runtime = Handle::current();
    let epoch = Instant::now();
    config.door.open(config.target.clone());
    let stream = config.target.key.stream();
    let (door, target) = (config.door.clone(), config.target.clone());
    config.target.shared.begin_at(config.relay.start.0);
    let pump = Pump {
        is_head: !matches!(config.relay.source, Source::Predecessor(_)),
        has_consumer: config.relay.has_consumer,
        is_sealed: config.is_sealed,
        end_key: config.end_key,
        predecessor: None,
        taken_from: Vec::new(),
        is_unproved: false,
        relay: Relay::new(config.relay, Duration::ZERO),
        shared: Arc::clone(&config.target.shared),
        target: config.target,
        upstream: None,
        downstream: None,
        retained: VecDeque::new(),
        end: None,
        unconsumed: VecDeque::new(),
        fresh: Vec::new(),
        fresh_since: None,
        produced: VecDeque::new(),
        producer_done: false,
        digest: StreamDigest::new(),
        held: 0,
        window_bytes: config.window_bytes,
        epoch,
        clock: Duration::ZERO,
        woke_at: Duration::ZERO,
        working_since: Duration::ZERO,
        line_looked_at: Duration::ZERO,
        local: config.local,
        door: config.door,
        keeper: config.keeper,
        branch: config.branch,
        runtime,
        reports: config.reports,
        early_successor: None,
        connecting: None,
        attempt: 0,
        over: None,
    };
    let thread = std::thread::Builder::new().name(format!("ka-pump-{stream}"));
    thread.spawn(move || pump.run()).map(drop).map_err(|source| {
        door.close(&target);
        TransportError::system("starting the pump thread")(source)
    })
}

impl Pump {
    fn run(mut self) {
        let mut ready = Ready::default();
        while self.over.is_none() {
            self.handle_inbox();
            self.note_consumption();
            self.take_produced();
            if ready.upstream {
                self.read_upstream();
            }
            if ready.downstream {
                self.read_downstream();
            }
            self.pass_time();
            self.forward();
            self.acknowledge();
            self.obey();
            self.publish();
            self.look_at_line();
            if self.over.is_none() {
                ready = self.wait();
                self.woke_at = self.look_at_clock();
            }
        }
        self.close();
    }

    /// Timers come after what the sockets hold: after a pause of this machine the sign of life that a neighbour is
    /// about to be given up for may be there, unread.
    fn pass_time(&mut self) {
        if self.relay.poll_timeout().is_some_and(|at| at <= self.woke_at) {
            self.relay.handle_timeout(self.woke_at);
        }
    }

    /// Takes down what the line to the successor did, now and then.
    fn look_at_line(&mut self) {
        if self.woke_at >= self.line_looked_at + LINE_LOOK {
            self.line_looked_at = self.woke_at;
            if let Some(downstream) = &mut self.downstream {
                self.shared.spent.line(downstream.take_line());
            }
            self.shared.spent.wanted(processor::of_this_thread());
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.clock
    }

    pub(super) fn look_at_clock(&mut self) -> Duration {
        self.clock = self.epoch.elapsed();
        self.clock
    }

    fn handle_inbox(&mut self) {
        for input in self.shared.take_inbox() {
            self.handle(input);
        }
    }

    fn handle(&mut self, input: Input) {
        let now = self.now();
        match input {
            Input::Predecessor { link, attempt } if attempt == self.attempt => {
                self.upstream = Some(*link);
                self.relay.handle_upstream_joined(now);
            }
            Input::NoPredecessor { reason, attempt } if attempt == self.attempt => {
                self.relay.handle_upstream_lost(now, Reason::new(reason));
            }
            Input::Gap {
                retained_from,
                attempt,
            } if attempt == self.attempt => {
                self.relay.handle_upstream_gap(now, retained_from);
            }
            // Results of an attempt that was given up meanwhile.
            Input::Predecessor { .. } | Input::NoPredecessor { .. } | Input::Gap { .. } => {}
            Input::Successor { link, resume_from } => self.take_successor(link, resume_from),
            Input::Relink {
                predecessor,
                successor,
            } => {
                if let Some(successor) = successor {
                    self.relay.set_successor(now, successor);
                }
                if let Some(peer) = predecessor {
                    self.relay.set_predecessor(now, peer);
                }
                self.obey();
                if let Some(early) = self.early_successor.take() {
                    self.take_successor(early.link, early.resume_from);
                }
            }
            Input::Receipts(keys) => self.relay.set_receipts(now, &keys),
            Input::Hold(time) => self.relay.hold(now, time),
            Input::EndStream => self.relay.handle_end_stream(now),
            Input::ProducerDone => self.producer_done = true,
            Input::ConsumerDone => self.relay.handle_consumer_finished(now),
            Input::ConsumerFailed(reason) => {
                self.relay.handle_consumer_failed(now);
                self.report(Happened::ConsumerFailed { reason });
            }
            Input::Abort(reason) => {
                self.say_goodbye(Goodbye::Aborted);
                self.over.get_or_insert(Ended::Failed(reason));
            }
        }
        self.obey();
    }

    /// A successor may be through the door before the machine hears that it is to come here: it is kept until then.
    fn take_successor(&mut self, link: Box<Downstream>, resume_from: StreamOffset) {
        match self
            .relay
            .handle_downstream_joined(self.now(), link.node, resume_from)
        {
            Ok(()) => {
                self.downstream = Some(*link);
                self.begin_branch();
            }
            Err(RelayError::WrongSuccessor { .. }) => {
                self.early_successor = Some(EarlySuccessor { link, resume_from });
            }
            Err(error) => tracing::warn!(stream = %self.shared.name, %error, "successor turned away"),
        }
    }

    /// The first successor of a branch has said where it goes on.
    fn begin_branch(&mut self) {
        if let Some(branch) = self.branch.take() {
            branch.feed(self.relay.received().0, &self.shared, self.window_bytes);
        }
    }

    /// Does what the machine wants done.
    pub(super) fn obey(&mut self) {
        while let Some(output) = self.relay.poll_output() {
            match output {
                RelayOutput::Connect { peer, resume } => self.connect(peer, resume),
                RelayOutput::CloseUpstream(why) => {
                    self.give_up_attempt();
                    self.say_goodbye(why);
                }
                RelayOutput::CloseDownstream => self.downstream = None,
                RelayOutput::Release { below } => self.release(below),
                RelayOutput::LinkUp { side, offset } => self.report(Happened::LinkUp { side, offset }),
                RelayOutput::LinkLost { side, offset, reason } => {
                    self.report(Happened::LinkLost { side, offset, reason });
                }
                RelayOutput::Gap { offset, reason } => self.report(Happened::Gap { offset, reason }),
                RelayOutput::Done => {
                    let end = self.digest.end();
                    self.report(Happened::Done {
                        bytes: end.bytes,
                        digest: end.digest,
                    });
                }
                RelayOutput::Closed => drop(self.over.get_or_insert(Ended::Complete)),
                RelayOutput::Failed { reason } => {
                    self.over.get_or_insert(Ended::Failed(reason.as_str().to_owned()));
                }
            }
        }
    }

    /// A connection that is being made must not be let in any more: the head of a branch takes one, and ends with it.
    fn give_up_attempt(&mut self) {
        self.attempt += 1;
        if let Some(connecting) = self.connecting.take() {
            connecting.abort();
        }
    }

    fn connect(&mut self, peer: Peer, resume_from: StreamOffset) {
        self.give_up_attempt();
        self.predecessor = Some(peer);
        let predecessor = Predecessor {
            node: peer.node,
            addr: peer.addr,
            local: self.local,
            resume_from,
            attempt: self.attempt,
        };
        self.connecting = Some(self.runtime.spawn(connect(self.target.clone(), predecessor)));
    }

    fn release(&mut self, below: StreamOffset) {
        while self.retained.front().is_some_and(|block| block.end() <= below.0) {
            let Some(block) = self.retained.pop_front() else {
                break;
            };
            self.held -= block.cost();
            if self.is_head {
                self.shared.release_produced(block.cost());
            }
        }
    }

    fn publish(&mut self) {
        if self.fresh_bytes() >= DELIVERY_BYTES
            || self
                .fresh_since
                .is_some_and(|at| self.clock >= at + DELIVERY_DELAY)
        {
            self.deliver();
        }
        self.shared.publish_progress(
            self.relay.received().0,
            self.relay.consumed().0,
            self.relay.buffered(),
            self.relay.retained_from().0,
        );
    }

    /// Hands what was verified to the consumer.
    pub(super) fn deliver(&mut self) {
        self.fresh_since = None;
        self.shared.deliver(&mut self.fresh);
    }

    /// In blocks of one stream, bytes are a difference of offsets.
    fn fresh_bytes(&self) -> u64 {
        self.fresh.last().map_or(0, |last| last.end()) - self.fresh.first().map_or(0, |first| first.offset)
    }

    /// Closes the predecessor's link with a farewell, as far as the socket takes it at once.
    pub(super) fn say_goodbye(&mut self, why: Goodbye) {
        if let Some(mut upstream) = self.upstream.take() {
            upstream.push_up(&UpFrame::Goodbye(why));
            upstream.flush_up().ok();
        }
    }

    pub(super) fn fail(&mut self, reason: String) {
        self.over.get_or_insert(Ended::Failed(reason));
    }

    pub(super) fn report(&self, what: Happened) {
        // A task that is gone has nobody left to tell.
        self.reports
            .send(Report {
                stream: self.target.key.stream(),
                branch: self.target.branch,
                what,
            })
            .ok();
    }

    fn close(&mut self) {
        self.door.close(&self.target);
        self.give_up_attempt();
        let ended = self.over.take().unwrap_or(Ended::Complete);
        self.deliver();
        self.shared.end(&ended);
        self.farewell();
        self.report(match ended {
            Ended::Complete => Happened::Closed,
            Ended::Failed(reason) => Happened::Failed {
                reason,
                unproved: self.is_unproved,
            },
        });
    }

    /// Lets the predecessor read the last acknowledgement: closing with blocks unread would reset the connection
    /// under it.
    fn farewell(&mut self) {
        let deadline = Instant::now() + FAREWELL;
        self.downstream = None;
        let Some(mut upstream) = self.upstream.take() else {
            return;
        };
        while let Some(rest) = deadline.checked_duration_since(Instant::now()) {
            match upstream.linger(rest) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return log_farewell(&error),
            }
        }
    }
}

fn log_farewell(error: &io::Error) {
    tracing::debug!(%error, "closing the link to the predecessor");
}
