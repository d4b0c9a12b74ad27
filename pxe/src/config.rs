//! What the embedder decides: interface, services, files, who is armed, the kernel's command line.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::dhcp::DhcpMode;
use crate::machine::MacAddr;
use crate::nodes::NodeEntry;
use crate::programs::Programs;

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
    /// The boot programs. `None`: those of the system's packages, looked for at the start.
    pub programs: Option<Programs>,
    /// The kernel of the entry `kamethod`.
    pub kernel: Served,
    /// Its initrds, in order.
    pub initrds: Vec<Served>,
    /// The kernel command line of every machine. The word `kamethod` is put in front where it is not in it.
    pub append: String,
    /// Boot loaders that `local` looks for before those of all distributions, as paths on an EFI system partition:
    /// `/EFI/rocky/shimx64.efi`.
    pub loaders: Vec<String>,
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
            programs: None,
            kernel,
            initrds: Vec::new(),
            append: "kamethod".to_owned(),
            loaders: Vec::new(),
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

/// Who is armed beside the machines of the node list and those of `ka-pxe arm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arm {
    /// Nobody.
    #[default]
    None,
    /// The next machines that ask, so many of them.
    All(u32),
}
