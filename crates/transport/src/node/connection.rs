//! The control connection's tasks, and the commands of the facade to the core.

use std::time::Duration;

use crossbeam_channel::Sender;
use ka_proto::Reason;
use ka_proto::control::{ToNode, ToServer};
use ka_proto::limits::MAX_CONTROL_FRAME;
use ka_proto::tunnel::{MAX_TUNNEL_MESSAGES, TunnelEnd};
use ka_proto::wiring::Wiring;
use tokio::io::split;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;

use crate::control::{MAX_QUEUED_FRAMES, read_frame, write_frames_first};
use crate::error::TransportError;
use crate::operator::OperatorAcceptor;
use crate::tunnel::TunnelMux;

/// Messages from the server waiting for the core; more wait in the socket.
const MAX_MESSAGES: usize = 64;
/// The time that leaving waits for its message to be sent.
pub(super) const FLUSH_TIME: Duration = Duration::from_secs(1);

/// A command of the facade to the core.
#[derive(Debug)]
pub(crate) enum Command {
    Answer {
        answer: Answer,
        reply: Sender<Result<(), TransportError>>,
    },
    Leave {
        reason: String,
        reply: Sender<()>,
    },
}

/// An answer of the node to its server.
#[derive(Debug)]
pub(crate) enum Answer {
    Prepared(Vec<u8>),
    Ready,
    Bootable,
    StepFailed { stage: String, reason: String },
    Event(Vec<u8>),
    Wiring(Wiring),
    Report(Vec<u8>),
}

/// The control connection, as the core holds it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) frames: mpsc::Sender<Vec<u8>>,
    pub(super) writer: JoinHandle<()>,
}

/// Splits the connection into a task that reads and one that writes. Operators that come through the server
/// are accepted by `acceptor`, if there is one.
pub(super) fn serve_connection(
    stream: TlsStream<TcpStream>,
    silence: Duration,
    acceptor: Option<OperatorAcceptor>,
) -> (Connection, mpsc::Receiver<Result<ToNode, Reason>>) {
    let (mut reader, mut writer) = split(stream);
    let (frames, queue) = mpsc::channel(MAX_QUEUED_FRAMES);
    let (tunnel_frames, tunnel_queue) = mpsc::channel(MAX_TUNNEL_MESSAGES);
    let tunnels = TunnelMux::new(TunnelEnd::Node, tunnel_frames, |message| {
        ToServer::Tunnel(message).encode()
    });
    let (messages, received) = mpsc::channel(MAX_MESSAGES);
    let writer = tokio::spawn(async move {
        // A broken connection shows at the reader too, which tells the core.
        write_frames_first(&mut writer, queue, tunnel_queue).await.ok();
    });
    tokio::spawn(async move {
        loop {
            let frame = read_frame(&mut reader, MAX_CONTROL_FRAME, silence).await;
            let message = match frame {
                Ok(body) => ToNode::decode(&body).map_err(|error| Reason::new(error.to_string())),
                Err(error) => Err(Reason::new(error.to_string())),
            };
            if let Ok(ToNode::Tunnel(message)) = message {
                // Without an acceptor the tunnel is dropped, which closes it.
                if let (Some((tunnel, from)), Some(acceptor)) = (tunnels.handle(message), &acceptor) {
                    acceptor.accept(tunnel.stream, from);
                }
                continue;
            }
            let is_last = message.is_err();
            if messages.send(message).await.is_err() || is_last {
                break;
            }
        }
        tunnels.end(&Reason::new("the connection to the server has ended"));
    });
    (Connection { frames, writer }, received)
}

/// Sends an answer to the server.
pub(super) fn tell(commands: &mpsc::UnboundedSender<Command>, answer: Answer) -> Result<(), TransportError> {
    let ended = || TransportError::ServerLost {
        reason: "the connection has ended".to_owned(),
    };
    let (reply, told) = crossbeam_channel::bounded(1);
    commands
        .send(Command::Answer { answer, reply })
        .map_err(|_| ended())?;
    told.recv().map_err(|_| ended())?
}

/// Says that the node goes, and waits until that is sent.
pub(super) fn leave(commands: &mpsc::UnboundedSender<Command>, reason: &str) {
    let (reply, left) = crossbeam_channel::bounded(1);
    if commands
        .send(Command::Leave {
            reason: reason.to_owned(),
            reply,
        })
        .is_ok()
    {
        left.recv_timeout(FLUSH_TIME * 2).ok();
    }
}
