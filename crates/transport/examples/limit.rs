//! The least that a chain can cost whose nodes check every block: one thread at each node receives a block, verifies
//! its hash, sends it on, and writes it to a file, decrypted if it is sealed. `cargo xtask bench` shows it beside KA.
//!
//! `limit hash|seal send FILE ADDRESS` and `limit hash|seal relay PORT FILE [ADDRESS]`.
//!
//! Hash and cipher are those of KA. It has no acknowledgements, window, timers, control connection or signed end: it
//! heals over nothing, and its key is known to everybody. One buffer takes block after block, so it stays in the
//! processor's cache. All that KA spends beyond this is the price of what KA does beyond this.

use std::error::Error;
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};

use ka_proto::block::{BlockHeader, Cipher, HEADER_LEN, Opener, Sealer, StreamKey};
use ka_proto::{RunId, StreamId};
use nix::libc;

/// Bytes of payload in each block but the last, as KA sends them to up to five nodes.
const BLOCK: usize = 512 << 10;
const USAGE: &str = "usage: limit hash|seal send FILE ADDRESS, limit hash|seal relay PORT FILE [ADDRESS]";

nix::setsockopt_impl!(
    ReceiveLowWater,
    libc::SOL_SOCKET,
    libc::SO_RCVLOWAT,
    i32,
    nix::sys::socket::sockopt::SetStruct<'_, i32>
);

/// SO_RCVLOWAT of a connection: bytes for which its reader is woken.
#[derive(Debug, Clone, Copy)]
struct ReceiveLowWater;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let [form, rest @ ..] = words.as_slice() else {
        return Err(USAGE.into());
    };
    let cipher = match *form {
        "hash" => None,
        "seal" => Some(Cipher::Aes256Gcm),
        _ => return Err(USAGE.into()),
    };
    match *rest {
        ["send", file, to] => send(File::open(file)?, TcpStream::connect(to)?, cipher),
        ["relay", port, file] => relay(port.parse()?, File::create(file)?, None, cipher),
        ["relay", port, file, next] => {
            let next = TcpStream::connect(next)?;
            relay(port.parse()?, File::create(file)?, Some(next), cipher)
        }
        _ => Err(USAGE.into()),
    }
}

/// Returns the key of every block.
const fn key() -> StreamKey {
    StreamKey::new([7; 32], RunId([1; 16]), StreamId(1))
}

fn send(mut file: File, mut next: TcpStream, cipher: Option<Cipher>) -> Result<(), Box<dyn Error>> {
    let mut sealer = Sealer::new(key(), cipher)?;
    let mut payload = vec![0; BLOCK];
    loop {
        let len = fill(&mut file, &mut payload)?;
        if len == 0 {
            break;
        }
        let header = sealer.seal(&mut payload[..len])?;
        write_block(&mut next, &header.encode(), &payload[..len])?;
    }
    Ok(wait_for_end(next)?)
}

fn relay(
    port: u16,
    mut file: File,
    mut next: Option<TcpStream>,
    cipher: Option<Cipher>,
) -> Result<(), Box<dyn Error>> {
    let (mut previous, _) = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?.accept()?;
    let (key, opener) = (key(), Opener::new(&key(), cipher)?);
    let (mut raw, mut payload, mut plain) = ([0; HEADER_LEN], vec![0; BLOCK], vec![0; BLOCK]);
    while receive(&mut previous, &mut raw)? {
        let header = BlockHeader::decode(&raw)?;
        let len = header.length as usize;
        let payload = payload
            .get_mut(..len)
            .ok_or("a longer block than any that is sent")?;
        if !receive(&mut previous, payload)? {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        key.verify(&header, payload)?;
        if let Some(next) = &mut next {
            write_block(next, &raw, payload)?;
        }
        if opener.is_needed() {
            opener.open(&header, payload, &mut plain[..len])?;
            file.write_all(&plain[..len])?;
        } else {
            file.write_all(payload)?;
        }
    }
    Ok(next.map_or(Ok(()), wait_for_end)?)
}

/// Fills `buffer` as far as the source goes. Returns the number of bytes.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// Fills `buffer`, and is woken once for all of it. Returns false if the connection has ended before.
fn receive(previous: &mut TcpStream, buffer: &mut [u8]) -> io::Result<bool> {
    let wanted = i32::try_from(buffer.len()).unwrap_or(i32::MAX);
    nix::sys::socket::setsockopt(previous, ReceiveLowWater, &wanted)?;
    Ok(fill(previous, buffer)? == buffer.len())
}

fn write_block(next: &mut TcpStream, header: &[u8], payload: &[u8]) -> io::Result<()> {
    let mut parts = [IoSlice::new(header), IoSlice::new(payload)];
    let mut parts = parts.as_mut_slice();
    while !parts.is_empty() {
        let sent = next.write_vectored(parts)?;
        IoSlice::advance_slices(&mut parts, sent);
    }
    Ok(())
}

/// Waits until the receiver closes the connection, which it does when it has everything.
fn wait_for_end(mut next: TcpStream) -> io::Result<()> {
    next.shutdown(Shutdown::Write)?;
    while next.read(&mut [0; 64])? > 0 {}
    Ok(())
}
