//! Admission of nodes, and the start of a round.

use super::*;

#[test]
fn it_starts_when_the_wanted_number_is_there_in_order_of_address_then_port() {
    let mut driver = Driver::new(RunConfig {
        wanted: Some(4),
        ..config()
    });
    for (conn, address) in [
        (1, "10.0.0.20:1"),
        (2, "10.0.0.9:30764"),
        (3, "10.0.0.20:2"),
        (4, "9.255.0.1:1"),
    ] {
        assert!(
            !driver
                .results
                .iter()
                .any(|event| matches!(event, RunResult::Gathered(_)))
        );
        driver.join(conn, join(address));
    }
    let order: Vec<_> = driver
        .run
        .nodes()
        .iter()
        .map(|(info, _)| (info.addr.to_string(), info.position.0))
        .collect();
    let expected = [
        ("9.255.0.1:1", 1),
        ("10.0.0.9:30764", 2),
        ("10.0.0.20:1", 3),
        ("10.0.0.20:2", 4),
    ];
    assert_eq!(
        order,
        expected.map(|(addr, position)| (addr.to_owned(), position))
    );
}

#[test]
fn a_client_that_says_start_now_starts_with_whoever_is_there() {
    let mut driver = Driver::new(RunConfig {
        wanted: Some(10),
        ..config()
    });
    driver.join(1, join("10.0.0.1:1"));
    driver.join(
        2,
        Join {
            start_now: true,
            ..join("10.0.0.2:1")
        },
    );
    assert!(matches!(driver.results.last(), Some(RunResult::Gathered(nodes)) if nodes.len() == 2));
}

#[test]
fn it_starts_after_the_wait_with_whoever_is_there_and_gives_up_with_nobody() {
    let waiting = RunConfig {
        wait: Some(SECOND * 60),
        ..config()
    };
    let mut driver = Driver::new(waiting.clone());
    driver.join(1, join("10.0.0.1:1"));
    driver.pass(SECOND * 59, &[1]);
    assert!(
        !driver
            .results
            .iter()
            .any(|event| matches!(event, RunResult::Gathered(_)))
    );
    driver.pass(SECOND * 2, &[1]);
    assert!(
        driver
            .results
            .iter()
            .any(|event| matches!(event, RunResult::Gathered(_)))
    );
    let mut nobody = Driver::new(waiting);
    nobody.pass(SECOND * 61, &[]);
    assert_eq!(nobody.results, [RunResult::NobodyCame, RunResult::Over]);
}

#[test]
fn without_a_number_and_without_a_wait_it_waits_as_long_as_it_takes() {
    let mut driver = Driver::new(config());
    driver.pass(SECOND * 10_000, &[]);
    assert_eq!((driver.events, driver.results), (Vec::new(), Vec::new()));
    assert!(driver.run.poll_timeout().is_some());
}

#[test]
fn late_ones_and_those_of_another_session_are_told_why() {
    let mut driver = Driver::gathered(2, config());
    driver.join(3, join("10.0.0.3:1"));
    driver.join(
        4,
        Join {
            session: SessionName::new("other").unwrap(),
            ..join("10.0.0.4:1")
        },
    );
    let reasons: Vec<String> = driver
        .events
        .iter()
        .filter_map(|event| match event {
            RunEvent::NodeRefused { reason, .. } => Some(reason.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(
        reasons,
        [
            "the run has begun with the 2 nodes that were wanted (-n 2)",
            "this is session kainstall, not other"
        ]
    );
    assert!(matches!(
        driver.sent_to(3)[..],
        [ToNode::Refused { version: 4, .. }]
    ));
    assert_eq!(driver.closed, [ConnId(3), ConnId(4)]);
}

#[test]
fn a_node_that_comes_again_takes_the_place_of_its_old_connection() {
    let mut driver = Driver::new(RunConfig {
        wanted: Some(2),
        ..config()
    });
    driver.join(1, join("10.0.0.1:30764"));
    // The node lost power: nothing more comes from it.
    driver.pass(SECOND, &[]);
    driver.join(2, join("10.0.0.1:30764"));
    assert_eq!(driver.closed, [], "it may still answer");
    driver.pass(limits::LINK_SILENCE, &[]);
    assert_eq!(driver.closed, [ConnId(1)]);
    assert!(matches!(driver.sent_to(2)[0], ToNode::Accepted { .. }));
    driver.closes(1);
    assert!(
        !driver
            .results
            .iter()
            .any(|event| matches!(event, RunResult::Gathered(_)))
    );
    driver.join(3, join("10.0.0.1:30765"));
    assert!(matches!(driver.results.last(), Some(RunResult::Gathered(nodes)) if nodes.len() == 2));
}

#[test]
fn a_node_that_goes_while_gathering_does_not_count() {
    let mut driver = Driver::new(RunConfig {
        wanted: Some(2),
        ..config()
    });
    driver.join(1, join("10.0.0.1:1"));
    driver.closes(1);
    driver.join(2, join("10.0.0.2:1"));
    assert!(matches!(
        driver.events.last(),
        Some(RunEvent::NodeJoined { present: 1, .. })
    ));
}

#[test]
fn an_open_address_is_the_one_that_the_connection_comes_from() {
    let mut driver = Driver::new(RunConfig {
        wanted: Some(1),
        ..config()
    });
    let remote = "[::ffff:10.0.0.7]:5555".parse().unwrap();
    driver.run.handle_join(
        SECOND,
        ConnId(1),
        join("0.0.0.0:30764"),
        [10, 0, 0, 254].into(),
        remote,
    );
    assert_eq!(driver.run.nodes()[0].0.addr, "10.0.0.7:30764".parse().unwrap());
}

/// A connection that breaks while it is claimed settles the claim, in any order of events.
#[test]
fn a_process_that_starts_again_is_in_as_soon_as_its_old_connection_is_closed() {
    let mut driver = Driver::new(config());
    driver.join(1, join("10.0.0.1:30764"));
    driver.join(2, join("10.0.0.1:30764"));
    driver.closes(1);
    assert!(matches!(driver.sent_to(2)[0], ToNode::Accepted { .. }));
    // A holder that has been silent for long is not asked.
    driver.pass(limits::LINK_SILENCE, &[]);
    driver.join(3, join("10.0.0.1:30764"));
    assert!(matches!(driver.sent_to(3)[0], ToNode::Accepted { .. }));
}

#[test]
fn who_claims_the_place_of_a_node_that_answers_is_sent_away_and_the_node_stays() {
    let with_mac = |last, address: &str| Join {
        mac: Some(ka_mac::MacAddr([2, 0, 0, 0, 0, last])),
        ..join(address)
    };
    let mut driver = Driver::new(config());
    driver.join(1, with_mac(1, "10.0.0.1:30764"));
    // The same address, and then the same MAC address from elsewhere.
    driver.join(2, with_mac(1, "10.0.0.1:30764"));
    driver.join(3, with_mac(1, "10.0.0.9:30764"));
    // An answer to an older question proves nothing.
    driver.pass(SECOND, &[]);
    driver.join(4, with_mac(1, "10.0.0.1:30764"));
    driver.says(1, ToServer::Pong(999));
    assert_eq!(driver.closed, [ConnId(2), ConnId(3)]);
    driver.says(1, ToServer::Pong(1000));
    assert_eq!(driver.closed, [ConnId(2), ConnId(3), ConnId(4)]);
    for liar in 2..=4 {
        let [ToNode::Refused { reason, .. }] = driver.sent_to(liar)[..] else {
            panic!("{:?}", driver.sent_to(liar));
        };
        assert!(reason.as_str().contains("answers"), "{reason}");
    }
    assert!(
        !driver
            .sent_to(1)
            .iter()
            .any(|sent| matches!(sent, ToNode::Abort { .. }))
    );
    assert_eq!(driver.run.roll().len(), 1);
    // Another node on another machine may have this name, and so may a second one on the same machine.
    driver.join(5, with_mac(2, "10.0.0.2:30764"));
    driver.join(6, with_mac(1, "10.0.0.1:30765"));
    assert_eq!(driver.run.roll().len(), 3);
}

#[test]
fn a_claim_ends_with_its_connection_and_with_the_run() {
    let mut driver = Driver::new(config());
    driver.join(1, join("10.0.0.1:30764"));
    driver.join(2, join("10.0.0.1:30764"));
    driver.join(3, join("10.0.0.1:30764"));
    driver.closes(2);
    driver.run.abort(driver.now, &Reason::new("Ctrl-C"));
    driver.drain();
    assert_eq!(driver.sent_to(2), Vec::<&ToNode>::new());
    assert!(matches!(driver.sent_to(3)[..], [ToNode::Refused { .. }]));
    assert_eq!(driver.run.poll_timeout(), None);
}

#[test]
fn a_node_listens_where_it_comes_from() {
    let remote: SocketAddr = "10.0.0.7:40000".parse().unwrap();
    for (said, any_address, is_in) in [
        ("10.0.0.7:30764", false, true),
        ("[::ffff:10.0.0.7]:30764", false, true),
        ("0.0.0.0:30764", false, true),
        ("10.0.0.1:30764", false, false),
        ("[fe80::1]:30764", false, false),
        ("10.0.0.1:30764", true, true),
    ] {
        let mut driver = Driver::new(RunConfig {
            any_address,
            ..config()
        });
        driver.join_from(1, join(said), remote);
        assert_eq!(driver.run.roll().len() == 1, is_in, "{said}");
        if let [ToNode::Refused { reason, .. }] = driver.sent_to(1)[..] {
            assert!(reason.as_str().contains("--any-address"), "{reason}");
        }
    }
}

#[test]
fn one_address_does_not_get_all_places() {
    let mut driver = Driver::new(config());
    for number in 1..=limits::MAX_NODES_PER_ADDRESS as u64 + 3 {
        driver.join(number, join(&format!("10.0.0.1:{number}")));
    }
    assert_eq!(driver.run.roll().len(), limits::MAX_NODES_PER_ADDRESS);
    driver.join(9999, join("10.0.0.2:1"));
    assert_eq!(driver.run.roll().len(), limits::MAX_NODES_PER_ADDRESS + 1);
}
