//! The command line of `ka-pxe`: names and meaning, nothing done yet.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use ka_pxe::config::{HTTP_PORT, STATE_DIR, TFTP_PORT};
use ka_pxe::dhcp::DhcpMode;
use ka_pxe::{Form, MacAddr};

/// Longest time a menu waits, in seconds: an hour. Longer is a machine that never boots.
const MAX_TIMEOUT_SECS: u64 = 3600;

/// Boot machines from the network: DHCP or proxyDHCP, TFTP, HTTP and the menu, on one interface.
///
/// A machine boots `kamethod` by itself only when it is armed: listed in --nodes, armed by `ka-pxe arm`, or one of the
/// next machines under --arm all. Every other machine boots `local`, its own disk.
#[derive(Debug, Clone, Parser)]
#[command(name = "ka-pxe", version, args_conflicts_with_subcommands = true)]
#[command(after_help = "Exit codes: 0 done; 1 not done; 2 wrong usage.")]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Write the man page to standard output
    #[arg(long, hide = true, exclusive = true)]
    pub(crate) man: bool,
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

/// What is booted, by whom.
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
        default_value = "kamethod",
        allow_hyphen_values = true
    )]
    pub(crate) append: String,

    /// How long the menu waits for a key, in seconds
    #[arg(long, value_name = "SECS", default_value_t = 5,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=MAX_TIMEOUT_SECS))]
    pub(crate) timeout: u64,

    /// TCP port of HTTP; GRUB and some firmware know no other than 80
    #[arg(long, value_name = "PORT", default_value_t = HTTP_PORT)]
    pub(crate) http_port: u16,

    #[command(flatten)]
    pub(crate) state: StateOptions,
}

/// Where things are kept.
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

    /// Who gives addresses: full:FIRST-LAST (we do), proxy (another server does), off (another server does both)
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

    /// full: how long an address is a machine's, in seconds [default: 12 hours]
    #[arg(long, value_name = "SECS")]
    pub(crate) lease_time: Option<u64>,

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

/// `--arm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ArmWhom {
    /// Nobody else
    None,
    /// The next machines, -n of them
    All,
}

/// `--form`.
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
        Duration::from_secs(self.timeout)
    }
}

/// What a command line came to.
#[derive(Debug)]
pub(crate) enum Parsed {
    Options(Box<Options>),
    /// Help or version, for standard output.
    Text(String),
    /// One line for standard error.
    Wrong(String),
}

/// Reads the command line.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Parsed {
    match Options::try_parse_from(args) {
        Ok(options) if options.command.is_none() && !options.man => Parsed::Wrong(
            "a subcommand is missing: serve, menu, arm, disarm or list (see ka-pxe --help)".to_owned(),
        ),
        Ok(options) => Parsed::Options(Box::new(options)),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            Parsed::Text(error.render().to_string())
        }
        Err(error) => Parsed::Wrong(one_line(&error.render().to_string())),
    }
}

/// The manual page: that of the command itself, and behind it the options of each subcommand.
pub(crate) fn manual() -> Vec<u8> {
    let mut command = Options::command();
    command.build();
    let mut page = Vec::new();
    // Writing to memory does not fail.
    clap_mangen::Man::new(command.clone()).render(&mut page).ok();
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        page.extend(format!(".SH \"KA-PXE {}\"\n", sub.get_name().to_uppercase()).bytes());
        let man = clap_mangen::Man::new(sub.clone());
        man.render_synopsis_section(&mut page).ok();
        man.render_options_section(&mut page).ok();
    }
    page
}

/// clap's message without its heading and without the usage that follows.
fn one_line(rendered: &str) -> String {
    let text = rendered.strip_prefix("error: ").unwrap_or(rendered);
    let lines = text
        .lines()
        .take_while(|line| !line.starts_with("Usage:"))
        .map(str::trim);
    let lines: Vec<&str> = lines
        .filter(|line| !line.is_empty() && !line.starts_with("tip:"))
        .collect();
    format!("{} (see ka-pxe --help)", lines.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Parsed {
        parse(
            std::iter::once("ka-pxe")
                .chain(line.split_whitespace())
                .map(OsString::from),
        )
    }

    #[test]
    fn the_command_definition_is_sound() {
        Options::command().debug_assert();
    }

    #[test]
    fn a_server_is_described_in_one_line() {
        let line = "serve --iface eth1 --dhcp full:10.0.0.10-10.0.0.99 --nodes n --arm all -n 3 --kernel k \
                    --initrd a --initrd b --append -x";
        let Parsed::Options(options) = parsed(line) else {
            panic!("{:?}", parsed(line))
        };
        let Some(Command::Serve(serve)) = options.command else {
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
            ("", "subcommand"),
        ] {
            let Parsed::Wrong(text) = parsed(line) else {
                panic!("{line}: {:?}", parsed(line))
            };
            assert!(text.contains(part) && !text.contains('\n'), "{line}: {text}");
        }
    }
}
