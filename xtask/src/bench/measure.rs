//! One transfer with its accounts, and the cases that carry one file.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ka_tests::cgroup::Cgroup;
use ka_tests::interrupt;
use ka_tests::netns::Network;
use ka_tests::process::{Program, Running};
use ka_tests::scratch::Scratch;

use crate::bench::cases::Case;
use crate::bench::median;
use crate::bench::peers::{Job, Peer, Prepared, RUN_LIMIT};
use crate::bench::report::Outcome;
use crate::cli::BenchOptions;

/// Payloads and received files lie in memory, so that no disk is measured.
pub(crate) const MEMORY: &str = "/dev/shm";
/// How often ends are looked for, and how often resident sizes.
pub(crate) const POLL: Duration = Duration::from_millis(4);
const POLLS_A_SAMPLE: u32 = 25;
/// A sender may stay behind its receivers for so long.
const SENDER_LIMIT: Duration = Duration::from_secs(15);
/// Datagram tools take so long that one run must do.
const RUNS_OF_UDPCAST: usize = 1;
/// Memory that must stay free beside all copies, in bytes.
const SPARE_BYTES: u64 = 1 << 30;

/// Runs every peer `runs` times, in turns so that a busy minute hits all alike, and takes the median of each.
pub(crate) fn stream_case(case: &Case, release: &Path, options: &BenchOptions) -> Result<Vec<Outcome>> {
    let scratch = Scratch::below(Path::new(MEMORY), "bench")?;
    ensure_room(scratch.path(), case.bytes * (case.nodes as u64 + 1))?;
    let source = scratch.path().join("source");
    write_noise(&source, case.bytes)?;
    let network = Network::new(case.nodes, case.rate)?;
    let peers: Vec<Peer> = Peer::available(&options.peers)
        .into_iter()
        .filter(|peer| peer.carries_streams())
        .collect();
    let mut outcomes: Vec<Vec<Outcome>> = vec![Vec::new(); peers.len()];
    for round in 0..options.rounds() {
        for (peer, outcomes) in peers.iter().zip(&mut outcomes) {
            if *peer == Peer::Udpcast && round >= RUNS_OF_UDPCAST {
                continue;
            }
            let outcome = stream_run(case, *peer, &network, &scratch, release)
                .with_context(|| format!("{}: {}", case.name, peer.name()))?;
            eprintln!("  {} round {}: {outcome}", case.name, round + 1);
            outcomes.push(outcome);
        }
    }
    Ok(outcomes.into_iter().filter_map(median).collect())
}

fn stream_run(
    case: &Case,
    peer: Peer,
    network: &Network,
    scratch: &Scratch,
    release: &Path,
) -> Result<Outcome> {
    let nodes = if peer == Peer::Socat { 1 } else { case.nodes };
    let received = scratch.dir("received")?;
    let (sender, receivers) = (Cgroup::new("send")?, Cgroup::new("receive")?);
    let job = Job {
        network,
        sender: &sender,
        receivers: &receivers,
        release,
        work: scratch.path(),
        source: scratch.path().join("source"),
        sinks: (1..=nodes)
            .map(|number| received.join(number.to_string()))
            .collect(),
    };
    let mut outcome = transfer(&job, job.prepare(peer)?)?;
    for sink in &job.sinks {
        Program::new("cmp")
            .arg("-s")
            .arg(&job.source)
            .arg(sink)
            .run()
            .with_context(|| format!("{}", sink.display()))?;
    }
    std::fs::remove_dir_all(&received)?;
    outcome.peer = peer.name().to_owned();
    outcome.goodput = case.bytes as f64 / outcome.wall_seconds;
    outcome.cpu_per_gib_hop = outcome.cpu_seconds / (case.bytes as f64 / f64::from(1 << 30)) / nodes as f64;
    Ok(outcome)
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
    let (sent, received) = (job.sender.used()? - before.0, job.receivers.used()? - before.1);
    for process in receivers.into_iter().chain(senders) {
        process.wait()?.expect(0)?;
    }
    Ok(Outcome {
        wall_seconds: wall.as_secs_f64(),
        cpu_seconds: (sent + received).as_secs_f64(),
        cpu_sender_seconds: sent.as_secs_f64(),
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

/// Incompressible, and the same on every machine.
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
