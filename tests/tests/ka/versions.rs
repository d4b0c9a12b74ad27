//! Two versions that meet: an old node at our server, our node at a newer server (`docs/protocol.md`,
//! "Versions").
//!
//! The tests play the other version from the frozen bytes of the specification: TLS 1.3 with raw public keys,
//! a frame length, `KAJN`, a version.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use ka_proto::control::ToNode;
use ka_proto::{PROTOCOL_VERSION, Reason};
use ka_tests::lab::Lab;
use ka_tests::netns::GOLDEN_ADDRESS;
use ka_transport::{JoinCode, join_file};
use rustls::sign::CertifiedKey;

use crate::kit::finish;
use crate::tls::{self, PATIENCE, frame, key, read_frame};

const CONTROL: u16 = 30_765;
/// A version that this build does not speak.
const OTHER: u16 = 4711;

#[test]
fn an_old_node_is_told_its_version_and_the_run_goes_on() -> Result<()> {
    let lab = Lab::new("versions", 2, None)?;
    let server = lab.server(&["-n", "1", "-e", "echo precious"])?;
    let code = join_file::read(server.join_file())?;
    let socket = lab
        .network()
        .node(2)
        .enter(|| tls::dial(GOLDEN_ADDRESS, CONTROL))??;
    let mut tls = tls::connect(socket, Some(code.fingerprint), None)?;
    tls.write_all(&frame(&join_body(OTHER)))?;
    let ours = PROTOCOL_VERSION.number();
    match ToNode::decode(&read_frame(&mut tls)?)? {
        ToNode::Refused { version, reason } => {
            ensure!(version == ours, "refused by version {version}");
            ensure!(reason.to_string().contains(&OTHER.to_string()), "{reason}");
        }
        other => return Err(anyhow!("an old node was answered with {other:?}")),
    }
    let mut rest = Vec::new();
    // The refusal is the last word; it does not matter if the connection ends politely.
    tls.read_to_end(&mut rest).ok();
    ensure!(rest.is_empty(), "{} bytes after the refusal", rest.len());
    let node = lab.client(1, &server, &["-e", "cat"])?;
    let outcome = finish(server, vec![node])?;
    outcome.expect_success()?;
    outcome.nodes[0].says("precious")?;
    let line = format!("the peer speaks protocol version {OTHER}, this is version {ours}");
    said_once(&outcome.server.all(), &line)
}

#[test]
fn a_node_says_in_one_line_that_the_server_is_of_another_version_and_tries_no_further() -> Result<()> {
    let lab = Lab::new("versions", 1, None)?;
    let key = key()?;
    let code = JoinCode {
        fingerprint: *blake3::hash(&key.cert[0]).as_bytes(),
        secret: [7; 16],
    };
    let join_file = lab.scratch().path().join("join-other");
    std::fs::write(&join_file, format!("{code}\n"))?;
    std::fs::set_permissions(&join_file, std::fs::Permissions::from_mode(0o600))?;
    let listener = lab
        .network()
        .golden()
        .enter(|| TcpListener::bind((GOLDEN_ADDRESS, CONTROL)))??;
    let newer = thread::spawn(move || refuse_one(&listener, key));
    let node = lab
        .stranger_program(1)?
        .args([
            "-h",
            GOLDEN_ADDRESS,
            "-s",
            "kainstall",
            "-e",
            "cat",
            "--retries",
            "5",
        ])
        .arg("--join-file")
        .arg(&join_file)
        .finish()?;
    let heard = newer.join().map_err(|_| anyhow!("the newer server panicked"))??;
    let ours = PROTOCOL_VERSION.number();
    ensure!(heard == ours, "the node greeted as version {heard}, not {ours}");
    node.expect(1)?;
    let (text, line) = (
        node.all(),
        format!("the peer speaks protocol version {OTHER}, this is version {ours}"),
    );
    let errors: Vec<_> = text.lines().filter(|said| said.starts_with("error:")).collect();
    ensure!(errors.len() == 1 && errors[0].contains(&line), "{text}");
    ensure!(!text.contains("try 2"), "it tries again:\n{text}");
    node.says("the same release")?;
    Ok(())
}

fn said_once(text: &str, line: &str) -> Result<()> {
    let count = text.lines().filter(|said| said.contains(line)).count();
    ensure!(count == 1, "{line:?} was said {count} times:\n{text}");
    Ok(())
}

/// Plays a server of another version: reads the frozen beginning of one Join, refuses in the form that all
/// versions know.
fn refuse_one(listener: &TcpListener, key: Arc<CertifiedKey>) -> Result<u16> {
    let socket = accept(listener)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut tls = tls::accept(socket, key)?;
    let body = read_frame(&mut tls)?;
    ensure!(
        body.starts_with(b"KAJN"),
        "a join begins with {:?}",
        body.get(..4)
    );
    let version = body.get(4..6).context("a join without a version")?;
    let refusal = ToNode::Refused {
        version: OTHER,
        reason: Reason::new("words of another version"),
    };
    tls.write_all(&refusal.encode()?)?;
    tls.conn.send_close_notify();
    tls.flush()?;
    Ok(u16::from_le_bytes(version.try_into()?))
}

/// Accepts a connection (accept(2)) with a time limit.
fn accept(listener: &TcpListener) -> Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        match listener.accept() {
            Ok((socket, _)) => {
                socket.set_nonblocking(false)?;
                return Ok(socket);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(error.into()),
        }
    }
    Err(anyhow!("no node came in {} s", PATIENCE.as_secs()))
}

fn join_body(version: u16) -> Vec<u8> {
    let mut body = b"KAJN".to_vec();
    body.extend_from_slice(&version.to_le_bytes());
    body.extend_from_slice(b"fields that only the other version can read");
    body
}
