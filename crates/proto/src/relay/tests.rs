//! The behaviour of a relay, seen from its driver.

mod group_tests;
mod receipt_tests;

use super::*;
use crate::limits::{self, MAX_BLOCK, MAX_TOLERANCE, MIN_WINDOW_BLOCKS};
use crate::link::{Receipt, ReceiptKey, Receipts};

const MIB: u32 = 1 << 20;
const _: () = assert!(MIB as usize == MAX_BLOCK);
const NEXT: NodeId = NodeId(7);
const ME: NodeId = NodeId(1);
const FURTHER: [NodeId; MAX_TOLERANCE] = [NodeId(8), NodeId(9), NodeId(10)];

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn upstream() -> Peer {
    Peer {
        node: NodeId::SERVER,
        addr: ([10, 0, 0, 1], 30764).into(),
    }
}

/// Returns the nodes below the successor for which data is kept.
fn near(tolerance: u8) -> ReceiptKeys {
    let below = FURTHER.into_iter().take(usize::from(tolerance)).map(receipt_key);
    ReceiptKeys {
        above: Vec::new(),
        below: below.collect(),
    }
}

const fn receipt_key(node: NodeId) -> ReceiptKey {
    ReceiptKey { node, key: [9; 32] }
}

/// Returns a receipt of `from` for the node under test.
fn receipt(from: NodeId, received: StreamOffset, ended: bool) -> Receipt {
    let key = ReceiptKey {
        node: ME,
        ..receipt_key(from)
    };
    Receipt::new(from, &key, received, ended)
}

/// Returns a node with the smallest window, joined to its predecessor at time 0.
fn node(successor: Option<NodeId>, tolerance: u8) -> Relay {
    let source = Source::Predecessor(upstream());
    let config = RelayConfig {
        source,
        has_consumer: true,
        successor,
        window_bytes: 0,
        me: ME,
        receipts: near(tolerance),
        ..RelayConfig::default()
    };
    let mut relay = Relay::new(config, at(0));
    relay.handle_upstream_joined(at(0));
    relay.take_ack(at(0));
    outputs(&mut relay);
    relay
}

fn outputs(relay: &mut Relay) -> Vec<RelayOutput> {
    std::iter::from_fn(|| relay.poll_output()).collect()
}

fn offset(mib: u64) -> StreamOffset {
    StreamOffset(mib * u64::from(MIB))
}

fn fill(relay: &mut Relay) -> u64 {
    let mut blocks = 0;
    while relay.wants_upstream() {
        relay.handle_block(at(1), relay.received(), MIB).unwrap();
        blocks += 1;
    }
    blocks
}

fn send_all(relay: &mut Relay) -> Vec<Transmit> {
    let mut sent = Vec::new();
    while let Some(send) = relay.next_to_send() {
        relay.handle_sent(at(1), send);
        sent.push(send);
    }
    sent
}

fn ack(received: u64, below: [Option<u64>; MAX_TOLERANCE]) -> Ack {
    let below = FURTHER.into_iter().zip(below);
    let receipts = below.filter_map(|(from, mib)| Some(receipt(from, offset(mib?), false)));
    let (consumed, retained_from) = (offset(0), offset(0));
    Ack {
        received: offset(received),
        consumed,
        retained_from,
        receipts: receipts.collect(),
        ended: false,
        tail_ended: false,
        standby: false,
    }
}

#[test]
fn a_node_asks_for_its_predecessor_at_once_and_tries_again() {
    let config = RelayConfig {
        source: Source::Predecessor(upstream()),
        ..RelayConfig::default()
    };
    let mut relay = Relay::new(config, at(0));
    let connect = RelayOutput::Connect {
        peer: upstream(),
        resume: offset(0),
    };
    assert_eq!(outputs(&mut relay), std::slice::from_ref(&connect));
    relay.handle_upstream_lost(at(10), Reason::new("refused"));
    assert_eq!(outputs(&mut relay), []);
    let again = relay.poll_timeout().unwrap();
    relay.handle_timeout(again);
    assert_eq!(outputs(&mut relay), [connect]);
}

#[test]
fn an_attempt_at_a_predecessor_that_is_named_once_more_goes_on() {
    let config = RelayConfig {
        source: Source::Predecessor(upstream()),
        ..RelayConfig::default()
    };
    let (establish, mut relay) = (config.establish, Relay::new(config, at(0)));
    outputs(&mut relay);
    relay.set_predecessor(at(100), upstream());
    assert_eq!(outputs(&mut relay), [], "it is being connected to");
    relay.handle_upstream_joined(at(200));
    outputs(&mut relay);
    relay.set_predecessor(at(300), upstream());
    assert_eq!(outputs(&mut relay), [], "it has not said a word yet");
    // The predecessor turns the node away. The node tries again for as long as if the predecessor had been
    // named just now.
    relay.handle_upstream_lost(at(400), Reason::new("closed"));
    let connect = RelayOutput::Connect {
        peer: upstream(),
        resume: offset(0),
    };
    let again = relay.poll_timeout().unwrap();
    relay.handle_timeout(again);
    assert_eq!(outputs(&mut relay), [connect]);
    let (mut now, mut seen) = (again, Vec::new());
    while seen.is_empty() {
        now = relay.poll_timeout().unwrap();
        relay.handle_timeout(now);
        seen = outputs(&mut relay);
    }
    assert_eq!(now, at(300) + establish);
    relay.set_predecessor(now, upstream());
    outputs(&mut relay);
    let other = Peer {
        node: NodeId(3),
        ..upstream()
    };
    relay.set_predecessor(now, other);
    let seen = outputs(&mut relay);
    assert!(
        matches!(&seen[..], [RelayOutput::CloseUpstream(_), RelayOutput::Connect { peer, .. }] if *peer == other),
        "{seen:?}"
    );
}

#[test]
fn a_predecessor_that_turns_the_node_away_at_first_is_tried_again() {
    let mut relay = node(None, 0);
    relay.handle_upstream_lost(at(10), Reason::new("closed"));
    assert_eq!(outputs(&mut relay), []);
    relay.handle_timeout(relay.poll_timeout().unwrap());
    assert!(matches!(outputs(&mut relay)[..], [RelayOutput::Connect { .. }]));
    relay.handle_upstream_joined(at(400));
    relay.handle_upstream_alive(at(500));
    relay.handle_upstream_lost(at(600), Reason::new("closed"));
    assert!(matches!(
        outputs(&mut relay)[..],
        [RelayOutput::LinkUp { .. }, RelayOutput::LinkLost { .. }]
    ));
}

#[test]
fn blocks_go_on_in_order_and_then_the_end() {
    let mut relay = node(Some(NEXT), 0);
    relay.handle_downstream_joined(at(0), NEXT, offset(0)).unwrap();
    relay.handle_block(at(1), offset(0), MIB).unwrap();
    relay.handle_block(at(1), offset(1), 10).unwrap();
    let last = offset(1).plus(10);
    relay.handle_end(at(1), last).unwrap();
    let data = |offset, length| Transmit::Data { offset, length };
    assert_eq!(
        send_all(&mut relay),
        [
            data(offset(0), MIB),
            data(offset(1), 10),
            Transmit::End { offset: last }
        ]
    );
}

#[test]
fn a_gap_a_repeat_or_an_unasked_block_is_refused() {
    let mut relay = node(None, 0);
    relay.handle_block(at(1), offset(0), MIB).unwrap();
    let expected = offset(1);
    for got in [offset(0), offset(2)] {
        assert_eq!(
            relay.handle_block(at(1), got, MIB),
            Err(RelayError::WrongOffset { got, expected })
        );
    }
    fill(&mut relay);
    let next = relay.received();
    assert_eq!(relay.handle_block(at(1), next, 1), Err(RelayError::Unasked(next)));
    assert!(relay.handle_end(at(1), offset(0)).is_err());
}

#[test]
fn reading_stops_when_the_consumer_lags_and_goes_on_when_it_has_taken_a_block() {
    let mut relay = node(None, 0);
    assert_eq!(fill(&mut relay), MIN_WINDOW_BLOCKS as u64);
    relay.handle_consumed(at(2), offset(1));
    assert!(
        !relay.wants_upstream(),
        "only the second block is taken, the first is still in use"
    );
    relay.handle_consumed(at(2), offset(0));
    assert_eq!(outputs(&mut relay), [RelayOutput::Release { below: offset(2) }]);
    assert_eq!(fill(&mut relay), 2);
}

#[test]
fn reading_stops_when_the_successor_lags() {
    let mut relay = node(Some(NEXT), 0);
    relay.handle_downstream_joined(at(0), NEXT, offset(0)).unwrap();
    let blocks = fill(&mut relay);
    (0..blocks).for_each(|block| relay.handle_consumed(at(2), offset(block)));
    assert!(!relay.wants_upstream());
    send_all(&mut relay);
    assert!(!relay.wants_upstream(), "sent is not received");
    relay.handle_ack(at(3), &ack(1, [None; 3])).unwrap();
    assert!(relay.wants_upstream());
}

#[test]
fn a_node_that_holds_back_gives_signs_of_life_and_then_all_at_once() {
    let held = || {
        let mut relay = node(Some(NEXT), 0);
        relay.handle_downstream_joined(at(0), NEXT, offset(0)).unwrap();
        relay.hold(at(0), Duration::from_secs(4));
        (0..2).for_each(|block| relay.handle_block(at(1), offset(block), MIB).unwrap());
        assert_eq!(relay.next_to_send(), None);
        relay
    };
    let mut relay = held();
    relay.handle_timeout(at(2000));
    assert!(matches!(relay.next_to_send(), Some(Transmit::Idle { .. })));
    relay.handle_sent(at(2000), Transmit::Idle { offset: offset(0) });
    let mut now = Duration::ZERO;
    while now < at(4000) {
        now = relay.poll_timeout().unwrap();
        relay.handle_timeout(now);
        relay.handle_ack(now, &ack(0, [None; 3])).unwrap();
    }
    assert_eq!(send_all(&mut relay).len(), 2, "the time is over");
    let mut relay = held();
    relay.handle_end(at(2), offset(2)).unwrap();
    assert_eq!(send_all(&mut relay).len(), 3, "nothing more will come");
    let mut relay = held();
    assert_eq!(
        fill(&mut relay) + 2,
        send_all(&mut relay).len() as u64,
        "the window fills"
    );
}

#[test]
fn data_is_kept_for_as_many_lost_descendants_as_are_tolerated() {
    for (tolerance, kept_from) in [(0, 5), (1, 4), (2, 2), (3, 1)] {
        let mut relay = node(Some(NEXT), tolerance);
        relay.handle_downstream_joined(at(0), NEXT, offset(0)).unwrap();
        let blocks = fill(&mut relay);
        (0..blocks).for_each(|block| relay.handle_consumed(at(2), offset(block)));
        send_all(&mut relay);
        relay
            .handle_ack(at(3), &ack(5, [Some(4), Some(2), Some(1)]))
            .unwrap();
        assert_eq!(relay.retained_from(), offset(kept_from), "tolerance {tolerance}");
    }
}

#[test]
fn a_new_successor_goes_on_where_it_is_and_a_stranger_or_a_late_one_cannot() {
    let mut relay = node(Some(NEXT), 1);
    relay.handle_downstream_joined(at(0), NEXT, offset(0)).unwrap();
    let blocks = fill(&mut relay);
    (0..blocks).for_each(|block| relay.handle_consumed(at(2), offset(block)));
    send_all(&mut relay);
    relay.handle_ack(at(3), &ack(5, [Some(3), None, None])).unwrap();
    relay.handle_downstream_lost(at(4), Reason::new("reset"));
    let other = NodeId(8);
    assert!(
        relay.handle_downstream_joined(at(5), other, offset(3)).is_err(),
        "not named yet"
    );
    relay.set_successor(at(5), Successor::Node(other));
    relay.set_receipts(at(5), &ReceiptKeys::default());
    assert!(matches!(
        relay.handle_downstream_joined(at(5), other, offset(2)),
        Err(RelayError::CannotResume { .. })
    ));
    assert!(
        relay
            .handle_downstream_joined(at(5), other, offset(3).plus(1))
            .is_err(),
        "not a block's edge"
    );
    relay.handle_downstream_joined(at(5), other, offset(3)).unwrap();
    assert_eq!(
        relay.next_to_send(),
        Some(Transmit::Data {
            offset: offset(3),
            length: MIB
        })
    );
}

#[test]
fn an_acknowledgement_of_what_was_not_sent_or_that_goes_back_is_refused() {
    let mut relay = node(Some(NEXT), 0);
    relay.handle_downstream_joined(at(0), NEXT, offset(0)).unwrap();
    fill(&mut relay);
    assert!(relay.handle_ack(at(1), &ack(1, [None; 3])).is_err());
    send_all(&mut relay);
    relay.handle_ack(at(1), &ack(2, [None; 3])).unwrap();
    assert!(relay.handle_ack(at(1), &ack(1, [None; 3])).is_err());
    let ended = Ack {
        ended: true,
        tail_ended: true,
        ..ack(2, [None; 3])
    };
    assert!(relay.handle_ack(at(1), &ended).is_err(), "no end was sent");
}

#[test]
fn a_silent_predecessor_is_lost_and_another_one_takes_over_at_the_same_place() {
    let mut relay = node(None, 0);
    relay.handle_block(at(100), offset(0), MIB).unwrap();
    let mut now = at(100);
    let mut seen = Vec::new();
    while seen.is_empty() {
        now = relay.poll_timeout().unwrap();
        relay.handle_timeout(now);
        relay.take_ack(now);
        seen = outputs(&mut relay);
    }
    assert_eq!(now, at(100) + limits::LINK_SILENCE);
    assert!(
        matches!(&seen[1], RelayOutput::LinkLost { side: Side::Upstream, offset: place, .. } if *place == offset(1))
    );
    let peer = Peer {
        node: NodeId(3),
        ..upstream()
    };
    relay.set_predecessor(now, peer);
    assert_eq!(
        outputs(&mut relay),
        [RelayOutput::Connect {
            peer,
            resume: offset(1)
        }]
    );
}

#[test]
fn a_predecessor_that_is_not_read_because_the_window_is_full_is_not_called_silent() {
    let mut relay = node(None, 0);
    fill(&mut relay);
    for _ in 0..100 {
        let now = relay.poll_timeout().unwrap();
        relay.handle_timeout(now);
        relay.take_ack(now);
    }
    assert_eq!(outputs(&mut relay), []);
}

#[test]
fn a_driver_that_was_away_itself_does_not_blame_its_neighbours() {
    let mut relay = node(Some(NEXT), 0);
    relay.handle_downstream_joined(at(0), NEXT, offset(0)).unwrap();
    outputs(&mut relay);
    relay.handle_timeout(at(60_000));
    assert_eq!(outputs(&mut relay), []);
}

#[test]
fn a_successor_that_never_comes_is_reported_and_the_node_goes_on_for_itself() {
    let mut relay = node(Some(NEXT), 0);
    fill(&mut relay);
    let mut reported = false;
    let mut now = at(0);
    while now < at(100_000) {
        now = relay.poll_timeout().unwrap();
        relay.handle_upstream_alive(now);
        relay.handle_timeout(now);
        relay.take_ack(now);
        reported |= outputs(&mut relay).iter().any(|output| {
            matches!(
                output,
                RelayOutput::LinkLost {
                    side: Side::Downstream,
                    ..
                }
            )
        });
    }
    assert!(reported);
    (0..MIN_WINDOW_BLOCKS as u64).for_each(|block| relay.handle_consumed(now, offset(block)));
    assert!(relay.wants_upstream());
}

#[test]
fn a_tail_is_closed_when_its_consumer_is_done_and_its_predecessor_knows() {
    let mut relay = node(None, 0);
    relay.handle_block(at(1), offset(0), MIB).unwrap();
    relay.handle_end(at(1), offset(1)).unwrap();
    assert!(
        relay.take_ack(at(1)).is_some_and(|ack| ack.tail_ended),
        "told at once, not at the next heartbeat"
    );
    relay.handle_consumed(at(2), offset(0));
    assert!(!outputs(&mut relay).contains(&RelayOutput::Done));
    relay.handle_consumer_finished(at(3));
    assert_eq!(outputs(&mut relay), [RelayOutput::Done, RelayOutput::Closed]);
    assert_eq!(relay.poll_timeout(), None);
}

#[test]
fn a_node_that_is_done_stays_until_its_descendants_have_the_end() {
    let mut relay = node(Some(NEXT), 0);
    relay.handle_downstream_joined(at(0), NEXT, offset(0)).unwrap();
    relay.handle_end(at(1), offset(0)).unwrap();
    relay.handle_consumer_finished(at(1));
    outputs(&mut relay);
    send_all(&mut relay);
    relay
        .handle_ack(
            at(2),
            &Ack {
                ended: true,
                ..ack(0, [None; 3])
            },
        )
        .unwrap();
    assert_eq!(outputs(&mut relay), []);
    relay
        .handle_ack(
            at(3),
            &Ack {
                ended: true,
                tail_ended: true,
                ..ack(0, [None; 3])
            },
        )
        .unwrap();
    relay.take_ack(at(3));
    assert_eq!(outputs(&mut relay), [RelayOutput::Closed]);
}

#[test]
fn a_predecessor_that_goes_after_the_end_is_no_loss() {
    let mut relay = node(None, 0);
    relay.handle_end(at(1), offset(0)).unwrap();
    relay.handle_upstream_lost(at(1), Reason::new("closed"));
    assert_eq!(outputs(&mut relay), []);
    relay.handle_consumer_finished(at(2));
    assert_eq!(outputs(&mut relay), [RelayOutput::Done, RelayOutput::Closed]);
}

#[test]
fn a_node_whose_consumer_failed_relays_on_and_is_never_done() {
    let mut relay = node(Some(NEXT), 0);
    relay.handle_downstream_joined(at(0), NEXT, offset(0)).unwrap();
    relay.handle_block(at(1), offset(0), MIB).unwrap();
    relay.handle_consumer_failed(at(1));
    relay.handle_block(at(2), offset(1), MIB).unwrap();
    relay.handle_end(at(2), offset(2)).unwrap();
    send_all(&mut relay);
    relay
        .handle_ack(
            at(3),
            &Ack {
                ended: true,
                tail_ended: true,
                ..ack(2, [None; 3])
            },
        )
        .unwrap();
    relay.take_ack(at(3));
    let seen = outputs(&mut relay);
    assert!(
        seen.contains(&RelayOutput::Closed) && !seen.contains(&RelayOutput::Done),
        "{seen:?}"
    );
}

#[test]
fn something_is_said_both_ways_at_every_heartbeat() {
    let mut relay = node(Some(NEXT), 0);
    relay.handle_downstream_joined(at(0), NEXT, offset(0)).unwrap();
    assert_eq!((relay.take_ack(at(1)), relay.next_to_send()), (None, None));
    relay.handle_timeout(limits::HEARTBEAT);
    assert!(relay.take_ack(limits::HEARTBEAT).is_some());
    assert_eq!(relay.next_to_send(), Some(Transmit::Idle { offset: offset(0) }));
    relay.handle_sent(limits::HEARTBEAT, Transmit::Idle { offset: offset(0) });
    assert_eq!(relay.next_to_send(), None);
}

#[test]
fn timers_always_move_on_even_when_nothing_can_be_sent() {
    let mut relay = node(Some(NEXT), 0);
    relay.handle_downstream_joined(at(0), NEXT, offset(0)).unwrap();
    let mut now = at(0);
    for _ in 0..200 {
        let Some(next) = relay.poll_timeout() else { return };
        assert!(next > now, "{next:?} after {now:?}");
        now = next;
        relay.handle_timeout(now);
    }
}

proptest::proptest! {
    #[test]
    fn a_relay_keeps_its_window_and_its_timers_whatever_its_neighbours_and_driver_do(
        tolerance in 0u8..9,
        steps in proptest::collection::vec((0u8..16, 0u64..12, 0u64..3000), 1..200),
    ) {
        let mut relay = node(Some(NEXT), tolerance);
        let mut now = at(0);
        let most = (MIN_WINDOW_BLOCKS * MAX_BLOCK) as u64;
        for (what, mib, pause) in steps {
            now += at(pause);
            let reason = Reason::new("any");
            match what {
                0..=2 => drop(relay.handle_block(now, relay.received(), MIB)),
                3 => drop(relay.handle_block(now, offset(mib), MIB)),
                4 => relay.handle_consumed(now, offset(mib)),
                5 => drop(relay.handle_downstream_joined(now, NEXT, offset(mib))),
                6 => drop(relay.handle_ack(now, &ack(mib, [Some(mib / 2), None, Some(0)]))),
                7 => drop(send_all(&mut relay)),
                8 => relay.handle_downstream_lost(now, reason),
                9 => relay.handle_upstream_lost(now, reason),
                10 => relay.handle_upstream_joined(now),
                11 => relay.set_predecessor(now, upstream()),
                12 => relay.set_successor(now, Successor::Node(NodeId(u32::from(tolerance) + 5))),
                13 => relay.set_successor(now, Successor::Nobody),
                14 if mib == 0 => drop(relay.handle_end(now, relay.received())),
                14 if mib == 1 => relay.handle_consumer_failed(now),
                _ => relay.handle_timeout(now),
            }
            relay.take_ack(now);
            let seen = outputs(&mut relay);
            proptest::prop_assert!(relay.buffered() <= most);
            proptest::prop_assert!(relay.retained_from() <= relay.consumed());
            proptest::prop_assert!(relay.consumed() <= relay.received());
            let over = |output: &RelayOutput| matches!(output, RelayOutput::Closed | RelayOutput::Failed { .. });
            if seen.iter().any(over) {
                proptest::prop_assert_eq!(relay.poll_timeout(), None);
                return Ok(());
            }
            proptest::prop_assert!(relay.poll_timeout().is_some());
        }
    }
}
