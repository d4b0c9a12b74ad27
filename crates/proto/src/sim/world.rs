//! The main loop. It takes events in order of time, gives them to their hosts, and lets faults strike.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::branches::Branches;
use super::event::{Event, Queue, SERVER, Scheduled};
use super::host::{Alive, Host};
use super::net::{Link, LinkId};
use super::restart::Lives;
use super::rng::Rng;
use super::rounds::Rounds;
use super::scenario::{Fault, Sabotage, Scenario};
use super::standby::Group;
use super::{Report, Violation};
use crate::ids::NodeId;
use crate::node::Node;
use crate::run::Run;
use crate::text::Reason;

/// Timers of all machines, scaled. They are not the product's timers of similar names ([`crate::limits`]).
/// Faults last up to 12 s, so that some are survived and some are not.
pub(super) const SCALED_HEARTBEAT: Duration = Duration::from_millis(250);
pub(super) const SCALED_LINK_SILENCE: Duration = Duration::from_secs(2);
pub(super) const SCALED_CONTROL_SILENCE: Duration = Duration::from_secs(5);
pub(super) const SCALED_IDLE_SILENCE: Duration = Duration::from_secs(20);
pub(super) const SCALED_ESTABLISH: Duration = Duration::from_secs(10);
/// Time after which a run hangs. The slowest legal one moves 3 × 100 MiB at 3 MB/s and waits out every stage
/// timeout.
const LIMIT: Duration = Duration::from_secs(900);
/// Number of events at one moment that no working machine needs.
const MOST_AT_ONCE: u64 = 2_000_000;

pub(super) struct World {
    pub(super) now: Duration,
    pub(super) scenario: Scenario,
    pub(super) rng: Rng,
    pub(super) queue: Queue,
    pub(super) hosts: Vec<Host>,
    pub(super) links: Vec<Link>,
    pub(super) server: Run,
    pub(super) by_id: BTreeMap<NodeId, usize>,
    pub(super) server_over: bool,
    pub(super) produced: u64,
    pub(super) branches: Branches,
    pub(super) group: Group,
    /// Payload bytes that went over links.
    pub(super) linked_bytes: u64,
    pub(super) rounds: Rounds,
    pub(super) lives: Lives,
    pub(super) accused: Vec<super::Accused>,
    /// Hosts that the server set aside because they were slow.
    pub(super) set_aside: BTreeSet<usize>,
    /// True if the server is gone for good.
    pub(super) server_gone: bool,
    /// Arrival of the last message of each connection, so that jitter does not change its order.
    last_arrivals: BTreeMap<(usize, usize, Option<LinkId>), Duration>,
    trace: Option<Vec<String>>,
    events: u64,
}

impl World {
    pub(super) fn new(scenario: Scenario, trace: bool) -> Self {
        let mut world = Self {
            now: Duration::ZERO,
            rng: Rng::new(scenario.seed),
            queue: Queue::default(),
            hosts: (0..=scenario.nodes).map(|_| Host::new()).collect(),
            links: Vec::new(),
            server: Run::new(super::server::config(&scenario), Duration::ZERO),
            by_id: BTreeMap::new(),
            server_over: false,
            produced: 0,
            branches: Branches::default(),
            group: Group::default(),
            linked_bytes: 0,
            rounds: Rounds::new(),
            lives: Lives::default(),
            accused: Vec::new(),
            set_aside: BTreeSet::new(),
            server_gone: false,
            last_arrivals: BTreeMap::new(),
            trace: trace.then(Vec::new),
            events: 0,
            scenario,
        };
        world.start();
        world
    }

    fn start(&mut self) {
        for host in 1..self.hosts.len() {
            let at = self.rng.millis(0, 400);
            self.queue
                .push(at, SERVER, Some(host), Event::Join { from: host, life: 0 });
            self.hosts[host].node = Some(Node::new(at));
            self.queue.push(at, host, None, Event::Wake);
        }
        for (number, planned) in self.scenario.faults.clone().into_iter().enumerate() {
            match planned.fault {
                Fault::StepFails(step) => self.hosts[planned.host].fails_in = Some(step),
                Fault::StepHangs(step) => self.hosts[planned.host].hangs_in = Some(step),
                _ => self
                    .queue
                    .push(planned.at, planned.host, None, Event::Fault { number }),
            }
        }
        self.queue.push(Duration::ZERO, SERVER, None, Event::Wake);
    }

    pub(super) fn run(mut self) -> Result<Report, Violation> {
        let mut at_once = 0;
        while let Some(scheduled) = self.queue.pop() {
            if self.server_over && self.everybody_ended() {
                break;
            }
            at_once = if scheduled.at == self.now { at_once + 1 } else { 0 };
            self.now = scheduled.at;
            if self.now > self.limit(LIMIT) || at_once > MOST_AT_ONCE {
                return Err(self.violation(scheduled.host, "the run hangs".to_owned()));
            }
            self.take(scheduled)?;
        }
        self.check_end()?;
        let endings = self
            .hosts
            .iter()
            .skip(1)
            .map(|host| host.ending.clone())
            .collect();
        let trace = self.trace.take().unwrap_or_default();
        Ok(Report {
            took: self.now,
            nodes: self.server.nodes(),
            endings,
            rejoined: self.branches.rejoined,
            returned: self.rounds.returned,
            server_restarts: self.lives.restarts,
            done: (1..self.hosts.len())
                .map(|host| self.rounds.done.contains(&host))
                .collect(),
            slow: self.accused,
            linked_bytes: self.linked_bytes,
            events: self.events,
            trace,
        })
    }

    fn everybody_ended(&self) -> bool {
        let ended = |host: &Host| {
            matches!(host.alive, Alive::Left | Alive::Dead | Alive::Gone) || host.ending.is_some()
        };
        self.hosts.iter().skip(1).all(ended)
    }

    fn take(&mut self, scheduled: Scheduled) -> Result<(), Violation> {
        let host = scheduled.host;
        if matches!(scheduled.event, Event::Return) {
            self.return_host(host);
            return self.settle(host);
        }
        let cut_off = |host: usize| self.hosts[host].cut_off_until;
        let reaches = scheduled
            .other
            .map_or(Duration::ZERO, |other| cut_off(host).max(cut_off(other)));
        let thaws = match self.hosts[host].alive {
            Alive::Up => Duration::ZERO,
            Alive::Frozen(until) => until,
            Alive::Left | Alive::Dead | Alive::Gone => {
                self.reach_the_dead(host, &scheduled.event);
                return Ok(());
            }
        };
        let until = reaches.max(thaws);
        if until > self.now {
            self.queue.postpone(scheduled, until);
            return Ok(());
        }
        self.hosts[host].alive = Alive::Up;
        self.events += 1;
        self.pass_time(host);
        match self.branch_of(host, &scheduled.event) {
            Some(fed) => self.as_branch(fed, |world| world.handle(host, scheduled.event))?,
            None => self.handle(host, scheduled.event)?,
        }
        self.settle(host)
    }

    /// Delivers an event to a dead host. A dead process's kernel refuses connections; a machine without power
    /// does not even do that.
    fn reach_the_dead(&mut self, host: usize, event: &Event) {
        if let Event::Dial { link } = *event
            && self.hosts[host].alive != Alive::Gone
        {
            self.answer_dial(link, super::event::Answer::Closed);
        }
    }

    fn handle(&mut self, host: usize, event: Event) -> Result<(), Violation> {
        match event {
            Event::Wake => self.wake(host),
            Event::Join { from, life } => self.join(from, life),
            Event::Control { from, life, body } => self.handle_control(host, (from, life), &body)?,
            Event::ControlClosed { from, life } => self.handle_control_closed(host, from, life),
            Event::StepDone { step, life } => self.step_done(host, step, life),
            Event::Fault { number } => self.strike(host, self.scenario.faults[number].fault),
            Event::FromGroup {
                stream,
                until,
                is_end,
            } => self.comes_from_group(host, stream, until, is_end),
            Event::LookAtGroup { stream } => self.look_at_group(stream),
            Event::Dark { stream } => self.leave_group(host, Some(stream)),
            event => self.handle_data(host, &event)?,
        }
        Ok(())
    }

    fn wake(&mut self, host: usize) {
        self.hosts[host].wake_at = None;
        let now = self.now;
        if host == SERVER {
            self.server.handle_timeout(now);
            self.wake_branches();
        }
        let due = now >= self.hosts[host].next_progress;
        let slot = &mut self.hosts[host];
        if let Some(node) = &mut slot.node {
            node.handle_timeout(now);
        }
        let Some(endpoint) = &mut slot.endpoint else {
            return;
        };
        endpoint.relay.handle_timeout(now);
        if due {
            slot.next_progress = now + SCALED_HEARTBEAT * 2;
            self.tell_progress(host);
        }
    }

    fn strike(&mut self, host: usize, fault: Fault) {
        self.note(host, || format!("{fault:?}"));
        let now = self.now;
        match fault {
            Fault::Kill => {
                self.close_everything(host);
                self.hosts[host].alive = Alive::Dead;
                self.lose_server(host);
                self.maybe_restart(host);
            }
            Fault::PowerCut => {
                self.hosts[host].alive = Alive::Gone;
                self.lose_server(host);
                self.maybe_restart(host);
            }
            Fault::Freeze(time) => self.hosts[host].alive = Alive::Frozen(now + time),
            Fault::Partition(time) => self.hosts[host].cut_off_until = now + time,
            Fault::DiskStall(time) => self.hosts[host].disk_stalled_until = now + time,
            Fault::DiskSlows(rate) => {
                self.scenario.disk_rates[host - 1] = rate;
                if let Some(endpoint) = &mut self.hosts[host].endpoint {
                    endpoint.disk.rate = rate;
                }
            }
            Fault::LineSlows(rate) => self.scenario.link_rates[host - 1] = rate,
            Fault::DiskFails => self.fail_disk(host),
            Fault::Leaves => {
                if let Some(node) = &mut self.hosts[host].node {
                    node.leave(Reason::new("interrupted by the operator"));
                }
            }
            Fault::LinkBreaks => self.break_link(host),
            Fault::LeavesGroup => self.leave_group(host, None),
            Fault::GroupGoesDark => self.group_goes_dark(),
            Fault::StepFails(_) | Fault::StepHangs(_) => {}
        }
    }

    /// Does the work of the kernel for a process that ends: closes all its connections.
    pub(super) fn close_everything(&mut self, host: usize) {
        if let Some(endpoint) = self.hosts[host].endpoint.take() {
            for link in [endpoint.up, endpoint.dialing, endpoint.down]
                .into_iter()
                .flatten()
            {
                self.close_link(link, host);
            }
        }
        for link in std::mem::take(&mut self.hosts[host].waiting_dials) {
            self.close_link(link, host);
        }
        if host == SERVER {
            self.clear_branches();
        }
        let latency = self.scenario.latency;
        if host != SERVER {
            let (from, life) = (host, self.hosts[host].life);
            self.push(SERVER, Some(host), latency, Event::ControlClosed { from, life });
            return;
        }
        for node in 1..self.hosts.len() {
            let (from, life) = (SERVER, self.hosts[node].life);
            self.push(node, Some(SERVER), latency, Event::ControlClosed { from, life });
        }
    }

    /// Handles everything that follows from an event at this host, then the timers. Called after every event.
    fn settle(&mut self, host: usize) -> Result<(), Violation> {
        loop {
            let mut busy = self.pump(host)?;
            busy |= if host == SERVER {
                self.pump_branches()? | self.drain_server()?
            } else {
                self.drain_node(host)?
            };
            if !busy {
                break;
            }
        }
        self.check_host(host)?;
        self.schedule_wake(host)
    }

    fn schedule_wake(&mut self, host: usize) -> Result<(), Violation> {
        let rule = match host {
            SERVER => Sabotage::ServerHasNoTimer,
            _ => Sabotage::NodesHaveNoTimers,
        };
        if self.breaks(rule) {
            return Ok(());
        }
        let mut due = Vec::new();
        if host == SERVER && !self.server_over {
            let timer = self.server.poll_timeout();
            due.push(timer.ok_or_else(|| self.violation(host, "a run without a timer".to_owned()))?);
            due.extend(self.branch_timers()?);
        }
        if let Some(node) = &self.hosts[host].node {
            let timer = node.poll_timeout();
            due.push(timer.ok_or_else(|| self.violation(host, "a node without a timer".to_owned()))?);
        }
        if let Some(endpoint) = &self.hosts[host].endpoint {
            let timer = endpoint.relay.poll_timeout();
            due.push(timer.ok_or_else(|| self.violation(host, "a relay without a timer".to_owned()))?);
            due.push(self.hosts[host].next_progress.max(self.now));
        }
        let Some(due) = due.into_iter().min() else {
            return Ok(());
        };
        let slot = &mut self.hosts[host];
        if slot.wake_at.is_none_or(|at| due < at) {
            slot.wake_at = Some(due);
            self.queue.push(due.max(self.now), host, None, Event::Wake);
        }
        Ok(())
    }

    pub(super) fn push(&mut self, host: usize, other: Option<usize>, delay: Duration, event: Event) {
        self.push_at(self.now + delay, host, other, event);
    }

    /// Schedules the arrival of a message. It may take longer than another connection's, but its own
    /// connection keeps the order.
    pub(super) fn push_at(&mut self, at: Duration, host: usize, other: Option<usize>, event: Event) {
        let jitter = u64::try_from(self.scenario.jitter.as_millis()).unwrap_or_default();
        let Some(other_end) = other.filter(|_| jitter > 0) else {
            return self.queue.push(at, host, other, event);
        };
        let arrives = at + self.rng.millis(0, jitter);
        let last = self
            .last_arrivals
            .entry((other_end, host, event.link()))
            .or_default();
        *last = arrives.max(*last);
        let at = *last;
        self.queue.push(at, host, other, event);
    }

    pub(super) fn note(&mut self, host: usize, what: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>10.4} host {host}: {}", now.as_secs_f64(), what()));
        }
    }

    pub(super) fn breaks(&self, rule: Sabotage) -> bool {
        self.scenario.sabotage == Some(rule)
    }

    pub(super) fn violation(&self, host: usize, what: String) -> Violation {
        Violation {
            at: self.now,
            host,
            what,
            trace: self.trace.clone().unwrap_or_default(),
        }
    }
}
