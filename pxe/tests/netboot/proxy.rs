//! A lossy wire between one TFTP client and the server. It drops packets and changes their order.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;
use ka_lab::netns::{GOLDEN_ADDRESS, Namespace};

use crate::boot_network::Random;

/// Percentages of packets that are dropped, and that are held back until the next one has passed.
const DROPPED_PERCENT: u64 = 5;
const DELAYED_PERCENT: u64 = 5;
/// Time that it listens on one side before it looks at the other.
const TURN: Duration = Duration::from_micros(200);
const RRQ: u8 = 1;

/// The lossy wire. Dropping it ends it.
pub(crate) struct BadWire {
    /// UDP port for the client, in the client's namespace.
    pub(crate) port: u16,
    stop: Arc<AtomicBool>,
    dropped: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl BadWire {
    pub(crate) fn new(namespace: &Namespace, seed: u64) -> Result<Self> {
        let bind = || -> io::Result<(UdpSocket, UdpSocket)> {
            Ok((UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("0.0.0.0:0")?))
        };
        let (near, far) = namespace.enter(bind)??;
        near.set_read_timeout(Some(TURN))?;
        far.set_read_timeout(Some(TURN))?;
        let port = near.local_addr()?.port();
        let server: SocketAddr = format!("{GOLDEN_ADDRESS}:69").parse()?;
        let (stop, dropped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&dropped));
        let thread = thread::spawn(move || carry(&near, &far, server, seed, &stopped, &counted));
        Ok(Self {
            port,
            stop,
            dropped,
            thread: Some(thread),
        })
    }

    /// Number of dropped packets.
    pub(crate) fn dropped(&self) -> usize {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for BadWire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn carry(
    near: &UdpSocket,
    far: &UdpSocket,
    server: SocketAddr,
    seed: u64,
    stop: &AtomicBool,
    dropped: &AtomicUsize,
) {
    let (mut client, mut transfer) = (None, server);
    let (mut to_server, mut to_client) = (Lane::new(seed), Lane::new(seed + 1));
    let mut buffer = [0; 65536];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, from)) = near.recv_from(&mut buffer) {
            client = Some(from);
            let to = if buffer[1] == RRQ { server } else { transfer };
            to_server.pass(&buffer[..length], dropped, |packet| far.send_to(packet, to));
        }
        if let Ok((length, from)) = far.recv_from(&mut buffer) {
            transfer = from;
            if let Some(client) = client {
                to_client.pass(&buffer[..length], dropped, |packet| near.send_to(packet, client));
            }
        }
    }
}

/// One direction of the wire.
struct Lane {
    random: Random,
    held: Option<Vec<u8>>,
}

impl Lane {
    fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            held: None,
        }
    }

    fn pass(&mut self, packet: &[u8], dropped: &AtomicUsize, send: impl Fn(&[u8]) -> io::Result<usize>) {
        if self.random.percent(DROPPED_PERCENT) {
            dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if self.held.is_none() && self.random.percent(DELAYED_PERCENT) {
            self.held = Some(packet.to_vec());
            return;
        }
        let _ = send(packet);
        if let Some(late) = self.held.take() {
            let _ = send(&late);
        }
    }
}
