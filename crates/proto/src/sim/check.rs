//! The invariants: some after every event, some at the end.

use super::Violation;
use super::event::SERVER;
use super::host::Alive;
use super::scenario::Fault;
use super::world::World;
use crate::node::Ending;

impl World {
    /// No host holds more than its window, nor anything that its machine does not know of.
    pub(super) fn check_host(&self, host: usize) -> Result<(), Violation> {
        let Some(endpoint) = &self.hosts[host].endpoint else {
            return Ok(());
        };
        let held: u64 = endpoint.ring.values().map(|(length, _)| u64::from(*length)).sum();
        let known = endpoint.relay.buffered();
        if held != known {
            return Err(self.violation(
                host,
                format!("{held} bytes are held, the machine knows of {known}"),
            ));
        }
        if held > self.scenario.window_bytes {
            return Err(self.violation(host, format!("{held} bytes are held, over the window")));
        }
        Ok(())
    }

    pub(super) fn check_end(&self) -> Result<(), Violation> {
        if !self.server_over {
            return Err(self.violation(
                SERVER,
                "nothing happens any more, and the run is not over".to_owned(),
            ));
        }
        let twin = self.scenario.twin.filter(|host| self.is_bad(*host));
        if let Some(host) = twin.filter(|host| self.hosts[*host].is_bootable) {
            return Err(self.violation(host, "its clone was judged bad, and can be booted".to_owned()));
        }
        if self.server_gone {
            return self.check_orphans();
        }
        for host in self.rounds.done.iter().filter(|host| !self.is_liar(**host)) {
            self.check_done(*host)?;
        }
        if self.scenario.liar.is_some() {
            return self.check_liar();
        }
        let first = self.rounds.failed.iter().filter(|(_, failed)| failed.round == 1);
        for (host, failed) in first {
            if self.must_be_done(*host) {
                let what = format!("nothing happened to it, but: {}", failed.failure);
                return Err(self.violation(*host, what));
            }
        }
        self.check_restarted()?;
        self.check_rounds()
    }

    /// Returns true if this host's clone is no good.
    pub(super) fn is_bad(&self, host: usize) -> bool {
        self.scenario.twin == Some(host) && self.hosts[host].clones == 1
    }

    /// Without a server every process that lives has found out, and ended.
    fn check_orphans(&self) -> Result<(), Violation> {
        let lives = |host: &usize| matches!(self.hosts[*host].alive, Alive::Up | Alive::Frozen(_));
        let left = (1..self.hosts.len()).find(|host| lives(host) && self.hosts[*host].ending.is_none());
        left.map_or(Ok(()), |host| {
            Err(self.violation(host, "the server is gone, and it still waits".to_owned()))
        })
    }

    /// A node that the server counts as done has all of every stream and knows it.
    fn check_done(&self, host: usize) -> Result<(), Violation> {
        let slot = &self.hosts[host];
        let done = slot.streams_done.max(slot.most_streams_done);
        if done != self.scenario.streams {
            let all = self.scenario.streams;
            return Err(self.violation(host, format!("counted as done with {done} of {all} streams")));
        }
        if self.scenario.commits && !slot.is_bootable {
            return Err(self.violation(host, "counted as done, and its clone cannot be booted".to_owned()));
        }
        let released = matches!(slot.ending, Some(Ending::Released { .. }));
        if !released && self.scenario.is_spared(host) && self.scenario.is_spared(SERVER) {
            return Err(self.violation(host, format!("counted as done, but it saw {:?}", slot.ending)));
        }
        Ok(())
    }

    /// Nothing happened to it, and what happened to others must not reach it: without healing, faults above it in
    /// the chain do; with healing, only more lost neighbours in a row than tolerated.
    fn must_be_done(&self, host: usize) -> bool {
        if !self.scenario.is_spared(host)
            || !self.scenario.is_spared(SERVER)
            || self.set_aside.contains(&host)
        {
            return false;
        }
        if self.scenario.heal {
            return self.is_fed_at_worst() || self.longest_gap() <= usize::from(self.scenario.tolerance);
        }
        (1..host).all(|above| self.scenario.is_spared(above) || self.only_stalls(above))
    }

    /// What it misses is kept, and so few were hit that there is room for it.
    fn is_fed_at_worst(&self) -> bool {
        let hit = |host: &usize| !self.scenario.is_spared(*host) || self.set_aside.contains(host);
        let hit = (1..self.hosts.len()).filter(hit).count();
        self.scenario.spool && !self.branches.is_lost && hit <= 2
    }

    /// A node whose disk stalls goes on. One whose disk fails goes on as a relay if it says so while the server thinks it
    /// in that stream; between two streams the words cross, and it is gone: so nothing is claimed of those below it.
    fn only_stalls(&self, host: usize) -> bool {
        let mut faults = self.scenario.faults.iter().filter(|planned| planned.host == host);
        faults.all(|planned| matches!(planned.fault, Fault::DiskStall(_)))
    }

    fn longest_gap(&self) -> usize {
        let mut longest = 0;
        let mut gap = 0;
        for host in 1..self.hosts.len() {
            let stays = self.scenario.is_spared(host) && !self.set_aside.contains(&host);
            gap = if stays { 0 } else { gap + 1 };
            longest = longest.max(gap);
        }
        longest
    }
}
