//! Tests of the roster.

use ka_mac::MacAddr;
use ka_proto::run::NodeInfo;
use ka_proto::{ChainPosition, NodeId, NodeName};
use ka_report::boot::{FirstBoot, SeenBy};
use ka_report::report::NodeReport;
use ka_report::summary::NodeOutcome;

use super::{Asking, Roster};

fn info(id: u32, last: u8, position: u32) -> NodeInfo {
    NodeInfo {
        id: NodeId(id),
        name: named(&format!("n{id}")),
        addr: ([10, 0, 1, last], 30764).into(),
        mac: None,
        position: ChainPosition(position),
        holds_clone: false,
        wiring: None,
    }
}

fn named(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn failed(reason: &str) -> NodeOutcome {
    NodeOutcome::Failed {
        stage: "formatting".into(),
        reason: reason.into(),
    }
}

#[test]
fn an_arriving_node_is_told_its_place_by_address_and_not_by_time() {
    let mut roster = Roster::default();
    assert_eq!(roster.join(&info(1, 9, 0)).position, 1);
    assert_eq!(roster.join(&info(2, 100, 0)).position, 2);
    assert_eq!(roster.join(&info(3, 10, 0)).position, 2);
}

#[test]
fn the_first_outcome_of_a_node_counts() {
    let mut roster = Roster::default();
    roster.join(&info(1, 1, 0));
    roster.order(&[info(1, 1, 1)]);
    let done = NodeOutcome::Done {
        report: NodeReport::default(),
    };
    assert!(roster.settle(1, done.clone()).is_some());
    assert!(roster.settle(1, failed("connection lost")).is_none());
    assert_eq!(roster.summaries()[0].outcome, done);
    assert!(roster.unsettled().is_empty());
    assert!(roster.settle(77, failed("who?")).is_none());
}

#[test]
fn a_clone_can_be_called_back_but_a_failure_stays_what_it_is() {
    let mut roster = Roster::default();
    roster.join(&info(1, 1, 1));
    roster.join(&info(2, 2, 2));
    let report = NodeReport::default();
    roster.settle(1, NodeOutcome::Done { report });
    roster.settle(2, failed("no disk"));
    for id in [1, 2] {
        roster.revoke(id);
        roster.settle(id, failed("the same machine-id"));
    }
    let outcomes: Vec<_> = roster.summaries().into_iter().map(|node| node.outcome).collect();
    assert_eq!(outcomes, [failed("the same machine-id"), failed("no disk")]);
}

#[test]
fn only_clones_are_waited_for_and_each_comes_back_once() {
    let mut roster = Roster::default();
    for id in 1..=3 {
        roster.join(&info(id, u8::try_from(id).unwrap(), id));
    }
    let mac = MacAddr([2, 0, 0, 0, 0, 2]);
    roster.learn_mac(2, mac);
    for id in [1, 2] {
        let report = NodeReport::default();
        roster.settle(id, NodeOutcome::Done { report });
    }
    roster.settle(3, failed("no disk"));
    assert_eq!(
        roster.came_back(1, SeenBy::Beacon, 5),
        None,
        "it is not released yet"
    );
    assert_eq!(roster.expect_boots(), 2);
    assert_eq!(roster.id_of(mac), Some(2));
    assert!(roster.came_back(2, SeenBy::Dhcp, 5).is_some());
    assert_eq!(roster.came_back(2, SeenBy::Beacon, 9), None);
    assert_eq!(roster.came_back(3, SeenBy::Beacon, 9), None, "it failed");
    assert_eq!(roster.missing_boots(), 1);
    let boots: Vec<_> = roster.summaries().iter().map(|node| node.first_boot).collect();
    let seen = FirstBoot::Booted {
        seen_by: SeenBy::Dhcp,
        after_ms: 5,
    };
    assert_eq!(boots, [Some(FirstBoot::NeverCameBack), Some(seen), None]);
}

#[test]
fn an_address_that_is_asked_for_proves_a_boot_only_by_name_after_the_node_has_gone_and_without_a_beacon() {
    let mut roster = Roster::default();
    for id in 1..=2 {
        roster.join(&info(id, u8::try_from(id).unwrap(), id));
        let report = NodeReport {
            beacon: id == 2,
            ..NodeReport::default()
        };
        roster.settle(id, NodeOutcome::Done { report });
    }
    roster.expect_boots();
    assert_eq!(
        roster.asks_for_address(1, Some("n1")),
        Asking::Nothing,
        "it is still connected"
    );
    roster.gone(1);
    roster.gone(2);
    for other in [None, Some(""), Some("host1"), Some("n11"), Some(".")] {
        assert_eq!(roster.asks_for_address(1, other), Asking::Nothing, "{other:?}");
    }
    assert_eq!(roster.asks_for_address(1, Some("N1.lab.example")), Asking::Proof);
    assert!(matches!(
        roster.asks_for_address(2, Some("n2")),
        Asking::ComingUp(_)
    ));
    assert_eq!(
        roster.asks_for_address(2, Some("n2")),
        Asking::Nothing,
        "it was told"
    );
    assert_eq!(roster.missing_boots(), 2);
}

#[test]
fn a_beacon_of_a_node_that_came_back_under_another_number_is_its_own() {
    let mut roster = Roster::default();
    for (id, name) in [(1, "other"), (7, "n1")] {
        let info = NodeInfo {
            name: named(name),
            ..info(id, u8::try_from(id).unwrap(), id)
        };
        roster.join(&info);
        let report = NodeReport::default();
        roster.settle(id, NodeOutcome::Done { report });
    }
    roster.expect_boots();
    assert_eq!(roster.cloned_as(1, "n1", None), 7);
    assert_eq!(roster.cloned_as(1, "other", None), 1);
}

#[test]
fn a_node_that_was_lost_and_came_back_counts_once_and_as_the_last_round_left_it() {
    let mut roster = Roster::default();
    for id in 1..=2 {
        roster.join(&info(id, u8::try_from(id).unwrap(), id));
    }
    let done = NodeOutcome::Done {
        report: NodeReport::default(),
    };
    roster.settle(1, done.clone());
    roster.settle(2, failed("its connection broke"));
    roster.may_return(2);
    // The node comes back with a new number, the same name and address. Another node was late.
    let back = NodeInfo {
        name: named("n2"),
        ..info(3, 2, 0)
    };
    roster.queue(&info(4, 4, 0));
    assert_eq!(roster.end_round(), (1, 1));
    roster.join(&back);
    roster.join(&info(4, 4, 0));
    roster.settle(3, done.clone());
    roster.settle(4, failed("no disk"));
    let all = roster.summaries();
    let short: Vec<_> = all.iter().map(|node| (node.node.id, node.round)).collect();
    assert_eq!(short, [(1, 1), (3, 2), (4, 2)]);
    assert_eq!(all[1].outcome, done);
    assert_eq!(
        roster.end_round(),
        (0, 0),
        "one that failed by itself does not come back"
    );
}

#[test]
fn the_summary_is_in_chain_order() {
    let mut roster = Roster::default();
    for (id, last) in [(1, 30), (2, 20), (3, 10)] {
        roster.join(&info(id, last, 0));
    }
    roster.order(&[info(3, 10, 1), info(2, 20, 2), info(1, 30, 3)]);
    for id in 1..=3 {
        roster.settle(id, failed("x"));
    }
    let ids: Vec<_> = roster.summaries().iter().map(|summary| summary.node.id).collect();
    assert_eq!(ids, [3, 2, 1]);
}

#[test]
fn disks_that_were_written_in_any_round_are_erased_until_the_node_is_done() {
    let mut roster = Roster::default();
    roster.join(&info(1, 9, 1));
    roster.works(1, ka_report::event::Step::Check);
    assert!(roster.settle(1, failed("lost")).is_some());
    assert!(!roster.summaries()[0].erased);
    roster.works(1, ka_report::event::Step::Partition);
    assert!(roster.summaries()[0].erased);
    roster.end_round();
    // The machine comes back as another node, and fails before it writes again.
    let again = NodeInfo {
        name: named("n1"),
        ..info(2, 9, 1)
    };
    roster.join(&again);
    roster.settle(2, failed("checking"));
    let summaries = roster.summaries();
    assert!(summaries.len() == 1 && summaries[0].erased, "{summaries:?}");
}

#[test]
fn who_waited_for_a_round_and_was_gone_before_it_did_anything_was_never_there() {
    let mut roster = Roster::default();
    roster.join(&info(1, 9, 1));
    roster.settle(
        1,
        NodeOutcome::Done {
            report: NodeReport::default(),
        },
    );
    roster.end_round();
    for id in [2, 3] {
        roster.join(&info(id, 10, 1));
        roster.may_return(id);
    }
    roster.works(3, ka_report::event::Step::ChooseDisks);
    roster.settle(2, failed("its connection broke"));
    roster.settle(3, failed("its connection broke"));
    let left: Vec<u32> = roster.summaries().iter().map(|summary| summary.node.id).collect();
    assert_eq!(left, [1, 3]);
}

#[test]
fn a_twin_is_told_by_its_address() {
    let mut roster = Roster::default();
    roster.join(&info(1, 9, 1));
    assert_eq!(roster.done_elsewhere("n1", [10, 0, 1, 77].into()), None);
    roster.settle(
        1,
        NodeOutcome::Done {
            report: NodeReport::default(),
        },
    );
    assert_eq!(roster.done_elsewhere("n1", [10, 0, 1, 9].into()), None);
    let twin = roster.done_elsewhere("n1", [10, 0, 1, 77].into());
    assert_eq!(twin.map(|node| node.id), Some(1));
}
