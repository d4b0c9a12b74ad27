//! Faults of a boot server's interface, pool, ports and node list: all are reported in one go, a line each,
//! before anything is read or made.

use anyhow::{Result, ensure};
use std::net::TcpListener;

use crate::boot::Room;

/// Insists that each part is in a line of its own that begins with `error: `.
fn expect_lines(said: &str, parts: &[&str]) -> Result<()> {
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    for part in parts {
        let count = errors.iter().filter(|line| line.contains(part)).count();
        ensure!(count == 1, "{part:?} is in {count} of the lines of\n{said}");
    }
    ensure!(errors.len() == parts.len(), "{} lines:\n{said}", errors.len());
    Ok(())
}

#[test]
fn every_fault_of_a_pool_and_of_a_node_list_is_said_at_once() -> Result<()> {
    let room = Room::new("bootfaults", 1)?;
    let list = room.list(&[
        "52:54:00:00:00:01 n1 disk=sda".to_owned(),
        "nonsense".to_owned(),
        "52:54:00:00:00:03 a_b 10.77.0 disk=sda=/dev/x disk=sdb=/dev/x".to_owned(),
        "5254.0000.0001 n4".to_owned(),
        "52:54:00:00:00:05,n5,10.77.0.105".to_owned(),
    ])?;
    let refused = room.refused(&["-n", "1", "--nodes", &list])?;
    refused.expect(2)?;
    let parts = [
        "nodes:1: `disk=sda` is not",
        "nodes:2: `nonsense`",
        "nodes:3: ",
        "nodes:3: `10.77.0` is neither",
        "nodes:3: `disk=` gives /dev/x to two drives",
        "nodes:4: 52:54:00:00:00:01 is already on line 1",
        "nodes:5: fields are separated by blanks, not commas",
    ];
    // The third line has three faults.
    let errors = refused
        .stderr
        .lines()
        .filter(|line| line.starts_with("error: "))
        .count();
    ensure!(errors == parts.len(), "{}", refused.all());
    for part in parts {
        refused.says(part)?;
    }

    let list = room.list(&[
        "52:54:00:00:00:01 n1 10.99.0.1".to_owned(),
        "52:54:00:00:00:02 n2 10.77.0.1".to_owned(),
    ])?;
    let dhcp = "full:10.77.0.0-10.77.0.9";
    let refused = room.refused(&["-n", "1", "--nodes", &list, "--dhcp", dhcp])?;
    refused.expect(2)?;
    expect_lines(
        &refused.stderr,
        &[
            "10.77.0.0 is the network's",
            "contains our own address 10.77.0.1",
            "address 10.99.0.1 of 52:54:00:00:00:01 is not in 10.77.0.0/24 of eth0",
            "address 10.77.0.1 of 52:54:00:00:00:02 is our own",
        ],
    )
}

#[test]
fn an_interface_that_is_down_is_named_in_every_mode() -> Result<()> {
    let room = Room::new("bootdown", 1)?;
    let golden = room.lab().network().golden();
    golden.run("ip link set eth0 down")?;
    for dhcp in ["off", "proxy", "full:10.77.0.200-10.77.0.209"] {
        let refused = room.refused(&["-n", "1", "--arm", "all", "--dhcp", dhcp])?;
        refused.expect(2)?;
        expect_lines(
            &refused.stderr,
            &["interface `eth0` is down; bring it up (ip link set eth0 up)"],
        )?;
    }
    Ok(())
}

/// The option that a message tells the operator to change has to be an option of the program that prints it.
#[test]
fn a_port_that_is_taken_is_said_with_the_option_that_this_program_has() -> Result<()> {
    let room = Room::new("bootoption", 1)?;
    let golden = room.lab().network().golden();
    let tcp = |port: u16| golden.enter(move || TcpListener::bind(("0.0.0.0", port)));
    let udp = golden.enter(|| std::net::UdpSocket::bind(("0.0.0.0", 69)))??;
    let held = (tcp(80)??, tcp(30765)??);
    let refused = room.refused(&["-n", "1", "--arm", "all"])?;
    refused.expect(1)?;
    drop((udp, held));
    refused
        .says(":30765 (control connections)")?
        .says("another port with --control-port")?;
    for option in ["--tftp-port", "--http-port", "--listen"] {
        ensure!(!refused.all().contains(option), "{option}: {}", refused.all());
    }
    let elsewhere = room.refused(&["-n", "1", "--arm", "all", "--listen", "10.99.0.1"])?;
    elsewhere
        .expect(1)?
        .says("choose an address of this machine with --listen")?;
    Ok(())
}
