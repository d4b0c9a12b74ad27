//! The way from command line options to the settings of a run: mode, join code, node configuration, log file.
//!
//! Every error here is wrong usage: nothing has been sent or opened yet.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use ka_cli::say;
use ka_host::netif;
use ka_host::secrets::{self, JOIN_VARIABLE};
use ka_mac::MacAddr;
use ka_proto::control::Purpose;
use ka_proto::pace::Taker;
use ka_proto::{NodeName, SessionName};
use ka_transport::{JoinCode, NodeConfig, join_file};

use crate::cli::Options;
use crate::journal::Format;

/// The purpose of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Become a clone of the golden node.
    Clone,
    /// Give the stream to a consumer of the operator's; no disk is chosen, no file system made.
    Generic(Consumer),
}

/// The consumer of the stream in the generic mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Consumer {
    /// A command string for `sh -c`, fed through its standard input.
    Command(String),
    /// A file or device, written directly.
    File(PathBuf),
}

impl Mode {
    /// Returns the mode that the options ask for.
    ///
    /// # Errors
    /// Options of the one mode given with the other.
    pub(crate) fn of(options: &Options) -> anyhow::Result<Self> {
        let consumer = match (&options.exec, &options.output) {
            (Some(command), _) => Consumer::Command(command.clone()),
            (None, Some(path)) => Consumer::File(path.clone()),
            (None, None) => return Ok(Self::Clone),
        };
        if options.dry_run {
            bail!("--dry-run shows the plan of a clone; with -e or --output there is none");
        }
        if !options.disks.is_empty() {
            bail!("--disk chooses the disks of a clone; with -e or --output no disk is cloned");
        }
        Ok(Self::Generic(consumer))
    }
}

/// Returns the name this node reports: `--name`, else the host name. A live system's own name may be no host
/// name (RFC 1123). Then the nearest host name is taken (`my_pc` is `my-pc`), else `node`, and the address
/// identifies the node.
///
/// # Errors
/// `--name` cannot be used.
fn node_name(options: &Options) -> anyhow::Result<NodeName> {
    match &options.name {
        Some(name) => NodeName::new(name).context("--name"),
        None => NodeName::nearest(&ka_host::system::hostname())
            .map_or_else(|| NodeName::new(NodeName::NAMELESS), Ok)
            .context("host name"),
    }
}

/// Hides the join code from other users of this machine and from the environment of child processes. A code
/// that can still be seen is worth a line, and does not end the run.
pub(crate) fn hide_join_code(options: &mut Options) {
    options.join_variable = std::env::var(JOIN_VARIABLE).ok();
    let given = [&options.join, &options.join_variable];
    let hidden = given
        .into_iter()
        .flatten()
        .try_for_each(|code| secrets::hide(code));
    if let Err(error) = hidden.and_then(|()| secrets::leave_no_core()) {
        say(&format!("warning: {error}; give the join code with --join-file"));
    }
}

/// Returns the form in which events are shown.
pub(crate) fn format(options: &Options) -> Format {
    if options.json { Format::Json } else { Format::Lines }
}

/// Returns the configuration with which this node looks for the server and takes part.
///
/// # Errors
/// No or a malformed join code, a malformed session name.
pub(crate) fn node_config(options: &Options) -> anyhow::Result<NodeConfig> {
    let session = SessionName::new(&options.session).context("-s: the session name cannot be used")?;
    let name = node_name(options)?;
    let join = join_code(options, options.join_variable.clone())?;
    if let Some(host) = &options.host {
        check_host(host)?;
    }
    Ok(NodeConfig {
        server: options.host.clone(),
        listen: options.listen,
        // The transport counts the tries after the first.
        retries: options.retries.saturating_sub(1),
        purpose: purpose(options),
        start_now: options.go,
        wants_release: options.wait_release,
        window_bytes: options.buffer.0,
        taker: taker(options),
        mac: own_mac(options),
        ..NodeConfig::new(session, join, name)
    })
}

/// Refuses a host that cannot be one, before its name is looked up.
///
/// # Errors
/// It is empty, or has white space or an impossible port in it.
fn check_host(host: &str) -> anyhow::Result<()> {
    anyhow::ensure!(!host.trim().is_empty(), "-h: the server's host is empty");
    anyhow::ensure!(
        !host.chars().any(|c| c.is_whitespace() || c.is_control()),
        "-h {host:?}: a host has no white space in it"
    );
    let is_v6 = host.parse::<std::net::Ipv6Addr>().is_ok();
    let port = match host.rsplit_once(':') {
        Some((before, port)) if !is_v6 && (!before.contains(':') || before.ends_with(']')) => port,
        _ => return Ok(()),
    };
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    anyhow::ensure!(is_port, "-h {host}: port {port} is none of 1 to 65535");
    Ok(())
}

/// Returns the consumer of the streams, for the words when it is slow.
const fn taker(options: &Options) -> Taker {
    match (&options.exec, &options.output) {
        (Some(_), _) => Taker::Command,
        (None, Some(_)) => Taker::Output,
        (None, None) => Taker::Disk,
    }
}

fn purpose(options: &Options) -> Purpose {
    if options.exec.is_some() || options.output.is_some() {
        Purpose::Stream
    } else if options.dry_run {
        Purpose::Look
    } else {
        Purpose::Clone
    }
}

/// Returns the log file of `--log-dir`, appended to.
///
/// # Errors
/// The directory or file cannot be made.
pub(crate) fn log_file(options: &Options) -> anyhow::Result<Option<File>> {
    let Some(dir) = &options.log_dir else {
        return Ok(None);
    };
    std::fs::create_dir_all(dir).with_context(|| format!("--log-dir: making {}", dir.display()))?;
    let path = dir.join(log_name(node_name(options)?.as_str()));
    let file = OpenOptions::new().create(true).append(true).open(&path);
    file.map(Some)
        .with_context(|| format!("--log-dir: opening {}", path.display()))
}

/// `ka-client-NAME.log`; a slash in the name must not lead elsewhere.
fn log_name(node: &str) -> String {
    format!("ka-client-{}.log", node.replace('/', "_"))
}

/// Returns the join code: from the command line, else from the environment.
fn join_code(options: &Options, environment: Option<String>) -> anyhow::Result<JoinCode> {
    if let Some(path) = &options.join_file {
        return read_join_file(path);
    }
    if let Some(code) = &options.join {
        return code.trim().parse().context("--join");
    }
    match environment.filter(|code| !code.trim().is_empty()) {
        Some(code) => code.trim().parse().context(JOIN_VARIABLE),
        None => bail!(
            "no join code: copy the ka-client line that ka-server printed, or give --join CODE, --join-file FILE or {JOIN_VARIABLE}"
        ),
    }
}

fn read_join_file(path: &Path) -> anyhow::Result<JoinCode> {
    join_file::read(path).context("--join-file")
}

/// Returns the MAC address by which the server may know this node. It is that of `--listen`, else that of the
/// only interface that has one. With several, only the connection will tell which one is used.
fn own_mac(options: &Options) -> Option<MacAddr> {
    if let Some(addr) = options.listen {
        return netif::mac_of(addr).ok().flatten();
    }
    let mut macs: Vec<_> = netif::addresses()
        .ok()?
        .into_iter()
        .filter_map(|entry| entry.mac)
        .collect();
    macs.dedup();
    match macs.as_slice() {
        [only] => Some(*only),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn options(args: &[&str]) -> Options {
        Options::try_parse_from([&["ka-client"], args].concat()).unwrap()
    }

    fn code() -> String {
        JoinCode {
            fingerprint: [1; 32],
            secret: [2; 16],
        }
        .to_string()
    }

    #[test]
    fn the_command_line_wins_over_the_environment() {
        let other = JoinCode {
            fingerprint: [3; 32],
            secret: [4; 16],
        };
        let given = join_code(&options(&["--join", &code()]), Some(other.to_string())).unwrap();
        assert_eq!(given.fingerprint, [1; 32]);
        let found = join_code(&options(&[]), Some(other.to_string())).unwrap();
        assert_eq!(found.fingerprint, [3; 32]);
    }

    #[test]
    fn a_missing_code_says_where_to_get_one() {
        let error = format!("{:#}", join_code(&options(&[]), None).unwrap_err());
        assert!(
            error.contains("ka-server printed") && error.contains("--join-file"),
            "{error}"
        );
    }

    #[test]
    fn a_bad_code_names_its_option() {
        let error = format!(
            "{:#}",
            join_code(&options(&["--join", "hello"]), None).unwrap_err()
        );
        assert!(error.starts_with("--join: "), "{error}");
        let error = format!(
            "{:#}",
            join_code(&options(&["--join-file", "/nonexistent"]), None).unwrap_err()
        );
        assert!(
            error.starts_with("--join-file: ") && error.contains("/nonexistent"),
            "{error}"
        );
    }

    #[test]
    fn options_of_a_clone_do_not_go_with_the_generic_mode() {
        assert_eq!(Mode::of(&options(&[])).unwrap(), Mode::Clone);
        assert_eq!(
            Mode::of(&options(&["-e", "cat"])).unwrap(),
            Mode::Generic(Consumer::Command("cat".into()))
        );
        assert!(Mode::of(&options(&["-e", "cat", "--dry-run"])).is_err());
        assert!(Mode::of(&options(&["--output", "/dev/null", "--disk", "sda=vda"])).is_err());
    }

    #[test]
    fn a_host_that_can_be_none_is_refused_before_it_is_looked_for() {
        for good in [
            "golden",
            "10.0.0.1",
            "10.0.0.1:30765",
            "fd00::1",
            "[fd00::1]:30765",
            "fe80::1%eth0",
            "a.example:1",
        ] {
            assert!(super::check_host(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            " ",
            "10.0.0.1:99999",
            "golden:",
            "golden:x",
            "golden:0",
            "[fd00::1]:70000",
            "a b",
            "a\n",
        ] {
            assert!(super::check_host(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_unprintable_session_name_is_refused() {
        let error = node_config(&options(&["-s", "a\nb", "--join", &code()])).unwrap_err();
        assert!(format!("{error:#}").contains("-s"), "{error:#}");
    }

    #[test]
    fn a_name_that_is_no_host_name_is_refused_by_its_option() {
        for bad in ["bad name!", "n7$(id>/pwned)", "a_b", "10.0.0.1", ""] {
            let error = node_config(&options(&["--name", bad, "--join", &code()])).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.starts_with("--name: "), "{error}");
        }
        let good = node_config(&options(&["--name", "n7.lab", "--join", &code()])).unwrap();
        assert_eq!(good.name.as_str(), "n7.lab");
    }

    #[test]
    fn a_node_name_cannot_leave_the_log_directory() {
        assert_eq!(log_name("../../etc/x"), "ka-client-.._.._etc_x.log");
    }
}
