//! Nodes that only look, and nodes with another purpose.

use super::*;
use crate::control::Purpose;
use crate::run::Offer;

fn cloning(wanted: u32) -> RunConfig {
    RunConfig {
        wanted: Some(wanted),
        offer: Offer::Clone(Payload(b"the specification".to_vec())),
        ..config()
    }
}

fn coming_for(purpose: Purpose, address: &str) -> Join {
    Join {
        purpose,
        ..join(address)
    }
}

#[test]
fn a_node_that_looks_gets_the_specification_and_counts_for_nothing() {
    let mut driver = Driver::new(cloning(1));
    driver.join(7, coming_for(Purpose::Look, "10.0.0.7:30764"));
    let sent = driver.sent_to(7);
    assert!(matches!(sent[0], ToNode::Accepted { .. }), "{sent:?}");
    assert_eq!(sent[1], &ToNode::Prepare(Payload(b"the specification".to_vec())));
    assert!(driver.events.is_empty(), "it has not joined: {:?}", driver.events);

    driver.says(7, ToServer::Event(Payload(b"a step".to_vec())));
    driver.says(7, ToServer::Prepared(Payload(b"its plan".to_vec())));
    assert!(matches!(
        driver.events.as_slice(),
        [RunEvent::NodeLooked { plan: Ok(plan), .. }] if plan.0 == b"its plan"
    ));
    assert_eq!(driver.closed, [ConnId(7)]);

    // The run waits as before, and begins with the node for which it waited.
    driver.join(8, coming_for(Purpose::Clone, "10.0.0.7:30764"));
    assert!(matches!(driver.results.last(), Some(RunResult::Gathered(nodes)) if nodes.len() == 1));
    assert!(driver.run.nodes().iter().all(|(_, failure)| failure.is_none()));
}

#[test]
fn one_that_looks_may_fail_leave_or_never_answer_and_nobody_has_failed() {
    let mut driver = Driver::new(cloning(2));
    for conn in 1..=4 {
        driver.join(conn, coming_for(Purpose::Look, &format!("10.0.0.{conn}:30764")));
    }
    let reason = || Reason::new("no disk fits");
    driver.says(
        1,
        ToServer::StepFailed {
            stage: Stage::Prepare,
            reason: reason(),
        },
    );
    driver.says(2, ToServer::Leaving { reason: reason() });
    driver.closes(3);
    driver.pass(limits::PREPARE_TIMEOUT + SECOND, &[]);
    let looked = driver
        .events
        .iter()
        .filter(|event| matches!(event, RunEvent::NodeLooked { plan: Err(_), .. }));
    assert_eq!(
        (looked.count(), driver.events.len()),
        (4, 4),
        "{:?}",
        driver.events
    );
    driver.closes(4);
    assert_eq!(driver.events.len(), 4, "each is told once");
    assert_eq!(driver.results, []);
    assert!(driver.run.nodes().is_empty());
}

#[test]
fn one_that_looks_is_kept_alive_while_it_plans() {
    let mut driver = Driver::new(cloning(2));
    driver.join(1, coming_for(Purpose::Look, "10.0.0.1:30764"));
    driver.pass(SECOND * 10, &[1]);
    let pings = driver
        .sent
        .iter()
        .filter(|(_, message)| matches!(message, ToNode::Ping(_)));
    assert!(pings.count() > 2);
}

#[test]
fn looking_goes_on_while_the_run_is_at_work_and_is_bounded() {
    let mut driver = Driver::gathered(1, cloning(1));
    driver.run.prepare(driver.now, Payload(b"spec".to_vec())).unwrap();
    for conn in 0..=limits::MAX_LOOKERS as u64 {
        driver.join(
            100 + conn,
            coming_for(Purpose::Look, &format!("10.0.1.{conn}:30764")),
        );
    }
    let last = driver.sent_to(100 + limits::MAX_LOOKERS as u64);
    assert!(matches!(last[0], ToNode::Refused { .. }), "{last:?}");
    assert!(matches!(driver.sent_to(100)[0], ToNode::Accepted { .. }));
    driver.says(1, ToServer::Prepared(Payload(b"plan".to_vec())));
    assert!(
        matches!(driver.results.last(), Some(RunResult::StageDone { outcomes, .. }) if outcomes.len() == 1),
        "only members are asked"
    );
}

#[test]
fn who_comes_for_something_else_is_turned_away_and_the_run_is_as_it_was() {
    let stream = RunConfig {
        wanted: Some(1),
        offer: Offer::Stream,
        ..config()
    };
    for (config, purpose, said) in [
        (cloning(1), Purpose::Stream, "without -e and --output"),
        (stream.clone(), Purpose::Clone, "-e COMMAND or --output FILE"),
        (stream, Purpose::Look, "no plan"),
    ] {
        let offer = config.offer.clone();
        let mut driver = Driver::new(config);
        driver.join(1, coming_for(purpose, "10.0.0.1:30764"));
        assert!(
            matches!(driver.sent_to(1)[0], ToNode::Refused { reason, .. } if reason.to_string().contains(said)),
            "{purpose:?}: {:?}",
            driver.sent
        );
        assert!(matches!(driver.events.as_slice(), [RunEvent::NodeRefused { .. }]));
        let right = if offer == Offer::Stream {
            Purpose::Stream
        } else {
            Purpose::Clone
        };
        driver.join(2, coming_for(right, "10.0.0.1:30764"));
        assert!(matches!(driver.results.last(), Some(RunResult::Gathered(_))));
    }
}
