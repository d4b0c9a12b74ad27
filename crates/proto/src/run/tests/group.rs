//! The multicast group of a round.

use super::*;
use crate::control::StreamGroup;
use crate::group::Report;

fn plan(members: &[u32]) -> GroupPlan {
    GroupPlan {
        addr: "239.255.3.4:50000".parse().unwrap(),
        shard_bytes: 1448,
        members: members.iter().copied().map(NodeId).collect(),
    }
}

/// Returns a run of so many nodes with this group, and its open stream.
fn streaming(nodes: u32, members: &[u32]) -> (Driver, HeadStream) {
    let mut driver = Driver::gathered(nodes, config());
    driver.run.set_group(Some(plan(members)));
    let head = driver.open_stream();
    (driver, head)
}

fn group_of(driver: &Driver, conn: u64) -> Option<StreamGroup> {
    let orders = driver.sent_to(conn);
    orders.iter().rev().find_map(|order| match order {
        ToNode::OpenStream(open) => Some(open.group),
        _ => None,
    })?
}

fn leavers(driver: &Driver) -> Vec<(Vec<u32>, u32, String)> {
    let events = driver.events.iter();
    events
        .filter_map(|event| match event {
            RunEvent::LeftGroup { nodes, left, reason } => Some((
                nodes.iter().map(|node| node.id.0).collect(),
                *left,
                reason.to_string(),
            )),
            _ => None,
        })
        .collect()
}

#[test]
fn every_node_is_told_of_the_group_and_if_it_is_a_member() {
    let (driver, head) = streaming(3, &[1, 3]);
    let (group, members) = head.group.unwrap();
    assert_eq!(members, [NodeId(1), NodeId(3)]);
    let told: Vec<_> = (1..=3)
        .map(|conn| group_of(&driver, conn).unwrap().is_member)
        .collect();
    assert_eq!(told, [true, false, true]);
    assert_eq!((group.sender, group.report_every_ms), (NodeId::SERVER, 50));
}

#[test]
fn members_of_a_large_group_report_less_often() {
    let chain: Vec<NodeId> = (1..=1000).map(NodeId).collect();
    let (group, _) = plan(&(1..=1000).collect::<Vec<_>>()).for_chain(&chain).unwrap();
    assert_eq!(group.report_every_ms, 250);
    assert!(
        plan(&[7]).for_chain(&[NodeId(1)]).is_none(),
        "no member is in the chain"
    );
}

#[test]
fn reports_of_members_go_to_the_head_and_those_of_others_do_not() {
    let (mut driver, head) = streaming(2, &[1]);
    let report = Report::default();
    for conn in [1, 2] {
        let report = report.clone();
        driver.says(
            conn,
            ToServer::GroupReport {
                stream: head.stream,
                report,
            },
        );
    }
    let expected = HeadOrder::GroupReport {
        stream: head.stream,
        node: NodeId(1),
        report,
    };
    assert_eq!(driver.head, [expected]);
}

#[test]
fn a_member_that_is_lost_is_no_member_any_more() {
    let (mut driver, head) = streaming(3, &[1, 2, 3]);
    driver.closes(2);
    let stream = head.stream;
    assert!(driver.head.contains(&HeadOrder::LeftGroup {
        stream,
        node: NodeId(2)
    }));
    assert!(leavers(&driver).is_empty(), "its failure says enough");
}

#[test]
fn members_that_leave_together_are_told_of_once_and_stay_in_the_chain() {
    let (mut driver, head) = streaming(4, &[1, 2, 3, 4]);
    let (stream, reason) = (head.stream, Reason::new("nothing comes for 1 s"));
    for conn in [2, 4] {
        driver.says(
            conn,
            ToServer::LeftGroup {
                stream,
                reason: reason.clone(),
            },
        );
        // Said twice, it counts once.
        driver.says(
            conn,
            ToServer::LeftGroup {
                stream,
                reason: reason.clone(),
            },
        );
    }
    let left: Vec<_> = driver
        .head
        .iter()
        .filter(|order| matches!(order, HeadOrder::LeftGroup { .. }))
        .collect();
    assert_eq!(left.len(), 2);
    driver.pass(SECOND, &[1, 2, 3, 4]);
    assert_eq!(leavers(&driver), [(vec![2, 4], 2, reason.to_string())]);
    for conn in 1..=4 {
        driver.done(conn, stream);
    }
    assert!(driver.stream_outcomes().unwrap().iter().all(|(_, is_ok)| *is_ok));
    // The next stream of the round goes without them.
    let (_, members) = driver.open_stream().group.unwrap();
    assert_eq!(members, [NodeId(1), NodeId(3)]);
}

#[test]
fn a_member_that_the_sender_takes_out_is_told_so() {
    let (mut driver, head) = streaming(2, &[1, 2]);
    let reason = Reason::new("it loses 7 % of the datagrams");
    driver
        .run
        .handle_group_leave(driver.now, head.stream, NodeId(2), &reason);
    driver.drain();
    let stream = head.stream;
    assert_eq!(
        driver.sent_to(2).last(),
        Some(&&ToNode::LeaveGroup {
            stream,
            reason: reason.clone()
        })
    );
    // A stream that ends tells what was not told yet.
    for conn in [1, 2] {
        driver.done(conn, stream);
    }
    assert_eq!(leavers(&driver), [(vec![2], 1, reason.to_string())]);
}

#[test]
fn when_the_sender_cannot_send_everybody_leaves_and_later_streams_have_no_group() {
    let (mut driver, head) = streaming(2, &[1, 2]);
    let reason = Reason::new("the server cannot send multicast: network is down");
    driver.run.handle_group_ended(driver.now, head.stream, &reason);
    driver.drain();
    for conn in [1, 2] {
        assert!(matches!(
            driver.sent_to(conn).last(),
            Some(ToNode::LeaveGroup { .. })
        ));
        driver.done(conn, head.stream);
    }
    assert_eq!(leavers(&driver), [(vec![1, 2], 0, reason.to_string())]);
    assert_eq!(driver.open_stream().group, None);
}

#[test]
fn a_member_that_the_spool_feeds_leaves_the_group() {
    let mut driver = Driver::gathered(
        3,
        RunConfig {
            spool: true,
            ..config()
        },
    );
    driver.run.set_group(Some(plan(&[1, 2, 3])));
    let stream = driver.open_stream().stream;
    let (offset, reason) = (StreamOffset(5), Reason::new("it has bytes from 9 on"));
    driver.says(
        2,
        ToServer::DataGone {
            stream,
            offset,
            reason,
        },
    );
    let is_told = |message: &&ToNode| matches!(message, ToNode::LeaveGroup { .. });
    assert!(driver.sent_to(2).iter().any(is_told));
    assert!(driver.head.contains(&HeadOrder::LeftGroup {
        stream,
        node: NodeId(2)
    }));
    assert!(driver.head.contains(&HeadOrder::OpenBranch {
        stream,
        node: NodeId(2)
    }));
}
