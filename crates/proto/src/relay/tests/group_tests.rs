//! Links that stand by while the stream comes from a multicast group.

use super::*;

/// Returns a node of a grouped stream, joined to its predecessor at time 0.
fn member(successor: Option<NodeId>) -> Relay {
    let config = RelayConfig {
        source: Source::Predecessor(upstream()),
        has_consumer: true,
        successor,
        window_bytes: 0,
        me: ME,
        grouped: true,
        ..RelayConfig::default()
    };
    let mut relay = Relay::new(config, at(0));
    relay.handle_upstream_joined(at(0));
    relay.take_ack(at(0));
    outputs(&mut relay);
    relay
}

/// Returns a member whose successor has joined at the beginning.
fn member_before_another() -> Relay {
    let mut relay = member(Some(NEXT));
    relay.handle_downstream_joined(at(0), NEXT, offset(0)).unwrap();
    outputs(&mut relay);
    relay
}

fn head() -> Relay {
    let config = RelayConfig {
        successor: Some(NEXT),
        grouped: true,
        ..RelayConfig::default()
    };
    let mut relay = Relay::new(config, at(0));
    relay.handle_downstream_joined(at(0), NEXT, offset(0)).unwrap();
    outputs(&mut relay);
    relay
}

/// Gives blocks from the group, which the consumer uses at once.
fn take_from_group(relay: &mut Relay, blocks: u64) {
    for _ in 0..blocks {
        let next = relay.received();
        relay.handle_group_block(at(1), next, MIB).unwrap();
        relay.handle_consumed(at(1), next);
    }
}

fn standby(received: u64) -> Ack {
    Ack {
        standby: true,
        ..ack(received, [None; MAX_TOLERANCE])
    }
}

fn data_at(mib: u64) -> Transmit {
    Transmit::Data {
        offset: offset(mib),
        length: MIB,
    }
}

fn is_false_ack(result: &Result<(), RelayError>) -> bool {
    matches!(result, Err(RelayError::FalseAck { .. }))
}

fn loses_its_successor(relay: &mut Relay) -> bool {
    let outputs = outputs(relay);
    let is_lost = |output: &RelayOutput| {
        matches!(
            output,
            RelayOutput::LinkLost {
                side: Side::Downstream,
                ..
            }
        )
    };
    outputs.contains(&RelayOutput::CloseDownstream) && outputs.iter().any(is_lost)
}

#[test]
fn only_signs_of_life_go_to_a_successor_on_standby() {
    let mut relay = member_before_another();
    take_from_group(&mut relay, 3);
    assert_eq!(relay.next_to_send(), None, "also before its first word");
    relay.handle_ack(at(2), &standby(1)).unwrap();
    relay.handle_group_end(at(2), relay.received()).unwrap();
    assert_eq!(relay.next_to_send(), None);
    let due = relay.poll_timeout().unwrap();
    relay.handle_timeout(due);
    assert_eq!(send_all(&mut relay), [Transmit::Idle { offset: offset(1) }]);
}

#[test]
fn data_is_kept_for_a_successor_on_standby_until_it_acknowledges() {
    let mut relay = member_before_another();
    take_from_group(&mut relay, 3);
    assert_eq!(relay.retained_from(), offset(0));
    relay.handle_ack(at(2), &standby(2)).unwrap();
    assert_eq!(relay.retained_from(), offset(2));
}

#[test]
fn data_goes_on_at_the_acknowledged_byte_when_a_successor_leaves_the_group() {
    let mut relay = member_before_another();
    take_from_group(&mut relay, 4);
    relay.handle_ack(at(2), &standby(1)).unwrap();
    relay.handle_ack(at(3), &ack(2, [None; MAX_TOLERANCE])).unwrap();
    assert_eq!(send_all(&mut relay), [data_at(2), data_at(3)]);
    relay.handle_ack(at(4), &ack(3, [None; MAX_TOLERANCE])).unwrap();
    take_from_group(&mut relay, 1);
    assert_eq!(send_all(&mut relay), [data_at(4)], "and nothing twice");
}

#[test]
fn a_successor_may_be_ahead_and_gets_what_comes_after_its_own() {
    let mut relay = member_before_another();
    take_from_group(&mut relay, 1);
    relay.handle_ack(at(2), &standby(3)).unwrap();
    relay.handle_ack(at(3), &ack(3, [None; MAX_TOLERANCE])).unwrap();
    take_from_group(&mut relay, 2);
    assert_eq!(send_all(&mut relay), []);
    take_from_group(&mut relay, 1);
    assert_eq!(send_all(&mut relay), [data_at(3)]);
    assert!(
        outputs(&mut relay)
            .iter()
            .all(|output| matches!(output, RelayOutput::Release { .. }))
    );
}

#[test]
fn a_successor_that_is_ahead_may_join_unless_it_is_ahead_of_the_producer() {
    let mut relay = member(Some(NEXT));
    take_from_group(&mut relay, 1);
    assert_eq!(relay.handle_downstream_joined(at(1), NEXT, offset(5)), Ok(()));
    let mut relay = head();
    let refused = relay.handle_downstream_joined(at(1), NEXT, offset(5));
    assert!(
        matches!(refused, Err(RelayError::CannotResume { .. })),
        "{refused:?}"
    );
}

#[test]
fn nobody_acknowledges_what_the_producer_has_not_made() {
    let mut relay = head();
    relay.handle_block(at(1), offset(0), MIB).unwrap();
    assert!(is_false_ack(&relay.handle_ack(at(2), &standby(2))));
    let half = Ack {
        received: StreamOffset(9),
        ..standby(0)
    };
    assert!(
        is_false_ack(&relay.handle_ack(at(2), &half)),
        "not the edge of a block"
    );
    let ended = Ack {
        ended: true,
        ..standby(1)
    };
    assert!(
        is_false_ack(&relay.handle_ack(at(2), &ended)),
        "the stream goes on"
    );
    assert_eq!(relay.handle_ack(at(2), &standby(1)), Ok(()));
}

#[test]
fn standby_is_given_up_once_and_nothing_is_acknowledged_ahead_afterwards() {
    let mut relay = member_before_another();
    relay.handle_ack(at(1), &ack(2, [None; MAX_TOLERANCE])).unwrap();
    assert!(is_false_ack(&relay.handle_ack(at(2), &standby(2))));
    assert!(is_false_ack(
        &relay.handle_ack(at(2), &ack(3, [None; MAX_TOLERANCE]))
    ));
}

#[test]
fn nobody_stands_by_in_a_stream_without_a_group() {
    let mut relay = node(Some(NEXT), 0);
    relay.handle_downstream_joined(at(0), NEXT, offset(0)).unwrap();
    assert!(is_false_ack(&relay.handle_ack(at(1), &standby(0))));
}

#[test]
fn an_acknowledgement_inside_a_block_is_found_out_when_the_block_comes() {
    let mut relay = member_before_another();
    let inside = Ack {
        received: offset(2).plus(7),
        ..standby(0)
    };
    relay.handle_ack(at(1), &inside).unwrap();
    take_from_group(&mut relay, 2);
    assert!(!loses_its_successor(&mut relay));
    take_from_group(&mut relay, 1);
    assert!(loses_its_successor(&mut relay));
}

#[test]
fn an_acknowledgement_beyond_the_end_is_found_out_at_the_end() {
    let mut relay = member_before_another();
    let all = Ack {
        received: StreamOffset(u64::MAX),
        ended: true,
        tail_ended: true,
        ..standby(0)
    };
    relay.handle_ack(at(1), &all).unwrap();
    take_from_group(&mut relay, 3);
    relay.handle_group_end(at(2), offset(3)).unwrap();
    assert!(loses_its_successor(&mut relay));
}

#[test]
fn an_end_that_was_none_is_found_out_when_the_stream_goes_on() {
    let mut relay = member_before_another();
    let ended = Ack {
        ended: true,
        tail_ended: true,
        ..standby(2)
    };
    relay.handle_ack(at(1), &ended).unwrap();
    take_from_group(&mut relay, 2);
    assert!(!loses_its_successor(&mut relay));
    take_from_group(&mut relay, 1);
    assert!(loses_its_successor(&mut relay));
}

#[test]
fn a_member_that_leaves_says_so_at_once_and_takes_nothing_more_from_the_group() {
    let mut relay = member(None);
    take_from_group(&mut relay, 1);
    assert!(relay.take_ack(at(2)).is_none(), "that is no news yet");
    relay.leave_group(at(3));
    assert!(!relay.is_grouped());
    let said = relay.take_ack(at(3)).expect("news");
    assert_eq!((said.received, said.standby), (offset(1), false));
    let late = relay.handle_group_block(at(3), offset(1), MIB);
    assert_eq!(late, Err(RelayError::Unasked(offset(1))));
    assert_eq!(
        relay.handle_group_end(at(3), offset(1)),
        Err(RelayError::Unasked(offset(1)))
    );
    assert_eq!(relay.handle_block(at(3), offset(1), MIB), Ok(()));
}

#[test]
fn a_silent_predecessor_is_noticed_while_data_comes_from_the_group_and_the_window_is_full() {
    let mut relay = member(None);
    relay.handle_upstream_alive(at(0));
    let mut now = at(0);
    while !matches!(relay.upstream, upstream::Upstream::Lost { .. }) {
        now += at(100);
        assert!(now <= limits::LINK_SILENCE + at(100), "nobody noticed");
        while relay.wants_upstream() {
            relay.handle_group_block(now, relay.received(), MIB).unwrap();
        }
        relay.handle_consumed(now, relay.consumed());
        relay.handle_timeout(now);
    }
}

#[test]
fn a_member_that_gets_the_end_needs_no_predecessor_any_more() {
    let mut relay = member(None);
    relay.handle_upstream_alive(at(0));
    relay.handle_upstream_lost(at(1), Reason::new("reset"));
    outputs(&mut relay);
    take_from_group(&mut relay, 1);
    relay.handle_group_end(at(2), offset(1)).unwrap();
    relay.handle_consumer_finished(at(3));
    let last = outputs(&mut relay).pop();
    assert_eq!(last, Some(RelayOutput::Closed));
}

#[test]
fn a_successor_that_has_the_end_first_may_go_and_its_predecessor_goes_on() {
    let mut relay = member_before_another();
    take_from_group(&mut relay, 1);
    let ended = Ack {
        ended: true,
        tail_ended: true,
        ..standby(2)
    };
    relay.handle_ack(at(1), &ended).unwrap();
    relay.handle_downstream_lost(at(2), Reason::new("closed"));
    let lost = |output: &RelayOutput| matches!(output, RelayOutput::LinkLost { .. });
    assert!(!outputs(&mut relay).iter().any(lost));
    relay.leave_group(at(3));
    relay.handle_block(at(3), offset(1), MIB).unwrap();
    relay.handle_end(at(3), offset(2)).unwrap();
    relay.handle_consumer_finished(at(4));
    assert!(relay.take_ack(at(4)).is_some_and(|ack| ack.tail_ended));
    assert_eq!(outputs(&mut relay).pop(), Some(RelayOutput::Closed));
}

#[test]
fn the_end_is_not_sent_to_a_successor_that_has_it_from_the_group() {
    let mut relay = member_before_another();
    take_from_group(&mut relay, 1);
    relay.handle_group_end(at(1), offset(1)).unwrap();
    let ended = |standby| Ack {
        ended: true,
        standby,
        ..ack(1, [None; MAX_TOLERANCE])
    };
    relay.handle_ack(at(2), &ended(true)).unwrap();
    relay.handle_ack(at(3), &ended(false)).unwrap();
    assert_eq!(send_all(&mut relay), []);
    assert_eq!(relay.handle_ack(at(4), &ended(false)), Ok(()));
}

#[test]
fn the_end_is_sent_to_a_successor_that_left_the_group_before_it() {
    let mut relay = member_before_another();
    take_from_group(&mut relay, 1);
    relay.handle_group_end(at(1), offset(1)).unwrap();
    relay.handle_ack(at(2), &ack(1, [None; MAX_TOLERANCE])).unwrap();
    assert_eq!(send_all(&mut relay), [Transmit::End { offset: offset(1) }]);
}
