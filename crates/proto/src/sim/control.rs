//! The control connections: joining, messages both ways, and the work that a node does on an order.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Violation;
use super::event::{Event, SERVER};
use super::host::Alive;
use super::rounds::conn_of;
use super::scenario::{Sabotage, Step};
use super::world::World;
use crate::control::{Join, Stage, ToNode, ToServer};
use crate::node::{Ending, Node, NodeOutput, Order};
use crate::text::{NodeName, Reason, SessionName};
use crate::wire::{FRAME_PREFIX, Payload};

impl World {
    pub(super) fn join(&mut self, host: usize, life: u32) {
        let name = node_name(host);
        let ip = node_ip(host);
        let join = Join {
            session: SessionName::new("kainstall").unwrap_or_else(|_| unreachable!("a good name")),
            name: NodeName::new(&name).unwrap_or_else(|_| unreachable!("a good name")),
            mac: None,
            data_addr: SocketAddr::new(ip, 30764),
            purpose: crate::control::Purpose::Clone,
            start_now: false,
            wants_release: false,
            holds_clone: self.hosts[host].holds_clone,
            wiring: None,
            nonce: [0; 16],
            proof: [0; 32],
        };
        let remote = SocketAddr::new(ip, 40_000);
        self.note_connection(conn_of(host, life));
        self.server.handle_join(
            self.now,
            conn_of(host, life),
            join,
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            remote,
        );
    }

    pub(super) fn handle_control(
        &mut self,
        host: usize,
        (from, life): (usize, u32),
        body: &[u8],
    ) -> Result<(), Violation> {
        if host == SERVER {
            let message = ToServer::decode(body).map_err(|err| self.violation(host, err.to_string()))?;
            if !self.knows_connection(conn_of(from, life)) {
                let reset = Event::ControlClosed { from: SERVER, life };
                self.push(from, Some(SERVER), self.scenario.latency, reset);
                return Ok(());
            }
            self.server.handle_message(self.now, conn_of(from, life), message);
        } else {
            let message = ToNode::decode(body).map_err(|err| self.violation(host, err.to_string()))?;
            let slot = &mut self.hosts[host];
            // A message to an earlier life went to a connection that is closed.
            if let Some(node) = slot.node.as_mut().filter(|_| slot.life == life) {
                node.handle_message(self.now, message);
            }
        }
        Ok(())
    }

    pub(super) fn handle_control_closed(&mut self, host: usize, from: usize, life: u32) {
        let reason = Reason::new("closed by the other side");
        if host == SERVER {
            return self.server.handle_closed(self.now, conn_of(from, life), &reason);
        }
        let slot = &mut self.hosts[host];
        if let Some(node) = slot.node.as_mut().filter(|_| slot.life == life) {
            node.handle_closed(&reason);
        }
    }

    pub(super) fn step_done(&mut self, host: usize, step: Step, life: u32) {
        let (commits, writes) = (
            self.scenario.commits,
            !self.breaks(Sabotage::NobodyWritesTheTable),
        );
        let slot = &mut self.hosts[host];
        let fails = slot.fails_in == Some(step);
        let Some(node) = slot.node.as_mut().filter(|_| slot.life == life) else {
            return;
        };
        let payload = Payload(vec![7; 100]);
        // The end of the run may have overtaken the order. That is no fault of the machines.
        let _ = match step {
            _ if fails => {
                let stage = match step {
                    Step::Prepare => Stage::Prepare,
                    Step::Go => Stage::Go,
                    Step::Report => Stage::Report,
                    Step::Commit => Stage::Commit,
                };
                node.step_failed(stage, Reason::new("the simulated step failed"));
                Ok(())
            }
            Step::Prepare => node.prepared(payload),
            Step::Go => node.ready(),
            Step::Report => {
                let reported = node.report(payload);
                if reported.is_ok() && commits && !std::mem::replace(&mut slot.holds_clone, true) {
                    slot.clones += 1;
                }
                reported
            }
            Step::Commit => {
                let said = node.bootable();
                slot.is_bootable |= said.is_ok() && writes;
                said
            }
        };
    }

    pub(super) fn drain_node(&mut self, host: usize) -> Result<bool, Violation> {
        let mut busy = false;
        while let Some(output) = self.hosts[host].node.as_mut().and_then(Node::poll_output) {
            busy = true;
            match output {
                NodeOutput::Send(ToServer::Report(_)) if host == 1 && self.breaks(Sabotage::LosesAReport) => {
                }
                NodeOutput::Send(message) => {
                    for message in self.falsified(host, message) {
                        self.send_to_server(host, &message)?;
                    }
                }
                NodeOutput::Order(order) => self.follow(host, order),
                NodeOutput::Over(ending) => {
                    self.note(host, || format!("over: {ending:?}"));
                    self.hosts[host].node = None;
                    self.close_everything(host);
                    self.hosts[host].alive = Alive::Left;
                    // A node that is turned down undoes its clone.
                    self.hosts[host].holds_clone &= matches!(ending, Ending::ServerLost { .. });
                    self.maybe_come_back(host, &ending);
                    self.hosts[host].ending = Some(ending);
                }
            }
        }
        Ok(busy)
    }

    fn send_to_server(&mut self, host: usize, message: &ToServer) -> Result<(), Violation> {
        let frame = message
            .encode()
            .map_err(|err| self.violation(host, err.to_string()))?;
        let body = frame[FRAME_PREFIX..].to_vec();
        // As if the server did not tell connections apart.
        let is_believed = self.is_liar(host) && self.breaks(Sabotage::BelievesTheLiar);
        let from = if is_believed { 1 } else { host };
        let life = self.hosts[from].life;
        self.push(
            SERVER,
            Some(host),
            self.scenario.latency,
            Event::Control { from, life, body },
        );
        Ok(())
    }

    fn follow(&mut self, host: usize, order: Order) {
        let life = self.hosts[host].life;
        let mut work = |step, low, high| {
            if self.hosts[host].hangs_in != Some(step) {
                let at = self.now + self.rng.millis(low, high);
                self.queue.push(at, host, None, Event::StepDone { step, life });
            }
        };
        match order {
            Order::Accepted { node, .. } => {
                self.hosts[host].id = Some(node);
                if self.hosts[host].holds_clone {
                    let (at, step) = (self.now + self.rng.millis(1, 50), Step::Report);
                    self.queue.push(at, host, None, Event::StepDone { step, life });
                }
                // The word of an earlier server may come late.
                if self.knows_connection(conn_of(host, life)) {
                    self.by_id.insert(node, host);
                }
            }
            Order::Queued { .. } | Order::Gathering { .. } | Order::Finish => {}
            Order::Commit => work(Step::Commit, 5, 500),
            Order::Prepare(_) => work(Step::Prepare, 5, 500),
            Order::Go => {
                work(Step::Go, 50, 3000);
                self.hosts[host].is_bootable = false;
            }
            Order::OpenStream(open) => self.open_endpoint(host, &open),
            Order::Relink(relink) => self.relink(host, &relink),
            Order::Hold { stream, time } => self.hold(host, stream, time),
            Order::Receipts { stream, keys } => self.name_receipts(host, stream, &keys),
            // The simulated runs have no group.
            Order::LeaveGroup { .. } | Order::Probe(_) => {}
            Order::EndStream(stream) => self.end_endpoint(host, stream),
        }
    }
}

pub(super) fn node_name(host: usize) -> String {
    format!("node{host}")
}

/// Returns an address for a host. Hosts are in the chain in the order of their numbers.
pub(super) fn node_ip(host: usize) -> IpAddr {
    let [.., c, d] = host.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, 0, c, d))
}
