//! The command line of `ka-server`: names, letters and meaning, by subject. Nothing is done yet.
//!
//! The letters are the original's. The crate's settings check what clap cannot: files, names, and values that
//! contradict each other.

mod block_size;
mod boot;
mod command;
mod files;
mod generic;
mod golden;
mod network;
mod nodes;
mod output;
mod stream;
mod words;

use clap::Parser;

pub(crate) use boot::{ArmWhich, BootOptions, DhcpOptions, ImageOptions};
pub(crate) use command::{Answer, Command, KeyCommand, ReportCommand};
pub(crate) use files::FileOptions;
pub(crate) use generic::GenericOptions;
pub(crate) use golden::GoldenOptions;
pub(crate) use network::NetworkOptions;
pub(crate) use nodes::NodeOptions;
pub(crate) use output::OutputOptions;
pub(crate) use stream::StreamOptions;

/// Default session name, the original's.
pub(crate) const DEFAULT_SESSION: &str = "kainstall";
/// Default directory of the server's key.
pub(crate) const DEFAULT_STATE_DIR: &str = "/var/lib/ka";

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
    #[command(flatten)]
    pub(crate) nodes: NodeOptions,

    #[command(flatten)]
    pub(crate) golden: GoldenOptions,

    #[command(flatten)]
    pub(crate) generic: GenericOptions,

    #[command(flatten)]
    pub(crate) stream: StreamOptions,

    #[command(flatten)]
    pub(crate) network: NetworkOptions,

    #[command(flatten)]
    pub(crate) output: OutputOptions,

    #[command(flatten)]
    pub(crate) files: FileOptions,

    #[command(flatten)]
    pub(crate) boot: BootOptions,

    /// What is no run: without one of these words, the options above start a run
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::CommandFactory as _;
    use ka_cli::Answer;
    use ka_disk::spec::ReadBackWhen;
    use ka_tree::Compress;

    use super::Options;

    fn parsed(line: &[&str]) -> Result<Options, Answer> {
        ka_cli::parse(["ka-server"].iter().chain(line).copied())
    }

    fn options(line: &[&str]) -> Options {
        parsed(line).unwrap()
    }

    fn wrong(line: &[&str]) -> String {
        match parsed(line) {
            Err(Answer::Wrong(text)) => text,
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
        assert_eq!(options.nodes.wanted, Some(3));
        assert_eq!(options.golden.partitions, ["sda", "desc"]);
        assert_eq!(options.golden.exclude, ["/tmp"]);
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
        assert_eq!(options.golden.partitions, ["sda", "a.desc", "sdb", "b.desc"]);
        assert_eq!(options.golden.exclude, ["/tmp|/var/tmp", "/srv"]);
        assert_eq!(options.golden.exclude_disks, ["sdc|sdd"]);
        assert_eq!(
            (options.golden.boot_code, options.golden.raw),
            (vec!["sda".to_owned()], vec!["sda1".into(), "sdb3".into()])
        );
        assert_eq!(options.golden.boot_code_file, ["sdb", "mbr.bin"]);
        assert_eq!(options.nodes.release_delay, Duration::from_millis(1500));
        assert_eq!(
            options.golden.boot_loader.as_deref(),
            Some("grub --with=ata_piix")
        );
        assert_eq!(options.nodes.session, "room12");
    }

    #[test]
    fn defaults_are_the_originals() {
        let options = options(&[]);
        assert!(!options.nodes.yes);
        assert_eq!(
            (options.nodes.wanted, options.nodes.wait, options.network.listen),
            (None, None, None)
        );
        assert_eq!(
            (
                options.nodes.session.as_str(),
                options.network.control_port,
                options.network.data_port
            ),
            ("kainstall", 30765, 30764)
        );
        assert_eq!(
            (options.stream.buffer.0, options.stream.block_size),
            (64 << 20, None)
        );
        assert_eq!(options.stream.compress, Compress::Auto);
        assert_eq!(
            (options.stream.silence.as_millis(), options.stream.tolerate),
            (2000, 2)
        );
    }

    #[test]
    fn verify_without_a_word_is_always() {
        assert_eq!(options(&[]).golden.verify, ReadBackWhen::Auto);
        assert_eq!(options(&["--verify"]).golden.verify, ReadBackWhen::Always);
        assert_eq!(options(&["--verify", "-n", "3"]).nodes.wanted, Some(3));
        assert_eq!(options(&["--verify=never"]).golden.verify, ReadBackWhen::Never);
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
            (&["-d", "2x"], "--release-delay"),
            (&["--wait", "8d"], "8d is more than 7d"),
            (&["--buffer", "1T"], "1T is more than 16G"),
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
    fn times_have_units_and_bare_numbers_keep_their_meaning() {
        for (line, millis) in [(["-d", "20"], 2000), (["-d", "2s"], 2000), (["-d", "1m"], 60_000)] {
            assert_eq!(options(&line).nodes.release_delay.as_millis(), millis, "{line:?}");
        }
        for (text, secs) in [("900", 900), ("15m", 900), ("1h30m", 5400)] {
            assert_eq!(
                options(&["--wait", text]).nodes.wait,
                Some(Duration::from_secs(secs))
            );
            let boot = options(&["--wait-boot", text]).boot;
            assert_eq!(boot.first_boot.wait_boot, Some(Duration::from_secs(secs)));
        }
        assert_eq!(options(&["--silence", "750ms"]).stream.silence.as_millis(), 750);
    }

    #[test]
    fn dash_h_is_help() {
        let Err(Answer::Text(help)) = parsed(&["-h"]) else {
            panic!("no help")
        };
        for letter in ["-n", "-p", "-x", "-X", "-m", "-M", "-D", "-d", "-r", "-s", "-e"] {
            assert!(help.contains(&format!("  {letter}, --")), "{letter} in {help}");
        }
    }
}
