//! The pump thread: all sockets of one stream at one node, and the memory of its window.
//!
//! It does what `ka_proto::relay` decides. Here: the loop, its inbox, the machine's outputs; [`flow`] moves
//! blocks, [`group`] takes them from a multicast group, [`wait`] sleeps. One thread does everything. So a
//! received block is hashed, passed on and handed out while it is in the processor's cache, and no lock is
//! taken per byte.

mod flow;
mod group;
mod links;
mod local_end;
mod meter;
mod multicast;
mod poll;
mod wait;
mod window;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ka_proto::link::Goodbye;
use ka_proto::relay::{Relay, RelayConfig, RelayError, RelayOutput, Source};
use ka_proto::{Reason, StreamId, StreamOffset};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::downstream::Downstream;
use super::group::{GroupEnd, GroupPlace};
use super::handle::{Ended, Figures, PumpHandle};
use super::inbox::{BranchId, PumpEvent, PumpInput, PumpReport};
use super::link::{LinkListener, LinkTarget};
use super::proof::{EndKey, StreamProof};
use super::spool::{Branch, SpoolWriter};
use crate::error::TransportError;
use links::{PredecessorLink, SuccessorLink};
use local_end::{Delivery, LocalEnd, Production};
use meter::Meter;
use wait::Ready;
use window::Window;

/// The configuration of a pump.
#[derive(Debug)]
pub(crate) struct PumpConfig {
    pub(crate) relay: RelayConfig,
    pub(crate) target: LinkTarget,
    /// Most bytes of memory held in blocks.
    pub(crate) window_bytes: usize,
    /// True when payload is encrypted; the pump forwards it as it is.
    pub(crate) is_sealed: bool,
    /// The key that the end of the stream is signed with.
    pub(crate) end_key: EndKey,
    /// Own address to connect from.
    pub(crate) local: Option<IpAddr>,
    pub(crate) listener: LinkListener,
    /// The spool for the head's blocks.
    pub(crate) keeper: Option<SpoolWriter>,
    /// The source of a branch, at its head.
    pub(crate) branch: Option<Branch>,
    /// The end of the stream's multicast group that is here.
    pub(crate) group: GroupPlace,
    pub(crate) reports: mpsc::UnboundedSender<PumpReport>,
}

/// A stream's relay machine, and the parts by which it is carried out at one node. Lives on its own thread.
#[derive(Debug)]
struct Pump {
    relay: Relay,
    target: LinkTarget,
    window: Window,
    local: LocalEnd,
    predecessor: PredecessorLink,
    successor: SuccessorLink,
    group: Option<GroupEnd>,
    proof: StreamProof,
    meter: Meter,
    listener: LinkListener,
    reporter: Reporter,
    /// True when payload is encrypted.
    is_sealed: bool,
    over: Option<Ended>,
}

/// The way to the task that holds the control connection(s).
#[derive(Debug)]
struct Reporter {
    reports: mpsc::UnboundedSender<PumpReport>,
    stream: StreamId,
    branch: Option<BranchId>,
}

impl Reporter {
    fn report(&self, what: PumpEvent) {
        let report = PumpReport {
            stream: self.stream,
            branch: self.branch,
            what,
        };
        // After the task's end there is no receiver.
        self.reports.send(report).ok();
    }
}

/// Starts the pump thread of one stream; must be called inside the runtime that makes its connections.
pub(crate) fn spawn(config: PumpConfig) -> Result<(), TransportError> {
    let (listener, target) = (config.listener.clone(), config.target.clone());
    listener.register(target.clone());
    let stream = target.key.stream();
    let pump = Pump::new(config, Handle::current());
    let thread = std::thread::Builder::new().name(format!("ka-pump-{stream}"));
    thread.spawn(move || pump.run()).map(drop).map_err(|source| {
        listener.unregister(&target);
        TransportError::system("starting the pump thread")(source)
    })
}

impl Pump {
    fn new(config: PumpConfig, runtime: Handle) -> Self {
        let place = config.group;
        config.target.pump.begin_at(config.relay.start.0);
        let local = match config.relay.source {
            Source::Predecessor(_) => LocalEnd::Consumer(Delivery::default()),
            Source::Producer | Source::Spool => {
                LocalEnd::Producer(Production::new(config.keeper, config.branch))
            }
        };
        let mut pump = Self {
            local,
            window: Window::new(config.window_bytes),
            predecessor: PredecessorLink::new(config.local, runtime),
            successor: SuccessorLink::default(),
            group: None,
            proof: StreamProof::new(config.end_key),
            meter: Meter::new(),
            reporter: Reporter {
                reports: config.reports,
                stream: config.target.key.stream(),
                branch: config.target.branch,
            },
            listener: config.listener,
            is_sealed: config.is_sealed,
            over: None,
            relay: Relay::new(config.relay, Duration::ZERO),
            target: config.target,
        };
        pump.enter_group(place);
        pump
    }

    fn run(mut self) {
        let mut ready = Ready::default();
        while self.over.is_none() {
            self.handle_inbox();
            self.note_consumption();
            self.take_produced();
            let has_more_for_group = self.send_to_group();
            self.serve_group(ready.group);
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
            self.read_line();
            if self.over.is_none() {
                ready = self.wait(has_more_for_group);
                self.meter.wake();
            }
        }
        self.close();
    }

    /// Handles timers, after the data in the sockets. After a pause of this machine a sign of life may be
    /// there, unread, from a neighbour that would be given up.
    fn pass_time(&mut self) {
        let woke_at = self.meter.woke_at();
        if self.relay.poll_timeout().is_some_and(|at| at <= woke_at) {
            self.relay.handle_timeout(woke_at);
        }
    }

    fn read_line(&mut self) {
        let successor = &mut self.successor;
        self.meter.read_line(self.target.pump.spent(), || {
            successor.link_mut().map(Downstream::take_line)
        });
    }

    /// Returns the time when the clock was read last.
    const fn now(&self) -> Duration {
        self.meter.now()
    }

    fn handle(&self) -> &Arc<PumpHandle> {
        &self.target.pump
    }

    fn handle_inbox(&mut self) {
        for input in self.handle().take_inbox() {
            self.handle_input(input);
        }
    }

    fn handle_input(&mut self, input: PumpInput) {
        let now = self.now();
        match input {
            PumpInput::Predecessor { link, attempt } if self.predecessor.is_current(attempt) => {
                self.predecessor.set(*link);
                self.relay.handle_upstream_joined(now);
            }
            PumpInput::NoPredecessor { reason, attempt } if self.predecessor.is_current(attempt) => {
                self.relay.handle_upstream_lost(now, Reason::new(reason));
            }
            PumpInput::Gap {
                retained_from,
                attempt,
            } if self.predecessor.is_current(attempt) => {
                self.relay.handle_upstream_gap(now, retained_from);
            }
            // Results of an attempt that was given up meanwhile.
            PumpInput::Predecessor { .. } | PumpInput::NoPredecessor { .. } | PumpInput::Gap { .. } => {}
            PumpInput::Successor { link, resume_from } => self.take_successor(link, resume_from),
            PumpInput::Relink {
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
                if let Some((link, resume_from)) = self.successor.take_early() {
                    self.take_successor(link, resume_from);
                }
            }
            PumpInput::Receipts(keys) => self.relay.set_receipts(now, &keys),
            PumpInput::Hold(time) => self.relay.hold(now, time),
            PumpInput::GroupReport { node, report } => {
                if let Some(GroupEnd::Sending(sending)) = &mut self.group {
                    sending.handle_report(now, node, &report);
                }
            }
            PumpInput::LeftGroup(node) => {
                if let Some(GroupEnd::Sending(sending)) = &mut self.group {
                    sending.remove(now, node);
                }
            }
            PumpInput::LeaveGroup(reason) => self.quit_group(reason),
            #[cfg(test)]
            PumpInput::GroupBlock { header, payload } => self.take_test_block(header, payload),
            PumpInput::EndStream => self.relay.handle_end_stream(now),
            PumpInput::ProducerDone => {
                if let LocalEnd::Producer(production) = &mut self.local {
                    production.finish();
                }
            }
            PumpInput::ConsumerDone => self.relay.handle_consumer_finished(now),
            PumpInput::ConsumerFailed(reason) => {
                self.relay.handle_consumer_failed(now);
                self.reporter.report(PumpEvent::ConsumerFailed { reason });
            }
            PumpInput::Abort(reason) => {
                self.predecessor.say_goodbye(Goodbye::Aborted);
                self.fail(reason);
            }
        }
        self.obey();
    }

    /// A successor may be through the listener before the machine hears that it is to come here: it is kept
    /// until then.
    fn take_successor(&mut self, link: Box<Downstream>, resume_from: StreamOffset) {
        let joined = self
            .relay
            .handle_downstream_joined(self.now(), link.node(), resume_from);
        match joined {
            Ok(()) => {
                self.successor.set(*link);
                if let LocalEnd::Producer(production) = &mut self.local {
                    let (from, window_bytes) = (self.relay.received(), self.window.capacity());
                    production.begin_branch(from, &self.target.pump, window_bytes);
                }
            }
            Err(RelayError::WrongSuccessor { .. }) => self.successor.keep_early(link, resume_from),
            Err(error) => tracing::warn!(stream = %self.handle().name(), %error, "successor turned away"),
        }
    }

    /// Carries out the outputs of the machine.
    fn obey(&mut self) {
        while let Some(output) = self.relay.poll_output() {
            match output {
                RelayOutput::Connect { peer, resume } => {
                    self.predecessor.connect(&self.target, peer, resume);
                }
                RelayOutput::CloseUpstream(why) => {
                    self.predecessor.give_up_attempt();
                    self.predecessor.say_goodbye(why);
                }
                RelayOutput::CloseDownstream => self.successor.close(),
                RelayOutput::Release { below } => self.release(below),
                RelayOutput::LinkUp { side, offset } => {
                    self.reporter.report(PumpEvent::LinkUp { side, offset });
                }
                RelayOutput::LinkLost { side, offset, reason } => {
                    self.reporter.report(PumpEvent::LinkLost { side, offset, reason });
                }
                RelayOutput::Gap { offset, reason } => {
                    self.reporter.report(PumpEvent::Gap { offset, reason })
                }
                RelayOutput::Done => {
                    let end = self.proof.end();
                    self.reporter.report(PumpEvent::Done {
                        bytes: end.bytes,
                        digest: end.digest,
                    });
                }
                RelayOutput::Closed => drop(self.over.get_or_insert(Ended::Complete)),
                RelayOutput::Failed { reason } => self.fail(reason.as_str().to_owned()),
            }
        }
    }

    fn release(&mut self, below: StreamOffset) {
        let released = self.window.release(below);
        if released > 0 && self.local.is_producer() {
            self.handle().production().release(released);
        }
    }

    fn publish(&mut self) {
        if let LocalEnd::Consumer(delivery) = &mut self.local {
            delivery.hand_over_if_due(self.target.pump.delivery(), self.meter.now());
        }
        self.handle().publish(Figures {
            received: self.relay.received().0,
            consumed: self.relay.consumed().0,
            buffered: self.relay.buffered(),
            retained_from: self.relay.retained_from().0,
        });
    }

    /// Hands the verified blocks to the consumer.
    fn deliver(&mut self) {
        if let LocalEnd::Consumer(delivery) = &mut self.local {
            delivery.hand_over(self.target.pump.delivery());
        }
    }

    /// Ends the stream here as failed. The first ending counts.
    fn fail(&mut self, reason: String) {
        self.over.get_or_insert(Ended::Failed(reason));
    }

    fn close(&mut self) {
        self.listener.unregister(&self.target);
        self.predecessor.give_up_attempt();
        let ended = self.over.take().unwrap_or(Ended::Complete);
        self.deliver();
        self.handle().end(&ended);
        self.successor.close();
        self.predecessor.linger();
        self.reporter.report(match ended {
            Ended::Complete => PumpEvent::Closed,
            Ended::Failed(reason) => PumpEvent::Failed {
                reason,
                unproved: self.proof.is_refused(),
            },
        });
    }
}
