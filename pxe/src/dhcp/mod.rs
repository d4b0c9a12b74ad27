//! DHCP for machines that boot from the network: `full` (we give addresses), or `proxy` (another server does).
//!
//! `full` is RFC 2131 with relays (RFC 3046, RFC 3527); the boot file is chosen by options 60, 77, 93, 175 (RFC 4578,
//! PXE 2.1, UEFI HTTP boot). `proxy` answers firmware only, on ports 67 and 4011, and never gives an address.
//!
//! The servers themselves (`full`, `proxy`) are pure: a packet and the time in, replies and questions out. `serve`
//! has the sockets. What a boot file is called, and who may boot, is not decided here: the caller's function says.

mod answer;
mod arp;
mod clock;
mod codec;
mod config;
mod frame;
mod full;
mod iface;
mod lease;
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

use crate::machine::{MacAddr, Machine};

pub use config::{DhcpConfig, DhcpMode, FullConfig, KnownMachine, Pool, RelayedPool};
pub use iface::{Interface, Subnet};
pub use serve::{Dhcp, serve};
pub use vendor::NODE_CLASS;
pub(crate) use wire::try_ports;

/// Names what a machine is to load: a TFTP name, or a URL where [`Machine::http`] or [`Machine::ipxe`] is set. `None`:
/// nothing; the machine gets an address in `full` mode, and no answer in `proxy` mode. Must not wait.
pub type BootFileFor = Arc<dyn Fn(&Machine) -> Option<String> + Send + Sync>;

/// Takes what happens. Called from the server's task: must not wait.
pub type EventSink = Arc<dyn Fn(DhcpEvent) + Send + Sync>;

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DhcpEvent {
    /// Firmware or iPXE looks for something to boot. Comes again with every repetition of its DISCOVER.
    Asked(Machine),
    /// A machine has an address of ours; renewals are not told.
    Leased {
        /// Whose.
        mac: MacAddr,
        /// Which.
        address: Ipv4Addr,
    },
    /// An operating system (no firmware, not iPXE, not our own node) speaks DHCP on this card.
    SeenAgain {
        /// The card.
        mac: MacAddr,
        /// What it calls itself (option 60), if anything.
        vendor_class: Option<String>,
        /// Its host name (option 12 or 81), if it says one.
        host_name: Option<String>,
    },
    /// Something that the operator should know; one line. The same line is not repeated within a minute.
    Warning(String),
}

/// Why DHCP does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum DhcpError {
    /// The interface cannot be served.
    #[error("interface {name} {what}")]
    Interface {
        /// Its name.
        name: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// The configuration contradicts the interface or itself.
    #[error("--dhcp: {0}")]
    Config(String),
    /// Two servers on one wire give the same addresses to different machines.
    #[error(
        "another DHCP server, {server}, answers on {iface} (it offers {offered}): stop it, or use --dhcp proxy beside it"
    )]
    OtherServer {
        /// The interface.
        iface: String,
        /// Its address.
        server: Ipv4Addr,
        /// What it offered to a machine that does not exist.
        offered: Ipv4Addr,
    },
    /// The port belongs to another program.
    #[error(
        "UDP port {port} on {iface} is taken by another program (see: ss -ulpn 'sport = {port}'): stop it, or use --dhcp off"
    )]
    PortTaken {
        /// The interface.
        iface: String,
        /// The port.
        port: u16,
    },
    /// A socket cannot be made or fails.
    #[error("{doing} on {iface}: {source}")]
    Socket {
        /// The interface.
        iface: String,
        /// What was tried.
        doing: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
    /// The leases of the last run cannot be read, or new ones cannot be kept.
    #[error("lease file {}: {what}", path.display())]
    Leases {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
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
