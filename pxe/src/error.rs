//! Errors of the boot server, one variant for each thing that the caller can do about it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Reason why the boot server does not start, or cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum PxeError {
    /// There is no such network interface.
    #[error("no network interface `{iface}`; there are {known}")]
    UnknownInterface {
        /// Name of the requested interface.
        iface: String,
        /// Names of the existing interfaces.
        known: String,
    },
    /// The interface has no IPv4 address that machines could use as the server's.
    #[error(
        "interface `{iface}` has no IPv4 address; give it one (ip addr add ADDRESS/PREFIX dev {iface}), or name another interface"
    )]
    NoAddress {
        /// Name of the interface.
        iface: String,
    },
    /// Another program uses the port.
    #[error("{service} port {addr} is in use by another program (ss -lnp sport = :{port} names it); end it{}", option.map(|option| format!(", or choose another port with {option}")).unwrap_or_default(), port = addr.port())]
    PortInUse {
        /// Service of the port: `TFTP` or `HTTP`.
        service: &'static str,
        /// Address and port.
        addr: SocketAddr,
        /// Option of `ka-pxe` that changes the port. `None` if the program has no such option.
        option: Option<&'static str>,
    },
    /// The interface is down.
    #[error("interface `{iface}` is down; bring it up (ip link set {iface} up), or name another interface")]
    InterfaceDown {
        /// Name of the interface.
        iface: String,
    },
    /// The program lacks the right to open ports below 1024 and raw sockets.
    #[error("opening {service} port {addr}: permission denied; run it as root")]
    NotRoot {
        /// Service of the port: `TFTP` or `HTTP`.
        service: &'static str,
        /// Address and port.
        addr: SocketAddr,
    },
    /// No kind of machine has a complete set of boot programs.
    #[error(
        "no boot program is installed: {missing}; install one of these packages, or name a directory that has them with --boot-files DIR"
    )]
    NoBootPrograms {
        /// Missing files, each with its package.
        missing: String,
    },
    /// A setting has a value that cannot work.
    #[error("{option}: {text}")]
    Setting {
        /// Option that sets it.
        option: &'static str,
        /// The fault, and the remedy.
        text: String,
    },
    /// The DHCP service does not start, or ended.
    #[error(transparent)]
    Dhcp(#[from] crate::dhcp::DhcpError),
    /// The list of nodes has a fault.
    #[error("{0}")]
    Nodes(#[from] NodesError),
    /// The arming state cannot be read or written.
    #[error("who is armed: {doing} {path}: {source}", path = path.display())]
    State {
        /// Step that failed, as a gerund: `reading`.
        doing: &'static str,
        /// Path of the state file or its directory.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A file cannot be served.
    #[error("{doing} {path}: {source}", path = path.display())]
    File {
        /// Step that failed, as a gerund: `opening`.
        doing: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The operating system refuses any other step.
    #[error("{doing}: {source}")]
    System {
        /// Step that failed, as a gerund.
        doing: String,
        /// Error of the operating system.
        source: io::Error,
    },
}

impl PxeError {
    /// Removes the option from the error, for a program that has no options for the ports.
    #[must_use]
    pub fn without_option(mut self) -> Self {
        if let Self::PortInUse { option, .. } = &mut self {
            *option = None;
        }
        self
    }

    /// Converts an error of opening a service's port.
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

/// Fault of a node list.
#[derive(Debug, thiserror::Error)]
pub enum NodesError {
    /// The file cannot be read.
    #[error("reading the node list {path}: {source}", path = path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A line is wrong.
    #[error("{path}:{line}: {text}", path = path.display())]
    Line {
        /// Path of the file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// The fault, and the right form.
        text: String,
    },
}
