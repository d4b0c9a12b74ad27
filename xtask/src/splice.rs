//! The cheapest TCP chain that the kernel allows: sendfile, splice and tee. No framing, no recovery, no
//! checks.
//!
//! It is the bench's lower bound for processor time: a program that verifies what it forwards must touch
//! every byte, this one touches none. splice(2), tee(2), sendfile(2).

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rustix::pipe::{SpliceFlags, fcntl_setpipe_size, pipe, splice, tee};

use crate::cli::{SpliceOptions, SpliceRole};

/// Largest number of bytes moved by one system call: the largest pipe of an ordinary user.
const CHUNK: usize = 1 << 20;
/// Number of bytes requested from one sendfile call.
const SENDFILE: usize = 64 << 20;

/// Runs the sender, or one relay of the chain.
pub(crate) fn run(options: &SpliceOptions) -> Result<()> {
    match &options.role {
        SpliceRole::Send { file, to } => send(file, *to),
        SpliceRole::Relay { port, out, next } => relay(*port, out, *next),
    }
}

fn send(path: &Path, to: SocketAddr) -> Result<()> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let socket = TcpStream::connect(to).with_context(|| format!("connecting to {to}"))?;
    let (size, mut offset) = (file.metadata()?.len(), 0);
    while offset < size {
        if rustix::fs::sendfile(&socket, &file, Some(&mut offset), SENDFILE).context("sendfile")? == 0 {
            bail!("{} became shorter", path.display());
        }
    }
    wait_for_end(&socket)
}

fn relay(port: u16, out: &Path, next: Option<SocketAddr>) -> Result<()> {
    let next = next
        .map(TcpStream::connect)
        .transpose()
        .context("connecting to the next node")?;
    let (upstream, _) = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?
        .accept()
        .context("accepting")?;
    let out = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(out)
        .context("opening the output")?;
    let (own, passed) = (pipe()?, pipe()?);
    fcntl_setpipe_size(&own.1, CHUNK)?;
    fcntl_setpipe_size(&passed.1, CHUNK)?;
    loop {
        let mut left =
            splice(&upstream, None, &own.1, None, CHUNK, flags()).context("splice from upstream")?;
        if left == 0 {
            break;
        }
        while left > 0 {
            let mut part = left;
            if let Some(next) = &next {
                part = tee(&own.0, &passed.1, left, SpliceFlags::empty()).context("tee")?;
                drain(&passed.0, next, part)?;
            }
            drain(&own.0, &out, part)?;
            left -= part;
        }
    }
    next.as_ref().map_or(Ok(()), wait_for_end)
}

fn drain(from: impl AsFd, to: impl AsFd, mut length: usize) -> Result<()> {
    while length > 0 {
        let moved = splice(&from, None, &to, None, length, flags()).context("splice")?;
        if moved == 0 {
            bail!("the receiver takes no more");
        }
        length -= moved;
    }
    Ok(())
}

/// Waits until the receiver closes the connection, which it does when it has everything.
fn wait_for_end(mut socket: &TcpStream) -> Result<()> {
    socket.shutdown(Shutdown::Write)?;
    let mut rest = [0; 64];
    while socket.read(&mut rest)? > 0 {}
    Ok(())
}

fn flags() -> SpliceFlags {
    SpliceFlags::MOVE | SpliceFlags::MORE
}
