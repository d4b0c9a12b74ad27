//! Members that lie, in every kind of message.

use std::time::Duration;

use super::{Liar, Rng, Sabotage, Scenario, run};

/// A chain with one liar somewhere in it; everything else is well.
fn with_liar(seed: u64, only: Option<u64>) -> Scenario {
    let mut rng = Rng::new(seed);
    let nodes = rng.count(2, 8);
    let mut scenario = Scenario::quiet(seed, nodes as usize);
    scenario.heal = true;
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

/// The check notices when a lie reaches somebody else.
#[test]
fn a_liar_that_is_believed_of_another_node_is_noticed() {
    let mut scenario = Scenario::quiet(1, 4);
    (scenario.heal, scenario.stream_bytes) = (true, 40 << 20);
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
