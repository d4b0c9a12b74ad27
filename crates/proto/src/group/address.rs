//! The address and port of a multicast group.
//!
//! The address is administratively scoped (RFC 2365): routers do not forward it out of a site, and no other
//! program has a claim to it. It comes from the run, so that two runs in one room do not meet. If they meet by
//! chance, the authentication code of each datagram keeps them apart.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::ids::{NodeId, RunId};

const CONTEXT: &str = "KA 2026-12 v1 multicast group address";
/// First two bytes of the IPv4 Local Scope, 239.255.0.0/16 (RFC 2365 section 6.1).
const LOCAL_SCOPE: [u8; 2] = [239, 255];
/// Values of the third byte: 255 is for relative assignments, such as announcements (RFC 2365 section 9).
const THIRD_BYTES: u8 = 255;
/// First dynamic port, and the number of them (RFC 6335 section 6).
const FIRST_PORT: u16 = 49_152;
const PORTS: u16 = 16_384;

/// The group to which `sender` sends in this run. Each sender has its own, so that the senders of two segments
/// do not meet where the segments overlap.
#[must_use]
pub fn of_sender(run: RunId, sender: NodeId) -> SocketAddrV4 {
    let mut material = run.0.to_vec();
    material.extend(sender.0.to_le_bytes());
    let [third, fourth, low, high, ..] = blake3::derive_key(CONTEXT, &material);
    let address = Ipv4Addr::new(LOCAL_SCOPE[0], LOCAL_SCOPE[1], third % THIRD_BYTES, fourth);
    SocketAddrV4::new(address, FIRST_PORT + u16::from_le_bytes([low, high]) % PORTS)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn runs_and_senders_have_groups_of_their_own() {
        let groups: BTreeSet<SocketAddrV4> = (0..32)
            .flat_map(|run| (0..4).map(move |sender| of_sender(RunId([run; 16]), NodeId(sender))))
            .collect();
        assert_eq!(groups.len(), 128);
    }

    proptest! {
        #[test]
        fn group_is_in_the_local_scope_and_its_port_is_dynamic(run in any::<[u8; 16]>(), sender in any::<u32>()) {
            let group = of_sender(RunId(run), NodeId(sender));
            prop_assert_eq!(&group.ip().octets()[..2], &[239, 255]);
            prop_assert_ne!(group.ip().octets()[2], 255);
            prop_assert!(group.port() >= FIRST_PORT);
            prop_assert_eq!(group, of_sender(RunId(run), NodeId(sender)));
        }
    }
}
