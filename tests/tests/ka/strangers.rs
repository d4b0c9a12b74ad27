//! Strangers: no join code, a wrong one, another session, another version, garbage, silence.
//!
//! Each time a proper node must still be served afterwards.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ka_tests::lab::{Lab, Server};
use ka_tests::netns::{GOLDEN_ADDRESS, Namespace, node_address};

use crate::kit::finish;

/// The control and discovery port; the data port is below.
const CONTROL: u16 = 30_765;
const DATA: u16 = 30_764;

/// Insists that a server that waits for one node still serves: the node gets its stream.
fn expect_still_serving(lab: &Lab, server: Server) -> Result<()> {
    let node = lab.client(1, &server, &["-e", "cat"])?;
    let outcome = finish(server, vec![node])?;
    outcome.expect_success()?;
    outcome.nodes[0].says("precious").map(drop)
}

fn serving() -> Result<(Lab, Server)> {
    let lab = Lab::new("strangers", 2, None)?;
    let server = lab.server(&["-n", "1", "-e", "echo precious"])?;
    Ok((lab, server))
}

#[test]
fn without_a_join_code_nothing_is_given() -> Result<()> {
    let (lab, server) = serving()?;
    let stranger = lab
        .stranger_program(2)?
        .args(["-e", "cat", "--retries", "1"])
        .finish()?;
    stranger.expect(2)?.says("--join")?;
    ensure!(!stranger.all().contains("precious"), "{}", stranger.all());
    expect_still_serving(&lab, server)
}

#[test]
fn a_join_code_of_another_run_is_refused_on_both_sides() -> Result<()> {
    let (lab, server) = serving()?;
    let old = lab.server(&[
        "-n",
        "1",
        "--control-port",
        "31000",
        "-s",
        "other",
        "-e",
        "echo other",
    ])?;
    let code = std::fs::read_to_string(old.join_file())?;
    drop(old);
    for args in [&["-h", GOLDEN_ADDRESS][..], &[]] {
        let stranger = lab
            .stranger_program(2)?
            .args(["--join", code.trim(), "-e", "cat", "--retries", "1"])
            .args(args);
        let stranger = stranger.finish()?;
        stranger.expect(1)?;
        ensure!(!stranger.all().contains("precious"), "{}", stranger.all());
    }
    let mut server = server;
    let refused = format!("{} refused: it has the join code of another run", node_address(2));
    server.run.wait_for(&refused)?;
    let said = server.run.said();
    for jargon in ["::ffff:", "control port", "TLS", "alert"] {
        ensure!(!said.contains(jargon), "{jargon}: {said}");
    }
    expect_still_serving(&lab, server)
}

#[test]
fn a_node_of_another_session_does_not_find_this_one() -> Result<()> {
    let (lab, server) = serving()?;
    for args in [&["-s", "other"][..], &["-s", "other", "-h", GOLDEN_ADDRESS]] {
        let stranger = lab
            .client_program(2, &server)?
            .args(["-e", "cat", "--retries", "1"])
            .args(args)
            .finish()?;
        stranger.expect(1)?;
        ensure!(!stranger.all().contains("precious"), "{}", stranger.all());
    }
    expect_still_serving(&lab, server)
}

#[test]
fn without_a_server_the_client_says_so_and_gives_up() -> Result<()> {
    let (lab, server) = serving()?;
    let join = server.join_file().to_owned();
    drop(server);
    let ended = lab
        .stranger_program(1)?
        .arg("--join-file")
        .arg(join)
        .args(["-e", "cat", "--retries", "2"])
        .finish()?;
    ended.expect(1)?.says("no answer, try 1 of 2; again in 1 s")?;
    // The reason is long, so it is said once, at the end.
    let said = ended.all();
    ensure!(
        said.matches("Can't reach a valid KA server").count() == 1,
        "{said}"
    );
    ensure!(said.matches("no answer to broadcasts").count() == 1, "{said}");
    let last = said.lines().last().unwrap_or_default();
    ensure!(
        last.starts_with("error: Can't reach a valid KA server") && last.ends_with("(2 tries)"),
        "{said}"
    );
    Ok(())
}

#[test]
fn garbage_on_every_port_disturbs_nobody() -> Result<()> {
    let (lab, server) = serving()?;
    let stranger = lab.network().node(2);
    for round in 0..8 {
        let noise = ka_tests::tree::noise(1 << (2 * round), round);
        for port in [CONTROL, DATA] {
            send(stranger, port, &noise)?;
        }
        send(stranger, CONTROL, b"GET / HTTP/1.1\r\nHost: golden\r\n\r\n")?;
        let datagram = noise[..noise.len().min(1400)].to_vec();
        stranger.enter(|| -> Result<()> {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.set_broadcast(true)?;
            socket.send_to(&datagram, (GOLDEN_ADDRESS, CONTROL))?;
            socket.send_to(&datagram, ("10.77.0.255", CONTROL))?;
            Ok(())
        })??;
    }
    expect_still_serving(&lab, server)
}

#[test]
fn half_open_and_silent_connections_hold_nobody_up_and_are_dropped() -> Result<()> {
    let (lab, server) = serving()?;
    let stranger = lab.network().node(2);
    let connect = || {
        stranger.enter(|| -> Result<TcpStream> {
            let address: SocketAddr = format!("{GOLDEN_ADDRESS}:{CONTROL}").parse()?;
            let socket = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
            socket.set_read_timeout(Some(Duration::from_secs(40)))?;
            Ok(socket)
        })?
    };
    let mut silent = (0..20).map(|_| connect()).collect::<Result<Vec<_>>>()?;
    // It sends a ClientHello's beginning, then nothing.
    silent[0].write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01])?;
    let started = Instant::now();
    let mut rest = [0; 64];
    let ended = loop {
        match silent[1].read(&mut rest) {
            Ok(0) | Err(_) => break started.elapsed(),
            Ok(_) => {}
        }
    };
    ensure!(
        ended < Duration::from_secs(40),
        "a client that never says anything is kept for ever"
    );
    expect_still_serving(&lab, server)
}

#[test]
fn a_flood_of_connections_is_survived() -> Result<()> {
    let (lab, server) = serving()?;
    let stranger = lab.network().node(2);
    let flood = stranger.enter(|| -> Vec<TcpStream> {
        let Ok(address) = format!("{GOLDEN_ADDRESS}:{CONTROL}").parse::<SocketAddr>() else {
            return Vec::new();
        };
        (0..600)
            .filter_map(|_| TcpStream::connect_timeout(&address, Duration::from_millis(500)).ok())
            .collect()
    })?;
    drop(flood);
    expect_still_serving(&lab, server)
}

fn send(from: &Namespace, port: u16, bytes: &[u8]) -> Result<()> {
    from.enter(|| {
        let Ok(address) = format!("{GOLDEN_ADDRESS}:{port}").parse::<SocketAddr>() else {
            return;
        };
        // The data port listens only while it is needed: a refusal is an answer too.
        if let Ok(mut socket) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
            let _ = socket.write_all(bytes);
        }
    })
}
