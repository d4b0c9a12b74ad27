//! The operator's side of a connection to the server: both hold the same key, and show it to each other.

use std::io;
use std::net::{SocketAddr, TcpStream};

use ka_proto::limits::MAX_NODES;
use ka_proto::via::{AskServer, FromServer, ListedNode, MAX_VIA_FRAME};

use super::framed::{FramedTls, dial};
use crate::error::TransportError;
use crate::key::ServerKey;
use crate::tls::{is_wrong_key, via_config};

/// Returns the nodes of the run whose server listens at `server`, in the order in which they came.
///
/// # Errors
/// [`TransportError::Operator`]: there is no answer, or it is another server.
pub fn nodes_of(server: SocketAddr, key: &ServerKey) -> Result<Vec<ListedNode>, TransportError> {
    let failed = |reason: String| TransportError::Operator { addr: server, reason };
    let mut connection = ServerConnection::connect(server, key)?;
    let mut next = connection.ask(&AskServer::List)?;
    let mut nodes = Vec::new();
    loop {
        match next {
            FromServer::Node(node) if nodes.len() < MAX_NODES => nodes.push(node),
            FromServer::End(None) => return Ok(nodes),
            FromServer::End(Some(reason)) => return Err(failed(reason.to_string())),
            _ => return Err(failed("it answered something else than was asked".into())),
        }
        let heard = connection.next().map_err(|error| failed(error.to_string()))?;
        next = heard.ok_or_else(|| failed("it hung up in the middle of its list".into()))?;
    }
}

/// A connection to a server that has shown the operator's own key. Blocking.
#[derive(Debug)]
pub(super) struct ServerConnection {
    connection: FramedTls<TcpStream>,
    server: SocketAddr,
}

impl ServerConnection {
    /// Connects and checks the server's key. Reading has the handshake's time limit from here on.
    pub(super) fn connect(server: SocketAddr, key: &ServerKey) -> Result<Self, TransportError> {
        let failed = |reason: String| TransportError::Operator { addr: server, reason };
        let socket = dial(server).map_err(|error| {
            failed(match error.kind() {
                io::ErrorKind::ConnectionRefused => "no ka-server is listening there".into(),
                io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "it does not answer".into(),
                _ => error.to_string(),
            })
        })?;
        let connection = FramedTls::new(via_config(key)?, server, socket, MAX_VIA_FRAME)?;
        Ok(Self { connection, server })
    }

    pub(super) const fn socket(&self) -> &TcpStream {
        self.connection.stream()
    }

    /// Asks, and waits for the first answer.
    pub(super) fn ask(&mut self, question: &AskServer) -> Result<FromServer, TransportError> {
        let addr = self.server;
        let failed = |reason: String| TransportError::Operator { addr, reason };
        let asked = self.say(question).and_then(|()| self.next());
        match asked {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(failed(
                "it hung up without a word: it does not take this key".into(),
            )),
            Err(error) if is_wrong_key(&error) => Err(failed(
                "the server there has another key than the one in the state directory".into(),
            )),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(failed(
                "something else listens there: it does not speak KA's TLS".into(),
            )),
            Err(error) => Err(failed(format!(
                "no ka-server, or one of another version: {error}"
            ))),
        }
    }

    /// Sends one frame.
    pub(super) fn say(&mut self, message: &AskServer) -> io::Result<()> {
        let frame = message.encode().map_err(io::Error::other)?;
        self.connection.send(&frame)
    }

    /// Waits for the next frame; `None` when the server is gone.
    pub(super) fn next(&mut self) -> io::Result<Option<FromServer>> {
        self.connection.receive(FromServer::decode)
    }
}
