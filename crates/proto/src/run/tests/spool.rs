//! Nodes that lost their place in a stream that is kept: those that go on in the round, and those that wait
//! for the next one.

use super::*;

fn kept(nodes: u32) -> (Driver, StreamId) {
    let (spool, rounds) = (true, 2);
    let mut driver = Driver::gathered(
        nodes,
        RunConfig {
            spool,
            rounds,
            ..config()
        },
    );
    let stream = driver.open_stream().stream;
    (driver, stream)
}

impl Driver {
    /// Lets the successor and the server give up node `silent`, while the others answer.
    fn goes_silent(&mut self, silent: u64, successor: u64, others: &[u64], stream: StreamId) {
        self.pass(limits::LINK_SILENCE - SECOND / 4, others);
        self.loses_upstream(successor, stream);
        self.pass(SECOND / 4, others);
        assert!(
            self.away().contains(&u32::try_from(silent).unwrap()),
            "{:?}",
            self.events
        );
    }

    fn away(&self) -> Vec<u32> {
        let away = self.events.iter().filter_map(|event| match event {
            RunEvent::NodeAway { node, .. } => Some(node.id.0),
            _ => None,
        });
        away.collect()
    }

    fn branches(&self) -> Vec<u32> {
        let branches = self.head.iter().filter_map(|event| match event {
            HeadOrder::OpenBranch { node, .. } => Some(node.0),
            _ => None,
        });
        branches.collect()
    }

    /// Answers the last ping of a node.
    fn comes_back(&mut self, conn: u64) {
        let pings = self.sent.iter().rev().filter(|(to, _)| *to == ConnId(conn));
        let number = pings.into_iter().find_map(|(_, message)| match message {
            ToNode::Ping(number) => Some(*number),
            _ => None,
        });
        self.says(conn, ToServer::Pong(number.unwrap()));
    }

    fn misses(&mut self, conn: u64, stream: StreamId) {
        let (offset, reason) = (StreamOffset(5), Reason::new("data from byte 5 on is needed"));
        self.says(
            conn,
            ToServer::DataGone {
                stream,
                offset,
                reason,
            },
        );
    }

    fn last_relink(&self, conn: u64) -> Option<Relink> {
        let sent = self.sent_to(conn).into_iter().rev();
        sent.filter_map(|message| match message {
            ToNode::Relink(relink) => Some(relink.clone()),
            _ => None,
        })
        .next()
    }

    fn predecessor(&self, conn: u64) -> Option<u32> {
        let relinks = self.sent_to(conn).into_iter().rev();
        relinks
            .filter_map(|message| match message {
                ToNode::Relink(relink) => relink.predecessor,
                _ => None,
            })
            .map(|peer| peer.node.0)
            .next()
    }
}

#[test]
fn a_node_that_was_silent_comes_back_and_is_fed_by_a_head_of_its_own() {
    let (mut driver, stream) = kept(3);
    driver.goes_silent(2, 3, &[1, 3], stream);
    assert_eq!(driver.predecessor(3), Some(1), "the chain is closed around it");
    driver.pass(SECOND, &[1, 3]);
    driver.comes_back(2);
    assert_eq!(driver.branches(), [2]);
    let relink = driver.last_relink(2).unwrap();
    assert_eq!(relink.predecessor.map(|peer| peer.node), Some(NodeId::SERVER));
    assert_eq!(
        relink.successor,
        Some(Successor::Nobody),
        "its successor has another predecessor"
    );
    let up = ToServer::LinkUp {
        stream,
        side: Side::Upstream,
        offset: StreamOffset(77),
    };
    driver.says(2, up.clone());
    driver.says(2, up);
    let rejoined = driver.events.iter().filter(|event| {
        matches!(event, RunEvent::NodeRejoined { node, offset: StreamOffset(77), .. } if node.id == NodeId(2))
    });
    assert_eq!(rejoined.count(), 1);
    for node in 1..=3 {
        driver.done(node, stream);
    }
    assert_eq!(
        driver.stream_outcomes(),
        Some(vec![(1, true), (2, true), (3, true)])
    );
}

#[test]
fn a_pong_from_before_a_node_was_given_up_does_not_bring_it_back() {
    let (mut driver, stream) = kept(3);
    driver.goes_silent(2, 3, &[1, 3], stream);
    driver.says(2, ToServer::Pong(0));
    assert!(driver.branches().is_empty());
}

#[test]
fn the_stream_waits_for_a_silent_node_and_gives_it_up_when_it_never_comes_back() {
    let (mut driver, stream) = kept(3);
    driver.goes_silent(2, 3, &[1, 3], stream);
    driver.done(1, stream);
    driver.done(3, stream);
    assert_eq!(driver.stream_outcomes(), None);
    driver.pass(limits::CONTROL_SILENCE + SECOND, &[1, 3]);
    assert_eq!(
        driver.stream_outcomes(),
        Some(vec![(1, true), (2, false), (3, true)])
    );
    assert_eq!(
        driver.failures(),
        [(2, "stream 1: nothing heard from it for 15 s".to_owned())]
    );
}

#[test]
fn a_node_whose_data_is_gone_is_fed_with_all_those_below_it() {
    let (mut driver, stream) = kept(4);
    driver.misses(3, stream);
    assert_eq!(driver.branches(), [3]);
    assert_eq!(driver.predecessor(3), Some(0));
    assert_eq!(driver.last_relink(4), None, "the one below keeps its predecessor");
    assert_eq!(
        driver.last_relink(2).unwrap().successor,
        Some(Successor::Nobody),
        "the chain ends above it"
    );
    assert_eq!(driver.failures(), []);
}

#[test]
fn when_the_first_node_of_the_chain_misses_data_the_head_goes_on_without_a_successor() {
    let (mut driver, stream) = kept(2);
    driver.misses(1, stream);
    assert!(driver.head.iter().any(|event| matches!(
        event,
        HeadOrder::Successor {
            successor: Successor::Nobody,
            ..
        }
    )));
    assert_eq!(driver.branches(), [1]);
}

#[test]
fn when_the_first_of_a_branch_is_lost_the_next_one_is_fed_in_its_place() {
    let (mut driver, stream) = kept(4);
    driver.misses(3, stream);
    driver.closes(3);
    assert_eq!(driver.branches(), [3, 4]);
    assert!(
        driver
            .head
            .iter()
            .any(|event| matches!(event, HeadOrder::CloseBranch { node: NodeId(3), .. }))
    );
    assert_eq!(driver.predecessor(4), Some(0));
    assert!(driver.sent_to(2).iter().all(
        |message| !matches!(message, ToNode::Relink(relink) if relink.successor == Some(Successor::Node(NodeId(4))))
    ));
}

#[test]
fn a_link_of_a_branch_that_breaks_is_made_again_from_what_is_kept() {
    let (mut driver, stream) = kept(3);
    driver.misses(3, stream);
    driver.run.handle_branch_lost(driver.now, stream, NodeId(3));
    driver.drain();
    driver.loses_upstream(3, stream);
    assert_eq!(driver.branches(), [3, 3]);
    assert_eq!(driver.failures(), []);
}

#[test]
fn a_fifth_stray_waits_for_the_next_round() {
    let (mut driver, stream) = kept(12);
    for node in [2, 4, 6, 8, 10] {
        driver.misses(node, stream);
    }
    assert_eq!(driver.branches(), [2, 4, 6, 8]);
    let failed: Vec<u32> = driver.failures().into_iter().map(|(node, _)| node).collect();
    assert_eq!(failed, [10]);
    let again = |message: &&ToNode| matches!(message, ToNode::Abort { again: true, .. });
    assert!(driver.sent_to(10).iter().any(again));
}

#[test]
fn when_the_stream_is_kept_no_longer_who_was_fed_from_it_waits_for_the_next_round() {
    let (mut driver, stream) = kept(6);
    driver.goes_silent(2, 3, &[1, 3, 4, 5, 6], stream);
    driver.misses(5, stream);
    driver
        .run
        .handle_spool_lost(driver.now, &Reason::new("the disk is full"));
    driver.drain();
    let failed: Vec<u32> = driver.failures().into_iter().map(|(node, _)| node).collect();
    assert_eq!(failed, [2, 5, 6]);
    driver.misses(4, stream);
    assert_eq!(driver.failures().len(), 4, "nor is anybody fed from now on");
}

#[test]
fn without_a_spool_a_silent_node_is_lost_at_once() {
    let mut driver = Driver::gathered(3, config());
    let stream = driver.open_stream().stream;
    driver.pass(limits::LINK_SILENCE - SECOND / 4, &[1, 3]);
    driver.loses_upstream(3, stream);
    driver.pass(SECOND / 4, &[1, 3]);
    assert_eq!(driver.failures().len(), 1);
    assert!(driver.away().is_empty());
}

#[test]
fn who_is_fed_from_what_is_kept_is_no_measure_for_the_pace_of_the_others() {
    let (mut driver, stream) = kept(3);
    driver.misses(3, stream);
    let pace = Pace {
        elapsed_ms: 500,
        consumer_ms: 500,
        consumer_busy_ms: 500,
        ..Pace::default()
    };
    for _ in 0..60 {
        driver.says(3, progress(stream, 1, 1, pace));
        driver.pass(SECOND / 2, &[1, 2, 3]);
    }
    assert!(
        driver
            .events
            .iter()
            .all(|event| !matches!(event, RunEvent::SlowNode { .. }))
    );
}
