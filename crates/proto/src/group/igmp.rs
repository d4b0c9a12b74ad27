//! IGMP queries as bytes: those of versions 1 to 3 are understood, those of version 3 are made.
//!
//! Switches with IGMP snooping learn from the answers which ports a group needs. Hosts answer in the version of the
//! query. After one of version 2, a host that hears another's report keeps silent (RFC 2236 section 3), and a switch
//! that floods reports never learns of its port; a Linux bridge floods for 10 s after the first query. In version 3
//! every host reports. That asks no more of a switch than the hosts' first reports, which have version 3, too. Hosts
//! that know only version 2 understand the query (RFC 3376 section 7.2).
//! Sources: RFC 1112 appendix I, RFC 2236, RFC 3376 section 4.1.

use std::net::Ipv4Addr;

/// Protocol number of IGMP in the IPv4 header.
pub const PROTOCOL: u8 = 2;
/// Destination of general queries: all systems of this subnet.
pub const ALL_SYSTEMS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// The IPv4 option that each query has, router alert (RFC 2113).
pub const ROUTER_ALERT: [u8; 4] = [0x94, 0x04, 0, 0];
/// Type of service of queries: internetwork control (RFC 3376 section 4).
pub const TYPE_OF_SERVICE: u8 = 0xc0;

const QUERY: u8 = 0x11;
/// Time that hosts have for their answers, in tenths of a second (RFC 3376 section 8.3).
const RESPONSE_TENTHS: u8 = 100;
/// Lost queries and reports that a querier allows for, less one, and its interval in seconds (RFC 3376 sections 4.1.6
/// and 4.1.7).
const ROBUSTNESS: u8 = 2;
const INTERVAL_SECONDS: u8 = 125;
const IPV4_HEADER: usize = 20;
/// Bytes of a query of version 1 or 2, and the fewest of one of version 3.
const SHORT_QUERY: usize = 8;
const LONG_QUERY: usize = 12;
/// Bytes of one source address in a query of version 3.
const SOURCE: usize = 4;

/// A query that some querier has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// The querier's address; unspecified if a switch without an address asks (RFC 4541 section 2.1.1).
    pub from: Ipv4Addr,
    /// IGMP version of the query, 1 to 3.
    pub version: u8,
    /// The group that is asked for, or `None` for all groups.
    pub group: Option<Ipv4Addr>,
}

impl Query {
    /// Reads a query from an IPv4 packet, header included, as a raw socket delivers it (raw(7)). Returns `None`
    /// for anything else and for anything malformed.
    #[must_use]
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let header = packet.first_chunk::<IPV4_HEADER>()?;
        let header_length = usize::from(header[0] & 0x0f) * 4;
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        // Fragments carry no whole query: more-fragments flag or an offset.
        let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff;
        if header[0] >> 4 != 4 || header_length < IPV4_HEADER || header[9] != PROTOCOL || fragment != 0 {
            return None;
        }
        // A short frame on Ethernet is padded; the header says how much belongs to the packet.
        let message = packet.get(header_length..total)?;
        let from = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
        Self::parse_message(from, message)
    }

    fn parse_message(from: Ipv4Addr, message: &[u8]) -> Option<Self> {
        let fields = message.first_chunk::<SHORT_QUERY>()?;
        if fields[0] != QUERY || checksum(message) != 0 || from.is_multicast() || from.is_broadcast() {
            return None;
        }
        let version = match (message.len(), fields[1]) {
            (SHORT_QUERY, 0) => 1,
            (SHORT_QUERY, _) => 2,
            (length, _) if length >= LONG_QUERY => {
                let sources = u16::from_be_bytes([message[10], message[11]]);
                (length - LONG_QUERY >= usize::from(sources) * SOURCE).then_some(3)?
            }
            // RFC 3376 section 7.1: any other length is ignored.
            _ => return None,
        };
        let group = Ipv4Addr::new(fields[4], fields[5], fields[6], fields[7]);
        if !group.is_unspecified() && !group.is_multicast() {
            return None;
        }
        Some(Self {
            from,
            version,
            group: Some(group).filter(|group| !group.is_unspecified()),
        })
    }
}

/// Returns a general query of version 3, without the IPv4 header.
#[must_use]
pub fn general_query() -> [u8; LONG_QUERY] {
    let mut message = [0; LONG_QUERY];
    message[0] = QUERY;
    message[1] = RESPONSE_TENTHS;
    message[8] = ROBUSTNESS;
    message[9] = INTERVAL_SECONDS;
    let sum = checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    message
}

/// The Internet checksum (RFC 1071): 0 over a message that contains its right checksum.
fn checksum(message: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in message.chunks(2) {
        sum += u32::from(u16::from_be_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or_default(),
        ]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    /// An IPv4 packet with the router alert option around this message.
    fn packet(from: Ipv4Addr, message: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x46, TYPE_OF_SERVICE, 0, 0, 0, 0, 0, 0, 1, PROTOCOL, 0, 0];
        packet.extend(from.octets());
        packet.extend(ALL_SYSTEMS.octets());
        packet.extend(ROUTER_ALERT);
        packet.extend(message);
        let total = u16::try_from(packet.len()).unwrap().to_be_bytes();
        packet[2..4].copy_from_slice(&total);
        packet
    }

    fn with_checksum(mut message: Vec<u8>) -> Vec<u8> {
        let sum = checksum(&message).to_be_bytes();
        message[2..4].copy_from_slice(&sum);
        message
    }

    fn query(version: u8) -> Query {
        Query {
            from: ROUTER,
            version,
            group: None,
        }
    }

    #[test]
    fn general_query_is_the_one_of_rfc_3376() {
        assert_eq!(general_query(), [0x11, 100, 0xec, 0x1e, 0, 0, 0, 0, 2, 125, 0, 0]);
        assert_eq!(Query::parse(&packet(ROUTER, &general_query())), Some(query(3)));
        let second = with_checksum(vec![0x11, 100, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Query::parse(&packet(ROUTER, &second)), Some(query(2)));
    }

    #[test]
    fn queries_of_all_versions_are_understood() {
        let first = with_checksum(vec![0x11, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Query::parse(&packet(ROUTER, &first)), Some(query(1)));
        let third = with_checksum(vec![0x11, 100, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0]);
        assert_eq!(Query::parse(&packet(ROUTER, &third)), Some(query(3)));
        let sources = with_checksum(vec![0x11, 100, 0, 0, 239, 1, 2, 3, 2, 125, 0, 1, 10, 0, 0, 9]);
        let asked = Query {
            group: Some(Ipv4Addr::new(239, 1, 2, 3)),
            ..query(3)
        };
        assert_eq!(Query::parse(&packet(ROUTER, &sources)), Some(asked));
        // Linux's bridge asks like this where it has no address.
        let nobody = Query::parse(&packet(Ipv4Addr::UNSPECIFIED, &general_query())).unwrap();
        assert!(nobody.from.is_unspecified());
    }

    #[test]
    fn frame_s_padding_is_no_part_of_a_query() {
        let second = with_checksum(vec![0x11, 100, 0, 0, 0, 0, 0, 0]);
        let mut padded = packet(ROUTER, &second);
        padded.resize(46, 0);
        assert_eq!(Query::parse(&padded), Some(query(2)));
    }

    #[test]
    fn anything_but_a_whole_query_is_ignored() {
        let good = packet(ROUTER, &general_query());
        for length in 0..good.len() {
            assert_eq!(Query::parse(&good[..length]), None, "{length} bytes");
        }
        let changed = |at: usize, to: u8| {
            let mut packet = good.clone();
            packet[at] = to;
            packet
        };
        for (at, to) in [
            (0, 0x66),
            (0, 0x41),
            (0, 0x4f),
            (9, 17),
            (6, 0x20),
            (7, 1),
            (12, 239),
            (24, 0x16),
            (25, 99),
        ] {
            assert_eq!(Query::parse(&changed(at, to)), None, "byte {at} is {to}");
        }
        let report = with_checksum(vec![0x16, 0, 0, 0, 239, 1, 2, 3]);
        assert_eq!(Query::parse(&packet(ROUTER, &report)), None);
        let odd = with_checksum(vec![0x11, 100, 0, 0, 0, 0, 0, 0, 2, 125]);
        assert_eq!(Query::parse(&packet(ROUTER, &odd)), None);
        let more_sources = with_checksum(vec![0x11, 100, 0, 0, 0, 0, 0, 0, 2, 125, 0, 2, 10, 0, 0, 9]);
        assert_eq!(Query::parse(&packet(ROUTER, &more_sources)), None);
        let no_group = with_checksum(vec![0x11, 100, 0, 0, 10, 1, 2, 3]);
        assert_eq!(Query::parse(&packet(ROUTER, &no_group)), None);
    }

    proptest! {
        #[test]
        fn no_packet_causes_a_panic(packet in prop::collection::vec(any::<u8>(), 0..96)) {
            let _ = Query::parse(&packet);
        }

        #[test]
        fn no_change_of_a_query_causes_a_panic(at in 0..40usize, to in any::<u8>(), extra in 0..64usize) {
            let third = with_checksum(vec![0x11, 100, 0, 0, 0, 0, 0, 0, 2, 125, 0, 1, 10, 0, 0, 9]);
            let mut packet = packet(ROUTER, &third);
            packet.resize(packet.len() + extra, 0xff);
            packet[at] = to;
            if let Some(query) = Query::parse(&packet) {
                prop_assert!((1..=3).contains(&query.version));
            }
        }
    }
}
