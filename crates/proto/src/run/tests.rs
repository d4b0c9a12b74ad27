//! What a run does, seen from its driver.

use super::*;
use crate::control::Relink;

const SECOND: Duration = Duration::from_secs(1);

fn config() -> RunConfig {
    RunConfig {
        run: RunId([1; 16]),
        run_key: [2; 32],
        session: SessionName::new("kainstall").unwrap(),
        wanted: None,
        wait: None,
        data_port: 30764,
        hold_release: false,
        heal: false,
        tolerance: 0,
        heartbeat: limits::HEARTBEAT,
        silence: limits::CONTROL_SILENCE,
        timeouts: StageTimeouts::default(),
    }
}

fn join(address: &str) -> Join {
    Join {
        session: SessionName::new("kainstall").unwrap(),
        name: NodeName::new("n").unwrap(),
        mac: None,
        data_addr: address.parse().unwrap(),
        start_now: false,
        wants_release: false,
        nonce: [0; 16],
        proof: [0; 32],
    }
}

/// A run with its time and everything that it said.
struct Driver {
    run: Run,
    now: Duration,
    sent: Vec<(ConnId, ToNode)>,
    closed: Vec<ConnId>,
    events: Vec<RunEvent>,
}

impl Driver {
    fn new(config: RunConfig) -> Self {
        let (run, now) = (Run::new(config, Duration::ZERO), Duration::ZERO);
        Self {
            run,
            now,
            sent: Vec::new(),
            closed: Vec::new(),
            events: Vec::new(),
        }
    }

    /// With nodes 1, 2, … at 10.0.0.1, 10.0.0.2, …, gathered.
    fn gathered(nodes: u32, mut config: RunConfig) -> Self {
        config.wanted = Some(nodes);
        let mut driver = Self::new(config);
        for node in 1..=nodes {
            driver.join(u64::from(node), join(&format!("10.0.0.{node}:30764")));
        }
        assert!(matches!(driver.events.last(), Some(RunEvent::Gathered(_))));
        driver
    }

    fn join(&mut self, conn: u64, join: Join) {
        let remote = SocketAddr::new(join.data_addr.ip(), 40_000);
        self.run
            .handle_join(self.now, ConnId(conn), join, [10, 0, 0, 254].into(), remote);
        self.drain();
    }

    fn says(&mut self, conn: u64, message: ToServer) {
        self.run.handle_message(self.now, ConnId(conn), message);
        self.drain();
    }

    fn closes(&mut self, conn: u64) {
        self.run
            .handle_closed(self.now, ConnId(conn), &Reason::new("reset"));
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.run.poll_output() {
            match output {
                RunOutput::Send { conn, message } => self.sent.push((conn, message)),
                RunOutput::Close { conn } => self.closed.push(conn),
                RunOutput::Event(event) => self.events.push(event),
            }
        }
    }

    /// Lets time pass; nodes in `answering` answer every ping.
    fn pass(&mut self, time: Duration, answering: &[u64]) {
        let until = self.now + time;
        while let Some(due) = self.run.poll_timeout().filter(|due| *due <= until) {
            self.now = due;
            self.run.handle_timeout(due);
            self.drain();
            answering
                .iter()
                .for_each(|conn| self.says(*conn, ToServer::Pong(0)));
        }
        self.now = until;
    }

    fn sent_to(&self, conn: u64) -> Vec<&ToNode> {
        let is_order = |message: &ToNode| !matches!(message, ToNode::Ping(_) | ToNode::Gathering { .. });
        let to = |(to, message): &&(ConnId, ToNode)| *to == ConnId(conn) && is_order(message);
        self.sent.iter().filter(to).map(|(_, message)| message).collect()
    }

    fn failures(&self) -> Vec<(u32, String)> {
        let failed = self.run.nodes().into_iter();
        failed
            .filter_map(|(info, failure)| Some((info.id.0, failure?.to_string())))
            .collect()
    }

    fn open_stream(&mut self) -> HeadStream {
        let head = self
            .run
            .open_stream(self.now, &StreamName::new("kainstall2").unwrap())
            .unwrap();
        self.drain();
        head
    }

    fn done(&mut self, conn: u64, stream: StreamId) {
        self.says(
            conn,
            ToServer::StreamDone {
                stream,
                bytes: 9,
                digest: [3; 32],
            },
        );
    }

    fn loses_upstream(&mut self, conn: u64, stream: StreamId) {
        let (offset, reason) = (StreamOffset(5), Reason::new("reset"));
        self.says(
            conn,
            ToServer::LinkLost {
                stream,
                side: Side::Upstream,
                offset,
                reason,
            },
        );
    }

    fn stream_outcomes(&self) -> Option<Vec<(u32, bool)>> {
        self.events.iter().find_map(|event| match event {
            RunEvent::StreamDone { outcomes, .. } => Some(
                outcomes
                    .iter()
                    .map(|(info, outcome)| (info.id.0, outcome.is_ok()))
                    .collect(),
            ),
            _ => None,
        })
    }
}

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
                .events
                .iter()
                .any(|event| matches!(event, RunEvent::Gathered(_)))
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
    assert!(matches!(driver.events.last(), Some(RunEvent::Gathered(nodes)) if nodes.len() == 2));
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
            .events
            .iter()
            .any(|event| matches!(event, RunEvent::Gathered(_)))
    );
    driver.pass(SECOND * 2, &[1]);
    assert!(
        driver
            .events
            .iter()
            .any(|event| matches!(event, RunEvent::Gathered(_)))
    );
    let mut nobody = Driver::new(waiting);
    nobody.pass(SECOND * 61, &[]);
    assert_eq!(nobody.events, [RunEvent::NobodyCame, RunEvent::Over]);
}

#[test]
fn without_a_number_and_without_a_wait_it_waits_as_long_as_it_takes() {
    let mut driver = Driver::new(config());
    driver.pass(SECOND * 10_000, &[]);
    assert_eq!(driver.events, []);
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
        [ToNode::Refused { version: 1, .. }]
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
    driver.join(2, join("10.0.0.1:30764"));
    assert_eq!(driver.closed, [ConnId(1)]);
    driver.closes(1);
    assert!(
        !driver
            .events
            .iter()
            .any(|event| matches!(event, RunEvent::Gathered(_)))
    );
    driver.join(3, join("10.0.0.1:30765"));
    assert!(matches!(driver.events.last(), Some(RunEvent::Gathered(nodes)) if nodes.len() == 2));
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

#[test]
fn a_stage_ends_with_an_answer_or_a_failure_of_every_node() {
    let mut driver = Driver::gathered(4, config());
    driver.run.prepare(driver.now, Payload(vec![1])).unwrap();
    driver.drain();
    driver.says(1, ToServer::Prepared(Payload(vec![9])));
    let reason = Reason::new("no disk fits");
    driver.says(
        2,
        ToServer::StepFailed {
            stage: Stage::Prepare,
            reason,
        },
    );
    driver.closes(3);
    assert!(
        !driver
            .events
            .iter()
            .any(|event| matches!(event, RunEvent::StageDone { .. }))
    );
    driver.pass(limits::PREPARE_TIMEOUT, &[1, 4]);
    let Some(RunEvent::StageDone {
        stage: Stage::Prepare,
        outcomes,
    }) = driver.events.last()
    else {
        panic!("{:?}", driver.events.last())
    };
    let texts: Vec<_> = outcomes
        .iter()
        .map(|(_, outcome)| {
            outcome
                .as_ref()
                .map_or_else(ToString::to_string, |answer| format!("{answer:?}"))
        })
        .collect();
    assert_eq!(texts[0], "Payload(1 bytes)");
    assert_eq!(texts[1], "planning: no disk fits");
    assert_eq!(texts[2], "planning: its connection broke: reset");
    assert_eq!(texts[3], "planning: no answer in the time for this stage");
    assert!(
        driver
            .sent_to(2)
            .iter()
            .any(|message| matches!(message, ToNode::Abort { .. }))
    );
    driver.run.go(driver.now).unwrap();
    driver.drain();
    assert!(driver.sent_to(1).contains(&&ToNode::Go) && !driver.sent_to(4).contains(&&ToNode::Go));
}

#[test]
fn a_silent_node_is_lost_in_any_stage() {
    let mut driver = Driver::gathered(2, config());
    driver.run.prepare(driver.now, Payload::default()).unwrap();
    driver.says(1, ToServer::Prepared(Payload::default()));
    driver.pass(limits::CONTROL_SILENCE + SECOND, &[1]);
    assert!(matches!(driver.events.last(), Some(RunEvent::StageDone { .. })));
    assert_eq!(
        driver.failures(),
        [(2, "planning: nothing heard from it for 15 s".to_owned())]
    );
}

#[test]
fn a_server_that_was_away_itself_does_not_blame_its_nodes() {
    let mut driver = Driver::gathered(2, config());
    driver.now = SECOND * 500;
    driver.run.handle_timeout(driver.now);
    driver.drain();
    assert_eq!(driver.failures(), []);
}

#[test]
fn when_all_nodes_failed_commands_say_so_and_the_run_can_be_ended() {
    let mut driver = Driver::gathered(1, config());
    driver.closes(1);
    assert_eq!(driver.run.go(driver.now), Err(RunError::NobodyLeft));
    driver.run.abort(driver.now, &Reason::new("no node is left"));
    driver.drain();
    assert_eq!(driver.events.last(), Some(&RunEvent::Over));
    assert_eq!(driver.run.poll_timeout(), None);
}

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
fn without_healing_a_lost_node_costs_those_below_it_and_no_other() {
    let mut driver = Driver::gathered(4, config());
    let stream = driver.open_stream().stream;
    driver.closes(2);
    let alone = Relink {
        stream,
        predecessor: None,
        successor: Some(Successor::Nobody),
    };
    assert_eq!(driver.sent_to(1).last(), Some(&&ToNode::Relink(alone)));
    driver.loses_upstream(3, stream);
    driver.loses_upstream(4, stream);
    driver.done(1, stream);
    assert_eq!(
        driver.stream_outcomes().unwrap(),
        [(1, true), (2, false), (3, false), (4, false)]
    );
    let failures = driver.failures();
    assert_eq!(failures[0].1, "stream 1: its connection broke: reset");
    assert_eq!(failures[1].1, "stream 1: lost its predecessor n: reset");
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
    let mut driver = Driver::gathered(
        3,
        RunConfig {
            heal: true,
            ..config()
        },
    );
    let stream = driver.open_stream().stream;
    driver.closes(2);
    let successor = Some(Successor::Node(NodeId(3)));
    let down = Relink {
        stream,
        predecessor: None,
        successor,
    };
    assert_eq!(driver.sent_to(1).last(), Some(&&ToNode::Relink(down)));
    assert!(matches!(
        driver.sent_to(3).last(),
        Some(ToNode::Relink(Relink { predecessor: Some(peer), .. })) if peer.node == NodeId(1)
    ));
    driver.closes(1);
    let head = RunEvent::HeadSuccessor {
        stream,
        successor: Successor::Node(NodeId(3)),
    };
    assert!(driver.events.contains(&head));
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
    let (received, consumed) = (StreamOffset(100), StreamOffset(100));
    driver.says(
        1,
        ToServer::Progress(Progress {
            stream,
            received,
            consumed,
            buffered: 0,
        }),
    );
    driver.pass(limits::STREAM_STALL_TIMEOUT * 3, &[1, 2]);
    let stalled = "stream 1: nothing moved for 180 s; it was at byte 0 of the stream".to_owned();
    assert_eq!(driver.failures(), [(2, stalled)]);
}

#[test]
fn a_producer_may_be_as_slow_as_it_likes() {
    let mut driver = Driver::gathered(1, config());
    driver.open_stream();
    driver.pass(limits::STREAM_STALL_TIMEOUT * 10, &[1]);
    assert_eq!(driver.failures(), []);
}

#[test]
fn reports_may_come_early_and_nodes_go_when_nobody_needs_them_as_a_relay() {
    let mut driver = Driver::gathered(2, config());
    let stream = driver.open_stream().stream;
    driver.done(1, stream);
    driver.says(1, ToServer::Report(Payload(vec![1])));
    assert!(
        !driver
            .sent_to(1)
            .iter()
            .any(|message| matches!(message, ToNode::Release { .. }))
    );
    driver.done(2, stream);
    assert!(driver.sent_to(1).contains(&&ToNode::Release { delay_ms: 0 }));
    driver.closes(1);
    driver.run.collect_reports(driver.now).unwrap();
    driver.says(2, ToServer::Report(Payload(vec![2])));
    assert!(matches!(
        driver.events.last(),
        Some(RunEvent::StageDone { stage: Stage::Report, outcomes }) if outcomes.iter().all(|(_, outcome)| outcome.is_ok())
    ));
    assert_eq!(driver.failures(), []);
}

#[test]
fn release_lets_nodes_go_one_after_another_and_ends_when_they_are_gone() {
    let mut driver = Driver::gathered(
        3,
        RunConfig {
            hold_release: true,
            ..config()
        },
    );
    let stream = driver.open_stream().stream;
    (1..=3).for_each(|conn| driver.done(conn, stream));
    driver.run.collect_reports(driver.now).unwrap();
    (1..=3).for_each(|conn| driver.says(conn, ToServer::Report(Payload::default())));
    driver
        .run
        .release(driver.now, Duration::from_millis(300))
        .unwrap();
    driver.drain();
    let delays: Vec<u32> = driver
        .sent
        .iter()
        .filter_map(|(_, message)| match message {
            ToNode::Release { delay_ms } => Some(*delay_ms),
            _ => None,
        })
        .collect();
    assert_eq!(delays, [0, 300, 600]);
    driver.closes(1);
    driver.closes(2);
    assert_ne!(driver.events.last(), Some(&RunEvent::Over));
    driver.pass(limits::LEAVE_TIMEOUT + SECOND, &[3]);
    assert_eq!(driver.events.last(), Some(&RunEvent::Over));
    assert_eq!(
        (driver.closed.last(), driver.failures().len()),
        (Some(&ConnId(3)), 0)
    );
}

#[test]
fn an_answer_that_nobody_asked_for_costs_the_node_its_place() {
    let mut driver = Driver::gathered(2, config());
    driver.says(1, ToServer::Ready);
    assert_eq!(
        driver.failures(),
        [(1, "planning: it answered what it was not asked".to_owned())]
    );
}

#[test]
fn an_abort_tells_everybody_why() {
    let mut driver = Driver::gathered(2, config());
    let reason = Reason::new("interrupted");
    driver.run.abort(driver.now, &reason);
    driver.drain();
    assert_eq!(driver.sent_to(1).last(), Some(&&ToNode::Abort { reason }));
    assert_eq!(driver.closed.len(), 2);
}
