//! Leases with ISC's client and busybox's: obtained, renewed, released, kept over a restart.

use anyhow::{Context as _, Result, ensure};
use ka_pxe::dhcp::DhcpEvent;
use nix::sys::signal::Signal;

use crate::room::{OURS, Room, addresses, known, lease_file, wait};

#[test]
fn dhclient_gets_renews_and_releases_a_lease() -> Result<()> {
    let room = Room::new("dhclient", 1)?;
    let mac = room.mac(1)?;
    let mut config = room.full(60);
    config.known = vec![known(&mac, Some("node-one"), None)?];
    if let ka_pxe::dhcp::DhcpMode::Full(full) = &mut config.mode {
        full.lease_time = std::time::Duration::from_secs(10);
    }
    let server = room.serve(&config)?;
    let client = room.dhclient(1)?;
    let running = client.start()?;

    let bound = client.wait_for(&["BOUND"], 0)?;
    assert_eq!(
        bound,
        format!("BOUND 10.77.0.50 255.255.255.0 10.77.0.254 10.77.0.253 room.example node-one {OURS}")
    );
    client
        .wait_for(&["RENEW"], 0)
        .context("after half of ten seconds")?;
    ensure!(lease_file(&room)?.contains(&mac), "{}", lease_file(&room)?);

    drop(running);
    room.introduce_server(1)?;
    client.release()?;
    // The lease was released: the next machine could have it, and this one gets it again.
    let until = |text: &str| -> Result<u64> {
        let json: serde_json::Value = serde_json::from_str(text)?;
        json["leases"][0]["until"].as_u64().context("no lease")
    };
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_secs();
    wait("the release", || {
        Ok((until(&lease_file(&room)?)? <= now + 1).then_some(()))
    })?;
    let events = server.events();
    let leased = events
        .iter()
        .filter(|event| matches!(event, DhcpEvent::Leased { .. }));
    assert_eq!(leased.count(), 1, "renewals are not told: {events:?}");
    ensure!(
        events
            .iter()
            .any(|event| matches!(event, DhcpEvent::SeenAgain { mac: seen, .. } if seen.to_string() == mac)),
        "{events:?}"
    );
    server.stop()
}

#[test]
fn udhcpc_gets_renews_and_releases_a_lease() -> Result<()> {
    let room = Room::new("udhcpc", 1)?;
    let server = room.serve(&room.full(60))?;
    let mut client = room.udhcpc(1, &[])?;
    let bound = client.wait_for("bound", 0)?;
    ensure!(
        bound.starts_with("bound 10.77.0.50 255.255.255.0 10.77.0.254 10.77.0.253 room.example"),
        "{bound}"
    );
    assert_eq!(addresses(room.client(1))?, ["10.77.0.50/24"]);

    client.run.signal(Signal::SIGUSR1)?;
    client.wait_for("renew", 0).context("unicast, while bound")?;

    room.introduce_server(1)?;
    client.run.signal(Signal::SIGUSR2)?;
    client.wait_for("deconfig", 2)?;
    let released = || -> Result<_> {
        let json: serde_json::Value = serde_json::from_str(&lease_file(&room)?)?;
        let until = json["leases"][0]["until"].as_u64().context("no lease")?;
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)?
            .as_secs();
        Ok((until <= now).then_some(()))
    };
    wait("the release", released)?;
    server.stop()
}

#[test]
fn leases_are_kept_over_a_restart_of_the_server() -> Result<()> {
    let room = Room::new("restart", 2)?;
    let server = room.serve(&room.full(60))?;
    let mut first = room.udhcpc(1, &[])?;
    ensure!(
        first.wait_for("bound", 0)?.starts_with("bound 10.77.0.50 "),
        "{}",
        first.log()
    );
    server.stop()?;
    // The starting server must not take a client of the former one for "another server".
    let server = room.serve(&room.full(60))?;
    let second = room.udhcpc(2, &[])?;
    ensure!(
        second.wait_for("bound", 0)?.starts_with("bound 10.77.0.51 "),
        "{}",
        second.log()
    );
    first.run.signal(Signal::SIGUSR1)?;
    ensure!(
        first.wait_for("renew", 0)?.starts_with("renew 10.77.0.50 "),
        "{}",
        first.log()
    );
    server.stop()
}

#[test]
fn dhclient_comes_back_with_its_old_address_after_a_reboot() -> Result<()> {
    let room = Room::new("reboot", 1)?;
    let server = room.serve(&room.full(60))?;
    let client = room.dhclient(1)?;
    let running = client.start()?;
    client.wait_for(&["BOUND"], 0)?;
    client.wait_for_lease("10.77.0.50")?;
    drop(running);
    room.client(1).ip("addr flush dev eth0")?;
    let seen = client.lines()?;
    let _running = client.start()?;
    let rebooted = client.wait_for(&["REBOOT"], seen)?;
    ensure!(rebooted.starts_with("REBOOT 10.77.0.50 "), "{rebooted}");
    server.stop()
}

#[test]
fn an_address_that_answers_arp_is_never_given() -> Result<()> {
    let room = Room::new("conflict", 2)?;
    // This machine has addresses set by hand, without DHCP.
    room.client(2).ip("addr add 10.77.0.50/24 dev eth0")?;
    room.client(2).ip("addr add 10.77.0.51/24 dev eth0")?;
    let server = room.serve(&room.full(60))?;
    let client = room.udhcpc(1, &[])?;
    let bound = client.wait_for("bound", 0)?;
    ensure!(bound.starts_with("bound 10.77.0.52 "), "{bound}");
    let told = server.wait_for_warning("10.77.0.51 is used by")?;
    ensure!(told.contains(&room.mac(2)?), "{told}");
    server.stop()
}

#[test]
fn a_used_up_pool_is_told() -> Result<()> {
    let room = Room::new("exhausted", 2)?;
    let server = room.serve(&room.full(50))?;
    let first = room.udhcpc(1, &[])?;
    first.wait_for("bound", 0)?;
    let second = room.udhcpc(2, &["-n"])?;
    let told = server.wait_for_warning("used up")?;
    ensure!(
        told.starts_with("pool 10.77.0.50-10.77.0.50 is used up (1 leased, 0 used by others)"),
        "{told}"
    );
    let ended = second.run.wait()?;
    ensure!(ended.code == Some(1), "{ended:?}");
    server.stop()
}

#[test]
fn a_listed_machine_gets_its_address_and_its_name() -> Result<()> {
    let room = Room::new("listed", 1)?;
    let mut config = room.full(60);
    config.known = vec![known(&room.mac(1)?, Some("rack1-07"), Some("10.77.0.7"))?];
    let server = room.serve(&config)?;
    let client = room.udhcpc(1, &["-O", "hostname"])?;
    let bound = client.wait_for("bound", 0)?;
    ensure!(bound.starts_with("bound 10.77.0.7 "), "{bound}");
    ensure!(bound.contains(" rack1-07 "), "{bound}");
    let leased = server.wait_for("its lease", |event| matches!(event, DhcpEvent::Leased { .. }))?;
    let DhcpEvent::Leased { address, .. } = leased else {
        unreachable!()
    };
    assert_eq!(address.to_string(), "10.77.0.7");
    server.stop()
}

#[test]
fn firmware_is_told_its_boot_file_and_our_node_is_no_system() -> Result<()> {
    let room = Room::new("firmware", 1)?;
    let server = room.serve(&room.full(60))?;
    let rom = room.udhcpc(
        1,
        &["-V", "PXEClient:Arch:00007:UNDI:003000", "-x", "0x5d:0007", "-q"],
    )?;
    let bound = rom.wait_for("bound", 0)?;
    ensure!(
        bound.ends_with(&format!("{OURS} {OURS} boot.UEFI-x64")),
        "{bound}"
    );
    let asked = server.wait_for("the firmware", |event| matches!(event, DhcpEvent::Asked(_)))?;
    let DhcpEvent::Asked(machine) = asked else {
        unreachable!()
    };
    assert_eq!(machine.mac.to_string(), room.mac(1)?);
    rom.run.wait()?;
    let node = room.udhcpc(1, &["-V", ka_dhcp::NODE_CLASS])?;
    node.wait_for("bound", 0)?;
    let seen = server.events();
    ensure!(
        !seen
            .iter()
            .any(|event| matches!(event, DhcpEvent::SeenAgain { .. })),
        "{seen:?}"
    );
    server.stop()
}
