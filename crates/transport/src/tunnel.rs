//! Tunnels of one control connection, carried out: an operator's byte stream to a node and back.
//!
//! Each has a task that moves its bytes and waits where [`Tunnels`] says so; the connection's reader only hands messages
//! over and never waits. Not here: what decides ([`ka_proto::tunnel`]), and who is at either end.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ka_proto::tunnel::{Came, Claim, End, MAX_PIECE, PIECE_WINDOW, TunnelId, TunnelMessage, Tunnels};
use ka_proto::wire::Payload;
use ka_proto::{Reason, WireError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::{Notify, mpsc, oneshot};

/// How the messages of this end become frames.
type Encode = fn(TunnelMessage) -> Result<Vec<u8>, WireError>;

/// The tunnels of one control connection.
#[derive(Debug, Clone)]
pub(crate) struct Tunnelling {
    state: Arc<Mutex<State>>,
    frames: mpsc::Sender<Vec<u8>>,
    encode: Encode,
}

#[derive(Debug)]
struct State {
    machine: Tunnels,
    open: HashMap<TunnelId, Way>,
    /// Why there are no more tunnels here.
    over: Option<Reason>,
}

/// The way from the connection's reader to the task of a tunnel.
#[derive(Debug)]
struct Way {
    pieces: mpsc::Sender<Vec<u8>>,
    credit: Arc<Notify>,
    ended: oneshot::Sender<Reason>,
}

/// One end of a tunnel.
#[derive(Debug)]
pub(crate) struct Tunnel {
    /// Its bytes; dropping it closes the tunnel, and its end is the tunnel's.
    pub(crate) stream: DuplexStream,
    /// Why it ended, when the other end or the connection did it.
    pub(crate) ended: oneshot::Receiver<Reason>,
}

impl Tunnelling {
    /// None yet. `frames` are sent when the connection has nothing else to send.
    pub(crate) fn new(end: End, frames: mpsc::Sender<Vec<u8>>, encode: Encode) -> Self {
        let state = State {
            machine: Tunnels::new(end),
            open: HashMap::new(),
            over: None,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            frames,
            encode,
        }
    }

    /// Opens a tunnel for an operator at `from`.
    ///
    /// # Errors
    /// For the operator.
    pub(crate) fn open(&self, from: SocketAddr) -> Result<Tunnel, Reason> {
        let mut state = self.lock();
        if let Some(reason) = &state.over {
            return Err(reason.clone());
        }
        let (tunnel, open) = state.machine.open(from)?;
        // First its opening, then what its task sends.
        if !self.try_send(open) {
            state.machine.close(tunnel, Reason::new("never opened"));
            return Err(Reason::new("the node does not read what it is sent"));
        }
        Ok(self.begin(&mut state, tunnel))
    }

    /// Does what a message says; a tunnel that it opens, and for whom.
    pub(crate) fn handle(&self, message: TunnelMessage) -> Option<(Tunnel, SocketAddr)> {
        let mut state = self.lock();
        match state.machine.handle(message) {
            Came::Opened { tunnel, from } => return Some((self.begin(&mut state, tunnel), from)),
            Came::Piece { tunnel, bytes } => {
                // There is room for as many as the machine lets through.
                if let Some(way) = state.open.get(&tunnel) {
                    way.pieces.try_send(bytes).ok();
                }
            }
            Came::Credit { tunnel } => {
                if let Some(way) = state.open.get(&tunnel) {
                    way.credit.notify_one();
                }
            }
            Came::Closed {
                tunnel,
                reason,
                answer,
            } => {
                if let Some(way) = state.open.remove(&tunnel) {
                    way.end(reason);
                }
                // A peer that keeps to no rules gets no more than there is room for.
                answer.map(|answer| self.try_send(answer));
            }
            Came::Nothing => {}
        }
        None
    }

    /// The connection is over, and every tunnel with it.
    pub(crate) fn end(&self, reason: &Reason) {
        let mut state = self.lock();
        state.over = Some(reason.clone());
        for (_, way) in state.open.drain() {
            way.end(reason.clone());
        }
    }

    fn begin(&self, state: &mut State, tunnel: TunnelId) -> Tunnel {
        let (outside, inside) = duplex(MAX_PIECE);
        let (pieces, came) = mpsc::channel(PIECE_WINDOW);
        let (credit, (ended, why)) = (Arc::new(Notify::new()), oneshot::channel());
        let way = Way {
            pieces,
            credit: Arc::clone(&credit),
            ended,
        };
        state.open.insert(tunnel, way);
        tokio::spawn(self.clone().carry(tunnel, inside, came, credit));
        Tunnel {
            stream: outside,
            ended: why,
        }
    }

    /// Until either end is gone. What came before the other end's close still arrives.
    async fn carry(
        self,
        tunnel: TunnelId,
        inside: DuplexStream,
        came: mpsc::Receiver<Vec<u8>>,
        credit: Arc<Notify>,
    ) {
        let (reader, writer) = split(inside);
        tokio::select! {
            () = self.bring(tunnel, writer, came) => {}
            () = self.take(tunnel, reader, &credit) => {}
        }
        let close = self
            .lock()
            .machine
            .close(tunnel, Reason::new("the other end has left"));
        self.lock().open.remove(&tunnel);
        if let Some(close) = close {
            self.send(close).await;
        }
    }

    /// Pieces of the other end, to whoever is at this one.
    async fn bring(
        &self,
        tunnel: TunnelId,
        mut writer: WriteHalf<DuplexStream>,
        mut came: mpsc::Receiver<Vec<u8>>,
    ) {
        while let Some(piece) = came.recv().await {
            if writer.write_all(&piece).await.is_err() {
                return;
            }
            let credit = self.lock().machine.used(tunnel);
            if let Some(credit) = credit {
                self.send(credit).await;
            }
        }
    }

    /// Bytes of this end, to the other one; read only when they may be sent.
    async fn take(&self, tunnel: TunnelId, mut reader: ReadHalf<DuplexStream>, credit: &Notify) {
        let mut buffer = vec![0; MAX_PIECE];
        loop {
            let claim = self.lock().machine.claim(tunnel);
            match claim {
                Claim::Granted => {}
                Claim::Wait => {
                    credit.notified().await;
                    continue;
                }
                // The other end has closed: what it sent before is still brought, which ends this.
                Claim::Gone => std::future::pending().await,
            }
            match reader.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    let bytes = Payload(buffer[..count].to_vec());
                    self.send(TunnelMessage::Piece { tunnel, bytes }).await;
                }
            }
        }
    }

    /// Waits while other messages go first. Without a connection nothing is sent; its end ends the tunnel.
    async fn send(&self, message: TunnelMessage) {
        if let Ok(frame) = (self.encode)(message) {
            self.frames.send(frame).await.ok();
        }
    }

    fn try_send(&self, message: TunnelMessage) -> bool {
        (self.encode)(message).is_ok_and(|frame| self.frames.try_send(frame).is_ok())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Way {
    fn end(self, reason: Reason) {
        // Whoever is there may have left meanwhile.
        self.ended.send(reason).ok();
        self.credit.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ka_proto::control::{ToNode, ToServer};
    use tokio::time::timeout;

    use super::*;

    const OPERATOR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7);

    /// Both ends of a connection whose messages arrive in order.
    fn connected() -> (Tunnelling, Tunnel, Tunnel) {
        let (to_node, mut at_node) = mpsc::channel(64);
        let (to_server, mut at_server) = mpsc::channel(64);
        let server = Tunnelling::new(End::Server, to_node, |message| ToNode::Tunnel(message).encode());
        let node = Tunnelling::new(End::Node, to_server, |message| ToServer::Tunnel(message).encode());
        let operators = server.open(OPERATOR).unwrap();
        let Ok(ToNode::Tunnel(open)) = ToNode::decode(&at_node.try_recv().unwrap()[4..]) else {
            panic!("not opened")
        };
        let (nodes, from) = node.handle(open).unwrap();
        assert_eq!(from, OPERATOR);
        let for_node = node;
        tokio::spawn(async move {
            while let Some(frame) = at_node.recv().await {
                if let Ok(ToNode::Tunnel(message)) = ToNode::decode(&frame[4..]) {
                    for_node.handle(message);
                }
            }
        });
        let for_server = server.clone();
        tokio::spawn(async move {
            while let Some(frame) = at_server.recv().await {
                if let Ok(ToServer::Tunnel(message)) = ToServer::decode(&frame[4..]) {
                    for_server.handle(message);
                }
            }
        });
        (server, operators, nodes)
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_the_last_ones_before_the_end_arrive() {
        let (_server, mut operator, mut node) = connected();
        operator.stream.write_all(b"uptime").await.unwrap();
        let mut asked = [0; 6];
        node.stream.read_exact(&mut asked).await.unwrap();
        let answer: Vec<u8> = (0..1_000_000u32).map(|byte| byte.to_le_bytes()[0]).collect();
        let sent = answer.clone();
        tokio::spawn(async move {
            node.stream.write_all(&sent).await.unwrap();
        });
        let mut got = Vec::new();
        operator.stream.read_to_end(&mut got).await.unwrap();
        assert_eq!((&asked, got.len()), (b"uptime", answer.len()));
        assert!(got == answer);
        assert!(operator.ended.await.unwrap().as_str().contains("left"));
    }

    #[tokio::test]
    async fn who_does_not_read_is_sent_no_more_than_the_window_and_other_tunnels_go_on() {
        let (_server, operator, mut node) = connected();
        let mut written = 0;
        while let Ok(count) = timeout(Duration::from_millis(200), node.stream.write(&[7; MAX_PIECE])).await {
            written += count.unwrap();
            assert!(written <= MAX_PIECE * (PIECE_WINDOW + 4), "{written} bytes");
        }
        drop(operator);
        // The operator's end is this end's.
        let ended = timeout(Duration::from_secs(20), node.stream.read(&mut [0; 1])).await;
        assert_eq!(ended.unwrap().unwrap(), 0);
    }

    #[tokio::test]
    async fn the_connections_end_is_every_tunnels_with_its_reason() {
        let (server, mut operator, _node) = connected();
        server.end(&Reason::new("silent for 15 s"));
        let end = timeout(Duration::from_secs(20), operator.stream.read(&mut [0; 1])).await;
        assert_eq!(end.unwrap().unwrap(), 0);
        assert_eq!(operator.ended.await.unwrap().as_str(), "silent for 15 s");
        assert!(server.open(OPERATOR).is_err());
    }
}
