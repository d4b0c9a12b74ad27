//! The control port's listener: it accepts connections, authenticates them within a time limit and a bounded
//! number, and hands nodes to the core and operators to [`super::via`].
//!
//! A node authenticates itself by a Join with a proof of the run's secret, an operator (`ka-status --via`,
//! known by its ALPN name) by the server's own key. A peer is given nothing but TLS's own handshake until its
//! proof holds; one of another version is told so, because its proof cannot be read. `ka_proto::run` decides
//! which nodes take part.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ka_proto::auth::{APPROVAL_LABEL, EXPORTER_LABEL, Secret, approval_code};
use ka_proto::control::{Join, ToNode, ToServer};
use ka_proto::limits::MAX_JOIN_FRAME;
use ka_proto::run::ConnId;
use ka_proto::tunnel::{MAX_TUNNEL_MESSAGES, TunnelEnd};
use ka_proto::{Reason, WireError};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::answers::{Budget, Questions, ReceivedMessage, read_message};
use super::approvals::{ApprovalRequest, ApprovalWanted, Approvals, Question};
use super::connections::Connection;
use super::messages::Input;
use super::outbox::Outbox;
use super::types::{Admission, ServerEvent};
use super::via::{self, ViaRequest, ViaService};
use crate::control::{ControlError, MAX_QUEUED_FRAMES, read_frame, write_frames_first};
use crate::net::tune_control;
use crate::pending::{PendingConnections, PendingSlot};
use crate::stream::Stranger;
use crate::tls::{exported_secret, refuses_our_key};
use crate::tunnel::TunnelMux;

/// Connections that have not proved themselves: a descriptor and at most some tens of KiB each. A room of
/// nodes that starts at once fits; a stranger with many addresses has to fill it anew within the milliseconds
/// that a node needs.
const MAX_UNPROVED: usize = 512;

/// Refusal of a peer whose code holds another key, or another secret.
const OTHER_CODE: &str = "it has the join code of another run";

/// The control port: accepts connections and authenticates them.
#[derive(Clone)]
pub(super) struct ControlListener {
    pub(super) acceptor: TlsAcceptor,
    pub(super) secret: Secret,
    pub(super) handshake: Duration,
    /// For the peer's kernel.
    pub(super) silence: Duration,
    /// Silence after which the peer gives up. While a stream runs, the run itself gives it up earlier.
    pub(super) idle_silence: Duration,
    pub(super) core: mpsc::Sender<Input>,
    pub(super) strangers: mpsc::Sender<Stranger>,
    pub(super) policy: JoinPolicy,
    pub(super) operators: ViaService,
    pub(super) connections: Arc<AtomicU64>,
    pub(super) budget: Budget,
}

/// The rules by which a node that knows the run's secret may join: the operator's list, then the operator.
#[derive(Clone)]
pub(super) struct JoinPolicy {
    pub(super) admission: Admission,
    pub(super) approvals: Approvals,
    pub(super) events: Outbox,
}

/// A connection whose node has proved that it knows the run's secret.
struct ProvedNode {
    stream: TlsStream<TcpStream>,
    join: Join,
    local: IpAddr,
    /// The code that the operator compares, if one is asked.
    code: String,
}

/// A peer that has authenticated itself.
enum Authenticated {
    /// A node, which knows the run's secret.
    Node(Box<ProvedNode>),
    /// An operator, who holds the server's key.
    Operator(Box<ViaRequest>),
}

impl ControlListener {
    /// Accepts until the task is dropped.
    pub(super) async fn serve(self, listener: TcpListener) {
        let serve = |socket, remote, slot| self.clone().serve_peer(socket, remote, slot);
        PendingConnections::new(MAX_UNPROVED).serve(listener, serve).await;
    }

    async fn serve_peer(self, socket: TcpStream, remote: SocketAddr, slot: PendingSlot) {
        let proved = match slot.authenticate(self.handshake, self.authenticate(socket)).await {
            Ok(Authenticated::Node(proved)) => self.policy.decide(*proved, remote).await,
            Ok(Authenticated::Operator(request)) => return self.operators.serve(*request, remote).await,
            Err(reason) => Err(Stranger::nameless(remote, reason)),
        };
        match proved {
            Ok(proved) => self.serve_node(proved, remote).await,
            // A flood of strangers loses its later events; it does not stand in the nodes' way to the core.
            Err(stranger) => drop(self.strangers.try_send(stranger)),
        }
    }

    async fn authenticate(&self, socket: TcpStream) -> Result<Authenticated, String> {
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
            .map_err(|error| no_handshake(&error))?;
        if via::is_operator(&stream) {
            let request = self.operators.authenticate(stream, self.handshake).await?;
            return Ok(Authenticated::Operator(Box::new(request)));
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
        if join.is_proved(&self.secret, &exporter) {
            let exporter =
                exported_secret(stream.get_ref().1, APPROVAL_LABEL).map_err(|error| error.to_string())?;
            let proved = ProvedNode {
                stream,
                join,
                local,
                code: approval_code(&exporter),
            };
            Ok(Authenticated::Node(Box::new(proved)))
        } else {
            Err(OTHER_CODE.to_owned())
        }
    }

    /// Carries messages between the connection and the core until it ends.
    async fn serve_node(&self, proved: ProvedNode, remote: SocketAddr) {
        let conn = ConnId(self.connections.fetch_add(1, Ordering::Relaxed));
        let (reader, mut writer) = split(proved.stream);
        let (frames, queue) = mpsc::channel(MAX_QUEUED_FRAMES);
        let (tunnel_frames, tunnel_queue) = mpsc::channel(MAX_TUNNEL_MESSAGES);
        let tunnels = TunnelMux::new(TunnelEnd::Server, tunnel_frames, |message| {
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
        let connection = Connection::new(frames, tunnels.clone(), questions.clone(), writer);
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
        let error = self.forward_messages(conn, reader, &tunnels, &questions).await;
        tunnels.end(&Reason::new(format!("{name} is gone: {error}")));
        self.core
            .send(Input::Closed {
                conn,
                reason: Reason::new(error.to_string()),
            })
            .await
            .ok();
    }

    async fn forward_messages(
        &self,
        conn: ConnId,
        mut reader: ReadHalf<TlsStream<TcpStream>>,
        tunnels: &TunnelMux,
        questions: &Questions,
    ) -> ControlError {
        loop {
            let read = read_message(&mut reader, questions, &self.budget, self.idle_silence).await;
            let ReceivedMessage { message, share } = match read {
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

impl JoinPolicy {
    /// Lets the node join, or tells it why not.
    ///
    /// # Errors
    /// The node that was sent away, for the server's log.
    async fn decide(&self, mut proved: ProvedNode, remote: SocketAddr) -> Result<ProvedNode, Stranger> {
        let refusal = self.unlisted(&proved.join);
        if let Some(reason) = refusal.or_else(|| self.contradicts(&proved.join, remote.ip())) {
            refuse(&mut proved.stream, &reason).await;
            return Err(Stranger::named(remote, &proved.join.name, reason));
        }
        let Some(limit) = self.admission.approval else {
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
            ApprovalRequest::Everybody => Ok(proved),
            ApprovalRequest::TooMany => {
                let reason = "too many nodes wait for the operator's word";
                refuse(&mut proved.stream, reason).await;
                Err(Stranger::named(remote, &proved.join.name, reason))
            }
            ApprovalRequest::Question(question) => {
                let name = proved.join.name.clone();
                let answered = self.wait_for_approval(proved, question, limit).await;
                answered.map_err(|reason| Stranger::named(remote, &name, reason))
            }
        }
    }

    /// Returns the contradiction to the MAC address that the node gives. With another machine's, it would be
    /// taken for that machine.
    fn contradicts(&self, join: &Join, remote: IpAddr) -> Option<String> {
        let known = self.admission.contradiction.as_ref()?;
        known.0(remote.to_canonical(), join.mac?)
    }

    /// Returns the reason why a node that is not on the operator's list may not join.
    fn unlisted(&self, join: &Join) -> Option<String> {
        let known = self.admission.known_macs.as_ref()?;
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

    async fn wait_for_approval(
        &self,
        mut proved: ProvedNode,
        mut question: Question,
        limit: Duration,
    ) -> Result<ProvedNode, String> {
        let limit_secs = u32::try_from(limit.as_secs()).unwrap_or(u32::MAX);
        let pending = ToNode::Pending { limit_secs }
            .encode()
            .map_err(|error| error.to_string())?;
        let told = proved.stream.write_all(&pending).await;
        told.map_err(|error| error.to_string())?;
        self.events
            .send(ServerEvent::ApprovalWanted(question.wanted.clone()));
        let mut unexpected = [0; 1];
        let answer = tokio::select! {
            answer = timeout(limit, &mut question.answer) => answer,
            // The node must be silent before it is in. So this is its end, or a peer that breaks the
            // protocol.
            _ = proved.stream.read(&mut unexpected) => {
                return Err("it went away while the operator was asked".to_owned());
            }
        };
        let reason = match answer {
            Ok(Ok(true)) => return Ok(proved),
            Ok(_) => "said no".to_owned(),
            Err(_) => format!("did not answer in {limit_secs} s"),
        };
        refuse(&mut proved.stream, &format!("the operator {reason}")).await;
        Err(format!("you {reason}"))
    }
}

/// Returns the reason, for the server's log, why a peer's handshake failed. TLS's own words say little to an
/// operator.
fn no_handshake(error: &io::Error) -> String {
    if refuses_our_key(error) {
        OTHER_CODE.to_owned()
    } else if error.kind() == io::ErrorKind::InvalidData {
        "it does not speak KA's protocol".to_owned()
    } else {
        "it hung up before it had said anything".to_owned()
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
    use ka_mac::MacAddr;

    use super::super::types::KnownMacs;
    use super::*;

    fn policy(known: Option<MacAddr>) -> JoinPolicy {
        JoinPolicy {
            admission: Admission {
                known_macs: known.map(|known| KnownMacs(Arc::new(move |mac| mac == known))),
                ..Admission::default()
            },
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
            wiring: None,
            nonce: [0; 16],
            proof: [0; 32],
        }
    }

    #[test]
    fn with_a_node_list_only_a_listed_hardware_address_is_let_in() {
        let (listed, other) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        let with_list = policy(Some(listed));
        assert_eq!(with_list.unlisted(&join(Some(listed))), None);
        let refused = with_list.unlisted(&join(Some(other))).unwrap();
        assert!(
            refused.contains("02:00:00:00:00:02") && refused.contains("--nodes"),
            "{refused}"
        );
        assert!(with_list.unlisted(&join(None)).unwrap().contains("--listen"));
        assert_eq!(policy(None).unlisted(&join(None)), None);
    }
}
