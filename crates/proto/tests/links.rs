//! The data connection's handshake and its acknowledgements. Attacks on them achieve nothing.

#![expect(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

use ka_proto::link::{
    Accepting, Ack, Answer, CHALLENGE_LEN, Connecting, Goodbye, HELLO_LEN, LinkHello, LinkKey, PROOF_LEN,
    Receipt, ReceiptKey, UP_LEN, UpFrame, UpOpener,
};
use ka_proto::{NodeId, RunId, StreamId, StreamOffset};
use proptest::prelude::*;

const ME: NodeId = NodeId(4);
const SUCCESSOR: NodeId = NodeId(5);
const RETAINED: StreamOffset = StreamOffset(100);
const RECEIPT_KEY: ReceiptKey = ReceiptKey {
    node: NodeId(3),
    key: [8; 32],
};
const RESUME: StreamOffset = StreamOffset(200);

fn key() -> LinkKey {
    LinkKey::new([7; 32], RunId([1; 16]), StreamId(2))
}

fn greet(key: &LinkKey) -> (Connecting, [u8; HELLO_LEN]) {
    Connecting::start(key, SUCCESSOR, ME, [1; 16], RESUME)
}

fn accept(hello: &[u8; HELLO_LEN], nonce: u8) -> Option<(Accepting, LinkHello, [u8; CHALLENGE_LEN])> {
    Accepting::start(&key(), ME, hello, [nonce; 16], RETAINED).ok()
}

fn linked() -> (Answer, UpOpener) {
    let (connecting, hello) = greet(&key());
    let (accepting, _, challenge) = accept(&hello, 2).unwrap();
    let answer = connecting.answer(&challenge).unwrap();
    let opener = accepting.finish(&answer.proof).unwrap();
    (answer, opener)
}

fn ack(received: u64) -> UpFrame {
    UpFrame::Ack(Ack {
        received: StreamOffset(received),
        consumed: StreamOffset(received / 2),
        retained_from: StreamOffset(received / 4),
        receipts: (1..5)
            .map(|from| {
                Receipt::new(
                    NodeId(from + 50),
                    &RECEIPT_KEY,
                    StreamOffset(received / 3),
                    from == 2,
                )
            })
            .collect(),
        ended: true,
        tail_ended: false,
        standby: received == 0,
    })
}

#[test]
fn neighbours_with_their_links_key_find_each_other() {
    let (connecting, hello) = greet(&key());
    let (accepting, greeting, challenge) = accept(&hello, 2).unwrap();
    assert_eq!(
        (greeting.from, greeting.to, greeting.resume_offset),
        (SUCCESSOR, ME, RESUME)
    );
    let answer = connecting.answer(&challenge).unwrap();
    assert_eq!(answer.retained_from, RETAINED);
    assert!(accepting.finish(&answer.proof).is_ok());
}

#[test]
fn a_stranger_gets_not_even_a_challenge() {
    for stranger in [
        LinkKey::new([8; 32], RunId([1; 16]), StreamId(2)),
        LinkKey::new([7; 32], RunId([2; 16]), StreamId(2)),
        LinkKey::new([7; 32], RunId([1; 16]), StreamId(3)),
    ] {
        assert!(accept(&greet(&stranger).1, 2).is_none());
    }
    let (_, for_another) = Connecting::start(&key(), SUCCESSOR, NodeId(9), [1; 16], RESUME);
    assert!(accept(&for_another, 2).is_none());
}

#[test]
fn one_flipped_bit_in_the_handshake_is_refused() {
    let (connecting, hello) = greet(&key());
    for bit in 0..HELLO_LEN * 8 {
        let mut bad = hello;
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(accept(&bad, 2).is_none(), "greeting bit {bit}");
    }
    let (_, _, challenge) = accept(&hello, 2).unwrap();
    for bit in 0..CHALLENGE_LEN * 8 {
        let mut bad = challenge;
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(greet(&key()).0.answer(&bad).is_err(), "challenge bit {bit}");
    }
    let proof = connecting.answer(&challenge).unwrap().proof;
    for bit in 0..PROOF_LEN * 8 {
        let (accepting, _, _) = accept(&hello, 2).unwrap();
        let mut bad = proof;
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(accepting.finish(&bad).is_err(), "proof bit {bit}");
    }
}

#[test]
fn a_recorded_handshake_opens_nothing() {
    let (connecting, hello) = greet(&key());
    let (_, _, challenge) = accept(&hello, 2).unwrap();
    let recorded = connecting.answer(&challenge).unwrap().proof;
    let (again, _, _) = accept(&hello, 3).unwrap();
    assert!(again.finish(&recorded).is_err());
    let (fresh, _) = Connecting::start(&key(), SUCCESSOR, ME, [9; 16], RESUME);
    assert!(fresh.answer(&challenge).is_err());
}

#[test]
fn acknowledgements_come_back_as_they_were() {
    let (mut answer, mut opener) = linked();
    let goodbyes = [
        Goodbye::Done,
        Goodbye::ConsumerFailed,
        Goodbye::Aborted,
        Goodbye::Relinked,
        Goodbye::BadBlock,
    ];
    for frame in [ack(1 << 50), ack(0)]
        .into_iter()
        .chain(goodbyes.map(UpFrame::Goodbye))
    {
        assert_eq!(opener.open(&answer.sealer.seal(&frame)), Ok(frame));
    }
}

#[test]
fn a_repeated_dropped_or_altered_acknowledgement_is_refused() {
    let (mut answer, mut opener) = linked();
    let (first, second) = (answer.sealer.seal(&ack(10)), answer.sealer.seal(&ack(20)));
    assert!(opener.open(&second).is_err(), "the first was dropped");
    assert!(opener.open(&first).is_ok());
    assert!(opener.open(&first).is_err(), "repeated");
    for bit in 0..UP_LEN * 8 {
        let mut bad = second;
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(opener.open(&bad).is_err(), "bit {bit}");
    }
    assert!(opener.open(&second).is_ok());
    let (mut other, _) = linked();
    let (_, mut opener) = {
        let (connecting, hello) = greet(&key());
        let (accepting, _, challenge) = accept(&hello, 77).unwrap();
        let answer = connecting.answer(&challenge).unwrap();
        let opener = accepting.finish(&answer.proof).unwrap();
        (answer, opener)
    };
    assert!(
        opener.open(&other.sealer.seal(&ack(1))).is_err(),
        "from another connection"
    );
}

proptest! {
    #[test]
    fn random_bytes_never_panic_the_handshake(
        hello in proptest::collection::vec(any::<u8>(), HELLO_LEN),
        up in proptest::collection::vec(any::<u8>(), UP_LEN),
    ) {
        let hello: [u8; HELLO_LEN] = hello.try_into().unwrap();
        let _ = LinkHello::decode(&hello);
        prop_assert!(accept(&hello, 1).is_none());
        let challenge: [u8; CHALLENGE_LEN] = hello[..CHALLENGE_LEN].try_into().unwrap();
        prop_assert!(greet(&key()).0.answer(&challenge).is_err());
        let up: [u8; UP_LEN] = up.try_into().unwrap();
        prop_assert!(linked().1.open(&up).is_err());
    }
}
