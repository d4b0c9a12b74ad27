//! One transfer with its measurements, and the cases with one file.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ka_tests::cgroup::Cgroup;
use ka_tests::netns::Network;
use ka_tests::process::{Program, Running};
use ka_tests::scratch::Scratch;
use ka_tests::{interrupt, multicast};

use crate::bench::cases::{Case, Kind};
use crate::bench::limit;
use crate::bench::line;
use crate::bench::median;
use crate::bench::peers::{Job, Peer, Prepared, RUN_LIMIT};
use crate::bench::report::Outcome;
use crate::cli::BenchOptions;

/// Directory in memory for payloads and received files, so that no disk is measured.
pub(crate) const MEMORY: &str = "/dev/shm";
/// Interval of looking for ended processes, and number of these intervals for each look at resident sizes.
pub(crate) const POLL: Duration = Duration::from_millis(4);
const POLLS_A_SAMPLE: u32 = 25;
/// Time within which the senders must end after the receivers.
const SENDER_LIMIT: Duration = Duration::from_secs(15);
/// Number of runs of udpcast and uftp. One must do, because they take so long.
const RUNS_OF_DATAGRAM_PEERS: usize = 1;
/// Memory that must stay free beside all copies, in bytes.
const SPARE_BYTES: u64 = 1 << 30;

/// Runs every peer `runs` times, in turns so that a busy minute affects all alike. Returns the median of
/// each.
pub(crate) fn stream_case(case: &Case, release: &Path, options: &BenchOptions) -> Result<Vec<Outcome>> {
    let scratch = Scratch::below(Path::new(MEMORY), "bench")?;
    ensure_room(scratch.path(), case.bytes * (case.nodes as u64 + 1))?;
    let source = scratch.path().join("source");
    write_noise(&source, case.bytes)?;
    let network = line::network(case)?;
    let run = StreamRun {
        network: &network,
        scratch: &scratch,
        release,
        rate: case.rate,
        source: &source,
        nodes: case.nodes,
        kept: kept(case),
    };
    let peers: Vec<Peer> = Peer::available(&options.peers)
        .into_iter()
        .filter(|peer| peer.has_row_in(case.kind))
        .filter(|peer| !peer.is_limit() || limit::program(release).is_file())
        .collect();
    let mut outcomes: Vec<Vec<Outcome>> = vec![Vec::new(); peers.len()];
    for round in 0..options.rounds() {
        for (peer, outcomes) in peers.iter().zip(&mut outcomes) {
            if peer.may_fail() && round >= RUNS_OF_DATAGRAM_PEERS {
                continue;
            }
            let outcome = run
                .of(*peer)
                .with_context(|| format!("{}: {}", case.name, peer.name()));
            let outcome = match outcome {
                Ok(outcome) => outcome,
                Err(error) if peer.may_fail() => {
                    interrupt::check()?;
                    eprintln!("  {error:#}\n  it has no row in this run");
                    continue;
                }
                Err(error) => return Err(error),
            };
            eprintln!("  {} round {}: {outcome}", case.name, round + 1);
            outcomes.push(outcome);
        }
    }
    Ok(outcomes.into_iter().filter_map(median).collect())
}

/// Returns the number of nodes that keep the file. Where processor time is asked for, it is one: the cost of writing
/// to memory is the same for everybody, differs from one moment to the next where a hypervisor gives memory page by
/// page, and hides the cost of the hop.
const fn kept(case: &Case) -> usize {
    match case.kind {
        Kind::Processor => 1,
        _ => case.nodes,
    }
}

/// A file on its way to some nodes of a network, by any program.
pub(crate) struct StreamRun<'a> {
    pub(crate) network: &'a Network,
    pub(crate) scratch: &'a Scratch,
    pub(crate) release: &'a Path,
    /// Rate of every line, in bits a second.
    pub(crate) rate: Option<u64>,
    pub(crate) source: &'a Path,
    pub(crate) nodes: usize,
    /// Number of nodes that keep the file, which is compared then. The others drop what they get.
    pub(crate) kept: usize,
}

impl StreamRun<'_> {
    /// Runs the program once and compares what was kept.
    pub(crate) fn of(&self, peer: Peer) -> Result<Outcome> {
        let nodes = if peer == Peer::Socat { 1 } else { self.nodes };
        let bytes = std::fs::metadata(self.source)?.len();
        let received = self.scratch.dir("received")?;
        let sink_of = |number: usize| match number <= self.kept {
            true => received.join(number.to_string()),
            false => PathBuf::from("/dev/null"),
        };
        let (sender, receivers) = (Cgroup::new("send")?, Cgroup::new("receive")?);
        let job = Job {
            network: self.network,
            sender: &sender,
            receivers: &receivers,
            release: self.release,
            work: self.scratch.path(),
            source: self.source.to_owned(),
            rate: self.rate,
            sinks: (1..=nodes).map(sink_of).collect(),
        };
        let sent_before = self.sent_by_nodes(nodes)?;
        let mut outcome = transfer(&job, job.prepare(peer)?)?;
        let sent = self.sent_by_nodes(nodes)? - sent_before;
        for sink in job.sinks.iter().take(self.kept) {
            Program::new("cmp")
                .arg("-s")
                .arg(&job.source)
                .arg(sink)
                .run()
                .with_context(|| format!("{}", sink.display()))?;
        }
        std::fs::remove_dir_all(&received)?;
        outcome.peer = peer.name().to_owned();
        outcome.sent_by_node = sent as f64 / bytes as f64 / nodes as f64;
        outcome.goodput = bytes as f64 / outcome.wall_seconds;
        outcome.cpu_per_gib_hop = outcome.cpu_seconds / (bytes as f64 / f64::from(1 << 30)) / nodes as f64;
        Ok(outcome)
    }

    /// Returns the bytes that the first nodes have sent on their lines since the network was made.
    fn sent_by_nodes(&self, nodes: usize) -> Result<u64> {
        let sent = |number| Ok(multicast::carried(self.network.node(number))?.sent);
        (1..=nodes).map(sent).sum()
    }
}

/// Starts the last program and waits for every receiver, then for the senders.
pub(crate) fn transfer(job: &Job<'_>, prepared: Prepared) -> Result<Outcome> {
    let Prepared {
        mut receivers,
        mut senders,
        last,
        last_receives,
    } = prepared;
    thread::sleep(Duration::from_millis(200));
    let before = (job.sender.used()?, job.receivers.used()?);
    let busy_before = machine_busy()?;
    let mut peaks = (0, 0);
    let started = Instant::now();
    if last_receives {
        receivers.push(last.spawn()?)
    } else {
        senders.push(last.spawn()?)
    }
    wait_all(job, &mut receivers, &mut peaks, RUN_LIMIT)?;
    let wall = started.elapsed();
    wait_all(job, &mut senders, &mut peaks, SENDER_LIMIT)?;
    let busy = machine_busy()?.saturating_sub(busy_before);
    let (sent, received) = (job.sender.used()? - before.0, job.receivers.used()? - before.1);
    for process in receivers.into_iter().chain(senders) {
        process.wait()?.expect(0)?;
    }
    Ok(Outcome {
        wall_seconds: wall.as_secs_f64(),
        cpu_seconds: (sent + received).as_secs_f64(),
        cpu_sender_seconds: sent.as_secs_f64(),
        machine_seconds: busy.as_secs_f64(),
        peak_sender_bytes: peaks.0,
        peak_receiver_bytes: peaks.1,
        ..Outcome::default()
    })
}

fn wait_all(job: &Job<'_>, processes: &mut [Running], peaks: &mut (u64, u64), limit: Duration) -> Result<()> {
    let started = Instant::now();
    for round in 0_u32.. {
        let mut left = 0;
        for process in &mut *processes {
            left += usize::from(!process.has_ended()?);
        }
        if left == 0 {
            return Ok(());
        }
        if round % POLLS_A_SAMPLE == 0 {
            *peaks = (
                peaks.0.max(job.sender.peak_resident()),
                peaks.1.max(job.receivers.peak_resident()),
            );
            interrupt::check()?;
        }
        if started.elapsed() > limit {
            let said: Vec<_> = processes.iter().map(Running::said).collect();
            bail!(
                "{left} processes have not ended after {} s: {}",
                limit.as_secs(),
                said.join("\n")
            );
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// Returns the time for which the machine's processors were busy since its start, interrupts included
/// (`/proc/stat`, proc(5)).
fn machine_busy() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    busy_of(&stat).context("/proc/stat has no line of all processors")
}

/// Returns the sum of user, nice, system, irq and softirq of the line `cpu`, which counts hundredths of a
/// second.
fn busy_of(stat: &str) -> Option<Duration> {
    let line = stat.lines().find(|line| line.starts_with("cpu "))?;
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .map_while(|word| word.parse().ok())
        .collect();
    let busy = [0, 1, 2, 5, 6].map(|column| ticks.get(column).copied());
    let sum = busy.into_iter().sum::<Option<u64>>()?;
    Some(Duration::from_millis(sum * 10))
}

pub(crate) fn ensure_room(dir: &Path, bytes: u64) -> Result<()> {
    let space = rustix::fs::statvfs(dir)?;
    let free = space.f_bavail * space.f_frsize;
    ensure!(
        free > bytes + SPARE_BYTES,
        "{} has {} MiB free, this case needs {}: try --quick or --only",
        dir.display(),
        free >> 20,
        (bytes + SPARE_BYTES) >> 20
    );
    Ok(())
}

/// Writes incompressible bytes, the same on every machine.
pub(crate) fn write_noise(path: &Path, bytes: u64) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut state = 0x243f_6a88_85a3_08d3_u64;
    for _ in 0..bytes / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.write_all(&state.to_le_bytes())?;
    }
    out.flush().context("writing the payload")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_count_as_busy_and_waiting_does_not() {
        let stat = "cpu  100 20 30 9999 8888 4 5 777 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(busy_of(stat), Some(Duration::from_millis(1590)));
        assert_eq!(busy_of("cpu0 1 1 1 1 1 1 1"), None);
        assert_eq!(busy_of("cpu  1 2 3"), None);
    }
}
