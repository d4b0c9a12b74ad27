//! From drivers to an address: waiting for the link, then DHCP or what `ka.ip=` says.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use crossbeam_channel::{Sender, bounded};
use ka_dhcp::NODE_CLASS;
use ka_dhcpc::{Client, Config, Event, Interface, Lease};
use ka_host::link::{self, Link};
use ka_host::route;
use ka_lldp::Listener;
use ka_mac::MacAddr;

use super::cmdline::{Addressing, CommandLine, StaticAddress};
use super::drivers::Drivers;
use crate::log_ring::LogRing;

/// Drivers that load firmware, and ports that negotiate with a slow switch, take their time.
const LINK_LIMIT: Duration = Duration::from_secs(60);
/// So long the interface that the machine booted from is waited for; then any other will do.
const BOOT_INTERFACE_LIMIT: Duration = Duration::from_secs(20);
/// Without a boot interface: after the first one has a link, others get this long to have one, too.
const OTHERS_LIMIT: Duration = Duration::from_secs(3);
/// Spanning tree lets nothing through for 30 s (twice 15 s) after the link comes; then DHCP begins.
const LEASE_LIMIT: Duration = Duration::from_secs(120);
/// After the first lease, servers of other interfaces get this long.
const OTHER_LEASES_LIMIT: Duration = Duration::from_secs(2);
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// A network that this machine is on.
#[derive(Debug, Clone)]
pub(super) struct Online {
    /// MAC address of the interface.
    pub(super) mac: MacAddr,
    /// The machine's own address, when there is only one: it is the one to be known by.
    pub(super) addr: Option<Ipv4Addr>,
    /// The name that the DHCP server has for this machine.
    pub(super) host_name: Option<String>,
}

/// Goes online.
///
/// # Errors
/// No interface, no link, no address: one line that says which, and what to look at.
pub(super) fn go_online(
    line: &CommandLine,
    drivers: &mut Drivers,
    log: &Arc<LogRing>,
    lldp: &Listener,
) -> anyhow::Result<Online> {
    route::set_up("lo", 1)?;
    let links = wait_for_links(line.boot_interface, drivers, log, lldp)?;
    match &line.ip {
        Addressing::Static(address) => use_static(&links, address, log),
        Addressing::Dhcp => use_dhcp(&links, log),
    }
}

/// Returns the interfaces to use: the one booted from, else all that have a link. LLDP is listened for on every
/// interface that comes up.
fn wait_for_links(
    boot: Option<MacAddr>,
    drivers: &mut Drivers,
    log: &LogRing,
    lldp: &Listener,
) -> anyhow::Result<Vec<Link>> {
    log.push("waiting for a network link");
    let began = Instant::now();
    let mut wait = LinkWait::new(boot);
    let mut raised = Vec::new();
    loop {
        let loaded = drivers.scan();
        for problem in &loaded.problems {
            log.push(&format!("warning: {problem}"));
        }
        for link in link::ethernet() {
            if !raised.contains(&link.index) {
                raised.push(link.index);
                // Before it is up: many switches tell their port as soon as the line is.
                lldp.listen_on(&link.name, link.index);
                route::set_up(&link.name, link.index)?;
            }
        }
        let links = link::ethernet();
        match wait.judge(&links, began.elapsed()) {
            Verdict::Wait => std::thread::sleep(LOOK_INTERVAL),
            Verdict::Use(chosen) => {
                if let Some(mac) = boot.filter(|mac| chosen.iter().all(|link| link.mac != *mac)) {
                    log.push(&format!(
                        "warning: no interface with a link has the address {mac} of BOOTIF; using {}",
                        list(&chosen)
                    ));
                }
                log.push(&format!("link on {}", list(&chosen)));
                return Ok(chosen);
            }
            Verdict::GiveUp => return Err(no_link(&links)),
        }
    }
}

/// Decides when the wait for links is over. Pure.
struct LinkWait {
    boot: Option<MacAddr>,
    first_link: Option<Duration>,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Wait,
    Use(Vec<Link>),
    GiveUp,
}

impl LinkWait {
    fn new(boot: Option<MacAddr>) -> Self {
        Self {
            boot,
            first_link: None,
        }
    }

    fn judge(&mut self, links: &[Link], waited: Duration) -> Verdict {
        let with_link: Vec<Link> = links.iter().filter(|link| link.carrier).cloned().collect();
        if let Some(boot) = self.boot {
            if let Some(link) = with_link.iter().find(|link| link.mac == boot) {
                return Verdict::Use(vec![link.clone()]);
            }
            if waited < BOOT_INTERFACE_LIMIT {
                return Verdict::Wait;
            }
        }
        if with_link.is_empty() {
            self.first_link = None;
            return if waited < LINK_LIMIT {
                Verdict::Wait
            } else {
                Verdict::GiveUp
            };
        }
        let since = *self.first_link.get_or_insert(waited);
        let all_have_one = with_link.len() == links.len();
        if all_have_one || waited >= since + OTHERS_LIMIT {
            Verdict::Use(with_link)
        } else {
            Verdict::Wait
        }
    }
}

fn no_link(links: &[Link]) -> anyhow::Error {
    if links.is_empty() {
        let cards = network_cards();
        let cards = if cards.is_empty() {
            "none".to_owned()
        } else {
            cards.join(", ")
        };
        return anyhow!(
            "no network interface: the boot image has no driver for this machine's network card (on PCI: {cards}); \
             make it with all drivers, or with one for that card"
        );
    }
    anyhow!(
        "no interface has a link after {} s: {}; look at the cable and the switch port",
        LINK_LIMIT.as_secs(),
        list(links)
    )
}

/// Vendor and device numbers of the network cards on PCI (class 02), as `lspci -n` shows them.
fn network_cards() -> Vec<String> {
    let Ok(devices) = fs::read_dir("/sys/bus/pci/devices") else {
        return Vec::new();
    };
    let text = |dir: &fs::DirEntry, file: &str| {
        fs::read_to_string(dir.path().join(file))
            .unwrap_or_default()
            .trim()
            .trim_start_matches("0x")
            .to_owned()
    };
    let cards = devices
        .flatten()
        .filter(|device| text(device, "class").starts_with("02"));
    cards
        .map(|device| format!("{}:{}", text(&device, "vendor"), text(&device, "device")))
        .collect()
}

fn list(links: &[Link]) -> String {
    let names: Vec<String> = links
        .iter()
        .map(|link| format!("{} ({})", link.name, link.mac))
        .collect();
    names.join(", ")
}

fn use_static(links: &[Link], address: &StaticAddress, log: &LogRing) -> anyhow::Result<Online> {
    let [link] = links else {
        bail!(
            "ka.ip= is for one interface and {} have a link: name one with BOOTIF=",
            list(links)
        );
    };
    apply(link, address.addr, address.prefix, address.gateway)?;
    write_resolver(None, address.name_server.as_slice());
    log.push(&format!(
        "{}: {}/{} (ka.ip=)",
        link.name, address.addr, address.prefix
    ));
    Ok(Online {
        mac: link.mac,
        addr: Some(address.addr),
        host_name: None,
    })
}

/// Asks on every link at once. The first lease decides name, gateway and resolver; the others only give
/// addresses.
fn use_dhcp(links: &[Link], log: &Arc<LogRing>) -> anyhow::Result<Online> {
    log.push(&format!("asking for an address on {}", list(links)));
    let (sender, results) = bounded(links.len());
    for link in links {
        let (link, log, sender) = (link.clone(), Arc::clone(log), sender.clone());
        std::thread::Builder::new()
            .name(format!("dhcp-{}", link.name))
            .spawn(move || ask_and_keep(&link, &log, &sender))
            .context("starting a thread for DHCP")?;
    }
    drop(sender);
    let mut leases: Vec<(Link, Lease)> = Vec::new();
    let mut failures = Vec::new();
    let mut deadline = Instant::now() + LEASE_LIMIT + OTHER_LEASES_LIMIT;
    while let Ok(result) = results.recv_deadline(deadline) {
        match result {
            Ok(lease) => leases.push(lease),
            Err(error) => failures.push(format!("{error:#}")),
        }
        if !leases.is_empty() {
            deadline = deadline.min(Instant::now() + OTHER_LEASES_LIMIT);
        }
    }
    let Some((link, lease)) = leases.first() else {
        bail!(
            "{}: is there a DHCP server on this network, and has it addresses left?",
            failures.join("; ")
        );
    };
    if let Some(gateway) = lease.gateway {
        route::set_default_route(&link.name, link.index, gateway)?;
    }
    write_resolver(lease.domain.as_deref(), &lease.name_servers);
    Ok(Online {
        mac: link.mac,
        addr: (leases.len() == 1).then_some(lease.addr),
        host_name: lease.host_name.clone(),
    })
}

/// The thread of one interface: gets a lease, reports it, and keeps it as long as this machine runs.
fn ask_and_keep(link: &Link, log: &Arc<LogRing>, results: &Sender<anyhow::Result<(Link, Lease)>>) {
    let tell = |event: &Event| log.push(&format!("{}: {}", link.name, describe(event)));
    let mut client = match acquire(link, tell) {
        Ok((client, lease)) => {
            results.send(Ok((link.clone(), lease))).ok();
            client
        }
        Err(error) => {
            results.send(Err(error)).ok();
            return;
        }
    };
    client.keep(
        || true,
        |event| {
            if !matches!(event, Event::Extended(_)) {
                tell(event);
            }
            // A lease that was lost and found again has the same address, unless another machine has it by
            // now.
            if let Event::Bound(lease) = event
                && let Err(error) = apply(link, lease.addr, lease.prefix, lease.gateway)
            {
                log.push(&format!("warning: {error:#}"));
            }
        },
    );
}

fn acquire(link: &Link, tell: impl Fn(&Event)) -> anyhow::Result<(Client, Lease)> {
    let interface = Interface {
        name: link.name.clone(),
        index: link.index,
    };
    let config = Config {
        mac: link.mac,
        vendor_class: NODE_CLASS.to_owned(),
        host_name: None,
        seed: seed(link.mac),
    };
    let mut client = Client::new(interface, config)?;
    let lease = client.acquire(LEASE_LIMIT, tell)?;
    apply(link, lease.addr, lease.prefix, None)?;
    Ok((client, lease))
}

/// Returns a seed that differs between machines by the MAC address, and between starts by the time.
fn seed(mac: MacAddr) -> u64 {
    let mac = mac.0.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |time| u64::from(time.subsec_nanos()) << 20 ^ time.as_secs());
    (mac ^ now.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn apply(link: &Link, addr: Ipv4Addr, prefix: u8, gateway: Option<Ipv4Addr>) -> anyhow::Result<()> {
    route::add_address(&link.name, link.index, addr, prefix)?;
    if let Some(gateway) = gateway {
        route::set_default_route(&link.name, link.index, gateway)?;
    }
    Ok(())
}

fn describe(event: &Event) -> String {
    match event {
        Event::Asking(times) => format!("no DHCP server has answered yet; asking for the {times}. time"),
        Event::Bound(lease) | Event::Extended(lease) => {
            let time = lease.lasts.map_or("without end".to_owned(), |times| {
                format!("for {} s", times.end.as_secs())
            });
            format!("{}/{} from {} {time}", lease.addr, lease.prefix, lease.server)
        }
        Event::Refused(why) => format!("the DHCP server takes its offer back: {why}"),
        Event::InUse { addr, owner } => format!(
            "warning: {addr}, which the DHCP server gave, is in use by {owner}; declined, asking for another one in 10 s"
        ),
        Event::Expired(lease) => format!(
            "warning: the lease of {} has expired, and no DHCP server has renewed it",
            lease.addr
        ),
    }
}

/// For the tools of the golden node and its hooks; nothing of ours looks up names.
fn write_resolver(domain: Option<&str>, servers: &[Ipv4Addr]) {
    let mut text = String::new();
    if let Some(domain) = domain {
        text.push_str(&format!("search {domain}\n"));
    }
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !text.is_empty() {
        // It may not exist, and nothing here depends on it.
        fs::write("/etc/resolv.conf", text).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn link(number: u8, carrier: bool) -> Link {
        Link {
            name: format!("eth{number}"),
            index: number.into(),
            mac: MacAddr([2, 0, 0, 0, 0, number]),
            carrier,
        }
    }

    #[test]
    fn the_boot_interface_is_used_alone_as_soon_as_it_has_a_link() {
        let boot = link(2, true);
        let mut wait = LinkWait::new(Some(boot.mac));
        assert_eq!(wait.judge(&[], SECOND), Verdict::Wait);
        assert_eq!(
            wait.judge(&[link(1, true), link(2, false)], 9 * SECOND),
            Verdict::Wait
        );
        let links = [link(1, true), boot.clone()];
        assert_eq!(wait.judge(&links, 10 * SECOND), Verdict::Use(vec![boot]));
    }

    #[test]
    fn a_boot_interface_that_never_comes_is_replaced_by_the_others() {
        let mut wait = LinkWait::new(Some(MacAddr([9; 6])));
        let links = [link(1, true)];
        assert_eq!(wait.judge(&links, 19 * SECOND), Verdict::Wait);
        assert_eq!(wait.judge(&links, 20 * SECOND), Verdict::Use(links.to_vec()));
    }

    #[test]
    fn without_a_boot_interface_slower_links_are_waited_for_a_little() {
        let mut wait = LinkWait::new(None);
        let links = [link(1, true), link(2, false)];
        assert_eq!(wait.judge(&links, 5 * SECOND), Verdict::Wait);
        assert_eq!(wait.judge(&links, 7 * SECOND), Verdict::Wait);
        assert_eq!(wait.judge(&links, 8 * SECOND), Verdict::Use(vec![link(1, true)]));
        let mut wait = LinkWait::new(None);
        assert_eq!(
            wait.judge(&[link(1, true)], SECOND),
            Verdict::Use(vec![link(1, true)])
        );
    }

    #[test]
    fn without_any_link_it_ends_and_says_where_to_look() {
        let mut wait = LinkWait::new(None);
        assert_eq!(wait.judge(&[link(1, false)], 59 * SECOND), Verdict::Wait);
        assert_eq!(wait.judge(&[link(1, false)], 60 * SECOND), Verdict::GiveUp);
        let error = no_link(&[link(1, false)]).to_string();
        assert!(
            error.contains("eth1 (02:00:00:00:00:01)") && error.contains("cable"),
            "{error}"
        );
        assert!(no_link(&[]).to_string().contains("no driver"));
    }
}
