//! The command line of `ka-pxe`: options and their meaning. Nothing is done yet.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ka_cli::time::bounded_time;
use ka_mac::MacAddr;
use ka_pxe::Form;
use ka_pxe::config::{HTTP_PORT, STATE_DIR, TFTP_PORT};
use ka_pxe::dhcp::DhcpMode;

/// Longest time that a menu waits. With a longer wait a machine seems never to boot.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);
/// Unit of a bare number, and the shortest time that a menu can say.
const SECOND: Duration = Duration::from_secs(1);
/// No lease is longer than its field says; the bounds of a sensible one are in `ka_pxe::dhcp`.
const MAX_LEASE: Duration = Duration::from_secs(u32::MAX as u64);

fn menu_timeout(text: &str) -> Result<Duration, String> {
    bounded_time(text, SECOND, SECOND..=MAX_TIMEOUT)
}

fn lease_time(text: &str) -> Result<Duration, String> {
    bounded_time(text, SECOND, Duration::ZERO..=MAX_LEASE)
}

/// Boot machines from the network: DHCP or proxyDHCP, TFTP, HTTP and the menu, on one interface.
///
/// A machine boots `kamethod` by itself only when it is armed: listed in --nodes, armed by `ka-pxe arm`, or
/// one of the next machines under --arm all. Every other machine boots `local`, its own disk.
#[derive(Debug, Clone, Parser)]
#[command(name = "ka-pxe", version)]
#[command(after_help = "Exit codes: 0 done; 1 not done; 2 wrong usage.")]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// Serve until Ctrl-C
    Serve(Box<ServeOptions>),
    /// Print the menu that a machine would get
    Menu(Box<MenuOptions>),
    /// Let machines boot kamethod by themselves, until they have finished
    Arm(ArmOptions),
    /// Let machines boot from their disks, also those of --nodes
    Disarm(ArmOptions),
    /// List what is kept of each machine: armed, taken, finished, disarmed
    List(StateOptions),
}

/// Options that decide which machine boots which entry.
#[derive(Debug, Clone, Args)]
pub(crate) struct BootOptions {
    /// Interface to serve, and no other
    #[arg(long, value_name = "IFACE")]
    pub(crate) iface: String,

    /// Machines by name, one line each: MAC NAME [ADDRESS] [disk=DRIVE=DEVICE]. Listing one arms it
    #[arg(long, value_name = "FILE")]
    pub(crate) nodes: Option<PathBuf>,

    /// Who else is armed: none, or all: the next machines, -n of them
    #[arg(long, value_name = "WHO", default_value = "none")]
    pub(crate) arm: ArmWhom,

    /// How many machines --arm all takes
    #[arg(short = 'n', long = "count", value_name = "NUM", value_parser = RangedU64ValueParser::<u32>::new().range(1..=65_535))]
    pub(crate) count: Option<u32>,

    /// Kernel command line of every machine
    #[arg(
        long,
        value_name = "WORDS",
        default_value = ka_pxe::METHOD_WORD,
        allow_hyphen_values = true
    )]
    pub(crate) append: String,

    /// How long the menu waits for a key (1s to 1h; a bare number is seconds)
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = menu_timeout)]
    pub(crate) timeout: Duration,

    /// TCP port of HTTP; GRUB and some firmware know no other than 80
    #[arg(long, value_name = "PORT", default_value_t = HTTP_PORT)]
    pub(crate) http_port: u16,

    #[command(flatten)]
    pub(crate) state: StateOptions,
}

/// The option that names the state directory.
#[derive(Debug, Clone, Args)]
pub(crate) struct StateOptions {
    /// Where leases and who is armed are kept
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
    pub(crate) state_dir: PathBuf,
}

/// Options of `ka-pxe serve`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServeOptions {
    #[command(flatten)]
    pub(crate) boot: BootOptions,

    /// Who gives addresses: full:FIRST-LAST (we do), proxy (another server does), off (another server does
    /// both)
    #[arg(long, value_name = "MODE", default_value = "off")]
    pub(crate) dhcp: DhcpMode,

    /// full: default router to tell
    #[arg(long, value_name = "ADDR")]
    pub(crate) router: Option<Ipv4Addr>,

    /// full: name server to tell (repeatable)
    #[arg(long, value_name = "ADDR")]
    pub(crate) dns: Vec<Ipv4Addr>,

    /// full: domain name to tell
    #[arg(long, value_name = "NAME")]
    pub(crate) domain: Option<String>,

    /// full: how long an address is a machine's (12h; a bare number is seconds) [default: 12h]
    #[arg(long, value_name = "TIME", value_parser = lease_time)]
    pub(crate) lease_time: Option<Duration>,

    /// Kernel of the entry kamethod
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel: PathBuf,

    /// Its initrd (repeatable, in order)
    #[arg(long, value_name = "FILE")]
    pub(crate) initrd: Vec<PathBuf>,

    /// Boot programs are taken from DIR, before those of the system's packages
    #[arg(long, value_name = "DIR")]
    pub(crate) boot_files: Option<PathBuf>,

    /// UDP port of TFTP; firmware knows no other than 69
    #[arg(long, value_name = "PORT", default_value_t = TFTP_PORT)]
    pub(crate) tftp_port: u16,
}

/// Options of `ka-pxe menu`.
#[derive(Debug, Clone, Args)]
pub(crate) struct MenuOptions {
    /// The machine's card
    #[arg(value_name = "MAC")]
    pub(crate) mac: MacAddr,

    /// Only this form [default: all three]
    #[arg(long, value_name = "FORM")]
    pub(crate) form: Option<MenuForm>,

    /// How many initrds there will be
    #[arg(long, value_name = "NUM", default_value_t = 1, value_parser = RangedU64ValueParser::<usize>::new().range(..=16))]
    pub(crate) initrds: usize,

    #[command(flatten)]
    pub(crate) boot: BootOptions,
}

/// Options of `ka-pxe arm` and `ka-pxe disarm`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ArmOptions {
    /// The machines' cards
    #[arg(value_name = "MAC", required_unless_present = "nodes")]
    pub(crate) macs: Vec<MacAddr>,

    /// And every machine of this list
    #[arg(long, value_name = "FILE")]
    pub(crate) nodes: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) state: StateOptions,
}

/// Values of `--arm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ArmWhom {
    /// Nobody else
    None,
    /// The next machines, -n of them
    All,
}

/// Values of `--form`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MenuForm {
    /// pxelinux.cfg/…
    Pxelinux,
    /// iPXE script
    Ipxe,
    /// grub.cfg
    Grub,
}

impl From<MenuForm> for Form {
    fn from(form: MenuForm) -> Self {
        match form {
            MenuForm::Pxelinux => Self::Pxelinux,
            MenuForm::Ipxe => Self::Ipxe,
            MenuForm::Grub => Self::Grub,
        }
    }
}

impl BootOptions {
    pub(crate) fn menu_timeout(&self) -> Duration {
        self.timeout
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use ka_cli::Answer;

    use super::*;

    fn parsed(line: &str) -> Result<Options, Answer> {
        ka_cli::parse(std::iter::once("ka-pxe").chain(line.split_whitespace()))
    }

    #[test]
    fn the_command_definition_is_sound() {
        Options::command().debug_assert();
    }

    #[test]
    fn a_server_is_described_in_one_line() {
        let line = "serve --iface eth1 --dhcp full:10.0.0.10-10.0.0.99 --nodes n --arm all -n 3 --kernel k \
                    --initrd a --initrd b --append -x";
        let Ok(options) = parsed(line) else {
            panic!("{:?}", parsed(line))
        };
        let Command::Serve(serve) = options.command else {
            panic!("no serve")
        };
        assert_eq!(serve.boot.arm, ArmWhom::All);
        assert_eq!(serve.boot.count, Some(3));
        assert_eq!(serve.initrd.len(), 2);
        assert!(matches!(serve.dhcp, DhcpMode::Full(_)));
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for (line, part) in [
            ("serve --kernel k", "--iface"),
            ("serve --iface e --kernel k --dhcp half", "half"),
            ("menu 52:54 --iface e", "no MAC address"),
            ("arm", "MAC"),
            ("fetch", "fetch"),
            ("", "serve, menu, arm, disarm or list"),
        ] {
            let Err(Answer::Wrong(text)) = parsed(line) else {
                panic!("{line}: {:?}", parsed(line))
            };
            assert!(text.contains(part) && !text.contains('\n'), "{line}: {text}");
        }
    }
}
