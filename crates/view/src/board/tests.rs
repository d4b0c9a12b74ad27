//! The state of a run after its events.

use std::time::Duration;

use super::{Board, NodeLine};
use ka_proto::order::Crossings;
use ka_report::event::{NodeEvent, Step};
use ka_report::run::{NodeProgress, NodeRef, RunEvent};
use ka_report::summary::StreamTotals;

fn node(id: u32, position: u32) -> NodeRef {
    NodeRef {
        id,
        name: format!("n{id}"),
        addr: format!("10.0.1.{id}"),
        position,
    }
}

fn running() -> Board {
    let mut board = Board::default();
    for (at, event) in [
        (
            0,
            RunEvent::NodeJoined {
                node: node(2, 1),
                present: 1,
                wanted: Some(2),
            },
        ),
        (
            1,
            RunEvent::NodeJoined {
                node: node(1, 1),
                present: 2,
                wanted: Some(2),
            },
        ),
        (
            2,
            RunEvent::LetsGo {
                nodes: vec![node(1, 1), node(2, 2)],
                wiring: Vec::new(),
                crossings: Crossings::default(),
            },
        ),
        (
            3,
            RunEvent::SessionStarted {
                session: "kainstall2".into(),
                what: "sending the tree".into(),
                expected_bytes: Some(1 << 30),
            },
        ),
        (
            3,
            RunEvent::NodeStep {
                node: node(1, 1),
                step: NodeEvent::started(Step::Restore),
            },
        ),
        (4, progress(100)),
        (6, progress(300)),
    ] {
        board.handle(Duration::from_secs(at), &event);
    }
    board
}

fn progress(mib: u64) -> RunEvent {
    let at = |id, behind| NodeProgress {
        id,
        received_bytes: (mib - behind) << 20,
        consumed_bytes: (mib - behind) << 20,
        buffered_bytes: 3 << 20,
    };
    RunEvent::Progress {
        sent_bytes: mib << 19,
        content_bytes: mib << 20,
        nodes: vec![at(1, 0), at(2, 50)],
    }
}

#[test]
fn each_node_has_a_line_in_chain_order_with_state_bytes_and_rate() {
    let board = running();
    let lines: Vec<_> = board
        .nodes()
        .iter()
        .map(|node| format!("{} {}", node.name(), node.doing()))
        .collect();
    assert_eq!(
        lines,
        [
            "n1 restoring  300.0 MiB  100.0 MiB/s",
            "n2 waiting  250.0 MiB  100.0 MiB/s",
        ]
    );
    assert_eq!(board.slowest().map(NodeLine::short).unwrap(), "n2 250.0 MiB");
}

#[test]
fn the_one_that_holds_up_the_others_is_shown_and_not_one_that_is_only_below_it() {
    let mut board = running();
    let slow = ka_report::slow::Slow {
        why: ka_proto::pace::Bottleneck::Link,
        rate_bytes: 1_100_000,
        others_bytes: 11_800_000,
        waiting: 1,
        text: "its line carries 1.1 MB/s".to_owned(),
    };
    let named = RunEvent::SlowNode {
        node: Some(node(1, 1)),
        slow,
        set_aside: false,
    };
    board.handle(Duration::from_secs(7), &named);
    assert_eq!(board.slowest().map(NodeLine::short).unwrap(), "n1 300.0 MiB");
}

#[test]
fn the_total_has_bytes_rate_and_time_left() {
    let total = running().total(Duration::from_secs(6)).unwrap();
    assert_eq!(
        total,
        "kainstall2: sending the tree, 300.0 MiB of about 1.0 GiB (150.0 MiB sent), 100.0 MiB/s, 0:07 left"
    );
}

#[test]
fn the_total_says_who_is_waited_for_and_what_comes_after_the_data() {
    let mut board = Board::default();
    assert_eq!(board.total(Duration::ZERO), None);
    board.handle(
        Duration::ZERO,
        &RunEvent::NodeJoined {
            node: node(2, 1),
            present: 1,
            wanted: Some(2),
        },
    );
    assert_eq!(
        board.total(Duration::ZERO).unwrap(),
        "waiting for nodes: 1 of 2 present"
    );
    let totals = StreamTotals {
        round: 1,
        name: "kainstall2".into(),
        bytes: 1,
        blocks: 1,
        sending_ms: 1,
        emptied_in_ms: 1,
        golden: None,
    };
    board.handle(Duration::ZERO, &RunEvent::SessionEnded { totals });
    assert_eq!(
        board.total(Duration::ZERO).unwrap(),
        "kainstall2 is through, the nodes go on"
    );
}

#[test]
fn a_failed_node_keeps_its_reason_and_is_no_longer_the_slowest() {
    let mut board = running();
    let failed = RunEvent::NodeFailed {
        node: node(2, 2),
        stage: "restoring".into(),
        reason: "disk full".into(),
    };
    board.handle(Duration::from_secs(7), &failed);
    assert_eq!(board.nodes()[1].failure(), Some(("restoring", "disk full")));
    assert_eq!(board.slowest().unwrap().node.id, 1);
}

#[test]
fn the_time_left_and_the_bar_are_those_of_the_last_node() {
    let mut board = running();
    let at = |id, mib: u64| NodeProgress {
        id,
        received_bytes: mib << 20,
        consumed_bytes: mib << 20,
        buffered_bytes: 0,
    };
    // The golden node has read everything. n2 has 100 of 512 MiB of the stream, and takes 10 MiB in a second.
    for (secs, slow) in [(8, 80), (10, 100)] {
        board.handle(
            Duration::from_secs(secs),
            &RunEvent::Progress {
                sent_bytes: 512 << 20,
                content_bytes: 1 << 30,
                nodes: vec![at(1, 512), at(2, slow)],
            },
        );
    }
    let total = board.total(Duration::from_secs(10)).unwrap();
    let left = total.rsplit(", ").next().unwrap();
    assert_ne!(left, "0:00 left", "{total}");
    let flow = board.flow(Duration::from_secs(10)).unwrap();
    assert_eq!(flow.bytes, Some((200 << 20, Some(1 << 30))));
    assert_eq!(flow.percent, Some(19));
}
