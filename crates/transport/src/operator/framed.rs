//! Frames on a blocking TLS connection, as an operator's end uses it towards a node and towards a server.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use ka_proto::WireError;
use ka_proto::wire::FrameReader;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::SockRef;

use super::{HANDSHAKE_LIMIT, PEER_GONE_AFTER};
use crate::error::TransportError;
use crate::net::tune_control;

/// Bytes taken from a connection at once.
const READ_BYTES: usize = 16 << 10;

/// Opens a TCP connection to `addr`; reading has the handshake's time limit from here on.
pub(super) fn dial(addr: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&addr, HANDSHAKE_LIMIT)?;
    tune_control(&SockRef::from(&socket), PEER_GONE_AFTER)?;
    socket.set_read_timeout(Some(HANDSHAKE_LIMIT))?;
    Ok(socket)
}

/// The client's end of a TLS connection over the byte stream `S` that carries frames. Blocking.
#[derive(Debug)]
pub(super) struct FramedTls<S: Read + Write> {
    stream: StreamOwned<ClientConnection, S>,
    frames: FrameReader,
}

impl<S: Read + Write> FramedTls<S> {
    /// Returns a connection to `addr` over `stream`; frames are at most `limit` bytes long. The handshake
    /// runs with the first bytes that are read or written.
    ///
    /// # Errors
    /// [`TransportError::Tls`] when TLS refuses the configuration.
    pub(super) fn new(
        config: Arc<ClientConfig>,
        addr: SocketAddr,
        stream: S,
        limit: usize,
    ) -> Result<Self, TransportError> {
        let name = ServerName::IpAddress(addr.ip().into());
        let connection = ClientConnection::new(config, name)?;
        Ok(Self {
            stream: StreamOwned::new(connection, stream),
            frames: FrameReader::new(limit),
        })
    }

    /// Returns the TLS connection, for data that is bound to it.
    pub(super) const fn tls(&self) -> &ClientConnection {
        &self.stream.conn
    }

    /// Returns the byte stream underneath.
    pub(super) const fn stream(&self) -> &S {
        &self.stream.sock
    }

    /// Sends one encoded frame.
    pub(super) fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.stream.write_all(frame)?;
        self.stream.flush()
    }

    /// Waits for the next frame and decodes its body; `None` when the other end is gone, in order or not.
    pub(super) fn receive<T>(
        &mut self,
        decode: impl FnOnce(&[u8]) -> Result<T, WireError>,
    ) -> io::Result<Option<T>> {
        let body = next_body(&mut self.frames, &mut self.stream)?;
        body.map(|body| decode(&body).map_err(io::Error::other))
            .transpose()
    }
}

fn next_body(frames: &mut FrameReader, from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = [0; READ_BYTES];
    loop {
        if let Some(body) = frames.next_frame().map_err(io::Error::other)? {
            return Ok(Some(body));
        }
        match from.read(&mut bytes) {
            Ok(0) => return Ok(None),
            Ok(count) => frames.push(&bytes[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_end(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// Returns true for an end without a goodbye, as of a peer that was killed or a node that reboots.
fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::TimedOut
    )
}
