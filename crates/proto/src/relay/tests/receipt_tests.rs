//! Receipts: a node further down counts by its own proved report.

use super::*;

/// Returns a node with a full window, all of it consumed and sent, that keeps it for a successor and one node
/// more.
fn sender() -> Relay {
    let mut relay = node(Some(NEXT), 1);
    relay.handle_downstream_joined(at(0), NEXT, offset(0)).unwrap();
    let blocks = fill(&mut relay);
    (0..blocks).for_each(|block| relay.handle_consumed(at(2), offset(block)));
    send_all(&mut relay);
    relay
}

#[test]
fn what_a_successor_says_of_those_below_it_is_believed_when_they_prove_it() {
    let [below, other, _] = FURTHER;
    let stranger = Receipt::new(
        below,
        &ReceiptKey {
            node: ME,
            key: [8; 32],
        },
        offset(5),
        false,
    );
    let proved = receipt(below, offset(5), false);
    let believed = [(stranger, 0), (receipt(other, offset(5), false), 0), (proved, 5)];
    let altered = [
        |receipt: &mut Receipt| receipt.received = offset(4),
        |receipt: &mut Receipt| receipt.ended = true,
        |receipt: &mut Receipt| receipt.from = FURTHER[1],
        |receipt: &mut Receipt| receipt.to = FURTHER[1],
    ];
    let altered = altered.map(|alter| {
        let mut receipt = proved;
        alter(&mut receipt);
        (receipt, 0)
    });
    for (receipt, kept_from) in believed.into_iter().chain(altered) {
        let mut relay = sender();
        let said = Ack {
            receipts: [receipt].into_iter().collect(),
            tail_ended: false,
            ..ack(5, [None; 3])
        };
        relay.handle_ack(at(3), &said).unwrap();
        assert_eq!(relay.retained_from(), offset(kept_from), "{receipt:?}");
    }
    let mut relay = sender();
    relay.handle_ack(at(3), &ack(5, [Some(4), None, None])).unwrap();
    relay.handle_ack(at(3), &ack(5, [Some(2), None, None])).unwrap();
    relay.handle_ack(at(3), &ack(5, [None; 3])).unwrap();
    assert_eq!(relay.retained_from(), offset(4), "an earlier word is no news");
}

#[test]
fn a_node_stays_until_those_below_its_successor_prove_that_they_have_the_end() {
    let mut relay = sender();
    relay.handle_end(at(3), relay.received()).unwrap();
    relay.handle_consumer_finished(at(3));
    send_all(&mut relay);
    outputs(&mut relay);
    let all = relay.received();
    let said = |receipts: Receipts| Ack {
        received: all,
        receipts,
        ended: true,
        tail_ended: true,
        ..ack(0, [None; 3])
    };
    relay.handle_ack(at(4), &said(Receipts::default())).unwrap();
    relay.handle_downstream_lost(at(5), Reason::new("it was a lie, and now it is gone"));
    assert!(
        matches!(outputs(&mut relay)[..], [RelayOutput::LinkLost { .. }]),
        "everything is kept for the next one"
    );
    relay.set_successor(at(6), Successor::Node(FURTHER[0]));
    relay.set_receipts(at(6), &ReceiptKeys::default());
    relay
        .handle_downstream_joined(at(7), FURTHER[0], offset(0))
        .unwrap();
    let mut honest = sender();
    honest.handle_end(at(3), all).unwrap();
    honest.handle_consumer_finished(at(3));
    send_all(&mut honest);
    outputs(&mut honest);
    let proved = [receipt(FURTHER[0], all, true)].into_iter().collect();
    honest.handle_ack(at(4), &said(proved)).unwrap();
    honest.take_ack(at(4));
    assert!(outputs(&mut honest).contains(&RelayOutput::Closed));
}

#[test]
fn receipts_of_others_go_up_and_those_for_this_node_stay() {
    let mut relay = sender();
    let key = ReceiptKey {
        node: NodeId(30),
        key: [5; 32],
    };
    let mine = ReceiptKey {
        node: NodeId(31),
        key: [6; 32],
    };
    relay.set_receipts(
        at(3),
        &ReceiptKeys {
            above: vec![mine],
            below: vec![receipt_key(FURTHER[0])],
        },
    );
    let passing = Receipt::new(NEXT, &key, offset(5), false);
    let said = Ack {
        receipts: [receipt(FURTHER[0], offset(5), false), passing]
            .into_iter()
            .collect(),
        ..ack(5, [None; 3])
    };
    relay.handle_ack(at(3), &said).unwrap();
    let up = relay.take_ack(at(3)).expect("there is news").receipts;
    let own = Receipt::new(ME, &mine, relay.received(), false);
    assert_eq!(up.iter().copied().collect::<Vec<_>>(), [own, passing]);
}
