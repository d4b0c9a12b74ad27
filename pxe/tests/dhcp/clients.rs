//! Leases: got, renewed, given back, kept over a restart, by ISC's client and by busybox'.

use anyhow::{Context as _, Result, ensure};
use ka_pxe::dhcp::DhcpEvent;
use nix::sys::signal::Signal;

use crate::kit::{OURS, Room, addresses, known, lease_file, wait};

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
    client.release()?;
    // Given back: the next machine could have it, and this one gets it again.
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
