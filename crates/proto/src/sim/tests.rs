//! Runs of the simulator: a few that are told in their names, and many from seeds.

use super::{Fault, Planned, Report, Scenario, run};
use crate::node::Ending;
use std::time::Duration;

/// Seeds in a normal test run; `KA_SIM_SEEDS` asks for more, `KA_SIM_SEED` for one, with its trace.
fn seeds(normal: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match (number("KA_SIM_SEED"), number("KA_SIM_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, many) => 0..many.unwrap_or(normal),
    }
}

fn check(seed: u64, scenario: &Scenario) -> Report {
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

fn done(report: &Report) -> Vec<bool> {
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
fn the_same_seed_gives_the_same_run() {
    let scenario = Scenario::from_seed(7, 12);
    assert_eq!(run(&scenario, true).unwrap(), run(&scenario, true).unwrap());
}

#[test]
fn without_healing_nodes_above_a_killed_one_finish_and_those_below_are_named() {
    let mut scenario = Scenario::quiet(1, 4);
    scenario.stream_bytes = 500 << 20;
    scenario.faults.push(Planned {
        host: 2,
        at: Duration::from_secs(5),
        fault: Fault::Kill,
    });
    let report = check(0, &scenario);
    assert_eq!(done(&report), [true, false, false, false]);
    let reasons: Vec<String> = report
        .nodes
        .iter()
        .filter_map(|(_, failure)| failure.as_ref().map(ToString::to_string))
        .collect();
    assert!(reasons[1].contains("lost its predecessor node2"), "{reasons:?}");
    assert!(reasons[2].contains("lost its predecessor node3"), "{reasons:?}");
}

#[test]
fn chain_heals_when_the_middle_node_dies() {
    let mut scenario = Scenario::quiet(1, 4);
    scenario.heal = true;
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

#[test]
fn random_runs_with_few_nodes_keep_every_invariant() {
    for seed in seeds(600) {
        check(seed, &Scenario::from_seed(seed, 9));
    }
}

#[test]
#[ignore]
fn stats() {
    let mut c = std::collections::BTreeMap::new();
    for seed in seeds(600) {
        let sc = Scenario::from_seed(seed, 9);
        let r = check(seed, &sc);
        for (_, f) in &r.nodes {
            let k = match f {
                None => "ok".to_string(),
                Some(f) => {
                    let t: String = f
                        .to_string()
                        .chars()
                        .map(|c| if c.is_ascii_digit() { '#' } else { c })
                        .collect();
                    t
                }
            };
            *c.entry((sc.heal, k)).or_insert(0) += 1;
        }
    }
    for (k, v) in c {
        println!("{v:6} {k:?}");
    }
}
