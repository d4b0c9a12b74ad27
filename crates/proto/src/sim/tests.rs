//! Runs of the simulator. A few are described by their names, and many come from seeds.

use std::time::Duration;

use super::world::SCALED_LINK_SILENCE;
use super::{Fault, Planned, Report, Rng, Scenario, run};
use crate::control::Stage;
use crate::ids::StreamId;
use crate::node::Ending;

/// Returns the seeds of a normal test run. `KA_SIM_SEEDS` sets more, `KA_SIM_FROM` later ones, and
/// `KA_SIM_SEED` one, with its trace.
pub(super) fn seeds(normal: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match (number("KA_SIM_SEED"), number("KA_SIM_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, many) => {
            let from = number("KA_SIM_FROM").unwrap_or(0);
            from..from + many.unwrap_or(normal)
        }
    }
}

pub(super) fn check(seed: u64, scenario: &Scenario) -> Report {
    let trace = std::env::var_os("KA_SIM_SEED").is_some();
    match run(scenario, trace) {
        Ok(report) => {
            report.trace.iter().for_each(|line| println!("{line}"));
            report
        }
        Err(violation) => {
            violation.trace.iter().for_each(|line| println!("{line}"));
            panic!(
                "{violation}\n{scenario:?}\nreplay: KA_SIM_SEED={seed} cargo test -p ka-proto sim::tests -- --nocapture"
            );
        }
    }
}

pub(super) fn done(report: &Report) -> Vec<bool> {
    report
        .endings
        .iter()
        .map(|ending| matches!(ending, Some(Ending::Released { .. })))
        .collect()
}

#[test]
fn four_nodes_get_everything_when_nothing_goes_wrong() {
    let report = check(0, &Scenario::quiet(1, 4));
    assert_eq!(done(&report), [true; 4]);
}

#[test]
fn a_stream_may_come_before_the_plan_and_the_chain_heals_in_it() {
    let mut scenario = Scenario::quiet(1, 4);
    scenario.tools_first = true;
    assert_eq!(done(&check(0, &scenario)), [true; 4]);
    scenario.stream_bytes = 500 << 20;
    scenario.faults.push(Planned {
        host: 2,
        at: Duration::from_secs(2),
        fault: Fault::Kill,
    });
    let report = check(0, &scenario);
    assert_eq!(done(&report), [true, false, true, true]);
    let failure = report.nodes.iter().find_map(|(_, failure)| failure.as_ref());
    assert!(failure.is_some_and(|failure| failure.stage == Stage::Stream(StreamId(1))));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let scenario = Scenario::from_seed(7, 12);
    assert_eq!(run(&scenario, true).unwrap(), run(&scenario, true).unwrap());
}

#[test]
fn chain_heals_when_the_middle_node_dies() {
    let mut scenario = Scenario::quiet(1, 4);
    scenario.stream_bytes = 500 << 20;
    scenario.faults.push(Planned {
        host: 2,
        at: Duration::from_secs(5),
        fault: Fault::PowerCut,
    });
    let report = check(0, &scenario);
    assert_eq!(done(&report), [true, false, true, true]);
}

#[test]
fn healing_costs_no_more_than_three_seconds_beyond_noticing() {
    let mut scenario = Scenario::quiet(1, 8);
    scenario.stream_bytes = 500 << 20;
    let undisturbed = check(0, &scenario).took;
    for (fault, noticed_in) in [
        (Fault::Kill, Duration::ZERO),
        (Fault::PowerCut, SCALED_LINK_SILENCE),
    ] {
        for host in 1..=8 {
            let at = Duration::from_secs(5);
            scenario.faults = vec![Planned { host, at, fault }];
            let report = check(0, &scenario);
            assert_eq!(done(&report).iter().filter(|done| **done).count(), 7);
            let lost = report.took.saturating_sub(undisturbed);
            println!("{fault:?} of node {host}: {lost:?} lost");
            assert!(
                lost <= noticed_in + Duration::from_secs(3),
                "{fault:?} of node {host} cost {lost:?}"
            );
        }
    }
}

/// Neighbours vanish at one moment, everywhere in the chain, also while it heals from another loss.
#[test]
fn as_many_neighbours_as_are_tolerated_vanish_at_one_moment_and_everybody_else_finishes() {
    for tolerance in 1..=3_u8 {
        let gap = usize::from(tolerance);
        for first in 1..=8 - gap {
            for fault in [Fault::Kill, Fault::PowerCut] {
                let mut scenario = Scenario::quiet(first as u64, 8);
                scenario.tolerance = tolerance;
                scenario.streams = 1;
                scenario.stream_bytes = 800 << 20;
                let at = Duration::from_secs(5);
                let vanish = |host| Planned { host, at, fault };
                scenario.faults = (first..first + gap).map(vanish).collect();
                assert_eq!(
                    done(&check(0, &scenario)).iter().filter(|done| **done).count(),
                    8 - gap
                );
                // While that heals, the last node goes as well, unless it is gone already.
                if first + gap <= 7 {
                    let at = at + Duration::from_millis(2100);
                    scenario.faults.push(Planned { host: 8, at, fault });
                    assert_eq!(
                        done(&check(0, &scenario)).iter().filter(|done| **done).count(),
                        7 - gap
                    );
                }
            }
        }
    }
}

/// More nodes than are tolerated go at once. The data may be gone, and then no node waits for it.
#[test]
fn when_the_data_is_gone_those_below_fail_at_once_with_the_place_that_they_miss() {
    let mut scenario = Scenario::quiet(1, 8);
    scenario.tolerance = 0;
    scenario.streams = 1;
    scenario.stream_bytes = 400 << 20;
    // Slow lines at the end keep the windows of the nodes in the middle apart.
    scenario.link_rates[6] = 20_000_000;
    let undisturbed = check(0, &scenario).took;
    let at = Duration::from_secs(6);
    scenario.faults = (4..=6)
        .map(|host| Planned {
            host,
            at,
            fault: Fault::Kill,
        })
        .collect();
    let report = check(0, &scenario);
    let reasons: Vec<String> = report
        .nodes
        .iter()
        .filter_map(|(info, failure)| Some(format!("{} {}", info.name, failure.as_ref()?)))
        .collect();
    assert_eq!(done(&report)[..3], [true; 3]);
    assert!(
        reasons
            .iter()
            .any(|reason| reason.starts_with("node7") && reason.contains("is needed")),
        "{reasons:?}"
    );
    assert!(report.took < undisturbed, "{:?}", report.took);
}

/// Runs eight nodes in one stream with a spool. The hosts in `hit` get the fault when the slow line at the
/// end has filled the windows above it.
fn kept(hit: &[usize], fault: Fault, spool: bool) -> Report {
    let mut scenario = Scenario::quiet(1, 8);
    (scenario.spool, scenario.tolerance, scenario.streams) = (spool, 0, 1);
    scenario.stream_bytes = 400 << 20;
    scenario.link_rates[6] = 20_000_000;
    let at = Duration::from_secs(6);
    let planned = |host: &usize| Planned {
        host: *host,
        at,
        fault,
    };
    scenario.faults = hit.iter().map(planned).collect();
    check(0, &scenario)
}

#[test]
fn what_no_neighbour_keeps_comes_from_the_spool_and_only_those_that_were_killed_are_lost() {
    let report = kept(&[4, 5, 6], Fault::Kill, true);
    assert_eq!(done(&report), [true, true, true, false, false, false, true, true]);
    assert_eq!(report.rejoined, 1, "the one below is fed through it");
    assert_eq!(done(&kept(&[4, 5, 6], Fault::Kill, false))[6..], [false; 2]);
}

#[test]
fn nodes_that_were_cut_off_or_frozen_go_on_from_the_spool() {
    let time = Duration::from_secs(4);
    for fault in [Fault::Partition(time), Fault::Freeze(time)] {
        for hit in [&[1][..], &[4], &[8], &[2, 6], &[3, 4]] {
            let report = kept(hit, fault, true);
            assert_eq!(done(&report), [true; 8], "{hit:?} {fault:?}");
            assert!(report.rejoined as usize >= hit.len(), "{hit:?} {fault:?}");
            let without = done(&kept(hit, fault, false));
            assert!(hit.iter().all(|host| !without[host - 1]), "{hit:?} {fault:?}");
        }
    }
}

/// The neighbours die one after another, each when the chain has closed around the one before. Their number
/// has no limit.
#[test]
fn neighbours_that_die_one_after_another_may_be_any_number() {
    let mut scenario = Scenario::quiet(1, 8);
    scenario.tolerance = 1;
    scenario.streams = 1;
    scenario.stream_bytes = 1500 << 20;
    for (nth, host) in (2..=7).enumerate() {
        let at = Duration::from_millis(5000 + 1000 * nth as u64);
        scenario.faults.push(Planned {
            host,
            at,
            fault: Fault::Kill,
        });
    }
    let expected = [true, false, false, false, false, false, false, true];
    assert_eq!(done(&check(0, &scenario)), expected);
}

/// One disk, then one line, has a tenth of the others' rate.
#[test]
fn a_slow_node_is_set_aside_and_nobody_else_loses_a_byte() {
    for host in 1..=8 {
        for is_disk in [true, false] {
            let mut scenario = Scenario::quiet(host as u64, 8);
            scenario.streams = 1;
            scenario.stream_bytes = 400 << 20;
            // In the smallest window nothing shows what the lines behind a slow first one could carry.
            scenario.window_bytes = 16 << 20;
            let rates = if is_disk {
                &mut scenario.disk_rates
            } else {
                &mut scenario.link_rates
            };
            rates[host - 1] = 8_000_000;
            let report = check(0, &scenario);
            let failed: Vec<String> = report
                .nodes
                .iter()
                .filter_map(|(info, failure)| Some(format!("{}: {}", info.name, failure.as_ref()?)))
                .collect();
            assert_eq!(failed.len(), 1, "{host} {is_disk} {failed:?}");
            assert!(
                failed[0].starts_with(&format!("node{host}: stream 1: too slow")),
                "{failed:?}"
            );
            assert!(report.took < Duration::from_secs(30), "{:?}", report.took);
        }
    }
}

#[test]
fn a_disk_that_stalls_for_ten_seconds_costs_nobody_and_one_that_stays_slow_is_set_aside() {
    for host in 1..=8 {
        let mut scenario = Scenario::quiet(host as u64, 8);
        scenario.streams = 1;
        scenario.stream_bytes = 1500 << 20;
        let at = Duration::from_secs(5);
        let mut with = |fault| {
            scenario.faults = vec![Planned { host, at, fault }];
            check(0, &scenario)
        };
        let stalled = with(Fault::DiskStall(Duration::from_secs(10)));
        assert_eq!(stalled.done, [true; 8], "{host}");
        let slowed = with(Fault::DiskSlows(3_000_000));
        let expected: Vec<bool> = (1..=8).map(|other| other != host).collect();
        assert_eq!(slowed.done, expected);
        let reasons = slowed.nodes.iter().filter_map(|(_, failure)| failure.as_ref());
        assert!(
            reasons
                .into_iter()
                .all(|failure| failure.reason.as_str().contains("too slow"))
        );
    }
}

#[test]
fn when_the_server_is_killed_or_loses_power_every_node_ends() {
    for fault in [Fault::Kill, Fault::PowerCut] {
        for at in [100, 2000, 4500, 6000] {
            let mut scenario = Scenario::quiet(at, 8);
            scenario.stream_bytes = 400 << 20;
            let at = Duration::from_millis(at);
            scenario.faults.push(Planned { host: 0, at, fault });
            let report = check(0, &scenario);
            let lost = |ending: &Option<Ending>| matches!(ending, Some(Ending::ServerLost { .. }));
            assert!(report.endings.iter().all(lost), "{:?}", report.endings);
        }
    }
}

#[test]
fn a_node_whose_disk_fails_still_serves_those_below_it() {
    let mut scenario = Scenario::quiet(1, 4);
    scenario.stream_bytes = 500 << 20;
    scenario.faults.push(Planned {
        host: 2,
        at: Duration::from_secs(5),
        fault: Fault::DiskFails,
    });
    let report = check(0, &scenario);
    assert_eq!(done(&report), [true, false, true, true]);
}

/// Runs four nodes in three rounds.
fn in_rounds(faults: &[(usize, u64, Fault)]) -> Scenario {
    let mut scenario = Scenario::quiet(1, 4);
    (scenario.rounds, scenario.restarts) = (3, true);
    scenario.stream_bytes = 500 << 20;
    let planned = |(host, at, fault): &(usize, u64, Fault)| Planned {
        host: *host,
        at: Duration::from_secs(*at),
        fault: *fault,
    };
    scenario.faults = faults.iter().map(planned).collect();
    scenario
}

#[test]
fn who_was_killed_cut_off_or_frozen_is_done_in_the_next_round() {
    let long = Duration::from_secs(12);
    for fault in [
        Fault::Kill,
        Fault::PowerCut,
        Fault::Freeze(long),
        Fault::Partition(long),
    ] {
        let report = check(0, &in_rounds(&[(2, 5, fault), (3, 5, fault)]));
        assert_eq!(report.done, [true; 4], "{fault:?}");
        assert!(report.returned >= 2, "{fault:?}");
    }
}

#[test]
fn a_slow_node_is_done_in_the_next_round_and_a_late_one_too() {
    let mut scenario = in_rounds(&[]);
    scenario.disk_rates[1] = 8_000_000;
    let report = check(0, &scenario);
    assert_eq!((report.done, report.returned), (vec![true; 4], 1));
    let mut scenario = in_rounds(&[]);
    scenario.wanted = 3;
    let report = check(0, &scenario);
    assert_eq!(
        (report.done, report.returned),
        (vec![true; 4], 0),
        "it waits, connected"
    );
}

#[test]
fn all_nodes_of_a_round_may_be_lost_and_the_next_one_does_them() {
    let all: Vec<_> = (1..=4).map(|host| (host, 5, Fault::Kill)).collect();
    assert_eq!(check(0, &in_rounds(&all)).done, [true; 4]);
}

#[test]
fn who_dies_in_each_round_is_not_waited_for_after_the_last() {
    let dies: Vec<_> = (2..15).map(|nth| (2, 3 * nth, Fault::PowerCut)).collect();
    let mut scenario = in_rounds(&dies);
    scenario.rounds = 2;
    let report = check(0, &scenario);
    assert_eq!(report.done, [true, false, true, true]);
}

/// The server dies in every stage, and in both ways. Nodes that had reported are not cloned again.
#[test]
fn a_server_that_is_started_again_goes_on_with_those_that_are_not_done() {
    for fault in [Fault::Kill, Fault::PowerCut] {
        for at in (0..40).map(|step| Duration::from_millis(100 + 400 * step)) {
            let mut scenario = in_rounds(&[]);
            (scenario.server_restarts, scenario.seed) = (true, at.as_secs());
            scenario.stream_bytes = 200 << 20;
            scenario.faults.push(Planned { host: 0, at, fault });
            let report = check(0, &scenario);
            assert_eq!(report.done, [true; 4], "{fault:?} at {at:?}");
        }
    }
}

#[test]
fn random_runs_with_a_server_that_dies_keep_every_invariant() {
    let (all, mut restarts) = (seeds(2000), 0);
    for seed in all.clone() {
        let mut scenario = Scenario::from_seed(seed, 9);
        (scenario.rounds, scenario.server_restarts) = (scenario.rounds.max(2), true);
        let mut rng = Rng::new(seed);
        if rng.chance(50) {
            scenario.faults.clear();
        }
        for _ in 0..rng.pick(&[1, 1, 2]) {
            scenario.faults.push(Planned {
                host: 0,
                at: Duration::from_millis(rng.between(0, 30_000)),
                fault: rng.pick(&[Fault::Kill, Fault::PowerCut]),
            });
        }
        restarts += check(seed, &scenario).server_restarts;
    }
    assert!(restarts > 0 || all.end - all.start < 1000, "it never came back");
}

#[test]
fn random_runs_with_few_nodes_keep_every_invariant() {
    let (all, mut rejoined, mut returned) = (seeds(10_000), 0, 0);
    for seed in all.clone() {
        let report = check(seed, &Scenario::from_seed(seed, 9));
        rejoined += report.rejoined;
        returned += report.returned;
    }
    let are_few = all.end - all.start < 1000;
    assert!(rejoined > 0 || are_few, "the spool was never needed");
    assert!(returned > 0 || are_few, "nobody ever came back for a round");
}

#[test]
fn random_runs_with_a_hundred_nodes_keep_every_invariant() {
    for seed in seeds(6) {
        check(seed, &Scenario::from_seed(seed, 100));
    }
}

#[test]
fn a_thousand_nodes_finish_though_thirty_of_them_are_lost() {
    let mut scenario = Scenario::quiet(3, 1000);
    scenario.streams = 1;
    scenario.stream_bytes = 300 << 20;
    let mut rng = Rng::new(3);
    for nth in 0..30 {
        let (host, at) = (nth * 33 + 1, rng.millis(4000, 7000));
        let fault = rng.pick(&[
            Fault::Kill,
            Fault::PowerCut,
            Fault::Partition(Duration::from_secs(30)),
        ]);
        scenario.faults.push(Planned { host, at, fault });
    }
    let report = check(3, &scenario);
    assert_eq!(done(&report).iter().filter(|done| **done).count(), 970);
}
