//! Ten thousand connections and requests of a stranger while a machine boots.

use std::collections::VecDeque;
use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use ka_lab::netns::GOLDEN_ADDRESS;

use crate::boot_network::{BootNetwork, bytes, expect_file};

/// Number of HTTP connections, of TFTP requests and of DHCP datagrams.
const FLOOD: usize = 10_000;
/// Number of connections that the stranger holds open at a time.
const HELD: usize = 500;
/// Largest number of file descriptors: places of HTTP and TFTP, and those of the server itself.
const MAX_DESCRIPTORS: usize = 256 + 32 + 1024 + 50;
/// Largest growth of memory that strangers may cause, in KiB.
const MAX_GROWTH_KIB: u64 = 64 << 10;

fn fill_http() {
    let Ok(target) = format!("{GOLDEN_ADDRESS}:80").parse::<SocketAddr>() else {
        return;
    };
    let openings: [&[u8]; 4] = [b"", b"G", b"GET /vmlinuz HTTP/1.1\r\nHost:", &[0xff; 4096]];
    let mut held = VecDeque::new();
    for number in 0..FLOOD {
        if let Ok(mut socket) = TcpStream::connect_timeout(&target, Duration::from_millis(500)) {
            // The server may have closed the connection already.
            socket.write_all(openings[number % openings.len()]).ok();
            held.push_back(socket);
        }
        if held.len() > HELD {
            held.pop_front();
        }
    }
}

/// Sends requests that nobody will acknowledge, and garbage to the ports of DHCP and TFTP.
fn fill_datagrams() {
    for number in 0..FLOOD {
        let Ok(socket) = UdpSocket::bind("0.0.0.0:0") else {
            continue;
        };
        let request = b"\x00\x01vmlinuz\x00octet\x00";
        socket.send_to(request, (GOLDEN_ADDRESS, 69)).ok();
        let noise = bytes(number as u64, number % 600);
        for port in [67, 69, 4011] {
            socket.send_to(&noise, (GOLDEN_ADDRESS, port)).ok();
        }
    }
}

fn cost(pid: u32) -> (usize, u64) {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok());
    (open, kib.unwrap_or(0))
}

#[test]
fn a_machine_boots_while_ten_thousand_strangers_are_at_every_port() -> Result<()> {
    let net = BootNetwork::new("pxe-floods", None)?;
    let mut server = net.serve(&["--dhcp", "proxy"])?;
    let (pid, own) = (server.pid(), cost(server.pid()));
    // The booting machine has another address than the stranger beside it.
    net.node().ip("addr add 10.77.0.140/24 dev eth0")?;
    let to = |name: &str| net.path(&format!("booted.{name}"));
    let worst = thread::scope(|scope| -> Result<(usize, u64)> {
        let flooding = scope.spawn(|| {
            net.node().enter(|| {
                thread::scope(|both| {
                    both.spawn(fill_http);
                    both.spawn(fill_datagrams);
                });
            })
        });
        let mut worst = (0, 0);
        let mut boots = 0;
        while !flooding.is_finished() || boots == 0 {
            for (name, url) in [
                ("kernel", "http://10.77.0.1/vmlinuz"),
                ("program", "tftp://10.77.0.1/pxelinux.0"),
            ] {
                let curl =
                    net.on_node("curl")
                        .args(["-sS", "--interface", "10.77.0.140", "--max-time", "15", "-o"]);
                curl.arg(to(name)).arg(url).run()?;
            }
            boots += 1;
            let now = cost(pid);
            worst = (now.0.max(worst.0), now.1.max(worst.1));
        }
        flooding.join().map_err(|_| anyhow!("the flood panicked"))??;
        Ok(worst)
    })?;
    expect_file(&to("kernel"), &bytes(1, 1_000_000))?;
    let growth = worst.1.saturating_sub(own.1);
    eprintln!(
        "ka-pxe: {} descriptors before, {} at most; {growth} KiB more memory at most",
        own.0, worst.0
    );
    ensure!(worst.0 <= MAX_DESCRIPTORS, "{} descriptors", worst.0);
    ensure!(growth <= MAX_GROWTH_KIB, "{growth} KiB more");
    ensure!(!server.has_ended()?, "{}", server.said());
    Ok(())
}
