//! Many machines at once, and strangers that send anything, through the real sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::room::{OURS, Room};

/// Number of machines: a full rack and a few more.
const MACHINES: u8 = 96;
/// Address of a relay on the server's own wire. The machines seem to be behind it, so that one socket
/// receives all answers.
const RELAY: &str = "10.77.0.240";

#[test]
fn a_room_that_is_switched_on_at_once_is_served_within_seconds() -> Result<()> {
    let room = Room::new("crowd", 1)?;
    room.client(1).ip(&format!("addr add {RELAY}/24 dev eth0"))?;
    let server = room.serve(&room.full(200))?;
    let begun = Instant::now();
    let leases = room.client(1).enter(|| {
        let socket = UdpSocket::bind((RELAY, 67))?;
        let offers = exchange(&socket, |machine| packet(1, machine, None), 2)?;
        let acks = exchange(
            &socket,
            |machine| packet(3, machine, offers.get(&machine).copied()),
            5,
        )?;
        ensure!(offers == acks, "offered {offers:?}, given {acks:?}");
        Ok(acks)
    })??;
    ensure!(
        leases.len() == usize::from(MACHINES),
        "{} of {MACHINES}: {leases:?}",
        leases.len()
    );
    let distinct: BTreeSet<_> = leases.values().collect();
    assert_eq!(distinct.len(), leases.len(), "{leases:?}");
    ensure!(
        begun.elapsed() < Duration::from_secs(10),
        "it took {:?}",
        begun.elapsed()
    );
    server.stop()
}

#[test]
fn garbage_on_both_ports_stops_nobody_from_being_served() -> Result<()> {
    let room = Room::new("garbage", 2)?;
    let server = room.serve(&room.full(60))?;
    room.client(2).ip("addr add 10.77.0.241/24 dev eth0")?;
    room.client(2).enter(|| -> Result<()> {
        let socket = UdpSocket::bind("10.77.0.241:0")?;
        for round in 0..2000_usize {
            let mut bytes = packet(u8::try_from(round % 20)?, 7, Some([10, 77, 0, 50]));
            bytes.resize(240 + round % 1100, u8::try_from(round % 256)?);
            let at = (round * 7) % bytes.len();
            bytes[at] = bytes[at].wrapping_add(u8::try_from(round % 251)?);
            bytes.truncate(bytes.len() - round % 240);
            socket.send_to(&bytes, (OURS, if round % 2 == 0 { 67 } else { 4011 }))?;
        }
        Ok(())
    })??;
    let client = room.udhcpc(1, &[])?;
    client.wait_for("bound", 0)?;
    server.stop()
}

/// Asks for all machines, and again for those without an answer. Collects the address of each.
fn exchange(socket: &UdpSocket, ask: impl Fn(u8) -> Vec<u8>, expected: u8) -> Result<BTreeMap<u8, [u8; 4]>> {
    let mut answered = BTreeMap::new();
    let begun = Instant::now();
    while answered.len() < usize::from(MACHINES) && begun.elapsed() < Duration::from_secs(15) {
        for machine in (0..MACHINES).filter(|machine| !answered.contains_key(machine)) {
            socket.send_to(&ask(machine), (OURS, 67))?;
        }
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut buffer = [0; 1500];
        while answered.len() < usize::from(MACHINES) {
            match socket.recv(&mut buffer) {
                Ok(length) => {
                    let bytes = &buffer[..length];
                    ensure!(bytes[240..243] == [53, 1, expected], "unexpected: {bytes:?}");
                    answered.insert(bytes[33], bytes[16..20].try_into()?);
                }
                Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(err) => return Err(err.into()),
            }
        }
    }
    Ok(answered)
}

fn packet(kind: u8, machine: u8, asked: Option<[u8; 4]>) -> Vec<u8> {
    let mut bytes = vec![0; 240];
    bytes[..3].copy_from_slice(&[1, 1, 6]);
    bytes[4..8].copy_from_slice(&[1, 2, 3, machine]);
    bytes[24..28].copy_from_slice(&[10, 77, 0, 240]);
    bytes[28..34].copy_from_slice(&[0x52, 0x54, 0, 9, 9, machine]);
    bytes[236..].copy_from_slice(&[99, 130, 83, 99]);
    bytes.extend_from_slice(&[53, 1, kind]);
    if let Some(address) = asked {
        bytes.extend_from_slice(&[50, 4]);
        bytes.extend_from_slice(&address);
        bytes.extend_from_slice(&[54, 4, 10, 77, 0, 1]);
    }
    bytes.push(255);
    bytes
}
