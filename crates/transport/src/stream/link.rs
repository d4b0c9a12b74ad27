//! Makes data connections: the successor's side ([`connect`]) and the predecessor's ([`LinkListener`]).
//!
//! The handshake runs on tokio, apart from the pump: a stranger on the data port costs the chain nothing.
//! Nothing is sent to a peer before its greeting's MAC holds; there are bounds on time and number. Messages:
//! `ka_proto::link`, `docs/protocol.md` "Data connection".

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ka_proto::block::StreamKey;
use ka_proto::limits::LINK_HANDSHAKE_TIMEOUT;
use ka_proto::link::{Accepting, CHALLENGE_LEN, Connecting, HELLO_LEN, LinkHello, PROOF_LEN};
use ka_proto::{NodeId, NodeName, StreamId, StreamOffset};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::downstream::Downstream;
use super::handle::PumpHandle;
use super::inbox::{BranchId, PumpInput};
use super::keys::LinkKeys;
use super::upstream::Upstream;
use crate::net::tune_data;
use crate::pending::{PendingConnections, PendingSlot};

/// Connections on the data port that have not proved themselves. One or two are legitimate at a time, and the
/// others can only be strangers. With more places a stranger with many addresses needs longer to fill them.
const MAX_UNPROVED: usize = 512;

/// The stream and the pump that a data connection belongs to.
#[derive(Debug, Clone)]
pub(crate) struct LinkTarget {
    pub(crate) key: StreamKey,
    /// The keys of the links to its neighbours.
    pub(crate) links: LinkKeys,
    /// This node.
    pub(crate) me: NodeId,
    /// The head of a branch, for its node alone.
    pub(crate) branch: Option<BranchId>,
    pub(crate) pump: Arc<PumpHandle>,
}

impl LinkTarget {
    fn registration(&self) -> Registration {
        (self.key.stream(), self.branch.map(|branch| branch.node))
    }
}

/// A peer that was turned away.
#[derive(Debug, Clone)]
pub(crate) struct Stranger {
    pub(crate) from: SocketAddr,
    /// Name that the peer gave, if it has proved that it knows the run's secret.
    pub(crate) name: Option<NodeName>,
    pub(crate) reason: String,
}

impl Stranger {
    /// Returns a peer that has proved nothing.
    pub(crate) const fn nameless(from: SocketAddr, reason: String) -> Self {
        Self {
            from,
            name: None,
            reason,
        }
    }

    /// Returns a node that knows the run's secret, and may not join.
    pub(crate) fn named(from: SocketAddr, name: &NodeName, reason: impl Into<String>) -> Self {
        Self {
            from,
            name: Some(name.clone()),
            reason: reason.into(),
        }
    }
}

/// A stream, and the node for which a pump of its own is registered: the head of a branch.
type Registration = (StreamId, Option<NodeId>);

/// The data port: accepts connections of successors, authenticates them, and hands them to their stream's
/// pump.
#[derive(Debug, Clone)]
pub(crate) struct LinkListener {
    streams: watch::Sender<HashMap<Registration, LinkTarget>>,
    strangers: mpsc::Sender<Stranger>,
}

impl LinkListener {
    pub(crate) fn new(strangers: mpsc::Sender<Stranger>) -> Self {
        let (streams, _) = watch::channel(HashMap::new());
        Self { streams, strangers }
    }

    /// From here on successors of this stream are handed to its pump.
    pub(crate) fn register(&self, target: LinkTarget) {
        self.streams
            .send_modify(|streams| drop(streams.insert(target.registration(), target)));
    }

    /// No more successors for this pump; another one registered for the same stays.
    pub(crate) fn unregister(&self, target: &LinkTarget) {
        let registration = target.registration();
        self.streams.send_modify(|streams| {
            if streams
                .get(&registration)
                .is_some_and(|open| open.branch == target.branch)
            {
                streams.remove(&registration);
            }
        });
    }

    /// Accepts until the task is dropped.
    pub(crate) async fn serve(self, listener: TcpListener) {
        let serve = |socket, from, slot| self.clone().authenticate_or_report(socket, from, slot);
        PendingConnections::new(MAX_UNPROVED).serve(listener, serve).await;
    }

    async fn authenticate_or_report(self, socket: TcpStream, from: SocketAddr, slot: PendingSlot) {
        let Err(reason) = slot
            .authenticate(LINK_HANDSHAKE_TIMEOUT, self.authenticate(socket))
            .await
        else {
            return;
        };
        // A flood of strangers loses its later events, not our memory.
        self.strangers
            .try_send(Stranger::nameless(from, format!("data port: {reason}")))
            .ok();
    }

    async fn authenticate(&self, mut socket: TcpStream) -> Result<(), String> {
        let mut hello = [0; HELLO_LEN];
        socket
            .read_exact(&mut hello)
            .await
            .map_err(|error| describe_read(&error))?;
        let greeting = LinkHello::decode(&hello).map_err(|error| error.to_string())?;
        let target = self.target_of(greeting.stream, greeting.from).await?;
        let key = target.links.of_successor(greeting.from).await;
        let key = key.ok_or("asks for a stream that is closed")?;
        let retained_from = StreamOffset(target.pump.progress().retained_from);
        let nonce = fresh_nonce()?;
        let (accepting, greeting, challenge) =
            Accepting::start(&key, target.me, &hello, nonce, retained_from)
                .map_err(|error| error.to_string())?;
        socket
            .write_all(&challenge)
            .await
            .map_err(|error| error.to_string())?;
        let mut proof = [0; PROOF_LEN];
        socket
            .read_exact(&mut proof)
            .await
            .map_err(|error| describe_read(&error))?;
        let opener = accepting.finish(&proof).map_err(|error| error.to_string())?;
        tune_data(&SockRef::from(&socket)).map_err(|error| error.to_string())?;
        let socket = socket.into_std().map_err(|error| error.to_string())?;
        let link = Box::new(Downstream::new(greeting.from, socket, opener));
        target.pump.post(PumpInput::Successor {
            link,
            resume_from: greeting.resume_offset,
        });
        Ok(())
    }

    /// A successor may hear of the stream before we do: wait for it, within the handshake's time.
    async fn target_of(&self, stream: StreamId, from: NodeId) -> Result<LinkTarget, String> {
        let mut streams = self.streams.subscribe();
        let find = |streams: &HashMap<Registration, LinkTarget>| {
            let own = streams.get(&(stream, Some(from)));
            own.or_else(|| streams.get(&(stream, None))).cloned()
        };
        let found = streams.wait_for(|streams| find(streams).is_some()).await;
        found
            .ok()
            .and_then(|streams| find(&streams))
            .ok_or_else(|| "asks for a stream that is closed".to_owned())
    }
}

/// One attempt to connect to a predecessor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dial {
    pub(crate) node: NodeId,
    pub(crate) addr: SocketAddr,
    /// Own address to connect from, if one was chosen.
    pub(crate) local: Option<IpAddr>,
    pub(crate) resume_from: StreamOffset,
    /// Number of this attempt, given back with its result.
    pub(crate) attempt: u64,
}

/// Tries once to connect to the predecessor and hands the connection, or the reason why there is none, to the
/// pump.
pub(crate) async fn connect(target: LinkTarget, dial: Dial) {
    let attempt = dial.attempt;
    let made = timeout(LINK_HANDSHAKE_TIMEOUT, shake_hands(&target, dial)).await;
    let input = match made {
        Ok(Ok((link, retained_from))) if retained_from <= dial.resume_from => PumpInput::Predecessor {
            link: Box::new(link),
            attempt,
        },
        Ok(Ok((_, retained_from))) => PumpInput::Gap {
            retained_from,
            attempt,
        },
        Ok(Err(reason)) => no_predecessor(dial, &reason),
        Err(_) => no_predecessor(dial, "no answer"),
    };
    target.pump.post(input);
}

fn no_predecessor(dial: Dial, reason: &str) -> PumpInput {
    let reason = format!("no connection to the predecessor at {}: {reason}", dial.addr);
    PumpInput::NoPredecessor {
        reason,
        attempt: dial.attempt,
    }
}

async fn shake_hands(target: &LinkTarget, dial: Dial) -> Result<(Upstream, StreamOffset), String> {
    let key = target.links.of_predecessor(dial.node);
    let key = key.ok_or("the server has named another predecessor")?;
    let mut socket = open_tcp(dial.addr, dial.local)
        .await
        .map_err(|error| error.to_string())?;
    let (connecting, hello) = Connecting::start(&key, target.me, dial.node, fresh_nonce()?, dial.resume_from);
    socket
        .write_all(&hello)
        .await
        .map_err(|error| error.to_string())?;
    let mut challenge = [0; CHALLENGE_LEN];
    socket
        .read_exact(&mut challenge)
        .await
        .map_err(|error| describe_read(&error))?;
    let answer = connecting.answer(&challenge).map_err(|error| error.to_string())?;
    if answer.retained_from <= dial.resume_from {
        socket
            .write_all(&answer.proof)
            .await
            .map_err(|error| error.to_string())?;
    }
    tune_data(&SockRef::from(&socket)).map_err(|error| error.to_string())?;
    let socket = socket.into_std().map_err(|error| error.to_string())?;
    Ok((Upstream::new(socket, answer.sealer), answer.retained_from))
}

/// Opens a TCP connection, from `local` where one is given.
pub(crate) async fn open_tcp(addr: SocketAddr, local: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(local) = local.filter(|local| !local.is_unspecified() && local.is_ipv4() == addr.is_ipv4()) {
        socket.bind(SocketAddr::new(local, 0))?;
    }
    socket.connect(addr).await
}

pub(crate) fn fresh_nonce() -> Result<[u8; 16], String> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|error| format!("no random bytes: {error}"))?;
    Ok(nonce)
}

fn describe_read(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        "closed the connection in the middle of the handshake".to_owned()
    } else {
        error.to_string()
    }
}
