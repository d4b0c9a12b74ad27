//! A stranger on the same switch who sends forged datagrams to the group.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use ka_tests::multicast;
use ka_tests::netns::{Network, node_address};
use ka_tests::process::{Program, Running};
use ka_tests::scratch::Scratch;

use crate::bench::cases::Case;
use crate::bench::fault_kinds::UNDISTURBED;
use crate::bench::measure::{MEMORY, StreamRun, ensure_room, write_noise};
use crate::bench::median;
use crate::bench::peers::{Peer, RUN_LIMIT};
use crate::bench::report::Outcome;
use crate::cli::BenchOptions;

/// Rate of the stranger's datagrams on the wire, in bits a second.
pub(crate) const FORGED_RATE: u64 = 100_000_000;
/// Name of the row with the stranger.
pub(crate) const FLOODED: &str = "with a stranger";
/// Time in which the group must appear.
const APPEARS: Duration = Duration::from_secs(20);
/// Interval of looking for the group.
const LOOK: Duration = Duration::from_millis(20);
/// Least part of the transfer for which the stranger's datagrams must reach the members.
const LEAST_PART: f64 = 0.5;

/// Runs the transfer with and without the stranger, `runs` times, in turns. Returns the median of each.
pub(crate) fn stranger_case(case: &Case, release: &Path, options: &BenchOptions) -> Result<Vec<Outcome>> {
    let scratch = Scratch::below(Path::new(MEMORY), "bench-stranger")?;
    ensure_room(scratch.path(), case.bytes * (case.nodes as u64 + 1))?;
    let source = scratch.path().join("source");
    write_noise(&source, case.bytes)?;
    // The last host of the network is the stranger.
    let network = Network::new(case.nodes + 1, case.rate)?;
    multicast::settle(&network)?;
    let run = StreamRun {
        network: &network,
        scratch: &scratch,
        release,
        rate: case.rate,
        source: &source,
        nodes: case.nodes,
        kept: case.nodes,
    };
    let mut outcomes = vec![Vec::new(); 2];
    for round in 0..options.rounds() {
        let alone = Outcome {
            peer: UNDISTURBED.to_owned(),
            ..run.of(Peer::KaMulticast).context(UNDISTURBED)?
        };
        let flooded = flooded_run(&run).context(FLOODED)?;
        for (outcome, outcomes) in [alone, flooded].into_iter().zip(&mut outcomes) {
            eprintln!("  {} round {}: {outcome}", case.name, round + 1);
            outcomes.push(outcome);
        }
    }
    Ok(outcomes.into_iter().filter_map(median).collect())
}

/// Runs the transfer with the stranger, and makes sure that the forged datagrams reached a member.
fn flooded_run(run: &StreamRun<'_>) -> Result<Outcome> {
    let before = multicast::carried(run.network.node(1))?.received;
    let is_over = AtomicBool::new(false);
    let (outcome, stranger) = thread::scope(|scope| {
        let stranger = scope.spawn(|| flood(run.network, &is_over));
        let outcome = run.of(Peer::KaMulticast);
        is_over.store(true, Ordering::Relaxed);
        (outcome, stranger.join())
    });
    let outcome = outcome?;
    stranger.map_err(|_| anyhow!("the stranger's thread panicked"))??;
    let received = multicast::carried(run.network.node(1))?.received - before;
    let payload = std::fs::metadata(run.source)?.len();
    let forged = (FORGED_RATE / 8) as f64 * outcome.wall_seconds;
    ensure!(
        received as f64 > payload as f64 + LEAST_PART * forged,
        "node 1 received {received} bytes of frames for {payload} bytes of data: the stranger's datagrams did not reach it"
    );
    Ok(Outcome {
        peer: FLOODED.to_owned(),
        ..outcome
    })
}

/// Sends forged datagrams to the group from its first moment on, until the transfer is over.
fn flood(network: &Network, is_over: &AtomicBool) -> Result<()> {
    let group = group_of(network, is_over)?;
    let stranger = network.len();
    let mut flood: Running = Program::new(std::env::current_exe()?)
        .args(["flood", &node_address(stranger), &group.to_string()])
        .arg(FORGED_RATE.to_string())
        .inside(network.node(stranger))
        .limit(RUN_LIMIT)
        .spawn()?;
    while !is_over.load(Ordering::Relaxed) {
        ensure!(!flood.has_ended()?, "the stranger has ended: {}", flood.said());
        thread::sleep(LOOK);
    }
    flood.kill_alone().map(drop)
}

/// Waits until the switch knows a group, and returns its address and port.
fn group_of(network: &Network, is_over: &AtomicBool) -> Result<SocketAddrV4> {
    let started = Instant::now();
    while !is_over.load(Ordering::Relaxed) && started.elapsed() < APPEARS {
        for entry in multicast::entries(network)? {
            let sockets = network.node(1).run("cat /proc/net/udp")?;
            if let Some(port) = port_of(&sockets, entry.group) {
                return Ok(SocketAddrV4::new(entry.group, port));
            }
        }
        thread::sleep(LOOK);
    }
    bail!("no group in 239.0.0.0/8 appeared on the switch with a socket of node 1")
}

/// Returns the port of the socket that is bound to a group in `/proc/net/udp` (proc(5)).
fn port_of(sockets: &str, group: Ipv4Addr) -> Option<u16> {
    let address = format!("{:08X}", u32::from_le_bytes(group.octets()));
    let bound = sockets.lines().find_map(|line| {
        let local = line.split_whitespace().nth(1)?;
        local.strip_prefix(&address)?.strip_prefix(':')
    })?;
    u16::from_str_radix(bound, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_a_group_is_found_among_the_sockets() {
        let sockets = "  sl  local_address rem_address   st\n  12: 00000000:14E9 00000000:0000 07\n \
                       13: 0107FFEF:C0A9 00000000:0000 07\n";
        assert_eq!(port_of(sockets, Ipv4Addr::new(239, 255, 7, 1)), Some(49_321));
        assert_eq!(port_of(sockets, Ipv4Addr::new(239, 255, 7, 2)), None);
    }
}
