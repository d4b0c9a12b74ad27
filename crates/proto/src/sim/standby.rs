//! The multicast group of a stream. It is an ideal one: each block comes to each member whole and in order,
//! after a delay of its own, and some come later, as if a repair was needed.
//!
//! As in the real one, the sender does not get ahead of any member's room. A member that is not heard for a
//! while is no member any more. It hears nothing from then on, and leaves by itself. The data that a member
//! takes over its link instead is the relay's business, which is under test here.

use std::collections::BTreeMap;
use std::time::Duration;

use super::event::{Event, SERVER};
use super::host::Endpoint;
use super::net::{tag, time_for};
use super::rng::Rng;
use super::world::World;
use super::{Fault, Planned, Sabotage, Scenario, Violation};
use crate::ids::{StreamId, StreamOffset};

/// Silence after which a member is no member any more.
const MEMBER_SILENCE: Duration = Duration::from_secs(2);
/// Time after which a member that gets nothing leaves.
const DARK_AFTER: Duration = Duration::from_secs(1);
/// Interval of the members' reports to the sender.
const REPORT_EVERY: Duration = Duration::from_millis(50);

/// The group of every stream of a scenario.
#[derive(Debug, Clone)]
pub(crate) struct GroupPlan {
    /// Rate of the sender, in bytes a second.
    pub(crate) rate: u64,
    /// Delay of each host that the group reaches, host 1 first. `None` for a host that it does not reach.
    pub(crate) delays: Vec<Option<Duration>>,
    /// Share of blocks that come late, in percent.
    pub(crate) late_percent: u64,
    /// Longest additional delay of such a block, in milliseconds.
    pub(crate) late_ms: u64,
}

impl GroupPlan {
    /// Returns a group at 125 MB/s that reaches all hosts at once and loses nothing.
    #[must_use]
    pub(crate) fn quiet(nodes: usize) -> Self {
        Self {
            rate: 125_000_000,
            delays: vec![Some(Duration::ZERO); nodes],
            late_percent: 0,
            late_ms: 0,
        }
    }

    fn draw(rng: &mut Rng, nodes: usize) -> Self {
        let reached_percent = rng.pick(&[100, 100, 70, 30]);
        let spread = rng.pick(&[0, 0, 5, 200]);
        let delays = (0..nodes).map(|_| {
            let delay = rng.millis(0, spread);
            rng.chance(reached_percent).then_some(delay)
        });
        Self {
            delays: delays.collect(),
            rate: rng.pick(&[5_000_000, 12_500_000, 125_000_000]),
            late_percent: rng.pick(&[0, 1, 20]),
            late_ms: rng.pick(&[5, 100, 3000]),
        }
    }

    /// Returns true if the group reaches this host.
    pub(super) fn reaches(&self, host: usize) -> bool {
        host.checked_sub(1)
            .is_some_and(|index| self.delays.get(index).is_some_and(Option::is_some))
    }
}

impl Scenario {
    /// Returns the scenario of [`Self::from_seed`] with a group, which members leave at any moment, one by
    /// one or all at once.
    #[must_use]
    pub(crate) fn with_group_from_seed(seed: u64, most_nodes: u32) -> Self {
        let mut scenario = Self::from_seed(seed, most_nodes);
        let mut rng = Rng::new(seed ^ 0x6772_6f75_7073);
        let nodes = scenario.nodes;
        scenario.group = Some(GroupPlan::draw(&mut rng, nodes));
        let end_ms = u64::try_from(scenario.expected().as_millis()).unwrap_or(u64::MAX);
        let mut leaves = |host, at, fault| scenario.faults.push(Planned { host, at, fault });
        if rng.chance(20) {
            leaves(SERVER, rng.millis(0, end_ms), Fault::GroupGoesDark);
        }
        for _ in 0..rng.pick(&[0, 1, 1, 2, nodes]) {
            let any = usize::try_from(rng.between(1, nodes as u64)).unwrap_or(1);
            let host = rng.pick(&[1, nodes, any, any, any]);
            let fault = rng.pick(&[Fault::LeavesGroup, Fault::LeavesGroup, Fault::LinkBreaks]);
            leaves(host, rng.millis(0, end_ms), fault);
        }
        scenario
    }
}

/// A member as the sender knows it.
#[derive(Debug, Default)]
struct Member {
    /// Offset up to which data has come to the host. The host takes it when it has room.
    arrived: StreamOffset,
    has_end: bool,
    /// Time at which the last block comes.
    last: Duration,
    /// The last report of the host, and its time.
    received: StreamOffset,
    heard: Duration,
}

/// The group of the running stream.
#[derive(Debug, Default)]
pub(super) struct Group {
    stream: StreamId,
    /// Length of every block sent, by offset.
    sent: BTreeMap<StreamOffset, u32>,
    members: BTreeMap<usize, Member>,
    free_at: Duration,
    /// True if the sender waits for a member's room.
    waits: bool,
}

impl Group {
    /// Returns true if the sender waits for a member's room.
    pub(super) const fn waits(&self) -> bool {
        self.waits
    }
}

impl World {
    /// Forms the group of a new stream.
    pub(super) fn form_group(&mut self, stream: StreamId) {
        let Some(plan) = &self.scenario.group else { return };
        let heard = self.now;
        let reached = (1..self.hosts.len()).filter(|host| plan.reaches(*host));
        let members = reached.map(|host| {
            (
                host,
                Member {
                    heard,
                    ..Member::default()
                },
            )
        });
        self.group = Group {
            stream,
            members: members.collect(),
            ..Group::default()
        };
        self.push(SERVER, None, REPORT_EVERY, Event::LookAtGroup { stream });
    }

    /// Returns true if this host is reached by the group of its streams.
    pub(super) fn is_reached(&self, host: usize) -> bool {
        let plan = self.scenario.group.as_ref();
        plan.is_some_and(|plan| plan.reaches(host))
    }

    /// Lets a host notice that it hears nothing, if the sender gave it up before its stream was open.
    pub(super) fn listen_to_group(&mut self, host: usize, stream: StreamId) {
        let is_heard = self.group.stream == stream && self.group.members.contains_key(&host);
        if self.is_reached(host) && !is_heard {
            self.push(host, None, DARK_AFTER, Event::Dark { stream });
        }
    }

    /// Returns true if every member has room for what the head produces next.
    pub(super) fn group_has_room(&mut self) -> bool {
        let least = self.group.members.values().map(|member| member.received.0).min();
        let ahead = least.map_or(0, |least| self.produced.saturating_sub(least));
        self.group.waits = ahead >= self.scenario.window_bytes;
        !self.group.waits
    }

    /// Sends a block to all members. `None` is the end of the stream.
    pub(super) fn send_to_group(&mut self, offset: StreamOffset, length: Option<u32>) {
        let Some(plan) = self.scenario.group.take() else {
            return;
        };
        let bytes = u64::from(length.unwrap_or_default());
        let leaves = self.group.free_at.max(self.now) + time_for(bytes, plan.rate);
        self.group.free_at = leaves;
        if let Some(length) = length {
            self.group.sent.insert(offset, length);
        }
        let (stream, until, is_end) = (self.group.stream, offset.plus(bytes), length.is_none());
        let mut members = std::mem::take(&mut self.group.members);
        for (host, member) in &mut members {
            let is_late = self.rng.chance(plan.late_percent);
            let late = self.rng.millis(0, if is_late { plan.late_ms } else { 0 });
            let delay = plan.delays[host - 1].unwrap_or_default();
            member.last = member.last.max(leaves + delay + late);
            let at = member.last + self.scenario.latency;
            let event = Event::FromGroup {
                stream,
                until,
                is_end,
            };
            self.queue.push(at, *host, Some(SERVER), event);
        }
        self.group.members = members;
        self.scenario.group = Some(plan);
    }

    /// Notes that data has come to a member.
    pub(super) fn comes_from_group(
        &mut self,
        host: usize,
        stream: StreamId,
        until: StreamOffset,
        is_end: bool,
    ) {
        let is_current = self.group.stream == stream;
        if let Some(member) = self.group.members.get_mut(&host).filter(|_| is_current) {
            member.arrived = member.arrived.max(until);
            member.has_end |= is_end;
        }
    }

    /// Takes what has come from the group, as far as there is room, and reports to the sender.
    pub(super) fn read_group(&mut self, host: usize, endpoint: &mut Endpoint) -> Result<bool, Violation> {
        let stream = endpoint.stream;
        if self.group.stream != stream || !endpoint.relay.is_grouped() {
            return Ok(false);
        }
        let mut moved = false;
        while let Some(member) = self.group.members.get(&host) {
            let offset = endpoint.relay.received();
            let is_end = member.has_end && offset == member.arrived && !endpoint.relay.has_ended();
            let block = self.group.sent.get(&offset).filter(|_| offset < member.arrived);
            let taken = match block.copied() {
                Some(length) if endpoint.relay.wants_upstream() => {
                    self.give_to_disk(host, endpoint, offset, length)?;
                    endpoint.ring.insert(offset, length, tag(stream, offset, length));
                    endpoint.relay.handle_group_block(self.now, offset, length)
                }
                None if is_end => {
                    endpoint.disk.ended = true;
                    endpoint.relay.handle_group_end(self.now, offset)
                }
                _ => break,
            };
            taken.map_err(|err| self.violation(host, err.to_string()))?;
            moved = true;
        }
        self.report_to_group(host, endpoint.relay.received());
        Ok(moved)
    }

    fn report_to_group(&mut self, host: usize, received: StreamOffset) {
        if self.hosts[host].cut_off_until > self.now {
            return;
        }
        let Some(member) = self.group.members.get_mut(&host) else {
            return;
        };
        let moved = member.received != received;
        (member.received, member.heard) = (received, self.now);
        if moved {
            self.wake_sender();
        }
    }

    fn wake_sender(&mut self) {
        if std::mem::take(&mut self.group.waits) {
            self.push(SERVER, None, REPORT_EVERY, Event::Worked);
        }
    }

    /// Takes silent members out of the group, at the sender.
    pub(super) fn look_at_group(&mut self, stream: StreamId) {
        if self.group.stream != stream || self.group.members.is_empty() {
            return;
        }
        let silent = |member: &Member| self.now >= member.heard + MEMBER_SILENCE;
        let members = self.group.members.iter().filter(|(_, member)| silent(member));
        let silent: Vec<usize> = members.map(|(host, _)| *host).collect();
        for host in silent {
            self.note(SERVER, || format!("host {host} is out of the group"));
            self.group_goes_dark_at(host);
        }
        self.push(SERVER, None, REPORT_EVERY * 5, Event::LookAtGroup { stream });
    }

    /// Makes the group send nothing to anybody any more.
    pub(super) fn group_goes_dark(&mut self) {
        let members: Vec<usize> = self.group.members.keys().copied().collect();
        members.into_iter().for_each(|host| self.group_goes_dark_at(host));
    }

    fn group_goes_dark_at(&mut self, host: usize) {
        self.group.members.remove(&host);
        self.wake_sender();
        let at = DARK_AFTER + self.rng.millis(0, 100);
        let stream = self.group.stream;
        self.push(host, None, at, Event::Dark { stream });
    }

    /// Leaves the group of the open stream at this host.
    pub(super) fn leave_group(&mut self, host: usize, of: Option<StreamId>) {
        let now = self.now;
        let endpoint = self.hosts[host].endpoint.as_mut();
        let Some(endpoint) = endpoint.filter(|endpoint| of.is_none_or(|stream| endpoint.stream == stream))
        else {
            return;
        };
        endpoint.relay.leave_group(now);
        if self.group.stream == endpoint.stream && self.group.members.remove(&host).is_some() {
            self.wake_sender();
        }
    }

    /// Returns the acknowledgement's word about standby, which a broken driver gets wrong.
    pub(super) fn says_standby(&self, standby: bool) -> bool {
        if self.breaks(Sabotage::NeverStandsBy) {
            return false;
        }
        standby || (self.scenario.group.is_some() && self.breaks(Sabotage::StandsByForEver))
    }
}
