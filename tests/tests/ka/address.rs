//! The node's DHCP client against dnsmasq, on a switch in namespaces: a lease, its renewal, a server that
//! goes away.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ka_dhcpc::{Client, Config, Event, Interface, Lease};
use ka_host::route;
use ka_mac::MacAddr;
use ka_tests::netns::{Namespace, Network};
use ka_tests::process::{Program, Running};
use ka_tests::scratch::Scratch;

/// Time limit of a step: a longer one hangs.
const LIMIT: Duration = Duration::from_secs(40);

/// Starts dnsmasq on the golden host: addresses from 10.77.0.60 to `last`, in order, to be renewed after
/// three seconds.
fn dnsmasq(network: &Network, scratch: &Scratch, last: &str) -> Result<Running> {
    let leases = scratch.path().join("leases");
    let mut server = Program::new("dnsmasq")
        .args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--port=0",
            "--user=root",
        ])
        .args([
            "--interface=eth0",
            "--log-dhcp",
            "--log-facility=-",
            "--pid-file=",
        ])
        .args(["--dhcp-authoritative", "--dhcp-sequential-ip", "--no-ping"])
        .args([
            "--dhcp-option=3,10.77.0.254",
            "--dhcp-option=6,10.77.0.253",
            "--domain=room.example",
        ])
        .args(["--dhcp-option-force=58,3", "--dhcp-option-force=59,6"])
        .arg(format!("--dhcp-range=10.77.0.60,{last},255.255.252.0,2m"))
        .arg(format!("--dhcp-leasefile={}", leases.display()))
        .inside(network.golden())
        .limit(LIMIT * 3)
        .spawn()?;
    server.wait_for("DHCP, IP range")?;
    Ok(server)
}

/// Runs the client on the node until `enough` is true for its output.
fn run_client(
    node: &Namespace,
    enough: impl Fn(&[Event]) -> bool + Send + Sync,
) -> Result<(Lease, Vec<Event>)> {
    // /sys/class/net would show the namespace that mounted it.
    let listed = node.ip("-o link show dev eth0")?;
    let (index, _) = listed.split_once(':').context("no index")?;
    let mut words = listed.split_whitespace();
    let mac: MacAddr = words
        .find(|word| *word == "link/ether")
        .and_then(|_| words.next())
        .context("no hardware address")?
        .parse()?;
    let interface = Interface {
        name: "eth0".to_owned(),
        index: index.parse()?,
    };
    let config = Config {
        mac,
        vendor_class: "KA-node".to_owned(),
        host_name: None,
        seed: 7,
    };
    node.enter(|| -> Result<_> {
        let (name, index) = (interface.name.clone(), interface.index);
        let events = RefCell::new(Vec::new());
        let note = |event: &Event| events.borrow_mut().push(event.clone());
        let mut client = Client::new(interface, config)?;
        let lease = client.acquire(LIMIT, note)?;
        route::add_address(&name, index, lease.addr, lease.prefix)?;
        let deadline = Instant::now() + LIMIT;
        client.keep(|| !enough(&events.borrow()) && Instant::now() < deadline, note);
        Ok((lease, events.into_inner()))
    })?
}

#[test]
fn the_node_gets_a_lease_from_dnsmasq_and_renews_it() -> Result<()> {
    let network = Network::new(1, None)?;
    let scratch = Scratch::new("address")?;
    let node = network.node(1);
    node.ip("addr flush dev eth0")?;
    let server = dnsmasq(&network, &scratch, "10.77.0.60")?;

    let extended = |events: &[Event]| {
        events
            .iter()
            .filter(|event| matches!(event, Event::Extended(_)))
            .count()
    };
    let (lease, events) = run_client(node, move |events| extended(events) >= 2)?;

    assert_eq!(
        (lease.addr.to_string(), lease.prefix),
        ("10.77.0.60".to_owned(), 22)
    );
    assert_eq!(lease.gateway, Some([10, 77, 0, 254].into()));
    assert_eq!(lease.name_servers, [std::net::Ipv4Addr::new(10, 77, 0, 253)]);
    assert_eq!(lease.domain.as_deref(), Some("room.example"));
    ensure!(extended(&events) >= 2, "{events:?}\n{}", server.said());
    ensure!(
        server.said().contains("vendor class: KA-node"),
        "{}",
        server.said()
    );
    ensure!(node.ip("-o -4 addr show dev eth0")?.contains("10.77.0.60/22"));
    Ok(())
}

#[test]
fn a_server_that_starts_late_is_found() -> Result<()> {
    let network = Network::new(1, None)?;
    let scratch = Scratch::new("address-late")?;
    let node = network.node(1);
    node.ip("addr flush dev eth0")?;
    std::thread::scope(|scope| {
        let client = scope.spawn(|| run_client(node, |_| true));
        // The wait is longer than the first question and its repetition.
        std::thread::sleep(Duration::from_secs(4));
        let server = dnsmasq(&network, &scratch, "10.77.0.60")?;
        let (lease, events) = client.join().expect("the client's thread")?;
        assert_eq!(lease.addr.to_string(), "10.77.0.60", "{}", server.said());
        ensure!(
            events.iter().any(|event| matches!(event, Event::Asking(2..))),
            "{events:?}"
        );
        Ok(())
    })
}

#[test]
fn an_address_that_another_machine_uses_is_declined() -> Result<()> {
    let network = Network::new(2, None)?;
    let scratch = Scratch::new("address-used")?;
    let (node, squatter) = (network.node(1), network.node(2));
    node.ip("addr flush dev eth0")?;
    squatter.ip("addr add 10.77.0.60/22 dev eth0")?;
    let server = dnsmasq(&network, &scratch, "10.77.0.61")?;

    let (lease, events) = run_client(node, |_| true)?;

    assert_eq!(lease.addr.to_string(), "10.77.0.61", "{}", server.said());
    let squatted = std::net::Ipv4Addr::new(10, 77, 0, 60);
    ensure!(
        events
            .iter()
            .any(|event| matches!(event, Event::InUse { addr, .. } if *addr == squatted)),
        "{events:?}"
    );
    ensure!(server.said().contains("DHCPDECLINE"), "{}", server.said());
    Ok(())
}
