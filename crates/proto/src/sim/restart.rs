//! A server that is killed and started again with the same state directory. It knows the nodes that had
//! reported, and goes on with the others, which look for it.
//!
//! Its kernel refuses connections of its former life. Stream numbers go on, so that no data of the earlier
//! life can pass for new data here. On the wire the run's number and key ensure that.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Violation;
use super::control::{node_ip, node_name};
use super::event::{Event, SERVER};
use super::host::{Alive, Host};
use super::scenario::{Fault, Sabotage};
use super::world::World;
use crate::identity::Identity;
use crate::ids::RunId;
use crate::run::{ConnId, NodeInfo, Run, RunConfig};

/// State that outlives the server's process, or belongs to one life of it.
#[derive(Debug, Default)]
pub(super) struct Lives {
    /// Number of restarts of the server.
    pub(super) restarts: u32,
    /// Connections of this life.
    connections: BTreeSet<ConnId>,
    /// Hosts whose report was kept before anything else was done.
    reported: BTreeSet<usize>,
}

impl World {
    /// Ends the server's life. The run is over, and the nodes notice by themselves, or the server comes back.
    pub(super) fn lose_server(&mut self, host: usize) {
        if host != SERVER {
            return;
        }
        if self.scenario.server_restarts && self.scenario.rounds > 1 {
            let at = self.now + self.rng.millis(500, 8000);
            self.queue.push(at, SERVER, None, Event::Return);
        } else {
            (self.server_over, self.server_gone) = (true, true);
        }
    }

    /// True if no process answers at the server's address now.
    pub(super) fn server_is_down(&self) -> bool {
        matches!(self.hosts[SERVER].alive, Alive::Dead | Alive::Gone)
    }

    pub(super) fn note_connection(&mut self, conn: ConnId) {
        self.lives.connections.insert(conn);
    }

    /// True if this process has accepted the connection. One of another process gets a reset from the kernel.
    pub(super) fn knows_connection(&self, conn: ConnId) -> bool {
        self.lives.connections.contains(&conn)
    }

    pub(super) fn keep_report(&mut self, node: &NodeInfo) {
        if let Some(&host) = self.by_id.get(&node.id) {
            self.lives.reported.insert(host);
        }
    }

    pub(super) fn restart_server(&mut self) {
        self.lives.restarts += 1;
        self.lives.connections.clear();
        self.rounds.begin_anew(self.now);
        let done: BTreeSet<usize> = self.rounds.done.union(&self.lives.reported).copied().collect();
        self.note(SERVER, || format!("starts again, {done:?} are done"));
        self.hosts[SERVER] = Host {
            life: self.lives.restarts,
            cut_off_until: self.hosts[SERVER].cut_off_until,
            ..Host::new()
        };
        self.by_id.clear();
        self.clear_branches();
        self.branches.is_lost = false;
        self.produced = 0;
        let wanted = self.scenario.wanted.saturating_sub(done.len());
        let byte = u8::try_from(100 + self.lives.restarts).unwrap_or(u8::MAX);
        let config = RunConfig {
            run: RunId([byte; 16]),
            wanted: u32::try_from(wanted).ok(),
            ..super::server::config(&self.scenario)
        };
        self.server = Run::new(config, self.now);
        self.server.number_streams_from(self.rounds.streams_before());
        for host in done {
            self.rounds.done.insert(host);
            if !self.breaks(Sabotage::ForgetsWhoIsDone) {
                self.server.remember_done(identity_of(host));
            }
        }
        // The server had all nodes that were wanted, and only had to tell them.
        self.server_over = wanted == 0;
    }

    /// Checks that every node is done in the end if the faults hit the server only.
    pub(super) fn check_restarted(&self) -> Result<(), Violation> {
        let is_calm = |planned: &super::Planned| {
            let dies = matches!(planned.fault, Fault::Kill | Fault::PowerCut);
            (planned.host == SERVER && dies) || self.scenario.is_spared(planned.host)
        };
        if self.lives.restarts == 0 || !self.scenario.faults.iter().all(is_calm) {
            return Ok(());
        }
        let left = (1..self.hosts.len())
            .filter(|host| !self.set_aside.contains(host) && self.scenario.twin != Some(*host))
            .find(|host| !self.rounds.done.contains(host));
        match left {
            Some(host) if self.rounds.done.len() < self.scenario.wanted => {
                Err(self.violation(host, "the server was started again, and did not do it".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Returns the longest time of a run. Each life of the server may have all its rounds.
    pub(super) fn limit(&self, of_round: Duration) -> Duration {
        of_round * self.scenario.rounds * (1 + self.lives.restarts)
    }
}

/// Returns the identity by which a server remembers a host.
fn identity_of(host: usize) -> Identity {
    Identity {
        mac: None,
        name: node_name(host),
        addr: node_ip(host),
    }
}
