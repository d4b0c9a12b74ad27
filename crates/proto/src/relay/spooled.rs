//! Tests of a relay in a stream that the server keeps, seen from its driver.

use super::*;
use crate::limits::MAX_BLOCK;

const BLOCK: u32 = 1 << 20;
const _: () = assert!(BLOCK as usize == MAX_BLOCK);
const NEXT: NodeId = NodeId(7);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn peer(node: u32) -> Peer {
    Peer {
        node: NodeId(node),
        addr: ([10, 0, 0, 1], 30764).into(),
    }
}

fn outputs(relay: &mut Relay) -> Vec<RelayOutput> {
    std::iter::from_fn(|| relay.poll_output()).collect()
}

/// Returns a node that has three blocks, of a stream that is kept or not.
fn node(spooled: bool) -> Relay {
    let config = RelayConfig {
        source: Source::Predecessor(peer(3)),
        has_consumer: true,
        spooled,
        ..RelayConfig::default()
    };
    let mut relay = Relay::new(config, at(0));
    relay.handle_upstream_joined(at(0));
    for _ in 0..3 {
        relay.handle_block(at(0), relay.received(), BLOCK).unwrap();
    }
    relay.set_predecessor(at(1), peer(2));
    outputs(&mut relay);
    relay
}

#[test]
fn a_node_whose_data_is_gone_keeps_what_it_has_and_goes_on_where_it_stood() {
    let mut relay = node(true);
    let stood = relay.received();
    relay.handle_upstream_gap(at(1), stood.plus(9));
    assert!(
        matches!(&outputs(&mut relay)[..], [RelayOutput::Gap { offset, .. }] if *offset == stood),
        "and nothing else"
    );
    relay.set_predecessor(at(2), peer(0));
    let connect = RelayOutput::Connect {
        peer: peer(0),
        resume: stood,
    };
    assert_eq!(outputs(&mut relay), [connect]);
    relay.handle_upstream_joined(at(2));
    assert_eq!(relay.handle_block(at(2), stood, BLOCK), Ok(()));
}

#[test]
fn a_node_that_nobody_hears_keeps_what_it_has_for_a_minute() {
    for (spooled, keeps) in [(true, true), (false, false)] {
        let mut relay = node(spooled);
        relay.handle_upstream_joined(at(1));
        relay.handle_upstream_alive(at(1));
        relay.handle_upstream_lost(at(1), Reason::new("reset"));
        outputs(&mut relay);
        while let Some(due) = relay.poll_timeout().filter(|due| *due <= at(59)) {
            relay.handle_timeout(due);
        }
        let failed = outputs(&mut relay)
            .iter()
            .any(|output| matches!(output, RelayOutput::Failed { .. }));
        assert_eq!(!failed, keeps);
    }
}

#[test]
fn a_node_whose_data_is_gone_gives_up_when_the_server_names_nobody() {
    let mut relay = node(true);
    relay.handle_upstream_gap(at(1), relay.received().plus(9));
    outputs(&mut relay);
    let due = relay.poll_timeout().expect("no state without a timer");
    relay.handle_timeout(due.max(at(100)));
    assert!(matches!(outputs(&mut relay)[..], [RelayOutput::Failed { .. }]));
}

#[test]
fn a_node_whose_data_is_gone_and_kept_nowhere_gives_up_at_once() {
    let mut relay = node(false);
    relay.handle_upstream_gap(at(1), relay.received().plus(9));
    assert!(matches!(outputs(&mut relay)[..], [RelayOutput::Failed { .. }]));
}

/// Returns the head of a branch that [`NEXT`] will join.
fn branch() -> Relay {
    let config = RelayConfig {
        source: Source::Spool,
        successor: Some(NEXT),
        ..RelayConfig::default()
    };
    Relay::new(config, at(0))
}

#[test]
fn the_head_of_a_branch_begins_where_its_first_successor_asks() {
    let asked = StreamOffset(12_345);
    let mut relay = branch();
    relay.handle_downstream_joined(at(1), NEXT, asked).unwrap();
    assert_eq!((relay.received(), relay.retained_from()), (asked, asked));
    relay.handle_block(at(1), asked, BLOCK).unwrap();
    assert_eq!(
        relay.next_to_send(),
        Some(super::Transmit::Data {
            offset: asked,
            length: BLOCK
        })
    );
}

#[test]
fn the_head_of_a_branch_begins_once() {
    let asked = StreamOffset(12_345);
    let mut relay = branch();
    relay.handle_downstream_joined(at(1), NEXT, asked).unwrap();
    relay.handle_block(at(1), asked, BLOCK).unwrap();
    let earlier = relay.handle_downstream_joined(at(2), NEXT, StreamOffset(5));
    assert!(matches!(earlier, Err(RelayError::CannotResume { .. })));
    assert_eq!(relay.handle_downstream_joined(at(2), NEXT, asked), Ok(()));
}

#[test]
fn the_head_of_a_branch_that_nobody_joins_says_so_in_time() {
    let mut relay = branch();
    let due = relay.poll_timeout().expect("no state without a timer");
    relay.handle_timeout(due.max(at(60)));
    assert!(matches!(outputs(&mut relay)[..], [RelayOutput::LinkLost { .. }]));
}
