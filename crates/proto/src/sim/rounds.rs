//! Rounds: the hosts that come back, the outcome of each round, and the invariants over all of them.
//!
//! A host lives several times. Each time its process joins over a connection of its own, and nothing of an
//! earlier life reaches it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Violation;
use super::event::{Event, SERVER};
use super::host::{Alive, Host};
use super::scenario::Sabotage;
use super::world::World;
use crate::ids::RunId;
use crate::node::{Ending, Node};
use crate::run::{ConnId, Failure};

/// Time that the server waits for nodes that were told to come back. None of them takes as long.
const GRACE: Duration = Duration::from_secs(20);
/// Distance between the connection numbers of two lives of a host. Numbers of hosts are smaller.
const LIFE: u64 = 1 << 20;

/// The outcome of the rounds so far.
#[derive(Debug)]
pub(super) struct Rounds {
    /// Number of the running round.
    pub(super) number: u32,
    pub(super) began: Duration,
    /// Streams of all earlier rounds. Stream numbers go on over rounds.
    streams_before: u32,
    streams_opened: u32,
    /// Hosts whose clone is good.
    pub(super) done: BTreeSet<usize>,
    /// Hosts that failed, as long as no later round has done them.
    pub(super) failed: BTreeMap<usize, Failed>,
    /// Number of times that a host came back.
    pub(super) returned: u32,
}

/// A host that failed, with the failure, the round, and the time at which that round began.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) failure: Failure,
    pub(super) round: u32,
    pub(super) began: Duration,
}

impl Rounds {
    pub(super) const fn new() -> Self {
        Self {
            number: 1,
            began: Duration::ZERO,
            streams_before: 0,
            streams_opened: 0,
            done: BTreeSet::new(),
            failed: BTreeMap::new(),
            returned: 0,
        }
    }

    pub(super) const fn opened(&mut self, stream: u32) {
        self.streams_opened = stream;
    }

    /// Begins with round 1 again, because the server was started again.
    pub(super) const fn begin_anew(&mut self, now: Duration) {
        (self.number, self.began) = (1, now);
        self.streams_before = self.streams_opened;
    }

    /// Returns the number of streams of all earlier rounds.
    pub(super) const fn streams_before(&self) -> u32 {
        self.streams_before
    }

    /// Returns the number of this stream in its round, from 1.
    pub(super) const fn stream_of_round(&self, stream: u32) -> u32 {
        stream.saturating_sub(self.streams_before)
    }
}

impl World {
    /// Ends a round. Settles its outcome and begins the next one, if there is to be one.
    pub(super) fn begin_round(&mut self) -> Result<bool, Violation> {
        self.settle_round()?;
        let number = self.rounds.number + 1;
        let byte = u8::try_from(number).unwrap_or(u8::MAX);
        let begun = self
            .server
            .next_round(self.now, RunId([byte; 16]), [byte; 32], GRACE);
        if begun.is_ok() {
            self.note(SERVER, || format!("round {number}"));
            (self.rounds.number, self.rounds.began) = (number, self.now);
            self.rounds.streams_before = self.rounds.streams_opened;
            self.end_endpoints_of_server();
        }
        Ok(begun.is_ok())
    }

    fn end_endpoints_of_server(&mut self) {
        self.drop_endpoint(SERVER);
        self.clear_branches();
    }

    /// Records the hosts that are done and those that failed. No node is done twice, except one whose release
    /// was lost and which came back with its clone. Such a clone is judged once more, and not made again.
    fn settle_round(&mut self) -> Result<(), Violation> {
        let (round, began) = (self.rounds.number, self.rounds.began);
        for (info, failure) in self.server.nodes() {
            let Some(&host) = self.by_id.get(&info.id) else {
                continue;
            };
            match failure {
                None if !self.rounds.done.insert(host) && !info.holds_clone => {
                    return Err(self.violation(host, "it is done a second time".to_owned()));
                }
                None => {
                    self.rounds.failed.remove(&host);
                    if !self.breaks(Sabotage::ForgetsWhoIsDone) {
                        self.server.mark_done(info.id);
                    }
                }
                Some(failure) => {
                    let failed = Failed {
                        failure,
                        round,
                        began,
                    };
                    self.rounds.failed.insert(host, failed);
                }
            }
        }
        Ok(())
    }

    /// Lets a process that ended look for the server again, in the cases in which `ka-client` does.
    pub(super) fn maybe_come_back(&mut self, host: usize, ending: &Ending) {
        let comes_back = matches!(
            ending,
            Ending::Aborted { again: true, .. } | Ending::ServerLost { .. }
        );
        if comes_back && self.scenario.rounds > 1 {
            self.come_back_in(host, 200, 3000);
        }
    }

    /// Starts a machine that died again, in some scenarios.
    pub(super) fn maybe_restart(&mut self, host: usize) {
        if host != SERVER && self.scenario.rounds > 1 && self.scenario.restarts {
            self.come_back_in(host, 1000, 9000);
        }
    }

    fn come_back_in(&mut self, host: usize, low_ms: u64, high_ms: u64) {
        let at = self.now + self.rng.millis(low_ms, high_ms);
        self.queue.push(at, host, None, Event::Return);
    }

    /// Begins a new life of this host, if there still is a server.
    pub(super) fn return_host(&mut self, host: usize) {
        if host == SERVER {
            return self.restart_server();
        }
        let is_back = self.hosts[host].node.is_some() && self.hosts[host].is_running();
        if self.server_over || is_back || self.breaks(Sabotage::NobodyComesBack) {
            return;
        }
        if self.server_is_down() {
            return self.come_back_in(host, 500, 3000);
        }
        self.note(host, || "comes back".to_owned());
        self.rounds.returned += 1;
        let old = &self.hosts[host];
        self.hosts[host] = Host {
            life: old.life + 1,
            cut_off_until: old.cut_off_until,
            disk_stalled_until: old.disk_stalled_until,
            hangs_in: old.hangs_in,
            fails_in: old.fails_in,
            most_streams_done: old.most_streams_done.max(old.streams_done),
            // A process's knowledge is gone with it. The contents of the disk stay.
            holds_clone: old.holds_clone && old.alive == Alive::Left,
            is_bootable: old.is_bootable,
            clones: old.clones,
            node: Some(Node::new(self.now)),
            ..Host::new()
        };
        let life = self.hosts[host].life;
        let latency = self.scenario.latency;
        self.push(SERVER, Some(host), latency, Event::Join { from: host, life });
    }

    /// Checks the rounds. Once nothing goes wrong any more, a round does every host that nothing happened to.
    /// A host that was told to come back while there were rounds left was taken into one.
    pub(super) fn check_rounds(&self) -> Result<(), Violation> {
        if self.scenario.rounds == 1 || !self.scenario.is_spared(SERVER) {
            return Ok(());
        }
        for (host, failed) in &self.rounds.failed {
            if !self.scenario.is_spared(*host) || self.set_aside.contains(host) {
                continue;
            }
            let Failed {
                failure,
                round,
                began,
            } = failed;
            if *began > self.scenario.calm_from() {
                let what = format!("nothing went wrong in round {round} any more, but: {failure}");
                return Err(self.violation(*host, what));
            }
            if failure.again && *round < self.scenario.rounds && self.rounds.number > *round {
                let what = format!("no round took it after: {failure}");
                return Err(self.violation(*host, what));
            }
        }
        Ok(())
    }
}

/// Returns the connection of a host's life.
pub(super) const fn conn_of(host: usize, life: u32) -> ConnId {
    ConnId(life as u64 * LIFE + host as u64)
}

/// Returns the host and the life of a connection.
pub(super) fn host_of(conn: ConnId) -> (usize, u32) {
    let host = usize::try_from(conn.0 % LIFE).unwrap_or(SERVER);
    (host, u32::try_from(conn.0 / LIFE).unwrap_or(u32::MAX))
}
