//! The command line of `ka-client`: names, letters and meaning; nothing is done yet.
//!
//! `-h` is the server's host, as in the original tool; help is `--help` only. What clap cannot decide
//! alone (where the join code comes from, which mode the node is in) is decided in [`crate::settings`].

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgAction, Parser};
use ka_cli::size::BufferSize;

/// Default session name, the original's.
pub(crate) const DEFAULT_SESSION: &str = "kainstall";
/// Default mount directory, the original's.
pub(crate) const DEFAULT_MOUNT_DIR: &str = "/mnt/disk";
/// Data a node retains for its successor and its own disk: with the image's own buffers the node stays below
/// 256 MiB, and a machine with 512 MiB of memory can be cloned.
const DEFAULT_BUFFER: &str = "64M";

/// Turn this node into a clone of the golden node.
///
/// ALL DATA on the chosen disks is ERASED. Try --dry-run first: it joins, gets the golden node's
/// specification, prints what would be done to which disk, and leaves without writing anything.
#[derive(Debug, Clone, Parser)]
#[command(name = "ka-client", version, disable_help_flag = true)]
#[command(
    after_help = "Exit codes: 0 done; 1 nothing done (no server, refused, or a check failed \
                        before anything was written); 2 wrong usage; 3 failed after it began."
)]
pub(crate) struct Options {
    /// Server to join, instead of searching for the session by broadcast
    #[arg(short = 'h', long = "host", value_name = "HOST[:PORT]")]
    pub(crate) host: Option<String>,

    /// Session to join; server and node must use the same name
    #[arg(short = 's', long = "session", value_name = "SESSION", default_value = DEFAULT_SESSION)]
    pub(crate) session: String,

    /// Generic mode: pipe the stream into COMMAND (sh -c); no disk is touched
    #[arg(short = 'e', long = "exec", value_name = "COMMAND", conflicts_with = "output")]
    pub(crate) exec: Option<String>,

    /// Generic mode: write the stream to FILE, a device or /dev/null
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Wait for the server's release before rebooting
    #[arg(short = 'w', long = "wait-release")]
    pub(crate) wait_release: bool,

    /// Tell the server to start now, with the nodes that are there
    #[arg(short = 'g', long = "go")]
    pub(crate) go: bool,

    /// Join code printed by ka-server; also read from the environment variable KA_JOIN. Both are overwritten in the process
    /// list as soon as they are read; other users may see the command line for that moment, the shell's history keeps it:
    /// --join-file shows it nowhere
    #[arg(long, value_name = "CODE", conflicts_with = "join_file")]
    pub(crate) join: Option<String>,

    /// The value of KA_JOIN before it was overwritten.
    #[arg(skip)]
    pub(crate) join_variable: Option<String>,

    /// File with the join code, readable by its owner only
    #[arg(long, value_name = "FILE")]
    pub(crate) join_file: Option<PathBuf>,

    /// Disk of this node that becomes the golden node's DRIVE: sda=/dev/nvme0n1, sda=/dev/disk/by-id/… (repeatable).
    /// Without it the only disk that fits is taken; if several fit, or what fits is a part of LVM, RAID, ZFS, LUKS
    /// and the like, none is
    #[arg(long = "disk", value_name = "DRIVE=DEVICE")]
    pub(crate) disks: Vec<DiskOption>,

    /// Let a disk be taken without being named though it is a part of LVM, RAID, ZFS, LUKS and the like: for machines
    /// that had such a system and are cloned anew. Disks in use are never taken
    #[arg(long)]
    pub(crate) erase_members: bool,

    /// Directory under which the new file systems are mounted during the run
    #[arg(long, value_name = "DIR", default_value = DEFAULT_MOUNT_DIR)]
    pub(crate) mount_dir: PathBuf,

    /// Do not reboot at the end
    #[arg(long)]
    pub(crate) no_reboot: bool,

    /// How often to try to reach a server before giving up; counted anew when a server was lost, or wants this node in
    /// its next round
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) retries: u32,

    /// Address of this node to use, when it has several (several nodes on one machine: one each)
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<IpAddr>,

    /// Memory for data on its way to the disk and to the next node, bytes or 64M, 1G
    #[arg(long, value_name = "SIZE", default_value = DEFAULT_BUFFER)]
    pub(crate) buffer: BufferSize,

    /// TCP port on which this node answers ka-status, for the holder of the server's key only; 0: none
    #[arg(long, value_name = "PORT", default_value_t = ka_proto::operator::STATUS_PORT)]
    pub(crate) status_port: u16,

    /// Also write the log to DIR/ka-client-NAME.log
    #[arg(long, value_name = "DIR")]
    pub(crate) log_dir: Option<PathBuf>,

    /// Join, print what would be done, write nothing, leave
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Events (and the plan of --dry-run) as JSON lines on standard output
    #[arg(long)]
    pub(crate) json: bool,

    /// Name this node reports, and its clone gets, instead of its host name: letters, digits, dashes and dots (RFC
    /// 1123)
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Only tell the server that this clone has booted, as FILE says, then remove what is not needed any more: what the
    /// unit of a clone's first boot runs
    #[arg(long, value_name = "FILE", exclusive = true)]
    pub(crate) beacon: Option<PathBuf>,

    /// Print help
    #[arg(long, action = ArgAction::Help)]
    pub(crate) help: Option<bool>,
}

/// One `--disk DRIVE=DEVICE`: which of the golden node's drives goes to which disk of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DiskOption {
    /// Name of the golden node's drive, as in the desc: `sda`.
    pub(crate) drive: String,
    /// Device of this node, a path: `/dev/nvme0n1`.
    pub(crate) device: PathBuf,
}

impl std::str::FromStr for DiskOption {
    type Err = String;

    /// `sda=/dev/nvme0n1`; `sda=nvme0n1` means the same; a leading `/dev/` of the drive is dropped.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = "expected DRIVE=DEVICE, for example sda=/dev/nvme0n1";
        let (drive, device) = text.split_once('=').ok_or(wanted)?;
        let drive = drive.trim_start_matches("/dev/");
        if drive.is_empty() || drive.contains('/') || device.is_empty() {
            return Err(wanted.to_owned());
        }
        let device = if device.starts_with('/') {
            PathBuf::from(device)
        } else {
            PathBuf::from("/dev").join(device)
        };
        Ok(Self {
            drive: drive.to_owned(),
            device,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use ka_cli::Answer;

    use super::*;

    fn parsed(line: &[&str]) -> Result<Options, Answer> {
        ka_cli::parse(["ka-client"].iter().chain(line).copied())
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
    fn dash_h_is_the_host_and_not_help() {
        let options = options(&["-h", "10.0.1.1", "-w", "-g", "-s", "room"]);
        assert_eq!(options.host.as_deref(), Some("10.0.1.1"));
        assert_eq!(options.session, "room");
        assert!(options.wait_release && options.go);
        assert!(matches!(parsed(&["--help"]), Err(Answer::Text(_))));
    }

    #[test]
    fn defaults_are_the_originals() {
        let options = options(&[]);
        assert_eq!(options.session, "kainstall");
        assert_eq!(options.mount_dir, PathBuf::from("/mnt/disk"));
        assert_eq!(options.retries, 5);
        assert_eq!(options.buffer.0, ka_transport::DEFAULT_WINDOW_BYTES);
        assert!(!options.no_reboot && !options.dry_run && !options.json);
    }

    #[test]
    fn disks_are_repeatable_and_dev_may_be_left_out() {
        let options = options(&["--disk", "sda=/dev/nvme0n1", "--disk", "/dev/sdb=vdb"]);
        let pairs: Vec<_> = options
            .disks
            .iter()
            .map(|d| (d.drive.as_str(), d.device.to_str().unwrap()))
            .collect();
        assert_eq!(pairs, [("sda", "/dev/nvme0n1"), ("sdb", "/dev/vdb")]);
    }

    #[test]
    fn a_disk_option_without_both_sides_is_refused() {
        for bad in ["sda", "=x", "sda=", "a/b=/dev/x"] {
            let error = wrong(&["--disk", bad]);
            assert!(error.contains("sda=/dev/nvme0n1"), "{bad}: {error}");
        }
    }

    #[test]
    fn the_manual_page_names_every_option() {
        let Err(Answer::Text(page)) = parsed(&["--man"]) else {
            panic!("no page")
        };
        for option in [
            "host",
            "session",
            "exec",
            "join\\-file",
            "mount\\-dir",
            "dry\\-run",
        ] {
            assert!(page.contains(&format!("\\-\\-{option}")), "{option} is missing");
        }
    }

    #[test]
    fn contradictions_are_wrong_usage() {
        for bad in [
            &["-e", "cat", "--output", "f"][..],
            &["--join", "KA1-X", "--join-file", "f"],
            &["--retries", "0"],
            &["--listen", "eth0"],
            &["stray"],
        ] {
            let error = wrong(bad);
            assert!(
                error.contains("ka-client --help") && !error.contains('\n'),
                "{bad:?}: {error}"
            );
        }
    }
}
