//! The targets of multicast, and the verdicts on them. A row that was not measured has no verdict.

use crate::bench::cases::Kind;
use crate::bench::fault_kinds::{GROUP_DARK, MEMBER_SLOW, UNDISTURBED};
use crate::bench::head::{FEWEST, short_row, whole_row};
use crate::bench::peers::Peer;
use crate::bench::report::{FaultCost, Measured, Outcome};
use crate::bench::stranger::{FLOODED, FORGED_RATE};
use crate::bench::verdicts::{Target, Verdict};

/// Time for noticing a fault, in seconds: the default of `--silence`.
const NOTICING: f64 = 2.0;
/// Difference between the wall times of two undisturbed runs, in seconds.
const CLOCK: f64 = 0.1;
/// Most bytes that a member sends by itself, as a part of the payload: reports, joins, and signs of life on its links.
const FEEDBACK: f64 = 0.05;
/// Share by which two runs of the same transfer differ.
const REPEATED: f64 = 0.02;

/// Returns the verdicts on a case of multicast.
pub(crate) fn of(measured: &Measured) -> Vec<Verdict> {
    let mut found = targets(measured);
    let rows = measured
        .outcomes
        .iter()
        .filter(|outcome| is_by_multicast(measured, outcome));
    found.extend(rows.map(sent_nothing_on));
    if let (Kind::Segments, Some(hybrid)) = (measured.case.kind, measured.of(Peer::KaHybrid)) {
        let asked = "it was multicast: at most one node sent the data on";
        let most = FEEDBACK + 1.0 / measured.case.nodes as f64;
        found.push(at_most(most, &hybrid.peer, asked, hybrid.sent_by_node));
    }
    found
}

/// True for a row in which no node may be fed by another.
fn is_by_multicast(measured: &Measured, outcome: &Outcome) -> bool {
    let ours = [Peer::KaMulticast, Peer::KaMulticastClear].map(Peer::name);
    match measured.case.kind {
        Kind::Multicast | Kind::Loss | Kind::Processor => ours.contains(&outcome.peer.as_str()),
        Kind::Head => outcome.peer == whole_row(measured.case.nodes),
        Kind::Stranger => true,
        _ => false,
    }
}

/// Returns the verdict that a row is what its name says: a run that fell back to the chain is none of multicast.
fn sent_nothing_on(outcome: &Outcome) -> Verdict {
    let asked = "it was multicast: a node sent ≤ 0.05 of the data";
    at_most(FEEDBACK, &outcome.peer, asked, outcome.sent_by_node)
}

/// Returns the verdicts on the targets of a case.
fn targets(measured: &Measured) -> Vec<Verdict> {
    match measured.case.kind {
        Kind::Multicast | Kind::Loss => wall(measured).into_iter().collect(),
        Kind::Processor => processor(measured),
        Kind::Head => head(measured),
        Kind::GroupFault => measured
            .outcomes
            .iter()
            .flat_map(|outcome| fault(measured, outcome))
            .collect(),
        Kind::Segments => segments(measured),
        Kind::Stranger => stranger(measured).into_iter().collect(),
        Kind::Stream | Kind::Tree | Kind::Boot | Kind::Fault => Vec::new(),
    }
}

/// Returns the verdict on a figure that must be at most `most`.
fn at_most(most: f64, who: &str, asked: &'static str, figure: f64) -> Verdict {
    Verdict::figure(who, asked, figure, Target::AtMost(most))
}

fn wall(measured: &Measured) -> Option<Verdict> {
    let (most, asked) = match measured.case.lost_of_10_000 {
        0 => (1.02, "wall time ≤ 1.02 × one plain TCP stream's"),
        1..=10 => (1.04, "wall time ≤ 1.04 × a plain stream's without loss"),
        _ => (1.08, "wall time ≤ 1.08 × a plain stream's without loss"),
    };
    let (ours, plain) = (measured.of(Peer::KaMulticast)?, measured.of(Peer::Socat)?);
    let ratio = ours.wall_seconds / plain.wall_seconds;
    Some(at_most(most, &ours.peer, asked, ratio))
}

fn processor(measured: &Measured) -> Vec<Verdict> {
    let pairs = [
        (Peer::KaMulticast, Peer::Ka),
        (Peer::KaMulticastClear, Peer::KaClear),
    ];
    let rows = pairs
        .into_iter()
        .filter_map(|(ours, chain)| Some((measured.of(ours)?, measured.of(chain)?)));
    rows.flat_map(|(ours, chain)| {
        let programs = ours.cpu_per_gib_hop / chain.cpu_per_gib_hop;
        let machine = ours.machine_seconds / chain.machine_seconds;
        [
            at_most(
                0.8,
                &ours.peer,
                "cpu per GiB and hop ≤ 0.8 × our chain's",
                programs,
            ),
            at_most(
                0.8,
                &ours.peer,
                "the same for the machine, with interrupts",
                machine,
            ),
        ]
    })
    .collect()
}

/// Returns the verdicts on the golden node's processor time from the smallest group to the whole network: of
/// everything, and of the data alone, without the joins.
fn head(measured: &Measured) -> Vec<Verdict> {
    let cpu = |name: String| {
        let mut rows = measured.outcomes.iter();
        let row = rows.find(|outcome| outcome.peer == name)?;
        Some(row.cpu_sender_seconds)
    };
    let sizes = [FEWEST, measured.case.nodes];
    let [Some(few), Some(many)] = sizes.map(|nodes| cpu(whole_row(nodes))) else {
        return Vec::new();
    };
    let who = Peer::KaMulticast.name();
    let mut found = vec![at_most(
        1.1,
        who,
        "golden node's cpu grows ≤ 10 % from 2 nodes to all",
        growth(few, many),
    )];
    if let [Some(few_joins), Some(many_joins)] = sizes.map(|nodes| cpu(short_row(nodes))) {
        let data = growth(few - few_joins, many - many_joins);
        found.push(at_most(1.1, who, "the same without the joins and the end", data));
    }
    found
}

/// Returns `many / few`. Without processor time in the smaller group there is no ratio, and NaN meets no target.
fn growth(few: f64, many: f64) -> f64 {
    if few > 0.0 { many / few } else { f64::NAN }
}

fn fault(measured: &Measured, outcome: &Outcome) -> Vec<Verdict> {
    let Some(cost) = outcome.fault else {
        return Vec::new();
    };
    let who = &outcome.peer;
    let mut undisturbed = measured.outcomes.iter().filter(|other| other.peer == UNDISTURBED);
    let undisturbed = undisturbed.next();
    match (who.as_str(), undisturbed) {
        (UNDISTURBED, _) => Vec::new(),
        (MEMBER_SLOW, Some(undisturbed)) => vec![
            at_most(10.0, who, "aside within 10 s", noticed(cost)),
            at_most(
                0.03,
                who,
                "the others are ≤ 3 % later",
                cost.lost_seconds / undisturbed.wall_seconds,
            ),
        ],
        (GROUP_DARK, Some(undisturbed)) => {
            let whole = undisturbed.fault.unwrap_or_default().received_ratio;
            vec![
                at_most(3.0, who, "every node goes on within 3 s", noticed(cost)),
                at_most(
                    1.01,
                    who,
                    "no byte twice: bytes received, of the undisturbed run",
                    cost.received_ratio / whole,
                ),
            ]
        }
        _ => {
            let noticing = cost.noticed_seconds.min(NOTICING);
            let beyond = (cost.lost_seconds - noticing).clamp(0.0, f64::INFINITY);
            vec![at_most(
                CLOCK,
                who,
                "the others lose 0 s beyond noticing (2 s), ± 0.1 s",
                beyond,
            )]
        }
    }
}

/// Returns the time until the fault was noticed. A fault that nobody noticed took for ever.
fn noticed(cost: FaultCost) -> f64 {
    if cost.noticed_seconds > 0.0 {
        cost.noticed_seconds
    } else {
        f64::INFINITY
    }
}

fn segments(measured: &Measured) -> Vec<Verdict> {
    let Some(line) = measured.of(Peer::Socat) else {
        return Vec::new();
    };
    let targets = [
        (Peer::KaHybrid, 1.02, "wall time ≤ 1.02 × the slow line's own"),
        (Peer::KaOrdered, 1.05, "wall time ≤ 1.05 × the slow line's own"),
    ];
    let rows = targets
        .into_iter()
        .filter_map(|(peer, most, asked)| Some((measured.of(peer)?, most, asked)));
    rows.map(|(ours, most, asked)| at_most(most, &ours.peer, asked, ours.wall_seconds / line.wall_seconds))
        .collect()
}

/// Returns the verdict on the rate that the stranger leaves: at least the rest of the line.
fn stranger(measured: &Measured) -> Option<Verdict> {
    let row = |name: &str| measured.outcomes.iter().find(|outcome| outcome.peer == name);
    let (alone, flooded) = (row(UNDISTURBED)?, row(FLOODED)?);
    let share = FORGED_RATE as f64 / measured.case.rate? as f64;
    let lost = 1.0 - flooded.goodput / alone.goodput;
    let asked = "rate down by at most the stranger's share, ± 0.02";
    Some(at_most(share + REPEATED, FLOODED, asked, lost))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cases;

    fn measured(name: &str, outcomes: Vec<Outcome>) -> Measured {
        let mut all = cases::all(false).into_iter();
        let case = all.find(|case| case.name == name).unwrap();
        Measured { case, outcomes }
    }

    fn row(peer: &str) -> Outcome {
        Outcome {
            peer: peer.to_owned(),
            ..Outcome::default()
        }
    }

    fn walls(name: &str, rows: &[(Peer, f64)]) -> Vec<bool> {
        let rows = rows.iter().map(|(peer, wall_seconds)| Outcome {
            wall_seconds: *wall_seconds,
            ..row(peer.name())
        });
        answers(name, rows.collect())
    }

    fn answers(name: &str, outcomes: Vec<Outcome>) -> Vec<bool> {
        targets(&measured(name, outcomes))
            .iter()
            .map(|verdict| verdict.holds().unwrap())
            .collect()
    }

    #[test]
    fn wall_time_is_held_against_a_plain_stream_and_more_loss_allows_more() {
        for (case, good, bad) in [
            ("multicast-8", 10.2, 10.21),
            ("multicast-loss-0.1", 10.4, 10.41),
            ("multicast-loss-1", 10.8, 10.81),
        ] {
            let said = |ours| walls(case, &[(Peer::Socat, 10.0), (Peer::KaMulticast, ours)]);
            assert_eq!(said(good), [true], "{case}");
            assert_eq!(said(bad), [false], "{case}");
        }
        assert!(walls("multicast-8", &[(Peer::KaMulticast, 1.0)]).is_empty());
    }

    #[test]
    fn processor_time_is_held_against_the_chain_of_the_same_encryption() {
        let said = |cpu: [f64; 4], machine: [f64; 4]| {
            let peers = [Peer::Ka, Peer::KaClear, Peer::KaMulticast, Peer::KaMulticastClear];
            let rows = (0..4).map(|index| Outcome {
                cpu_per_gib_hop: cpu[index],
                machine_seconds: machine[index],
                ..row(peers[index].name())
            });
            answers("multicast-cpu-4", rows.collect())
        };
        let (chain_is_dear, all_alike) = ([1.0, 0.9, 0.8, 0.7], [1.0; 4]);
        assert_eq!(said(chain_is_dear, chain_is_dear), [true, true, true, true]);
        assert_eq!(said(chain_is_dear, all_alike), [true, false, true, false]);
        assert_eq!(
            said([1.0, 0.5, 0.8, 0.7], chain_is_dear),
            [true, true, false, true]
        );
    }

    #[test]
    fn the_golden_nodes_processor_time_is_judged_with_and_without_the_joins() {
        let said = |few: (f64, f64), many: (f64, f64)| {
            let cpu = |name: String, cpu_sender_seconds| Outcome {
                cpu_sender_seconds,
                ..row(&name)
            };
            let rows = vec![
                cpu(whole_row(2), few.0),
                cpu(short_row(2), few.1),
                cpu(whole_row(32), many.0),
                cpu(short_row(32), many.1),
            ];
            answers("multicast-head", rows)
        };
        assert_eq!(said((1.0, 0.1), (1.1, 0.1)), [true, false]);
        assert_eq!(said((1.0, 0.1), (1.3, 0.4)), [false, true]);
        assert_eq!(said((1.0, 0.1), (1.05, 0.1)), [true, true]);
    }

    fn fault_row(name: &str, noticed: f64, lost: f64, received: f64) -> Outcome {
        Outcome {
            wall_seconds: 10.0 + lost,
            fault: Some(FaultCost {
                noticed_seconds: noticed,
                lost_seconds: lost,
                received_ratio: received,
            }),
            ..row(name)
        }
    }

    fn after_fault(name: &str, noticed: f64, lost: f64, received: f64) -> Vec<bool> {
        let undisturbed = fault_row(UNDISTURBED, 0.0, 0.0, 1.02);
        answers(
            "multicast-faults",
            vec![undisturbed, fault_row(name, noticed, lost, received)],
        )
    }

    #[test]
    fn a_lost_member_costs_the_others_nothing_beyond_two_seconds_of_noticing() {
        let said = |noticed, lost| after_fault("member killed", noticed, lost, 1.02);
        assert_eq!(said(0.1, 0.15), [true]);
        assert_eq!(
            said(0.1, 0.25),
            [false],
            "noticed early, but the group stood still"
        );
        assert_eq!(said(2.0, 2.05), [true]);
        assert_eq!(said(9.0, 5.0), [false], "late noticing excuses nothing");
    }

    #[test]
    fn a_slow_member_must_be_aside_soon_and_hold_up_nobody() {
        let said = |noticed, lost| after_fault(MEMBER_SLOW, noticed, lost, 1.02);
        assert_eq!(said(9.9, 0.29), [true, true]);
        assert_eq!(said(10.1, 0.31), [false, false]);
        assert_eq!(said(0.0, 0.0), [false, true], "never aside");
    }

    #[test]
    fn a_dark_group_must_go_on_soon_and_repeat_nothing() {
        let said = |noticed, received| after_fault(GROUP_DARK, noticed, 1.0, received);
        assert_eq!(said(2.9, 1.02), [true, true]);
        assert_eq!(said(3.1, 1.04), [false, false]);
        assert_eq!(said(0.0, 1.0), [false, true], "it never went on");
    }

    #[test]
    fn two_segments_are_held_against_the_line_between_them() {
        let said = |hybrid, ordered| {
            let rows = [
                (Peer::Socat, 10.0),
                (Peer::KaHybrid, hybrid),
                (Peer::KaOrdered, ordered),
            ];
            walls("multicast-segments", &rows)
        };
        assert_eq!(said(10.2, 10.5), [true, true]);
        assert_eq!(said(10.3, 10.6), [false, false]);
    }

    #[test]
    fn a_stranger_may_take_his_share_of_the_line_and_no_more() {
        let said = |goodput| {
            let with = |peer, goodput| Outcome { goodput, ..row(peer) };
            let rows = vec![with(UNDISTURBED, 40e6), with(FLOODED, goodput)];
            answers("multicast-stranger", rows)
        };
        assert_eq!(said(30e6), [true]);
        assert_eq!(said(29e6), [false]);
    }

    #[test]
    fn a_row_that_fell_back_to_the_chain_is_none_of_multicast() {
        let said = |case: &str, peer: &str, sent_by_node| {
            let outcome = Outcome {
                sent_by_node,
                ..row(peer)
            };
            let verdicts = of(&measured(case, vec![outcome]));
            verdicts
                .iter()
                .map(|verdict| verdict.holds().unwrap())
                .collect::<Vec<_>>()
        };
        for (case, peer) in [
            ("multicast-8", Peer::KaMulticast.name()),
            ("multicast-cpu-4", Peer::KaMulticastClear.name()),
            ("multicast-loss-1", Peer::KaMulticast.name()),
            ("multicast-head", "32 nodes"),
            ("multicast-stranger", FLOODED),
        ] {
            assert_eq!(said(case, peer, 0.01), [true], "{case}");
            assert_eq!(said(case, peer, 0.9), [false], "{case}");
        }
        assert!(said("multicast-8", Peer::Ka.name(), 0.9).is_empty());
        assert_eq!(said("multicast-segments", Peer::KaHybrid.name(), 0.17), [true]);
        assert_eq!(said("multicast-segments", Peer::KaHybrid.name(), 0.3), [false]);
    }

    /// Every row of a case, with each figure NaN.
    fn without_figures(case: &cases::Case) -> Vec<Outcome> {
        let peers = [
            Peer::Socat,
            Peer::Ka,
            Peer::KaClear,
            Peer::KaMulticast,
            Peer::KaMulticastClear,
            Peer::KaOrdered,
            Peer::KaHybrid,
        ];
        let peers = peers.into_iter().filter(|peer| peer.has_row_in(case.kind));
        let names = peers.map(|peer| peer.name().to_owned());
        let names = names.chain([FEWEST, case.nodes].map(whole_row));
        let names = names.chain([FEWEST, case.nodes].map(short_row));
        let others = [UNDISTURBED, "member killed", MEMBER_SLOW, GROUP_DARK, FLOODED];
        let names = names.chain(others.map(str::to_owned));
        let nan = |peer| Outcome {
            peer,
            wall_seconds: f64::NAN,
            goodput: f64::NAN,
            cpu_sender_seconds: f64::NAN,
            cpu_per_gib_hop: f64::NAN,
            machine_seconds: f64::NAN,
            sent_by_node: f64::NAN,
            fault: Some(FaultCost {
                noticed_seconds: f64::NAN,
                lost_seconds: f64::NAN,
                received_ratio: f64::NAN,
            }),
            ..Outcome::default()
        };
        names.map(nan).collect()
    }

    #[test]
    fn a_figure_that_could_not_be_computed_meets_no_target() {
        let all = cases::all(false).into_iter();
        for case in all.filter(|case| case.kind.uses_groups()) {
            let (name, outcomes) = (case.name.clone(), without_figures(&case));
            let verdicts = of(&Measured { case, outcomes });
            assert!(!verdicts.is_empty(), "{name}: no verdict");
            for verdict in verdicts {
                assert_eq!(verdict.holds(), Some(false), "{name}: {verdict:?}");
            }
        }
    }

    #[test]
    fn joins_that_took_longer_than_the_whole_transfer_are_no_ground_for_a_yes() {
        let cpu = |name: String, cpu_sender_seconds| Outcome {
            cpu_sender_seconds,
            ..row(&name)
        };
        let rows = vec![
            cpu(whole_row(2), 1.0),
            cpu(short_row(2), 1.1),
            cpu(whole_row(32), 1.0),
            cpu(short_row(32), 0.1),
        ];
        assert_eq!(answers("multicast-head", rows), [true, false]);
    }

    #[test]
    fn every_case_of_multicast_has_a_row_of_ka_by_multicast() {
        for case in cases::all(false) {
            let is_ours = case.name.starts_with("multicast");
            assert_eq!(is_ours, case.kind.uses_groups(), "{}", case.name);
            let ours = [Peer::KaMulticast, Peer::KaHybrid];
            assert_eq!(
                is_ours,
                ours.iter().any(|peer| peer.has_row_in(case.kind)),
                "{}",
                case.name
            );
        }
    }
}
