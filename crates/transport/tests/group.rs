//! The sockets of a group, between hosts on a switch with IGMP snooping.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends at its first surprise, helpers included"
)]

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use ka_lab::netns::{GOLDEN_ADDRESS, Namespace, Network, node_address};
use ka_proto::group::address;
use ka_proto::group::querier::SegmentQuerier;
use ka_proto::{NodeId, RunId};
use ka_transport::group::igmp::IgmpQuerier;
use ka_transport::group::receiver::{GroupReceiver, RECEIVE_BYTES};
use ka_transport::group::sender::GroupSender;
use nix::libc;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// No wait of a test may take longer.
const LIMIT: Duration = Duration::from_secs(10);
/// A datagram that fills an Ethernet frame, and as many as fit one send.
const DATAGRAM: usize = 1472;
const BURST: usize = 44 * DATAGRAM;

nix::setsockopt_impl!(
    NoChecksum,
    libc::SOL_SOCKET,
    libc::SO_NO_CHECK,
    i32,
    nix::sys::socket::sockopt::SetStruct<'_, i32>
);

/// SO_NO_CHECK (socket(7)): the kernel refuses to cut datagrams without a checksum.
#[derive(Debug, Clone, Copy)]
struct NoChecksum;

fn group() -> SocketAddrV4 {
    address::of_sender(RunId([9; 16]), NodeId::SERVER)
}

fn golden() -> Ipv4Addr {
    GOLDEN_ADDRESS.parse().unwrap()
}

fn node(number: usize) -> Ipv4Addr {
    node_address(number).parse().unwrap()
}

fn sender(at: &Namespace, local: Ipv4Addr) -> GroupSender {
    at.enter(|| GroupSender::open(local, group())).unwrap().unwrap()
}

fn member(net: &Network, number: usize, group: SocketAddrV4) -> GroupReceiver {
    net.node(number)
        .enter(|| GroupReceiver::open(node(number), group))
        .unwrap()
        .unwrap()
}

/// Members of the group on nodes 1 to `count`, each of which the switch forwards the group to.
fn members(net: &Network, sender: &GroupSender, count: usize) -> Vec<GroupReceiver> {
    let members: Vec<_> = (1..=count).map(|number| member(net, number, group())).collect();
    for member in &members {
        let deadline = Instant::now() + LIMIT;
        while receive(member, 1, Duration::from_millis(50)).is_empty() {
            assert!(Instant::now() < deadline, "the group does not reach a member");
            sender.send(b"?", 1).unwrap();
        }
    }
    // Questions that others caused.
    for member in &members {
        receive(member, usize::MAX, Duration::from_millis(100));
    }
    members
}

fn is_ready(fd: impl AsFd, events: PollFlags, limit: Duration) -> bool {
    let mut fds = [PollFd::new(&fd, events)];
    poll(&mut fds, Some(&Timespec::try_from(limit).unwrap())).unwrap() > 0
}

/// Returns the datagrams of `bytes` bytes in all, or those that came before nothing did for `quiet`.
fn receive(member: &GroupReceiver, bytes: usize, quiet: Duration) -> Vec<Vec<u8>> {
    let (mut datagrams, mut total) = (Vec::new(), 0);
    let mut buffer = vec![0; RECEIVE_BYTES];
    while total < bytes && is_ready(member, PollFlags::IN, quiet) {
        while let Some(received) = member.recv(&mut buffer).unwrap() {
            total += received.len;
            datagrams.extend(
                buffer[..received.len]
                    .chunks(received.datagram)
                    .map(<[u8]>::to_vec),
            );
        }
    }
    datagrams
}

fn send_all(sender: &GroupSender, bytes: &[u8], datagram: usize) {
    let mut rest = bytes;
    while !rest.is_empty() {
        match sender.send(rest, datagram) {
            Ok(taken) => rest = &rest[taken..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                assert!(
                    is_ready(sender, PollFlags::OUT, LIMIT),
                    "the socket never takes more"
                );
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// `count` datagrams, each of which begins with its number; the last one is short.
fn numbered(count: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..count {
        bytes.extend(number.to_le_bytes());
        bytes.resize(bytes.len() + DATAGRAM - 4, u8::try_from(number % 251).unwrap());
    }
    bytes.truncate(bytes.len() - 700);
    bytes
}

fn datagrams(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.chunks(DATAGRAM).map(<[u8]>::to_vec).collect()
}

#[test]
fn each_member_on_the_switch_receives_all_datagrams_of_a_send_and_nobody_else_does() {
    let net = Network::new(4, None).unwrap();
    let sender = sender(net.golden(), golden());
    let members = members(&net, &sender, 3);
    let elsewhere = member(
        &net,
        4,
        SocketAddrV4::new(Ipv4Addr::new(239, 255, 1, 1), group().port()),
    );
    let bytes = numbered(100);
    send_all(&sender, &bytes, DATAGRAM);
    for member in &members {
        assert!(receive(member, bytes.len(), LIMIT) == datagrams(&bytes));
        assert_eq!(member.drops(), 0);
    }
    assert!(sender.is_offloaded());
    assert_eq!(receive(&elsewhere, 1, Duration::from_millis(100)).len(), 0);
}

#[test]
fn one_receive_has_many_datagrams() {
    let net = Network::new(1, None).unwrap();
    let sender = sender(net.golden(), golden());
    let members = members(&net, &sender, 1);
    let bytes = vec![7; BURST];
    send_all(&sender, &bytes, DATAGRAM);
    assert!(is_ready(&members[0], PollFlags::IN, LIMIT));
    let mut buffer = vec![0; RECEIVE_BYTES];
    let received = members[0].recv(&mut buffer).unwrap().unwrap();
    assert_eq!(received.datagram, DATAGRAM);
    assert!(received.len > 10 * DATAGRAM, "{received:?}");
}

#[test]
fn sender_that_is_refused_the_offload_sends_single_datagrams_for_good() {
    let net = Network::new(2, None).unwrap();
    let sender = sender(net.golden(), golden());
    let members = members(&net, &sender, 2);
    nix::sys::socket::setsockopt(&sender, NoChecksum, &1).unwrap();
    let bytes = numbered(300);
    send_all(&sender, &bytes, DATAGRAM);
    assert!(!sender.is_offloaded());
    for member in &members {
        assert!(receive(member, bytes.len(), LIMIT) == datagrams(&bytes));
    }
    nix::sys::socket::setsockopt(&sender, NoChecksum, &0).unwrap();
    send_all(&sender, &bytes, DATAGRAM);
    assert!(!sender.is_offloaded());
    assert!(receive(&members[0], bytes.len(), LIMIT) == datagrams(&bytes));
}

#[test]
fn slow_line_makes_the_sender_wait_and_loses_nothing() {
    let net = Network::new(1, Some(50_000_000)).unwrap();
    let sender = sender(net.golden(), golden());
    let members = members(&net, &sender, 1);
    let bytes = numbered(2000);
    let begin = Instant::now();
    let taken = sender.send(&bytes, DATAGRAM).unwrap();
    assert!(
        (DATAGRAM..bytes.len() / 2).contains(&taken),
        "{taken} bytes taken at once"
    );
    assert_eq!(taken % DATAGRAM, 0);
    let blocked = sender.send(&bytes[taken..], DATAGRAM).unwrap_err();
    assert_eq!(blocked.kind(), io::ErrorKind::WouldBlock);
    send_all(&sender, &bytes[taken..], DATAGRAM);
    // 2000 frames of 1538 bytes take 492 ms; all but the buffers' share has passed.
    assert!(
        begin.elapsed() > Duration::from_millis(300),
        "{:?}",
        begin.elapsed()
    );
    assert!(receive(&members[0], bytes.len(), LIMIT) == datagrams(&bytes));
}

#[test]
fn datagram_above_the_mtu_is_refused_and_not_cut() {
    let net = Network::new(1, None).unwrap();
    let sender = sender(net.golden(), golden());
    assert_eq!(sender.largest_datagram().unwrap(), DATAGRAM);
    let refused = sender.send(&[0; 3 * (DATAGRAM + 1)], DATAGRAM + 1).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EMSGSIZE), "{refused}");
    assert_eq!(
        sender.send(&[0; 8], 0).unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
    assert_eq!(
        sender.send(&[0; 8], 65_508).unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
}

#[test]
fn stranger_in_the_group_is_dropped_by_the_kernel_when_the_sender_is_known() {
    let net = Network::new(2, None).unwrap();
    let sender = sender(net.golden(), golden());
    let members = members(&net, &sender, 1);
    members[0].only_from(sender.local_addr().unwrap()).unwrap();
    let stranger = self::sender(net.node(2), node(2));
    stranger.send(b"strange", 7).unwrap();
    sender.send(b"ours", 4).unwrap();
    assert_eq!(receive(&members[0], 4, LIMIT), [b"ours".to_vec()]);
    assert!(receive(&members[0], 1, Duration::from_millis(100)).is_empty());
}

#[test]
fn member_that_does_not_read_counts_what_it_lost() {
    let net = Network::new(1, None).unwrap();
    let sender = sender(net.golden(), golden());
    let members = members(&net, &sender, 1);
    let bytes = vec![1; BURST];
    let deadline = Instant::now() + LIMIT;
    while members[0].drops() == 0 {
        assert!(Instant::now() < deadline, "an endless buffer");
        send_all(&sender, &bytes, DATAGRAM);
    }
    assert!(!receive(&members[0], 1, LIMIT).is_empty());
}

#[test]
fn members_on_the_sender_s_machine_are_reached_over_loopback() {
    let group = address::of_sender(RunId([10; 16]), NodeId(1));
    let member = GroupReceiver::open(Ipv4Addr::new(127, 0, 7, 2), group).unwrap();
    let sender = GroupSender::open(Ipv4Addr::new(127, 0, 7, 1), group).unwrap();
    let bytes = numbered(50);
    send_all(&sender, &bytes, DATAGRAM);
    assert!(receive(&member, bytes.len(), LIMIT) == datagrams(&bytes));
    assert!(
        receive(&member, 1, Duration::from_millis(50)).is_empty(),
        "each datagram once"
    );
}

/// Waits until the querier of a segment is `wanted`.
fn await_segment(querier: &IgmpQuerier, wanted: SegmentQuerier) {
    let deadline = Instant::now() + LIMIT;
    while querier.segment() != wanted {
        assert!(
            Instant::now() < deadline,
            "{:?}, not {wanted:?}",
            querier.segment()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn querier(at: &Namespace, local: Ipv4Addr) -> IgmpQuerier {
    at.enter(|| IgmpQuerier::start(local)).unwrap()
}

/// A network whose switch snoops and does not ask.
fn without_querier(nodes: usize) -> Network {
    let net = Network::new(nodes, None).unwrap();
    net.switch()
        .ip("link set br0 type bridge mcast_querier 0")
        .unwrap();
    net
}

#[test]
fn switch_that_asks_is_heard_and_left_to_ask() {
    let net = without_querier(1);
    let heard = querier(net.golden(), golden());
    assert_eq!(heard.segment(), SegmentQuerier::Nobody);
    net.switch()
        .ip("link set br0 type bridge mcast_querier 1")
        .unwrap();
    await_segment(&heard, SegmentQuerier::Other(Ipv4Addr::UNSPECIFIED));
    heard.begin();
    assert_eq!(heard.segment(), SegmentQuerier::Other(Ipv4Addr::UNSPECIFIED));
}

#[test]
fn server_asks_where_nobody_does_and_the_lower_address_stays() {
    let net = without_querier(2);
    let queriers = [
        querier(net.golden(), golden()),
        querier(net.node(1), node(1)),
        querier(net.node(2), node(2)),
    ];
    queriers[2].begin();
    await_segment(&queriers[0], SegmentQuerier::Other(node(2)));
    await_segment(&queriers[2], SegmentQuerier::Own);
    // The switch takes it for the segment's querier: it would not, were the query malformed.
    let state = net.switch().run("bridge -d mdb show dev br0").unwrap();
    assert!(state.contains("router ports on br0: p2"), "{state}");
    // A node that did not hear the query begins to ask: its address is lower.
    drop(queriers);
    let queriers = [querier(net.golden(), golden()), querier(net.node(2), node(2))];
    queriers[1].begin();
    // Its query has passed before the next one listens.
    await_segment(&queriers[0], SegmentQuerier::Other(node(2)));
    await_segment(&queriers[1], SegmentQuerier::Own);
    let lower = querier(net.node(1), node(1));
    lower.begin();
    await_segment(&queriers[1], SegmentQuerier::Other(node(1)));
    await_segment(&lower, SegmentQuerier::Own);
}

/// A host that has heard a query of version 2 keeps silent when another reports the same group, and a switch that
/// was just told of a querier floods reports to all hosts.
#[test]
fn every_member_is_known_to_the_switch_after_a_query_of_ours() {
    const NODES: usize = 5;
    let net = without_querier(NODES);
    let heard = querier(net.node(1), node(1));
    let asks = querier(net.golden(), golden());
    asks.begin();
    await_segment(&heard, SegmentQuerier::Other(golden()));
    let _members: Vec<_> = (1..=NODES).map(|number| member(&net, number, group())).collect();
    let deadline = Instant::now() + LIMIT;
    let known = || ka_lab::multicast::entries(&net).unwrap().len();
    while known() < NODES {
        assert!(Instant::now() < deadline, "{} of {NODES} are known", known());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn querier_without_root_is_not_known_and_stops_nothing() {
    // An address of no interface is refused as a missing right is.
    let querier = IgmpQuerier::start(Ipv4Addr::new(192, 0, 2, 1));
    querier.begin();
    assert_eq!(querier.segment(), SegmentQuerier::Unknown);
}
