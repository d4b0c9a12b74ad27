//! The operator's side: one connection to one node, there directly or through its server.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ka_proto::operator::{
    FromOperator, MAX_OPERATOR_FRAME, OPERATOR_EXPORTER_LABEL, ToOperator, operator_is_proved,
};
use ka_proto::text::{NodeHandle, NodeName};

use super::framed::{FramedTls, dial};
use super::node_stream::{NodeStream, RelayedStream};
use crate::code::JoinCode;
use crate::error::TransportError;
use crate::key::ServerKey;
use crate::tls::{exported_secret, operator_config};

/// A connection to a node that has proved itself. Blocking.
#[derive(Debug)]
pub struct OperatorConnection {
    connection: FramedTls<NodeStream>,
    name: NodeName,
}

impl OperatorConnection {
    /// Connects to the node at `addr` with the server's key, and checks that it belongs to the run of `code`.
    ///
    /// # Errors
    /// [`TransportError::Operator`]: there is no answer, the node does not take this key, or it belongs to
    /// another run.
    pub fn connect(addr: SocketAddr, key: &ServerKey, code: &JoinCode) -> Result<Self, TransportError> {
        let failed = |reason: String| TransportError::Operator { addr, reason };
        let socket = dial(addr).map_err(|error| failed(describe_connect(&error)))?;
        Self::over(NodeStream::Direct(socket), addr, key, code)
    }

    /// Connects through the server at `server`, to the node that is called `wanted` there (its address, name
    /// or MAC address).
    ///
    /// # Errors
    /// [`TransportError::Operator`]: the server does not answer, does not take this key, or has no way to
    /// that node. Also the errors of [`Self::connect`].
    pub fn connect_via(
        server: SocketAddr,
        wanted: &NodeHandle,
        key: &ServerKey,
        code: &JoinCode,
    ) -> Result<Self, TransportError> {
        let relayed = RelayedStream::connect(server, wanted, key)?;
        Self::over(NodeStream::Relayed(Box::new(relayed)), server, key, code)
    }

    /// Both ends prove themselves over `stream`; `addr` is for messages.
    fn over(
        stream: NodeStream,
        addr: SocketAddr,
        key: &ServerKey,
        code: &JoinCode,
    ) -> Result<Self, TransportError> {
        let failed = |reason: String| TransportError::Operator { addr, reason };
        let mut connection = FramedTls::new(operator_config(key)?, addr, stream, MAX_OPERATOR_FRAME)?;
        let first = connection
            .receive(ToOperator::decode)
            .map_err(|error| failed(describe_handshake(&error)))?;
        let Some(ToOperator::Online { name, proof }) = first else {
            return Err(failed(
                "it does not take this server's key; it belongs to another server's run".into(),
            ));
        };
        let exporter = exported_secret(connection.tls(), OPERATOR_EXPORTER_LABEL)?;
        if !operator_is_proved(&code.secret, &exporter, &proof) {
            return Err(failed(
                "it cannot prove that it belongs to the run of this join code; it may be of an earlier run, or a stranger's"
                    .into(),
            ));
        }
        let socket = connection.stream().socket();
        socket
            .set_read_timeout(None)
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { connection, name })
    }

    /// Returns the name that the node gave.
    #[must_use]
    pub const fn name(&self) -> &NodeName {
        &self.name
    }

    /// Sends `command` to the node, which runs it.
    ///
    /// # Errors
    /// [`TransportError::System`] when the connection is gone; [`TransportError::Misuse`] for a command that
    /// is too long.
    pub fn exec(&mut self, command: &str) -> Result<(), TransportError> {
        let frame = FromOperator::Exec(command.to_owned())
            .encode()
            .map_err(|_| TransportError::Misuse("the command is too long"))?;
        self.connection
            .send(&frame)
            .map_err(TransportError::system("sending the command"))
    }

    /// Waits for the next message, at most `limit` when one is given; `Ok(None)` when the node closed the
    /// connection.
    ///
    /// # Errors
    /// [`TransportError::System`]; its source is [`io::ErrorKind::WouldBlock`] when nothing came in time.
    pub fn next_message(&mut self, limit: Option<Duration>) -> Result<Option<ToOperator>, TransportError> {
        let socket = self.connection.stream().socket();
        socket
            .set_read_timeout(limit)
            .and_then(|()| self.connection.receive(ToOperator::decode))
            .map_err(TransportError::system("reading from the node"))
    }
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
        // The server's message about the node.
        io::ErrorKind::ConnectionAborted => error.to_string(),
        io::ErrorKind::WouldBlock => "something else listens there: it does not speak KA's TLS".into(),
        _ => format!("no KA node, or one of another server or version: {error}"),
    }
}
