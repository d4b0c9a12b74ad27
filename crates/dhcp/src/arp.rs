//! ARP for addresses that are not in use yet (RFC 826, RFC 5227): probes, and the packets of other machines.

use std::net::Ipv4Addr;

use ka_mac::MacAddr;

/// First bytes of each packet: Ethernet, IPv4, and the lengths of their addresses.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: [u8; 2] = [0, 1];
/// Length of a packet, in bytes, without the padding of short frames.
const LENGTH: usize = 28;

/// A probe: the question for an address by a card that has none (RFC 5227 §2.1.1). It changes no ARP table,
/// because it does not claim the address.
#[must_use]
pub fn probe(mac: MacAddr, address: Ipv4Addr) -> Vec<u8> {
    let target = address.octets();
    [&KIND[..], &REQUEST, &mac.0, &[0; 4], &MacAddr::ZERO.0, &target].concat()
}

/// An ARP packet for IPv4 over Ethernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    is_request: bool,
    mac: MacAddr,
    address: Ipv4Addr,
    target: Ipv4Addr,
}

impl Arp {
    /// Parses a packet, which may be padded. Returns `None` for another kind of packet, or one that is cut
    /// off.
    #[must_use]
    pub fn read(packet: &[u8]) -> Option<Self> {
        let packet = packet.get(..LENGTH)?.strip_prefix(&KIND)?;
        let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
        Some(Self {
            is_request: packet[..2] == REQUEST,
            mac: MacAddr(packet[2..8].try_into().ok()?),
            address: address(8),
            target: address(18),
        })
    }

    /// The sender's card and address. Every sender with an address claims it, in a question as in an answer.
    #[must_use]
    pub fn claim(&self) -> Option<(MacAddr, Ipv4Addr)> {
        (!self.address.is_unspecified()).then_some((self.mac, self.address))
    }

    /// The card of another machine than `own` that uses `address`, or that probes it at the same time.
    #[must_use]
    pub fn rival(&self, address: Ipv4Addr, own: MacAddr) -> Option<MacAddr> {
        let uses = self.address == address;
        let probes = self.is_request && self.address.is_unspecified() && self.target == address;
        (self.mac != own && (uses || probes)).then_some(self.mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
    const OWN: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    /// The answer of an address's owner to a probe.
    fn answer(owner: MacAddr, address: Ipv4Addr) -> Vec<u8> {
        [&KIND[..], &[0, 2], &owner.0, &address.octets(), &OWN.0, &[0; 4]].concat()
    }

    fn rival(packet: &[u8]) -> Option<MacAddr> {
        Arp::read(packet)?.rival(ADDRESS, OWN)
    }

    fn claim(packet: &[u8]) -> Option<(MacAddr, Ipv4Addr)> {
        Arp::read(packet)?.claim()
    }

    #[test]
    fn a_probe_is_that_of_rfc_5227() {
        let probe = probe(OWN, ADDRESS);
        assert_eq!(probe.len(), LENGTH);
        assert_eq!(probe[..8], [0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(probe[8..14], OWN.0);
        assert_eq!(probe[14..24], [0; 10]);
        assert_eq!(probe[24..], ADDRESS.octets());
    }

    #[test]
    fn a_probe_claims_nothing_and_an_answer_does() {
        assert_eq!(claim(&probe(OWN, ADDRESS)), None);
        let answer = answer(OTHER, ADDRESS);
        assert_eq!(claim(&answer), Some((OTHER, ADDRESS)));
        for length in 0..answer.len() {
            assert_eq!(claim(&answer[..length]), None);
        }
    }

    #[test]
    fn an_answer_and_a_rival_s_probe_are_seen_and_our_own_probe_is_not() {
        assert_eq!(rival(&answer(OTHER, ADDRESS)), Some(OTHER));
        assert_eq!(rival(&probe(OTHER, ADDRESS)), Some(OTHER));
        assert_eq!(rival(&probe(OWN, ADDRESS)), None);
        let padded = [answer(OTHER, ADDRESS), vec![0; 18]].concat();
        assert_eq!(rival(&padded), Some(OTHER));
    }

    #[test]
    fn other_packets_are_passed_over_at_any_length() {
        let elsewhere = Ipv4Addr::new(10, 0, 0, 6);
        assert_eq!(rival(&answer(OTHER, elsewhere)), None);
        assert_eq!(rival(&probe(OTHER, elsewhere)), None);
        let whole = answer(OTHER, ADDRESS);
        for length in 0..whole.len() {
            assert_eq!(rival(&whole[..length]), None);
        }
        assert_eq!(Arp::read(&[0xff; 60]), None);
    }

    proptest::proptest! {
        #[test]
        fn random_packets_do_not_panic(packet in proptest::collection::vec(proptest::num::u8::ANY, 0..100)) {
            let _ = (rival(&packet), claim(&packet));
        }
    }
}
