//! Configuration by the embedding program: interface, services, files, armed machines, kernel command line.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use ka_dhcp::METHOD_WORD;
use ka_mac::MacAddr;

use crate::dhcp::DhcpMode;
use crate::nodes::NodeEntry;
pub use crate::ports::{HTTP_PORT, TFTP_PORT};
use crate::programs::Programs;
use crate::served::Served;

/// Default time that a menu waits for a key: `TIMEOUT 50` of the original's menu, in tenths of a second.
pub const MENU_TIMEOUT: Duration = Duration::from_secs(5);
/// Default directory for the arming state and the leases.
pub const STATE_DIR: &str = "/var/lib/ka";

/// Extra words on the kernel command line of one machine.
pub type PerMachine = Box<dyn Fn(&MacAddr, Option<&NodeEntry>) -> String + Send + Sync>;

/// Settings of a boot server at its start.
pub struct BootConfig {
    /// The interface it serves, and no other: `eth1`.
    pub iface: String,
    /// DHCP mode: it says which server gives addresses.
    pub dhcp: DhcpMode,
    /// UDP port of TFTP.
    pub tftp_port: u16,
    /// TCP port of HTTP.
    pub http_port: u16,
    /// Directory for leases and arming state, which survive a restart.
    pub state_dir: PathBuf,
    /// Machines known by name. Listing a machine arms it.
    pub nodes: Vec<NodeEntry>,
    /// Machines that are armed besides those of the list.
    pub arm: Arm,
    /// The boot programs. `None` means those of the system's packages, looked up at the start.
    pub programs: Option<Programs>,
    /// The kernel of the entry `kamethod`.
    pub kernel: Served,
    /// Its initrds, in order.
    pub initrds: Vec<Served>,
    /// Kernel command line of every machine. The word `kamethod` is put in front if it is missing.
    pub append: String,
    /// Boot loaders that `local` tries before those of all distributions, as paths on an EFI system
    /// partition: `/EFI/rocky/shimx64.efi`.
    pub loaders: Vec<String>,
    /// Further words for one machine, appended to `append`. [`crate::nodes::command_line`] gives those of the
    /// node list.
    pub per_machine: PerMachine,
    /// Time that the menu waits for a key.
    pub timeout: Duration,
}

impl BootConfig {
    /// A configuration with all defaults: no DHCP, no machine armed, the words of the node list on each
    /// command line.
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
            append: METHOD_WORD.to_owned(),
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

/// Machines that are armed besides those of the node list and of `ka-pxe arm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arm {
    /// No further machine.
    #[default]
    None,
    /// The next machines that ask, up to this number.
    All(u32),
}
