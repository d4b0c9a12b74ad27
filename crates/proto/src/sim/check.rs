//! The invariants. Some hold after every event, some at the end.

use super::Violation;
use super::event::SERVER;
use super::host::Alive;
use super::net::{Item, LinkId};
use super::world::World;
use crate::node::Ending;

impl World {
    /// Checks that no host holds more than its window, nor any block that its machine does not know.
    pub(super) fn check_host(&self, host: usize) -> Result<(), Violation> {
        let Some(endpoint) = &self.hosts[host].endpoint else {
            return Ok(());
        };
        let held = endpoint.ring.held();
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

    /// Checks that no byte goes over a link twice, and none that the successor had before.
    pub(super) fn check_once(&mut self, host: usize, link: LinkId, item: &Item) -> Result<(), Violation> {
        let Item::Block { offset, length, .. } = *item else {
            return Ok(());
        };
        self.linked_bytes += u64::from(length);
        let link = &mut self.links[link.0];
        let is_new = offset >= link.sent;
        link.sent = offset.plus(u64::from(length));
        if is_new {
            return Ok(());
        }
        Err(self.violation(host, format!("the block at {offset} goes over a link twice")))
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

    /// Returns true if this host's clone is bad.
    pub(super) fn is_bad(&self, host: usize) -> bool {
        self.scenario.twin == Some(host) && self.hosts[host].clones == 1
    }

    /// Checks that without a server every living process has noticed that, and ended.
    fn check_orphans(&self) -> Result<(), Violation> {
        let lives = |host: &usize| matches!(self.hosts[*host].alive, Alive::Up | Alive::Frozen(_));
        let left = (1..self.hosts.len()).find(|host| lives(host) && self.hosts[*host].ending.is_none());
        left.map_or(Ok(()), |host| {
            Err(self.violation(host, "the server is gone, and it still waits".to_owned()))
        })
    }

    /// Checks that a node that is done for the server has all of every stream and knows it.
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

    /// Returns true if this host must be done. Nothing happened to it, and the faults of others must not
    /// reach it, unless more neighbours in a row were lost than are tolerated.
    fn must_be_done(&self, host: usize) -> bool {
        if !self.scenario.is_spared(host)
            || !self.scenario.is_spared(SERVER)
            || self.set_aside.contains(&host)
        {
            return false;
        }
        self.is_fed_at_worst() || self.longest_gap() <= usize::from(self.scenario.tolerance)
    }

    /// Returns true if the spool has the data that the host misses, and few enough hosts were hit that the
    /// chain has room for it.
    fn is_fed_at_worst(&self) -> bool {
        let hit = |host: &usize| !self.scenario.is_spared(*host) || self.set_aside.contains(host);
        let hit = (1..self.hosts.len()).filter(hit).count();
        self.scenario.spool && !self.branches.is_lost && hit <= 2
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
