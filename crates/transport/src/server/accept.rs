//! The control port's gate: TLS, then a Join with proof, within a time limit and a bounded number of strangers.
//!
//! A peer is given nothing but TLS's own handshake until its proof holds; one of another version is told so, because
//! its proof cannot be read. Who is then taken into the run is decided by `ka_proto::run`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ka_proto::auth::{EXPORTER_LABEL, Secret, join_is_proved};
use ka_proto::control::{Join, ToNode, ToServer};
use ka_proto::limits::{MAX_CONTROL_FRAME, MAX_JOIN_FRAME};
use ka_proto::run::ConnId;
use ka_proto::{Reason, WireError};
use socket2::SockRef;
use tokio::io::{AsyncWriteExt, ReadHalf, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::messages::{Connection, Input};
use crate::control::{ControlError, MAX_QUEUED_FRAMES, read_frame, write_frames};
use crate::lobby::Lobby;
use crate::net::tune_control;
use crate::stream::Stranger;
use crate::tls::exported_secret;

/// Connections that have not proved themselves: a descriptor and at most some tens of KiB each. A room of nodes that starts
/// at once fits; a stranger with many addresses has to fill it anew within the milliseconds that a node needs.
const MAX_UNPROVED: usize = 512;
/// Pause after accept(2) failed: descriptors may be short for a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Lets nodes in.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) acceptor: TlsAcceptor,
    pub(super) secret: Secret,
    pub(super) handshake: Duration,
    /// For the peer's kernel.
    pub(super) silence: Duration,
    /// For the peer; the run itself gives it up earlier while a stream runs.
    pub(super) idle_silence: Duration,
    pub(super) core: mpsc::Sender<Input>,
    pub(super) strangers: mpsc::Sender<Stranger>,
    pub(super) connections: Arc<AtomicU64>,
}

/// A proved connection.
struct Proved {
    stream: TlsStream<TcpStream>,
    join: Join,
    local: IpAddr,
}

impl Gate {
    /// Accepts until the task is dropped.
    pub(super) async fn serve(self, listener: TcpListener) {
        let lobby = Lobby::new(MAX_UNPROVED);
        loop {
            let opening = lobby.opening().await;
            match listener.accept().await {
                Ok((socket, remote)) => {
                    let (gate, place) = (self.clone(), lobby.enter(remote.ip(), opening));
                    tokio::spawn(async move {
                        match place.during(gate.handshake, gate.admit(socket)).await {
                            Ok(proved) => gate.converse(proved, remote).await,
                            Err(reason) => gate.turn_away(remote, &reason),
                        }
                    });
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn turn_away(&self, from: SocketAddr, reason: &str) {
        // A flood of strangers loses its later events; it does not stand in the nodes' way to the core.
        let reason = format!("control port: {reason}");
        self.strangers.try_send(Stranger { from, reason }).ok();
    }

    async fn admit(&self, socket: TcpStream) -> Result<Proved, String> {
        let local = socket
            .local_addr()
            .map_err(|error| error.to_string())?
            .ip()
            .to_canonical();
        tune_control(&SockRef::from(&socket), self.silence).map_err(|error| error.to_string())?;
        let mut stream = self
            .acceptor
            .accept(socket)
            .await
            .map_err(|error| format!("no TLS: {error}"))?;
        let exporter =
            exported_secret(stream.get_ref().1, EXPORTER_LABEL).map_err(|error| error.to_string())?;
        let body = read_frame(&mut stream, MAX_JOIN_FRAME, self.handshake)
            .await
            .map_err(|error| format!("no valid join: {error}"))?;
        let join = match Join::decode(&body) {
            Ok(join) => join,
            Err(error @ WireError::Version { .. }) => {
                refuse(&mut stream, &error.to_string()).await;
                return Err(error.to_string());
            }
            Err(error) => return Err(format!("no valid join: {error}")),
        };
        if join_is_proved(&self.secret, &exporter, &join) {
            Ok(Proved { stream, join, local })
        } else {
            Err("its join code is not of this run".to_owned())
        }
    }

    /// Carries messages between the connection and the core until it ends.
    async fn converse(&self, proved: Proved, remote: SocketAddr) {
        let conn = ConnId(self.connections.fetch_add(1, Ordering::Relaxed));
        let (reader, mut writer) = split(proved.stream);
        let (frames, queue) = mpsc::channel(MAX_QUEUED_FRAMES);
        let writer = tokio::spawn(async move {
            // A broken connection shows at the reader too, which tells the core.
            write_frames(&mut writer, queue).await.ok();
        });
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        let (join, connection) = (Box::new(proved.join), Connection { frames, writer });
        let joined = Input::Joined {
            conn,
            join,
            local: proved.local,
            remote,
            connection,
        };
        if self.core.send(joined).await.is_err() {
            return;
        }
        let error = self.pass_on(conn, reader).await;
        self.core
            .send(Input::Closed {
                conn,
                reason: Reason::new(error.to_string()),
            })
            .await
            .ok();
    }

    async fn pass_on(&self, conn: ConnId, mut reader: ReadHalf<TlsStream<TcpStream>>) -> ControlError {
        loop {
            let message = match read_frame(&mut reader, MAX_CONTROL_FRAME, self.idle_silence).await {
                Ok(body) => ToServer::decode(&body),
                Err(error) => return error,
            };
            match message {
                // The core holds at most a bounded number of messages; more wait in the socket.
                Ok(message) => {
                    if self.core.send(Input::Message { conn, message }).await.is_err() {
                        return ControlError::Closed;
                    }
                }
                Err(error) => return error.into(),
            }
        }
    }
}

async fn refuse(stream: &mut TlsStream<TcpStream>, reason: &str) {
    let Ok(frame) = ToNode::refused(reason).encode() else {
        return;
    };
    // The peer may be gone; it was only a courtesy.
    if stream.write_all(&frame).await.is_ok() {
        stream.shutdown().await.ok();
    }
}
