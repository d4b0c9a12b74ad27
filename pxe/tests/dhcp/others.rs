//! Other servers on the wire, relays, and obstacles to a start.

use anyhow::{Context as _, Result, ensure};
use ka_lab::netns::Namespace;
use ka_lab::process::Program;
use ka_pxe::dhcp::{DhcpEvent, DhcpMode, Pool, RelayedPool};

use crate::room::{LIMIT, OURS, Room, Served, dnsmasq, full, wait};

#[test]
fn full_mode_refuses_to_start_beside_another_server_and_names_it() -> Result<()> {
    let room = Room::new("other", 1)?;
    let _other = dnsmasq(
        &room,
        1,
        "10.77.0.9",
        &["--dhcp-range=10.77.0.150,10.77.0.160,1h"],
    )?;
    let said = room.refused(&room.full(60))?.to_string();
    ensure!(
        said.starts_with("another DHCP server, 10.77.0.9, answers on eth0 (it offers 10.77.0.1"),
        "{said}"
    );
    ensure!(
        said.contains("--dhcp proxy") && said.lines().count() == 1,
        "{said}"
    );
    Ok(())
}

#[test]
fn a_slow_server_that_pings_before_it_offers_is_found_too() -> Result<()> {
    let room = Room::new("slow", 1)?;
    let _other = crate::room::dnsmasq_that_pings(
        &room,
        1,
        "10.77.0.9",
        &["--dhcp-range=10.77.0.150,10.77.0.160,1h"],
    )?;
    let said = room.refused(&room.full(60))?.to_string();
    ensure!(said.contains("10.77.0.9"), "{said}");
    Ok(())
}

#[test]
fn two_of_ours_do_not_start_on_one_wire() -> Result<()> {
    let room = Room::new("twice", 1)?;
    let first = room.serve(&room.full(60))?;
    room.client(1).ip("addr add 10.77.0.2/24 brd + dev eth0")?;
    let mut second = room.full(60);
    second.state_dir = room.scratch.path().join("second");
    let refused = match Served::start(room.client(1), &second)? {
        Ok(_) => anyhow::bail!("it started"),
        Err(err) => err.to_string(),
    };
    ensure!(
        refused.starts_with(&format!("another DHCP server, {OURS}, ")),
        "{refused}"
    );
    // On the same host the port is taken.
    let same = room.refused(&room.full(60))?.to_string();
    ensure!(
        same.starts_with("UDP port 67 on eth0 is taken by another program"),
        "{same}"
    );
    first.stop()
}

#[test]
fn proxy_mode_names_the_boot_file_beside_another_server() -> Result<()> {
    let room = Room::new("proxy", 2)?;
    let _other = dnsmasq(
        &room,
        2,
        "10.77.0.9",
        &["--dhcp-range=10.77.0.150,10.77.0.160,1h"],
    )?;
    let server = room.serve(&room.config(DhcpMode::Proxy))?;
    // A system gets its address from the other server, and nothing from us.
    let system = room.udhcpc(1, &["-q"])?;
    let bound = system.wait_for("bound", 0)?;
    ensure!(bound.contains(" 10.77.0.9 "), "{bound}");
    system.run.wait()?;
    server.wait_for("the system", |event| matches!(event, DhcpEvent::SeenAgain { .. }))?;
    // Firmware receives both offers. Their order does not matter, because a ROM collects them.
    let replies = crate::room::rom_hears(&room, 1)?;
    let (address, ours): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.yiaddr != [0; 4]);
    ensure!(
        address.iter().any(|reply| reply.server == [10, 77, 0, 9]),
        "{replies:?}"
    );
    let ours = ours.first().context("no proxy offer")?;
    assert_eq!(ours.server, [10, 77, 0, 1]);
    assert_eq!(ours.file, "boot.BIOS");
    let named = crate::room::ask_4011(&room, 1)?;
    assert_eq!((named.file.as_str(), named.yiaddr), ("boot.BIOS", [0; 4]));
    server.stop()
}

#[test]
fn machines_behind_a_real_relay_get_their_subnets_addresses() -> Result<()> {
    let room = Room::new("relay", 1)?;
    // The client's host becomes the relay. Behind it is another wire with one machine.
    let (relay, far) = (room.client(1), Namespace::new("far")?);
    relay.ip("addr add 10.77.0.200/24 brd + dev eth0")?;
    let pair = format!(
        "link add far0 netns {} type veth peer name eth0 netns {}",
        relay.name(),
        far.name()
    );
    Program::new("ip").args(pair.split(' ')).run()?;
    relay.ip("addr add 10.88.0.1/24 brd + dev far0")?;
    relay.ip("link set far0 up")?;
    far.ip("link set eth0 up")?;
    relay.run("sysctl -qw net.ipv4.ip_forward=1")?;
    room.server_host().ip("route add 10.88.0.0/24 via 10.77.0.200")?;
    let mut config = full(60);
    config.relayed = vec![RelayedPool {
        pool: Pool {
            first: [10, 88, 0, 50].into(),
            last: [10, 88, 0, 60].into(),
        },
        prefix: 24,
        router: None,
    }];
    let server = room.serve(&room.config(DhcpMode::Full(config)))?;
    let mut relaying = Program::new("dhcrelay")
        .args(["-4", "-d", "-a", "-id", "far0", "-iu", "eth0", OURS])
        .inside(relay)
        .limit(LIMIT)
        .spawn()?;
    relaying.wait_until("it listens", |run| Ok(run.said().contains("Sending on")))?;

    let log = room.scratch.path().join("far.log");
    let script = room.script(
        "far.sh",
        &format!(
            "#!/bin/sh\necho \"$1 $ip $subnet $router $serverid\" >> {}\ncase $1 in\nbound|renew) ip addr flush dev \
             $interface; ip addr add $ip/24 dev $interface; ip route add default via $router;;\nesac\n",
            log.display()
        ),
    )?;
    let mut client = Program::new("udhcpc")
        .args(["-f", "-i", "eth0", "-t", "8", "-T", "1", "-A", "2", "-s"])
        .arg(&script)
        .inside(&far)
        .limit(LIMIT)
        .spawn()?;
    let line = |word: &'static str| {
        wait(word, || {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            Ok(log.lines().find(|line| line.starts_with(word)).map(str::to_owned))
        })
    };
    let bound =
        line("bound").with_context(|| format!("relay: {}\nclient: {}", relaying.said(), client.said()))?;
    assert_eq!(bound, format!("bound 10.88.0.50 255.255.255.0 10.88.0.1 {OURS}"));
    client.signal(nix::sys::signal::Signal::SIGUSR1)?;
    let renewed = line("renew").with_context(|| client.said())?;
    ensure!(renewed.starts_with("renew 10.88.0.50 "), "{renewed}");
    server.stop()
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_sent() -> Result<()> {
    let room = Room::new("refused", 0)?;
    let mut config = room.full(60);
    if let DhcpMode::Full(full) = &mut config.mode {
        full.pool.first = [10, 77, 0, 1].into();
    }
    let said = room.refused(&config)?.to_string();
    assert_eq!(
        said,
        "--dhcp: pool 10.77.0.1-10.77.0.60 contains our own address 10.77.0.1: choose FIRST and LAST beside it"
    );
    let mut config = room.full(60);
    config.iface = "eth7".to_owned();
    let said = room.refused(&config)?.to_string();
    assert_eq!(said, "interface eth7 does not exist; there are eth0, lo");
    std::fs::create_dir_all(room.scratch.path().join("state"))?;
    std::fs::write(
        room.scratch.path().join("state/leases-eth0.json"),
        "{\"version\":",
    )?;
    let said = room.refused(&room.full(60))?.to_string();
    ensure!(said.contains("leases-eth0.json: is not what we wrote"), "{said}");
    room.server_host().ip("addr flush dev eth0")?;
    let said = room.refused(&room.full(60))?.to_string();
    assert_eq!(
        said,
        "interface eth0 has no IPv4 address: ip address add ADDRESS/PREFIX dev eth0"
    );
    room.server_host().ip("link set eth0 down")?;
    let said = room.refused(&room.full(60))?.to_string();
    assert_eq!(said, "interface eth0 is down: ip link set eth0 up");
    Ok(())
}
