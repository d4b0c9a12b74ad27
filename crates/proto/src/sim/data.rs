//! The streams of a host: opening and ending them, the connections to its neighbours, its disk.

use std::time::Duration;

use super::Violation;
use super::event::{Answer, Event, SERVER};
use super::host::{Alive, Disk, Endpoint, WRITERS};
use super::net::{Item, LinkId};
use super::ring::Ring;
use super::world::{SCALED_ESTABLISH, SCALED_HEARTBEAT, SCALED_LINK_SILENCE, World};
use crate::control::{OpenStream, Relink, Stage};
use crate::ids::{NodeId, StreamId, StreamOffset};
use crate::link::ReceiptKeys;
use crate::relay::{Relay, RelayConfig, RelayError, Source};
use crate::text::Reason;

impl World {
    pub(super) fn open_endpoint(&mut self, host: usize, open: &OpenStream) {
        let source = Source::Predecessor(open.predecessor);
        self.new_endpoint(host, open.stream, source, open.successor, &open.receipts);
    }

    pub(super) fn new_endpoint(
        &mut self,
        host: usize,
        stream: StreamId,
        source: Source,
        successor: Option<NodeId>,
        receipts: &ReceiptKeys,
    ) {
        self.drop_endpoint(host);
        self.hosts[host].spent.begin(self.now);
        let endpoint = self.endpoint(host, stream, source, successor, receipts);
        self.hosts[host].endpoint = Some(endpoint);
        self.listen_to_group(host, stream);
        for link in std::mem::take(&mut self.hosts[host].waiting_dials) {
            self.push(host, None, Duration::ZERO, Event::Dial { link });
        }
    }

    pub(super) fn endpoint(
        &self,
        host: usize,
        stream: StreamId,
        source: Source,
        successor: Option<NodeId>,
        receipts: &ReceiptKeys,
    ) -> Box<Endpoint> {
        let config = RelayConfig {
            source,
            has_consumer: host != SERVER,
            successor,
            start: StreamOffset(0),
            window_bytes: self.scenario.window_bytes,
            spooled: self.scenario.spool,
            grouped: self.scenario.group.is_some(),
            me: self.hosts[host].id.unwrap_or(NodeId::SERVER),
            receipts: receipts.clone(),
            heartbeat: SCALED_HEARTBEAT,
            silence: SCALED_LINK_SILENCE,
            establish: SCALED_ESTABLISH,
        };
        let rate = host
            .checked_sub(1)
            .map_or(0, |index| self.scenario.disk_rates[index]);
        let mut relay = Relay::new(config, self.now);
        if !self.is_reached(host) {
            relay.leave_group(self.now);
        }
        Box::new(Endpoint {
            stream,
            relay,
            ring: Ring::default(),
            up: None,
            dialing: None,
            down: None,
            disk: Disk {
                rate,
                ..Disk::default()
            },
            over: false,
        })
    }

    fn endpoint_of(&mut self, host: usize, stream: StreamId) -> Option<&mut Endpoint> {
        let endpoint = self.hosts[host].endpoint.as_deref_mut();
        endpoint.filter(|endpoint| endpoint.stream == stream)
    }

    pub(super) fn relink(&mut self, host: usize, relink: &Relink) {
        let now = self.now;
        let Some(endpoint) = self.endpoint_of(host, relink.stream) else {
            return;
        };
        if let Some(successor) = relink.successor {
            endpoint.relay.set_successor(now, successor);
        }
        if let Some(peer) = relink.predecessor {
            endpoint.relay.set_predecessor(now, peer);
        }
    }

    pub(super) fn hold(&mut self, host: usize, stream: StreamId, time: Duration) {
        let now = self.now;
        if let Some(endpoint) = self.endpoint_of(host, stream) {
            endpoint.relay.hold(now, time);
        }
    }

    pub(super) fn name_receipts(&mut self, host: usize, stream: StreamId, keys: &ReceiptKeys) {
        let now = self.now;
        if let Some(endpoint) = self.endpoint_of(host, stream) {
            endpoint.relay.set_receipts(now, keys);
        }
    }

    pub(super) fn end_endpoint(&mut self, host: usize, stream: StreamId) {
        let now = self.now;
        if let Some(endpoint) = self.endpoint_of(host, stream) {
            endpoint.relay.handle_end_stream(now);
        }
    }

    pub(super) fn drop_endpoint(&mut self, host: usize) {
        let Some(endpoint) = self.hosts[host].endpoint.take() else {
            return;
        };
        for link in [endpoint.up, endpoint.dialing, endpoint.down]
            .into_iter()
            .flatten()
        {
            self.close_link(link, host);
        }
    }

    pub(super) fn fail_disk(&mut self, host: usize) {
        let now = self.now;
        let slot = &mut self.hosts[host];
        let Some(node) = &mut slot.node else { return };
        // Nothing is done with the disk before the node has joined, and its words before its Join go nowhere.
        if slot.id.is_none() {
            return;
        }
        let stage = slot
            .endpoint
            .as_ref()
            .map_or(Stage::Report, |endpoint| Stage::Stream(endpoint.stream));
        node.step_failed(stage, Reason::new("the disk gives errors"));
        if let Some(endpoint) = &mut slot.endpoint {
            endpoint.disk.failed = true;
            endpoint.relay.handle_consumer_failed(now);
        }
    }

    pub(super) fn handle_data(&mut self, host: usize, event: &Event) -> Result<(), Violation> {
        let now = self.now;
        match *event {
            Event::Dial { link } => self.dialed(host, link),
            Event::Dialed { link, answer } => self.dial_answered(host, link, answer),
            Event::DialTimeout { link } => self.dial_timeout(host, link),
            Event::Arrive { link, item } => self.arrive(link, item),
            Event::Acked { link, ref ack } => {
                let endpoint = self.hosts[host]
                    .endpoint
                    .as_mut()
                    .filter(|endpoint| endpoint.down == Some(link));
                let done = endpoint.map_or(Ok(()), |endpoint| endpoint.relay.handle_ack(now, ack));
                match done {
                    Ok(()) => {}
                    // As in the transport, the link is closed, and the machine is told that it is lost.
                    Err(err) if self.is_liar(self.links[link.0].successor) => {
                        if let Some(endpoint) = &mut self.hosts[host].endpoint {
                            endpoint.down = None;
                            endpoint
                                .relay
                                .handle_downstream_lost(now, Reason::new(err.to_string()));
                        }
                        self.close_link(link, host);
                    }
                    Err(err) => return Err(self.violation(host, err.to_string())),
                }
            }
            Event::LinkClosed { link } => self.link_closed(host, link),
            Event::Consumed { stream, offset } => self.consumed(host, stream, offset),
            Event::Synced { stream } => {
                let endpoint = self.endpoint_of(host, stream);
                if let Some(endpoint) = endpoint.filter(|endpoint| !endpoint.disk.failed) {
                    endpoint.relay.handle_consumer_finished(now);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Delivers an item. Data in the socket buffer of a killed sender is lost; the block on the wire may have
    /// come through.
    fn arrive(&mut self, link: LinkId, item: Item) {
        let sender = self.links[link.0].predecessor;
        if !matches!(self.hosts[sender].alive, Alive::Dead | Alive::Gone) {
            self.links[link.0].arrived.push_back(item);
        }
    }

    fn dial_timeout(&mut self, host: usize, link: LinkId) {
        if self.hosts[host]
            .endpoint
            .as_ref()
            .is_some_and(|endpoint| endpoint.dialing == Some(link))
        {
            self.close_link(link, host);
            self.dial_answered(host, link, Answer::Closed);
        }
    }

    /// Handles a greeting at the predecessor. A greeting for a stream that is not open here yet waits in the
    /// listening socket.
    fn dialed(&mut self, host: usize, link: LinkId) {
        let (successor, stream, resume) = {
            let link = &self.links[link.0];
            (link.successor, link.stream, link.resume)
        };
        if self.links[link.0].is_closed_by(successor) {
            return;
        }
        let node = self.hosts[successor].id.unwrap_or_default();
        let Some(endpoint) = self.hosts[host].endpoint.as_mut() else {
            self.hosts[host].waiting_dials.push(link);
            return;
        };
        if endpoint.stream < stream {
            self.hosts[host].waiting_dials.push(link);
            return;
        }
        let joined = if endpoint.stream == stream {
            endpoint.relay.handle_downstream_joined(self.now, node, resume)
        } else {
            Err(RelayError::WrongSuccessor {
                got: node,
                expected: None,
            })
        };
        let old = if joined.is_ok() {
            endpoint.down.replace(link)
        } else {
            None
        };
        if let Some(old) = old {
            self.close_link(old, host);
        }
        match joined {
            Ok(()) => self.answer_dial(link, Answer::Joined),
            Err(RelayError::CannotResume { retained_from, .. }) => {
                self.answer_dial(link, Answer::Gap(retained_from));
            }
            // As in the transport, the handshake is over before the machine is asked.
            Err(_) => {
                self.answer_dial(link, Answer::Joined);
                self.close_link(link, host);
            }
        }
    }

    pub(super) fn answer_dial(&mut self, link: LinkId, answer: Answer) {
        let (successor, predecessor) = (self.links[link.0].successor, self.links[link.0].predecessor);
        self.push(
            successor,
            Some(predecessor),
            self.scenario.latency,
            Event::Dialed { link, answer },
        );
    }

    fn dial_answered(&mut self, host: usize, link: LinkId, answer: Answer) {
        let now = self.now;
        let endpoint = self.hosts[host]
            .endpoint
            .as_mut()
            .filter(|endpoint| endpoint.dialing == Some(link));
        let Some(endpoint) = endpoint else { return };
        endpoint.dialing = None;
        match answer {
            Answer::Joined => {
                endpoint.up = Some(link);
                endpoint.relay.handle_upstream_joined(now);
            }
            Answer::Closed => endpoint
                .relay
                .handle_upstream_lost(now, Reason::new("no answer to the greeting")),
            Answer::Gap(retained_from) => endpoint.relay.handle_upstream_gap(now, retained_from),
        }
    }

    /// Handles that the far end closed. Data that it wrote before has arrived, and is read first.
    fn link_closed(&mut self, host: usize, link: LinkId) {
        let (now, reason) = (self.now, Reason::new("closed by the other side"));
        let Some(endpoint) = self.hosts[host].endpoint.as_mut() else {
            return;
        };
        if endpoint.down == Some(link) {
            endpoint.down = None;
            endpoint.relay.handle_downstream_lost(now, reason);
        } else if endpoint.dialing == Some(link) {
            self.dial_answered(host, link, Answer::Closed);
        } else if endpoint.up == Some(link) {
            if self.links[link.0].arrived.is_empty() {
                endpoint.up = None;
                endpoint.relay.handle_upstream_lost(now, reason);
            } else {
                // There is still data to read, so the check is repeated soon.
                self.push(host, None, Duration::from_millis(20), Event::LinkClosed { link });
            }
        }
    }

    /// Breaks the connection to the predecessor. Both ends see it close.
    pub(super) fn break_link(&mut self, host: usize) {
        let endpoint = self.hosts[host].endpoint.as_mut();
        if let Some(endpoint) = endpoint
            && let Some(link) = endpoint.up.take()
        {
            endpoint
                .relay
                .handle_upstream_lost(self.now, Reason::new("reset"));
            self.close_link(link, host);
        }
    }

    pub(super) fn close_link(&mut self, link: LinkId, host: usize) {
        if !self.links[link.0].close(host) {
            return;
        }
        let peer = self.links[link.0].peer_of(host);
        let wait = if host == self.links[link.0].predecessor {
            self.links[link.0].drained_at(self.now) - self.now
        } else {
            Duration::ZERO
        };
        self.push(
            peer,
            Some(host),
            wait + self.scenario.latency,
            Event::LinkClosed { link },
        );
    }

    /// Gives blocks to parallel writers. Each takes one block, and they finish in any order.
    pub(super) fn start_disk(&mut self, host: usize, endpoint: &mut Endpoint) {
        let stalled = self.hosts[host].disk_stalled_until;
        let disk = &mut endpoint.disk;
        while disk.busy < WRITERS {
            let Some((offset, length)) = disk.queue.pop_front() else {
                break;
            };
            disk.busy += 1;
            let takes = Duration::from_nanos(u64::from(length) * 1_000_000_000 / disk.rate.max(1));
            disk.free_at = disk.free_at.max(self.now).max(stalled) + takes;
            let at = disk.free_at + self.rng.millis(0, 3);
            self.queue.push(
                at,
                host,
                None,
                Event::Consumed {
                    stream: endpoint.stream,
                    offset,
                },
            );
        }
        if disk.ended && disk.is_idle() && !disk.syncing && !disk.failed {
            disk.syncing = true;
            self.push(
                host,
                None,
                Duration::from_millis(20),
                Event::Synced {
                    stream: endpoint.stream,
                },
            );
        }
    }

    fn consumed(&mut self, host: usize, stream: StreamId, offset: StreamOffset) {
        let endpoint = self.hosts[host]
            .endpoint
            .as_mut()
            .filter(|endpoint| endpoint.stream == stream);
        if let Some(endpoint) = endpoint.filter(|endpoint| !endpoint.disk.failed) {
            endpoint.disk.busy -= 1;
            endpoint.relay.handle_consumed(self.now, offset);
        }
    }
}
