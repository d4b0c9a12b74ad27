//! Peers that have not proved themselves get not one byte, on any port, but TLS's own handshake and alerts:
//! no banner, no version, no reason. A proof made for one connection is worth nothing on another.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use ka_proto::auth::EXPORTER_LABEL;
use ka_proto::control::{Join, ToNode};
use ka_proto::operator::{FromOperator, OPERATOR_ALPN};
use ka_proto::{NodeName, SessionName};
use ka_tests::lab::{Lab, Server};
use ka_tests::netns::{GOLDEN_ADDRESS, Namespace, node_address};
use ka_tests::process::Running;
use ka_transport::{JoinCode, join_file};

use crate::tls::{self, PATIENCE, Tls, heard};

const CONTROL: u16 = 30_765;
const DATA: u16 = 30_764;
const STATUS: u16 = 12_345;
/// Time in which a banner would arrive.
const BANNER: Duration = Duration::from_millis(1500);
/// Length of an alert in bytes: content type, version, length, level, description (RFC 8446 §5.1 and §6).
const ALERT_BYTES: usize = 7;

/// A node in the middle of a stream that does not end, so that every port is open; and a stranger.
struct Streaming {
    lab: Lab,
    server: Server,
    _node: Running,
}

impl Streaming {
    fn new(label: &str) -> Result<Self> {
        let lab = Lab::new(label, 2, None)?;
        // The payload is longer than a block, which is sent at once.
        let feed = "yes precious | head -c 20000000; sleep 600";
        let server = lab.server(&["-n", "1", "-e", feed])?;
        let mut node = lab.client(1, &server, &["-e", "head -c 90; cat > /dev/null"])?;
        node.wait_for("precious")?;
        Ok(Self {
            lab,
            server,
            _node: node,
        })
    }

    fn stranger(&self) -> &Namespace {
        self.lab.network().node(2)
    }

    fn dial(&self, host: &str, port: u16) -> Result<TcpStream> {
        self.stranger().enter(|| tls::dial(host, port))?
    }

    fn code(&self) -> Result<JoinCode> {
        Ok(join_file::read(self.server.join_file())?)
    }
}

fn is_alert(bytes: &[u8]) -> bool {
    bytes.is_empty() || bytes.len() == ALERT_BYTES && bytes.starts_with(&[0x15, 3])
}

#[test]
fn silence_and_garbage_get_not_one_byte_on_any_port() -> Result<()> {
    let streaming = Streaming::new("unproved-plain")?;
    let node = node_address(1);
    let ports = [
        (GOLDEN_ADDRESS, CONTROL),
        (GOLDEN_ADDRESS, DATA),
        (node.as_str(), DATA),
        (node.as_str(), STATUS),
    ];
    let openings: [&[u8]; 4] = [b"", b"GET / HTTP/1.1\r\n\r\n", b"exec id\n", &[0xff; 4096]];
    let mut asked = Vec::new();
    for (host, port) in ports {
        for opening in openings {
            let mut socket = streaming
                .dial(host, port)
                .with_context(|| format!("{host}:{port}"))?;
            socket.set_read_timeout(Some(BANNER))?;
            socket.write_all(opening).ok();
            asked.push((format!("{host}:{port}"), port == DATA, opening, socket));
        }
    }
    // All ask at once: each may take as long as a banner might.
    let asking = asked.into_iter().map(|(at, is_data, opening, mut socket)| {
        thread::spawn(move || {
            let answer = heard(&mut socket, PATIENCE);
            let expected = if is_data || opening.is_empty() {
                answer.is_empty()
            } else {
                is_alert(&answer)
            };
            ensure!(expected, "{at} answered {} bytes with {answer:?}", opening.len());
            Ok(())
        })
    });
    for answer in asking.collect::<Vec<_>>() {
        answer.join().map_err(|_| anyhow!("a stranger panicked"))??;
    }
    Ok(())
}

#[test]
fn tls_without_the_servers_key_hears_nothing_from_a_node() -> Result<()> {
    let streaming = Streaming::new("unproved-status")?;
    for alpn in [None, Some(OPERATOR_ALPN)] {
        let socket = streaming.dial(&node_address(1), STATUS)?;
        let mut tls = tls::connect(socket, None, alpn)?;
        // The peer's end of the handshake is there before ours was looked at.
        let sent = tls.write_all(&FromOperator::Exec("id".to_owned()).encode()?);
        let answer = heard(&mut tls, PATIENCE);
        ensure!(answer.is_empty(), "{answer:?}");
        ensure!(
            sent.is_err() || tls.write_all(b"x").and_then(|()| tls.flush()).is_err(),
            "still connected"
        );
    }
    Ok(())
}

#[test]
fn tls_without_a_proof_hears_nothing_from_the_server_and_a_replayed_join_is_refused() -> Result<()> {
    let streaming = Streaming::new("unproved-join")?;
    let code = streaming.code()?;
    let connect = || {
        tls::connect(
            streaming.dial(GOLDEN_ADDRESS, CONTROL)?,
            Some(code.fingerprint),
            None,
        )
    };

    let mut silent = connect()?;
    while silent.conn.is_handshaking() {
        silent.conn.complete_io(&mut silent.sock)?;
    }
    silent.sock.set_read_timeout(Some(BANNER))?;
    ensure!(heard(&mut silent, BANNER).is_empty(), "a banner");

    let mut wrong = connect()?;
    let join = join_frame(&mut wrong, &[9; 16])?;
    wrong.write_all(&join)?;
    let answer = heard(&mut wrong, PATIENCE);
    ensure!(answer.is_empty(), "a wrong proof was answered with {answer:?}");

    // This proof is right, as the server's answer shows; recorded and sent again, it is worth nothing.
    let mut right = connect()?;
    let recorded = join_frame(&mut right, &code.secret)?;
    right.write_all(&recorded)?;
    let welcome = ToNode::decode(&tls::read_frame(&mut right)?)?;
    ensure!(
        matches!(welcome, ToNode::Queued { .. }),
        "the right join was answered with {welcome:?}"
    );
    let mut replay = connect()?;
    replay.write_all(&recorded)?;
    let answer = heard(&mut replay, PATIENCE);
    ensure!(answer.is_empty(), "a replayed join was answered with {answer:?}");
    let mut server = streaming.server;
    server
        .run
        .wait_for("it has the join code of another run")
        .map(drop)
}

/// Returns a Join with a proof for this connection, if `secret` is the run's.
fn join_frame(tls: &mut Tls, secret: &[u8; 16]) -> Result<Vec<u8>> {
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock)?;
    }
    let exporter = tls.conn.export_keying_material([0; 32], EXPORTER_LABEL, None)?;
    let mut join = Join {
        session: SessionName::new("kainstall")?,
        name: NodeName::new("replayed")?,
        mac: None,
        data_addr: SocketAddr::from((Ipv4Addr::UNSPECIFIED, DATA)),
        purpose: ka_proto::control::Purpose::Stream,
        start_now: false,
        wants_release: false,
        holds_clone: false,
        wiring: None,
        nonce: [5; 16],
        proof: [0; 32],
    };
    join.prove(secret, &exporter);
    Ok(join.encode()?)
}
