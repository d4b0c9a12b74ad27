//! Figures of the group: bytes sent, feedback, time.

use std::time::Duration;

use super::{Loss, MemberPlan, Outcome, Plan, run};

fn independent(p: u64) -> MemberPlan {
    MemberPlan {
        loss: Loss::Independent(p),
        ..MemberPlan::default()
    }
}

/// Returns the packets of a stripe of `k` that are sent, on the average, until each of `n` members has `k` of
/// them, for each of the `k`. Each member loses each packet with the probability `p`. This is what parity of
/// a perfect code can reach (Nonnenmacher, Biersack, Towsley: "Parity-based loss recovery", 1998).
fn bound(k: u32, n: i32, p: f64) -> f64 {
    // Of m packets, one member has at least k with the probability P(m): the expectation of the greatest of n
    // is the sum of 1 - P(m)^n over all m.
    let mut expected = f64::from(k);
    let mut at_most = (1.0 - p).powi(i32::try_from(k).unwrap());
    let mut probability = at_most;
    for extra in 1..10_000 {
        expected += 1.0 - at_most.powi(n);
        if 1.0 - at_most < 1e-15 {
            break;
        }
        probability *= f64::from(k + extra - 1) / f64::from(extra) * p;
        at_most += probability;
    }
    expected / f64::from(k)
}

#[test]
fn the_bound_is_that_of_the_literature() {
    for (n, p, right) in [
        (50, 0.001, 1.010),
        (200, 0.001, 1.014),
        (1000, 0.001, 1.018),
        (50, 0.01, 1.035),
        (200, 0.01, 1.042),
        (1000, 0.01, 1.050),
        (200, 0.05, 1.119),
    ] {
        let bound = bound(128, n, p);
        assert!((bound - right).abs() < 0.0006, "{n} {p}: {bound}");
    }
}

fn all_done(outcome: &Outcome) {
    assert!(outcome.gone.is_empty(), "{:?}", outcome.gone);
    assert!(outcome.done.iter().all(Option::is_some));
}

/// Runs `n` members and compares the bytes with the bound.
fn bytes_are_near_the_bound(n: usize, stripes: usize, p: u64) -> Outcome {
    let outcome = run(&Plan::new(n, stripes, independent(p)));
    all_done(&outcome);
    let bound = bound(128, i32::try_from(n).unwrap(), p as f64 / 1e6);
    let sent = outcome.overhead() as f64 / 1e6;
    assert!(
        sent <= 1.02 * bound,
        "N = {n}, {p} millionths: {sent}, the bound is {bound}"
    );
    outcome
}

#[test]
fn fifty_members_cost_little_more_than_the_bound() {
    for p in [1000, 10_000, 50_000] {
        bytes_are_near_the_bound(50, 100, p);
    }
}

#[test]
fn two_hundred_members_cost_little_more_than_the_bound_and_say_little() {
    for p in [1000, 10_000, 50_000] {
        let outcome = bytes_are_near_the_bound(200, 240, p);
        assert!(
            outcome.feedback() <= 5000,
            "feedback {} millionths",
            outcome.feedback()
        );
    }
}

#[test]
fn a_thousand_members_cost_little_more_than_the_bound() {
    for p in [1000, 10_000, 50_000] {
        bytes_are_near_the_bound(1000, 15, p);
    }
}

#[test]
fn the_time_is_that_of_the_line() {
    for (n, p, most) in [
        (8, 0, 1.02),
        (32, 0, 1.02),
        (8, 1000, 1.04),
        (16, 1000, 1.04),
        (32, 1000, 1.04),
        (8, 10_000, 1.08),
        (16, 10_000, 1.08),
        (32, 10_000, 1.08),
    ] {
        let mut plan = Plan::new(n, 400, independent(p));
        plan.line = 10_000;
        let outcome = run(&plan);
        all_done(&outcome);
        let times = outcome.wall().as_secs_f64() / plan.line_time().as_secs_f64();
        assert!(
            times <= most,
            "N = {n}, {p} millionths: {times} of the line's time"
        );
    }
}

#[test]
fn two_members_of_eight_that_lose_five_percent_slow_the_group_by_less_than_a_tenth() {
    let mut plan = Plan::new(8, 400, MemberPlan::default());
    plan.line = 10_000;
    plan.members[3] = independent(50_000);
    plan.members[5] = independent(50_000);
    let outcome = run(&plan);
    assert!(
        outcome.wall().as_secs_f64() < plan.line_time().as_secs_f64() / 0.9,
        "{outcome:?}"
    );
}

#[test]
fn the_rate_rises_to_the_line_from_half_of_it() {
    let mut plan = Plan::new(4, 400, independent(0));
    plan.line = 10_000;
    plan.start_percent = 50;
    let outcome = run(&plan);
    all_done(&outcome);
    assert!(
        outcome.wall() < plan.line_time() + Duration::from_millis(500),
        "{outcome:?}"
    );
}
