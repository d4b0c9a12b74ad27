//! Faults in the group: members that lose, lag, die, go dark or lie, and strangers.

use std::time::Duration;

use super::{Fate, Gone, Lie, Loss, MemberPlan, Outcome, Plan, run};
use crate::group::LeaveReason;

const LINE: u64 = 10_000;

/// Returns a plan for eight members, the third of which is `odd`, over six seconds.
fn plan(odd: MemberPlan) -> Plan {
    let mut plan = Plan::new(8, 470, MemberPlan::default());
    plan.line = LINE;
    plan.members[2] = odd;
    plan
}

/// The others have everything, and the odd one has left at `from` to `until` seconds.
fn the_odd_one_left(plan: &Plan, outcome: &Outcome, until: f64) -> Gone {
    let others = outcome.done.iter().enumerate().filter(|(index, _)| *index != 2);
    assert!(others.into_iter().all(|(_, done)| done.is_some()), "{outcome:?}");
    let [(at, 2, why)] = outcome.gone[..] else {
        panic!("{:?} of {plan:?}", outcome.gone);
    };
    assert!(at.as_secs_f64() <= until, "{at:?} {why:?}");
    why
}

/// The others were done as much later than the line's time at most.
fn the_others_lost(plan: &Plan, outcome: &Outcome, most: Duration) {
    let late = outcome.wall().saturating_sub(plan.line_time());
    assert!(late <= most + Duration::from_millis(150), "{late:?} {outcome:?}");
}

#[test]
fn a_member_that_dies_costs_the_others_nothing_while_their_room_lasts() {
    let plan = plan(MemberPlan {
        fate: Fate::Dies(Duration::from_secs(2)),
        ..MemberPlan::default()
    });
    let outcome = run(&plan);
    let why = the_odd_one_left(&plan, &outcome, 4.3);
    assert_eq!(why, Gone::Left(LeaveReason::Silent));
    the_others_lost(&plan, &outcome, Duration::ZERO);
}

#[test]
fn a_member_that_dies_costs_the_others_the_noticing_when_room_is_short() {
    let mut plan = plan(MemberPlan {
        fate: Fate::Dies(Duration::from_secs(2)),
        ..MemberPlan::default()
    });
    plan.window = 30;
    let outcome = run(&plan);
    the_odd_one_left(&plan, &outcome, 4.3);
    the_others_lost(&plan, &outcome, Duration::from_millis(2250));
}

#[test]
fn a_member_that_goes_dark_leaves_by_itself_within_a_second() {
    let plan = plan(MemberPlan {
        fate: Fate::Dark(Duration::from_secs(2)),
        ..MemberPlan::default()
    });
    let outcome = run(&plan);
    assert_eq!(the_odd_one_left(&plan, &outcome, 3.1), Gone::Dark);
    the_others_lost(&plan, &outcome, Duration::from_secs(1));
}

#[test]
fn a_group_that_goes_dark_is_left_by_all_within_a_second() {
    let mut plan = plan(MemberPlan::default());
    plan.outages = vec![(Duration::from_secs(2), Duration::MAX)];
    let outcome = run(&plan);
    assert_eq!(outcome.gone.len(), 8);
    for (at, _, why) in outcome.gone {
        assert!(at.as_secs_f64() < 3.1 && why == Gone::Dark, "{at:?} {why:?}");
    }
}

#[test]
fn a_member_that_loses_much_leaves_and_the_others_do_not_wait() {
    let plan = plan(MemberPlan {
        loss: Loss::Independent(200_000),
        ..MemberPlan::default()
    });
    let outcome = run(&plan);
    let why = the_odd_one_left(&plan, &outcome, 2.6);
    assert!(
        matches!(why, Gone::Left(LeaveReason::Lossy { percent: 10..30 })),
        "{why:?}"
    );
    the_others_lost(&plan, &outcome, Duration::from_millis(600));
}

#[test]
fn a_member_behind_a_slow_port_leaves() {
    let plan = plan(MemberPlan {
        port: Some((LINE / 4, 100)),
        ..MemberPlan::default()
    });
    let outcome = run(&plan);
    the_odd_one_left(&plan, &outcome, 3.5);
    the_others_lost(&plan, &outcome, Duration::from_secs(2));
}

#[test]
fn a_member_four_times_slower_leaves_within_ten_seconds() {
    let mut plan = plan(MemberPlan {
        drain: Some(LINE / 5),
        ..MemberPlan::default()
    });
    plan.stripes = 1000;
    plan.window = 60;
    let outcome = run(&plan);
    let why = the_odd_one_left(&plan, &outcome, 10.0);
    assert_eq!(why, Gone::Left(LeaveReason::Slow));
    the_others_lost(&plan, &outcome, Duration::from_millis(4500));
}

#[test]
fn slow_disks_in_all_members_set_the_pace_and_nobody_leaves() {
    let mut plan = Plan::new(
        6,
        200,
        MemberPlan {
            drain: Some(LINE / 4),
            ..MemberPlan::default()
        },
    );
    plan.line = LINE;
    plan.window = 20;
    let outcome = run(&plan);
    assert!(outcome.gone.is_empty(), "{:?}", outcome.gone);
    assert!(outcome.wall() < plan.line_time() * 43 / 10, "{outcome:?}");
    assert_eq!(outcome.figures.repairs, 0);
}

#[test]
fn a_member_that_is_a_little_slower_sets_the_pace_and_stays() {
    let mut plan = plan(MemberPlan {
        drain: Some(LINE / 2),
        ..MemberPlan::default()
    });
    plan.window = 60;
    let outcome = run(&plan);
    assert!(outcome.gone.is_empty(), "{:?}", outcome.gone);
    assert!(outcome.wall() < plan.line_time() * 21 / 10, "{outcome:?}");
}

#[test]
fn a_switch_that_is_slower_than_the_line_is_found_and_kept_to() {
    let mut plan = Plan::new(
        6,
        300,
        MemberPlan {
            port: Some((LINE / 2, 200)),
            ..MemberPlan::default()
        },
    );
    plan.line = LINE;
    let outcome = run(&plan);
    assert!(outcome.gone.is_empty(), "{:?}", outcome.gone);
    assert!(outcome.wall() < plan.line_time() * 22 / 10, "{outcome:?}");
    assert!(outcome.overhead() < 1_450_000, "{outcome:?}");
}

#[test]
fn bursts_outages_reordering_and_repeats_cost_what_they_lose() {
    let mut plan = Plan::new(
        8,
        300,
        MemberPlan {
            loss: Loss::Bursts(300, 50_000),
            reordered: 20,
            duplicated: 10,
            ..MemberPlan::default()
        },
    );
    plan.line = LINE;
    let at = Duration::from_millis;
    plan.outages = vec![(at(1000), at(1060)), (at(2000), at(2300))];
    let outcome = run(&plan);
    assert!(outcome.gone.is_empty(), "{:?}", outcome.gone);
    assert!(outcome.done.iter().all(Option::is_some));
    assert!(outcome.overhead() < 1_250_000, "{outcome:?}");
}

#[test]
fn a_member_that_claims_room_harms_itself_only() {
    let plan = plan(MemberPlan {
        drain: Some(LINE / 10),
        lie: Lie::Room,
        ..MemberPlan::default()
    });
    let outcome = run(&plan);
    the_odd_one_left(&plan, &outcome, 6.5);
    the_others_lost(&plan, &outcome, Duration::from_millis(1500));
}

#[test]
fn a_member_that_claims_to_lack_nothing_and_does_not_get_on_is_named() {
    let plan = plan(MemberPlan {
        loss: Loss::Independent(20_000),
        lie: Lie::NothingMissing,
        ..MemberPlan::default()
    });
    let outcome = run(&plan);
    let why = the_odd_one_left(&plan, &outcome, 2.5);
    assert_eq!(why, Gone::Left(LeaveReason::Stuck));
    the_others_lost(&plan, &outcome, Duration::ZERO);
}

#[test]
fn a_member_that_lacks_everything_for_ever_is_named_and_the_harm_is_bounded() {
    let plan = plan(MemberPlan {
        lie: Lie::EverythingMissing,
        ..MemberPlan::default()
    });
    let outcome = run(&plan);
    let why = the_odd_one_left(&plan, &outcome, 2.6);
    assert!(
        matches!(why, Gone::Left(LeaveReason::Lossy { .. } | LeaveReason::Stuck)),
        "{why:?}"
    );
    the_others_lost(&plan, &outcome, Duration::from_millis(2600));
}

#[test]
fn a_member_that_has_the_future_is_named_at_once() {
    let plan = plan(MemberPlan {
        lie: Lie::TheFuture,
        ..MemberPlan::default()
    });
    let outcome = run(&plan);
    let why = the_odd_one_left(&plan, &outcome, 0.1);
    assert_eq!(why, Gone::Left(LeaveReason::Contradicting));
}

#[test]
fn a_strangers_datagrams_change_nothing() {
    let mut plan = Plan::new(4, 100, MemberPlan::default());
    plan.line = LINE;
    let quiet = run(&plan);
    plan.forged = 3;
    let outcome = run(&plan);
    assert!(outcome.gone.is_empty(), "{:?}", outcome.gone);
    assert!(outcome.refused > 1000, "{outcome:?}");
    assert_eq!(outcome.figures, quiet.figures);
}

#[test]
fn a_stranger_who_is_faster_than_the_sender_throws_nobody_out() {
    let mut plan = Plan::new(4, 100, MemberPlan::default());
    plan.line = LINE;
    let quiet = run(&plan);
    (plan.forged, plan.forges_first) = (3, true);
    let outcome = run(&plan);
    assert!(outcome.gone.is_empty(), "{:?}", outcome.gone);
    assert!(outcome.refused > 1000, "{outcome:?}");
    // Only what he forged before the first contradiction is repaired.
    let most = quiet.figures.bytes + quiet.figures.bytes / 50;
    assert!(outcome.figures.bytes <= most, "{outcome:?} {quiet:?}");
}
