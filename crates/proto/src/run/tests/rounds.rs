//! Nodes that wait for the next round, and nodes that are in it.

use super::*;

const GRACE: Duration = Duration::from_secs(20);

fn of_three() -> RunConfig {
    RunConfig {
        rounds: 3,
        ..config()
    }
}

impl Driver {
    fn next_round(&mut self, number: u8) -> Result<(), RunError> {
        let begun = self
            .run
            .next_round(self.now, RunId([number; 16]), [number; 32], GRACE);
        self.drain();
        begun
    }

    fn gathered_last(&self) -> Option<Vec<u32>> {
        match self.results.last() {
            Some(RunResult::Gathered(nodes)) => Some(nodes.iter().map(|node| node.id.0).collect()),
            _ => None,
        }
    }

    /// Runs a whole round with one stream. The nodes of `conns` do their part.
    fn whole_round(&mut self, conns: &[u64]) {
        let stream = self.open_stream().stream;
        conns.iter().for_each(|conn| self.done(*conn, stream));
        conns
            .iter()
            .for_each(|conn| self.says(*conn, ToServer::Report(Payload::default())));
        self.run.collect_reports(self.now).unwrap();
        self.drain();
        self.run.release(self.now, Duration::ZERO).unwrap();
        self.drain();
        conns.iter().for_each(|conn| self.closes(*conn));
        assert_eq!(self.results.last(), Some(&RunResult::Over));
    }
}

#[test]
fn a_late_node_waits_and_is_in_the_next_round_with_a_new_key_and_a_new_stream() {
    let mut driver = Driver::gathered(2, of_three());
    let first = driver.open_stream();
    driver.join(3, join("10.0.0.3:1"));
    assert!(matches!(driver.sent_to(3)[..], [ToNode::Queued { round: 2, .. }]));
    for conn in [1, 2] {
        driver.done(conn, first.stream);
        driver.says(conn, ToServer::Report(Payload::default()));
    }
    driver.run.collect_reports(driver.now).unwrap();
    driver.run.release(driver.now, Duration::ZERO).unwrap();
    driver.drain();
    driver.closes(1);
    driver.closes(2);
    assert_eq!(
        driver.results.last(),
        Some(&RunResult::Over),
        "it is not waited for to close"
    );
    driver.pass(SECOND * 60, &[3]);
    driver.next_round(2).unwrap();
    assert_eq!(driver.gathered_last(), Some(vec![3]), "nobody else is to come");
    assert!(
        matches!(driver.sent_to(3)[1..], [ToNode::Accepted { run, .. }] if *run == RunId([2; 16])),
        "{:?}",
        driver.sent_to(3)
    );
    let second = driver.open_stream();
    assert_ne!((second.stream, second.key), (first.stream, first.key));
}

#[test]
fn one_that_waits_is_not_in_what_runs_and_may_leave_or_vanish() {
    let mut driver = Driver::gathered(1, of_three());
    driver.join(2, join("10.0.0.2:1"));
    driver.join(3, join("10.0.0.3:1"));
    driver.join(4, join("10.0.0.4:1"));
    driver.says(
        2,
        ToServer::Leaving {
            reason: Reason::new("Ctrl-C"),
        },
    );
    driver.says(3, ToServer::Ready);
    driver.pass(limits::IDLE_SILENCE + SECOND * 5, &[1]);
    let left: Vec<_> = driver
        .events
        .iter()
        .filter_map(|event| match event {
            RunEvent::NodeLeft { node, .. } => Some(node.id.0),
            _ => None,
        })
        .collect();
    assert_eq!(left, [2, 3, 4]);
    assert_eq!(driver.failures(), []);
    driver.whole_round(&[1]);
    driver.next_round(2).unwrap();
    assert_eq!(
        driver.results[driver.results.len() - 2..],
        [RunResult::NobodyCame, RunResult::Over]
    );
    driver.join(5, join("10.0.0.5:1"));
    assert!(matches!(driver.sent_to(5)[..], [ToNode::Refused { .. }]));
}

#[test]
fn a_node_that_was_lost_is_waited_for_and_its_return_starts_the_round() {
    let mut driver = Driver::gathered(2, of_three());
    driver.closes(1);
    driver.whole_round(&[2]);
    driver.next_round(2).unwrap();
    driver.pass(GRACE / 2, &[]);
    assert_eq!(driver.gathered_last(), None);
    driver.join(3, join("10.0.0.1:30764"));
    assert_eq!(driver.gathered_last(), Some(vec![3]));
}

#[test]
fn a_lost_node_that_does_not_come_back_ends_the_run_after_the_grace() {
    let mut driver = Driver::gathered(2, of_three());
    driver.closes(1);
    driver.whole_round(&[2]);
    driver.next_round(2).unwrap();
    driver.pass(GRACE, &[]);
    assert_eq!(driver.results.last(), Some(&RunResult::Over));
    assert!(driver.next_round(3).is_err());
    assert_eq!(driver.run.poll_timeout(), None);
}

#[test]
fn a_node_that_starts_again_takes_its_old_place_out_of_the_chain_as_soon_as_that_is_silent() {
    let mut driver = Driver::gathered(3, of_three());
    let stream = driver.open_stream().stream;
    driver.join(9, join("10.0.0.2:30764"));
    assert_eq!(driver.failures().len(), 0);
    driver.pass(limits::LINK_SILENCE, &[1, 3, 9]);
    assert_eq!(driver.failures().len(), 1);
    assert!(matches!(driver.sent_to(3).last(), Some(ToNode::Relink(_))));
    assert!(matches!(driver.sent_to(9)[..], [ToNode::Queued { .. }]));
    driver.done(1, stream);
    driver.done(3, stream);
    assert_eq!(driver.stream_outcomes().unwrap().len(), 3);
}

#[test]
fn when_all_of_a_round_are_lost_those_that_wait_are_the_next_one() {
    let mut driver = Driver::gathered(1, of_three());
    driver.open_stream();
    driver.join(2, join("10.0.0.2:1"));
    driver.closes(1);
    driver.next_round(2).unwrap();
    driver.pass(GRACE, &[2]);
    assert_eq!(driver.gathered_last(), Some(vec![2]));
}

#[test]
fn a_node_that_is_done_is_told_so_when_it_comes_again() {
    let mut driver = Driver::gathered(2, of_three());
    driver.run.mark_done(NodeId(1));
    driver.join(5, join("10.0.0.1:30764"));
    assert_eq!(driver.sent_to(5), [&ToNode::Release { delay_ms: 0 }]);
    assert!(driver.closed.contains(&ConnId(5)));
}

/// The node was switched off and on after its report, while others still worked.
#[test]
fn a_node_that_waits_again_when_its_clone_is_called_good_is_let_go() {
    let mut driver = Driver::gathered(2, of_three());
    driver.join(5, join("10.0.0.1:30764"));
    driver.closes(1);
    assert!(matches!(driver.sent_to(5)[..], [ToNode::Queued { .. }]));
    driver.run.mark_done(NodeId(1));
    driver.drain();
    assert_eq!(driver.sent_to(5)[1..], [&ToNode::Release { delay_ms: 0 }]);
    assert!(driver.closed.contains(&ConnId(5)));
    driver.whole_round(&[2]);
    driver.next_round(2).unwrap();
    driver.pass(GRACE, &[]);
    assert_eq!(driver.gathered_last(), None, "nobody is left for a round");
}

#[test]
fn in_the_last_round_late_ones_are_refused_and_an_abort_ends_those_that_wait() {
    let mut driver = Driver::gathered(
        1,
        RunConfig {
            round: 3,
            ..of_three()
        },
    );
    driver.join(2, join("10.0.0.2:1"));
    assert!(matches!(driver.sent_to(2)[..], [ToNode::Refused { .. }]));
    let mut driver = Driver::gathered(1, of_three());
    driver.join(2, join("10.0.0.2:1"));
    driver.run.abort(driver.now, &Reason::new("Ctrl-C"));
    driver.drain();
    let reason = Reason::new("Ctrl-C");
    assert_eq!(
        driver.sent_to(2).last(),
        Some(&&ToNode::Abort { reason, again: false })
    );
    assert!(driver.next_round(2).is_err());
}

#[test]
fn a_node_that_comes_back_with_its_clone_waits_for_the_verdict_only_even_after_the_last_round() {
    let mut driver = Driver::gathered(
        1,
        RunConfig {
            commits: true,
            rounds: 1,
            ..config()
        },
    );
    let stream = driver.open_stream().stream;
    driver.done(1, stream);
    driver.run.collect_reports(driver.now).unwrap();
    driver.says(1, ToServer::Report(Payload(vec![1])));
    driver.closes(1);
    driver.join(
        2,
        Join {
            holds_clone: true,
            ..join("10.0.0.1:30764")
        },
    );
    assert!(matches!(driver.sent_to(2).last(), Some(ToNode::Queued { .. })));
    driver.run.release(driver.now, Duration::ZERO).unwrap();
    driver
        .run
        .next_round(driver.now, RunId([2; 16]), [3; 32], SECOND)
        .unwrap();
    driver.drain();
    assert!(
        matches!(driver.results.last(), Some(RunResult::Gathered(_))),
        "{:?}",
        driver.events.last()
    );
    let name = StreamName::new("tools").unwrap();
    assert_eq!(
        driver.run.open_stream(driver.now, &name).unwrap_err(),
        RunError::NobodyLeft,
        "it needs no tools, and would hold up a stream"
    );
    driver.says(2, ToServer::Report(Payload(vec![1])));
    assert_eq!(
        driver.run.prepare(driver.now, Payload::default()),
        Err(RunError::NobodyLeft)
    );
    driver.run.collect_reports(driver.now).unwrap();
    driver.run.commit(driver.now).unwrap();
    driver.drain();
    assert_eq!(driver.sent_to(2).last(), Some(&&ToNode::Commit));
}

#[test]
fn the_second_machine_of_a_name_is_refused_and_the_same_machine_is_not() {
    let mut driver = Driver::new(RunConfig {
        unique_names: Some(vec!["localhost".to_owned()]),
        wanted: Some(9),
        ..config()
    });
    let named = |addr: &str, name: &str| Join {
        name: NodeName::new(name).unwrap(),
        ..join(addr)
    };
    let refused = |driver: &Driver, conn| matches!(driver.sent_to(conn).last(), Some(ToNode::Refused { .. }));
    driver.join(1, named("10.0.0.1:30764", "n1"));
    driver.join(2, named("10.0.0.2:30764", "n1"));
    driver.join(3, named("10.0.0.1:30764", "n1"));
    driver.join(4, named("10.0.0.4:30764", "localhost"));
    driver.join(5, named("10.0.0.5:30764", "localhost"));
    let all: Vec<bool> = (1..=5).map(|conn| refused(&driver, conn)).collect();
    assert_eq!(all, [false, true, false, false, false]);
}
