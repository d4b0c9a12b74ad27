//! State, IPv4 addresses and default route of interfaces, by rtnetlink(7), because the boot image has no `ip`
//! program. Requests are plain bytes; each waits for the kernel's answer.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::HostError;

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
const IFF_UP: u32 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const AF_INET: u8 = 2;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RTN_UNICAST: u8 = 1;
/// The gateway need not lie within the interface's own network (hosting networks with /32 addresses).
const RTNH_F_ONLINK: u32 = 4;
/// Time limit of an answer in seconds. The kernel answers from within sendto(2); the limit prevents a hang.
const ANSWER_LIMIT_S: i64 = 5;
const HEADER_BYTES: usize = 16;

/// Brings the interface up; without that, its carrier is unknown.
///
/// # Errors
/// [`HostError`] naming the interface.
pub fn set_up(name: &str, index: u32) -> Result<(), HostError> {
    let mut body = vec![0u8; 4];
    body.extend(index.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    request(RTM_NEWLINK, 0, &body).map_err(|error| HostError::new(format!("bringing {name} up"), error))
}

/// Gives the interface an address; an address that it has already is no error.
///
/// # Errors
/// [`HostError`] naming interface and address.
pub fn add_address(name: &str, index: u32, addr: Ipv4Addr, prefix: u8) -> Result<(), HostError> {
    let body = address_body(index, addr, prefix);
    request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &body)
        .map_err(|error| HostError::new(format!("giving {name} the address {addr}/{prefix}"), error))
}

/// Makes `gateway`, behind the interface, the default route, and replaces an earlier one.
///
/// # Errors
/// [`HostError`] naming interface and gateway.
pub fn set_default_route(name: &str, index: u32, gateway: Ipv4Addr) -> Result<(), HostError> {
    let mut body = vec![
        AF_INET,
        0,
        0,
        0,
        RT_TABLE_MAIN,
        RTPROT_BOOT,
        RT_SCOPE_UNIVERSE,
        RTN_UNICAST,
    ];
    body.extend(RTNH_F_ONLINK.to_ne_bytes());
    attribute(&mut body, RTA_GATEWAY, &gateway.octets());
    attribute(&mut body, RTA_OIF, &index.to_ne_bytes());
    request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &body)
        .map_err(|error| HostError::new(format!("setting the default route {gateway} on {name}"), error))
}

/// Returns `struct ifaddrmsg` and its attributes.
fn address_body(index: u32, addr: Ipv4Addr, prefix: u8) -> Vec<u8> {
    let mut body = vec![AF_INET, prefix, 0, RT_SCOPE_UNIVERSE];
    body.extend(index.to_ne_bytes());
    attribute(&mut body, IFA_LOCAL, &addr.octets());
    attribute(&mut body, IFA_ADDRESS, &addr.octets());
    // Point-to-point prefixes have no broadcast address (RFC 3021).
    if prefix < 31 {
        let host_bits = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
        let broadcast = Ipv4Addr::from_bits(addr.to_bits() | host_bits);
        attribute(&mut body, IFA_BROADCAST, &broadcast.octets());
    }
    body
}

/// Appends a `struct rtattr` with a value of four bytes. All attributes here have that length, so none needs
/// padding.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8; 4]) {
    body.extend(8u16.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
}

/// Sends one request and waits for the kernel's answer.
fn request(kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    const SEQUENCE: u32 = 1;
    let socket = open()?;
    let length = u32::try_from(HEADER_BYTES + body.len()).map_err(io::Error::other)?;
    let mut message = Vec::with_capacity(HEADER_BYTES + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
    message.extend(SEQUENCE.to_ne_bytes());
    message.extend(0u32.to_ne_bytes());
    message.extend(body);
    sendto(
        socket.as_raw_fd(),
        &message,
        &NetlinkAddr::new(0, 0),
        MsgFlags::empty(),
    )?;
    let mut answer = [0u8; 4096];
    let received = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    read_answer(&answer[..received])
}

fn open() -> io::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    setsockopt(
        &socket,
        sockopt::ReceiveTimeout,
        &TimeVal::seconds(ANSWER_LIMIT_S),
    )?;
    Ok(socket)
}

/// Reads `struct nlmsgerr`: a negative error number, or 0 for success.
fn read_answer(answer: &[u8]) -> io::Result<()> {
    let short = || io::Error::other("the kernel's answer is too short");
    let kind = answer.get(4..6).ok_or_else(short)?;
    let code = answer.get(HEADER_BYTES..HEADER_BYTES + 4).ok_or_else(short)?;
    if u16::from_ne_bytes([kind[0], kind[1]]) != NLMSG_ERROR {
        return Err(io::Error::other("the kernel answered with something else"));
    }
    match i32::from_ne_bytes([code[0], code[1], code[2], code[3]]) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error.saturating_neg())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netif;

    /// The test thread has a network namespace of its own: nothing of the machine's is touched.
    #[test]
    fn loopback_comes_up_and_takes_an_address_and_a_default_route() {
        let inside = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            // On loopback, every address of a wider network would be local, and none could be a gateway.
            let addr = Ipv4Addr::new(10, 9, 8, 7);
            set_up("lo", 1).unwrap();
            add_address("lo", 1, addr, 32).unwrap();
            add_address("lo", 1, addr, 32).unwrap();
            let has = || netif::addresses().unwrap().iter().any(|entry| entry.addr == addr);
            assert!(has());
            set_default_route("lo", 1, Ipv4Addr::new(10, 9, 8, 1)).unwrap();
            set_default_route("lo", 1, Ipv4Addr::new(172, 31, 0, 1)).unwrap();
            let error = set_up("nonesuch", 4711).unwrap_err();
            assert!(error.to_string().contains("nonesuch"), "{error}");
        });
        inside.join().unwrap();
    }

    #[test]
    fn the_broadcast_address_is_the_networks_last() {
        let body = address_body(2, Ipv4Addr::new(10, 0, 1, 9), 22);
        assert_eq!(body[body.len() - 4..], [10, 0, 3, 255]);
        assert_eq!(address_body(2, Ipv4Addr::new(10, 0, 1, 9), 32).len(), 8 + 16);
    }
}
