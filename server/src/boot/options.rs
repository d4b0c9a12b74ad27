//! The options of `ka-server` about booting nodes from the network, and about their first boot from their own disk.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use ka_pxe::DhcpMode;

/// Longest `--wait-boot`, in seconds: a day. Machines that need longer are looked after by people.
const MAX_WAIT_BOOT_SECS: u64 = 24 * 3600;

/// Options about booting nodes. None of them means anything when a stream of the operator's own is sent.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Booting nodes from the network")]
pub(crate) struct BootOptions {
    /// Be the boot server too, on interface IFACE and no other: machines boot this machine's kernel into a clone
    #[arg(long, value_name = "IFACE")]
    pub(crate) pxe: Option<String>,

    /// Who gives addresses: full:FIRST-LAST, we do, and no other DHCP server may be there; proxy, another server does, and
    /// we only say what to boot; off, another server does both
    #[arg(long, value_name = "MODE", default_value = "off", requires = "pxe")]
    pub(crate) dhcp: DhcpMode,

    /// With --dhcp full: default router to tell
    #[arg(long, value_name = "ADDR", requires = "pxe")]
    pub(crate) router: Option<Ipv4Addr>,

    /// With --dhcp full: name server to tell (repeatable)
    #[arg(long, value_name = "ADDR", requires = "pxe")]
    pub(crate) dns: Vec<Ipv4Addr>,

    /// With --dhcp full: domain name to tell
    #[arg(long, value_name = "NAME", requires = "pxe")]
    pub(crate) domain: Option<String>,

    /// The nodes, one a line: MAC NAME, then ADDRESS and disk=DRIVE=DEVICE if wanted. Listing a machine arms it: it
    /// boots into a clone, once. Without -n, waits for all of them
    #[arg(long = "nodes", value_name = "FILE", requires = "pxe")]
    pub(crate) node_list: Option<PathBuf>,

    /// Which machines boot into a clone beside those listed for the first time
    #[arg(long, value_name = "WHICH", value_enum, default_value_t, requires = "pxe")]
    pub(crate) arm: ArmWhich,

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

    /// Leave the clones the golden node's host name, machine-id, SSH host keys and all else that tells machines apart
    #[arg(long)]
    pub(crate) keep_identity: bool,

    /// Name devices in the clones' fstab, crypttab and kernel command line as the kernel does (/dev/sda2), where the golden
    /// node does; else such names become UUIDs, which last
    #[arg(long)]
    pub(crate) kernel_names: bool,

    /// After the release, wait SECS for the clones to be seen again, booted from their own disk [default: 600 with --pxe,
    /// else 0]
    #[arg(long, value_name = "SECS", value_parser = RangedU64ValueParser::<u64>::new().range(..=MAX_WAIT_BOOT_SECS))]
    pub(crate) wait_boot: Option<u64>,

    /// Leave no unit in the clones that tells us of their first boot; only their DHCP requests do
    #[arg(long)]
    pub(crate) no_beacon: bool,
}

/// What of [`BootOptions`] the generic mode refuses: all of it. An option that needs `--pxe` is named here, too: clap asks for
/// no `--pxe` where that cannot be given.
pub(crate) const BOOT_CLONE_ONLY: [&str; 17] = [
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

/// Which machines are armed beside those that the node list names for the first time.
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
