//! The boot case: many machines at once fetch a stage1 by HTTP from `ka-pxe` over one line.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ka_tests::cgroup::Cgroup;
use ka_tests::netns::{GOLDEN_ADDRESS, Network};
use ka_tests::process::Program;
use ka_tests::scratch::Scratch;

use crate::bench::cases::Case;
use crate::bench::measure::{MEMORY, write_noise};
use crate::bench::median;
use crate::bench::peers::Peer;
use crate::bench::report::Outcome;
use crate::cli::BenchOptions;

/// Time limit of each round.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs the case. Each machine is a curl with an address of its own, and all share one line.
pub(crate) fn boot_case(case: &Case, release: &Path, options: &BenchOptions) -> Result<Vec<Outcome>> {
    let scratch = Scratch::below(Path::new(MEMORY), "bench-boot")?;
    let each = case.bytes / case.nodes as u64;
    let image = scratch.path().join("image");
    write_noise(&image, each)?;
    for name in ["pxelinux.0", "ldlinux.c32"] {
        fs::write(scratch.path().join(name), name)?;
    }
    let network = Network::new(1, case.rate)?;
    for machine in 0..case.nodes {
        network
            .node(1)
            .ip(&format!("addr add {}/24 dev eth0", address(machine)))?;
    }
    let (sender, receivers) = (Cgroup::new("send")?, Cgroup::new("receive")?);
    let mut server = Program::new(release.join("ka-pxe"))
        .args(["serve", "--iface", "eth0", "--kernel"])
        .arg(&image)
        .arg("--boot-files")
        .arg(scratch.path())
        .arg("--state-dir")
        .arg(scratch.path())
        .inside(network.golden())
        .cgroup(sender.path())
        .limit(LIMIT * 10)
        .spawn()?;
    server.wait_for("serving")?;
    let mut outcomes = Vec::new();
    for round in 0..options.rounds() {
        let before = (sender.used()?, receivers.used()?);
        let wall_seconds = round_of(case, &network, &receivers, each)?;
        let (sent, received) = (sender.used()? - before.0, receivers.used()? - before.1);
        let outcome = Outcome {
            peer: Peer::Ka.name().to_owned(),
            wall_seconds,
            goodput: case.bytes as f64 / wall_seconds,
            cpu_seconds: sent.as_secs_f64() + received.as_secs_f64(),
            cpu_sender_seconds: sent.as_secs_f64(),
            cpu_per_gib_hop: (sent + received).as_secs_f64() / (case.bytes as f64 / f64::from(1 << 30)),
            ..Outcome::default()
        };
        eprintln!("  {} round {}: {outcome}", case.name, round + 1);
        outcomes.push(outcome);
    }
    Ok(median(outcomes).into_iter().collect())
}

/// Seconds until the last machine has its file.
fn round_of(case: &Case, network: &Network, receivers: &Cgroup, each: u64) -> Result<f64> {
    let started = Instant::now();
    let machines: Vec<_> = (0..case.nodes)
        .map(|machine| {
            let url = format!("http://{GOLDEN_ADDRESS}/vmlinuz");
            Program::new("curl")
                .args(["-sS", "--interface", &address(machine), "-o", "/dev/null"])
                .args(["-w", "%{size_download}", &url])
                .inside(network.node(1))
                .cgroup(receivers.path())
                .limit(LIMIT)
                .spawn()
        })
        .collect::<Result<_>>()?;
    for (machine, run) in machines.into_iter().enumerate() {
        let ended = run.wait()?;
        ended.expect(0).with_context(|| format!("machine {machine}"))?;
        ensure!(
            ended.stdout == each.to_string(),
            "machine {machine} got {} bytes",
            ended.stdout
        );
    }
    Ok(started.elapsed().as_secs_f64())
}

fn address(machine: usize) -> String {
    format!("10.77.0.{}", 130 + machine)
}
