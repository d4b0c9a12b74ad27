//! What a fault costs the others (issue 4 §1): eight nodes in a chain, one fault at two fifths of the transfer, and the time
//! that the survivors need beyond an undisturbed run.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ka_tests::cgroup::Cgroup;
use ka_tests::interrupt;
use ka_tests::netns::Network;
use ka_tests::process::{Program, Running};
use ka_tests::scratch::Scratch;
use nix::sys::signal::Signal;

use crate::bench::cases::Case;
use crate::bench::measure::{MEMORY, POLL, ensure_room, write_noise};
use crate::bench::median;
use crate::bench::peers::{Job, Prepared, RUN_LIMIT};
use crate::bench::report::{FaultCost, Outcome};
use crate::cli::BenchOptions;

/// Part of an undisturbed transfer after which the fault comes.
const FAULT_AT: f64 = 0.4;

/// What goes wrong.
#[derive(Debug, Clone, Copy)]
enum What {
    Nothing,
    /// SIGKILL: the kernel closes the connections.
    Killed,
    /// SIGSTOP: the kernel goes on answering for a process that does nothing.
    Stopped,
    /// The node's port of the switch goes down: no connection closes.
    Unplugged,
}

/// A fault and the nodes that it hits, counted from 1.
struct Fault {
    name: &'static str,
    what: What,
    nodes: &'static [usize],
}

/// The first one is what the others are compared with.
const FAULTS: [Fault; 8] = [
    fault("undisturbed", What::Nothing, &[]),
    fault("first node killed", What::Killed, &[1]),
    fault("middle node killed", What::Killed, &[4]),
    fault("last node killed", What::Killed, &[8]),
    fault("two neighbours killed", What::Killed, &[4, 5]),
    fault("two places killed", What::Killed, &[2, 6]),
    fault("middle node stopped", What::Stopped, &[4]),
    fault("middle node unplugged", What::Unplugged, &[4]),
];

const fn fault(name: &'static str, what: What, nodes: &'static [usize]) -> Fault {
    Fault { name, what, nodes }
}

/// Every fault `runs` times, in turns; the median of each.
pub(crate) fn fault_case(case: &Case, release: &Path, options: &BenchOptions) -> Result<Vec<Outcome>> {
    let scratch = Scratch::below(Path::new(MEMORY), "bench-faults")?;
    ensure_room(scratch.path(), case.bytes * (case.nodes as u64 + 1))?;
    write_noise(&scratch.path().join("source"), case.bytes)?;
    let network = Network::new(case.nodes, case.rate)?;
    let bed = Bed {
        case,
        network,
        scratch,
        release,
    };
    let mut undisturbed = None;
    let mut outcomes: Vec<Vec<Outcome>> = FAULTS.iter().map(|_| Vec::new()).collect();
    for round in 0..options.rounds() {
        for (fault, outcomes) in FAULTS.iter().zip(&mut outcomes) {
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
    /// One transfer with its fault. Survivors must have every byte, and nobody else may be lost.
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
            sinks: (1..=self.case.nodes)
                .map(|number| received.join(number.to_string()))
                .collect(),
        };
        let Prepared {
            receivers: mut nodes,
            mut senders,
            last,
            ..
        } = job.ka(&["--rounds", "1"])?;
        let server = senders.pop().context("a run without a server")?;
        thread::sleep(Duration::from_millis(200));
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
        let outcome = outcome?;
        run.end()?;
        for (number, sink) in (1..)
            .zip(&job.sinks)
            .filter(|(number, _)| !fault.nodes.contains(number))
        {
            let compared = Program::new("cmp").arg("-s").arg(&job.source).arg(sink).run();
            compared.with_context(|| format!("node {number}"))?;
        }
        std::fs::remove_dir_all(&received)?;
        Ok(outcome)
    }

    fn network_is_whole(&self, fault: &Fault) -> Result<()> {
        if matches!(fault.what, What::Unplugged) {
            for &node in fault.nodes {
                self.network.set_plugged(node, true)?;
            }
        }
        Ok(())
    }
}

/// A transfer that is under way.
struct Transfer<'a> {
    bed: &'a Bed<'a>,
    fault: &'a Fault,
    server: Running,
    nodes: Vec<Running>,
    started: Instant,
}

impl Transfer<'_> {
    /// To the exit of the last survivor.
    fn follow(&mut self, undisturbed: Option<f64>) -> Result<Outcome> {
        let fault_after = undisturbed.map(|wall| Duration::from_secs_f64(wall * FAULT_AT));
        let mut hit = None;
        let mut noticed = None;
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
                hit = Some(Instant::now());
            }
            if hit.is_some() && noticed.is_none() && self.all_are_named() {
                noticed = hit.map(|hit| hit.elapsed());
            }
            interrupt::check()?;
            thread::sleep(POLL);
        }
        let wall = self.started.elapsed().as_secs_f64();
        if noticed.is_none() && self.all_are_named() {
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
            }),
            ..Outcome::default()
        })
    }

    fn is_hit(&self, number: usize) -> bool {
        self.fault.nodes.contains(&number)
    }

    fn survivors_left(&mut self) -> Result<usize> {
        let mut left = 0;
        for number in 1..=self.nodes.len() {
            if !self.is_hit(number) && !self.nodes[number - 1].has_ended()? {
                left += 1;
            }
        }
        Ok(left)
    }

    fn strike(&mut self) -> Result<()> {
        for &number in self.fault.nodes {
            let node = &mut self.nodes[number - 1];
            match self.fault.what {
                What::Nothing => {}
                What::Killed => node.signal(Signal::SIGKILL)?,
                What::Stopped => node.signal(Signal::SIGSTOP)?,
                What::Unplugged => self.bed.network.set_plugged(number, false)?,
            }
        }
        Ok(())
    }

    /// Whether the server has said of every node that was hit that it failed.
    fn all_are_named(&self) -> bool {
        let said = self.server.said();
        let is_named = |number: &usize| {
            let name = format!("n{number} ");
            said.lines()
                .any(|line| line.contains(&name) && line.contains("FAILED"))
        };
        self.fault.nodes.iter().all(is_named)
    }

    /// The survivors ended well, the server named the others, and these are ended now.
    fn end(self) -> Result<()> {
        let code = if self.fault.nodes.is_empty() { 0 } else { 3 };
        for (number, node) in (1..).zip(self.nodes) {
            if self.fault.nodes.contains(&number) {
                node.kill_alone().ok();
            } else {
                node.wait()?.expect(0).with_context(|| format!("node {number}"))?;
            }
        }
        self.server.wait()?.expect(code).map(drop)
    }
}
