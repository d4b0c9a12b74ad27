//! One try to find a server and join its run, and the words for its failure.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ka_proto::auth::{APPROVAL_LABEL, EXPORTER_LABEL, ServerPublicKey, approval_code};
use ka_proto::control::{Join, ToNode, ToServer};
use ka_proto::limits::{AWAY_SILENCE, JOIN_TIMEOUT, MAX_CONTROL_FRAME};
use ka_proto::wiring::Wiring;
use ka_proto::{PROTOCOL_VERSION, Reason, WireError};
use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::JoinEvent;
use super::types::NodeConfig;
use crate::control::{ControlError, read_frame};
use crate::discovery::Question;
use crate::key::{ServerKey, public_key_of};
use crate::net::tune_control;
use crate::stream::link::{fresh_nonce, open_tcp};
use crate::tls::{client_config, exported_secret, is_wrong_key};

/// For a TCP connection to a server that is there; SYNs are repeated after 1 and 3 s.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Longest wait for the operator's word that a server may ask of us, seconds: a day.
const LONGEST_PENDING_SECS: u32 = 24 * 3600;

/// The reason why a try gave no server.
#[derive(Debug)]
pub(super) enum NotJoined {
    /// Another try may do better.
    Yet(String),
    /// Nobody answered, and another try may do better. The text says where, and what the reason may be.
    Silence(String),
    /// The server is there, knows the code, and says no.
    Refused { server: SocketAddr, reason: String },
    /// The server has seen this node done.
    Done { server: SocketAddr },
}

impl NotJoined {
    /// Returns the reason in full, for the end of the search, and in brief, for the line of one try.
    pub(super) fn words(self) -> (String, String) {
        match self {
            Self::Silence(reason) => (reason, "no answer".to_owned()),
            Self::Yet(reason) | Self::Refused { reason, .. } => (reason.clone(), reason),
            Self::Done { server } => {
                let reason = format!("{server}: this node is done");
                (reason.clone(), reason)
            }
        }
    }
}

/// A connection on which a Join was sent.
#[derive(Debug)]
pub(super) struct SentJoin {
    stream: TlsStream<TcpStream>,
    server: SocketAddr,
    local: SocketAddr,
    /// The code that the operator compares, if one is asked.
    code: String,
    /// The wiring that the server knows.
    wiring: Option<Wiring>,
}

/// A connection on which a Join was sent and answered.
#[derive(Debug)]
pub(super) struct AcceptedJoin {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) server: SocketAddr,
    pub(super) local: SocketAddr,
    /// The key that the server signs with.
    pub(super) server_key: ServerPublicKey,
    /// The first message, an acceptance.
    pub(super) accepted: ToNode,
    /// The wiring that the server knows.
    pub(super) wiring: Option<Wiring>,
}

/// Returns the place where a server is looked for, for display.
pub(super) fn describe(config: &NodeConfig) -> String {
    match &config.server {
        Some(server) => format!("connecting to {server}"),
        None => format!(
            "asking for session {} by broadcast on {}",
            config.session,
            list_routes(config)
        ),
    }
}

/// Returns the address of a server: the given one, or the one that answers a broadcast.
pub(super) async fn locate(config: &NodeConfig) -> Result<SocketAddr, NotJoined> {
    match &config.server {
        Some(server) => resolve(server, config.control_port).await,
        None => {
            let question = question(config);
            let routes = question.routes();
            if routes.is_empty() {
                let reason = "no IPv4 interface is up to broadcast on; name the server with -h".to_owned();
                return Err(NotJoined::Yet(reason));
            }
            match question.ask(&routes).await.map_err(NotJoined::Yet)? {
                Some(server) => Ok(server),
                None => Err(NotJoined::Silence(format!(
                    "no answer to broadcasts to UDP port {} on {} (server not started, another session name or join \
                     code, or a network between; -h, from power-on ka.server=, names it)",
                    config.control_port,
                    list_routes(config)
                ))),
            }
        }
    }
}

fn question(config: &NodeConfig) -> Question<'_> {
    Question {
        secret: &config.join.secret,
        session: &config.session,
        listen: config.listen,
        port: config.control_port,
    }
}

fn list_routes(config: &NodeConfig) -> String {
    let routes = question(config).routes();
    let names: Vec<String> = routes
        .iter()
        .map(|route| format!("{} ({})", route.interface, route.broadcast))
        .collect();
    if names.is_empty() {
        "no interface".to_owned()
    } else {
        names.join(", ")
    }
}

/// `HOST`, `HOST:PORT`, `ADDR`, `[ADDR]:PORT`. Names need the system's resolver, which a static binary lacks.
async fn resolve(server: &str, port: u16) -> Result<SocketAddr, NotJoined> {
    let bare = server.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    if let Ok(addr) = server.parse::<SocketAddr>() {
        return Ok(addr);
    }
    let has_port = server
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let query = if has_port {
        server.to_owned()
    } else {
        format!("{server}:{port}")
    };
    let found = lookup_host(query).await;
    found.ok().and_then(|mut addrs| addrs.next()).ok_or_else(|| {
        NotJoined::Yet(format!(
            "the name {server} is not known here; give the server's address with -h"
        ))
    })
}

/// Connects to `server`, checks its key, and asks to join.
pub(super) async fn meet(
    config: &NodeConfig,
    server: SocketAddr,
    data_port: u16,
) -> Result<SentJoin, NotJoined> {
    let yet = |reason: String| NotJoined::Yet(format!("{server}: {reason}"));
    let socket = match timeout(CONNECT_TIME, open_tcp(server, config.listen)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return Err(yet(format!("connecting: {error}"))),
        Err(_) => {
            return Err(NotJoined::Silence(format!(
                "{server}: connecting: no answer in {} s",
                CONNECT_TIME.as_secs()
            )));
        }
    };
    let asked = timeout(JOIN_TIMEOUT, ask_to_join(config, socket, server, data_port)).await;
    match asked {
        Ok(result) => result.map_err(|not| match not {
            NotJoined::Yet(reason) => yet(reason),
            other => other,
        }),
        Err(_) => Err(yet(format!(
            "no answer to the join in {} s",
            JOIN_TIMEOUT.as_secs()
        ))),
    }
}

async fn ask_to_join(
    config: &NodeConfig,
    socket: TcpStream,
    server: SocketAddr,
    data_port: u16,
) -> Result<SentJoin, NotJoined> {
    let yet = |error: &dyn std::fmt::Display| NotJoined::Yet(error.to_string());
    // The server's own word for silence is not known yet, and judged by the machine; the kernel only ends
    // later.
    tune_control(&SockRef::from(&socket), config.silence.max(AWAY_SILENCE)).map_err(|error| yet(&error))?;
    let local = socket.local_addr().map_err(|error| yet(&error))?;
    let own = ServerKey::ephemeral().map_err(|error| yet(&error))?;
    let tls = client_config(config.join.fingerprint, &own).map_err(|error| yet(&error))?;
    let connector = TlsConnector::from(tls);
    // Raw keys have no names; the address only fills the place.
    let name = ServerName::IpAddress(server.ip().into());
    let mut stream = connector.connect(name, socket).await.map_err(|error| {
        NotJoined::Yet(if is_wrong_key(&error) {
            "the server there has another key than the join code says; use the code that it printed"
                .to_owned()
        } else {
            format!("something else listens there, it does not speak KA's protocol: {error}")
        })
    })?;
    let exporter = exported_secret(stream.get_ref().1, EXPORTER_LABEL).map_err(|error| yet(&error))?;
    let mut join = Join {
        session: config.session.clone(),
        name: config.name.clone(),
        mac: config.mac,
        data_addr: SocketAddr::new(config.listen.unwrap_or_else(|| unspecified(server)), data_port),
        purpose: config.purpose,
        start_now: config.start_now,
        wants_release: config.wants_release,
        holds_clone: config.holds_clone,
        wiring: config.wiring.wiring_of(local.ip()),
        nonce: fresh_nonce().map_err(NotJoined::Yet)?,
        proof: [0; 32],
    };
    join.prove(&config.join.secret, &exporter);
    let frame = join.encode().map_err(|error| yet(&error))?;
    stream.write_all(&frame).await.map_err(|error| yet(&error))?;
    let code = exported_secret(stream.get_ref().1, APPROVAL_LABEL).map_err(|error| yet(&error))?;
    Ok(SentJoin {
        stream,
        server,
        local,
        code: approval_code(&code),
        wiring: join.wiring,
    })
}

impl SentJoin {
    /// Waits for the server's answer. If the node must wait for the next round, that may take as long as this
    /// round: the server's pings are answered meanwhile, and its silence is noticed. The answer of an
    /// operator may take long, too; the server is silent then. `tell` gets both.
    pub(super) async fn answer(
        mut self,
        config: &NodeConfig,
        tell: &mut impl FnMut(&JoinEvent),
    ) -> Result<AcceptedJoin, NotJoined> {
        let mut allowed = JOIN_TIMEOUT;
        let mut is_queued = false;
        loop {
            let body = read_frame(&mut self.stream, MAX_CONTROL_FRAME, allowed).await;
            let body = body.map_err(|error| self.not_yet(allowed == JOIN_TIMEOUT, &error))?;
            match ToNode::decode(&body) {
                Ok(ToNode::Queued { round, reason }) => {
                    let reason = reason.to_string();
                    tell(&JoinEvent::Queued { round, reason });
                    allowed = config.silence;
                    is_queued = true;
                }
                Ok(ToNode::Pending { limit_secs }) => {
                    let limit = Duration::from_secs(limit_secs.min(LONGEST_PENDING_SECS).into());
                    let code = self.code.clone();
                    tell(&JoinEvent::Pending { code, limit });
                    allowed = limit + JOIN_TIMEOUT;
                }
                Ok(ToNode::Ping(number)) => {
                    self.send(&ToServer::Pong(number)).await?;
                    if is_queued {
                        self.tell_wiring(config).await?;
                    }
                }
                Ok(accepted @ ToNode::Accepted { .. }) => {
                    let server_key = shown_key(self.stream.get_ref().1)
                        .ok_or_else(|| self.yet(&"the server has shown no Ed25519 key"))?;
                    return Ok(AcceptedJoin {
                        server_key,
                        stream: self.stream,
                        server: self.server,
                        local: self.local,
                        accepted,
                        wiring: self.wiring,
                    });
                }
                Ok(ToNode::Release { .. }) => return Err(NotJoined::Done { server: self.server }),
                Ok(ToNode::Refused { version, reason }) => return Err(self.refused(version, &reason)),
                Ok(ToNode::Abort { reason, again: false }) => {
                    return Err(self.refused(PROTOCOL_VERSION.number(), &reason));
                }
                Ok(ToNode::Abort { reason, again: true }) => return Err(self.yet(&reason)),
                Ok(_) => return Err(self.yet(&"the server answered a join with something else")),
                Err(error) => return Err(self.yet(&error)),
            }
        }
    }

    async fn send(&mut self, message: &ToServer) -> Result<(), NotJoined> {
        let frame = message.encode().map_err(|error| self.yet(&error))?;
        let sent = self.stream.write_all(&frame).await;
        sent.map_err(|error| self.yet(&error))
    }

    /// Tells the server the wiring if it does not know it yet. A round may be long, and the next one is ordered
    /// as soon as it begins.
    async fn tell_wiring(&mut self, config: &NodeConfig) -> Result<(), NotJoined> {
        if self.wiring.is_none() {
            self.wiring = config.wiring.wiring_of(self.local.ip());
            if let Some(wiring) = self.wiring.clone() {
                self.send(&ToServer::Wiring(wiring)).await?;
            }
        }
        Ok(())
    }

    fn not_yet(&self, is_first: bool, error: &ControlError) -> NotJoined {
        match error {
            ControlError::Closed if is_first => self.yet(
                &"the server hung up without a word: this join code is of another run; ka-server prints a new one \
                  for each run",
            ),
            ControlError::Closed => self.yet(&"the server hung up while this node waited to be let in"),
            other => self.yet(other),
        }
    }

    fn yet(&self, reason: &dyn std::fmt::Display) -> NotJoined {
        NotJoined::Yet(format!("{}: {reason}", self.server))
    }

    fn refused(&self, version: u16, reason: &Reason) -> NotJoined {
        let ours = PROTOCOL_VERSION.number();
        let reason = if version == ours {
            reason.to_string()
        } else {
            let differ = WireError::Version {
                theirs: version,
                ours,
            };
            format!("{differ}; use ka-client and ka-server of the same release")
        };
        NotJoined::Refused {
            server: self.server,
            reason,
        }
    }
}

/// Returns the key that the server has shown, and proved to have; its fingerprint is the pinned one.
fn shown_key(connection: &rustls::ClientConnection) -> Option<ServerPublicKey> {
    connection
        .peer_certificates()
        .and_then(|shown| shown.first())
        .and_then(|key| public_key_of(key))
}

/// "Whatever address this connection comes from", in the server's family.
fn unspecified(server: SocketAddr) -> IpAddr {
    if server.is_ipv4() {
        IpAddr::from([0; 4])
    } else {
        IpAddr::from([0; 16])
    }
}
