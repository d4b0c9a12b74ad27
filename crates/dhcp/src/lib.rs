//! DHCP on the wire, shared by the server (`ka-pxe`) and the node's client (`ka-dhcpc`). The crate has
//! messages, the frames around them, ARP, and the words by which a node and its boot server recognize each
//! other.
//!
//! [`Packet`] is a received message, [`Outgoing`] is a message to be sent. Both use `dhcproto`, whose types
//! name options and messages ([`DhcpOption`], [`MessageType`], [`OptionCode`]), and both pass it only checked
//! data. No input from the wire causes a panic. This crate has no sockets, no clocks, no leases, and no
//! decisions about answers: those belong to the server and the client.

pub mod arp;
pub mod frame;
mod node;
mod options;
mod outgoing;
mod packet;
#[cfg(test)]
mod tests;

pub use dhcproto::v4::{DhcpOption, MessageType, OptionCode};

pub use node::{METHOD_WORD, NODE_CLASS};
pub use options::sub_option;
pub use outgoing::{MAX_FILE, Outgoing};
pub use packet::{BadPacket, Packet};

/// UDP port of servers (RFC 2131 §4.1).
pub const SERVER_PORT: u16 = 67;
/// UDP port of clients (RFC 2131 §4.1).
pub const CLIENT_PORT: u16 = 68;
