//! The operator's side: one connection to one node, there directly or through its server.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ka_proto::operator::{
    FromOperator, MAX_OPERATOR_FRAME, OPERATOR_EXPORTER_LABEL, ToOperator, operator_is_proved,
};
use ka_proto::text::{NodeHandle, NodeName};
use ka_proto::wire::FrameReader;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use socket2::SockRef;

use super::carrier::{Carrier, Through};
use super::{HANDSHAKE_LIMIT, PEER_GONE_AFTER, next_body};
use crate::code::JoinCode;
use crate::error::TransportError;
use crate::key::ServerKey;
use crate::net::tune_control;
use crate::tls::{exported_secret, operator_config};

/// A connection to a node that has proved itself. Blocking.
#[derive(Debug)]
pub struct OperatorConnection {
    stream: StreamOwned<ClientConnection, Carrier>,
    frames: FrameReader,
    name: NodeName,
}

impl OperatorConnection {
    /// Connects to the node at `addr` with the server's key, and checks that it belongs to the run of `code`.
    ///
    /// # Errors
    /// [`TransportError::Operator`]: nobody answers, the node does not take this key, or it is of another run.
    pub fn connect(addr: SocketAddr, key: &ServerKey, code: &JoinCode) -> Result<Self, TransportError> {
        let failed = |reason: String| TransportError::Operator { addr, reason };
        let socket = TcpStream::connect_timeout(&addr, HANDSHAKE_LIMIT)
            .map_err(|error| failed(describe_connect(&error)))?;
        tune_control(&SockRef::from(&socket), PEER_GONE_AFTER).map_err(|error| failed(error.to_string()))?;
        set_read_limit(&socket, Some(HANDSHAKE_LIMIT)).map_err(|error| failed(error.to_string()))?;
        Self::over(Carrier::Direct(socket), addr, key, code)
    }

    /// The same through the server at `server`, to the node that is called `wanted` there (its address, name or hardware
    /// address).
    ///
    /// # Errors
    /// [`TransportError::Operator`]: the server does not answer, does not take this key, or has no way to that node; and
    /// those of [`Self::connect`].
    pub fn connect_via(
        server: SocketAddr,
        wanted: &NodeHandle,
        key: &ServerKey,
        code: &JoinCode,
    ) -> Result<Self, TransportError> {
        let through = Through::connect(server, wanted, key)?;
        Self::over(Carrier::Through(Box::new(through)), server, key, code)
    }

    /// Both ends prove themselves over `carrier`; `addr` is for messages.
    fn over(
        carrier: Carrier,
        addr: SocketAddr,
        key: &ServerKey,
        code: &JoinCode,
    ) -> Result<Self, TransportError> {
        let failed = |reason: String| TransportError::Operator { addr, reason };
        let name = ServerName::IpAddress(addr.ip().into());
        let connection = ClientConnection::new(operator_config(key)?, name)?;
        let mut this = Self {
            stream: StreamOwned::new(connection, carrier),
            frames: FrameReader::new(MAX_OPERATOR_FRAME),
            name: NodeName::new(NodeName::NAMELESS).map_err(|error| failed(error.to_string()))?,
        };
        let first = this
            .read_message()
            .map_err(|error| failed(describe_handshake(&error)))?;
        let Some(ToOperator::Online { name, proof }) = first else {
            return Err(failed(
                "it does not take this server's key; it belongs to another server's run".into(),
            ));
        };
        let exporter = exported_secret(&this.stream.conn, OPERATOR_EXPORTER_LABEL)?;
        if !operator_is_proved(&code.secret, &exporter, &proof) {
            return Err(failed(
                "it cannot prove that it belongs to the run of this join code; it may be of an earlier run, or a stranger's"
                    .into(),
            ));
        }
        set_read_limit(this.stream.sock.socket(), None).map_err(|error| failed(error.to_string()))?;
        this.name = name;
        Ok(this)
    }

    /// What the node calls itself.
    #[must_use]
    pub const fn name(&self) -> &NodeName {
        &self.name
    }

    /// Has the node run `command`.
    ///
    /// # Errors
    /// [`TransportError::System`] when the connection is gone; [`TransportError::Misuse`] for a command that is too
    /// long.
    pub fn exec(&mut self, command: &str) -> Result<(), TransportError> {
        let frame = FromOperator::Exec(command.to_owned())
            .encode()
            .map_err(|_| TransportError::Misuse("the command is too long"))?;
        self.stream
            .write_all(&frame)
            .and_then(|()| self.stream.flush())
            .map_err(TransportError::system("sending the command"))
    }

    /// Waits for the next message, at most `limit` when one is given; `Ok(None)` when the node closed the connection.
    ///
    /// # Errors
    /// [`TransportError::System`]; its source is [`io::ErrorKind::WouldBlock`] when nothing came in time.
    pub fn next_message(&mut self, limit: Option<Duration>) -> Result<Option<ToOperator>, TransportError> {
        set_read_limit(self.stream.sock.socket(), limit)
            .and_then(|()| self.read_message())
            .map_err(TransportError::system("reading from the node"))
    }

    fn read_message(&mut self) -> io::Result<Option<ToOperator>> {
        let body = next_body(&mut self.frames, &mut self.stream)?;
        body.map(|body| ToOperator::decode(&body).map_err(io::Error::other))
            .transpose()
    }
}

pub(super) fn set_read_limit(socket: &TcpStream, limit: Option<Duration>) -> io::Result<()> {
    socket.set_read_timeout(limit)
}

fn describe_connect(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "no node is listening there (not in a run, or not that far yet)".into()
        }
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "it does not answer (switched off?)".into(),
        _ => error.to_string(),
    }
}

fn describe_handshake(error: &io::Error) -> String {
    match error.kind() {
        // What the server says of the node.
        io::ErrorKind::ConnectionAborted => error.to_string(),
        io::ErrorKind::WouldBlock => "something else listens there: it does not speak KA's TLS".into(),
        _ => format!("no KA node, or one of another server or version: {error}"),
    }
}
