//! The options of `ka-server` about booting nodes from the network, and about their first boot from their own
//! disk.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ka_cli::time::seconds_up_to;
use ka_pxe::DhcpMode;

/// Longest `--wait-boot`: one day. An operator looks after machines that need longer.
const MAX_WAIT_BOOT: Duration = Duration::from_secs(24 * 3600);

fn longest_wait_boot(text: &str) -> Result<Duration, String> {
    seconds_up_to(text, MAX_WAIT_BOOT)
}

/// Options about booting nodes. None of them means anything when a stream of the operator's own is sent.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Booting nodes from the network")]
pub(crate) struct BootOptions {
    /// Be the boot server too, on interface IFACE and no other: machines boot this machine's kernel into a clone
    #[arg(long, value_name = "IFACE")]
    pub(crate) pxe: Option<String>,

    #[command(flatten)]
    pub(crate) dhcp: DhcpOptions,

    /// The nodes, one a line: MAC NAME, then ADDRESS and disk=DRIVE=DEVICE if wanted. Listing a machine arms it: it
    /// boots into a clone, once. A NAME in square brackets on a line of its own begins a group of nodes on one switch,
    /// which stand together in the chain. Without -n, waits for all of them
    #[arg(long = "nodes", value_name = "FILE", requires = "pxe")]
    pub(crate) node_list: Option<PathBuf>,

    /// Which machines boot into a clone beside those listed for the first time
    #[arg(long, value_name = "WHICH", value_enum, default_value_t, requires = "pxe")]
    pub(crate) arm: ArmWhich,

    #[command(flatten)]
    pub(crate) images: ImageOptions,

    #[command(flatten)]
    pub(crate) first_boot: FirstBootOptions,
}

/// Options about the machines' addresses.
#[derive(Debug, Clone, Args)]
pub(crate) struct DhcpOptions {
    /// Who gives addresses: full:FIRST-LAST, we do, and no other DHCP server may be there; proxy, another server does, and
    /// we only say what to boot; off, another server does both
    #[arg(
        id = "dhcp",
        long = "dhcp",
        value_name = "MODE",
        default_value = "off",
        requires = "pxe"
    )]
    pub(crate) mode: DhcpMode,

    /// With --dhcp full: default router to tell
    #[arg(long, value_name = "ADDR", requires = "pxe")]
    pub(crate) router: Option<Ipv4Addr>,

    /// With --dhcp full: name server to tell (repeatable)
    #[arg(long, value_name = "ADDR", requires = "pxe")]
    pub(crate) dns: Vec<Ipv4Addr>,

    /// With --dhcp full: domain name to tell
    #[arg(long, value_name = "NAME", requires = "pxe")]
    pub(crate) domain: Option<String>,
}

/// Options about the programs and images that machines load.
#[derive(Debug, Clone, Args)]
pub(crate) struct ImageOptions {
    /// Directory with boot programs (pxelinux, iPXE, GRUB, shim), looked into before those of the system's packages
    #[arg(long, value_name = "DIR", requires = "pxe")]
    pub(crate) boot_files: Option<PathBuf>,

    /// Kernel that nodes boot, one of those installed here [default: the newest]
    #[arg(long, value_name = "RELEASE", requires = "pxe")]
    pub(crate) kernel: Option<String>,

    /// Network drivers in the first boot image, 'e1000e,igb' [default: all of them]
    #[arg(long, value_name = "MODULES", value_delimiter = ',', requires = "pxe")]
    pub(crate) stage1_drivers: Option<Vec<String>>,

    /// The static ka-client that becomes the nodes' first program [default: the one installed beside ka-server]
    #[arg(long, value_name = "FILE", requires = "pxe")]
    pub(crate) client: Option<PathBuf>,

    /// More words for the nodes' kernel command line: 'console=ttyS0,115200'
    #[arg(long, value_name = "TEXT", requires = "pxe", allow_hyphen_values = true)]
    pub(crate) append: Option<String>,

    /// Send FILE, made by ka-initrd, as the tools of nodes that were booted from the network [default with --pxe: made
    /// from this machine's own]
    #[arg(long, value_name = "FILE")]
    pub(crate) stage2: Option<PathBuf>,
}

/// Options about the clones' identity and their first boot from their own disk.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct FirstBootOptions {
    /// Leave the clones the golden node's host name, machine-id, SSH host keys and all else that tells machines apart
    #[arg(long)]
    pub(crate) keep_identity: bool,

    /// Name devices in the clones' fstab, crypttab and kernel command line as the kernel does (/dev/sda2), where the golden
    /// node does; else such names become UUIDs, which last
    #[arg(long)]
    pub(crate) kernel_names: bool,

    /// After the release, wait TIME (10m; a bare number is seconds) for the clones to be seen again, booted from their own
    /// disk [default: 10m with --pxe, else 0]
    #[arg(long, value_name = "TIME", value_parser = longest_wait_boot)]
    pub(crate) wait_boot: Option<Duration>,

    /// Leave no unit in the clones that tells us of their first boot; only their DHCP requests do
    #[arg(long)]
    pub(crate) no_beacon: bool,
}

/// Options of [`BootOptions`] that the generic mode refuses: all of them. Options that need `--pxe` are
/// listed, too, because clap does not require `--pxe` in a mode that refuses it.
pub(super) const BOOT_CLONE_ONLY: [&str; 17] = [
    "pxe",
    "stage2",
    "keep_identity",
    "kernel_names",
    "wait_boot",
    "no_beacon",
    "dhcp",
    "router",
    "dns",
    "domain",
    "node_list",
    "arm",
    "boot_files",
    "kernel",
    "stage1_drivers",
    "client",
    "append",
];

/// Machines that are armed beside those that the node list names for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ArmWhich {
    /// None.
    #[default]
    None,
    /// Those of the node list again that were cloned before.
    Listed,
    /// The next -n machines that ask, whoever they are.
    All,
}
