//! The tunnels of one control connection: operators' byte streams to a node and back, multiplexed with its
//! messages.
//!
//! Each tunnel has a task that moves its bytes and waits where [`Tunnels`] says so; the connection's reader
//! only hands messages over and never waits. [`ka_proto::tunnel`] decides how much may be sent.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ka_proto::tunnel::{
    MAX_PIECE, PIECE_WINDOW, Permit, TunnelEnd, TunnelEvent, TunnelId, TunnelMessage, Tunnels,
};
use ka_proto::wire::Payload;
use ka_proto::{Reason, WireError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::{Notify, mpsc, oneshot};

/// Makes a frame of one of this end's messages.
type Encode = fn(TunnelMessage) -> Result<Vec<u8>, WireError>;

/// The multiplexer of one control connection's tunnels, at one end; clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct TunnelMux {
    state: Arc<Mutex<MuxState>>,
    frames: mpsc::Sender<Vec<u8>>,
    encode: Encode,
}

#[derive(Debug)]
struct MuxState {
    machine: Tunnels,
    open: HashMap<TunnelId, TunnelInput>,
    /// The reason why there are no more tunnels here.
    over: Option<Reason>,
}

/// The queues from the connection's reader to the task of a tunnel.
#[derive(Debug)]
struct TunnelInput {
    pieces: mpsc::Sender<Vec<u8>>,
    credit: Arc<Notify>,
    ended: oneshot::Sender<Reason>,
}

/// One end of a tunnel.
#[derive(Debug)]
pub(crate) struct Tunnel {
    /// Its bytes; dropping it closes the tunnel, and its end is the tunnel's.
    pub(crate) stream: DuplexStream,
    /// The reason of its end, when the other end or the connection ended it.
    pub(crate) ended: oneshot::Receiver<Reason>,
}

impl TunnelMux {
    /// Returns a multiplexer without tunnels. `frames` are sent when the connection has nothing else to send.
    pub(crate) fn new(end: TunnelEnd, frames: mpsc::Sender<Vec<u8>>, encode: Encode) -> Self {
        let state = MuxState {
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
    /// One line for the operator.
    pub(crate) fn open(&self, from: SocketAddr) -> Result<Tunnel, Reason> {
        let mut state = self.lock();
        if let Some(reason) = &state.over {
            return Err(reason.clone());
        }
        let (tunnel, open) = state.machine.open(from)?;
        // The opening comes first, then the messages of its task.
        if !self.try_send(open) {
            state.machine.close(tunnel, Reason::new("never opened"));
            return Err(Reason::new("the node does not read what it is sent"));
        }
        Ok(self.begin(&mut state, tunnel))
    }

    /// Handles a message of the other end. Returns the tunnel that it opens, with the operator's address.
    pub(crate) fn handle(&self, message: TunnelMessage) -> Option<(Tunnel, SocketAddr)> {
        let mut state = self.lock();
        match state.machine.handle(message) {
            TunnelEvent::Opened { tunnel, from } => return Some((self.begin(&mut state, tunnel), from)),
            TunnelEvent::Piece { tunnel, bytes } => {
                // There is room for as many as the machine lets through.
                if let Some(input) = state.open.get(&tunnel) {
                    input.pieces.try_send(bytes).ok();
                }
            }
            TunnelEvent::Credit { tunnel } => {
                if let Some(input) = state.open.get(&tunnel) {
                    input.credit.notify_one();
                }
            }
            TunnelEvent::Closed {
                tunnel,
                reason,
                answer,
            } => {
                if let Some(input) = state.open.remove(&tunnel) {
                    input.end(reason);
                }
                // A peer that keeps to no rules gets no more than there is room for.
                answer.map(|answer| self.try_send(answer));
            }
            TunnelEvent::Nothing => {}
        }
        None
    }

    /// Ends every tunnel: the connection is over.
    pub(crate) fn end(&self, reason: &Reason) {
        let mut state = self.lock();
        state.over = Some(reason.clone());
        for (_, input) in state.open.drain() {
            input.end(reason.clone());
        }
    }

    fn begin(&self, state: &mut MuxState, tunnel: TunnelId) -> Tunnel {
        let (outside, inside) = duplex(MAX_PIECE);
        let (sender, pieces) = mpsc::channel(PIECE_WINDOW);
        let (credit, (ended, why)) = (Arc::new(Notify::new()), oneshot::channel());
        let input = TunnelInput {
            pieces: sender,
            credit: Arc::clone(&credit),
            ended,
        };
        state.open.insert(tunnel, input);
        tokio::spawn(self.clone().run(tunnel, inside, pieces, credit));
        Tunnel {
            stream: outside,
            ended: why,
        }
    }

    /// Moves bytes both ways until either end is gone. What came before the other end's close still arrives.
    async fn run(
        self,
        tunnel: TunnelId,
        inside: DuplexStream,
        pieces: mpsc::Receiver<Vec<u8>>,
        credit: Arc<Notify>,
    ) {
        let (reader, writer) = split(inside);
        tokio::select! {
            () = self.deliver(tunnel, writer, pieces) => {}
            () = self.forward(tunnel, reader, &credit) => {}
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

    /// Writes the other end's pieces to this one.
    async fn deliver(
        &self,
        tunnel: TunnelId,
        mut writer: WriteHalf<DuplexStream>,
        mut pieces: mpsc::Receiver<Vec<u8>>,
    ) {
        while let Some(piece) = pieces.recv().await {
            if writer.write_all(&piece).await.is_err() {
                return;
            }
            let credit = self.lock().machine.used(tunnel);
            if let Some(credit) = credit {
                self.send(credit).await;
            }
        }
    }

    /// Sends this end's bytes to the other one; reads them only when they may be sent.
    async fn forward(&self, tunnel: TunnelId, mut reader: ReadHalf<DuplexStream>, credit: &Notify) {
        let mut buffer = vec![0; MAX_PIECE];
        loop {
            let claim = self.lock().machine.claim(tunnel);
            match claim {
                Permit::Granted => {}
                Permit::Wait => {
                    credit.notified().await;
                    continue;
                }
                // The other end has closed. Its earlier data is still delivered, which ends this.
                Permit::Gone => std::future::pending().await,
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

    fn lock(&self) -> MutexGuard<'_, MuxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TunnelInput {
    fn end(self, reason: Reason) {
        // The receiver may have left meanwhile.
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
    fn connected() -> (TunnelMux, Tunnel, Tunnel) {
        let (to_node, mut at_node) = mpsc::channel(64);
        let (to_server, mut at_server) = mpsc::channel(64);
        let server = TunnelMux::new(TunnelEnd::Server, to_node, |message| {
            ToNode::Tunnel(message).encode()
        });
        let node = TunnelMux::new(TunnelEnd::Node, to_server, |message| {
            ToServer::Tunnel(message).encode()
        });
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
