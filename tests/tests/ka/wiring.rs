//! The order of the chain: by the switch ports that nodes hear of (LLDP), by the operator's file, by address. The
//! switch of the lab speaks through frames that the test sends out of its ports.

use std::fs;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ka_tests::lab::Lab;
use ka_tests::netns::{Network, node_address};
use ka_tests::process::{Program, Running};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket};

use crate::kit::{expect_same_file, finish, payload};

/// The nearest bridge: no bridge passes its frames on (IEEE 802.1AB-2016, table 7-1).
const NEAREST_BRIDGE: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0x0e];
/// Interval of the switch's frames, far shorter than the 30 s of real ones.
const INTERVAL: Duration = Duration::from_millis(200);

/// The words of one port of the switch.
struct Port {
    /// Name of the port in the lab: `p1`.
    line: String,
    switch: &'static str,
    port: &'static str,
}

impl Port {
    /// Returns the port to which this node is plugged.
    fn of_node(number: usize, switch: &'static str, port: &'static str) -> Self {
        Self {
            line: format!("p{number}"),
            switch,
            port,
        }
    }

    /// Returns the port to which the golden node is plugged.
    fn of_golden(switch: &'static str, port: &'static str) -> Self {
        Self {
            line: "pg".to_owned(),
            switch,
            port,
        }
    }

    /// Returns the whole Ethernet frame of this port.
    fn frame(&self) -> Vec<u8> {
        let tlv = |kind: u16, value: &[u8]| {
            let header = kind << 9 | u16::try_from(value.len()).unwrap_or_default();
            [&header.to_be_bytes(), value].concat()
        };
        let named = |kind: u8, name: &str| [&[kind], name.as_bytes()].concat();
        [
            NEAREST_BRIDGE.to_vec(),
            vec![2, 0, 0, 0, 0, 0x77],
            vec![0x88, 0xcc],
            tlv(1, &named(7, &format!("chassis of {}", self.switch))),
            tlv(2, &named(5, self.port)),
            tlv(3, &120u16.to_be_bytes()),
            tlv(5, self.switch.as_bytes()),
            tlv(7, &[0, 0x14, 0, 0x04]),
            tlv(127, &[0x00, 0x80, 0xc2, 1, 0, 20]),
            tlv(0, &[]),
        ]
        .concat()
    }
}

/// Lets the ports of the switch speak while `action` runs.
fn while_ports_speak<T: Send>(
    network: &Network,
    ports: &[Port],
    action: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let speaking = scope.spawn(|| network.switch().enter(|| speak(ports, &is_over))?);
        let result = action();
        is_over.store(true, Ordering::Relaxed);
        speaking
            .join()
            .map_err(|_| anyhow::anyhow!("the switch panicked"))??;
        result
    })
}

/// Sends the frames of all ports until it is over. Runs in the namespace of the switch.
fn speak(ports: &[Port], is_over: &AtomicBool) -> Result<()> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
    let frames: Vec<(LinkAddr, Vec<u8>)> = ports
        .iter()
        .map(|port| Ok((link(&port.line)?, port.frame())))
        .collect::<Result<_>>()?;
    while !is_over.load(Ordering::Relaxed) {
        for (link, frame) in &frames {
            sendto(socket.as_raw_fd(), frame, link, MsgFlags::empty())?;
        }
        thread::sleep(INTERVAL);
    }
    Ok(())
}

fn link(name: &str) -> Result<LinkAddr> {
    let found = getifaddrs()?
        .filter(|entry| entry.interface_name == name)
        .find_map(|entry| entry.address?.as_link_addr().copied());
    found.with_context(|| format!("the switch has no port {name}"))
}

/// Returns the words of the server when it knows the switch port of a node.
fn wired(number: usize) -> String {
    format!("n{number} ({}) is plugged into switch sw-", node_address(number))
}

#[test]
fn the_worst_order_by_address_becomes_the_order_of_the_switches_and_a_deaf_node_delays_nobody() -> Result<()>
{
    let lab = Lab::new("wiring", 5, None)?;
    let source = payload(&lab, 3_000_000)?;
    let ports = [
        Port::of_golden("sw-a", "Gi1/0/48"),
        Port::of_node(1, "sw-b", "Gi1/0/10"),
        Port::of_node(2, "sw-a", "Gi1/0/10"),
        Port::of_node(3, "sw-b", "Gi1/0/9"),
        Port::of_node(4, "sw-a", "Gi1/0/2"),
    ];
    let sink = |number: usize| lab.scratch().path().join(format!("sink{number}"));
    let outcome = while_ports_speak(lab.network(), &ports, || {
        let mut server = lab.server(&["-v", "-e", &format!("cat {}", source.display())])?;
        server
            .run
            .wait_for("this machine's eth0 is plugged into switch sw-a port Gi1/0/48, VLAN 20")?;
        let mut nodes = Vec::new();
        for number in 1..=4 {
            let take = format!("cat > {}", sink(number).display());
            let mut node = lab.client(number, &server, &["-e", &take])?;
            node.wait_for("eth0 is plugged into switch sw-")?;
            server.run.wait_for(&wired(number))?;
            nodes.push(node);
        }
        // The kernel hands frames for this group on even if the card filters.
        let groups = lab.network().node(1).run("ip maddr show dev eth0")?;
        for group in ["01:80:c2:00:00:0e", "01:80:c2:00:00:03", "01:80:c2:00:00:00"] {
            ensure!(groups.contains(group), "{groups}");
        }
        let take = format!("cat > {}", sink(5).display());
        nodes.push(lab.client(5, &server, &["-g", "-e", &take])?);
        finish(server, nodes)
    })?;
    outcome.expect_success()?;
    outcome.server.says(
        "Let's go: 5 nodes, chain: 1 n4 → 2 n2 → 3 n3 → 4 n1 → 5 n5; 2 switches, crossed once each way; \
         the switch of 1 node is unknown",
    )?;
    outcome
        .server
        .says("is plugged into switch sw-b port Gi1/0/9, VLAN 20")?;
    (1..=5).try_for_each(|number| expect_same_file(&source, &sink(number)))
}

#[test]
fn a_node_that_is_killed_in_the_middle_of_a_chain_by_wiring_is_healed_around() -> Result<()> {
    let lab = Lab::new("wiringheal", 4, Some(200_000_000))?;
    let source = payload(&lab, 60_000_000)?;
    let ports = [
        Port::of_node(1, "sw-b", "2"),
        Port::of_node(2, "sw-a", "2"),
        Port::of_node(3, "sw-b", "1"),
    ];
    let sink = |number: usize| lab.scratch().path().join(format!("sink{number}"));
    let outcome = while_ports_speak(lab.network(), &ports, || {
        let mut server = lab.server(&["-v", "--rounds", "1", "-e", &format!("cat {}", source.display())])?;
        let mut nodes = Vec::new();
        for number in 1..=4 {
            let take = format!("echo began >&2; cat > {}", sink(number).display());
            let go = if number == 4 { "-g" } else { "-w" };
            let node = lab.client(number, &server, &[go, "-e", &take])?;
            if number < 4 {
                server.run.wait_for(&wired(number))?;
            }
            nodes.push(node);
        }
        // n2 → n3 → n1 → n4: the second one dies.
        let mut middle = nodes.remove(2);
        middle.wait_for("began")?;
        middle.kill_alone()?;
        finish(server, nodes)
    })?;
    outcome.server.says("chain: 1 n2 → 2 n3 → 3 n1 → 4 n4")?;
    outcome.server.says("n3")?.says("FAILED")?;
    [1, 2, 4]
        .into_iter()
        .try_for_each(|number| expect_same_file(&source, &sink(number)))
}

#[test]
fn a_node_whose_address_is_on_a_bridge_of_its_own_hears_on_the_port_of_that_bridge() -> Result<()> {
    let lab = Lab::new("wiringbridge", 2, None)?;
    let node = lab.network().node(1);
    node.ip("addr flush dev eth0")?;
    node.ip("link add br0 type bridge stp_state 0 forward_delay 0")?;
    node.ip("link set eth0 master br0")?;
    node.ip("addr add 10.77.0.102/24 brd + dev br0")?;
    node.ip("link set br0 up")?;
    node.ip("route add default dev br0")?;
    // The lab's hosts share the mounts of this machine, and its /sys shows the interfaces of this machine.
    let own_sys = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        "mount -t sysfs sysfs /sys && exec \"$@\"",
        "sh",
    ];
    let ports = [Port::of_node(1, "sw-a", "7")];
    let outcome = while_ports_speak(lab.network(), &ports, || {
        let mut server = lab.server(&["--json", "-e", "echo precious"])?;
        let first = lab.client_program(1, &server)?.wrapped(&own_sys);
        let mut first = first.args(["-e", "cat"]).spawn()?;
        first.wait_for("eth0 is plugged into switch sw-a port 7")?;
        server.run.wait_for(&wired(1))?;
        let second = lab.client(2, &server, &["-g", "-e", "cat"])?;
        finish(server, vec![first, second])
    })?;
    outcome.expect_success()?;
    let start = lets_go(&outcome.server.stdout)?;
    ensure!(
        start["wiring"][0]["port"] == "7" && start["wiring"][1].is_null(),
        "{start}"
    );
    Ok(())
}

/// Makes `lldpd` the voice of the switch: it speaks out of these ports, each of which it gives a name. The VLAN is
/// a field of its own configuration, as kernels without VLANs on bridges have none to announce.
fn lldpd(lab: &Lab, switch: &str, ports: &[(&str, &str)], vlan: u8) -> Result<Running> {
    let dir = lab.scratch().path();
    let (config, socket) = (dir.join("lldpd.conf"), dir.join("lldpd.sock"));
    let mut lines = format!("configure system hostname {switch}\nconfigure lldp tx-interval 1\n");
    for (line, port) in ports {
        lines.push_str(&format!(
            "configure ports {line} lldp portidsubtype local {port}\n\
             configure ports {line} lldp custom-tlv oui 00,80,c2 subtype 1 oui-info 00,{vlan:02x}\n"
        ));
    }
    fs::write(&config, lines)?;
    let lines: Vec<&str> = ports.iter().map(|(line, _)| *line).collect();
    // Its files in /run and the interfaces in /sys are those of its own machine, the switch.
    let own_mounts = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        "mount -t sysfs sysfs /sys && mount -t tmpfs tmpfs /run && mkdir /run/lldpd && exec \"$@\"",
        "sh",
    ];
    let speaker = Program::new("lldpd").args(["-d", "-I", &lines.join(",")]);
    let speaker = speaker.arg("-u").arg(socket).arg("-O").arg(config);
    speaker
        .wrapped(&own_mounts)
        .inside(lab.network().switch())
        .tethered()
        .spawn()
}

#[test]
fn what_a_real_speaker_announces_is_what_server_and_node_say() -> Result<()> {
    let lab = Lab::new("wiringlldpd", 1, None)?;
    let ports = [("pg", "Gi1/0/48"), ("p1", "Gi1/0/7")];
    let mut speaker = lldpd(&lab, "sw-real", &ports, 20)?;
    let mut server = lab.server(&["-v", "-e", "echo precious"])?;
    server
        .run
        .wait_for("this machine's eth0 is plugged into switch sw-real port Gi1/0/48, VLAN 20")?;
    let mut node = lab.client(1, &server, &["-w", "-e", "cat"])?;
    node.wait_for("eth0 is plugged into switch sw-real port Gi1/0/7, VLAN 20")?;
    let told = "is plugged into switch sw-real port Gi1/0/7, VLAN 20";
    server.run.wait_until("the node's port", |run| {
        Ok(run
            .said()
            .lines()
            .any(|line| line.contains("n1 (") && line.contains(told)))
    })?;
    ensure!(speaker.still_runs()?, "lldpd ended:\n{}", speaker.said());
    Ok(())
}

/// Returns the event that a round starts.
fn lets_go(events: &str) -> Result<serde_json::Value> {
    let start = events.lines().find(|line| line.contains("\"lets-go\""));
    Ok(serde_json::from_str(start.context("no lets-go")?)?)
}

#[test]
fn the_operators_file_is_the_order_and_groups_stand_for_switches() -> Result<()> {
    let lab = Lab::new("order", 3, None)?;
    let file = lab.scratch().path().join("order");
    fs::write(&file, "[rack 2]\nN3  # by the door\n[rack 1]\n10.77.0.102\n")?;
    let order = file.display().to_string();
    let server = lab.server(&["-n", "3", "--json", "--order", &order, "-e", "echo precious"])?;
    let nodes = (1..=3)
        .map(|number| lab.client(number, &server, &["-e", "cat"]))
        .collect::<Result<Vec<_>>>()?;
    let outcome = finish(server, nodes)?;
    outcome.expect_success()?;
    let start = outcome
        .server
        .stdout
        .lines()
        .find(|line| line.contains("\"lets-go\""));
    let start: serde_json::Value = serde_json::from_str(start.context("no lets-go")?)?;
    let names: Vec<_> = (0..3)
        .map(|index| start["nodes"][index]["name"].as_str())
        .collect();
    ensure!(names == [Some("n3"), Some("n1"), Some("n2")], "{start}");
    let crossings = &start["crossings"];
    ensure!(
        crossings["kind"] == "group" && crossings["hops"] == 1 && crossings["unknown"] == 1,
        "{start}"
    );
    ensure!(start["wiring"][0].is_null(), "{start}");
    Ok(())
}

#[test]
fn a_dry_run_shows_the_order_and_a_bad_file_is_refused_with_its_line() -> Result<()> {
    let lab = Lab::new("ordershown", 1, None)?;
    let file = lab.scratch().path().join("order");
    let order = file.display().to_string();
    let show = |more: &[&str]| {
        let words = [&["--dry-run", "-e", "true", "--order", &order], more].concat();
        lab.server_program()?.args(words).spawn()?.wait()
    };
    fs::write(&file, "[rack 1]\nn1\nn2\n[rack 2]\nn3\n")?;
    let shown = show(&[])?;
    shown.expect(0)?.says("2 groups, crossed once each way")?;
    let place = shown
        .stdout
        .lines()
        .find(|line| line.contains("rack 2"))
        .unwrap_or_default();
    let words: Vec<&str> = place.split_whitespace().collect();
    ensure!(words == ["3", "n3", "rack", "2"], "{}", shown.stdout);
    let shown = show(&["--json"])?;
    let json: serde_json::Value = serde_json::from_str(&shown.expect(0)?.stdout)?;
    ensure!(json["order"]["nodes"][2]["node"] == "n3", "{json}");
    fs::write(&file, "n1\nn2 n3\n")?;
    let refused = show(&[])?;
    let line = format!("--order: {order}:2: `n2 n3` is more than one word");
    refused.expect(2)?.says(&line)?;
    Ok(())
}
