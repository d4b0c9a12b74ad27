//! The events of the simulator.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::host::{Blocks, Host};
use super::path::{Arrival, Path};
use super::{Gone, Outcome, Plan, SHARD};
use crate::block::{BlockKind, END_LEN, HEADER_LEN, StreamKey};
use crate::group::{DatagramKey, Figures, GroupConfig, Member, OVERHEAD, Report, Sender, SenderOutput};
use crate::ids::{NodeId, RunId, StreamId, StreamOffset};
use crate::sim::Rng;

const LATENCY: Duration = Duration::from_micros(50);
/// Datagrams that the sender's socket and device hold.
const SOCKET: u64 = 300;
/// A scenario that takes longer hangs.
const TOO_LONG: Duration = Duration::from_secs(600);

#[derive(Debug)]
enum Event {
    Sender,
    /// A burst leaves the switch.
    Burst(Arc<Vec<u8>>, usize),
    /// Datagrams of a burst reach a member late.
    Late(usize, Arc<Vec<u8>>, usize, Range<usize>),
    Member(usize),
    Report(usize, Report),
}

pub(super) struct World {
    plan: Plan,
    now: Duration,
    events: BinaryHeap<Reverse<(Duration, u64)>>,
    payloads: BTreeMap<u64, Event>,
    count: u64,
    sender: Sender,
    hosts: Vec<Host>,
    paths: Vec<Path>,
    blocks: Blocks,
    pushed: usize,
    /// Time at which the sender's line is free.
    line_free: Duration,
    sender_wakes_at: Duration,
    outcome: Outcome,
    is_complete: bool,
    arrivals: Vec<Arrival>,
}

fn key() -> DatagramKey {
    DatagramKey::new(&[3; 32], RunId([4; 16]), StreamId(1), NodeId::SERVER).unwrap()
}

/// Returns the blocks of a stream of so many stripes.
fn blocks(seed: u64, stripes: usize) -> Blocks {
    let mut rng = Rng::new(seed);
    let key = StreamKey::new([1; 32], RunId([4; 16]), StreamId(1));
    let mut left = stripes * 128 * SHARD - HEADER_LEN - END_LEN;
    let mut offset = 0;
    let mut blocks = Vec::new();
    while left > HEADER_LEN {
        let length = (left - HEADER_LEN).min(8192);
        let payload: Vec<u8> = (0..length.div_ceil(8))
            .flat_map(|_| rng.next().to_le_bytes())
            .take(length)
            .collect();
        let header = key.authenticate(BlockKind::Data, StreamOffset(offset), &payload);
        blocks.push((header.unwrap().encode(), payload));
        offset += length as u64;
        left -= HEADER_LEN + length;
    }
    let end = vec![9; END_LEN];
    let header = key.authenticate(BlockKind::End, StreamOffset(offset), &end);
    blocks.push((header.unwrap().encode(), end));
    blocks
}

impl World {
    pub(super) fn new(plan: &Plan) -> Self {
        let size = (SHARD + OVERHEAD) as u64;
        let config = GroupConfig {
            shard_bytes: SHARD,
            report_every: GroupConfig::report_interval(plan.members.len()),
            start_rate: plan.line * size * plan.start_percent / 100,
            memory: plan.window * 128 * (SHARD + OVERHEAD) + (1 << 20),
        };
        let now = Duration::ZERO;
        let nodes: Vec<NodeId> = (0..plan.members.len()).map(node).collect();
        let hosts = plan.members.iter().map(|member| {
            let machine = Member::new(config, key(), plan.window * config.stripe(), now);
            Host::new(*member, machine, &config, plan.window)
        });
        let paths = plan.members.iter().enumerate();
        let paths = paths.map(|(index, member)| Path::new(member, plan.seed * 1_000_003 + index as u64));
        let mut world = Self {
            now,
            events: BinaryHeap::new(),
            payloads: BTreeMap::new(),
            count: 0,
            sender: Sender::new(config, key(), &nodes, now),
            hosts: hosts.collect(),
            paths: paths.collect(),
            blocks: blocks(plan.seed, plan.stripes),
            pushed: 0,
            line_free: now,
            sender_wakes_at: Duration::MAX,
            outcome: Outcome {
                took: now,
                figures: Figures::default(),
                done: Vec::new(),
                gone: Vec::new(),
                reports: 0,
                report_bytes: 0,
                refused: 0,
                most_kept: 0,
            },
            is_complete: false,
            arrivals: Vec::new(),
            plan: plan.clone(),
        };
        let mut rng = Rng::new(plan.seed);
        for index in 0..world.hosts.len() {
            // Nodes open a stream within some milliseconds of each other.
            world.wake_member(index, Duration::from_micros(rng.between(0, 5000)));
        }
        world
    }

    pub(super) fn run(mut self) -> Outcome {
        self.run_sender();
        while !self.is_complete {
            let Some(Reverse((at, number))) = self.events.pop() else {
                panic!("no event is left, and the sender is not complete");
            };
            assert!(
                at < TOO_LONG,
                "hangs: {:?} {:?}",
                self.sender.figures(),
                self.outcome
            );
            self.now = at;
            let event = self.payloads.remove(&number).unwrap();
            self.handle(event);
        }
        self.outcome.took = self.now;
        self.outcome.figures = self.sender.figures();
        self.outcome.done = self.hosts.iter().map(|host| host.done).collect();
        self.outcome.refused = self.hosts.iter().map(|host| host.refused).sum();
        self.outcome
    }

    fn plan_event(&mut self, at: Duration, event: Event) {
        self.count += 1;
        self.payloads.insert(self.count, event);
        self.events.push(Reverse((at, self.count)));
    }

    fn handle(&mut self, event: Event) {
        match event {
            // A wake-up that was replaced by an earlier one is stale.
            Event::Sender if self.sender_wakes_at != self.now => {}
            Event::Member(index) if self.hosts[index].wakes_at != self.now => {}
            Event::Sender => {
                self.sender_wakes_at = Duration::MAX;
                self.run_sender();
            }
            Event::Burst(bytes, datagram) => self.deliver(&bytes, datagram),
            Event::Late(index, bytes, datagram, places) => {
                if self.hosts[index].hears(self.now) {
                    self.receive(index, &bytes, datagram, &places);
                    self.run_member(index);
                }
            }
            Event::Member(index) => {
                self.hosts[index].wakes_at = Duration::MAX;
                self.run_member(index);
            }
            Event::Report(index, report) => {
                self.outcome.reports += 1;
                self.outcome.report_bytes += 60 + postcard::to_stdvec(&report).unwrap().len() as u64;
                self.sender.handle_report(self.now, node(index), &report);
                self.run_sender();
            }
        }
    }

    fn run_sender(&mut self) {
        while self.pushed < self.blocks.len() && self.sender.wants_bytes() {
            let (header, payload) = &self.blocks[self.pushed];
            self.sender.push(header, payload);
            self.pushed += 1;
            if self.pushed == self.blocks.len() {
                self.sender.finish();
            }
        }
        while let Some(burst) = self.sender.next_burst(self.now) {
            let one = Duration::from_nanos(1_000_000_000 / self.plan.line);
            let datagrams = u32::try_from(burst.bytes.len() / burst.datagram).unwrap();
            // A mark takes little of the line.
            let time = if burst.datagram < SHARD + OVERHEAD {
                one / 30
            } else {
                one * datagrams
            };
            let waits = self.line_free.saturating_sub(self.now);
            if waits.as_nanos() > one.as_nanos() * u128::from(SOCKET) {
                self.sender.handle_blocked(self.now);
                let at = self.line_free - one * 100;
                self.wake_sender(at);
                break;
            }
            let (bytes, datagram) = (Arc::new(burst.bytes.to_vec()), burst.datagram);
            self.sender.handle_sent(self.now, bytes.len());
            self.line_free = self.line_free.max(self.now) + time;
            self.plan_event(self.line_free + LATENCY, Event::Burst(bytes, datagram));
        }
        self.outcome.most_kept = self.outcome.most_kept.max(self.sender.figures().stripes);
        while let Some(output) = self.sender.poll_output() {
            match output {
                SenderOutput::Leave { node, why } => {
                    let index = node.0 as usize - 1;
                    self.hosts[index].is_member = false;
                    self.outcome.gone.push((self.now, index, Gone::Left(why)));
                }
                SenderOutput::Complete => self.is_complete = true,
            }
        }
        if let Some(at) = self.sender.poll_timeout() {
            self.wake_sender(at.max(self.now));
        }
    }

    fn wake_sender(&mut self, at: Duration) {
        if at < self.sender_wakes_at {
            self.sender_wakes_at = at;
            self.plan_event(at, Event::Sender);
        }
    }

    fn wake_member(&mut self, index: usize, at: Duration) {
        if at < self.hosts[index].wakes_at {
            self.hosts[index].wakes_at = at;
            self.plan_event(at, Event::Member(index));
        }
    }

    fn deliver(&mut self, bytes: &Arc<Vec<u8>>, datagram: usize) {
        let now = self.now;
        if self
            .plan
            .outages
            .iter()
            .any(|(from, to)| (*from..*to).contains(&now))
        {
            return;
        }
        let count = bytes.len() / datagram;
        for index in 0..self.hosts.len() {
            if !self.hosts[index].hears(now) {
                continue;
            }
            let mut arrivals = std::mem::take(&mut self.arrivals);
            self.paths[index].send(now, count, &mut arrivals);
            let is_new = !arrivals.is_empty();
            if self.plan.forges_first {
                self.forge(index, bytes, datagram);
            }
            for arrival in arrivals.drain(..) {
                if arrival.after.is_zero() {
                    self.receive(index, bytes, datagram, &arrival.places);
                } else {
                    let late = Event::Late(index, Arc::clone(bytes), datagram, arrival.places);
                    self.plan_event(now + arrival.after, late);
                }
            }
            self.arrivals = arrivals;
            if !self.plan.forges_first {
                self.forge(index, bytes, datagram);
            }
            if is_new {
                self.run_member(index);
            }
        }
    }

    fn receive(&mut self, index: usize, bytes: &Arc<Vec<u8>>, datagram: usize, places: &Range<usize>) {
        let place = places.start * datagram..places.end * datagram;
        let now = self.now;
        self.hosts[index]
            .member()
            .handle_datagrams(now, bytes, place, datagram);
    }

    /// A stranger sends what he saw, changed. Its header often has sense.
    fn forge(&mut self, index: usize, bytes: &[u8], datagram: usize) {
        for place in 0..self.plan.forged {
            let from = place * 7 % (bytes.len() / datagram) * datagram;
            let mut forged = bytes[from..from + datagram].to_vec();
            let byte = (bytes.len() + place * 13) % datagram;
            forged[byte] ^= 0x55;
            let forged = Arc::new(forged);
            let now = self.now;
            self.hosts[index]
                .member()
                .handle_datagrams(now, &forged, 0..datagram, datagram);
        }
    }

    fn run_member(&mut self, index: usize) {
        let (now, host) = (self.now, &mut self.hosts[index]);
        if !host.is_alive(now) || !host.is_member {
            return;
        }
        host.consume(now, &self.blocks);
        let report = host.report(now);
        if host.member().is_dark(now) {
            host.is_member = false;
            self.outcome.gone.push((now, index, Gone::Dark));
            self.sender.remove(now, node(index));
            self.run_sender();
            return;
        }
        let at = host.member().poll_timeout();
        if let Some(report) = report {
            self.plan_event(now + LATENCY, Event::Report(index, report));
        }
        if let Some(at) = at {
            self.wake_member(index, at.max(now));
        }
    }
}

fn node(index: usize) -> NodeId {
    NodeId(u32::try_from(index + 1).unwrap())
}
