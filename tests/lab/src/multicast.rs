//! Multicast in a network of the lab: the groups that its switch knows, and losses at a receiver.
//!
//! The switch is a bridge that listens for IGMP reports (RFC 4541; bridge(8), ip-link(8)).

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::netns::{BRIDGE, Namespace, Network};
use crate::process::Program;

/// Time in which members answer the switch's question for them. Until then a Linux bridge floods.
const ANSWER: Duration = Duration::from_secs(1);

/// A port of the switch behind which a group has a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name of the bridge's port.
    pub port: String,
    /// Address of the group.
    pub group: Ipv4Addr,
}

/// Makes the switch forward a group to its members only, as a switch does that has run for a while. A bridge
/// that was just made floods for 10 s.
///
/// # Errors
/// `ip` fails.
pub fn settle(network: &Network) -> Result<()> {
    let hundredths = ANSWER.as_millis() / 10;
    for setting in [
        format!("mcast_query_response_interval {hundredths}"),
        "mcast_querier 0".to_owned(),
        "mcast_querier 1".to_owned(),
    ] {
        network
            .switch()
            .ip(&format!("link set {BRIDGE} type bridge {setting}"))?;
    }
    thread::sleep(ANSWER + Duration::from_millis(100));
    Ok(())
}

/// Returns the entries of the switch for administratively scoped groups (239.0.0.0/8, RFC 2365).
///
/// # Errors
/// `bridge` fails.
pub fn entries(network: &Network) -> Result<Vec<Entry>> {
    let listed = bridge(network, &["mdb", "show", "dev", BRIDGE])?;
    Ok(listed.lines().filter_map(entry).collect())
}

/// Makes the switch forget the members of all administratively scoped groups, as it does when nobody asks for
/// them any more. It does not ask again for two minutes. Returns the number of entries.
///
/// # Errors
/// The switch knows no such member, or `bridge` fails.
pub fn forget_members(network: &Network) -> Result<usize> {
    let known = entries(network)?;
    ensure!(
        !known.is_empty(),
        "the switch knows no member of a group in 239.0.0.0/8, so none can be forgotten"
    );
    for entry in &known {
        let group = entry.group.to_string();
        bridge(
            network,
            &["mdb", "del", "dev", BRIDGE, "port", &entry.port, "grp", &group],
        )?;
    }
    Ok(known.len())
}

/// Makes a host lose this many of 10 000 multicast datagrams over UDP, each by itself and at random. A packet of
/// the offload that holds several datagrams is lost whole. The choice is the kernel's own: it has no seed.
///
/// # Errors
/// nft fails.
pub fn lose(host: &Namespace, of_10_000: u32) -> Result<()> {
    let Some(last) = of_10_000.checked_sub(1) else {
        return Ok(());
    };
    let chain = "type filter hook input priority 0;";
    let rule =
        format!("ip daddr 224.0.0.0/4 meta l4proto udp numgen random mod 10000 <= {last} counter drop");
    let rules = format!("table ip loss {{\nchain input {{\n{chain}\n{rule}\n}}\n}}\n");

    Program::new("nft")
        .args(["-f", "-"])
        .input(rules)
        .inside(host)
        .run()
        .context("making a host lose datagrams")
        .map(drop)
}

/// Bytes of all frames that a host's line has carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// To the host.
    pub received: u64,
    /// From the host.
    pub sent: u64,
}

/// Returns the bytes that a host's line has carried since the network was made.
///
/// # Errors
/// `ip` fails.
pub fn carried(host: &Namespace) -> Result<Carried> {
    let shown = host.ip("-s link show dev eth0")?;
    let count =
        |direction| count_of(&shown, direction).with_context(|| format!("ip shows no {direction} of eth0"));
    Ok(Carried {
        received: count("RX:")?,
        sent: count("TX:")?,
    })
}

/// Returns the first number below the heading of a direction in `ip -s link show`.
fn count_of(shown: &str, direction: &str) -> Option<u64> {
    let mut lines = shown
        .lines()
        .skip_while(|line| !line.trim().starts_with(direction));
    lines.nth(1)?.split_whitespace().next()?.parse().ok()
}

fn bridge(network: &Network, words: &[&str]) -> Result<String> {
    Program::new("bridge")
        .args(["-n", network.switch().name()])
        .args(words)
        .run()
}

/// Parses one line of `bridge mdb show`: `dev br0 port p1 grp 239.1.2.3 temp`.
fn entry(line: &str) -> Option<Entry> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let behind = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1).copied()
    };
    let group: Ipv4Addr = behind("grp")?.parse().ok()?;
    let port = behind("port")?.to_owned();
    (group.octets()[0] == 239).then_some(Entry { port, group })
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddrV4, UdpSocket};

    use super::*;
    use crate::netns::{GOLDEN_ADDRESS, node_address};

    const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 7, 1);
    const PORT: u16 = 49_321;

    fn member(network: &Network, number: usize) -> Result<UdpSocket> {
        let local: Ipv4Addr = node_address(number).parse()?;
        network.node(number).enter(|| {
            let socket = UdpSocket::bind(SocketAddrV4::new(GROUP, PORT))?;
            socket.join_multicast_v4(&GROUP, &local)?;
            socket.set_read_timeout(Some(Duration::from_millis(300)))?;
            Ok(socket)
        })?
    }

    fn send(network: &Network, count: usize) -> Result<()> {
        let local: Ipv4Addr = GOLDEN_ADDRESS.parse()?;
        network.golden().enter(|| {
            let socket = UdpSocket::bind(SocketAddrV4::new(local, 0))?;
            for _ in 0..count {
                socket.send_to(&[7; 100], SocketAddrV4::new(GROUP, PORT))?;
            }
            Ok(())
        })?
    }

    fn heard(socket: &UdpSocket) -> usize {
        let mut buffer = [0; 200];
        std::iter::from_fn(|| socket.recv(&mut buffer).ok()).count()
    }

    #[test]
    fn a_switch_that_forgets_its_members_delivers_nothing_and_each_loss_is_a_receivers_own() -> Result<()> {
        let network = Network::new(3, None)?;
        settle(&network)?;
        let members = [member(&network, 1)?, member(&network, 2)?];
        thread::sleep(Duration::from_millis(300));
        lose(network.node(2), 10_000)?;
        let before = carried(network.node(1))?;
        send(&network, 20)?;
        assert_eq!(heard(&members[0]), 20);
        assert_eq!(heard(&members[1]), 0, "all are lost there");
        let after = carried(network.node(1))?;
        assert!(
            after.received >= before.received + 20 * 100,
            "{before:?}, {after:?}"
        );
        assert!(after.sent < before.sent + 20 * 100, "{before:?}, {after:?}");
        let ports: Vec<_> = entries(&network)?.into_iter().map(|entry| entry.port).collect();
        assert_eq!(ports.len(), 2, "{ports:?}");
        // IGMP repeats a report after up to a second.
        thread::sleep(Duration::from_millis(2200));
        assert_eq!(forget_members(&network)?, 2);
        send(&network, 20)?;
        assert_eq!(heard(&members[0]), 0, "the switch forwards a forgotten group");
        assert!(forget_members(&network).is_err());
        Ok(())
    }

    #[test]
    fn two_switches_carry_a_group_over_the_line_between_them() -> Result<()> {
        let network = Network::with_two_switches(2, 1_000_000_000, 500_000_000)?;
        settle(&network)?;
        let members = [member(&network, 1)?, member(&network, 2)?];
        thread::sleep(Duration::from_millis(300));
        send(&network, 5)?;
        assert_eq!(members.each_ref().map(heard), [5, 5]);
        Ok(())
    }

    #[test]
    fn an_entry_is_read_from_a_line_of_bridge() {
        let line = "dev br0 port p12 grp 239.255.1.2 temp";
        let expected = Entry {
            port: "p12".to_owned(),
            group: Ipv4Addr::new(239, 255, 1, 2),
        };
        assert_eq!(entry(line), Some(expected));
        for other in [
            "",
            "dev br0 port p1 grp ff02::1 temp",
            "dev br0 port p1 grp 224.0.0.9 temp",
            "grp",
            "port",
        ] {
            assert_eq!(entry(other), None, "{other:?}");
        }
    }
}
