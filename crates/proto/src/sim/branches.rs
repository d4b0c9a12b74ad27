//! Branches: more heads at the server, which feed nodes that lost their place from the spool.
//!
//! Each is an endpoint like the head's own. While one acts, it stands in the head's place at the server's
//! host. So it is driven as every endpoint is.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Violation;
use super::event::{Event, SERVER};
use super::host::Endpoint;
use super::world::World;
use crate::ids::{NodeId, StreamId, StreamOffset};
use crate::link::ReceiptKeys;
use crate::relay::Source;
use crate::text::Reason;

/// The spool of the running stream, and the heads that it feeds.
#[derive(Debug, Default)]
pub(super) struct Branches {
    /// Length of every block in the spool, by offset.
    pub(super) kept: BTreeMap<StreamOffset, u32>,
    pub(super) is_whole: bool,
    heads: BTreeMap<usize, Box<Endpoint>>,
    /// Host of the branch whose head stands in the place of the server's own.
    pub(super) fed: Option<usize>,
    /// Number of times that a node went on from the spool.
    pub(super) rejoined: u32,
    /// True if the spool is lost and keeps nothing any more.
    pub(super) is_lost: bool,
}

impl World {
    pub(super) fn open_branch(&mut self, stream: StreamId, node: NodeId) {
        let Some(&host) = self.by_id.get(&node) else {
            return;
        };
        self.close_branch(host);
        if self.branches.is_lost {
            return;
        }
        if self.rng.chance(self.scenario.spool_fails_percent) {
            self.branches.is_lost = true;
            let heads: Vec<usize> = self.branches.heads.keys().copied().collect();
            heads.into_iter().for_each(|host| self.close_branch(host));
            self.server
                .handle_spool_lost(self.now, &Reason::new("the simulated disk is full"));
            return;
        }
        let head = self.endpoint(SERVER, stream, Source::Spool, Some(node), &ReceiptKeys::default());
        self.branches.heads.insert(host, head);
    }

    pub(super) fn close_branch(&mut self, host: usize) {
        if self.branches.heads.contains_key(&host) {
            self.as_branch(host, |world| world.drop_endpoint(SERVER));
        }
    }

    /// Ends all branches. The next stream has a new spool.
    pub(super) fn clear_branches(&mut self) {
        for host in self.branch_hosts() {
            self.close_branch(host);
        }
        self.branches.kept.clear();
        self.branches.is_whole = false;
    }

    fn branch_hosts(&self) -> Vec<usize> {
        self.branches.heads.keys().copied().collect()
    }

    /// Runs `does` while the head that feeds `host` stands in the place of the server's own.
    pub(super) fn as_branch<T>(&mut self, host: usize, does: impl FnOnce(&mut Self) -> T) -> T {
        let own = self.hosts[SERVER].endpoint.take();
        self.hosts[SERVER].endpoint = self.branches.heads.remove(&host);
        self.branches.fed = Some(host);
        let done = does(self);
        self.branches.fed = None;
        if let Some(head) = std::mem::replace(&mut self.hosts[SERVER].endpoint, own) {
            self.branches.heads.insert(host, head);
        }
        done
    }

    /// Returns the branch that an event at the server belongs to.
    pub(super) fn branch_of(&self, host: usize, event: &Event) -> Option<usize> {
        let link = event.link().filter(|_| host == SERVER)?;
        let successor = self.links[link.0].successor;
        let head = self.branches.heads.get(&successor)?;
        let is_its = matches!(event, Event::Dial { .. }) || head.down == Some(link);
        is_its.then_some(successor)
    }

    pub(super) fn pump_branches(&mut self) -> Result<bool, Violation> {
        let mut busy = false;
        for host in self.branch_hosts() {
            busy |= self.as_branch(host, |world| {
                let moved = world.pump(SERVER)?;
                world.check_host(SERVER)?;
                Ok(moved)
            })?;
        }
        Ok(busy)
    }

    pub(super) fn wake_branches(&mut self) {
        let now = self.now;
        for head in self.branches.heads.values_mut() {
            head.relay.handle_timeout(now);
        }
    }

    /// Returns the next timeout of each branch's machines.
    pub(super) fn branch_timers(&self) -> Result<Vec<Duration>, Violation> {
        let timers = self.branches.heads.values().map(|head| head.relay.poll_timeout());
        let timers: Option<Vec<Duration>> = timers.collect();
        timers.ok_or_else(|| self.violation(SERVER, "a branch without a timer".to_owned()))
    }

    /// Produces for a branch as fast as its window permits, from the offset that its node asked for.
    pub(super) fn produce_kept(&mut self, endpoint: &mut Endpoint) -> bool {
        let mut moved = false;
        while endpoint.down.is_some() && endpoint.relay.wants_upstream() {
            let offset = endpoint.relay.received();
            let Some(&length) = self.branches.kept.get(&offset) else {
                if self.branches.is_whole && !endpoint.relay.has_ended() {
                    moved |= endpoint.relay.handle_end(self.now, offset).is_ok();
                }
                break;
            };
            if endpoint.relay.handle_block(self.now, offset, length).is_err() {
                break;
            }
            let tag = super::net::tag(endpoint.stream, offset, length);
            endpoint.ring.insert(offset, length, tag);
            moved = true;
        }
        moved
    }

    /// Ends the head of a branch that lost its node, and tells the run.
    pub(super) fn branch_lost(&mut self, host: usize, endpoint: &mut Endpoint) {
        endpoint.over = true;
        if let Some(node) = self.hosts[host].id {
            self.server.handle_branch_lost(self.now, endpoint.stream, node);
        }
    }
}
