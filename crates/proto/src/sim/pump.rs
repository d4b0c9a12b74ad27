//! The data path of a host. It does the work of a transport's pump, with descriptors for payload.

use super::event::{Event, SERVER};
use super::host::Endpoint;
use super::net::{Item, Link, LinkId, tag, time_for};
use super::world::World;
use super::{Sabotage, Step, Violation, end_of};
use crate::ids::{NodeId, StreamOffset};
use crate::limits::LINK_HANDSHAKE_TIMEOUT;
use crate::link::Ack;
use crate::relay::{RelayOutput, Transmit};

impl World {
    /// Moves everything that can move now. Returns true if something moved.
    pub(super) fn pump(&mut self, host: usize) -> Result<bool, Violation> {
        let Some(mut endpoint) = self.hosts[host].endpoint.take() else {
            return Ok(false);
        };
        let mut busy = false;
        loop {
            let mut moved = self.drain_relay(host, &mut endpoint);
            if !endpoint.over {
                moved |= if self.branches.fed.is_some() {
                    self.produce_kept(&mut endpoint)
                } else if host == SERVER {
                    self.produce(&mut endpoint)
                } else {
                    self.read(host, &mut endpoint)? | self.read_group(host, &mut endpoint)?
                };
                moved |= self.write(host, &mut endpoint)?;
                moved |= self.acknowledge(host, &mut endpoint);
            }
            if !moved {
                break;
            }
            busy = true;
        }
        self.start_disk(host, &mut endpoint);
        let over = endpoint.over;
        self.hosts[host].endpoint = Some(endpoint);
        if over {
            self.drop_endpoint(host);
        }
        Ok(busy)
    }

    fn drain_relay(&mut self, host: usize, endpoint: &mut Endpoint) -> bool {
        let mut moved = false;
        while let Some(output) = endpoint.relay.poll_output() {
            moved = true;
            if !matches!(output, RelayOutput::Release { .. }) {
                self.note(host, || format!("{output:?}"));
            }
            self.apply(host, endpoint, output);
        }
        moved
    }

    fn apply(&mut self, host: usize, endpoint: &mut Endpoint, output: RelayOutput) {
        match output {
            RelayOutput::Connect { peer, resume } => self.dial(host, endpoint, peer.node, resume),
            RelayOutput::CloseUpstream(_) => {
                for link in [endpoint.up.take(), endpoint.dialing.take()]
                    .into_iter()
                    .flatten()
                {
                    self.close_link(link, host);
                }
            }
            RelayOutput::CloseDownstream => {
                if let Some(link) = endpoint.down.take() {
                    self.close_link(link, host);
                }
            }
            RelayOutput::Release { .. } if self.breaks(Sabotage::KeepsWhatIsReleased) => {}
            RelayOutput::Release { below } => endpoint.ring.release(below),
            RelayOutput::Closed => endpoint.over = true,
            output => self.tell(host, endpoint, output),
        }
    }

    fn tell(&mut self, host: usize, endpoint: &mut Endpoint, output: RelayOutput) {
        let (now, stream) = (self.now, endpoint.stream);
        if let (Some(fed), RelayOutput::LinkLost { .. }) = (self.branches.fed, &output) {
            return self.branch_lost(fed, endpoint);
        }
        let slot = &mut self.hosts[host];
        match (output, &mut slot.node) {
            (RelayOutput::Gap { offset, reason }, Some(node)) => node.data_gone(stream, offset, reason),
            (RelayOutput::LinkLost { offset, reason, .. }, _) if host == SERVER => {
                self.server.handle_head_link_lost(now, stream, offset, &reason);
            }
            (RelayOutput::LinkUp { side, offset }, Some(node)) => node.link_up(stream, side, offset),
            (RelayOutput::LinkLost { side, offset, reason }, Some(node)) => {
                node.link_lost(stream, side, offset, reason);
            }
            (RelayOutput::Done, Some(node)) => {
                let done = node.stream_done(stream, endpoint.disk.next.0, [0; 32]);
                slot.streams_done += u32::from(done.is_ok());
                let is_last = self.rounds.stream_of_round(stream.0) == self.scenario.streams;
                if is_last && slot.hangs_in != Some(Step::Report) {
                    let at = now + self.rng.millis(10, 2000);
                    let (step, life) = (Step::Report, slot.life);
                    self.queue.push(at, host, None, Event::StepDone { step, life });
                }
            }
            (RelayOutput::Failed { reason }, node) => {
                endpoint.over = true;
                if let Some(node) = node {
                    node.stream_failed(stream, reason, false);
                }
            }
            _ => {}
        }
    }

    fn dial(&mut self, host: usize, endpoint: &mut Endpoint, node: NodeId, resume: StreamOffset) {
        let peer = if node == NodeId::SERVER {
            SERVER
        } else {
            self.by_id.get(&node).copied().unwrap_or(SERVER)
        };
        let link = LinkId(self.links.len());
        self.links.push(Link::new(peer, host, endpoint.stream, resume));
        endpoint.dialing = Some(link);
        self.push(peer, Some(host), self.scenario.latency * 3, Event::Dial { link });
        self.push(host, None, LINK_HANDSHAKE_TIMEOUT, Event::DialTimeout { link });
    }

    /// Produces at the head, as fast as the window permits.
    fn produce(&mut self, endpoint: &mut Endpoint) -> bool {
        let mut moved = false;
        let total = self.scenario.stream_bytes;
        while endpoint.relay.wants_upstream() && self.is_free(SERVER) && self.group_has_room() {
            moved = true;
            let offset = StreamOffset(self.produced);
            let left = total - self.produced;
            if left == 0 {
                let _ = endpoint.relay.handle_end(self.now, offset);
                self.branches.is_whole = true;
                self.send_to_group(offset, None);
                break;
            }
            let largest = u64::from(self.scenario.block_bytes).min(left);
            let smallest = if self.rng.chance(90) {
                largest
            } else {
                1.max(largest / 16)
            };
            let length = u32::try_from(self.rng.between(smallest, largest)).unwrap_or(1);
            if endpoint.relay.handle_block(self.now, offset, length).is_err() {
                break;
            }
            endpoint
                .ring
                .insert(offset, length, tag(endpoint.stream, offset, length));
            self.branches.kept.insert(offset, length);
            self.send_to_group(offset, Some(length));
            self.produced += u64::from(length);
            self.work(SERVER, u64::from(length), self.scenario.golden_rate);
        }
        let (produced, ended) = (StreamOffset(self.produced), endpoint.relay.has_ended());
        self.server
            .handle_head_progress(self.now, endpoint.stream, produced, ended);
        moved
    }

    fn read(&mut self, host: usize, endpoint: &mut Endpoint) -> Result<bool, Violation> {
        let Some(link) = endpoint.up else { return Ok(false) };
        let mut moved = false;
        while let Some(item) = self.links[link.0].arrived.front().copied() {
            if matches!(item, Item::Block { .. }) && !(endpoint.relay.wants_upstream() && self.is_free(host))
            {
                break;
            }
            let _ = self.links[link.0].read();
            moved = true;
            self.read_item(host, endpoint, item)?;
            self.work(host, item.bytes(), self.scenario.processor_rates[host - 1]);
        }
        if moved {
            let peer = self.links[link.0].predecessor;
            self.push(peer, Some(host), self.scenario.latency, Event::Writable);
        }
        Ok(moved)
    }

    fn read_item(&mut self, host: usize, endpoint: &mut Endpoint, item: Item) -> Result<(), Violation> {
        let taken = match item {
            Item::Block {
                offset,
                length,
                tag: found,
            } => {
                if offset.0 > 0 && self.breaks(Sabotage::DropsABlock) {
                    self.scenario.sabotage = None;
                    return Ok(());
                }
                // It came from the group before. Only a liar's predecessor sends it.
                if endpoint.relay.has_group() && offset < endpoint.relay.received() && self.is_liar(host) {
                    endpoint.relay.handle_upstream_alive(self.now);
                    return Ok(());
                }
                if found != tag(endpoint.stream, offset, length) {
                    return Err(self.violation(host, format!("wrong bytes at {offset}")));
                }
                self.give_to_disk(host, endpoint, offset, length)?;
                endpoint.ring.insert(offset, length, found);
                endpoint.relay.handle_block(self.now, offset, length)
            }
            Item::End { offset } => {
                endpoint.disk.ended = true;
                if offset != end_of(self.scenario.stream_bytes) {
                    return Err(self.violation(host, format!("the stream ends at {offset}")));
                }
                endpoint.relay.handle_end(self.now, offset)
            }
            Item::Idle => {
                endpoint.relay.handle_upstream_alive(self.now);
                Ok(())
            }
        };
        taken.map_err(|err| self.violation(host, err.to_string()))
    }

    pub(super) fn give_to_disk(
        &self,
        host: usize,
        endpoint: &mut Endpoint,
        offset: StreamOffset,
        length: u32,
    ) -> Result<(), Violation> {
        if offset != endpoint.disk.next {
            let what = format!(
                "the consumer is given {offset}, it expects {}",
                endpoint.disk.next
            );
            return Err(self.violation(host, what));
        }
        endpoint.disk.next = offset.plus(u64::from(length));
        if !endpoint.disk.failed {
            endpoint.disk.queue.push_back((offset, length));
        }
        Ok(())
    }

    fn write(&mut self, host: usize, endpoint: &mut Endpoint) -> Result<bool, Violation> {
        let Some(link) = endpoint.down else {
            return Ok(false);
        };
        let mut moved = false;
        while self.links[link.0].is_writable() {
            let Some(send) = endpoint.relay.next_to_send() else {
                break;
            };
            let item = match send {
                Transmit::Data { offset, length } => match endpoint.ring.get(offset) {
                    Some((held, tag)) if held == length => {
                        let tag = tag ^ u64::from(self.breaks(Sabotage::AltersABlock));
                        Item::Block { offset, length, tag }
                    }
                    _ => {
                        return Err(
                            self.violation(host, format!("asked to send {offset}, which is not held"))
                        );
                    }
                },
                Transmit::End { offset } => Item::End { offset },
                Transmit::Idle { .. } => Item::Idle,
            };
            moved = true;
            self.check_once(host, link, &item)?;
            let successor = self.links[link.0].successor;
            let rate = self.line_rate(host, successor);
            let burst = self.scenario.line_burst;
            let (leaves, busy) = self.links[link.0].write(self.now, &item, rate, burst);
            if self.branches.fed.is_none() {
                let spent = &mut self.hosts[host].spent;
                spent.line_bytes += item.bytes();
                spent.line_busy += busy;
            }
            self.push_at(
                leaves + self.scenario.latency,
                successor,
                Some(host),
                Event::Arrive { link, item },
            );
            endpoint.relay.handle_sent(self.now, send);
        }
        Ok(moved)
    }

    fn line_rate(&self, host: usize, successor: usize) -> u64 {
        let rates = &self.scenario.link_rates;
        let own = host.checked_sub(1).filter(|_| self.scenario.both_ways);
        let port = if host == SERVER {
            self.scenario.golden_port
        } else {
            u64::MAX
        };
        own.map_or(port, |own| rates[own]).min(rates[successor - 1])
    }

    /// True if the host's processor has finished its earlier work. At the server: the producer has read the
    /// next block.
    fn is_free(&self, host: usize) -> bool {
        self.now >= self.hosts[host].working_until
    }

    /// Gives the processor so many bytes more. The host is called again when they are finished.
    fn work(&mut self, host: usize, bytes: u64, rate: u64) {
        if rate < u64::MAX {
            let until = self.now.max(self.hosts[host].working_until) + time_for(bytes, rate);
            self.hosts[host].working_until = until;
            self.queue.push(until, host, None, Event::Worked);
        }
    }

    fn acknowledge(&mut self, host: usize, endpoint: &mut Endpoint) -> bool {
        let Some(link) = endpoint.up else { return false };
        let Some(ack) = endpoint.relay.take_ack(self.now) else {
            return false;
        };
        let ack = self.falsified_ack(host, endpoint.stream, ack);
        let ack = Ack {
            standby: self.says_standby(ack.standby),
            ..ack
        };
        let predecessor = self.links[link.0].predecessor;
        self.push(
            predecessor,
            Some(host),
            self.scenario.latency,
            Event::Acked {
                link,
                ack: Box::new(ack),
            },
        );
        true
    }
}
