//! Arming from the machine's side of the wire: which machine gets `kamethod` by itself. Nothing may be erased
//! by accident.

use std::fs;

use anyhow::{Result, ensure};
use ka_lab::netns::GOLDEN_ADDRESS;
use ka_mac::MacAddr;
use ka_pxe::{Arm, BootConfig, BootEvent, BootServer, Entry, Programs, Served, Source};

use crate::boot_network::BootNetwork;

const LISTED: &str = "52-54-00-00-00-01";
const STRANGER: &str = "52-54-00-00-00-02";

/// The default entry, which all three forms must agree on.
fn default_of(net: &BootNetwork, mac: &str) -> Result<String> {
    let pxelinux = tftp(net, &format!("pxelinux.cfg/01-{mac}"))?;
    let grub = tftp(net, &format!("grub/grub.cfg-01-{mac}"))?;
    let ipxe = net.http(&format!("ipxe/{mac}.ipxe"), &[])?;
    let entry = ["local", "kamethod"].into_iter().find(|entry| {
        pxelinux.contains(&format!("\nDEFAULT {entry}\n"))
            && grub.contains(&format!("\nset default={entry}\n"))
            && ipxe.contains(&format!(" --default {entry} "))
    });
    let all = format!("{pxelinux}\n{grub}\n{ipxe}");
    entry
        .map(str::to_owned)
        .ok_or_else(|| anyhow::anyhow!("the forms do not agree:\n{all}"))
}

fn tftp(net: &BootNetwork, name: &str) -> Result<String> {
    net.on_node("curl")
        .arg("-sS")
        .arg(format!("tftp://{GOLDEN_ADDRESS}/{name}"))
        .run()
}

fn nodes_file(net: &BootNetwork) -> Result<String> {
    let path = net.path("nodes");
    fs::write(&path, "52:54:00:00:00:01 node1 disk=sda=/dev/vda\n")?;
    Ok(path.display().to_string())
}

fn ka_pxe(net: &BootNetwork, line: &str) -> Result<String> {
    let state = net.path("state");
    net.program()
        .args(line.split(' '))
        .arg("--state-dir")
        .arg(state)
        .run()
}

/// Gives the node's card this address, and makes the server's kernel forget the former one.
fn becomes(net: &BootNetwork, mac: &str) -> Result<()> {
    net.node()
        .ip(&format!("link set eth0 address {}", mac.replace('-', ":")))?;
    net.network.golden().ip("neigh flush dev eth0")?;
    Ok(())
}

#[test]
fn a_machine_gets_no_menu_by_a_uuid_that_another_one_may_share() -> Result<()> {
    let net = BootNetwork::new("arm-uuid", None)?;
    let nodes = nodes_file(&net)?;
    let _server = net.serve(&["--nodes", &nodes, "--dhcp", "proxy"])?;
    let uuids = [
        "03000200-0400-0500-0006-000700080009",
        "00020003-0004-0005-0006-000700080009",
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
    ];
    let socket = net.socket()?;
    socket.set_broadcast(true)?;
    for uuid in uuids {
        let plain = u128::from_str_radix(&uuid.replace('-', ""), 16)?.to_be_bytes();
        socket.send_to(
            &discover([0x52, 0x54, 0, 0, 0, 1], plain),
            ("255.255.255.255", 67),
        )?;
        // The server answers in order, so it has handled the DISCOVER when a menu comes.
        ensure!(tftp(&net, &format!("pxelinux.cfg/01-{LISTED}"))?.contains("kamethod"));
        for name in [format!("pxelinux.cfg/{uuid}"), format!("grub/grub.cfg-{uuid}")] {
            let got = net
                .on_node("curl")
                .arg("-sS")
                .arg(format!("tftp://{GOLDEN_ADDRESS}/{name}"))
                .finish()?;
            ensure!(got.code != Some(0), "{name}: {}", got.all());
        }
    }
    Ok(())
}

/// A DHCPDISCOVER of a PXE ROM (RFC 2131, RFC 4578) with this card and this machine identifier.
fn discover(mac: [u8; 6], uuid: [u8; 16]) -> Vec<u8> {
    let mut packet = vec![1, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0x80, 0];
    packet.resize(28, 0);
    packet.extend(mac);
    packet.resize(236, 0);
    packet.extend([99, 130, 83, 99, 53, 1, 1, 93, 2, 0, 0, 94, 3, 1, 2, 1, 60, 32]);
    packet.extend(b"PXEClient:Arch:00000:UNDI:002001");
    packet.extend([97, 17, 0]);
    packet.extend(uuid);
    packet.push(255);
    packet.resize(300, 0);
    packet
}

#[test]
fn a_listed_machine_is_armed_until_it_is_disarmed_and_strangers_never_are() -> Result<()> {
    let net = BootNetwork::new("arm-listed", None)?;
    let nodes = nodes_file(&net)?;
    let server = net.serve(&["--nodes", &nodes])?;
    ensure!(default_of(&net, LISTED)? == "kamethod");
    ensure!(default_of(&net, STRANGER)? == "local");
    ka_pxe(&net, "disarm 52:54:00:00:00:01")?;
    ka_pxe(&net, "arm 52:54:00:00:00:02")?;
    ensure!(
        default_of(&net, LISTED)? == "local",
        "disarmed while the server runs"
    );
    ensure!(
        default_of(&net, STRANGER)? == "kamethod",
        "armed while the server runs"
    );
    drop(server);
    let _server = net.serve(&["--nodes", &nodes])?;
    ensure!(default_of(&net, LISTED)? == "local", "over a restart");
    ensure!(default_of(&net, STRANGER)? == "kamethod", "over a restart");
    let listed = ka_pxe(&net, "list")?;
    ensure!(
        listed == "52:54:00:00:00:01 disarmed\n52:54:00:00:00:02 armed\n",
        "{listed}"
    );
    Ok(())
}

#[test]
fn all_arms_the_next_n_machines_only() -> Result<()> {
    let net = BootNetwork::new("arm-all", None)?;
    let server = net.serve(&["--arm", "all", "-n", "2"])?;
    for invented in 10..30 {
        let entry = default_of(&net, &format!("52-54-00-00-00-{invented}"))?;
        ensure!(entry == "local", "a card asked for another one's menu: {entry}");
    }
    let entries: Vec<String> = (1..=3)
        .map(|last| {
            let mac = format!("52-54-00-00-00-0{last}");
            becomes(&net, &mac)?;
            default_of(&net, &mac)
        })
        .collect::<Result<_>>()?;
    ensure!(entries == ["kamethod", "kamethod", "local"], "{entries:?}");
    drop(server);
    let _server = net.serve(&["--arm", "none"])?;
    ensure!(default_of(&net, LISTED)? == "local", "taken by a run before");
    Ok(())
}

#[test]
fn a_machine_that_finished_gets_local_over_restarts_until_armed_again() -> Result<()> {
    let net = BootNetwork::new("arm-finished", None)?;
    let nodes = nodes_file(&net)?;
    let mac: MacAddr = LISTED.parse()?;
    let server = start(&net, &nodes)?;
    let events = server.events();
    ensure!(default_of(&net, LISTED)? == "kamethod");
    let told = BootEvent::Menu {
        mac,
        entry: Entry::Kamethod,
    };
    ensure!(
        events.try_iter().any(|event| event == told),
        "the menu was not told"
    );
    server.finished(mac)?;
    ensure!(default_of(&net, LISTED)? == "local");
    server.stop();
    let server = start(&net, &nodes)?;
    ensure!(server.entry_for(mac)? == Entry::Local);
    ensure!(default_of(&net, LISTED)? == "local");
    server.arm(mac)?;
    ensure!(default_of(&net, LISTED)? == "kamethod");
    server.add_file(Served {
        name: "late".to_owned(),
        source: Source::Bytes(b"late file".to_vec()),
    })?;
    ensure!(net.http("late", &[])? == "late file");
    Ok(())
}

fn start(net: &BootNetwork, nodes: &str) -> Result<BootServer> {
    let config = config(net, nodes)?;
    Ok(net.network.golden().enter(|| BootServer::start(config))??)
}

fn config(net: &BootNetwork, nodes: &str) -> Result<BootConfig> {
    let kernel = Served {
        name: "vmlinuz".to_owned(),
        source: Source::Path(net.path("kernel")),
    };
    let mut config = BootConfig::new("eth0", kernel);
    config.nodes = ka_pxe::nodes::parse(nodes.as_ref())?;
    config.arm = Arm::None;
    config.state_dir = net.path("state");
    config.programs = Some(Programs::find(Some(&net.boot_files()))?);
    Ok(config)
}

#[test]
fn a_machine_that_asks_without_its_mac_is_known_by_its_card() -> Result<()> {
    let net = BootNetwork::new("arm-card", None)?;
    let card = net.node().ip("-br link show eth0")?;
    let mac = card.split_whitespace().nth(2).unwrap_or_default().to_owned();
    fs::write(net.path("nodes"), format!("{mac} here\n"))?;
    let nodes = net.path("nodes").display().to_string();
    let _server = net.serve(&["--nodes", &nodes])?;
    for name in [
        "pxelinux.cfg/default",
        "pxelinux.cfg/0A4D0066",
        "grub/grub.cfg",
        "grub/x86_64-efi/grub.cfg",
        "boot.ipxe",
    ] {
        let menu = tftp(&net, name)?;
        ensure!(menu.contains(&format!("here ({mac})")), "{name}:\n{menu}");
    }
    Ok(())
}

#[test]
fn a_state_that_cannot_be_kept_arms_nobody_and_is_told() -> Result<()> {
    let net = BootNetwork::new("arm-broken", None)?;
    let nodes = nodes_file(&net)?;
    let mut server = net.serve(&["--nodes", &nodes])?;
    fs::write(net.path("state").join("pxe-armed.json"), "{ not json")?;
    ensure!(default_of(&net, LISTED)? == "local");
    server.wait_for("pxe-armed.json")
}
