//! Cost of a fault for the other nodes: eight nodes in a chain or a multicast group, one fault at two fifths of
//! the transfer, and the time that the survivors need beyond an undisturbed run.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ka_tests::cgroup::Cgroup;
use ka_tests::netns::Network;
use ka_tests::process::{Program, Running};
use ka_tests::scratch::Scratch;
use ka_tests::{interrupt, multicast};
use nix::sys::signal::Signal;

use crate::bench::cases::{Case, Kind};
use crate::bench::fault_kinds::{Fault, What};
use crate::bench::line;
use crate::bench::measure::{MEMORY, POLL, ensure_room, write_noise};
use crate::bench::median;
use crate::bench::peers::{Job, Prepared, RUN_LIMIT, Transport};
use crate::bench::report::{FaultCost, Outcome};
use crate::cli::BenchOptions;

/// Time of the fault, as a part of an undisturbed transfer.
const FAULT_AT: f64 = 0.4;

/// Number of bytes that a node must get after the group went dark to count as going on.
const GOES_ON: u64 = 1 << 20;

/// Runs every fault `runs` times, in turns. Returns the median of each.
pub(crate) fn fault_case(case: &Case, release: &Path, options: &BenchOptions) -> Result<Vec<Outcome>> {
    let scratch = Scratch::below(Path::new(MEMORY), "bench-faults")?;
    ensure_room(scratch.path(), case.bytes * (case.nodes as u64 + 1))?;
    write_noise(&scratch.path().join("source"), case.bytes)?;
    let network = line::network(case)?;
    let faults = Fault::of(case.kind);
    let bed = Bed {
        case,
        network,
        scratch,
        release,
    };
    let mut undisturbed = None;
    let mut outcomes: Vec<Vec<Outcome>> = faults.iter().map(|_| Vec::new()).collect();
    for round in 0..options.rounds() {
        for (fault, outcomes) in faults.iter().zip(&mut outcomes) {
            let outcome = bed
                .run(fault, undisturbed)
                .with_context(|| format!("{}: {}", case.name, fault.name))?;
            undisturbed.get_or_insert(outcome.wall_seconds);
            eprintln!("  {} round {}: {outcome}", case.name, round + 1);
            outcomes.push(outcome);
        }
    }
    Ok(outcomes.into_iter().filter_map(median).collect())
}

struct Bed<'a> {
    case: &'a Case,
    network: Network,
    scratch: Scratch,
    release: &'a Path,
}

impl Bed<'_> {
    /// Runs one transfer with its fault. Fails if a survivor lacks a byte, or if another node is lost.
    fn run(&self, fault: &Fault, undisturbed: Option<f64>) -> Result<Outcome> {
        let received = self.scratch.dir("received")?;
        let (sender, receivers) = (Cgroup::new("send")?, Cgroup::new("receive")?);
        let job = Job {
            network: &self.network,
            sender: &sender,
            receivers: &receivers,
            release: self.release,
            work: self.scratch.path(),
            source: self.scratch.path().join("source"),
            rate: self.case.rate,
            sinks: (1..=self.case.nodes)
                .map(|number| received.join(number.to_string()))
                .collect(),
        };
        let Prepared {
            receivers: mut nodes,
            mut senders,
            last,
            ..
        } = job.ka(self.transport(), &["--rounds", "1"])?;
        let server = senders.pop().context("a run without a server")?;
        thread::sleep(Duration::from_millis(200));
        let before = self.received()?;
        let started = Instant::now();
        nodes.push(last.spawn()?);
        let mut run = Transfer {
            bed: self,
            fault,
            server,
            nodes,
            started,
        };
        let outcome = run.follow(undisturbed);
        self.network_is_whole(fault)?;
        let mut outcome = outcome?;
        let after = self.received()?;
        run.end()?;
        if let Some(cost) = &mut outcome.fault {
            let survivors = (1..)
                .zip(before.iter().zip(&after))
                .filter(|(number, _)| !fault.hits(*number));
            let most = survivors.map(|(_, (before, after))| after - before).max();
            cost.received_ratio = most.unwrap_or_default() as f64 / self.case.bytes as f64;
        }
        for (number, sink) in (1..).zip(&job.sinks).filter(|(number, _)| !fault.hits(*number)) {
            let compared = Program::new("cmp").arg("-s").arg(&job.source).arg(sink).run();
            compared.with_context(|| format!("node {number}"))?;
        }
        std::fs::remove_dir_all(&received)?;
        Ok(outcome)
    }

    fn transport(&self) -> Transport {
        match self.case.kind {
            Kind::GroupFault => Transport::Multicast,
            _ => Transport::Chain,
        }
    }

    /// Returns the bytes that each node has received on its line since the network was made.
    fn received(&self) -> Result<Vec<u64>> {
        (1..=self.case.nodes)
            .map(|number| Ok(multicast::carried(self.network.node(number))?.received))
            .collect()
    }

    fn network_is_whole(&self, fault: &Fault) -> Result<()> {
        for &node in fault.nodes {
            match fault.what {
                What::Unplugged => self.network.set_plugged(node, true)?,
                What::Slowed => self.network.reshape(node, self.rate()?, None)?,
                What::Nothing | What::Killed | What::Stopped | What::Dark => {}
            }
        }
        Ok(())
    }

    fn rate(&self) -> Result<u64> {
        self.case.rate.context("a slow line needs the rate of the others")
    }
}

/// A running transfer.
struct Transfer<'a> {
    bed: &'a Bed<'a>,
    fault: &'a Fault,
    server: Running,
    nodes: Vec<Running>,
    started: Instant,
}

impl Transfer<'_> {
    /// Follows the transfer to the exit of the last survivor.
    fn follow(&mut self, undisturbed: Option<f64>) -> Result<Outcome> {
        let fault_after = undisturbed.map(|wall| Duration::from_secs_f64(wall * FAULT_AT));
        let mut hit: Option<Instant> = None;
        let mut noticed = None;
        let mut at_fault = Vec::new();
        while self.survivors_left()? > 0 {
            let now = self.started.elapsed();
            ensure!(
                now < RUN_LIMIT,
                "not over after {} s: {}",
                now.as_secs(),
                self.server.said()
            );
            if hit.is_none() && fault_after.is_some_and(|after| now >= after) {
                self.strike()?;
                at_fault = self.received();
                hit = Some(Instant::now());
            }
            if hit.is_some() && noticed.is_none() && self.is_noticed(&at_fault)? {
                noticed = hit.map(|hit| hit.elapsed());
            }
            interrupt::check()?;
            thread::sleep(POLL);
        }
        let wall = self.started.elapsed().as_secs_f64();
        if hit.is_some() && noticed.is_none() && self.is_noticed(&at_fault)? {
            noticed = hit.map(|hit| hit.elapsed());
        }
        let noticed = noticed.unwrap_or_default().as_secs_f64();
        let lost = undisturbed.map_or(0.0, |undisturbed| (wall - undisturbed).max(0.0));
        Ok(Outcome {
            peer: self.fault.name.to_owned(),
            wall_seconds: wall,
            goodput: self.bed.case.bytes as f64 / wall,
            fault: Some(FaultCost {
                noticed_seconds: noticed,
                lost_seconds: lost,
                ..FaultCost::default()
            }),
            ..Outcome::default()
        })
    }

    fn survivors_left(&mut self) -> Result<usize> {
        let mut left = 0;
        for number in 1..=self.nodes.len() {
            if !self.fault.hits(number) && !self.nodes[number - 1].has_ended()? {
                left += 1;
            }
        }
        Ok(left)
    }

    fn strike(&mut self) -> Result<()> {
        if self.fault.what == What::Dark {
            multicast::forget_members(&self.bed.network)?;
        }
        for &number in self.fault.nodes {
            let node = &mut self.nodes[number - 1];
            match self.fault.what {
                What::Nothing | What::Dark => {}
                What::Killed => node.signal(Signal::SIGKILL)?,
                What::Stopped => node.signal(Signal::SIGSTOP)?,
                What::Unplugged => self.bed.network.set_plugged(number, false)?,
                What::Slowed => {
                    let slow = self.bed.rate()? / 4;
                    self.bed.network.reshape(number, slow, None)?;
                }
            }
        }
        Ok(())
    }

    /// True if the server has named every node that the fault hit or, when the group went dark, if the data goes on
    /// at every node.
    fn is_noticed(&mut self, at_fault: &[u64]) -> Result<bool> {
        if self.fault.what == What::Dark {
            let now = self.received();
            let mut all_go_on = true;
            for ((node, now), then) in self.nodes.iter_mut().zip(now).zip(at_fault) {
                all_go_on &= now >= then + GOES_ON || node.has_ended()?;
            }
            return Ok(all_go_on);
        }
        let said = self.server.said();
        let is_named = |number: &usize| said.lines().any(|line| self.fault.is_named_in(line, *number));
        Ok(self.fault.nodes.iter().all(is_named))
    }

    /// Returns the bytes that each node has received on its line.
    fn received(&self) -> Vec<u64> {
        self.nodes.iter().map(received_by).collect()
    }

    /// Checks that the survivors ended well and that the server reported the other nodes, and ends those.
    fn end(self) -> Result<()> {
        let code = match (self.fault.what, self.fault.nodes) {
            (_, []) => Some(0),
            // It may have been left behind, or have caught up: both are right.
            (What::Slowed, _) => None,
            _ => Some(3),
        };
        for (number, node) in (1..).zip(self.nodes) {
            if self.fault.hits(number) {
                node.kill_alone().ok();
            } else {
                node.wait()?.expect(0).with_context(|| format!("node {number}"))?;
            }
        }
        let ended = self.server.wait()?;
        code.map_or(Ok(()), |code| ended.expect(code).map(drop))
    }
}

/// Returns the bytes that a process's host has received on its line, as that process sees it: zero if it has
/// ended.
fn received_by(process: &Running) -> u64 {
    let table = std::fs::read_to_string(format!("/proc/{}/net/dev", process.pid())).unwrap_or_default();
    received_in(&table).unwrap_or_default()
}

/// Returns the received bytes of eth0 in `/proc/net/dev` (proc(5)).
fn received_in(table: &str) -> Option<u64> {
    let counts = table.lines().find_map(|line| line.trim().strip_prefix("eth0:"))?;
    counts.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn received_bytes_are_those_of_the_line() {
        let table = "Inter-|   Receive\n face |bytes packets\n    lo:     7  1 0\n  eth0: 4242  17 0 0 0\n";
        assert_eq!(received_in(table), Some(4242));
        assert_eq!(received_in("    lo: 7 1\n"), None);
    }
}
