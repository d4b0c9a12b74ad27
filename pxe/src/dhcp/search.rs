//! Before we give addresses: is there somebody who does? A DISCOVER from a card that does not exist, a few times, and
//! whoever offers something is in our way.
//!
//! Heard and said through a packet socket: port 68 may belong to this machine's own DHCP client. A server that serves
//! known cards only cannot be found this way; `full` warns when a machine takes another server's offer.

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::v4::MessageType;
use tokio::time::{Instant, timeout_at};

use crate::dhcp::answer::{CLIENT_PORT, SERVER_PORT};
use crate::dhcp::codec::{Outgoing, Packet};
use crate::dhcp::frame::{self, Route};
use crate::dhcp::wire::{Frames, socket_error};
use crate::dhcp::{DhcpError, Interface};
use crate::machine::MacAddr;

/// How often is asked: a datagram may be lost, and a switch port that just came up may not pass the first ones.
const TRIES: u32 = 3;
const BETWEEN_TRIES: Duration = Duration::from_secs(1);
/// After the first question. dnsmasq pings the address for three seconds before it offers it.
const WAIT: Duration = Duration::from_millis(4500);

/// Refuses to start where another server offers an address.
pub(crate) async fn refuse_other_server(iface: &str, interface: &Interface) -> Result<(), DhcpError> {
    let frames = Frames::ipv4(iface, interface)?;
    let (mac, xid) =
        random().map_err(|err| socket_error(iface, "making up a card", std::io::Error::other(err)))?;
    let route = Route {
        from_mac: interface.mac,
        to_mac: MacAddr::BROADCAST,
        from: (Ipv4Addr::UNSPECIFIED, CLIENT_PORT),
        to: (Ipv4Addr::BROADCAST, SERVER_PORT),
    };
    let question = frame::udp(&route, &Outgoing::discover(mac, xid).encode());
    let (begun, mut asked) = (Instant::now(), 0);
    let fails = |err| socket_error(iface, "looking for another DHCP server", err);
    while begun.elapsed() < WAIT {
        if asked < TRIES && begun.elapsed() >= BETWEEN_TRIES * asked {
            frames.send(&question).map_err(fails)?;
            asked += 1;
        }
        let next = if asked < TRIES {
            BETWEEN_TRIES * asked
        } else {
            WAIT
        };
        let Ok(received) = timeout_at(begun + next, frames.receive()).await else {
            continue;
        };
        if let Some((server, offered)) = offer_in(&received.map_err(fails)?, mac, xid) {
            return Err(DhcpError::OtherServer {
                iface: iface.to_owned(),
                server,
                offered,
            });
        }
    }
    Ok(())
}

/// The server and the address of an offer to our made-up card. A proxy's offer has no address: it is not in our way.
fn offer_in(frame: &[u8], mac: MacAddr, xid: u32) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let packet = Packet::reply(frame::udp_payload(frame, CLIENT_PORT)?).ok()?;
    if packet.kind() != MessageType::Offer || packet.xid() != xid || packet.mac() != mac {
        return None;
    }
    Some((packet.server_id()?, packet.yiaddr()?))
}

/// A card of the locally administered range, and a transaction.
fn random() -> Result<(MacAddr, u32), getrandom::Error> {
    let mut octets = [0; 6];
    getrandom::fill(&mut octets)?;
    octets[0] = octets[0] & 0xfc | 2;
    Ok((MacAddr(octets), getrandom::u32()?))
}
