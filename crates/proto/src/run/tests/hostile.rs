//! Nodes that send any message at any time.

use proptest::prelude::*;

use super::*;

fn anything() -> impl Strategy<Value = ToServer> {
    let stream = (0u32..4).prop_map(StreamId);
    let offset = any::<u64>().prop_map(StreamOffset);
    let side = prop_oneof![Just(Side::Upstream), Just(Side::Downstream)];
    let stage = prop_oneof![
        Just(Stage::Gather),
        Just(Stage::Go),
        Just(Stage::Report),
        stream.clone().prop_map(Stage::Stream)
    ];
    let reason = || Reason::new("says a hostile node");
    prop_oneof![
        any::<u64>().prop_map(ToServer::Pong),
        Just(ToServer::Prepared(Payload(vec![1]))),
        Just(ToServer::Ready),
        stage.prop_map(move |stage| ToServer::StepFailed {
            stage,
            reason: reason()
        }),
        Just(ToServer::Event(Payload::default())),
        (stream.clone(), offset.clone(), offset.clone(), any::<u64>()).prop_map(
            |(stream, received, consumed, buffered)| ToServer::Progress(Progress {
                stream,
                received,
                consumed,
                buffered,
                pace: crate::pace::Pace::default(),
            })
        ),
        (stream.clone(), offset.clone()).prop_map(move |(stream, offset)| ToServer::DataGone {
            stream,
            offset,
            reason: reason()
        }),
        (stream.clone(), side.clone(), offset.clone()).prop_map(|(stream, side, offset)| ToServer::LinkUp {
            stream,
            side,
            offset
        }),
        (stream.clone(), side, offset).prop_map(move |(stream, side, offset)| ToServer::LinkLost {
            stream,
            side,
            offset,
            reason: reason()
        }),
        (stream.clone(), any::<bool>()).prop_map(move |(stream, unproved)| ToServer::StreamFailed {
            stream,
            reason: reason(),
            unproved
        }),
        (stream, any::<u64>()).prop_map(|(stream, bytes)| ToServer::StreamDone {
            stream,
            bytes,
            digest: [0; 32]
        }),
        Just(ToServer::Report(Payload(vec![2]))),
        Just(ToServer::Leaving { reason: reason() }),
    ]
}

/// Gives the next command of the operator's side, if it is possible.
fn command(driver: &mut Driver, choice: u8) {
    let now = driver.now;
    let _ = match choice {
        0 => driver.run.prepare(now, Payload::default()),
        1 => driver.run.go(now),
        2 => driver
            .run
            .open_stream(now, &StreamName::new("s").unwrap())
            .map(drop),
        3 => driver.run.collect_reports(now),
        4 => {
            driver.run.handle_branch_lost(now, StreamId(1), NodeId(2));
            Ok(())
        }
        5 => {
            driver.run.handle_spool_lost(now, &Reason::new("full"));
            Ok(())
        }
        _ => Ok(()),
    };
    driver.drain();
}

proptest! {
    #[test]
    fn a_run_survives_nodes_that_say_anything_at_any_time(
        spool in any::<bool>(),
        steps in proptest::collection::vec((0u64..6, anything(), 0u64..4000, 0u8..30, 1u64..6), 1..120),
    ) {
        let mut driver = Driver::gathered(5, RunConfig { spool, ..config() });
        for (conn, message, pause, choice, silent) in steps {
            driver.says(conn, message);
            let others: Vec<u64> = (1..=5).filter(|conn| *conn != silent).collect();
            driver.pass(Duration::from_millis(pause), &others);
            command(&mut driver, choice);
            prop_assert!(driver.run.poll_timeout().is_some());
        }
        for message in &driver.sent {
            prop_assert!(message.1.encode().is_ok());
        }
        driver.run.abort(driver.now, &Reason::new("enough"));
        driver.drain();
        prop_assert_eq!(driver.results.last(), Some(&RunResult::Over));
    }
}
