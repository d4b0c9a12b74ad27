//! What can go wrong with the boot server, one variant per thing the caller can do about it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the boot server does not start, or cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum PxeError {
    /// There is no such network interface.
    #[error("no network interface `{iface}`; there are {known}")]
    UnknownInterface {
        /// What was asked for.
        iface: String,
        /// What there is.
        known: String,
    },
    /// The interface has no IPv4 address that machines could be told.
    #[error(
        "interface `{iface}` has no IPv4 address; give it one (ip addr add ADDRESS/PREFIX dev {iface}), or name another interface"
    )]
    NoAddress {
        /// The interface.
        iface: String,
    },
    /// Another program has the port.
    #[error("{service} port {addr} is in use by another program (ss -lnp sport = :{port} names it); end it{}", option.map(|option| format!(", or choose another port with {option}")).unwrap_or_default(), port = addr.port())]
    PortInUse {
        /// `TFTP` or `HTTP`.
        service: &'static str,
        /// Where.
        addr: SocketAddr,
        /// The option of `ka-pxe` that changes it; none where there is no such option.
        option: Option<&'static str>,
    },
    /// The interface is down.
    #[error("interface `{iface}` is down; bring it up (ip link set {iface} up), or name another interface")]
    InterfaceDown {
        /// The interface.
        iface: String,
    },
    /// Ports below 1024 and raw sockets need root.
    #[error("opening {service} port {addr}: permission denied; run it as root")]
    NotRoot {
        /// `TFTP` or `HTTP`.
        service: &'static str,
        /// Where.
        addr: SocketAddr,
    },
    /// No boot program at all, for no kind of machine.
    #[error(
        "no boot program is installed: {missing}; install one of these packages, or name a directory that has them with --boot-files DIR"
    )]
    NoBootPrograms {
        /// File and package of each.
        missing: String,
    },
    /// A setting has a value that cannot work.
    #[error("{option}: {text}")]
    Setting {
        /// The option that sets it.
        option: &'static str,
        /// What is wrong with it, and what to do.
        text: String,
    },
    /// DHCP cannot be served.
    #[error(transparent)]
    Dhcp(#[from] crate::dhcp::DhcpError),
    /// The list of nodes has a fault.
    #[error("{0}")]
    Nodes(#[from] crate::nodes::NodesError),
    /// Who is armed cannot be read or kept.
    #[error("who is armed: {doing} {path}: {source}", path = path.display())]
    State {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file cannot be served.
    #[error("{doing} {path}: {source}", path = path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The operating system refuses something else.
    #[error("{doing}: {source}")]
    System {
        /// What was being done.
        doing: String,
        /// Why not.
        source: io::Error,
    },
}

impl PxeError {
    /// The same, said by a program that has no options for the ports.
    #[must_use]
    pub fn without_option(mut self) -> Self {
        if let Self::PortInUse { option, .. } = &mut self {
            *option = None;
        }
        self
    }

    /// What keeps a service from its port.
    pub(crate) fn of_port(
        service: &'static str,
        addr: SocketAddr,
        option: &'static str,
        source: io::Error,
    ) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::PortInUse {
                service,
                addr,
                option: Some(option),
            },
            io::ErrorKind::PermissionDenied => Self::NotRoot { service, addr },
            _ => Self::System {
                doing: format!("opening {service} port {addr}"),
                source,
            },
        }
    }
}
