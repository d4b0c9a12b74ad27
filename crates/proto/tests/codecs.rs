//! Every decoder against the input of a network: round trips, a cut at every byte, too many bytes, random
//! bytes.

#![expect(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

use std::net::SocketAddr;

use ka_mac::MacAddr;
use ka_proto::block::{BlockHeader, Cipher, HEADER_LEN, SignedEnd};
use ka_proto::control::{
    Join, OpenStream, Peer, Progress, Relink, Side, Stage, StreamGroup, Successor, ToNode, ToServer,
};
use ka_proto::discovery::{Beacon, Offer, Probe};
use ka_proto::group::Report;
use ka_proto::group::probe::{ProbeAnswer, ProbeNews, ProbeOrder};
use ka_proto::limits::{MAX_ANSWER, MAX_ANSWER_FRAME, MAX_BLOCK, MAX_JOIN_FRAME, MAX_PAYLOAD};
use ka_proto::link::{ReceiptKey, ReceiptKeys};
use ka_proto::pace::Pace;
use ka_proto::tunnel::{MAX_PIECE, TunnelId, TunnelMessage};
use ka_proto::wire::{FRAME_PREFIX, FrameReader, Payload, WireError};
use ka_proto::wiring::Wiring;
use ka_proto::{
    ChainPosition, NodeId, NodeName, PlaceName, Reason, RunId, SessionName, StreamId, StreamName,
    StreamOffset,
};
use proptest::prelude::*;

fn join() -> Join {
    Join {
        session: SessionName::new("kainstall").unwrap(),
        name: NodeName::new("n1").unwrap(),
        mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
        data_addr: "10.0.1.7:30764".parse().unwrap(),
        purpose: ka_proto::control::Purpose::Clone,
        start_now: false,
        wants_release: true,
        holds_clone: true,
        wiring: Some(wiring()),
        nonce: [0x11; 16],
        proof: [0x22; 32],
    }
}

fn wiring() -> Wiring {
    Wiring {
        chassis: PlaceName::new("id").unwrap(),
        system_name: Some(PlaceName::new("sw").unwrap()),
        port: PlaceName::new("1/7").unwrap(),
        vlan: None,
        speed_mbit: Some(1000),
    }
}

fn to_server() -> Vec<ToServer> {
    let (stream, offset, reason) = (StreamId(3), StreamOffset(1 << 40), Reason::new("no space left"));
    let messages = vec![
        ToServer::Pong(77),
        ToServer::Prepared(Payload(b"{\"plan\":1}".to_vec())),
        ToServer::Ready,
        ToServer::StepFailed {
            stage: Stage::Stream(stream),
            reason: reason.clone(),
        },
        ToServer::Event(Payload(vec![0; 300])),
        ToServer::Progress(Progress {
            stream,
            received: offset,
            consumed: offset,
            buffered: 5,
            pace: Pace {
                elapsed_ms: 500,
                link_bytes: u64::MAX,
                ..Pace::default()
            },
        }),
        ToServer::LinkUp {
            stream,
            side: Side::Upstream,
            offset,
        },
        ToServer::LinkLost {
            stream,
            side: Side::Downstream,
            offset,
            reason: reason.clone(),
        },
        ToServer::StreamFailed {
            stream,
            reason: reason.clone(),
            unproved: true,
        },
        ToServer::StreamDone {
            stream,
            bytes: u64::MAX,
            digest: [9; 32],
        },
        ToServer::Report(Payload(vec![0xff; 70_000])),
        ToServer::Leaving {
            reason: reason.clone(),
        },
        ToServer::DataGone {
            stream,
            offset,
            reason: reason.clone(),
        },
        ToServer::Wiring(wiring()),
        ToServer::GroupReport {
            stream,
            report: Report::default(),
        },
        ToServer::Probe(ProbeAnswer {
            probe: 1,
            news: ProbeNews::Heard,
        }),
        ToServer::LeftGroup { stream, reason },
    ];
    messages
        .into_iter()
        .chain(tunnel().map(ToServer::Tunnel))
        .collect()
}

fn receipt_keys() -> ReceiptKeys {
    let key = |node| ReceiptKey {
        node: NodeId(node),
        key: [4; 32],
    };
    ReceiptKeys {
        above: vec![key(0)],
        below: vec![key(5), key(6)],
    }
}

fn open_stream(predecessor: Peer, keys: &ReceiptKeys) -> OpenStream {
    let group = StreamGroup {
        addr: "239.255.3.4:50000".parse().unwrap(),
        sender: NodeId::SERVER,
        shard_bytes: 1448,
        report_every_ms: 50,
        is_member: true,
    };
    OpenStream {
        stream: StreamId(1),
        name: StreamName::new("kainstall2").unwrap(),
        key: [5; 32],
        position: ChainPosition(3),
        predecessor,
        predecessor_key: [6; 32],
        successor: Some(NodeId(9)),
        successor_key: Some([7; 32]),
        resume_from: StreamOffset(0),
        receipts: keys.clone(),
        cipher: Some(Cipher::ChaCha20Poly1305),
        silence_ms: 2000,
        group: Some(group),
        spooled: true,
    }
}

fn to_node() -> Vec<ToNode> {
    let peer = Peer {
        node: NodeId(2),
        addr: "[2001:db8::1]:30764".parse().unwrap(),
    };
    let keys = receipt_keys();
    let open = open_stream(peer, &keys);
    let successor = Some(Successor::Node(NodeId(4)));
    let messages = vec![
        ToNode::refused("the run has begun"),
        ToNode::Accepted {
            node: NodeId(1),
            run: RunId([1; 16]),
            heartbeat_ms: 500,
            silence_ms: 15_000,
        },
        ToNode::Gathering {
            present: 1,
            wanted: Some(3),
        },
        ToNode::Prepare(Payload(vec![b'x'; 4096])),
        ToNode::Go,
        ToNode::OpenStream(open),
        ToNode::Relink(Relink {
            stream: StreamId(1),
            predecessor: Some(peer),
            predecessor_key: Some([8; 32]),
            successor,
            successor_key: Some([9; 32]),
        }),
        ToNode::Relink(Relink {
            stream: StreamId(1),
            predecessor: None,
            predecessor_key: None,
            successor: Some(Successor::Nobody),
            successor_key: None,
        }),
        ToNode::Receipts {
            stream: StreamId(1),
            keys,
        },
        ToNode::EndStream { stream: StreamId(1) },
        ToNode::Probe(ProbeOrder::End { probe: 1 }),
        ToNode::LeaveGroup {
            stream: StreamId(1),
            reason: Reason::new("it loses too much"),
        },
        ToNode::Release { delay_ms: 300 },
        ToNode::Abort {
            reason: Reason::new("interrupted"),
            again: true,
        },
        ToNode::Ping(u64::MAX),
        ToNode::Finish,
        ToNode::Queued {
            round: 2,
            reason: Reason::new("the run has begun"),
        },
        ToNode::Pending { limit_secs: 1800 },
    ];
    messages.into_iter().chain(tunnel().map(ToNode::Tunnel)).collect()
}

fn tunnel() -> [TunnelMessage; 4] {
    let tunnel = TunnelId(300);
    [
        TunnelMessage::Open {
            tunnel,
            from: "10.0.1.9:40000".parse().unwrap(),
        },
        TunnelMessage::Piece {
            tunnel,
            bytes: Payload(vec![7; MAX_PIECE]),
        },
        TunnelMessage::Credit { tunnel },
        TunnelMessage::Close {
            tunnel,
            reason: Reason::new("left"),
        },
    ]
}

#[test]
fn tunnel_messages_have_the_bytes_that_the_document_gives_them() {
    let piece = TunnelMessage::Piece {
        tunnel: TunnelId(1),
        bytes: Payload(b"hi".to_vec()),
    };
    let sent = ToServer::Tunnel(piece.clone()).encode().unwrap();
    assert_eq!(sent, [6, 0, 0, 0, 13, 1, 1, 2, b'h', b'i']);
    let sent = ToNode::Tunnel(piece).encode().unwrap();
    assert_eq!(sent, [6, 0, 0, 0, 14, 1, 1, 2, b'h', b'i']);
}

#[test]
fn the_first_bytes_of_a_join_never_change() {
    let frame = join().encode().unwrap();
    let mut expected = vec![0, 0, 0, 0];
    expected.extend(*b"KAJN");
    expected.extend([4, 0]);
    expected.extend([9]);
    expected.extend(*b"kainstall");
    expected.extend([2]);
    expected.extend(*b"n1");
    expected.extend([1, 2, 0, 0, 0, 0, 1]);
    // IPv4, address, port 30764 as a varint; its purpose (a clone); -g, -w, holds a clone.
    expected.extend([0, 10, 0, 1, 7, 0xac, 0xf0, 0x01]);
    expected.extend([0, 0, 1, 1]);
    // Wiring: chassis, name, port; no VLAN; 1000 Mbit/s as a varint.
    expected.extend([1, 2]);
    expected.extend(*b"id");
    expected.extend([1, 2]);
    expected.extend(*b"sw");
    expected.extend([3]);
    expected.extend(*b"1/7");
    expected.extend([0, 1, 0xe8, 0x07]);
    expected.extend([0x11; 16]);
    expected.extend([0x22; 32]);
    expected[0] = u8::try_from(expected.len() - FRAME_PREFIX).unwrap();
    assert_eq!(frame, expected);
}

#[test]
fn a_refusal_is_frozen_so_that_any_version_understands_it() {
    let frame = ToNode::refused("no").encode().unwrap();
    assert_eq!(frame, [5, 0, 0, 0, 0, 4, 2, b'n', b'o']);
}

#[test]
fn a_join_of_another_version_says_which_whatever_follows() {
    let body = [b'K', b'A', b'J', b'N', 0x39, 0x05, 0xff, 0xff];
    assert_eq!(
        Join::decode(&body),
        Err(WireError::Version {
            theirs: 1337,
            ours: 4
        })
    );
    assert_eq!(
        Join::decode(&body).unwrap_err().to_string(),
        "the peer speaks protocol version 1337, this is version 4"
    );
}

#[test]
fn messages_have_the_numbers_that_the_document_gives_them() {
    let number = |frame: Vec<u8>| frame[FRAME_PREFIX];
    let numbers: Vec<u8> = to_server()
        .iter()
        .map(|message| number(message.encode().unwrap()))
        .collect();
    assert_eq!(
        numbers,
        [
            0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 16, 17, 18, 13, 13, 13, 13
        ]
    );
    let numbers: Vec<u8> = to_node()
        .iter()
        .map(|message| number(message.encode().unwrap()))
        .collect();
    assert_eq!(
        numbers,
        [
            0, 1, 2, 3, 4, 5, 6, 6, 17, 7, 18, 19, 8, 9, 10, 11, 12, 13, 14, 14, 14, 14
        ]
    );
}

#[test]
fn every_message_comes_back_as_it_was() {
    let frame = join().encode().unwrap();
    assert_eq!(Join::decode(&frame[FRAME_PREFIX..]), Ok(join()));
    for message in to_server() {
        let frame = message.encode().unwrap();
        assert_eq!(ToServer::decode(&frame[FRAME_PREFIX..]), Ok(message));
    }
    for message in to_node() {
        let frame = message.encode().unwrap();
        assert_eq!(ToNode::decode(&frame[FRAME_PREFIX..]), Ok(message));
    }
}

#[test]
fn every_message_cut_at_any_byte_or_with_one_too_many_is_refused() {
    let refused_when_cut = |frame: &[u8], is_refused: fn(&[u8]) -> bool| {
        let body = &frame[FRAME_PREFIX..];
        for cut in 0..body.len() {
            assert!(is_refused(&body[..cut]), "cut at {cut} of {body:?}");
        }
        assert!(is_refused(&[body, &[0]].concat()), "one too many");
    };
    refused_when_cut(&join().encode().unwrap(), |body| Join::decode(body).is_err());
    for message in to_server() {
        refused_when_cut(&message.encode().unwrap(), |body| ToServer::decode(body).is_err());
    }
    for message in to_node() {
        refused_when_cut(&message.encode().unwrap(), |body| ToNode::decode(body).is_err());
    }
}

#[test]
fn a_message_over_its_bound_is_refused_by_both_sides() {
    let too_long = Payload(vec![0; MAX_PAYLOAD + 1]);
    assert!(ToServer::decode(&ToServer::Report(Payload(vec![0; MAX_ANSWER])).encode().unwrap()[4..]).is_ok());
    assert!(
        ToServer::Report(Payload(vec![0; MAX_ANSWER_FRAME]))
            .encode()
            .is_err()
    );
    // A report, byte for byte, with a length one over the bound as a varint.
    let mut body = vec![10];
    body.extend([0x81, 0xf8, 0xff, 0x03]);
    body.extend(&too_long.0);
    assert!(ToServer::decode(&body).is_err());
    assert!(Join::decode(&[b"KAJN\x03\0".as_slice(), &[0; MAX_JOIN_FRAME]].concat()).is_err());
}

#[test]
fn a_length_in_a_message_allocates_nothing_that_is_not_there() {
    // A report that claims 2^63 bytes, and a name that claims 4 GiB.
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    for kind in 1..=13 {
        assert!(
            ToServer::decode(&[&[kind], huge.as_slice()].concat()).is_err(),
            "kind {kind}"
        );
        let is_ping = kind == 10;
        assert!(
            is_ping || ToNode::decode(&[&[kind], huge.as_slice()].concat()).is_err(),
            "kind {kind}"
        );
    }
}

#[test]
fn a_join_proof_holds_for_one_secret_one_connection_and_one_join_only() {
    let (secret, exporter) = ([1; 16], [2; 32]);
    let mut good = join();
    good.prove(&secret, &exporter);
    assert!(good.is_proved(&secret, &exporter));
    assert!(!good.is_proved(&[9; 16], &exporter));
    assert!(!good.is_proved(&secret, &[9; 32]));
    let altered = Join {
        data_addr: "10.0.1.8:30764".parse::<SocketAddr>().unwrap(),
        ..good
    };
    assert!(!altered.is_proved(&secret, &exporter));
}

proptest! {
    #[test]
    fn random_bytes_never_panic_a_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let session = SessionName::new("kainstall").unwrap();
        let _ = Join::decode(&bytes);
        let _ = Join::decode(&[b"KAJN\x03\0".as_slice(), &bytes].concat());
        let _ = ToServer::decode(&bytes);
        let _ = ToNode::decode(&bytes);
        let _ = SignedEnd::decode(&bytes);
        prop_assert!(Probe::decode(&bytes, &[1; 16], &session).is_err());
        prop_assert!(Beacon::decode(&bytes, &[1; 32]).is_err());
        let probe = Probe { nonce: [0; 16] };
        prop_assert!(Offer::decode(&bytes, &[1; 16], &session, &probe).is_err());
        if let Some(header) = bytes.first_chunk::<HEADER_LEN>() {
            let _ = BlockHeader::decode(header);
        }
    }

    #[test]
    fn a_damaged_message_never_panics_and_never_becomes_longer(
        index in 0usize..12, position in any::<prop::sample::Index>(), value in any::<u8>()
    ) {
        let frame = to_server()[index].encode().unwrap();
        let mut body = frame[FRAME_PREFIX..].to_vec();
        let position = position.index(body.len());
        body[position] = value;
        if let Ok(message) = ToServer::decode(&body) {
            prop_assert!(message.encode().unwrap().len() <= frame.len() + 8);
        }
    }

    #[test]
    fn frames_in_pieces_of_any_size_come_out_whole(
        pieces in proptest::collection::vec(1usize..50, 1..40),
        bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 1..8),
    ) {
        let mut stream = Vec::new();
        for body in &bodies {
            stream.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
            stream.extend(body);
        }
        let mut reader = FrameReader::new(60);
        let mut found = Vec::new();
        let (mut rest, mut sizes) = (stream.as_slice(), pieces.iter().cycle());
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            reader.push(piece);
            rest = later;
            while let Some(body) = reader.next_frame().unwrap() {
                found.push(body);
            }
        }
        prop_assert_eq!(found, bodies);
    }

    #[test]
    fn block_headers_of_random_bytes_are_refused_or_stay_the_same(bytes in any::<[u8; 32]>(), kind in 0u8..5) {
        let mut header = [0; HEADER_LEN];
        header[..6].copy_from_slice(&[b'K', b'A', b'B', b'1', 2, kind]);
        header[8..40].copy_from_slice(&bytes);
        if let Ok(decoded) = BlockHeader::decode(&header) {
            prop_assert!(decoded.length as usize <= MAX_BLOCK);
            prop_assert_eq!(decoded.encode(), header);
        }
    }
}
