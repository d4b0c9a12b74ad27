//! The control port's gate: TLS, then a Join with proof, within a time limit and a bounded number of strangers.
//!
//! Operators of nodes come here too (`ka-status --via`), known by their ALPN name and let in by the server's own key.
//! A peer is given nothing but TLS's own handshake until its proof holds; one of another version is told so, because
//! its proof cannot be read. Who is then taken into the run is decided by `ka_proto::run`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ka_proto::auth::{APPROVAL_LABEL, EXPORTER_LABEL, Secret, approval_code, join_is_proved};
use ka_proto::control::{Join, ToNode, ToServer};
use ka_proto::limits::MAX_JOIN_FRAME;
use ka_proto::run::ConnId;
use ka_proto::tunnel::{End, MAX_TUNNEL_MESSAGES};
use ka_proto::{Reason, WireError};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::answers::{Budget, Questions, Received, read_message};
use super::approvals::{ApprovalWanted, Approvals, Asked, Question};
use super::messages::{Connection, Input};
use super::outbox::Outbox;
use super::types::{Contradiction, KnownMacs, ServerEvent};
use super::via::{self, Asking, Operators};
use crate::control::{ControlError, MAX_QUEUED_FRAMES, read_frame, write_frames_first};
use crate::lobby::Lobby;
use crate::net::tune_control;
use crate::stream::Stranger;
use crate::tls::exported_secret;
use crate::tunnel::Tunnelling;

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
    pub(super) doorkeeper: Doorkeeper,
    pub(super) operators: Operators,
    pub(super) connections: Arc<AtomicU64>,
    pub(super) budget: Budget,
}

/// Who decides about those that know the run's secret.
#[derive(Clone)]
pub(super) struct Doorkeeper {
    pub(super) approval: Option<Duration>,
    pub(super) known_macs: Option<KnownMacs>,
    pub(super) contradiction: Option<Contradiction>,
    pub(super) approvals: Approvals,
    pub(super) events: Outbox,
}

/// A proved connection.
struct Proved {
    stream: TlsStream<TcpStream>,
    join: Join,
    local: IpAddr,
    code: String,
}

/// Who has proved what.
enum Admitted {
    /// It knows the run's secret.
    Node(Box<Proved>),
    /// They hold the server's key.
    Operator(Box<Asking>),
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
                        let proved = match place.during(gate.handshake, gate.admit(socket)).await {
                            Ok(Admitted::Node(proved)) => gate.doorkeeper.look_at(*proved, remote).await,
                            Ok(Admitted::Operator(asking)) => {
                                return gate.operators.serve(*asking, remote).await;
                            }
                            Err(reason) => Err(reason),
                        };
                        match proved {
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

    async fn admit(&self, socket: TcpStream) -> Result<Admitted, String> {
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
        if via::is_operator(&stream) {
            let asking = self.operators.admit(stream, self.handshake).await?;
            return Ok(Admitted::Operator(Box::new(asking)));
        }
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
            let exporter =
                exported_secret(stream.get_ref().1, APPROVAL_LABEL).map_err(|error| error.to_string())?;
            let proved = Proved {
                stream,
                join,
                local,
                code: approval_code(&exporter),
            };
            Ok(Admitted::Node(Box::new(proved)))
        } else {
            Err("its join code is not of this run".to_owned())
        }
    }

    /// Carries messages between the connection and the core until it ends.
    async fn converse(&self, proved: Proved, remote: SocketAddr) {
        let conn = ConnId(self.connections.fetch_add(1, Ordering::Relaxed));
        let (reader, mut writer) = split(proved.stream);
        let (frames, queue) = mpsc::channel(MAX_QUEUED_FRAMES);
        let (tunnel_frames, tunnel_queue) = mpsc::channel(MAX_TUNNEL_MESSAGES);
        let tunnels = Tunnelling::new(End::Server, tunnel_frames, |message| {
            ToNode::Tunnel(message).encode()
        });
        let writer = tokio::spawn(async move {
            // A broken connection shows at the reader too, which tells the core.
            write_frames_first(&mut writer, queue, tunnel_queue).await.ok();
        });
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        let questions = Questions::default();
        if proved.join.holds_clone {
            questions.expect_report();
        }
        let connection = Connection {
            frames,
            questions: questions.clone(),
            tunnels: tunnels.clone(),
            writer,
        };
        let (name, join) = (proved.join.name.clone(), Box::new(proved.join));
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
        let error = self.pass_on(conn, reader, &tunnels, &questions).await;
        tunnels.end(&Reason::new(format!("{name} is gone: {error}")));
        self.core
            .send(Input::Closed {
                conn,
                reason: Reason::new(error.to_string()),
            })
            .await
            .ok();
    }

    async fn pass_on(
        &self,
        conn: ConnId,
        mut reader: ReadHalf<TlsStream<TcpStream>>,
        tunnels: &Tunnelling,
        questions: &Questions,
    ) -> ControlError {
        loop {
            let read = read_message(&mut reader, questions, &self.budget, self.idle_silence).await;
            let Received { message, share } = match read {
                Ok(received) => received,
                Err(error) => return error,
            };
            match message {
                ToServer::Tunnel(message) => drop(tunnels.handle(message)),
                // The core holds at most a bounded number of messages; more wait in the socket.
                message => {
                    let input = Input::Message { conn, message, share };
                    if self.core.send(input).await.is_err() {
                        return ControlError::Closed;
                    }
                }
            }
        }
    }
}

impl Doorkeeper {
    /// The operator's list, then the operator.
    async fn look_at(&self, mut proved: Proved, remote: SocketAddr) -> Result<Proved, String> {
        let refused = self.unlisted(&proved.join);
        if let Some(reason) = refused.or_else(|| self.contradicts(&proved.join, remote.ip())) {
            refuse(&mut proved.stream, &reason).await;
            return Err(format!("node {}: {reason}", proved.join.name));
        }
        let Some(limit) = self.approval else {
            return Ok(proved);
        };
        let wanted = ApprovalWanted {
            request: 0,
            name: proved.join.name.to_string(),
            addr: SocketAddr::new(remote.ip().to_canonical(), remote.port()),
            mac: proved.join.mac,
            code: proved.code.clone(),
            limit,
        };
        match self.approvals.ask(wanted) {
            Asked::Everybody => Ok(proved),
            Asked::TooMany => {
                let reason = "too many nodes wait for the operator's word";
                refuse(&mut proved.stream, reason).await;
                Err(format!("node {}: {reason}", proved.join.name))
            }
            Asked::Question(question) => self.wait_for_word(proved, question, limit).await,
        }
    }

    /// Who says another machine's hardware address would be taken for that machine, and its clone for that machine's.
    fn contradicts(&self, join: &Join, remote: IpAddr) -> Option<String> {
        let known = self.contradiction.as_ref()?;
        known.0(remote.to_canonical(), join.mac?)
    }

    fn unlisted(&self, join: &Join) -> Option<String> {
        let known = self.known_macs.as_ref()?;
        match join.mac {
            Some(mac) if known.0(mac) => None,
            Some(mac) => Some(format!(
                "its hardware address {mac} is neither in the node list (--nodes) nor armed: ka-pxe arm {mac} lets it in, \
                 --arm all everybody"
            )),
            None => Some(
                "it did not say its hardware address, and only listed nodes are let in (--nodes): ka-client --listen ADDR \
                 says which of its interfaces it means"
                    .to_owned(),
            ),
        }
    }

    async fn wait_for_word(
        &self,
        mut proved: Proved,
        mut question: Question,
        limit: Duration,
    ) -> Result<Proved, String> {
        let name = proved.join.name.clone();
        let limit_secs = u32::try_from(limit.as_secs()).unwrap_or(u32::MAX);
        let pending = ToNode::Pending { limit_secs }
            .encode()
            .map_err(|error| error.to_string())?;
        let told = proved.stream.write_all(&pending).await;
        told.map_err(|error| error.to_string())?;
        self.events
            .send(ServerEvent::ApprovalWanted(question.wanted.clone()));
        let mut unexpected = [0; 1];
        let word = tokio::select! {
            word = timeout(limit, &mut question.answer) => word,
            // It has nothing to say before it is in: this is its end, or somebody who does not keep to the protocol.
            _ = proved.stream.read(&mut unexpected) => {
                return Err(format!("node {name}: went away while the operator was asked"));
            }
        };
        let reason = match word {
            Ok(Ok(true)) => return Ok(proved),
            Ok(_) => "the operator said no".to_owned(),
            Err(_) => format!("the operator did not answer in {limit_secs} s"),
        };
        refuse(&mut proved.stream, &reason).await;
        Err(format!("node {name}: {reason}"))
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

#[cfg(test)]
mod tests {
    use ka_proto::MacAddr;

    use super::*;

    fn keeper(known: Option<MacAddr>) -> Doorkeeper {
        Doorkeeper {
            approval: None,
            known_macs: known.map(|known| KnownMacs(Arc::new(move |mac| mac == known))),
            contradiction: None,
            approvals: Approvals::default(),
            events: Outbox::new(crossbeam_channel::bounded(1).0),
        }
    }

    fn join(mac: Option<MacAddr>) -> Join {
        Join {
            session: ka_proto::SessionName::new("kainstall").unwrap(),
            name: ka_proto::NodeName::new("n1").unwrap(),
            mac,
            data_addr: ([0, 0, 0, 0], 30764).into(),
            purpose: ka_proto::control::Purpose::Clone,
            start_now: false,
            wants_release: false,
            holds_clone: false,
            nonce: [0; 16],
            proof: [0; 32],
        }
    }

    #[test]
    fn with_a_node_list_only_a_listed_hardware_address_is_let_in() {
        let (listed, other) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        let keeper_of_list = keeper(Some(listed));
        assert_eq!(keeper_of_list.unlisted(&join(Some(listed))), None);
        let refused = keeper_of_list.unlisted(&join(Some(other))).unwrap();
        assert!(
            refused.contains("02:00:00:00:00:02") && refused.contains("--nodes"),
            "{refused}"
        );
        assert!(keeper_of_list.unlisted(&join(None)).unwrap().contains("--listen"));
        assert_eq!(keeper(None).unlisted(&join(None)), None);
    }
}
