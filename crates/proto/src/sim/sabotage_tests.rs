//! Rules broken on purpose. The check for each rule notices it.

use std::time::Duration;

use super::scenario::Step;
use super::{Fault, Planned, Sabotage, Scenario, run};

/// Returns the simulation's complaint when `rule` is broken. With the rule the scenario has no fault.
fn noticed(rule: Sabotage, mut scenario: Scenario) -> String {
    run(&scenario, false).unwrap();
    scenario.sabotage = Some(rule);
    match run(&scenario, false) {
        Ok(report) => panic!("nobody noticed {rule:?}: {report:?}"),
        Err(violation) => violation.what,
    }
}

fn of_three() -> Scenario {
    let mut scenario = Scenario::quiet(1, 3);
    scenario.stream_bytes = 100 << 20;
    scenario
}

fn with(mut scenario: Scenario, host: usize, at: u64, fault: Fault) -> Scenario {
    let at = Duration::from_secs(at);
    scenario.faults.push(Planned { host, at, fault });
    scenario
}

fn expect(rule: Sabotage, scenario: Scenario, words: &str) {
    let said = noticed(rule, scenario);
    assert!(said.contains(words), "{rule:?}: {said}");
}

#[test]
fn an_altered_a_dropped_and_a_kept_block_are_noticed() {
    expect(Sabotage::AltersABlock, of_three(), "wrong bytes at");
    expect(Sabotage::DropsABlock, of_three(), "the consumer is given");
    expect(Sabotage::KeepsWhatIsReleased, of_three(), "the machine knows of");
}

#[test]
fn machines_that_are_not_called_when_they_asked_for_it_are_noticed() {
    let cut = with(of_three(), 2, 2, Fault::PowerCut);
    expect(Sabotage::ServerHasNoTimer, cut, "the run is not over");
    let orphans = with(of_three(), 0, 2, Fault::PowerCut);
    expect(Sabotage::NodesHaveNoTimers, orphans, "it still waits");
}

#[test]
fn a_node_that_is_given_up_for_nothing_is_noticed() {
    expect(Sabotage::LosesAReport, of_three(), "nothing happened to it, but");
}

/// Returns a scenario in which a host is killed after 15 s and started again. The others have reported by
/// then, and the first one hangs in its report.
fn killed_between_reports(host: usize) -> Scenario {
    let mut scenario = with(of_three(), 1, 0, Fault::StepHangs(Step::Report));
    (scenario.rounds, scenario.hold_release) = (2, true);
    (scenario.restarts, scenario.server_restarts) = (true, true);
    with(scenario, host, 15, Fault::Kill)
}

#[test]
fn a_clone_that_is_made_twice_is_noticed() {
    expect(
        Sabotage::ForgetsWhoIsDone,
        killed_between_reports(2),
        "done a second time",
    );
}

#[test]
fn a_server_started_again_that_has_forgotten_who_is_done_is_noticed() {
    expect(
        Sabotage::ForgetsWhoIsDone,
        killed_between_reports(0),
        "done a second time",
    );
}

/// Three neighbours are killed at once and none are tolerated. The nodes below miss data, and are told to
/// come back.
#[test]
fn a_node_that_no_round_takes_is_noticed() {
    let mut scenario = Scenario::quiet(1, 8);
    (scenario.tolerance, scenario.rounds) = (0, 2);
    (scenario.streams, scenario.stream_bytes) = (1, 400 << 20);
    scenario.link_rates[6] = 20_000_000;
    let scenario = (4..=6).fold(scenario, |scenario, host| with(scenario, host, 6, Fault::Kill));
    expect(Sabotage::NobodyComesBack, scenario, "no round took it");
}

#[test]
fn a_bad_clone_that_can_be_booted_is_noticed() {
    let mut scenario = of_three();
    (scenario.commits, scenario.twin) = (true, Some(2));
    expect(
        Sabotage::ReleasesTheTwin,
        scenario,
        "judged bad, and can be booted",
    );
}

#[test]
fn a_good_clone_that_cannot_be_booted_is_noticed() {
    let mut scenario = of_three();
    scenario.commits = true;
    expect(Sabotage::NobodyWritesTheTable, scenario, "cannot be booted");
}
