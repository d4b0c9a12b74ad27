//! The node's side: accepts operators at the node's own port and through the server, and authenticates them
//! by the server's key.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ka_proto::auth::Secret;
use ka_proto::operator::{
    FromOperator, MAX_OPERATOR_FRAME, OPERATOR_EXPORTER_LABEL, ToOperator, operator_proof,
};
use ka_proto::text::NodeName;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{HANDSHAKE_LIMIT, PEER_GONE_AFTER};
use crate::code::JoinCode;
use crate::control::write_frames;
use crate::error::{OwnPort, TransportError};
use crate::key::ServerKey;
use crate::net::{listen_tcp, tune_control};
use crate::pending::{PendingConnections, PendingSlot};
use crate::server::runtime;
use crate::tls::{exported_secret, operator_listener_config};

/// Operators at a time: a few people look at one node, and each costs it two threads.
const MAX_OPERATORS: usize = 16;
/// Connections that have not shown the server's key. A handshake takes milliseconds.
const MAX_UNPROVED: usize = 64;
/// Frames that wait for an operator's screen before the log reader waits too.
const MAX_QUEUED_FRAMES: usize = 64;
/// Commands typed ahead.
const MAX_QUEUED_COMMANDS: usize = 16;

/// Accepts the node's operators until it is dropped.
#[derive(Debug)]
pub struct OperatorListener {
    service: Arc<OperatorService>,
    local: Option<SocketAddr>,
    runtime: Option<Runtime>,
}

/// Accepts operators that reach the node through the server.
#[derive(Debug, Clone)]
pub struct OperatorAcceptor {
    service: Arc<OperatorService>,
    runtime: Handle,
}

/// An authenticated operator.
#[derive(Debug)]
pub struct Operator {
    /// The operator's address. The server reports it for operators that come through it.
    pub from: SocketAddr,
    /// True when they come through the server.
    pub through_server: bool,
    /// The messages to them.
    pub writer: OperatorWriter,
    /// The commands that they type.
    pub commands: OperatorCommands,
}

/// The way of messages to an operator; the connection ends when all clones are dropped.
#[derive(Debug, Clone)]
pub struct OperatorWriter {
    frames: mpsc::Sender<Vec<u8>>,
    gone: Arc<AtomicBool>,
}

/// The commands of an operator, in the order typed.
#[derive(Debug)]
pub struct OperatorCommands(mpsc::Receiver<String>);

impl OperatorWriter {
    /// Sends a message, after those before; waits while the operator's end is slow. `false`: the operator is
    /// gone.
    #[must_use]
    pub fn send(&self, message: &ToOperator) -> bool {
        let sent = message
            .encode()
            .is_ok_and(|frame| self.frames.blocking_send(frame).is_ok());
        sent && self.is_open()
    }

    /// True while the operator is there, as far as is known.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.gone.load(Ordering::Relaxed)
    }
}

impl OperatorCommands {
    /// Waits for the next command; `None` when the operator is gone.
    pub fn next_command(&mut self) -> Option<String> {
        self.0.blocking_recv()
    }
}

/// Authenticates operators and serves each on a thread of its own.
struct OperatorService {
    acceptor: TlsAcceptor,
    secret: Secret,
    name: NodeName,
    slots: Arc<Semaphore>,
    welcome: Box<dyn Fn(Operator) + Send + Sync>,
}

impl fmt::Debug for OperatorService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorService")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl OperatorListener {
    /// Returns a listener for the holder of the key that `code` pins, with no port yet. `welcome` is called
    /// for each operator on a thread of its own; the connection ends when it has dropped the
    /// [`OperatorWriter`].
    ///
    /// # Errors
    /// TLS or the kernel refuses something.
    pub fn new(
        code: &JoinCode,
        name: NodeName,
        welcome: impl Fn(Operator) + Send + Sync + 'static,
    ) -> Result<Self, TransportError> {
        let own = ServerKey::ephemeral()?;
        let service = OperatorService {
            acceptor: TlsAcceptor::from(operator_listener_config(code.fingerprint, &own)?),
            secret: code.secret,
            name,
            slots: Arc::new(Semaphore::new(MAX_OPERATORS)),
            welcome: Box::new(welcome),
        };
        Ok(Self {
            service: Arc::new(service),
            local: None,
            runtime: Some(runtime("ka-status-net")?),
        })
    }

    /// Accepts operators at this address too.
    ///
    /// # Errors
    /// [`TransportError::Listen`] when the port is taken.
    pub fn listen(&mut self, listen: SocketAddr) -> Result<(), TransportError> {
        let Some(runtime) = &self.runtime else {
            return Err(TransportError::Misuse("the listener is closed"));
        };
        let listener = listen_tcp(listen, OwnPort::Status)?;
        let local = listener
            .local_addr()
            .map_err(TransportError::system("reading the status port"))?;
        let guard = runtime.enter();
        let listener =
            TcpListener::from_std(listener).map_err(TransportError::system("listening for the operator"))?;
        drop(guard);
        runtime.spawn(Arc::clone(&self.service).serve(listener));
        self.local = Some(local);
        Ok(())
    }

    /// Returns the address that it listens on, if it does.
    #[must_use]
    pub const fn local_addr(&self) -> Option<SocketAddr> {
        self.local
    }

    /// Returns the acceptor of operators that come through the server.
    #[must_use]
    pub fn acceptor(&self) -> Option<OperatorAcceptor> {
        self.runtime.as_ref().map(|runtime| OperatorAcceptor {
            service: Arc::clone(&self.service),
            runtime: runtime.handle().clone(),
        })
    }
}

impl OperatorAcceptor {
    /// Accepts a connection that has proved nothing to this node yet; the server says where it comes from.
    pub(crate) fn accept(&self, stream: DuplexStream, from: SocketAddr) {
        let service = Arc::clone(&self.service);
        self.runtime.spawn(async move {
            let authenticated = timeout(HANDSHAKE_LIMIT, service.authenticate(stream)).await;
            let authenticated =
                authenticated.unwrap_or_else(|_| Err("said nothing valid in time".to_owned()));
            let through_server = true;
            service.receive(authenticated, from, through_server).await;
        });
    }
}

impl Drop for OperatorListener {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Operators that do not read must not hold up a reboot.
            runtime.shutdown_background();
        }
    }
}

impl OperatorService {
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        let serve = |socket, from, slot| Arc::clone(&self).serve_peer(socket, from, slot);
        PendingConnections::new(MAX_UNPROVED).serve(listener, serve).await;
    }

    async fn serve_peer(self: Arc<Self>, socket: TcpStream, from: SocketAddr, slot: PendingSlot) {
        let proof = async {
            tune_control(&SockRef::from(&socket), PEER_GONE_AFTER).map_err(|error| error.to_string())?;
            self.authenticate(socket).await
        };
        let authenticated = slot.authenticate(HANDSHAKE_LIMIT, proof).await;
        let through_server = false;
        self.receive(authenticated, from, through_server).await;
    }

    async fn authenticate<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: S,
    ) -> Result<TlsStream<S>, String> {
        let accepted = self.acceptor.accept(socket).await;
        let mut stream = accepted.map_err(|error| format!("not the server's key: {error}"))?;
        let exporter = exported_secret(stream.get_ref().1, OPERATOR_EXPORTER_LABEL)
            .map_err(|error| error.to_string())?;
        let online = ToOperator::Online {
            name: self.name.clone(),
            proof: operator_proof(&self.secret, &exporter),
        };
        let frame = online.encode().map_err(|error| error.to_string())?;
        stream
            .write_all(&frame)
            .await
            .map_err(|error| error.to_string())?;
        stream.flush().await.map_err(|error| error.to_string())?;
        Ok(stream)
    }

    async fn receive<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
        self: Arc<Self>,
        authenticated: Result<TlsStream<S>, String>,
        from: SocketAddr,
        through_server: bool,
    ) {
        match (authenticated, Arc::clone(&self.slots).try_acquire_owned()) {
            (Ok(stream), Ok(slot)) => {
                self.serve_operator(stream, (from, through_server)).await;
                drop(slot);
            }
            (Ok(_), Err(_)) => tracing::info!(%from, "{MAX_OPERATORS} operators are here already"),
            (Err(reason), _) => tracing::info!(%from, reason, "status connection refused"),
        }
    }

    async fn serve_operator<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
        self: Arc<Self>,
        stream: TlsStream<S>,
        (from, through_server): (SocketAddr, bool),
    ) {
        let (mut reader, mut writer) = split(stream);
        let (frames, queue) = mpsc::channel(MAX_QUEUED_FRAMES);
        let (typed, commands) = mpsc::channel(MAX_QUEUED_COMMANDS);
        let gone = Arc::new(AtomicBool::new(false));
        let operator = Operator {
            from,
            through_server,
            writer: OperatorWriter {
                frames,
                gone: Arc::clone(&gone),
            },
            commands: OperatorCommands(commands),
        };
        let service = Arc::clone(&self);
        let thread = std::thread::Builder::new().name("ka-operator".into());
        if thread.spawn(move || (service.welcome)(operator)).is_err() {
            return;
        }
        let read = async {
            while let Ok(command) = read_command(&mut reader).await {
                if typed.send(command).await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = read => {}
            _ = write_frames(&mut writer, queue) => {}
        }
        gone.store(true, Ordering::Relaxed);
    }
}

/// An operator may be silent for hours: the kernel's keepalive tells when they are gone.
async fn read_command<R: AsyncRead + Unpin>(reader: &mut R) -> Result<String, String> {
    let mut prefix = [0; ka_proto::wire::FRAME_PREFIX];
    reader
        .read_exact(&mut prefix)
        .await
        .map_err(|error| error.to_string())?;
    let length =
        ka_proto::wire::frame_length(prefix, MAX_OPERATOR_FRAME).map_err(|error| error.to_string())?;
    let mut body = vec![0; length];
    reader
        .read_exact(&mut body)
        .await
        .map_err(|error| error.to_string())?;
    match FromOperator::decode(&body) {
        Ok(FromOperator::Exec(command)) => Ok(command),
        Err(error) => Err(error.to_string()),
    }
}
