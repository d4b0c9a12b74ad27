//! What the embedder decides: interface, services, files, who is armed, the kernel's command line.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::machine::MacAddr;
use crate::nodes::NodeEntry;

/// RFC 1350's port. ROMs know no other.
pub const TFTP_PORT: u16 = 69;
/// HTTP's own port: GRUB's `http` and some UEFI firmware know no other.
pub const HTTP_PORT: u16 = 80;
/// How long a menu waits for a key by default: the seed's `TIMEOUT 50`, in tenths of a second.
pub const MENU_TIMEOUT: Duration = Duration::from_secs(5);
/// Where who is armed is kept by default.
pub const STATE_DIR: &str = "/var/lib/ka";

/// Extra words on the kernel command line of one machine.
pub type PerMachine = Box<dyn Fn(&MacAddr, Option<&NodeEntry>) -> String + Send + Sync>;

/// Everything the boot server is told at its start.
pub struct BootConfig {
    /// The interface it serves, and no other: `eth1`.
    pub iface: String,
    /// Who gives addresses.
    pub dhcp: DhcpMode,
    /// UDP port of TFTP.
    pub tftp_port: u16,
    /// TCP port of HTTP.
    pub http_port: u16,
    /// Where leases and who is armed are kept over restarts.
    pub state_dir: PathBuf,
    /// The machines known by name; listing one arms it.
    pub nodes: Vec<NodeEntry>,
    /// Who else is armed.
    pub arm: Arm,
    /// A directory with boot programs, looked into before those of the system's packages.
    pub boot_files: Option<PathBuf>,
    /// The kernel of the entry `kamethod`.
    pub kernel: Served,
    /// Its initrds, in order.
    pub initrds: Vec<Served>,
    /// The kernel command line of every machine. The word `kamethod` is put in front where it is not in it.
    pub append: String,
    /// More words for one machine, behind `append`: [`crate::nodes::command_line`] gives the node list's.
    pub per_machine: PerMachine,
    /// How long the menu waits for a key.
    pub timeout: Duration,
}

impl BootConfig {
    /// A configuration with every default: no DHCP, nobody armed, the node list's words on each command line.
    #[must_use]
    pub fn new(iface: impl Into<String>, kernel: Served) -> Self {
        Self {
            iface: iface.into(),
            dhcp: DhcpMode::Off,
            tftp_port: TFTP_PORT,
            http_port: HTTP_PORT,
            state_dir: PathBuf::from(STATE_DIR),
            nodes: Vec::new(),
            arm: Arm::None,
            boot_files: None,
            kernel,
            initrds: Vec::new(),
            append: "kamethod".to_owned(),
            per_machine: Box::new(|_, node| node.map(crate::nodes::command_line).unwrap_or_default()),
            timeout: MENU_TIMEOUT,
        }
    }
}

impl fmt::Debug for BootConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BootConfig")
            .field("iface", &self.iface)
            .field("dhcp", &self.dhcp)
            .field("state_dir", &self.state_dir)
            .field("nodes", &self.nodes.len())
            .field("arm", &self.arm)
            .field("append", &self.append)
            .finish_non_exhaustive()
    }
}

/// A file that machines may fetch, under a name of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The name it is asked for by: `vmlinuz`.
    pub name: String,
    /// Where its bytes are.
    pub source: Source,
}

/// Where the bytes of a served file are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In a file, opened anew for each transfer.
    Path(PathBuf),
    /// In memory.
    Bytes(Vec<u8>),
}

/// Who gives addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DhcpMode {
    /// We do, from this pool.
    Full(Pool),
    /// Another server does; we only say what to boot.
    Proxy,
    /// Another server does both: its `next-server` and `filename` name us.
    Off,
}

/// The addresses given in `full` mode, and what goes with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// First address given.
    pub first: Ipv4Addr,
    /// Last address given.
    pub last: Ipv4Addr,
    /// How long a lease holds.
    pub lease: Duration,
    /// Default router; none is told when none is given.
    pub router: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Domain name.
    pub domain: Option<String>,
}

impl Pool {
    /// How long a lease holds by default: longer than any clone takes, shorter than a machine room's memory.
    pub const LEASE: Duration = Duration::from_secs(12 * 3600);

    /// A pool with the default lease time and nothing else told.
    #[must_use]
    pub fn new(first: Ipv4Addr, last: Ipv4Addr) -> Self {
        Self {
            first,
            last,
            lease: Self::LEASE,
            router: None,
            dns: Vec::new(),
            domain: None,
        }
    }
}

impl FromStr for DhcpMode {
    type Err = String;

    /// `full:FIRST-LAST`, `proxy` or `off`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "proxy" => return Ok(Self::Proxy),
            "off" => return Ok(Self::Off),
            _ => (),
        }
        let wrong = || format!("`{text}` is none of full:FIRST-LAST, proxy, off");
        let range = text.strip_prefix("full:").ok_or_else(wrong)?;
        let (first, last) = range.split_once('-').ok_or_else(wrong)?;
        let address = |text: &str| -> Result<Ipv4Addr, String> {
            text.parse().map_err(|_| format!("`{text}` is no IPv4 address"))
        };
        let (first, last) = (address(first)?, address(last)?);
        if first > last {
            return Err(format!("the first address {first} is behind the last one {last}"));
        }
        Ok(Self::Full(Pool::new(first, last)))
    }
}

/// Who is armed beside the machines of the node list and those of `ka-pxe arm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arm {
    /// Nobody.
    #[default]
    None,
    /// The next machines that ask, so many of them.
    All(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dhcp_modes_are_read_from_the_option() {
        assert_eq!("proxy".parse(), Ok(DhcpMode::Proxy));
        assert_eq!("off".parse(), Ok(DhcpMode::Off));
        let pool = Pool::new(Ipv4Addr::new(10, 0, 0, 10), Ipv4Addr::new(10, 0, 0, 99));
        assert_eq!("full:10.0.0.10-10.0.0.99".parse(), Ok(DhcpMode::Full(pool)));
        for wrong in [
            "",
            "full",
            "full:",
            "full:10.0.0.1",
            "full:10.0.0.9-10.0.0.1",
            "full:a-b",
            "Proxy",
        ] {
            assert!(wrong.parse::<DhcpMode>().is_err(), "{wrong}");
        }
    }
}
