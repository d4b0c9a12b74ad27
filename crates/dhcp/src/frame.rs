//! Ethernet, IPv4 and UDP headers around a DHCP message (RFC 768, RFC 791, RFC 1071). They are written and
//! read by hand, because the kernel's sockets cannot reach a client without an address.

use std::net::{Ipv4Addr, SocketAddrV4};

use ka_mac::MacAddr;

const ETHERNET_HEADER: usize = 14;
const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const UDP: u8 = 17;
/// Time to live of a packet: the default of Linux.
const TIME_TO_LIVE: u8 = 64;
/// Mask of the flag for further fragments, and of a fragment's offset.
const FRAGMENT: u16 = 0x3fff;

/// Kinds of packets in Ethernet frames that are used here (IEEE 802 numbers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum EtherType {
    /// IPv4 (RFC 894).
    Ipv4 = 0x0800,
    /// ARP (RFC 826).
    Arp = 0x0806,
}

/// An Ethernet frame around a packet.
#[must_use]
pub fn ethernet(from: MacAddr, to: MacAddr, kind: EtherType, packet: &[u8]) -> Vec<u8> {
    [&to.0[..], &from.0, &(kind as u16).to_be_bytes(), packet].concat()
}

/// Returns the packet in an Ethernet frame, with the frame's padding, if it is of this kind.
#[must_use]
pub fn packet_in(frame: &[u8], kind: EtherType) -> Option<&[u8]> {
    let packet = frame.get(ETHERNET_HEADER..)?;
    (frame[12..14] == (kind as u16).to_be_bytes()).then_some(packet)
}

/// An IPv4 packet with a UDP datagram around a message. `None` if the message is too long for one packet.
#[must_use]
pub fn udp(from: SocketAddrV4, to: SocketAddrV4, message: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(UDP_HEADER + message.len()).ok()?;
    let total = u16::try_from(IP_HEADER + UDP_HEADER + message.len()).ok()?;
    let addresses = [from.ip().octets(), to.ip().octets()].concat();
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();

    // Version 4, five words of header, no identification, do not fragment (RFC 6864). The checksum follows
    // below.
    let mut packet = vec![0x45, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 0, 0x40, 0, TIME_TO_LIVE, UDP, 0, 0]);
    packet.extend(&addresses);
    let sum = checksum(&[&packet]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());

    let length = length.to_be_bytes();
    let sum = checksum(&[&addresses, &[0, UDP], &length, &ports, &length, message]);
    // A checksum of 0 means "none" (RFC 768), so it is sent as all ones.
    let sum = if sum == 0 { u16::MAX } else { sum };
    packet.extend(ports);
    packet.extend(length);
    packet.extend(sum.to_be_bytes());
    packet.extend(message);
    Some(packet)
}

/// A UDP datagram, as parsed by [`datagram`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Port of the sender.
    pub from: u16,
    /// Port of the receiver.
    pub to: u16,
    /// Payload of the datagram.
    pub message: &'a [u8],
}

/// Parses the UDP datagram of an IPv4 packet, which may be padded. Returns `None` for any other packet.
///
/// The UDP checksum is ignored. A sender on the same host (virtio, veth) leaves the checksum to hardware that
/// does not exist, so a packet socket sees it unfinished. The frame's own check and the transaction number
/// protect the message.
#[must_use]
pub fn datagram(packet: &[u8]) -> Option<Datagram<'_>> {
    let first = *packet.first()?;
    let length = usize::from(first & 0xf) * 4;
    if first >> 4 != 4 || length < IP_HEADER {
        return None;
    }
    let header = packet.get(..length)?;
    let total = usize::from(number(header, 2)?);
    let is_whole = number(header, 6)? & FRAGMENT == 0;
    if header[9] != UDP || !is_whole || checksum(&[header]) != 0 {
        return None;
    }
    let datagram = packet.get(length..total)?;
    Some(Datagram {
        from: number(datagram, 0)?,
        to: number(datagram, 2)?,
        message: datagram.get(UDP_HEADER..usize::from(number(datagram, 4)?))?,
    })
}

/// Address of a client that has none yet, with a port.
#[must_use]
pub const fn nobody(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)
}

/// Broadcast address with a port.
#[must_use]
pub const fn everybody(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::BROADCAST, port)
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// The Internet checksum (RFC 1071). Only the last part may have an odd length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u32 = 0;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 67);
    const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 9), 68);
    const CARDS: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];

    fn frame(message: &[u8]) -> Vec<u8> {
        let packet = udp(SERVER, CLIENT, message).unwrap();
        ethernet(CARDS[0], CARDS[1], EtherType::Ipv4, &packet)
    }

    fn message_in(frame: &[u8]) -> Option<&[u8]> {
        let datagram = datagram(packet_in(frame, EtherType::Ipv4)?)?;
        ((datagram.from, datagram.to) == (67, 68)).then_some(datagram.message)
    }

    #[test]
    fn sums_are_those_of_the_standards() {
        // Example of RFC 1071 §3: the sum is ddf2.
        assert_eq!(
            checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]),
            !0xddf2
        );
        let packet = udp(SERVER, CLIENT, b"odd").unwrap();
        assert_eq!(
            checksum(&[&packet[..20]]),
            0,
            "a header with its checksum sums to nothing"
        );
        let covered = [&packet[12..20], &[0, UDP, 0, 11], &packet[20..]].concat();
        assert_eq!(checksum(&[&covered]), 0);
    }

    #[test]
    fn a_sum_of_nothing_is_sent_as_all_ones() {
        let plain = udp(nobody(68), everybody(67), &[0, 0]).unwrap();
        let sum = number(&plain, 26).unwrap();
        let packet = udp(nobody(68), everybody(67), &sum.to_be_bytes()).unwrap();
        assert_eq!(number(&packet, 26), Some(u16::MAX));
    }

    #[test]
    fn a_frame_has_its_addresses_and_its_kind() {
        let frame = frame(b"x");
        assert_eq!(frame[..12], [CARDS[1].0, CARDS[0].0].concat());
        assert_eq!(frame[12..15], [8, 0, 0x45]);
        assert_eq!(frame[20..22], [0x40, 0], "not to be cut in fragments");
        assert_eq!(frame[26..34], [10, 0, 0, 1, 10, 0, 0, 9]);
        assert_eq!(frame[34..38], [0, 67, 0, 68]);
        assert_eq!(packet_in(&frame, EtherType::Arp), None);
    }

    #[test]
    fn what_is_longer_than_a_packet_can_be_is_none() {
        let from = nobody(68);
        assert!(udp(from, everybody(67), &[0; 65_507]).is_some());
        assert!(udp(from, everybody(67), &[0; 65_508]).is_none());
    }

    #[test]
    fn other_traffic_and_damaged_headers_are_left_alone() {
        let good = udp(SERVER, CLIENT, b"x").unwrap();
        for (place, value) in [(0, 0x65), (0, 0x44), (9, 6), (6, 0x20), (10, 0), (25, 3)] {
            let mut packet = good.clone();
            packet[place] = value;
            assert_eq!(datagram(&packet), None, "byte {place} = {value:#x}");
        }
        for length in 0..good.len() {
            assert_eq!(datagram(&good[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn a_frame_cut_off_anywhere_has_no_message() {
        let frame = frame(b"payload");
        assert_eq!(message_in(&frame), Some(&b"payload"[..]));
        for length in 0..frame.len() {
            assert_eq!(message_in(&frame[..length]), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn a_message_comes_back_through_padding(message in prop::collection::vec(any::<u8>(), 0..600), padding in 0_usize..64) {
            let mut frame = frame(&message);
            frame.resize(frame.len() + padding, 0);
            prop_assert_eq!(message_in(&frame), Some(&message[..]));
        }

        #[test]
        fn random_frames_do_not_panic(frame in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = message_in(&frame);
            let _ = datagram(&frame);
        }

        #[test]
        fn damaged_frames_do_not_panic(at in 0_usize..49, value: u8, length in 0_usize..50) {
            let mut frame = frame(b"payload");
            frame[at] = value;
            let _ = message_in(&frame[..length.min(frame.len())]);
        }
    }
}
