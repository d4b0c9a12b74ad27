//! Nodes that hold up the chain. The right one is named within 20 s, whatever its fault and its place. None
//! is named if all are alike.

use std::time::Duration;

use super::{Accused, Fault, Planned, Report, Scenario, run};
use crate::pace::Bottleneck;

/// Payload of 100 and of 10 Mbit/s, in bytes a second.
const FAST: u64 = 11_800_000;
const SLOW: u64 = 1_180_000;
/// Time within which a slow node is named.
const SOON: Duration = Duration::from_secs(20);
/// Time within which generic streams begin.
const BEGUN: Duration = Duration::from_secs(1);

/// Returns a scenario of equal nodes, in one stream of so many seconds at `rate`.
fn alike(seed: u64, nodes: usize, rate: u64, secs: u64) -> Scenario {
    let mut scenario = Scenario::quiet(seed, nodes);
    (scenario.generic, scenario.streams) = (true, 1);
    scenario.stream_bytes = rate * secs;
    scenario.block_bytes = 256 << 10;
    scenario.window_bytes = 64 << 20;
    scenario.link_rates = vec![rate; nodes];
    scenario
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Line,
    Port,
    Disk,
    Processor,
}

const KINDS: [Kind; 4] = [Kind::Line, Kind::Port, Kind::Disk, Kind::Processor];

impl Kind {
    fn slow(self, scenario: &mut Scenario, host: usize, rate: u64) {
        match self {
            Self::Line => scenario.link_rates[host - 1] = rate,
            Self::Port => {
                scenario.link_rates[host - 1] = rate;
                scenario.both_ways = true;
            }
            Self::Disk => scenario.disk_rates[host - 1] = rate,
            Self::Processor => scenario.processor_rates[host - 1] = rate,
        }
    }

    const fn why(self) -> Bottleneck {
        match self {
            Self::Line | Self::Port => Bottleneck::Link,
            Self::Disk => Bottleneck::Disk,
            Self::Processor => Bottleneck::Processor,
        }
    }
}

fn ran(scenario: &Scenario) -> Report {
    run(scenario, false).unwrap_or_else(|violation| panic!("{violation} in {scenario:?}"))
}

/// Insists that only this host was accused, for this reason, in time.
fn expect_only(report: &Report, host: usize, why: Bottleneck, by: Duration, what: &str) {
    let slow = &report.slow;
    assert!(
        slow.iter().all(|said| (said.host, said.why) == (host, why)),
        "{what}: {slow:?}"
    );
    assert!(slow.first().is_some_and(|said| said.at <= by), "{what}: {slow:?}");
}

#[test]
fn a_slow_one_is_named_in_time_whatever_is_slow_and_wherever_it_is() {
    for nodes in [3_usize, 8, 30] {
        for kind in KINDS {
            for host in [1, nodes.div_ceil(2), nodes] {
                let mut scenario = alike(host as u64, nodes, FAST, 30);
                kind.slow(&mut scenario, host, SLOW);
                let what = format!("{kind:?} of {host} of {nodes}");
                let report = ran(&scenario);
                expect_only(&report, host, kind.why(), SOON + BEGUN, &what);
                assert!(
                    report.slow.iter().any(|said| said.set_aside),
                    "{what}: {:?}",
                    report.slow
                );
            }
        }
    }
}

/// The processor takes half of the time and the disk the other half: neither is the reason for most of it, and
/// all others wait for this node all the same.
#[test]
fn a_slow_one_is_named_in_time_though_two_of_its_parts_share_the_blame() {
    for nodes in [3_usize, 8] {
        for host in [1, nodes.div_ceil(2), nodes] {
            for percent in [200, 215, 230] {
                let mut scenario = alike(host as u64, nodes, 10 * FAST, 3);
                // The window is full within two seconds: until then the processor is at work all the time.
                scenario.window_bytes = 6 << 20;
                scenario.disk_rates[host - 1] = 4 * SLOW;
                scenario.processor_rates[host - 1] = 4 * SLOW * percent / 100;
                let what = format!("{host} of {nodes}, processor at {percent} % of the disk");
                let slow = ran(&scenario).slow;
                assert!(slow.iter().all(|said| said.host == host), "{what}: {slow:?}");
                let in_time = slow.first().is_some_and(|said| said.at <= SOON + BEGUN);
                assert!(in_time, "{what}: {slow:?}");
                let causes = slow.iter().filter(|said| !said.set_aside).count();
                assert!(causes <= 1, "named for each of its parts: {what}: {slow:?}");
            }
        }
    }
}

#[test]
fn a_slow_golden_node_is_named_and_nobody_else() {
    for nodes in [1, 3, 8, 30] {
        for rate in [SLOW, FAST / 3] {
            let mut scenario = alike(nodes as u64, nodes, FAST, 30);
            (scenario.golden_rate, scenario.stream_bytes) = (rate, rate * 40);
            let report = ran(&scenario);
            let what = format!("{nodes} nodes");
            expect_only(&report, 0, Bottleneck::Reading, SOON + BEGUN, &what);
        }
    }
}

#[test]
fn nobody_is_named_where_all_are_alike_however_their_lines_save_up() {
    let bursts = [0, 16 << 10, 256 << 10, 1 << 20];
    for seed in 0..60 {
        let nodes = [3, 8, 30][seed % 3];
        let rate = [1_250_000, FAST, 5_000_000][seed / 3 % 3];
        let mut scenario = alike(seed as u64, nodes, rate, 40);
        scenario.line_burst = bursts[seed % bursts.len()];
        scenario.window_bytes = [8, 64][seed / 2 % 2] << 20;
        if seed % 5 == 0 {
            scenario.disk_rates = vec![rate / 2; nodes];
        }
        let report = ran(&scenario);
        assert_eq!(report.slow, [], "seed {seed} {nodes} nodes");
    }
}

/// A node becomes slow in the middle, when the windows of all nodes are as in a long run.
#[test]
fn who_becomes_slow_later_is_named_in_time_too() {
    for (host, fault, why) in [
        (1, Fault::LineSlows(SLOW), Bottleneck::Link),
        (4, Fault::LineSlows(SLOW), Bottleneck::Link),
        (8, Fault::DiskSlows(SLOW), Bottleneck::Disk),
    ] {
        let mut scenario = alike(1, 8, FAST, 80);
        let at = Duration::from_secs(20);
        scenario.faults.push(Planned { host, at, fault });
        expect_only(
            &ran(&scenario),
            host,
            why,
            at + SOON,
            &format!("{fault:?} of {host}"),
        );
    }
}

/// The windows above the slow node are full when it goes. No node is to blame for the data that they send
/// then.
#[test]
fn what_runs_off_after_a_slow_node_went_accuses_nobody() {
    for host in [1, 2, 5, 8] {
        let mut scenario = alike(1, 8, FAST, 90);
        scenario.disk_rates[host - 1] = SLOW;
        let report = ran(&scenario);
        expect_only(&report, host, Bottleneck::Disk, SOON + BEGUN, &format!("{host}"));
        let gone: Vec<&Accused> = report.slow.iter().filter(|said| said.set_aside).collect();
        assert_eq!(gone.len(), 1);
    }
}

#[test]
fn who_has_the_whole_stream_or_needs_only_some_seconds_more_is_not_set_aside() {
    // The stream fits the window: all of it is there at once, and the disk takes its time.
    let mut scenario = alike(1, 3, FAST, 5);
    scenario.disk_rates[1] = SLOW;
    let report = ran(&scenario);
    assert_eq!(report.slow, []);
    assert_eq!(report.done, [true; 3]);
    // All but some seconds of the stream is there when the node could be set aside.
    let mut scenario = alike(1, 3, FAST, 5);
    scenario.window_bytes = 24 << 20;
    scenario.disk_rates[1] = SLOW * 2;
    let report = ran(&scenario);
    assert!(
        report.slow.iter().all(|said| !said.set_aside),
        "{:?}",
        report.slow
    );
}

/// The golden node has a slow port. The first node behind it goes, and then it is clear whose port is slow.
#[test]
fn the_sender_is_named_when_the_line_to_the_next_one_is_slow_too() {
    let mut scenario = alike(1, 8, FAST, 60);
    scenario.link_rates = vec![FAST; 8];
    scenario.golden_port = SLOW;
    let report = ran(&scenario);
    let gone = report.slow.iter().filter(|said| said.set_aside).count();
    assert!(gone <= 1, "{:?}", report.slow);
    assert!(
        report
            .slow
            .iter()
            .any(|said| (said.host, said.why) == (0, Bottleneck::Sending)),
        "{:?}",
        report.slow
    );
}

/// Of two slow lines in a row both are slow. The node before them has a fast line of its own, and neither is
/// its fault.
#[test]
fn the_one_before_two_slow_lines_in_a_row_is_not_blamed_for_them() {
    let mut scenario = Scenario::quiet(14_391_278_412_279_324_496, 7);
    (scenario.streams, scenario.rounds) = (3, 3);
    (scenario.stream_bytes, scenario.block_bytes) = (100 << 20, 1 << 20);
    scenario.window_bytes = 6 << 20;
    scenario.link_rates = [125, 125, 3, 3, 20, 125, 125]
        .map(|rate| rate * 1_000_000)
        .to_vec();
    scenario.disk_rates = [200, 20, 200, 3, 3, 200, 20]
        .map(|rate| rate * 1_000_000)
        .to_vec();
    let report = ran(&scenario);
    assert!(
        report.slow.iter().all(|said| !said.set_aside || said.host != 2),
        "{:?}",
        report.slow
    );
    assert!(report.slow.iter().any(|said| said.host == 3), "{:?}", report.slow);
}

/// A slow line costs the other nodes nothing if most of their disks take no more. Otherwise its node is set
/// aside.
#[test]
fn a_slow_line_is_compared_with_what_the_others_disks_take_as_well() {
    for (disks, is_aside) in [([20, 20, 3, 3], false), ([20, 20, 100, 100], true)] {
        let mut scenario = Scenario::quiet(5_460_791_461_254_110_936, 4);
        (scenario.tolerance, scenario.rounds) = (3, 3);
        (scenario.stream_bytes, scenario.block_bytes) = (200 << 20, 1 << 20);
        scenario.window_bytes = 16 << 20;
        scenario.link_rates = [3, 125, 125, 125].map(|rate| rate * 1_000_000).to_vec();
        scenario.disk_rates = disks.map(|rate| rate * 1_000_000).to_vec();
        let report = ran(&scenario);
        let aside: Vec<usize> = report
            .slow
            .iter()
            .filter_map(|said| said.set_aside.then_some(said.host))
            .collect();
        assert_eq!(aside.contains(&1), is_aside, "{disks:?}: {:?}", report.slow);
    }
}
