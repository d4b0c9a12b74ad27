//! The command line of `ka-server`: names, letters and meaning (issue 2 §2), nothing done yet.
//!
//! The letters are the original's. What clap cannot decide alone (files, names, what contradicts what in
//! content) is decided in [`crate::settings`].

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};
use ka_proto::limits::{DEFAULT_TOLERANCE, MAX_LINK_SILENCE, MAX_TOLERANCE, MIN_LINK_SILENCE};
use ka_proto::run::MinRate;
use ka_status::option::{BufferSize, bounded_size, usage_line};

use crate::boot::{BOOT_CLONE_ONLY, BootOptions};
use crate::command::Command;
use crate::size::BlockSize;

/// Default session name, the original's.
pub(crate) const DEFAULT_SESSION: &str = "kainstall";
/// Where the server's key lives by default.
pub(crate) const DEFAULT_STATE_DIR: &str = "/var/lib/ka";
/// Longest pause between two released nodes, in tenths of a second: ten minutes. More is a typing error.
const MAX_RELEASE_TENTHS: u64 = 6000;
/// Rounds without `--rounds`: the run, those that were late or lost, and those of them that were lost again.
const DEFAULT_ROUNDS: u32 = 3;
/// More is a server that shall stay, which is another thing.
const MAX_ROUNDS: u64 = 100;
/// Longest `--wait`, in seconds: a week.
const MAX_WAIT_SECS: u64 = 7 * 24 * 3600;

/// Least and greatest `--min-rate`, bytes a second: slower and faster than anything that is cloned to.
const LEAST_MIN_RATE: usize = 1 << 10;
const MOST_MIN_RATE: usize = 16 << 30;

/// Options that mean nothing when a stream of the operator's own is sent; with [`BOOT_CLONE_ONLY`].
const CLONE_ONLY: [&str; 11] = [
    "verify",
    "partitions",
    "exclude",
    "exclude_disks",
    "snapshots",
    "boot_code",
    "boot_code_file",
    "raw",
    "boot_loader",
    "root",
    "keep_uuids",
];

/// Clone this machine, the golden node, onto every node that joins the session.
///
/// ALL DATA on the disks of the nodes that join is ERASED. Try --dry-run first: it prints what would be sent and
/// done, and neither opens a port nor writes anything.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "ka-server",
    version,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
#[command(
    after_help = "During the run everything for people goes to standard error; the totals at the end go to \
                        standard output. With --json standard output holds JSON lines only (docs/events.md).\n\n\
                        Exit codes: 0 all nodes done; 1 nothing done, and no disk written; 2 wrong usage; 3 some nodes failed, named on \
                        the last lines, or never came back from their own disks (--wait-boot), or disks were erased that hold no \
                        clone (after Ctrl-C, too: the last lines say whose), or the golden node could not read one of its files \
                        (--allow-unreadable lets that pass).\n\n\
                        With --pxe this machine boots the others: listed in --nodes or armed, each becomes a clone once and \
                        then boots from its own disk; every other machine boots as before (docs/first-clone.md)."
)]
pub(crate) struct Options {
    /// Number of nodes to wait for; without it, until a node says go (ka-client -g) or --wait is over
    #[arg(short = 'n', long = "clients", value_name = "NUM", value_parser = nodes())]
    pub(crate) nodes: Option<u32>,

    /// Use the desc file DESC for the partition table of DRIVE, instead of the drive's own table (repeatable)
    #[arg(short = 'p', long = "partitions", num_args = 2, value_names = ["DRIVE", "DESC"])]
    pub(crate) partitions: Vec<OsString>,

    /// Leave out the contents of DIR; the clone gets the empty directory (repeatable, or 'DIR|DIR')
    #[arg(short = 'x', long = "exclude", value_name = "DIR")]
    pub(crate) exclude: Vec<OsString>,

    /// Clone btrfs snapshots too, each in full; without it they stay at home (a snapshot that is mounted by fstab is cloned)
    #[arg(long)]
    pub(crate) snapshots: bool,

    /// Leave these disks out: 'sdb|sdc'
    #[arg(short = 'X', long = "exclude-disks", value_name = "DRIVES")]
    pub(crate) exclude_disks: Vec<String>,

    /// Also copy the boot code (446 bytes) of DRIVE's master boot record (repeatable)
    #[arg(short = 'm', long = "boot-code", value_name = "DRIVE")]
    pub(crate) boot_code: Vec<String>,

    /// Use FILE (446 bytes) as the boot code of DRIVE's master boot record (repeatable)
    #[arg(short = 'M', long = "boot-code-file", num_args = 2, value_names = ["DRIVE", "FILE"])]
    pub(crate) boot_code_file: Vec<OsString>,

    /// Also copy partition PART raw, byte for byte: sda2 (repeatable)
    #[arg(short = 'D', long = "raw", value_name = "PART")]
    pub(crate) raw: Vec<String>,

    /// Rounds at most: a node that comes late, or is lost and comes back, waits connected and is cloned in the next
    /// round, which begins by itself (-e runs COMMAND again); 1 refuses late ones
    #[arg(long, value_name = "N", default_value_t = DEFAULT_ROUNDS,
          value_parser = RangedU64ValueParser::<u32>::new().range(1..=MAX_ROUNDS))]
    pub(crate) rounds: u32,

    /// Begin anew, although an earlier run of this session with the same job was cut short: without it that run is taken
    /// up, with its join code and without the nodes that are done
    #[arg(long)]
    pub(crate) fresh: bool,

    /// Release the nodes one after another, this many tenths of a second apart
    #[arg(short = 'd', long = "release-delay", value_name = "TENTHS", default_value_t = 0,
          value_parser = RangedU64ValueParser::<u32>::new().range(..=MAX_RELEASE_TENTHS))]
    pub(crate) release_delay: u32,

    /// Boot loader to reinstall, with options for the initrd tool: 'grub --with=ata_piix'. By default the golden node's; none
    /// installs none, and clones what could not boot by itself
    #[arg(short = 'r', long = "boot-loader", value_name = "LOADER")]
    pub(crate) boot_loader: Option<String>,

    /// Session name; a node joins only a session of the same name
    #[arg(short = 's', long = "session", value_name = "SESSION", default_value = DEFAULT_SESSION)]
    pub(crate) session: String,

    /// Generic mode: send what COMMAND writes (sh -c); the nodes pipe it into their own command
    #[arg(short = 'e', long = "exec", value_name = "COMMAND", conflicts_with = "input",
          conflicts_with_all = CLONE_ONLY, conflicts_with_all = BOOT_CLONE_ONLY)]
    pub(crate) exec: Option<String>,

    /// Generic mode: send FILE (a file, a device, a named pipe) instead of a command's output
    #[arg(long, value_name = "FILE", conflicts_with_all = CLONE_ONLY,
          conflicts_with_all = BOOT_CLONE_ONLY)]
    pub(crate) input: Option<PathBuf>,

    /// Golden tree, when it is not this machine's own: DIR/etc/fstab says what is mounted where
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,

    /// Address to listen on [default: every address of this machine]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<IpAddr>,

    /// Start after SECS with whoever is there, even if it is fewer than -n
    #[arg(long, value_name = "SECS", value_parser = RangedU64ValueParser::<u64>::new().range(..=MAX_WAIT_SECS))]
    pub(crate) wait: Option<u64>,

    /// A neighbour in the chain that is silent for SECS (0.5 to 60, decimals allowed) is lost, and the chain closes
    /// around it
    #[arg(long, value_name = "SECS", default_value = "2", value_parser = link_silence)]
    pub(crate) silence: Duration,

    /// Keep enough data to lose this many neighbours in a row at one moment (0 to 3)
    #[arg(long, value_name = "F", default_value_t = DEFAULT_TOLERANCE,
          value_parser = RangedU64ValueParser::<u8>::new().range(..=MAX_TOLERANCE as u64))]
    pub(crate) tolerate: u8,

    /// Keep each stream in DIR while it runs, encrypted as it is sent: a node that loses its place (silent for seconds, or
    /// too many neighbours lost) goes on in the same round. DIR needs room for the largest stream; nothing stays in it
    #[arg(long, value_name = "DIR")]
    pub(crate) spool: Option<PathBuf>,

    /// Set aside a node that holds up all the others and itself takes less than RATE bytes a second (20M), or `off`: only
    /// name it [default: a quarter of what the others could take]
    #[arg(long, value_name = "RATE", value_parser = min_rate)]
    pub(crate) min_rate: Option<MinRate>,

    /// Let in nodes that listen for their successors at another address than the one they come from (address
    /// translation); without it they are refused, because a node that names another one's address harms that one
    #[arg(long)]
    pub(crate) any_address: bool,

    /// Print everything that would be sent and done, touch nothing, open no port
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// JSON on standard output: events as lines, or the plan of --dry-run
    #[arg(long)]
    pub(crate) json: bool,

    /// Give the clones the golden file systems' and partitions' own UUIDs
    #[arg(long)]
    pub(crate) keep_uuids: bool,

    /// Memory for data on its way to the first node
    #[arg(long, value_name = "SIZE", default_value = "64M")]
    pub(crate) buffer: BufferSize,

    /// Size of the blocks that data travels in [default: smaller the longer the chain]
    #[arg(long, value_name = "SIZE")]
    pub(crate) block_size: Option<BlockSize>,

    /// Send data as it is, for whoever listens on the network to read; it stays authenticated
    #[arg(long)]
    pub(crate) no_encrypt: bool,

    /// When to compress blocks (generic mode never does)
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub(crate) compress: CompressWhen,

    /// Read back what was written and compare it before the clone is changed or made bootable: when it costs less than a
    /// tenth of the run (auto), whatever it costs (always, also without a word), or never
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, num_args = 0..=1,
          default_missing_value = "always", require_equals = true)]
    pub(crate) verify: VerifyWhen,

    /// Golden files that cannot be read do not make the run a failure (exit code 3); they are named all the same
    #[arg(long)]
    pub(crate) allow_unreadable: bool,

    /// Write a log of the run, one of each node, and the report as JSON into DIR
    #[arg(long, value_name = "DIR")]
    pub(crate) log_dir: Option<PathBuf>,

    /// Write the join code to FILE, readable by its owner only; an existing FILE is replaced
    #[arg(long, value_name = "FILE")]
    pub(crate) join_file: Option<PathBuf>,

    /// Ask for each node before it is let in: its name, hardware address and a code that the node shows too. Answer y, n or a
    /// (all) on the terminal, or with ka-server approve
    #[arg(long)]
    pub(crate) approve: bool,

    /// Where the server's key lives, and what is kept of a run until it ends
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    pub(crate) state_dir: PathBuf,

    /// TCP port of the control connections and UDP port of discovery; 0 takes any free one
    #[arg(long, value_name = "PORT", default_value_t = ka_transport::CONTROL_PORT)]
    pub(crate) control_port: u16,

    /// TCP port of the data connection to the first node; another one is taken when it is in use
    #[arg(long, value_name = "PORT", default_value_t = ka_transport::DATA_PORT)]
    pub(crate) data_port: u16,

    /// Show failures and totals only
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,

    /// Print the manual page (roff)
    #[arg(long, hide = true)]
    pub(crate) man: bool,

    #[command(flatten)]
    pub(crate) boot: BootOptions,

    /// What is no run: without one of these words, the options above start a run
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// When blocks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum CompressWhen {
    /// While the network is slower than compression and there is processor time to spare.
    #[default]
    Auto,
    /// Never.
    Never,
    /// Every block that becomes smaller.
    Always,
}

/// When clones are read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum VerifyWhen {
    /// When it costs less than a tenth of the run; each node finds out.
    #[default]
    Auto,
    /// Whatever it costs.
    Always,
    /// Not at all.
    Never,
}

/// What the command line came to.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// Options to work with.
    Options(Box<Options>),
    /// Help or version, to be printed as it is.
    Text(String),
    /// Wrong usage, on one line.
    Wrong(String),
}

/// The manual page of `ka-server` (roff).
pub(crate) fn manual() -> Vec<u8> {
    let mut page = Vec::new();
    // Writing to memory does not fail.
    clap_mangen::Man::new(Options::command()).render(&mut page).ok();
    page
}

/// From one to the most that a run takes.
fn nodes() -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(1..=ka_proto::limits::MAX_NODES as u64)
}

/// A link silence in seconds, within the protocol's bounds.
fn link_silence(text: &str) -> Result<Duration, String> {
    let secs = text.parse::<f64>().map_err(|error| error.to_string())?;
    Duration::try_from_secs_f64(secs)
        .ok()
        .filter(|silence| (MIN_LINK_SILENCE..=MAX_LINK_SILENCE).contains(silence))
        .ok_or_else(|| {
            let (least, most) = (MIN_LINK_SILENCE.as_secs_f32(), MAX_LINK_SILENCE.as_secs_f32());
            format!("{least} to {most} seconds are possible")
        })
}

/// A rate in bytes a second, or none.
fn min_rate(text: &str) -> Result<MinRate, String> {
    if text == "off" {
        return Ok(MinRate::Off);
    }
    let rate = bounded_size(text, LEAST_MIN_RATE, MOST_MIN_RATE, "from 1K to 16G, or off,")?;
    Ok(MinRate::Bytes(rate as u64))
}

/// Reads the command line.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Parsed {
    match Options::try_parse_from(args) {
        Ok(options) => Parsed::Options(Box::new(options)),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            Parsed::Text(error.render().to_string())
        }
        Err(error) => Parsed::Wrong(usage_line(&error.render().to_string(), "ka-server")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{CompressWhen, Options, Parsed, VerifyWhen, parse};

    fn options(line: &[&str]) -> Options {
        match parse(["ka-server"].iter().chain(line).map(Into::into)) {
            Parsed::Options(options) => *options,
            other => panic!("{line:?}: {other:?}"),
        }
    }

    fn wrong(line: &[&str]) -> String {
        match parse(["ka-server"].iter().chain(line).map(Into::into)) {
            Parsed::Wrong(text) => text,
            other => panic!("{line:?}: {other:?}"),
        }
    }

    #[test]
    fn the_command_definition_is_sound() {
        Options::command().debug_assert();
    }

    #[test]
    fn the_users_own_example_is_understood() {
        let options = options(&["-n", "3", "-p", "sda", "desc", "-x", "/tmp"]);
        assert_eq!(options.nodes, Some(3));
        assert_eq!(options.partitions, ["sda", "desc"]);
        assert_eq!(options.exclude, ["/tmp"]);
    }

    #[test]
    fn every_letter_of_the_original_is_there() {
        let options = options(&[
            "-n",
            "60",
            "-p",
            "sda",
            "a.desc",
            "-p",
            "sdb",
            "b.desc",
            "-x",
            "/tmp|/var/tmp",
            "-x",
            "/srv",
            "-X",
            "sdc|sdd",
            "-m",
            "sda",
            "-M",
            "sdb",
            "mbr.bin",
            "-D",
            "sda1",
            "-D",
            "sdb3",
            "-d",
            "15",
            "-r",
            "grub --with=ata_piix",
            "-s",
            "room12",
        ]);
        assert_eq!(options.partitions, ["sda", "a.desc", "sdb", "b.desc"]);
        assert_eq!(options.exclude, ["/tmp|/var/tmp", "/srv"]);
        assert_eq!(options.exclude_disks, ["sdc|sdd"]);
        assert_eq!(
            (options.boot_code, options.raw),
            (vec!["sda".to_owned()], vec!["sda1".into(), "sdb3".into()])
        );
        assert_eq!(options.boot_code_file, ["sdb", "mbr.bin"]);
        assert_eq!(options.release_delay, 15);
        assert_eq!(options.boot_loader.as_deref(), Some("grub --with=ata_piix"));
        assert_eq!(options.session, "room12");
    }

    #[test]
    fn defaults_are_the_originals() {
        let options = options(&[]);
        assert_eq!((options.nodes, options.wait, options.listen), (None, None, None));
        assert_eq!(
            (options.session.as_str(), options.control_port, options.data_port),
            ("kainstall", 30765, 30764)
        );
        assert_eq!((options.buffer.0, options.block_size), (64 << 20, None));
        assert_eq!(options.compress, CompressWhen::Auto);
        assert_eq!((options.silence.as_millis(), options.tolerate), (2000, 2));
    }

    #[test]
    fn verify_without_a_word_is_always() {
        assert_eq!(options(&[]).verify, VerifyWhen::Auto);
        assert_eq!(options(&["--verify"]).verify, VerifyWhen::Always);
        assert_eq!(options(&["--verify", "-n", "3"]).nodes, Some(3));
        assert_eq!(options(&["--verify=never"]).verify, VerifyWhen::Never);
    }

    #[test]
    fn wrong_usage_is_one_line_that_names_the_option() {
        for (line, named) in [
            (&["-n", "0"][..], "--clients"),
            (&["-n", "many"], "--clients"),
            (&["--dhcp", "proxy"], "--pxe"),
            (&["--pxe", "eth1", "--dhcp", "all"], "full:FIRST-LAST"),
            (&["--nodes", "list"], "--pxe"),
            (&["--arm", "all"], "--pxe"),
            (&["--append", "console=ttyS0"], "--pxe"),
            (&["-e", "true", "--pxe", "eth1", "--dhcp", "proxy"], "--pxe"),
            (&["-e", "true", "--keep-identity"], "--keep-identity"),
            (&["-e", "true", "--kernel-names"], "--kernel-names"),
            (&["--wait-boot", "999999"], "--wait-boot"),
            (&["-e", "tar c /", "-p", "sda", "desc"], "--partitions"),
            (&["-e", "true", "-D", "sda1"], "--raw"),
            (&["-e", "true", "--verify"], "--verify"),
            (&["--verify=twice"], "--verify"),
            (&["--verify", "never"], "never"),
            (&["-e", "true", "--input", "file"], "--input"),
            (&["--input", "file", "-m", "sda"], "--boot-code"),
            (&["-e", "true", "--root", "/mnt"], "--root"),
            (&["-p", "sda"], "--partitions"),
            (&["-d", "99999999"], "--release-delay"),
            (&["--buffer", "1"], "--buffer"),
            (&["--block-size", "2M"], "--block-size"),
            (&["--listen", "eth0"], "--listen"),
            (&["--silence", "0.4"], "--silence"),
            (&["--silence", "61"], "--silence"),
            (&["--silence=-1"], "--silence"),
            (&["--silence", "NaN"], "--silence"),
            (&["--silence", "1e300"], "--silence"),
            (&["--tolerate", "4"], "--tolerate"),
            (&["--min-rate", "fast"], "--min-rate"),
            (&["--min-rate", "0"], "--min-rate"),
            (&["stray"], "stray"),
            (&["key"], "key"),
            (&["key", "burn"], "burn"),
            (&["-n", "3", "key", "show"], "key"),
        ] {
            let text = wrong(line);
            assert!(text.contains(named), "{line:?}: {text}");
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }

    #[test]
    fn dash_h_is_help() {
        let Parsed::Text(help) = parse(["ka-server".into(), "-h".into()]) else {
            panic!("no help")
        };
        for letter in ["-n", "-p", "-x", "-X", "-m", "-M", "-D", "-d", "-r", "-s", "-e"] {
            assert!(help.contains(&format!("  {letter}, --")), "{letter} in {help}");
        }
    }
}
