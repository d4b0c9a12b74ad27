//! Operators at the server's control port: the list of nodes, and a way to a node through its control
//! connection.
//!
//! Only the holder of the server's key gets in; others hear no byte after TLS's own handshake. The server
//! moves bytes between an operator and a node's tunnel. The node decides about rights, as at its own port.
//! `ka_proto::via`, `docs/protocol.md` "Status through the server".

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ka_proto::tunnel::{MAX_PIECE, MAX_TUNNELS_OF_RUN};
use ka_proto::via::{AskServer, FromServer, ListedNode, MAX_VIA_FRAME, VIA_ALPN, Work};
use ka_proto::wire::Payload;
use ka_proto::{NodeId, Reason};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::messages::Input;
use crate::code::FINGERPRINT_LEN;
use crate::control::read_frame;
use crate::tls::shown_fingerprint;
use crate::tunnel::Tunnel;

/// An operator may be silent for hours; the kernel's keepalive and TCP_USER_TIMEOUT tell when they are gone.
const ANY_SILENCE: Duration = Duration::MAX;
/// Time for the last frame to an operator, whose program may not read.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves operators that reach nodes through the server.
#[derive(Debug, Clone)]
pub(super) struct ViaService {
    fingerprint: [u8; FINGERPRINT_LEN],
    core: mpsc::Sender<Input>,
    works: Works,
    slots: Arc<Semaphore>,
}

/// Teller of each node's work, from the node's own events. The layer above knows them; until it has given its
/// teller, there is no work to tell.
#[derive(Clone, Default)]
pub(super) struct Works(Arc<OnceLock<Teller>>);

/// Returns the work of a node, if it is at work.
type Teller = Box<dyn Fn(NodeId) -> Option<Work> + Send + Sync>;

impl Works {
    /// Asks `teller` from now on. Only the first one counts.
    pub(super) fn ask(&self, teller: impl Fn(NodeId) -> Option<Work> + Send + Sync + 'static) {
        self.0.set(Box::new(teller)).ok();
    }

    fn of(&self, node: NodeId) -> Option<Work> {
        self.0.get().and_then(|teller| teller(node))
    }
}

impl fmt::Debug for Works {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Works")
    }
}

/// An operator with the server's key, and the first request.
#[derive(Debug)]
pub(super) struct ViaRequest {
    stream: TlsStream<TcpStream>,
    asked: AskServer,
}

/// True when the peer says that it is an operator.
pub(super) fn is_operator(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(VIA_ALPN)
}

impl ViaService {
    /// Takes operators that show the key with `fingerprint`.
    pub(super) fn new(fingerprint: [u8; FINGERPRINT_LEN], core: mpsc::Sender<Input>, works: Works) -> Self {
        Self {
            fingerprint,
            core,
            works,
            slots: Arc::new(Semaphore::new(MAX_TUNNELS_OF_RUN)),
        }
    }

    /// Checks the key and reads the request, which comes within `limit`.
    ///
    /// # Errors
    /// For the server's log; the peer hears nothing.
    pub(super) async fn authenticate(
        &self,
        mut stream: TlsStream<TcpStream>,
        limit: Duration,
    ) -> Result<ViaRequest, String> {
        if shown_fingerprint(stream.get_ref().1) != Some(self.fingerprint) {
            return Err("an operator without the server's key".to_owned());
        }
        let asked = ask(&mut stream, limit).await?;
        Ok(ViaRequest { stream, asked })
    }

    /// Carries out the request, until either end is gone.
    pub(super) async fn serve(&self, request: ViaRequest, from: SocketAddr) {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let ViaRequest { mut stream, asked } = request;
        match asked {
            AskServer::List => self.list(&mut stream).await,
            AskServer::Connect(wanted) => match self.connect(wanted.as_str(), from).await {
                Ok((tunnel, slot)) => relay(stream, tunnel, slot).await,
                Err(reason) => farewell(&mut stream, Some(reason)).await,
            },
            // There is no node yet for which they could be.
            AskServer::Bytes(_) => {}
        }
    }

    async fn list(&self, stream: &mut TlsStream<TcpStream>) {
        let (reply, answer) = oneshot::channel();
        if self.core.send(Input::Roll { reply }).await.is_err() {
            return;
        }
        for (id, node) in answer.await.unwrap_or_default() {
            let work = self.works.of(id);
            let node = ListedNode { work, ..node };
            if say(stream, &FromServer::Node(node)).await.is_err() {
                return;
            }
        }
        farewell(stream, None).await;
    }

    async fn connect(
        &self,
        wanted: &str,
        from: SocketAddr,
    ) -> Result<(Tunnel, OwnedSemaphorePermit), Reason> {
        let full = |_| Reason::new(format!("{MAX_TUNNELS_OF_RUN} operators are here already"));
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(full)?;
        let (reply, answer) = oneshot::channel();
        let asked = Input::Tunnel {
            wanted: wanted.to_owned(),
            from,
            reply,
        };
        let over = || Reason::new("the run is over");
        self.core.send(asked).await.map_err(|_| over())?;
        let (name, tunnel) = answer.await.map_err(|_| over())??;
        tracing::info!(%from, node = %name, "an operator goes to a node through this server");
        Ok((tunnel, slot))
    }
}

/// Moves bytes both ways. The operator is told why the node's end came.
async fn relay(operator: TlsStream<TcpStream>, tunnel: Tunnel, _place: OwnedSemaphorePermit) {
    let (mut from_operator, mut to_operator) = split(operator);
    let (mut from_node, mut to_node) = split(tunnel.stream);
    if say(&mut to_operator, &FromServer::Connected).await.is_err() {
        return;
    }
    let operator_left = {
        let there = async {
            while let Ok(AskServer::Bytes(bytes)) = ask(&mut from_operator, ANY_SILENCE).await {
                if to_node.write_all(&bytes.0).await.is_err() {
                    // The node's end says why.
                    std::future::pending::<()>().await;
                }
            }
        };
        let back = async {
            let mut buffer = vec![0; MAX_PIECE];
            while let Ok(count) = from_node.read(&mut buffer).await {
                let bytes = Payload(buffer[..count].to_vec());
                if count == 0 || say(&mut to_operator, &FromServer::Bytes(bytes)).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = there => true,
            () = back => false,
        }
    };
    if !operator_left {
        let reason = timeout(FAREWELL, tunnel.ended).await;
        farewell(&mut to_operator, reason.ok().and_then(Result::ok)).await;
    }
}

async fn ask<R: AsyncRead + Unpin>(reader: &mut R, silence: Duration) -> Result<AskServer, String> {
    let body = read_frame(reader, MAX_VIA_FRAME, silence).await;
    let body = body.map_err(|error| error.to_string())?;
    AskServer::decode(&body).map_err(|error| error.to_string())
}

async fn say<W: AsyncWrite + Unpin>(writer: &mut W, message: &FromServer) -> Result<(), String> {
    let frame = message.encode().map_err(|error| error.to_string())?;
    writer
        .write_all(&frame)
        .await
        .map_err(|error| error.to_string())?;
    writer.flush().await.map_err(|error| error.to_string())
}

/// The last frame, and the connection's end in good order.
async fn farewell<W: AsyncWrite + Unpin>(writer: &mut W, reason: Option<Reason>) {
    let end = async {
        say(writer, &FromServer::End(reason)).await.ok();
        writer.shutdown().await.ok();
    };
    // A program that does not read gets no last frame.
    timeout(FAREWELL, end).await.ok();
}
