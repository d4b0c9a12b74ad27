//! Stages, reports, release, abort.

use super::*;

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
            .results
            .iter()
            .any(|event| matches!(event, RunResult::StageDone { .. }))
    );
    driver.pass(limits::PREPARE_TIMEOUT, &[1, 4]);
    let Some(RunResult::StageDone {
        stage: Stage::Prepare,
        outcomes,
    }) = driver.results.last()
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
fn a_stream_may_come_before_the_plan() {
    let mut driver = Driver::gathered(2, config());
    let stream = driver.open_stream().stream;
    driver.done(1, stream);
    driver.done(2, stream);
    assert_eq!(driver.stream_outcomes(), Some(vec![(1, true), (2, true)]));
    driver.run.prepare(driver.now, Payload(vec![1])).unwrap();
    driver.drain();
    (1..=2).for_each(|conn| driver.says(conn, ToServer::Prepared(Payload(vec![2]))));
    driver.run.go(driver.now).unwrap();
    driver.drain();
    (1..=2).for_each(|conn| driver.says(conn, ToServer::Ready));
    assert_ne!(driver.open_stream().stream, stream);
    assert_eq!(driver.failures(), []);
}

#[test]
fn a_silent_node_is_lost_in_any_stage() {
    let mut driver = Driver::gathered(
        2,
        RunConfig {
            idle_silence: SECOND * 60,
            ..config()
        },
    );
    driver.run.prepare(driver.now, Payload::default()).unwrap();
    driver.says(1, ToServer::Prepared(Payload::default()));
    driver.pass(SECOND * 61, &[1]);
    assert!(matches!(driver.results.last(), Some(RunResult::StageDone { .. })));
    assert_eq!(
        driver.failures(),
        [(2, "planning: nothing heard from it for 60 s".to_owned())]
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
    assert_eq!(driver.results.last(), Some(&RunResult::Over));
    assert_eq!(driver.run.poll_timeout(), None);
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
        driver.results.last(),
        Some(RunResult::StageDone { stage: Stage::Report, outcomes }) if outcomes.iter().all(|(_, outcome)| outcome.is_ok())
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
    assert_ne!(driver.results.last(), Some(&RunResult::Over));
    driver.pass(limits::LEAVE_TIMEOUT + SECOND, &[3]);
    assert_eq!(driver.results.last(), Some(&RunResult::Over));
    assert_eq!(
        (driver.closed.last(), driver.failures().len()),
        (Some(&ConnId(3)), 0)
    );
}

#[test]
fn a_node_that_goes_after_its_report_is_done_all_the_same() {
    let mut driver = Driver::gathered(
        2,
        RunConfig {
            hold_release: true,
            ..config()
        },
    );
    let stream = driver.open_stream().stream;
    (1..=2).for_each(|conn| driver.done(conn, stream));
    driver.says(1, ToServer::Report(Payload(vec![1])));
    driver.closes(1);
    driver.run.collect_reports(driver.now).unwrap();
    driver.says(2, ToServer::Report(Payload(vec![2])));
    assert_eq!(driver.failures(), []);
    driver.run.release(driver.now, SECOND).unwrap();
    driver.drain();
    assert_eq!(driver.sent_to(2).last(), Some(&&ToNode::Release { delay_ms: 0 }));
}

#[test]
fn an_answer_that_nobody_asked_for_costs_the_node_its_place() {
    let mut driver = Driver::gathered(2, config());
    driver.says(1, ToServer::Ready);
    assert_eq!(
        driver.failures(),
        [(
            1,
            "planning: it sent an answer that the server had not asked for".to_owned()
        )]
    );
}

#[test]
fn an_abort_tells_everybody_why() {
    let mut driver = Driver::gathered(2, config());
    let reason = Reason::new("interrupted");
    driver.run.abort(driver.now, &reason);
    driver.drain();
    let again = false;
    assert_eq!(driver.sent_to(1).last(), Some(&&ToNode::Abort { reason, again }));
    assert_eq!(driver.closed.len(), 2);
}

#[test]
fn a_node_that_fails_through_no_fault_of_its_own_is_wanted_again_but_not_in_the_last_round() {
    for (round, wanted) in [(1, true), (2, false)] {
        let (round, rounds) = (round, 2);
        let mut driver = Driver::gathered(
            3,
            RunConfig {
                round,
                rounds,
                ..config()
            },
        );
        let reason = Reason::new("too slow");
        driver.run.lose_for_next_round(driver.now, NodeId(1), &reason);
        driver.drain();
        let abort = |reason, again| ToNode::Abort { reason, again };
        assert_eq!(driver.sent_to(1).last(), Some(&&abort(reason, wanted)));
        driver.says(2, ToServer::Ready);
        let reason = Reason::new("it sent an answer that the server had not asked for");
        assert_eq!(driver.sent_to(2).last(), Some(&&abort(reason, false)));
        driver.closes(3);
        let again: Vec<_> = driver
            .run
            .nodes()
            .into_iter()
            .map(|(_, failure)| failure.unwrap().again)
            .collect();
        assert_eq!(again, [wanted, false, wanted]);
    }
}

fn committing() -> RunConfig {
    RunConfig {
        commits: true,
        rounds: 2,
        ..config()
    }
}

fn reported(nodes: u64) -> Driver {
    let mut driver = Driver::gathered(u32::try_from(nodes).unwrap(), committing());
    let stream = driver.open_stream().stream;
    (1..=nodes).for_each(|conn| driver.done(conn, stream));
    driver.run.collect_reports(driver.now).unwrap();
    (1..=nodes).for_each(|conn| driver.says(conn, ToServer::Report(Payload(vec![1]))));
    driver
}

#[test]
fn nobody_is_released_before_the_verdict_and_a_rejected_clone_never() {
    let mut driver = reported(3);
    let is_end = |message: &&ToNode| matches!(message, ToNode::Release { .. } | ToNode::Commit);
    assert!((1..=3).all(|conn| !driver.sent_to(conn).iter().any(is_end)));
    let reason = Reason::new("it is a twin");
    driver.run.reject(driver.now, NodeId(2), &reason, false);
    driver.run.commit(driver.now).unwrap();
    driver.drain();
    let again = false;
    assert_eq!(driver.sent_to(2).last(), Some(&&ToNode::Abort { reason, again }));
    for conn in [1, 3] {
        assert_eq!(driver.sent_to(conn).last(), Some(&&ToNode::Commit));
        driver.says(conn, ToServer::Bootable);
    }
    let Some(RunResult::StageDone {
        stage: Stage::Commit,
        outcomes,
    }) = driver.results.last()
    else {
        panic!("{:?}", driver.events.last())
    };
    assert!(outcomes.len() == 2 && outcomes.iter().all(|(_, outcome)| outcome.is_ok()));
    driver.run.release(driver.now, Duration::ZERO).unwrap();
    driver.drain();
    assert_eq!(driver.sent_to(1).last(), Some(&&ToNode::Release { delay_ms: 0 }));
    assert!(!driver.sent_to(2).iter().any(is_end));
}

#[test]
fn a_node_that_goes_between_its_report_and_the_verdict_is_not_done() {
    let mut driver = reported(2);
    driver.closes(1);
    assert_eq!(driver.failures().len(), 1);
    driver.run.commit(driver.now).unwrap();
    driver.drain();
    driver.closes(2);
    assert_eq!(
        driver.failures().len(),
        2,
        "it said nothing about a bootable clone"
    );
    assert!(
        driver
            .run
            .nodes()
            .iter()
            .all(|(_, failure)| failure.as_ref().unwrap().again)
    );
}

#[test]
fn a_bootable_clone_that_nobody_asked_for_costs_its_node_its_place() {
    let mut driver = reported(2);
    driver.says(1, ToServer::Bootable);
    assert_eq!(driver.failures().len(), 1);
    assert_eq!(driver.run.commit(driver.now), Ok(()));
}

#[test]
fn what_a_node_made_of_a_stream_that_was_not_proved_is_not_its_failure() {
    let rounds = || RunConfig {
        rounds: 2,
        ..config()
    };
    let failed = |stream: StreamId| ToServer::StepFailed {
        stage: Stage::Stream(stream),
        reason: Reason::new("record 7 makes no sense"),
    };
    let refused = |stream: StreamId, unproved: bool| ToServer::StreamFailed {
        stream,
        reason: Reason::new("the end is not signed; node 1 has passed on something else"),
        unproved,
    };
    let again = |says: &[ToServer], driver: &mut Driver| {
        says.iter().for_each(|message| driver.says(2, message.clone()));
        let sent = driver.sent_to(2);
        sent.into_iter().rev().find_map(|message| match message {
            ToNode::Abort { reason, again } => Some((*again, reason.to_string())),
            _ => None,
        })
    };
    for unproved in [true, false] {
        let mut driver = Driver::gathered(3, rounds());
        let stream = driver.open_stream().stream;
        let (wanted, reason) = again(&[failed(stream), refused(stream, unproved)], &mut driver).unwrap();
        assert_eq!(wanted, unproved, "{reason}");
        let (_, failure) = driver
            .failures()
            .into_iter()
            .find(|(node, _)| *node == 2)
            .unwrap();
        assert_eq!(failure.contains("was not proved"), unproved, "{failure}");
        assert_eq!(failure.contains("makes no sense"), !unproved, "{failure}");
    }
    // The node's message about another stream is ignored.
    let mut driver = Driver::gathered(3, rounds());
    let stream = driver.open_stream().stream;
    let other = StreamId(stream.0 + 1);
    let told = again(&[failed(stream), refused(other, true)], &mut driver);
    assert!(!told.is_some_and(|(again, _)| again));
}
