//! Ethernet frames, written and read by hand: UDP to and from who has no address yet, where the kernel's sockets cannot
//! help, and ARP. RFC 768, 791, 826, 5227.

use std::net::Ipv4Addr;

use crate::machine::MacAddr;

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERNET_HEADER: usize = 14;
const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const UDP: u8 = 17;
/// Linux's default.
const TTL: u8 = 64;
/// Ethernet, IPv4, lengths 6 and 4.
const ARP_KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// Who says a datagram to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) from_mac: MacAddr,
    pub(crate) to_mac: MacAddr,
    pub(crate) from: (Ipv4Addr, u16),
    pub(crate) to: (Ipv4Addr, u16),
}

/// A UDP datagram in its frame. `payload` is a DHCP packet, which fits.
pub(crate) fn udp(route: &Route, payload: &[u8]) -> Vec<u8> {
    let udp_length = UDP_HEADER + payload.len();
    let mut segment = Vec::with_capacity(udp_length);
    segment.extend_from_slice(&route.from.1.to_be_bytes());
    segment.extend_from_slice(&route.to.1.to_be_bytes());
    segment.extend_from_slice(&length16(udp_length));
    segment.extend_from_slice(&[0, 0]);
    segment.extend_from_slice(payload);
    let sum = match checksum(&[&pseudo_header(route, udp_length), &segment]) {
        // RFC 768: zero would mean that there is no checksum.
        0 => 0xffff,
        sum => sum,
    };
    segment[6..8].copy_from_slice(&sum.to_be_bytes());

    let mut header = Vec::with_capacity(IP_HEADER);
    header.extend_from_slice(&[0x45, 0]);
    header.extend_from_slice(&length16(IP_HEADER + udp_length));
    // Identification, no fragments, checksum to come.
    header.extend_from_slice(&[0, 0, 0x40, 0, TTL, UDP, 0, 0]);
    header.extend_from_slice(&route.from.0.octets());
    header.extend_from_slice(&route.to.0.octets());
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());

    let ethernet = ethernet(route.from_mac, route.to_mac, ETHERTYPE_IPV4);
    [&ethernet[..], &header, &segment].concat()
}

/// The UDP payload of a frame that goes to this port, whole and unfragmented.
pub(crate) fn udp_payload(frame: &[u8], port: u16) -> Option<&[u8]> {
    let packet = frame.get(ETHERNET_HEADER..)?;
    if frame[12..14] != ETHERTYPE_IPV4 || packet.first()? >> 4 != 4 {
        return None;
    }
    let header = usize::from(packet[0] & 0xf) * 4;
    let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    let fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x3fff;
    if header < IP_HEADER || fragment != 0 || *packet.get(9)? != UDP {
        return None;
    }
    let segment = packet.get(header..total)?;
    if segment.get(2..4)? != port.to_be_bytes() {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([*segment.get(4)?, *segment.get(5)?]));
    segment.get(UDP_HEADER..length)
}

/// The question "who has this address?" by one who has none (RFC 5227 §2.1.1): it changes nobody's ARP table.
pub(crate) fn arp_probe(mac: MacAddr, address: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(mac, MacAddr::BROADCAST, ETHERTYPE_ARP).to_vec();
    frame.extend_from_slice(&ARP_KIND);
    frame.extend_from_slice(&[0, 1]);
    frame.extend_from_slice(&mac.0);
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(&MacAddr::ZERO.0);
    frame.extend_from_slice(&address.octets());
    frame
}

/// Who an ARP frame says has which address: every one that has a sender address does, question or answer.
pub(crate) fn arp_claim(frame: &[u8]) -> Option<(MacAddr, Ipv4Addr)> {
    let arp = frame.get(ETHERNET_HEADER..)?;
    if frame[12..14] != ETHERTYPE_ARP || arp.get(..6)? != ARP_KIND {
        return None;
    }
    let mac: [u8; 6] = arp.get(8..14)?.try_into().ok()?;
    let address: [u8; 4] = arp.get(14..18)?.try_into().ok()?;
    let address = Ipv4Addr::from(address);
    (!address.is_unspecified()).then_some((MacAddr(mac), address))
}

fn ethernet(from: MacAddr, to: MacAddr, ethertype: [u8; 2]) -> [u8; ETHERNET_HEADER] {
    let mut header = [0; ETHERNET_HEADER];
    header[..6].copy_from_slice(&to.0);
    header[6..12].copy_from_slice(&from.0);
    header[12..].copy_from_slice(&ethertype);
    header
}

fn pseudo_header(route: &Route, udp_length: usize) -> [u8; 12] {
    let mut header = [0; 12];
    header[..4].copy_from_slice(&route.from.0.octets());
    header[4..8].copy_from_slice(&route.to.0.octets());
    header[9] = UDP;
    header[10..].copy_from_slice(&length16(udp_length));
    header
}

fn length16(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

/// RFC 1071. Only the last part may have an odd length.
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

    fn route() -> Route {
        Route {
            from_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            to_mac: MacAddr([2, 0, 0, 0, 0, 2]),
            from: ([10, 0, 0, 1].into(), 67),
            to: ([10, 0, 0, 9].into(), 68),
        }
    }

    #[test]
    fn checksums_are_those_of_rfc_1071() {
        // The example of RFC 1071 §3: the sum is ddf2.
        assert_eq!(
            checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]),
            !0xddf2
        );
        let frame = udp(&route(), b"odd");
        assert_eq!(
            checksum(&[&frame[14..34]]),
            0,
            "a header with its checksum sums to nothing"
        );
        assert_eq!(checksum(&[&pseudo_header(&route(), 11), &frame[34..]]), 0);
    }

    #[test]
    fn a_probe_claims_nothing_and_an_answer_does() {
        let probe = arp_probe(MacAddr([2, 0, 0, 0, 0, 1]), [10, 0, 0, 9].into());
        assert_eq!(probe.len(), 42);
        assert_eq!(arp_claim(&probe), None);
        let mut answer = probe;
        answer[21] = 2;
        answer[28..32].copy_from_slice(&[10, 0, 0, 9]);
        let claim = (MacAddr([2, 0, 0, 0, 0, 1]), [10, 0, 0, 9].into());
        assert_eq!(arp_claim(&answer), Some(claim));
        for length in 0..32 {
            assert_eq!(arp_claim(&answer[..length]), None);
        }
    }

    #[test]
    fn a_frame_cut_off_anywhere_has_no_payload() {
        let frame = udp(&route(), b"payload");
        assert_eq!(udp_payload(&frame, 68), Some(&b"payload"[..]));
        assert_eq!(udp_payload(&frame, 67), None);
        for length in 0..frame.len() {
            assert_eq!(udp_payload(&frame[..length], 68), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn a_payload_comes_back_through_padding(payload in prop::collection::vec(any::<u8>(), 0..600), padding in 0_usize..64) {
            let mut frame = udp(&route(), &payload);
            frame.resize(frame.len() + padding, 0);
            prop_assert_eq!(udp_payload(&frame, 68), Some(&payload[..]));
        }

        #[test]
        fn random_frames_do_not_panic(frame in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = udp_payload(&frame, 68);
            let _ = arp_claim(&frame);
        }

        #[test]
        fn damaged_frames_do_not_panic(at in 0_usize..49, value: u8, length in 0_usize..50) {
            let mut frame = udp(&route(), b"payload");
            frame[at % 49] = value;
            let _ = udp_payload(&frame[..length.min(frame.len())], 68);
        }
    }
}
