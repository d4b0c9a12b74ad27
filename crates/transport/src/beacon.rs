//! A clone's word at its first boot: sent to every address of the server until one answers, for a bounded
//! time.
//!
//! Plain blocking sockets: the program that does it is small and does nothing else. Message:
//! `ka_proto::discovery::Beacon`; the server's side is `crate::discovery`.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use ka_mac::MacAddr;
use ka_proto::discovery::{BEACON_ACK_LEN, Beacon, BeaconAck, BeaconToken};
use ka_proto::{NodeId, NodeName};

use crate::error::TransportError;
use crate::stream::link::fresh_nonce;

/// Longest time in which a clone repeats its beacon. A server that waits hears it in the first seconds. A
/// server that does not wait any more must not have machines call for it all day.
pub const BEACON_LIMIT: Duration = Duration::from_secs(120);
/// First pause between two tries, doubled up to [`LONGEST_PAUSE`]: the network may still be coming up.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// One byte more than an answer, so that a longer one is seen to be too long.
const BUFFER_LEN: usize = BEACON_ACK_LEN + 1;

/// Reports to each of `addrs` that `node` has booted, until one answers or `limit` is over. Returns true if
/// one did.
///
/// # Errors
/// The kernel has no random bytes or no socket at all. A network that cannot send yet is no error: the send
/// is tried again.
pub fn announce(
    addrs: &[SocketAddr],
    token: &BeaconToken,
    (node, name, mac): (NodeId, &NodeName, Option<MacAddr>),
    limit: Duration,
) -> Result<bool, TransportError> {
    let beacon = Beacon {
        node,
        name: name.clone(),
        mac,
        nonce: fresh_nonce().map_err(|_| TransportError::Random)?,
    };
    let datagram = beacon.encode(token);
    let sockets = sockets(addrs)?;
    let until = Instant::now() + limit;
    let mut pause = FIRST_PAUSE;
    loop {
        for addr in addrs {
            let socket = sockets.iter().find(|(is_v4, _)| *is_v4 == addr.is_ipv4());
            if let Some((_, socket)) = socket {
                // No route yet, no address yet: the next try may have one.
                socket.send_to(&datagram, addr).ok();
            }
        }
        let next = (Instant::now() + pause).min(until);
        while Instant::now() < next {
            if heard(&sockets, token, &beacon, next)? {
                return Ok(true);
            }
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn sockets(addrs: &[SocketAddr]) -> Result<Vec<(bool, UdpSocket)>, TransportError> {
    let mut sockets = Vec::new();
    for is_v4 in [true, false] {
        if !addrs.iter().any(|addr| addr.is_ipv4() == is_v4) {
            continue;
        }
        let any: IpAddr = if is_v4 {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        sockets.push((
            is_v4,
            UdpSocket::bind((any, 0)).map_err(TransportError::system("opening a socket"))?,
        ));
    }
    Ok(sockets)
}

/// Listens until `next` at the latest. The answer may come from another port or address than was asked: the
/// token proves whose it is.
fn heard(
    sockets: &[(bool, UdpSocket)],
    token: &BeaconToken,
    beacon: &Beacon,
    next: Instant,
) -> Result<bool, TransportError> {
    let share = u32::try_from(sockets.len().max(1)).unwrap_or(1);
    // Zero would mean for ever.
    let time = (next.saturating_duration_since(Instant::now()) / share).max(Duration::from_millis(1));
    if sockets.is_empty() {
        std::thread::sleep(time);
    }
    for (_, socket) in sockets {
        let listening = TransportError::system("listening for the server's answer");
        socket.set_read_timeout(Some(time)).map_err(&listening)?;
        let mut buffer = [0; BUFFER_LEN];
        match socket.recv_from(&mut buffer) {
            Ok((len, _)) if BeaconAck::answers(&buffer[..len], token, beacon) => return Ok(true),
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock
                        | ErrorKind::TimedOut
                        | ErrorKind::Interrupted
                        | ErrorKind::ConnectionRefused
                ) => {}
            Err(error) => return Err(listening(error)),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: BeaconToken = [7; 32];

    fn announce_to(addrs: &[SocketAddr], limit: Duration) -> bool {
        let name = NodeName::new("n101").unwrap();
        announce(addrs, &TOKEN, (NodeId(3), &name, None), limit).unwrap()
    }

    #[test]
    fn nobody_there_is_given_up_in_time() {
        let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let began = Instant::now();
        assert!(!announce_to(&[closed], Duration::from_millis(800)));
        assert!(!announce_to(&[], Duration::from_millis(100)));
        assert!(began.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn it_is_said_again_until_the_right_answer_comes() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = server.local_addr().unwrap();
        let answering = std::thread::spawn(move || {
            let mut buffer = [0; 200];
            // The first one is lost, the second is answered by a stranger first.
            server.recv_from(&mut buffer).unwrap();
            let (len, from) = server.recv_from(&mut buffer).unwrap();
            let beacon = Beacon::decode(&buffer[..len], &TOKEN).unwrap();
            let nonce = beacon.nonce;
            server
                .send_to(&BeaconAck { nonce }.encode(&[8; 32]), from)
                .unwrap();
            server.send_to(&BeaconAck { nonce }.encode(&TOKEN), from).unwrap();
            beacon
        });
        assert!(announce_to(&[addr], Duration::from_secs(20)));
        let beacon = answering.join().unwrap();
        assert_eq!((beacon.node, beacon.name.as_str()), (NodeId(3), "n101"));
    }
}
