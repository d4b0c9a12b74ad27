//! A stranger's flood: forged datagrams to a multicast group, at a steady rate.
//!
//! The datagrams have the form of KA's own, so that a receiver must look at each one's code to refuse it.

use std::net::{SocketAddrV4, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::cli::FloodOptions;

/// Bytes of a datagram: the largest on Ethernet with an MTU of 1500.
const DATAGRAM: usize = 1472;
/// Bytes that a datagram takes on the wire: with UDP, IP and Ethernet headers, preamble, FCS and gap.
const ON_THE_WIRE: u64 = 1538;
/// Interval of sending.
const TICK: Duration = Duration::from_millis(2);

/// Sends until it is killed.
pub(crate) fn run(options: &FloodOptions) -> Result<()> {
    let socket = UdpSocket::bind(SocketAddrV4::new(options.from, 0))
        .with_context(|| format!("binding {}", options.from))?;
    let (started, mut number) = (Instant::now(), 0_u64);
    loop {
        let due = due_after(started.elapsed(), options.bits);
        while number < due {
            // A full queue of the own line loses this one; the rate stays.
            let _ = socket.send_to(&forged(number), options.group);
            number += 1;
        }
        thread::sleep(TICK);
    }
}

/// Returns the number of datagrams that a flood of `bits` a second has sent after this time.
fn due_after(elapsed: Duration, bits: u64) -> u64 {
    let bytes = u128::from(bits / 8) * elapsed.as_micros() / 1_000_000;
    u64::try_from(bytes / u128::from(ON_THE_WIRE)).unwrap_or(u64::MAX)
}

/// Returns a datagram of data of an early stripe, as its header says, with noise in it and no right code.
fn forged(number: u64) -> [u8; DATAGRAM] {
    let mut datagram = [0x5a; DATAGRAM];
    let [low, ..] = number.to_le_bytes();
    // Version 1 and data, the shard's index, 128 shards of data, and a zero.
    datagram[..4].copy_from_slice(&[0x11, low & 0x7f, 128, 0]);
    datagram[4..8].copy_from_slice(&1_u32.to_le_bytes());
    datagram[8..16].copy_from_slice(&(number / 128).to_le_bytes());
    datagram
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_100_mbit_is_8127_datagrams_a_second_on_the_wire() {
        assert_eq!(due_after(Duration::from_secs(1), 100_000_000), 8127);
        assert_eq!(due_after(Duration::ZERO, 100_000_000), 0);
    }

    #[test]
    fn two_forged_datagrams_differ() {
        assert_ne!(forged(0), forged(1));
        assert_ne!(forged(0), forged(128));
    }
}
