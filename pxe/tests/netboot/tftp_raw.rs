//! TFTP packet by packet: behaviour of firmware that no ordinary client shows.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ka_lab::netns::GOLDEN_ADDRESS;

use crate::boot_network::BootNetwork;

/// Time of silence that proves that there are no retransmissions.
const QUIET: Duration = Duration::from_millis(1500);

/// A read request; `|` stands for NUL.
fn request(text: &str) -> Vec<u8> {
    let text = text.bytes().map(|b| if b == b'|' { 0 } else { b });
    [0, 1].into_iter().chain(text).collect()
}

fn server_at(address: &str) -> String {
    format!("{address}:69")
}

fn receive(socket: &UdpSocket) -> Result<(Vec<u8>, SocketAddr)> {
    let mut buffer = [0; 2048];
    let (length, from) = socket.recv_from(&mut buffer)?;
    Ok((buffer[..length].to_vec(), from))
}

/// Fails if a packet arrives.
fn expect_silence(socket: &UdpSocket) -> Result<()> {
    socket.set_read_timeout(Some(QUIET))?;
    let heard = receive(socket);
    ensure!(heard.is_err(), "{heard:?}");
    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    Ok(())
}

#[test]
fn a_size_probe_that_ends_with_an_error_is_over_at_once_and_the_same_port_may_ask_again() -> Result<()> {
    let net = BootNetwork::new("tftp-probe", None)?;
    net.put("bootx64.efi", 1, 10_000)?;
    let _server = net.serve(&[])?;
    let socket = net.socket()?;
    for _ in 0..3 {
        socket.send_to(
            &request("bootx64.efi|octet|tsize|0|blksize|1468|"),
            server_at(GOLDEN_ADDRESS),
        )?;
        let (oack, transfer) = receive(&socket)?;
        let granted = [&[0, 6][..], b"blksize\x001468\0tsize\x0010000\0"].concat();
        ensure!(oack == granted, "{:?}", String::from_utf8_lossy(&oack));
        socket.send_to(b"\0\x05\0\x08User aborted the transfer\0", transfer)?;
    }
    expect_silence(&socket)?;
    let asked = Instant::now();
    socket.send_to(
        &request("bootx64.efi|octet|blksize|1468|"),
        server_at(GOLDEN_ADDRESS),
    )?;
    let (oack, _) = receive(&socket)?;
    ensure!(
        oack[1] == 6 && asked.elapsed() < Duration::from_millis(500),
        "{oack:?}"
    );
    Ok(())
}

#[test]
fn another_request_from_the_same_port_replaces_the_transfer() -> Result<()> {
    let net = BootNetwork::new("tftp-replace", None)?;
    net.put("one", 1, 10_000)?;
    let two = net.put("two", 2, 100)?;
    let _server = net.serve(&[])?;
    let socket = net.socket()?;
    socket.send_to(&request("one|octet|"), server_at(GOLDEN_ADDRESS))?;
    let (data, first) = receive(&socket)?;
    ensure!(data.len() == 516);
    socket.send_to(&request("two|octet|"), server_at(GOLDEN_ADDRESS))?;
    let (data, second) = receive(&socket)?;
    ensure!(
        first != second && data[4..] == two,
        "{} bytes from {second}",
        data.len()
    );
    socket.send_to(b"\0\x04\0\x01", second)?;
    expect_silence(&socket)
}

#[test]
fn a_repeated_request_is_answered_again_from_the_same_port() -> Result<()> {
    let net = BootNetwork::new("tftp-repeat", None)?;
    net.put("file", 1, 10_000)?;
    let _server = net.serve(&[])?;
    let socket = net.socket()?;
    for options in ["", "blksize|1024|"] {
        let request = request(&format!("file|octet|{options}"));
        socket.send_to(&request, server_at(GOLDEN_ADDRESS))?;
        let (first, transfer) = receive(&socket)?;
        socket.send_to(&request, server_at(GOLDEN_ADDRESS))?;
        let (again, same) = receive(&socket)?;
        ensure!(first == again && transfer == same);
        socket.send_to(b"\0\x05\0\0", transfer)?;
        // A retransmission may have been under way.
        while socket.set_read_timeout(Some(QUIET)).is_ok() && receive(&socket).is_ok() {}
    }
    Ok(())
}

#[test]
fn a_client_that_falls_silent_is_given_up_after_bounded_repetitions() -> Result<()> {
    let net = BootNetwork::new("tftp-silent", None)?;
    net.put("file", 1, 10_000)?;
    let _server = net.serve(&[])?;
    let socket = net.socket()?;
    socket.send_to(&request("file|octet|timeout|1|"), server_at(GOLDEN_ADDRESS))?;
    let mut heard = 0;
    while receive(&socket).is_ok() {
        heard += 1;
        ensure!(heard < 12, "it never ends");
    }
    ensure!(heard == 7, "{heard} repetitions");
    Ok(())
}

#[test]
fn answers_leave_from_the_address_that_was_asked() -> Result<()> {
    let net = BootNetwork::new("tftp-addresses", None)?;
    net.put("file", 1, 100)?;
    net.network.golden().ip("addr add 10.77.0.9/24 dev eth0")?;
    let _server = net.serve(&[])?;
    let socket = net.socket()?;
    for address in ["10.77.0.9", GOLDEN_ADDRESS] {
        socket.send_to(&request("file|octet|"), server_at(address))?;
        let (data, from) = receive(&socket)?;
        ensure!(data.len() == 104 && from.ip().to_string() == address, "{from}");
        socket.send_to(b"\0\x04\0\x01", from)?;
        socket.send_to(&request("no-such|octet|"), server_at(address))?;
        let (error, from) = receive(&socket)?;
        ensure!(error[1] == 5 && from.ip().to_string() == address, "{from}");
    }
    Ok(())
}

#[test]
fn a_block_is_never_larger_than_a_packet_of_the_path() -> Result<()> {
    let net = BootNetwork::new("tftp-mtu", None)?;
    net.put("file", 1, 100_000)?;
    let _server = net.serve(&[])?;
    let socket = net.socket()?;
    socket.send_to(
        &request("file|octet|blksize|65464|windowsize|1000|"),
        server_at(GOLDEN_ADDRESS),
    )?;
    let (oack, transfer) = receive(&socket)?;
    let granted = [&[0, 6][..], b"blksize\x001468\0windowsize\x0064\0"].concat();
    ensure!(oack == granted, "{:?}", String::from_utf8_lossy(&oack));
    socket.send_to(b"\0\x04\0\0", transfer)?;
    for number in 1..=64 {
        let (data, _) = receive(&socket)?;
        ensure!(
            data.len() == 1472 && data[3] == number,
            "block {number}: {}",
            data.len()
        );
    }
    Ok(())
}

#[test]
fn garbage_stops_nothing() -> Result<()> {
    let net = BootNetwork::new("tftp-garbage", None)?;
    net.put("file", 1, 100)?;
    let _server = net.serve(&[])?;
    let socket = net.socket()?;
    let mut random = crate::boot_network::Random::new(99);
    for _ in 0..2000 {
        let length = usize::try_from(random.next() % 700)?;
        let mut packet = crate::boot_network::bytes(random.next(), length);
        if length > 2 && random.percent(70) {
            packet[0] = 0;
            packet[1] %= 8;
        }
        socket.send_to(&packet, server_at(GOLDEN_ADDRESS))?;
    }
    let asks = net.socket()?;
    asks.send_to(&request("file|octet|"), server_at(GOLDEN_ADDRESS))?;
    let (data, _) = receive(&asks)?;
    ensure!(data.len() == 104);
    Ok(())
}
