//! Members that lie, in every kind of message.

use std::time::Duration;

use super::{Fault, Liar, Planned, Rng, Sabotage, Scenario, run};

/// Returns a chain with one liar somewhere in it. Nothing else goes wrong.
pub(super) fn with_liar(seed: u64, only: Option<u64>) -> Scenario {
    let mut rng = Rng::new(seed);
    let nodes = rng.count(2, 8);
    let mut scenario = Scenario::quiet(seed, nodes as usize);
    scenario.stream_bytes = rng.pick(&[1000, 8 << 20, 40 << 20]);
    scenario.tolerance = rng.pick(&[1, 2, 3]);
    scenario.spool = rng.chance(30);
    scenario.generic = rng.chance(20);
    scenario.hold_release = rng.chance(30);
    scenario.rounds = rng.pick(&[1, 3]);
    scenario.liar = Some(Liar {
        host: rng.count(1, nodes) as usize,
        at: rng.millis(0, 6000),
        percent: rng.pick(&[5, 30, 100]),
        only,
    });
    scenario
}

fn many(normal: u64, only: impl Fn(u64) -> Option<u64>) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("KA_SIM_LIAR") {
        Some(seed) => seed..seed + 1,
        None => {
            let from = number("KA_SIM_FROM").unwrap_or(0);
            from..from + normal
        }
    };
    let trace = number("KA_SIM_LIAR").is_some();
    let mut failed = Vec::new();
    for seed in seeds {
        let scenario = with_liar(seed, only(seed));
        if let Err(violation) = run(&scenario, trace) {
            failed.extend(violation.trace.iter().cloned());
            let Liar {
                host, percent, only, ..
            } = scenario.liar.unwrap();
            failed.push(format!(
                "KA_SIM_LIAR={seed}: liar {host} of {} ({percent} %, {only:?}, {} rounds, spool {}): {violation}",
                scenario.nodes, scenario.rounds, scenario.spool
            ));
        }
    }
    assert!(failed.is_empty(), "{} seeds\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn one_kind_of_lie_costs_nobody_above_the_liar_anything_and_those_below_it_a_round() {
    many(3000, |seed| Some(seed % Liar::KINDS));
}

#[test]
fn all_kinds_of_lies_together_cost_no_more() {
    many(1500, |_| None);
}

/// Returns a scenario with a member that claims data for the nodes below it which they lack, and is gone the
/// next moment.
fn claims_for_others_and_dies(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed);
    let nodes = rng.count(2, 9);
    let mut scenario = Scenario::quiet(seed, nodes as usize);
    scenario.streams = 1;
    scenario.stream_bytes = rng.pick(&[8 << 20, 40 << 20]);
    scenario.window_bytes = rng.pick(&[6, 8, 16, 40]) << 20;
    scenario.tolerance = rng.pick(&[1, 2, 3]);
    scenario.generic = true;
    scenario.jitter = rng.pick(&[0, 0, 2, 60].map(Duration::from_millis));
    let host = rng.count(1, nodes) as usize;
    let rate = rng.pick(&[3_000_000, 20_000_000, 125_000_000]);
    scenario.link_rates = vec![rate; nodes as usize];
    // The nodes below take less, as lines differ, so that there is data to lose. They do not take so little
    // that they are called slow.
    for below in scenario.link_rates.iter_mut().skip(host) {
        *below = rate * 6 / 10;
    }
    scenario.liar = Some(Liar {
        host,
        at: Duration::ZERO,
        percent: rng.pick(&[60, 100]),
        only: Some(Liar::OF_OTHERS),
    });
    scenario.faults.extend(rng.chance(80).then_some(Planned {
        host,
        at: rng.millis(300, 600 + scenario.stream_bytes * 1500 / rate),
        fault: rng.pick(&[Fault::Kill, Fault::PowerCut]),
    }));
    scenario
}

#[test]
fn who_lies_in_acknowledgements_of_others_costs_nobody_else_his_place() {
    let lost = |sabotage| {
        let seeds = 0..400_u64;
        let lost = seeds.filter(|seed| {
            let mut scenario = claims_for_others_and_dies(*seed);
            scenario.sabotage = sabotage;
            let liar = scenario.liar.unwrap().host;
            let done = match run(&scenario, false) {
                Ok(report) => report.done,
                Err(violation) => {
                    assert!(sabotage.is_some(), "{seed}: {violation}");
                    return true;
                }
            };
            done.iter()
                .enumerate()
                .any(|(host, done)| !done && host + 1 != liar)
        });
        lost.collect::<Vec<u64>>()
    };
    assert_eq!(lost(None), Vec::<u64>::new());
    let noticed = lost(Some(Sabotage::GivesTheLiarAllKeys)).len();
    assert!(
        noticed > 20,
        "who knows all keys costs others their place in {noticed} runs only"
    );
}

/// The check notices a lie that reaches another node.
#[test]
fn a_liar_that_is_believed_of_another_node_is_noticed() {
    let mut scenario = Scenario::quiet(1, 4);
    scenario.stream_bytes = 40 << 20;
    scenario.liar = Some(Liar {
        host: 3,
        at: Duration::from_secs(1),
        percent: 100,
        only: Some(11),
    });
    run(&scenario, false).unwrap();
    scenario.sabotage = Some(Sabotage::BelievesTheLiar);
    let violation = run(&scenario, false).unwrap_err();
    assert!(violation.what.contains("to the liar 3"), "{violation}");
}
