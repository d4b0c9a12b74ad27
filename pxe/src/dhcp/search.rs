//! Search for another DHCP server before this one gives addresses. A DISCOVER from a made-up card goes out a
//! few times; any offer means that the wire has a server already.
//!
//! The search uses a packet socket, because port 68 may belong to this machine's own DHCP client. It cannot
//! find a server that serves only known cards; `full` warns when a machine accepts another server's offer.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::time::Duration;

use ka_dhcp::frame::{self, EtherType, everybody, nobody};
use ka_dhcp::{CLIENT_PORT, DhcpOption, MessageType, OptionCode, Outgoing, Packet, SERVER_PORT};
use ka_mac::MacAddr;
use tokio::time::{Instant, timeout_at};

use crate::dhcp::wire::{Frames, socket_error};
use crate::dhcp::{DhcpError, Interface};

/// Number of questions. A datagram may be lost, and a switch port that just came up may not pass the first
/// ones.
const TRIES: u32 = 3;
const BETWEEN_TRIES: Duration = Duration::from_secs(1);
/// Time to wait for an offer, counted from the first question. dnsmasq pings an address for three seconds
/// before it offers it.
const WAIT: Duration = Duration::from_millis(4500);

/// Fails if another server offers an address.
pub(crate) async fn refuse_other_server(iface: &str, interface: &Interface) -> Result<(), DhcpError> {
    let frames = Frames::ipv4(iface, interface)?;
    let (mac, xid) =
        random().map_err(|err| socket_error(iface, "making up a card", std::io::Error::other(err)))?;
    let fails = |err| socket_error(iface, "looking for another DHCP server", err);
    let question = question(interface.mac, mac, xid).ok_or_else(|| fails(ErrorKind::InvalidInput.into()))?;
    let (begun, mut asked) = (Instant::now(), 0);
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

/// A DISCOVER of the made-up card, framed and sent from the server's own card.
fn question(own: MacAddr, mac: MacAddr, xid: u32) -> Option<Vec<u8>> {
    let mut discover = Outgoing::question(MessageType::Discover, mac, xid);
    discover.push(&DhcpOption::ParameterRequestList(vec![
        OptionCode::SubnetMask,
        OptionCode::Router,
    ]));
    let packet = frame::udp(nobody(CLIENT_PORT), everybody(SERVER_PORT), &discover.encode())?;
    Some(frame::ethernet(own, MacAddr::BROADCAST, EtherType::Ipv4, &packet))
}

/// Returns the server and the address of an offer to the made-up card. An offer of a proxy has no address and
/// is not a conflict.
fn offer_in(frame: &[u8], mac: MacAddr, xid: u32) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let datagram = frame::datagram(frame::packet_in(frame, EtherType::Ipv4)?)?;
    let packet = Packet::reply(datagram.message)
        .ok()
        .filter(|_| datagram.to == CLIENT_PORT)?;
    if packet.kind() != MessageType::Offer || packet.xid() != xid || packet.mac() != mac {
        return None;
    }
    Some((packet.server_id()?, packet.yiaddr()?))
}

/// A random MAC of the locally administered range, and a random transaction number.
fn random() -> Result<(MacAddr, u32), getrandom::Error> {
    let mut octets = [0; 6];
    getrandom::fill(&mut octets)?;
    octets[0] = octets[0] & 0xfc | 2;
    Ok((MacAddr(octets), getrandom::u32()?))
}
