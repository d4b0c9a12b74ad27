//! Runs whose streams come from a multicast group.

use std::time::Duration;

use super::liar_tests::with_liar;
use super::tests::{check, done, seeds};
use super::world::SCALED_LINK_SILENCE;
use super::{Fault, GroupPlan, Liar, Planned, Rng, Sabotage, Scenario, run};

const STREAM: u64 = 400 << 20;
/// Bytes that differ between two runs because a fault strikes between two blocks, or between a block and its
/// acknowledgement.
const SOME: u64 = 24 << 20;

/// Returns a room of members that are all alike. Nothing goes wrong.
fn room(nodes: usize) -> Scenario {
    let mut scenario = Scenario::quiet(1, nodes);
    (scenario.streams, scenario.stream_bytes) = (1, STREAM);
    scenario.group = Some(GroupPlan::quiet(nodes));
    scenario
}

fn with(mut scenario: Scenario, faults: &[(usize, Fault)]) -> Scenario {
    let at = Duration::from_millis(5500);
    let planned = |(host, fault): &(usize, Fault)| Planned {
        host: *host,
        at,
        fault: *fault,
    };
    scenario.faults.extend(faults.iter().map(planned));
    scenario
}

#[test]
fn no_data_goes_over_links_while_all_are_members() {
    let report = check(0, &room(8));
    assert_eq!((done(&report), report.linked_bytes), (vec![true; 8], 0));
}

#[test]
fn nodes_that_the_group_does_not_reach_get_all_over_their_links_and_the_others_nothing() {
    for unreached in [
        vec![1],
        vec![8],
        vec![4, 5],
        vec![1, 3, 5, 7, 8],
        (1..=8).collect(),
    ] {
        let mut scenario = room(8);
        for host in &unreached {
            scenario.group.as_mut().unwrap().delays[host - 1] = None;
        }
        let report = check(0, &scenario);
        let linked = STREAM * unreached.len() as u64;
        assert_eq!((done(&report), report.linked_bytes), (vec![true; 8], linked));
    }
}

#[test]
fn who_leaves_gets_the_rest_over_its_own_link_and_nobody_waits() {
    let undisturbed = check(0, &room(8)).took;
    for leavers in [vec![1], vec![4], vec![8], vec![2, 3, 4], (1..=8).collect()] {
        let leaves: Vec<_> = leavers.iter().map(|host| (*host, Fault::LeavesGroup)).collect();
        let report = check(0, &with(room(8), &leaves));
        assert_eq!(done(&report), [true; 8]);
        let each = report.linked_bytes / leaves.len() as u64;
        assert!(each > SOME && each < STREAM - SOME, "{leavers:?}: {each}");
        let lost = report.took.saturating_sub(undisturbed);
        assert!(lost < Duration::from_millis(300), "{leavers:?}: {lost:?}");
    }
}

/// The whole group goes dark at one moment, which its members notice by themselves.
#[test]
fn when_the_group_goes_dark_the_chain_goes_on_within_two_seconds() {
    let undisturbed = check(0, &room(8)).took;
    let report = check(0, &with(room(8), &[(0, Fault::GroupGoesDark)]));
    assert_eq!(done(&report), [true; 8]);
    assert!(report.linked_bytes > SOME);
    let lost = report.took.saturating_sub(undisturbed);
    assert!(lost < Duration::from_secs(2), "{lost:?}");
}

#[test]
fn a_lost_member_costs_the_others_no_data_and_no_more_than_noticing() {
    let undisturbed = check(0, &room(8)).took;
    for fault in [Fault::Kill, Fault::PowerCut] {
        for host in [1, 4, 8] {
            let report = check(0, &with(room(8), &[(host, fault)]));
            let done = done(&report).iter().filter(|done| **done).count();
            assert_eq!((done, report.linked_bytes), (7, 0), "{fault:?} of {host}");
            let lost = report.took.saturating_sub(undisturbed);
            let most = SCALED_LINK_SILENCE + Duration::from_secs(1);
            assert!(lost < most, "{fault:?} of {host}: {lost:?}");
        }
    }
}

/// The group goes dark in the same moment in which neighbours vanish, so that the chain heals and begins to
/// carry data at once.
#[test]
fn tolerated_losses_are_healed_while_the_group_goes_dark() {
    for first in 1..=7 {
        for fault in [Fault::Kill, Fault::PowerCut] {
            let faults = [(first, fault), (first + 1, fault), (0, Fault::GroupGoesDark)];
            let report = check(0, &with(room(8), &faults));
            assert_eq!(done(&report).iter().filter(|done| **done).count(), 6);
        }
    }
}

/// A member may get the end while its link is broken. It has no need of another one then, and the nodes above
/// it, which the group does not reach, hear no more of it. They need not keep anything for it either.
#[test]
fn who_gets_the_end_while_its_link_is_broken_keeps_nobody_waiting() {
    let mut scenario = room(4);
    (scenario.stream_bytes, scenario.latency) = (40 << 20, Duration::from_millis(30));
    scenario.group.as_mut().unwrap().delays[..2].fill(None);
    let undisturbed = check(0, &scenario).took;
    for at in (0..120).map(|step| Duration::from_millis(2000 + 50 * step)) {
        let (host, fault) = (3, Fault::LinkBreaks);
        scenario.faults = vec![Planned { host, at, fault }];
        let report = check(0, &scenario);
        assert_eq!(done(&report), [true; 4]);
        let lost = report.took.saturating_sub(undisturbed);
        assert!(lost < Duration::from_secs(2), "broken at {at:?}: {lost:?}");
    }
}

#[test]
fn random_runs_with_a_group_keep_every_invariant() {
    let all = seeds(1000);
    let (mut linked, mut rejoined) = (0, 0);
    for seed in all.clone() {
        let report = check(seed, &Scenario::with_group_from_seed(seed, 9));
        linked += report.linked_bytes;
        rejoined += report.rejoined;
    }
    assert!((linked > 0 && rejoined > 0) || all.end - all.start < 1000);
}

/// A liar lies about standby as well. It may claim data that its predecessor does not have yet.
#[test]
fn a_liar_in_a_group_costs_nobody_above_it_anything_and_those_below_it_a_round() {
    for seed in seeds(500) {
        let mut scenario = with_liar(
            seed,
            Some(seed % 3 + Liar::KINDS - 3).filter(|kind| kind + 1 < Liar::KINDS),
        );
        let mut rng = Rng::new(seed);
        let mut group = GroupPlan::quiet(scenario.nodes);
        for delay in &mut group.delays {
            *delay = rng.chance(80).then(|| rng.millis(0, 100));
        }
        scenario.group = Some(group);
        if rng.chance(30) {
            scenario = with(scenario, &[(0, Fault::GroupGoesDark)]);
        }
        check(seed, &scenario);
    }
}

#[test]
fn a_driver_that_gets_standby_wrong_is_noticed() {
    let leaves = || with(room(3), &[(2, Fault::LeavesGroup)]);
    for (rule, words) in [
        (Sabotage::NeverStandsBy, "the consumer is given"),
        (Sabotage::StandsByForEver, "nothing happened to it, but"),
    ] {
        let mut scenario = leaves();
        run(&scenario, false).unwrap();
        scenario.sabotage = Some(rule);
        let said = run(&scenario, false).unwrap_err().what;
        assert!(said.contains(words), "{rule:?}: {said}");
    }
}
