//! A man in the middle of the chain, between two real nodes: he passes on their data, and alters one bit of
//! it.
//!
//! `crates/transport/src/stream/attackers.rs` tests peers with a key, forged ends, strangers and listeners.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ka_tests::lab::Lab;
use ka_tests::netns::{Namespace, node_address};

use crate::kit::{expect_same_file, finish, payload};

const DATA: u16 = 30_764;
/// Bytes of a connection after which the bit is altered: some blocks are through by then.
const ALTERED_AT: usize = 2_000_000;
/// Address of the first node for the man in the middle.
const BEHIND: &str = "10.77.0.201";
const PAYLOAD: usize = 20_000_000;

/// A man in the middle, between the second node and the first until it is dropped.
struct Middle {
    over: Arc<AtomicBool>,
    /// Number of alterations so far.
    altered: Arc<AtomicUsize>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Middle {
    /// Takes the first node's address inside the second node's namespace, and alters the first `times`
    /// connections.
    fn new(lab: &Lab, times: usize) -> Result<Self> {
        let (first, second) = (lab.network().node(1), lab.network().node(2).clone());
        first.ip(&format!("addr add {BEHIND}/24 dev eth0"))?;
        second.ip(&format!("addr add {}/32 dev lo", node_address(1)))?;
        let listener = second.enter(|| TcpListener::bind((node_address(1), DATA)))??;
        listener.set_nonblocking(true)?;
        let (over, altered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (until, count) = (Arc::clone(&over), Arc::clone(&altered));
        let thread = thread::spawn(move || serve(&second, &listener, times, &until, &count));
        Ok(Self {
            over,
            altered,
            thread: Some(thread),
        })
    }

    /// Ends him, and returns the number of alterations.
    fn end(mut self) -> Result<usize> {
        self.over.store(true, Ordering::SeqCst);
        let thread = self.thread.take().context("ended twice")?;
        thread.join().map_err(|_| anyhow::anyhow!("he panicked"))??;
        Ok(self.altered.load(Ordering::SeqCst))
    }
}

impl Drop for Middle {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
    }
}

fn serve(
    inside: &Namespace,
    listener: &TcpListener,
    mut times: usize,
    over: &AtomicBool,
    altered: &Arc<AtomicUsize>,
) -> Result<()> {
    while !over.load(Ordering::SeqCst) {
        let near = match listener.accept() {
            Ok((near, _)) => near,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(5));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        near.set_nonblocking(false)?;
        // The first node may not listen any more; then its successor must hear that.
        let Ok(far) = inside.enter(|| TcpStream::connect((BEHIND, DATA)))? else {
            continue;
        };
        let (up_from, up_to) = (near.try_clone()?, far.try_clone()?);
        thread::spawn(move || pass_on(up_from, up_to, None));
        let alters = (times > 0).then(|| Arc::clone(altered));
        times = times.saturating_sub(1);
        thread::spawn(move || pass_on(far, near, alters.as_deref()));
    }
    Ok(())
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, alters: Option<&AtomicUsize>) {
    let (mut buffer, mut before) = (vec![0; 64 << 10], 0);
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let at = ALTERED_AT.checked_sub(before).filter(|at| *at < count);
        if let (Some(at), Some(altered)) = (at, alters) {
            buffer[at] ^= 1;
            altered.fetch_add(1, Ordering::SeqCst);
        }
        before += count;
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Both).ok();
    from.shutdown(Shutdown::Both).ok();
}

#[test]
fn one_bit_altered_between_two_nodes_is_found_and_both_get_every_byte() -> Result<()> {
    let lab = Lab::new("middle-once", 2, None)?;
    let source = payload(&lab, PAYLOAD)?;
    let middle = Middle::new(&lab, 1)?;
    let server = lab.server(&["-n", "2", "--input", &source.display().to_string()])?;
    let sinks = [1, 2].map(|number| lab.scratch().path().join(format!("sink{number}")));
    let nodes = [
        lab.client(1, &server, &["--output", &sinks[0].display().to_string()])?,
        lab.client(2, &server, &["--output", &sinks[1].display().to_string()])?,
    ];
    let outcome = finish(server, nodes.into())?;
    ensure!(middle.end()? == 1, "nothing was altered");
    outcome.expect_success()?;
    sinks.iter().try_for_each(|sink| expect_same_file(&source, sink))
}

#[test]
fn who_alters_every_connection_gets_no_wrong_byte_through_and_the_node_behind_him_is_named() -> Result<()> {
    let lab = Lab::new("middle-always", 2, None)?;
    let source = payload(&lab, PAYLOAD)?;
    let middle = Middle::new(&lab, usize::MAX)?;
    let server = lab.server(&[
        "-n",
        "2",
        "--rounds",
        "1",
        "--input",
        &source.display().to_string(),
    ])?;
    let sinks = [1, 2].map(|number| lab.scratch().path().join(format!("sink{number}")));
    let nodes = [
        lab.client(1, &server, &["--output", &sinks[0].display().to_string()])?,
        lab.client(2, &server, &["--output", &sinks[1].display().to_string()])?,
    ];
    let outcome = finish(server, nodes.into())?;
    ensure!(middle.end()? > 1, "he has altered one connection at most");
    outcome.server.expect(3)?.says("damaged")?.says("n2")?;
    outcome.nodes[0].expect(0)?;
    expect_same_file(&source, &sinks[0])?;
    ensure!(outcome.nodes[1].code != Some(0), "{}", outcome.nodes[1].all());
    ensure!(!sinks[1].exists(), "a file that is not whole has its name");
    Ok(())
}
