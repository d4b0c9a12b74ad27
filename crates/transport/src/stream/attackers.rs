//! Attacks on the data connections of real pumps, each by a peer that is written for it. The attackers are
//! strangers without the key, a man in the middle, and an insider, who has the stream's key and everything
//! else of a node of the run.

mod stranger_tests;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use ka_proto::block::{BlockKind, Cipher, END_LEN, HEADER_LEN, Sealer, SignedEnd, StreamDigest, StreamKey};
use ka_proto::control::{Peer, Side, Successor};
use ka_proto::link::{
    Accepting, CHALLENGE_LEN, Connecting, Goodbye, HELLO_LEN, LinkKey, PROOF_LEN, UP_LEN, UpFrame,
};
use ka_proto::{NodeId, RunId, StreamId, StreamOffset};

use super::inbox::{PumpEvent, PumpInput, PumpReport};
use super::tests::{Chain, LIMIT, STREAM, chain_with, key, link_key, server_key};
use crate::key::ServerKey;

const CIPHER: Option<Cipher> = Some(Cipher::Aes256Gcm);
const WINDOW: usize = 8 << 20;
const FIRST: &[u8] = b"the first block";
const SECOND: &[u8] = b"and the second block";

/// The bytes of a block: header, payload.
pub(super) type Bytes = Vec<u8>;

/// A stream as it goes over the wire, made with a key.
pub(super) struct Forger {
    key: StreamKey,
    sealer: Sealer,
    digest: StreamDigest,
}

impl Forger {
    pub(super) fn new(key: StreamKey, cipher: Option<Cipher>) -> Self {
        let sealer = Sealer::new(key.clone(), cipher).unwrap();
        let digest = StreamDigest::new();
        Self { key, sealer, digest }
    }

    pub(super) fn block(&mut self, payload: &[u8]) -> Bytes {
        let mut payload = payload.to_vec();
        let header = self.sealer.seal(&mut payload).unwrap();
        self.digest.push(&header);
        [header.encode().as_slice(), &payload].concat()
    }

    /// Returns an end that `signer` signs as that of this run and stream.
    pub(super) fn end(&self, signer: &ServerKey, run: RunId, stream: StreamId) -> Bytes {
        let end = self.digest.end();
        let signature = signer.sign(&end.to_sign(run, stream)).unwrap();
        self.wrapped(&SignedEnd { end, signature })
    }

    fn wrapped(&self, end: &SignedEnd) -> Bytes {
        let payload = end.encode();
        let header = self
            .key
            .authenticate(BlockKind::End, self.sealer.offset(), &payload)
            .unwrap();
        [header.encode().as_slice(), &payload].concat()
    }
}

/// Two blocks and the end, all as the server makes them.
fn genuine() -> [Bytes; 3] {
    let mut forger = Forger::new(key(), CIPHER);
    let (first, second) = (forger.block(FIRST), forger.block(SECOND));
    let end = forger.end(server_key(), key().run(), STREAM);
    [first, second, end]
}

/// Starts a predecessor with the stream's key. It shakes hands, sends `bytes` and no more, and returns the
/// frames that it got.
pub(super) fn insider(bytes: Bytes) -> (SocketAddr, JoinHandle<Vec<UpFrame>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let told = spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let mut hello = [0; HELLO_LEN];
        socket.read_exact(&mut hello).unwrap();
        let (accepting, _, challenge) =
            Accepting::start(&link_key(1, 0), NodeId::SERVER, &hello, [5; 16], StreamOffset(0)).unwrap();
        socket.write_all(&challenge).unwrap();
        let mut proof = [0; PROOF_LEN];
        socket.read_exact(&mut proof).unwrap();
        let mut opener = accepting.finish(&proof).unwrap();
        // The node may have seen enough and hung up meanwhile. Its frames are read all the same.
        socket.write_all(&bytes).ok();
        socket.shutdown(Shutdown::Write).ok();
        let (mut frames, mut frame) = (Vec::new(), [0; UP_LEN]);
        while socket.read_exact(&mut frame).is_ok() {
            frames.push(opener.open(&frame).unwrap());
        }
        frames
    });
    (addr, told)
}

/// The fate of a node at such a predecessor.
struct Refusal {
    /// The bytes that its consumer got.
    consumed: Vec<u8>,
    /// The end of the stream for the consumer.
    end: Result<(), String>,
    /// The reasons that the server is told.
    reasons: String,
    goodbye: Option<Goodbye>,
}

fn attack(bytes: Bytes) -> Refusal {
    attack_on(bytes, |_| Ok(()))
}

/// `judge` is the consumer, which may find that a block makes no sense.
fn attack_on(bytes: Bytes, judge: impl Fn(&[u8]) -> Result<(), String>) -> Refusal {
    let (addr, told) = insider(bytes);
    let mut victim = Chain::empty(CIPHER);
    victim.addrs.push(addr);
    victim.establish = Duration::from_millis(300);
    victim.join(1, 1, WINDOW);
    let mut reader = victim.readers[0].take().unwrap();
    let mut consumed = Vec::new();
    let end = loop {
        match reader.recv() {
            Ok(Some(block)) => {
                consumed.extend_from_slice(block.as_ref());
                if let Err(error) = judge(block.as_ref()) {
                    break Err(error);
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error.to_string()),
        }
    };
    reader.finish(end.clone()).ok();
    let goodbye = told.join().unwrap().into_iter().find_map(|frame| match frame {
        UpFrame::Goodbye(why) => Some(why),
        UpFrame::Ack(_) => None,
    });
    let reasons = reasons_of(&mut victim, 0);
    Refusal {
        consumed,
        end,
        reasons,
        goodbye,
    }
}

/// Returns the losses and failures that a pump has reported until it ended.
fn reasons_of(chain: &mut Chain, node: usize) -> String {
    let (mut reasons, began) = (String::new(), Instant::now());
    while began.elapsed() < LIMIT {
        match chain.reports[node].try_recv() {
            Ok(PumpReport {
                what: PumpEvent::LinkLost { reason, .. },
                ..
            }) => reasons.push_str(&format!("{reason}\n")),
            Ok(PumpReport {
                what: PumpEvent::Failed { reason, unproved },
                ..
            }) => {
                let unproved = if unproved { "unproved: " } else { "" };
                return format!("{reasons}{unproved}{reason}");
            }
            Ok(PumpReport {
                what: PumpEvent::Closed,
                ..
            }) => return reasons,
            Ok(_) => {}
            Err(_) => sleep(Duration::from_millis(2)),
        }
    }
    panic!("node {node} never ended: {reasons}");
}

fn expect_refused(bytes: &[&[u8]], why: &str) {
    let refusal = attack(bytes.concat());
    let error = refusal.end.expect_err(why);
    assert!(
        refusal.reasons.contains(why),
        "{why}: {} / {error}",
        refusal.reasons
    );
    assert_eq!(refusal.goodbye, Some(Goodbye::BadBlock), "{why}");
    assert!(
        [FIRST, SECOND].concat().starts_with(&refusal.consumed),
        "{why}: wrong bytes reached the consumer: {:?}",
        String::from_utf8_lossy(&refusal.consumed)
    );
}

/// The peer itself is a good one: with the server's own blocks everything ends well. Without this the
/// refusals would prove nothing.
#[test]
fn the_servers_own_blocks_are_taken() {
    let refusal = attack(genuine().concat());
    assert_eq!(refusal.end, Ok(()));
    assert_eq!(refusal.consumed, [FIRST, SECOND].concat());
    assert_eq!(refusal.goodbye, None);
}

#[test]
fn one_altered_bit_in_header_payload_or_end_is_refused() {
    let [first, second, end] = genuine();
    for (at, why) in [
        (first.len() + HEADER_LEN + 3, "damaged"),
        (first.len() + 45, "damaged"),
        (first.len() + 60, "damaged"),
        (first.len() + second.len() + HEADER_LEN + 20, "damaged"),
    ] {
        let mut bytes = [first.as_slice(), &second, &end].concat();
        bytes[at] ^= 0x10;
        expect_refused(&[&bytes], why);
    }
}

#[test]
fn blocks_from_elsewhere_repeated_or_out_of_order_are_refused() {
    let [first, second, end] = genuine();
    let (run, stream) = (key().run(), key().stream());
    let of = |key| Forger::new(key, CIPHER).block(FIRST);
    let other_stream = of(StreamKey::new([3; 32], run, StreamId(2)));
    expect_refused(&[&other_stream], "a block of stream 2, expected 1");
    let other_run = of(StreamKey::new([3; 32], RunId([9; 16]), stream));
    expect_refused(&[&other_run], "a block of another run");
    let strangers = of(StreamKey::new([4; 32], run, stream));
    expect_refused(&[&strangers], "damaged");
    expect_refused(&[&first, &first], "a block at offset 0, expected 15");
    expect_refused(&[&second, &first, &end], "a block at offset 15, expected 0");
    expect_refused(&[&first, &end], "a block at offset 35, expected 15");
    expect_refused(
        &[b"HTTP/1.1 200 OK\r\n", &[b' '; HEADER_LEN]],
        "not a block header",
    );
}

#[test]
fn a_stream_without_its_whole_end_is_not_complete() {
    let [first, second, end] = genuine();
    let cut = &end[..HEADER_LEN + END_LEN - 1];
    for bytes in [
        vec![first.clone(), second.clone()],
        vec![first, second, cut.to_vec()],
    ] {
        let refusal = attack(bytes.concat());
        assert!(refusal.end.is_err());
        assert!(
            refusal.reasons.contains("closed the connection"),
            "{}",
            refusal.reasons
        );
        assert_eq!(refusal.consumed, [FIRST, SECOND].concat());
    }
}

#[test]
fn unencrypted_blocks_in_an_encrypted_stream_are_refused() {
    let clear = Forger::new(key(), None).block(FIRST);
    expect_refused(
        &[&clear],
        "an unencrypted block at offset 0 in a stream that is encrypted",
    );
}

/// It can do all that a node can do, and more than a stranger: its blocks have the right hash.
#[test]
fn an_insider_cannot_end_a_stream_that_it_altered() {
    let [first, _, genuine_end] = genuine();
    let mut forger = Forger::new(key(), CIPHER);
    forger.block(FIRST);
    // As long as the genuine one, so that the genuine end fits behind it.
    let forged = forger.block(b"and the wicked block");
    let own = ServerKey::ephemeral().unwrap();
    let (run, unsigned) = (key().run(), [0; 64]);
    let end = forger.digest.end();
    let signature = unsigned;
    for (end, why) in [
        (genuine_end, "does not match what arrived"),
        (forger.end(&own, run, STREAM), "not signed with the server's key"),
        (
            forger.wrapped(&SignedEnd { end, signature }),
            "not signed with the server's key",
        ),
        // Ends that the server has signed, of another run and another stream.
        (
            forger.end(server_key(), RunId([8; 16]), STREAM),
            "not signed with the server's key",
        ),
        (
            forger.end(server_key(), run, StreamId(2)),
            "not signed with the server's key",
        ),
    ] {
        let refusal = attack([first.as_slice(), &forged, &end].concat());
        let error = refusal.end.expect_err(why);
        for said in [&error, &refusal.reasons] {
            assert!(
                said.contains(why) && said.contains("node 0 at 127.0.0.1"),
                "{why}: {said}"
            );
        }
        assert_eq!(refusal.goodbye, Some(Goodbye::BadBlock));
    }
}

/// Failing on what an insider sent is no failure of the node's own: the server hears that the stream was not
/// proved, and the node is wanted back.
#[test]
fn a_consumer_that_fails_on_what_an_insider_altered_has_not_failed_by_itself() {
    let [first, _, genuine_end] = genuine();
    let mut forger = Forger::new(key(), CIPHER);
    forger.block(FIRST);
    let forged = forger.block(b"and the wicked block");
    let refusal = attack_on([first.as_slice(), &forged, &genuine_end].concat(), |block| {
        if block == FIRST {
            Ok(())
        } else {
            Err("record 7 makes no sense".to_owned())
        }
    });
    let reasons = &refusal.reasons;
    assert!(
        reasons.contains("unproved: ") && reasons.contains("does not match what arrived"),
        "{reasons}"
    );
    assert!(reasons.contains("node 0 at 127.0.0.1"), "{reasons}");
    // A consumer that fails by itself is told apart.
    let refusal = attack_on(genuine().concat(), |_| Err("no space left".to_owned()));
    assert!(!refusal.reasons.contains("unproved"), "{}", refusal.reasons);
}

/// The hash is right, but the payload beneath was not encrypted by the server.
#[test]
fn an_insiders_block_that_does_not_decrypt_gives_the_consumer_nothing() {
    let mut header = key()
        .authenticate(BlockKind::Data, StreamOffset(0), FIRST)
        .unwrap();
    header.sealed = true;
    let mut hasher = blake3::Hasher::new_keyed(&[3; 32]);
    hasher.update(FIRST).update(&header.encode()[..HEADER_LEN - 32]);
    header.hash = *hasher.finalize().as_bytes();
    let refusal = attack([header.encode().as_slice(), FIRST].concat());
    let error = refusal.end.unwrap_err();
    assert!(error.contains("does not decrypt"), "{error}");
    assert!(!refusal.reasons.contains("unproved"), "there was no end yet");
    let mut forger = Forger::new(key(), CIPHER);
    forger.block(FIRST);
    let end = forger.end(&ServerKey::ephemeral().unwrap(), key().run(), STREAM);
    let refusal = attack([header.encode().as_slice(), FIRST, &end].concat());
    assert!(refusal.reasons.contains("unproved: "), "{}", refusal.reasons);
    assert_eq!(refusal.consumed, b"");
}

/// The bytes that went down and up a connection.
pub(super) type Recording = Arc<Mutex<(Vec<u8>, Vec<u8>)>>;

/// Starts a man in the middle between a node and its predecessor. `alter` gets the number of the connection,
/// the bytes that went down it before, and the bytes that go down it now.
pub(super) fn man_in_the_middle(
    to: SocketAddr,
    mut alter: impl FnMut(usize, usize, &mut [u8]) + Send + 'static,
) -> (SocketAddr, Recording) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let recording = Recording::default();
    let kept = Arc::clone(&recording);
    spawn(move || {
        for (number, near) in listener.incoming().enumerate() {
            let (near, far) = (near.unwrap(), TcpStream::connect(to).unwrap());
            let (up_from, up_to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            let up_kept = Arc::clone(&kept);
            spawn(move || {
                pass_on(up_from, up_to, |_, bytes| {
                    up_kept.lock().unwrap().1.extend_from_slice(bytes)
                });
            });
            pass_on(far, near, |before, bytes| {
                kept.lock().unwrap().0.extend_from_slice(bytes);
                alter(number, before, bytes);
            });
        }
    });
    (addr, recording)
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, mut each: impl FnMut(usize, &mut [u8])) {
    let (mut buffer, mut before) = (vec![0; 64 << 10], 0);
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        each(before, &mut buffer[..count]);
        before += count;
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Both).ok();
    from.shutdown(Shutdown::Both).ok();
}

/// Returns a head, and a node behind a man in the middle.
fn intercepted(
    cipher: Option<Cipher>,
    alter: impl FnMut(usize, usize, &mut [u8]) + Send + 'static,
) -> (Chain, Recording) {
    let mut chain = Chain::empty(cipher);
    chain.join(0, 1, WINDOW);
    let (addr, recording) = man_in_the_middle(chain.addrs[0], alter);
    chain.addrs[0] = addr;
    chain.join(1, 1, WINDOW);
    (chain, recording)
}

fn wait_for_loss(chain: &mut Chain, node: usize, side: Side) -> String {
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        match chain.reports[node].try_recv() {
            Ok(PumpReport {
                what: PumpEvent::LinkLost {
                    side: lost, reason, ..
                },
                ..
            }) if lost == side => return reason.to_string(),
            Ok(_) => {}
            Err(_) => sleep(Duration::from_millis(2)),
        }
    }
    panic!("node {node} noticed nothing");
}

#[test]
fn one_bit_altered_between_two_nodes_is_noticed_by_both_and_healed() {
    let flip = CHALLENGE_LEN + 3 * (HEADER_LEN + (128 << 10)) + 4711;
    let (mut chain, _) = intercepted(CIPHER, move |number, before, bytes| {
        let at = flip
            .checked_sub(before)
            .filter(|at| number == 0 && *at < bytes.len());
        if let Some(at) = at {
            bytes[at] ^= 1;
        }
    });
    let consumer = chain.consume(1, |_| ());
    let sent = chain.produce(std::iter::repeat_n(128 << 10, 40));
    let below = wait_for_loss(&mut chain, 1, Side::Upstream);
    assert!(below.contains("the block at offset 393216 is damaged"), "{below}");
    // The farewell that says why may drown in the reset of a connection that is closed with blocks unread.
    wait_for_loss(&mut chain, 0, Side::Downstream);
    // The server does this about a lost link between two living nodes.
    chain.shared[0].post(PumpInput::Relink {
        predecessor: None,
        successor: Some(Successor::Node(NodeId(1))),
    });
    let head = Peer {
        node: NodeId::SERVER,
        addr: chain.addrs[0],
    };
    chain.shared[1].post(PumpInput::Relink {
        predecessor: Some(head),
        successor: None,
    });
    assert_eq!(consumer.join().unwrap(), Ok((40 * (128 << 10), sent)));
    chain.assert_closed(0);
}

/// An eavesdropper sees sizes only, and not even names. The unencrypted stream shows that the test's
/// eavesdropper works.
#[test]
fn who_listens_reads_nothing_unless_encryption_is_off() {
    let secret = b"root:$6$salt$0123456789abcdef:20000::::::";
    for (cipher, is_readable) in [
        (None, true),
        (CIPHER, false),
        (Some(Cipher::ChaCha20Poly1305), false),
    ] {
        let (mut chain, recording) = intercepted(cipher, |_, _, _| ());
        let consumer = chain.consume(1, |_| ());
        let mut head = chain.head.take().unwrap();
        head.send(secret.repeat(500)).unwrap();
        chain.shared[0].post(PumpInput::ProducerDone);
        consumer.join().unwrap().unwrap();
        chain.assert_closed(0);
        let heard = recording.lock().unwrap();
        let contains = |what: &[u8]| heard.0.windows(what.len()).any(|heard| heard == what);
        assert!(heard.0.len() > 500 * secret.len());
        assert_eq!(contains(secret), is_readable, "{cipher:?}");
        assert!(!contains(b"name of the stream"), "{cipher:?}");
    }
}
