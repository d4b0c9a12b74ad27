//! The control connections of nodes that have joined: the messages to them, and their end.

use std::collections::HashMap;
use std::net::SocketAddr;

use ka_proto::control::ToNode;
use ka_proto::run::ConnId;
use ka_proto::{NodeName, Reason};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::answers::Questions;
use crate::tunnel::{Tunnel, TunnelMux};

/// One node's control connection, as the core holds it.
#[derive(Debug)]
pub(super) struct Connection {
    frames: mpsc::Sender<Vec<u8>>,
    tunnels: TunnelMux,
    questions: Questions,
    writer: JoinHandle<()>,
}

impl Connection {
    /// Returns a connection whose `frames` are sent by `writer`, a task that ends when everything is sent and
    /// the connection is closed. `questions` are those that may have a long answer.
    pub(super) const fn new(
        frames: mpsc::Sender<Vec<u8>>,
        tunnels: TunnelMux,
        questions: Questions,
        writer: JoinHandle<()>,
    ) -> Self {
        Self {
            frames,
            tunnels,
            questions,
            writer,
        }
    }
}

/// All control connections, and those that still send their last messages.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: HashMap<ConnId, Connection>,
    closing: Vec<JoinHandle<()>>,
}

impl Connections {
    /// A node has joined on this connection.
    pub(super) fn insert(&mut self, conn: ConnId, connection: Connection) {
        self.open.insert(conn, connection);
    }

    /// Queues a message. Nothing is sent on a closed connection. Returns false if the queue is full, because
    /// the node does not read.
    pub(super) fn send(&self, conn: ConnId, message: &ToNode) -> bool {
        let Some(connection) = self.open.get(&conn) else {
            return true;
        };
        connection.questions.note(message);
        let sent = message.encode().map(|frame| connection.frames.try_send(frame));
        matches!(sent, Ok(Ok(())))
    }

    /// Opens a tunnel for an operator at `from` to the node called `name`.
    ///
    /// # Errors
    /// One line for the operator.
    pub(super) fn tunnel(&self, conn: ConnId, name: &NodeName, from: SocketAddr) -> Result<Tunnel, Reason> {
        let connection = self.open.get(&conn);
        let connection = connection.ok_or_else(|| Reason::new(format!("{name} is not connected")))?;
        connection.tunnels.open(from)
    }

    /// Closes a connection after the queued messages are sent. Its reader ends with it.
    pub(super) fn close(&mut self, conn: ConnId) {
        if let Some(connection) = self.open.remove(&conn) {
            self.closing.retain(|writer| !writer.is_finished());
            self.closing.push(connection.writer);
        }
    }

    /// Returns the tasks of connections that were closed and still send.
    pub(super) fn take_closing(&mut self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.closing)
    }
}

#[cfg(test)]
mod tests {
    use ka_proto::tunnel::TunnelEnd;

    use super::*;

    const CONN: ConnId = ConnId(1);

    fn connection(room: usize) -> (Connection, mpsc::Receiver<Vec<u8>>) {
        let (frames, queue) = mpsc::channel(room);
        let (tunnel_frames, _) = mpsc::channel(1);
        let tunnels = TunnelMux::new(TunnelEnd::Server, tunnel_frames, |message| {
            ToNode::Tunnel(message).encode()
        });
        let writer = tokio::spawn(async {});
        (
            Connection::new(frames, tunnels, Questions::default(), writer),
            queue,
        )
    }

    #[tokio::test]
    async fn a_node_that_does_not_read_is_told_apart_from_one_that_is_gone() {
        let mut connections = Connections::default();
        let (connection, _queue) = connection(1);
        connections.insert(CONN, connection);
        assert!(connections.send(CONN, &ToNode::Ping(1)));
        assert!(!connections.send(CONN, &ToNode::Ping(2)), "its queue is full");
        connections.close(CONN);
        assert!(connections.send(CONN, &ToNode::Ping(3)), "it is gone");
        assert_eq!(connections.take_closing().len(), 1);
        let name = NodeName::new("n1").unwrap();
        let refused = connections
            .tunnel(CONN, &name, ([127, 0, 0, 1], 1).into())
            .unwrap_err();
        assert_eq!(refused.as_str(), "n1 is not connected");
    }
}
