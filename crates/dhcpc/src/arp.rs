//! Whether somebody else uses an address: ARP probes (RFC 826, RFC 5227 §2.1.1).

use std::net::Ipv4Addr;

/// Ethernet, IPv4, and the lengths of their addresses.
const HEADER: [u8; 6] = [0, 1, 0x08, 0, 6, 4];
const REQUEST: [u8; 2] = [0, 1];
/// Without the padding that short frames get.
const LENGTH: usize = 28;

/// "Who has this address?", from nobody: it teaches no one that the address is ours.
pub(crate) fn probe(mac: [u8; 6], addr: Ipv4Addr) -> Vec<u8> {
    let mut packet = [&HEADER[..], &REQUEST, &mac, &[0; 4], &[0; 6]].concat();
    packet.extend(addr.octets());
    packet
}

/// The hardware address of another machine that uses `addr`, or that asks for it at the same time as we do, if this packet
/// shows one. `own` is ours.
pub(crate) fn rival(packet: &[u8], addr: Ipv4Addr, own: [u8; 6]) -> Option<[u8; 6]> {
    let packet = packet
        .get(..LENGTH)
        .filter(|packet| packet.starts_with(&HEADER))?;
    let sender = packet[8..14].try_into().ok()?;
    let uses = packet[14..18] == addr.octets();
    let probes = packet[6..8] == REQUEST && packet[14..18] == [0; 4] && packet[24..28] == addr.octets();
    (sender != own && (uses || probes)).then_some(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];

    /// What the owner of an address answers to a probe.
    fn answer(owner: [u8; 6], addr: Ipv4Addr) -> Vec<u8> {
        [&HEADER[..], &[0, 2], &owner, &addr.octets(), &OWN, &[0; 4]].concat()
    }

    #[test]
    fn an_answer_and_a_rival_s_probe_are_seen_and_our_own_probe_is_not() {
        assert_eq!(rival(&answer(OTHER, ADDR), ADDR, OWN), Some(OTHER));
        assert_eq!(rival(&probe(OTHER, ADDR), ADDR, OWN), Some(OTHER));
        assert_eq!(rival(&probe(OWN, ADDR), ADDR, OWN), None);
        let padded = [answer(OTHER, ADDR), vec![0; 18]].concat();
        assert_eq!(rival(&padded, ADDR, OWN), Some(OTHER));
    }

    #[test]
    fn other_packets_are_passed_over_at_any_length() {
        let elsewhere = Ipv4Addr::new(10, 0, 0, 6);
        assert_eq!(rival(&answer(OTHER, elsewhere), ADDR, OWN), None);
        assert_eq!(rival(&probe(OTHER, elsewhere), ADDR, OWN), None);
        let whole = answer(OTHER, ADDR);
        for length in 0..whole.len() {
            assert_eq!(rival(&whole[..length], ADDR, OWN), None);
        }
        assert_eq!(rival(&[0xff; 60], ADDR, OWN), None);
    }
}
