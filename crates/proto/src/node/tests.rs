//! The behaviour of a node, seen from its driver.

use super::*;
use crate::limits::CONTROL_SILENCE;

const SECOND: Duration = Duration::from_secs(1);

fn outputs(node: &mut Node) -> Vec<NodeOutput> {
    std::iter::from_fn(|| node.poll_output()).collect()
}

fn accepted() -> Node {
    let mut node = Node::new(Duration::ZERO);
    let (id, run) = (NodeId(3), RunId([1; 16]));
    node.handle_message(
        SECOND,
        ToNode::Accepted {
            node: id,
            run,
            heartbeat_ms: 500,
            silence_ms: 15_000,
        },
    );
    assert_eq!(
        outputs(&mut node),
        [NodeOutput::Order(Order::Accepted { node: id, run })]
    );
    node
}

fn ending(node: &mut Node) -> Option<Ending> {
    outputs(node).into_iter().find_map(|output| match output {
        NodeOutput::Over(ending) => Some(ending),
        _ => None,
    })
}

#[test]
fn a_refusal_gives_the_reason_and_the_servers_version() {
    let mut node = Node::new(Duration::ZERO);
    let reason = Reason::new("late");
    node.handle_message(
        SECOND,
        ToNode::Refused {
            version: 2,
            reason: reason.clone(),
        },
    );
    assert_eq!(ending(&mut node), Some(Ending::Refused { version: 2, reason }));
    assert_eq!(node.poll_timeout(), None);
}

#[test]
fn a_server_that_does_not_answer_the_join_is_given_up() {
    let mut node = Node::new(Duration::ZERO);
    node.handle_timeout(node.poll_timeout().unwrap());
    assert!(matches!(ending(&mut node), Some(Ending::ServerLost { .. })));
}

#[test]
fn a_silent_server_is_lost_and_pings_keep_it() {
    let mut node = accepted();
    node.handle_message(SECOND * 10, ToNode::Ping(5));
    assert_eq!(outputs(&mut node), [NodeOutput::Send(ToServer::Pong(5))]);
    node.handle_timeout(SECOND * 20);
    assert_eq!(outputs(&mut node), []);
    node.handle_timeout(SECOND * 10 + CONTROL_SILENCE);
    let reason = Reason::new("nothing heard from the server for 15 s");
    assert_eq!(ending(&mut node), Some(Ending::ServerLost { reason }));
}

#[test]
fn orders_are_followed_in_turn_and_each_is_answered_once() {
    let mut node = accepted();
    assert!(node.prepared(Payload::default()).is_err(), "not asked yet");
    node.handle_message(SECOND, ToNode::Prepare(Payload(vec![1])));
    assert!(node.report(Payload::default()).is_err(), "something is asked");
    node.prepared(Payload(vec![2])).unwrap();
    assert!(node.prepared(Payload::default()).is_err(), "answered already");
    node.handle_message(SECOND, ToNode::Go);
    node.ready().unwrap();
    node.report(Payload(vec![3])).unwrap();
    node.handle_message(SECOND, ToNode::Release { delay_ms: 300 });
    let delay = Duration::from_millis(300);
    assert_eq!(ending(&mut node), Some(Ending::Released { delay }));
}

#[test]
fn a_stream_may_come_before_the_plan() {
    let mut node = accepted();
    let (stream, server) = (
        StreamId(1),
        crate::control::Peer {
            node: NodeId::SERVER,
            addr: ([10, 0, 0, 1], 30764).into(),
        },
    );
    let open = OpenStream {
        stream,
        name: crate::text::StreamName::new("getstage2").unwrap(),
        key: [4; 32],
        position: crate::ids::ChainPosition(1),
        predecessor: server,
        predecessor_key: [5; 32],
        successor: None,
        successor_key: None,
        resume_from: StreamOffset(0),
        group: None,
        spooled: false,
        silence_ms: 2000,
        receipts: ReceiptKeys::default(),
        cipher: None,
    };
    node.handle_message(SECOND, ToNode::OpenStream(open));
    node.stream_done(stream, 9, [3; 32]).unwrap();
    node.handle_message(SECOND, ToNode::EndStream { stream });
    node.handle_message(SECOND, ToNode::Prepare(Payload(vec![1])));
    node.prepared(Payload(vec![2])).unwrap();
    assert_eq!(ending(&mut node), None);
}

#[test]
fn a_server_that_breaks_the_protocol_is_left() {
    for breaks in [ToNode::Go, ToNode::Prepare(Payload::default())] {
        let mut node = accepted();
        node.handle_message(SECOND, ToNode::Prepare(Payload::default()));
        node.handle_message(SECOND, breaks);
        assert!(matches!(ending(&mut node), Some(Ending::ServerLost { .. })));
    }
    let mut node = Node::new(Duration::ZERO);
    node.handle_message(SECOND, ToNode::Go);
    assert!(matches!(ending(&mut node), Some(Ending::ServerLost { .. })));
}

#[test]
fn a_node_that_must_wait_for_the_next_round_stays_and_is_let_in_then() {
    let mut node = Node::new(Duration::ZERO);
    let reason = Reason::new("the run has begun");
    let queued = ToNode::Queued {
        round: 2,
        reason: reason.clone(),
    };
    node.handle_message(SECOND, queued);
    assert_eq!(
        outputs(&mut node),
        [NodeOutput::Order(Order::Queued { round: 2, reason })]
    );
    for second in 1..100 {
        node.handle_message(SECOND * second, ToNode::Ping(1));
        assert_eq!(outputs(&mut node), [NodeOutput::Send(ToServer::Pong(1))]);
    }
    let (id, run) = (NodeId(3), RunId([2; 16]));
    let accepted = ToNode::Accepted {
        node: id,
        run,
        heartbeat_ms: 500,
        silence_ms: 15_000,
    };
    node.handle_message(SECOND * 100, accepted);
    assert_eq!(
        outputs(&mut node),
        [NodeOutput::Order(Order::Accepted { node: id, run })]
    );
}

#[test]
fn what_crosses_with_a_failure_is_void_and_the_end_still_comes() {
    let mut node = accepted();
    node.step_failed(Stage::Prepare, Reason::new("no disk"));
    node.handle_message(SECOND, ToNode::Go);
    let reason = Reason::new("no disk");
    node.handle_message(
        SECOND,
        ToNode::Abort {
            reason: reason.clone(),
            again: true,
        },
    );
    assert_eq!(ending(&mut node), Some(Ending::Aborted { reason, again: true }));
}
