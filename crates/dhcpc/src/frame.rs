//! The IPv4 and UDP headers around a DHCP message, on a wire where the kernel cannot make them because this machine has
//! no address (RFC 791, RFC 768).

use std::net::Ipv4Addr;

pub(crate) const CLIENT_PORT: u16 = 68;
pub(crate) const SERVER_PORT: u16 = 67;
const IP_HEADER_BYTES: usize = 20;
const UDP_HEADER_BYTES: usize = 8;
const UDP: u8 = 17;
const TIME_TO_LIVE: u8 = 64;
/// More-fragments flag and fragment offset.
const FRAGMENT_MASK: u16 = 0x3fff;

/// A packet from nobody to everybody, client port to server port. `None` over 64 KiB.
pub(crate) fn wrap(message: &[u8]) -> Option<Vec<u8>> {
    let udp_length = u16::try_from(UDP_HEADER_BYTES + message.len()).ok()?;
    let total = u16::try_from(IP_HEADER_BYTES + UDP_HEADER_BYTES + message.len()).ok()?;
    let (from, to) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
    // Version 4, five words of header; type of service 0.
    let mut packet = vec![0x45, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 0, 0, 0, TIME_TO_LIVE, UDP, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());

    let mut datagram = Vec::with_capacity(usize::from(udp_length));
    datagram.extend(CLIENT_PORT.to_be_bytes());
    datagram.extend(SERVER_PORT.to_be_bytes());
    datagram.extend(udp_length.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(message);
    let mut covered = [from.octets(), to.octets()].concat();
    covered.extend([0, UDP]);
    covered.extend(udp_length.to_be_bytes());
    covered.extend(&datagram);
    // A sum of 0 means "none" (RFC 768), so that one is sent as all ones.
    let sum = match checksum(&covered) {
        0 => u16::MAX,
        sum => sum,
    };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    packet.extend(datagram);
    Some(packet)
}

/// The message inside a packet from a server's port to a client's; `None` for everything else on the wire.
///
/// The UDP sum is not looked at: a sender on the same host (virtio, veth) leaves it to hardware that is not there, so a
/// packet socket sees it unfinished. The frame's own check and the exchange number protect the message.
pub(crate) fn unwrap(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    let header = usize::from(first & 0xf) * 4;
    if first >> 4 != 4 || header < IP_HEADER_BYTES {
        return None;
    }
    let total = usize::from(number(packet, 2)?);
    let ip = packet.get(..header)?;
    let is_whole = number(packet, 6)? & FRAGMENT_MASK == 0;
    if ip[9] != UDP || !is_whole || checksum(ip) != 0 {
        return None;
    }
    let datagram = packet.get(header..total)?;
    let ports = (number(datagram, 0)?, number(datagram, 2)?);
    let length = usize::from(number(datagram, 4)?);
    if ports != (SERVER_PORT, CLIENT_PORT) {
        return None;
    }
    datagram.get(UDP_HEADER_BYTES..length)
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([pair[0], low]))
    });
    // At most 32768 words of 16 bits: 31 bits.
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What [`wrap`] makes, sent back by a server.
    fn answered(message: &[u8]) -> Vec<u8> {
        let mut packet = wrap(message).unwrap();
        packet.swap(20, 22);
        packet.swap(21, 23);
        packet
    }

    #[test]
    fn what_is_wrapped_is_unwrapped_when_it_comes_from_a_server() {
        let message = b"the message";
        assert_eq!(unwrap(&answered(message)), Some(&message[..]));
        assert_eq!(unwrap(&wrap(message).unwrap()), None, "from a client");
    }

    #[test]
    fn sums_are_those_of_the_standards() {
        let packet = wrap(b"odd").unwrap();
        assert_eq!(checksum(&packet[..20]), 0);
        let mut covered = packet[12..20].to_vec();
        covered.extend([0, UDP, 0, 11]);
        covered.extend(&packet[20..]);
        assert_eq!(checksum(&covered), 0);
        // The example of RFC 1071 §3.
        assert_eq!(
            !checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            0xddf2
        );
    }

    #[test]
    fn other_traffic_and_damaged_headers_are_left_alone() {
        let good = answered(b"x");
        for (place, value) in [
            (0, 0x65),
            (0, 0x44),
            (9, 6),
            (6, 0x20),
            (10, 0),
            (23, 69),
            (25, 3),
        ] {
            let mut packet = good.clone();
            packet[place] = value;
            assert_eq!(unwrap(&packet), None, "byte {place} = {value:#x}");
        }
        for length in 0..good.len() {
            assert_eq!(unwrap(&good[..length]), None, "{length} bytes");
        }
    }

    proptest::proptest! {
        #[test]
        fn random_packets_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..100)) {
            unwrap(&bytes);
        }
    }
}
