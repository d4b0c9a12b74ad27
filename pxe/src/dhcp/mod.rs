//! DHCP for machines that boot from the network. In `full` mode this server gives the addresses, in `proxy`
//! mode another server does.
//!
//! `full` is RFC 2131 with relays (RFC 3046, RFC 3527). Options 60, 77, 93 and 175 select the boot file (RFC
//! 4578, PXE 2.1, UEFI HTTP boot). `proxy` answers only firmware, on ports 67 and 4011, and never gives an
//! address.
//!
//! The servers themselves (`full`, `proxy`) are pure: a packet and the time go in, replies and ARP questions
//! come out. `serve` has the sockets; messages, frames and ARP are in `ka_dhcp`. The embedding program
//! decides which machine may boot and how its boot file is called.

mod answer;
mod clock;
mod config;
mod full;
mod iface;
mod lease;
mod prober;
mod proxy;
mod search;
mod serve;
mod store;
#[cfg(test)]
mod tests;
mod vendor;
mod wire;

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use ka_mac::MacAddr;

use crate::machine::Machine;

pub use config::{DhcpConfig, DhcpMode, FullConfig, KnownMachine, Pool, RelayedPool};
pub use iface::{Interface, Subnet};
pub use serve::{Dhcp, serve};
pub(crate) use wire::try_ports;

/// Function that names a machine's boot file: a TFTP name, or a URL if [`Machine::http`] or [`Machine::ipxe`]
/// is set. `None` means no boot file: the machine gets only an address in `full` mode, and no answer in
/// `proxy` mode. Must not block.
pub type BootFileFor = Arc<dyn Fn(&Machine) -> Option<String> + Send + Sync>;

/// Function that receives events. The server's task calls it, so it must not block.
pub type EventSink = Arc<dyn Fn(DhcpEvent) + Send + Sync>;

/// An event of the DHCP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DhcpEvent {
    /// Firmware or iPXE asks for something to boot. Sent again with every repetition of its DISCOVER.
    Asked(Machine),
    /// A machine got an address from this server. Renewals are not reported.
    Leased {
        /// MAC address of the machine.
        mac: MacAddr,
        /// The address that it got.
        address: Ipv4Addr,
    },
    /// An operating system asks for an address on this card: neither firmware nor iPXE nor a node of ours.
    SeenAgain {
        /// MAC address of the card.
        mac: MacAddr,
        /// Vendor class of the system (option 60), if it sends one.
        vendor_class: Option<String>,
        /// Host name of the system (option 12 or 81), if it sends one.
        host_name: Option<String>,
    },
    /// A warning for the operator, one line. The same line is not repeated within a minute.
    Warning(String),
}

/// Reason why DHCP does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum DhcpError {
    /// The interface cannot be served.
    #[error("interface {name} {what}")]
    Interface {
        /// Name of the interface.
        name: String,
        /// The fault, and the remedy.
        what: String,
    },
    /// The configuration contradicts the interface or itself.
    #[error("--dhcp: {0}")]
    Config(String),
    /// Another DHCP server is on the wire. Two servers would give the same address to different machines.
    #[error(
        "another DHCP server, {server}, answers on {iface} (it offers {offered}): stop it, or use --dhcp proxy beside it"
    )]
    OtherServer {
        /// Name of the interface.
        iface: String,
        /// Address of the other server.
        server: Ipv4Addr,
        /// Address that it offered to a made-up card.
        offered: Ipv4Addr,
    },
    /// Another program uses the port.
    #[error(
        "UDP port {port} on {iface} is taken by another program (see: ss -ulpn 'sport = {port}'): stop it, or use --dhcp off"
    )]
    PortTaken {
        /// Name of the interface.
        iface: String,
        /// The UDP port.
        port: u16,
    },
    /// A socket cannot be opened, or failed.
    #[error("{doing} on {iface}: {source}")]
    Socket {
        /// Name of the interface.
        iface: String,
        /// Step that failed, as a gerund: `receiving`.
        doing: &'static str,
        /// Error of the kernel.
        source: io::Error,
    },
    /// The lease file of the last run cannot be read, or a new one cannot be written.
    #[error("lease file {}: {what}", path.display())]
    Leases {
        /// Path of the lease file.
        path: PathBuf,
        /// The fault, and the remedy.
        what: String,
    },
}

impl DhcpError {
    fn interface(name: &str, what: String) -> Self {
        Self::Interface {
            name: name.to_owned(),
            what,
        }
    }
}
