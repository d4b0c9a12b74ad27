//! The byte stream beneath an operator's connection to a node: a TCP connection to the node, or one to its
//! server, which relays the bytes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use ka_proto::NodeHandle;
use ka_proto::tunnel::MAX_PIECE;
use ka_proto::via::{AskServer, FromServer};
use ka_proto::wire::Payload;

use super::server::ServerConnection;
use crate::error::TransportError;
use crate::key::ServerKey;

/// The byte stream between an operator and a node. Blocking.
#[derive(Debug)]
pub(super) enum NodeStream {
    /// To the node's own port.
    Direct(TcpStream),
    /// Through the server.
    Relayed(Box<RelayedStream>),
}

/// A byte stream to a node that its server relays. Blocking.
#[derive(Debug)]
pub(super) struct RelayedStream {
    server: ServerConnection,
    /// The last piece that came, and how much of it was read.
    piece: Vec<u8>,
    read: usize,
}

impl NodeStream {
    /// Returns the socket underneath, for time limits.
    pub(super) const fn socket(&self) -> &TcpStream {
        match self {
            Self::Direct(socket) => socket,
            Self::Relayed(relayed) => relayed.server.socket(),
        }
    }
}

impl RelayedStream {
    /// Has the server open a tunnel to the node that is called `wanted`.
    pub(super) fn connect(
        server: SocketAddr,
        wanted: &NodeHandle,
        key: &ServerKey,
    ) -> Result<Self, TransportError> {
        let failed = |reason: String| TransportError::Operator { addr: server, reason };
        let mut server = ServerConnection::connect(server, key)?;
        match server.ask(&AskServer::Connect(wanted.clone()))? {
            FromServer::Connected => Ok(Self {
                server,
                piece: Vec::new(),
                read: 0,
            }),
            FromServer::End(Some(reason)) => Err(failed(reason.to_string())),
            _ => Err(failed("it answered something else than was asked".into())),
        }
    }
}

impl Read for NodeStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Direct(socket) => socket.read(buffer),
            Self::Relayed(relayed) => relayed.read(buffer),
        }
    }
}

impl Write for NodeStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Direct(socket) => socket.write(bytes),
            Self::Relayed(relayed) => relayed.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Direct(socket) => socket.flush(),
            // Every frame is sent as a whole.
            Self::Relayed(_) => Ok(()),
        }
    }
}

impl Read for RelayedStream {
    /// Reads bytes. [`io::ErrorKind::ConnectionAborted`] has the server's message when the node is gone.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.piece.len() {
            match self.server.next()? {
                Some(FromServer::Bytes(bytes)) => (self.piece, self.read) = (bytes.0, 0),
                Some(FromServer::End(Some(reason))) => {
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        reason.to_string(),
                    ));
                }
                Some(FromServer::End(None)) => return Ok(0),
                Some(FromServer::Node(_) | FromServer::Connected) => {
                    return Err(io::Error::other("the server does not keep to the protocol"));
                }
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "the server is gone",
                    ));
                }
            }
        }
        let count = buffer.len().min(self.piece.len() - self.read);
        buffer[..count].copy_from_slice(&self.piece[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}

impl Write for RelayedStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(MAX_PIECE);
        self.server
            .say(&AskServer::Bytes(Payload(bytes[..count].to_vec())))?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
