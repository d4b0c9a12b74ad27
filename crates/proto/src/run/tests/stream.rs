//! Streams and the chain.

use super::*;

#[test]
fn a_stream_links_each_node_to_the_one_before_it() {
    let mut driver = Driver::gathered(3, config());
    let head = driver.open_stream();
    assert_eq!(head.successor, NodeId(1));
    let opened = |conn| match driver.sent_to(conn)[1] {
        ToNode::OpenStream(open) => (
            open.predecessor.node.0,
            open.predecessor.addr.to_string(),
            open.successor.map(|node| node.0),
        ),
        other => panic!("{other:?}"),
    };
    assert_eq!(opened(1), (0, "10.0.0.254:30764".to_owned(), Some(2)));
    assert_eq!(opened(2), (1, "10.0.0.1:30764".to_owned(), Some(3)));
    assert_eq!(opened(3), (2, "10.0.0.2:30764".to_owned(), None));
    let keys: Vec<_> = driver
        .sent
        .iter()
        .filter_map(|(_, message)| match message {
            ToNode::OpenStream(open) => Some(open.key),
            _ => None,
        })
        .collect();
    assert_eq!(keys, [head.key; 3]);
}

#[test]
fn several_streams_run_one_after_another_each_with_its_own_key() {
    let mut driver = Driver::gathered(1, config());
    let first = driver.open_stream();
    let name = StreamName::new("next").unwrap();
    assert!(driver.run.open_stream(driver.now, &name).is_err());
    driver.done(1, first.stream);
    let second = driver.open_stream();
    assert_ne!((first.stream, first.key), (second.stream, second.key));
    assert!(
        driver
            .sent_to(1)
            .contains(&&ToNode::EndStream { stream: first.stream })
    );
}

#[test]
fn a_node_that_has_everything_does_not_mind_that_its_predecessor_goes() {
    let mut driver = Driver::gathered(2, config());
    let stream = driver.open_stream().stream;
    driver.done(2, stream);
    driver.closes(1);
    assert_eq!(driver.stream_outcomes().unwrap(), [(1, false), (2, true)]);
}

#[test]
fn chain_heals_when_the_middle_node_dies() {
    let mut driver = Driver::gathered(3, config());
    let stream = driver.open_stream().stream;
    driver.closes(2);
    let successor = Some(Successor::Node(NodeId(3)));
    let key = *driver.run.link_key(stream, NodeId(3), NodeId(1)).bytes();
    let down = Relink {
        stream,
        predecessor: None,
        predecessor_key: None,
        successor,
        successor_key: Some(key),
    };
    assert_eq!(driver.sent_to(1).last(), Some(&&ToNode::Relink(down)));
    assert!(matches!(
        driver.sent_to(3).last(),
        Some(ToNode::Relink(Relink { predecessor: Some(peer), predecessor_key: Some(other), .. }))
            if peer.node == NodeId(1) && *other == key
    ));
    driver.closes(1);
    let head = HeadOrder::Successor {
        stream,
        successor: Successor::Node(NodeId(3)),
    };
    assert!(driver.head.contains(&head));
    driver.done(3, stream);
    assert_eq!(
        driver.stream_outcomes().unwrap(),
        [(1, false), (2, false), (3, true)]
    );
}

#[test]
fn a_node_whose_disk_fails_in_a_stream_stays_connected_until_the_stream_ends() {
    let mut driver = Driver::gathered(2, config());
    let stream = driver.open_stream().stream;
    let reason = Reason::new("No space left on device");
    driver.says(
        1,
        ToServer::StepFailed {
            stage: Stage::Stream(stream),
            reason,
        },
    );
    assert_eq!(driver.closed, []);
    driver.done(2, stream);
    assert_eq!(driver.stream_outcomes().unwrap(), [(1, false), (2, true)]);
    assert_eq!(driver.closed, [ConnId(1)]);
}

#[test]
fn a_stream_in_which_nothing_moves_ends_with_the_names_of_those_behind() {
    let mut driver = Driver::gathered(2, config());
    let stream = driver.open_stream().stream;
    driver
        .run
        .handle_head_progress(driver.now, stream, StreamOffset(100), false);
    driver.says(1, progress(stream, 100, 100, Pace::default()));
    driver.pass(limits::STREAM_STALL_TIMEOUT * 3, &[1, 2]);
    let stalled = "stream 1: nothing moved for 180 s; it was at byte 0 of the stream".to_owned();
    assert_eq!(driver.failures(), [(2, stalled)]);
}

/// Reports a node's progress. It waits for its predecessor if it has taken all.
fn is_at(driver: &mut Driver, node: u64, stream: StreamId, received: u64, consumed: u64) {
    let pace = waiting(received == consumed);
    driver.says(node, progress(stream, received, consumed, pace));
}

#[test]
fn those_below_one_that_stands_still_are_not_blamed_for_it() {
    let mut driver = Driver::gathered(4, config());
    let stream = driver.open_stream().stream;
    let now = driver.now;
    driver
        .run
        .handle_head_progress(now, stream, StreamOffset(900), false);
    // The second node's disk hangs. The first node's window is full of data for which the second one has no
    // room.
    let places = [(1, 700, 700), (2, 600, 100), (3, 600, 600), (4, 600, 600)];
    let mut told = Duration::ZERO;
    while told < limits::STREAM_STALL_TIMEOUT + SECOND * 6 {
        for (node, received, consumed) in places {
            is_at(&mut driver, node, stream, received, consumed);
        }
        driver.pass(SECOND, &[1, 2, 3, 4]);
        told += SECOND;
    }
    let failed: Vec<u32> = driver.failures().into_iter().map(|(node, _)| node).collect();
    assert_eq!(failed, [2]);
}

#[test]
fn one_that_says_that_it_goes_back_and_forth_does_not_move() {
    let mut driver = Driver::gathered(2, config());
    let stream = driver.open_stream().stream;
    let now = driver.now;
    driver
        .run
        .handle_head_progress(now, stream, StreamOffset(900), false);
    for half in 0..800 {
        is_at(&mut driver, 1, stream, 900, half % 2);
        driver.pass(SECOND / 2, &[1, 2]);
        if !driver.failures().is_empty() {
            break;
        }
    }
    let failed: Vec<u32> = driver.failures().into_iter().map(|(node, _)| node).collect();
    assert_eq!(failed, [1]);
}

#[test]
fn a_producer_may_be_as_slow_as_it_likes() {
    let mut driver = Driver::gathered(1, config());
    driver.open_stream();
    driver.pass(limits::STREAM_STALL_TIMEOUT * 10, &[1]);
    assert_eq!(driver.failures(), []);
}

/// The two ends of a link know its key, and another link has another key.
#[test]
fn a_links_key_is_given_to_its_two_ends_and_to_nobody_else() {
    let mut driver = Driver::gathered(4, config());
    let stream = driver.open_stream().stream;
    let keys: Vec<_> = (1..=4)
        .map(|node| {
            let opened = driver
                .sent_to(node)
                .into_iter()
                .find_map(|message| match message {
                    ToNode::OpenStream(open) => Some((open.predecessor_key, open.successor_key)),
                    _ => None,
                });
            opened.unwrap()
        })
        .collect();
    for (above, below) in keys.iter().zip(&keys[1..]) {
        assert_eq!(above.1, Some(below.0), "both ends have the same");
    }
    assert_eq!(keys[3].1, None);
    let head = driver.run.link_key(stream, NodeId(1), NodeId::SERVER);
    assert_eq!(keys[0].0, *head.bytes());
    let all: std::collections::BTreeSet<_> = keys.iter().map(|key| key.0).collect();
    assert_eq!(all.len(), 4, "no two links have the same");
    assert_ne!(
        driver.run.link_key(stream, NodeId(2), NodeId(1)),
        driver.run.link_key(stream, NodeId(1), NodeId(2))
    );
}

/// The messages of the second of three nodes at each tick. The others stand still and report that.
type Lie = fn(u64, StreamId) -> ToServer;

/// Returns the number of stalls until the chain is rid of the liar, and the nodes that had to go before it.
/// The first node's window is full of data that is not taken below. The third one gets nothing.
fn ends_without_the_liar(lie: Lie) -> (u32, Vec<u32>) {
    let stall = config().timeouts.stall;
    let mut driver = Driver::gathered(4, config());
    let stream = driver.open_stream().stream;
    let now = driver.now;
    driver
        .run
        .handle_head_progress(now, stream, StreamOffset(1000), false);
    let began = driver.now;
    let mut gone = Vec::new();
    for tick in 0.. {
        driver.pass(SECOND / 2, &[1, 2, 3, 4]);
        driver.says(1, reported(stream, 900, false));
        driver.says(2, lie(tick, stream));
        driver.says(3, reported(stream, 100, true));
        driver.says(4, reported(stream, 100, true));
        for (node, _) in driver.failures() {
            if !gone.contains(&node) {
                gone.push(node);
            }
        }
        let stalls = (driver.now - began).as_secs().div_ceil(stall.as_secs() + 15);
        if gone.contains(&2) || stalls > 3 {
            return (u32::try_from(stalls).unwrap(), gone);
        }
    }
    unreachable!()
}

/// A node that stands still must not keep any clock from running. It may change its word, be done again and
/// again, have more than there is, or claim that it waits for the nodes below it. No node above it notices,
/// and at most one of the nodes below it has to go before.
#[test]
fn only_growth_counts_as_movement() {
    let lies: [Lie; 7] = [
        |tick, stream| reported(stream, tick % 2, true),
        |tick, stream| reported(stream, 1_000_000 + tick, true),
        |_, stream| ToServer::StreamDone {
            stream,
            bytes: 0,
            digest: [0; 32],
        },
        |_, stream| reported(stream, 50, false),
        |tick, stream| reported(stream, 100, tick % 2 == 0),
        |_, stream| reported(stream, 900, false),
        // Nothing at all: the node has never sent a message.
        |_, _| ToServer::Pong(0),
    ];
    for (number, lie) in lies.iter().enumerate() {
        let (stalls, gone) = ends_without_the_liar(*lie);
        assert!(
            stalls <= 3 && !gone.contains(&1),
            "lie {number}: {stalls} {gone:?}"
        );
        assert!(gone.contains(&2) && gone.len() <= 2, "lie {number}: {gone:?}");
    }
}

/// The first node is honest and has no room, because the second one acknowledges nothing and yet claims to
/// have as much.
#[test]
fn one_that_is_not_acknowledged_is_not_blamed_for_it() {
    let (stalls, gone) = ends_without_the_liar(|_, stream| reported(stream, 900, true));
    assert!(
        stalls <= 3 && !gone.contains(&1) && gone.contains(&2),
        "{stalls} {gone:?}"
    );
    let mut driver = Driver::gathered(2, config());
    let stream = driver.open_stream().stream;
    let now = driver.now;
    driver
        .run
        .handle_head_progress(now, stream, StreamOffset(1000), false);
    for _ in 0..400 {
        driver.pass(SECOND / 2, &[1, 2]);
        driver.says(1, reported(stream, 900, false));
        driver.says(2, reported(stream, 900, true));
    }
    let failed: Vec<u32> = driver.failures().into_iter().map(|(node, _)| node).collect();
    assert_eq!(failed, [2]);
}

fn reported(stream: StreamId, received: u64, has_room: bool) -> ToServer {
    progress(stream, received, received, waiting(has_room))
}

/// Returns the pace of a node that waits for its predecessor all the time, or not at all.
fn waiting(for_predecessor: bool) -> Pace {
    Pace {
        elapsed_ms: 500,
        upstream_ms: if for_predecessor { 500 } else { 0 },
        ..Pace::default()
    }
}

#[test]
fn a_node_that_has_everything_loses_nothing_when_its_links_are_said_to_be_broken() {
    let mut driver = Driver::gathered(3, config());
    let stream = driver.open_stream().stream;
    driver.done(3, stream);
    driver.says(3, ToServer::Report(Payload::default()));
    let lost = |side| ToServer::LinkLost {
        stream,
        side,
        offset: StreamOffset(0),
        reason: Reason::new("a lie"),
    };
    for _ in 0..50 {
        driver.says(2, lost(Side::Downstream));
        driver.says(3, ToServer::Pong(0));
    }
    assert_eq!(driver.failures(), []);
    assert!(!driver.closed.contains(&ConnId(3)), "it waits for its release");
}

#[test]
fn what_was_said_of_a_link_does_not_count_against_the_next_one_of_the_same_node() {
    let mut driver = Driver::gathered(4, config());
    let stream = driver.open_stream().stream;
    let lost = || ToServer::LinkLost {
        stream,
        side: Side::Downstream,
        offset: StreamOffset(0),
        reason: Reason::new("closed by the other side"),
    };
    for _ in 0..3 {
        driver.says(2, lost());
        driver.says(3, ToServer::Pong(0));
    }
    driver.closes(2);
    driver.says(1, lost());
    driver.says(3, ToServer::Pong(0));
    let failed: Vec<u32> = driver.failures().into_iter().map(|(node, _)| node).collect();
    assert_eq!(failed, [2]);
}

/// A node of a stream with a group may have the end, and be gone, before the nodes above it.
#[test]
fn nothing_is_kept_for_a_node_that_is_done() {
    let tolerance = 2;
    let mut driver = Driver::gathered(
        4,
        RunConfig {
            tolerance,
            ..config()
        },
    );
    let stream = driver.open_stream().stream;
    let below = |driver: &Driver| {
        let told = driver.sent_to(1).into_iter().rev();
        let keys = told.filter_map(|message| match message {
            ToNode::Receipts { keys, .. } => Some(keys.clone()),
            ToNode::OpenStream(open) => Some(open.receipts.clone()),
            _ => None,
        });
        let below = keys.map(|keys| keys.below.iter().map(|key| key.node.0).collect::<Vec<u32>>());
        below.into_iter().next().unwrap()
    };
    assert_eq!(below(&driver), [3, 4]);
    driver.done(3, stream);
    assert_eq!(below(&driver), [4]);
}
