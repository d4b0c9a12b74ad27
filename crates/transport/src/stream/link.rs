//! Makes data connections: the successor's side ([`connect`]) and the predecessor's ([`Door`]).
//!
//! The handshake runs on tokio, apart from the pump: a stranger on the data port costs the chain nothing. Nothing is
//! sent to a peer before its greeting's MAC holds; there are bounds on time and number. Messages:
//! `ka_proto::link`, `docs/protocol.md` "Data connection".

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ka_proto::block::StreamKey;
use ka_proto::limits::LINK_HANDSHAKE_TIMEOUT;
use ka_proto::link::{Accepting, CHALLENGE_LEN, Connecting, HELLO_LEN, LinkHello, PROOF_LEN};
use ka_proto::{NodeId, StreamId, StreamOffset};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::downstream::Downstream;
use super::inbox::Input;
use super::keys::LinkKeys;
use super::shared::Shared;
use super::upstream::Upstream;
use crate::lobby::{Lobby, Place};
use crate::net::tune_data;

/// Connections on the data port that have not proved themselves. One or two are legitimate at a time; the others can only
/// be strangers, and the more places there are the longer a stranger with many addresses needs to fill them.
const MAX_UNPROVED: usize = 512;
/// Pause after accept(2) failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One head of a branch: whom it feeds, and which one it is of those that fed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BranchId {
    pub(crate) node: NodeId,
    pub(crate) number: u64,
}

/// What a data connection belongs to.
#[derive(Debug, Clone)]
pub(crate) struct LinkTarget {
    pub(crate) key: StreamKey,
    /// The keys of the links to its neighbours.
    pub(crate) links: LinkKeys,
    /// This node.
    pub(crate) me: NodeId,
    /// The head of a branch, for its node alone.
    pub(crate) branch: Option<BranchId>,
    pub(crate) shared: Arc<Shared>,
}

impl LinkTarget {
    fn entrance(&self) -> Entrance {
        (self.key.stream(), self.branch.map(|branch| branch.node))
    }
}

/// Someone was turned away at the data port.
#[derive(Debug, Clone)]
pub(crate) struct Stranger {
    pub(crate) from: SocketAddr,
    pub(crate) reason: String,
}

/// A stream, and the node that has an entrance of its own.
type Entrance = (StreamId, Option<NodeId>);

/// The data port: takes connections of successors and hands them to their stream's pump.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    streams: watch::Sender<HashMap<Entrance, LinkTarget>>,
    strangers: mpsc::Sender<Stranger>,
    lobby: Lobby,
}

impl Door {
    pub(crate) fn new(strangers: mpsc::Sender<Stranger>) -> Self {
        let (streams, _) = watch::channel(HashMap::new());
        Self {
            streams,
            strangers,
            lobby: Lobby::new(MAX_UNPROVED),
        }
    }

    /// Lets successors in for this stream.
    pub(crate) fn open(&self, target: LinkTarget) {
        self.streams
            .send_modify(|streams| drop(streams.insert(target.entrance(), target)));
    }

    /// No more successors for this one; one that took its place stays.
    pub(crate) fn close(&self, target: &LinkTarget) {
        let entrance = target.entrance();
        self.streams.send_modify(|streams| {
            if streams
                .get(&entrance)
                .is_some_and(|open| open.branch == target.branch)
            {
                streams.remove(&entrance);
            }
        });
    }

    /// Accepts until the task is dropped.
    pub(crate) async fn serve(self, listener: TcpListener) {
        loop {
            let opening = self.lobby.opening().await;
            match listener.accept().await {
                Ok((socket, from)) => {
                    let (door, place) = (self.clone(), self.lobby.enter(from.ip(), opening));
                    tokio::spawn(async move { door.admit_or_report(socket, from, place).await });
                }
                // Descriptors may be short for a moment; spinning would make it worse.
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    async fn admit_or_report(&self, socket: TcpStream, from: SocketAddr, place: Place) {
        let Err(reason) = place.during(LINK_HANDSHAKE_TIMEOUT, self.admit(socket)).await else {
            return;
        };
        // A flood of strangers loses its later events, not our memory.
        self.strangers
            .try_send(Stranger {
                from,
                reason: format!("data port: {reason}"),
            })
            .ok();
    }

    async fn admit(&self, mut socket: TcpStream) -> Result<(), String> {
        let mut hello = [0; HELLO_LEN];
        socket
            .read_exact(&mut hello)
            .await
            .map_err(|error| describe_read(&error))?;
        let greeting = LinkHello::decode(&hello).map_err(|error| error.to_string())?;
        let target = self.target_of(greeting.stream, greeting.from).await?;
        let key = target.links.of_successor(greeting.from).await;
        let key = key.ok_or("asks for a stream that is closed")?;
        let retained_from = StreamOffset(target.shared.retained_from());
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
        target.shared.post(Input::Successor {
            link,
            resume_from: greeting.resume_offset,
        });
        Ok(())
    }

    /// A successor may hear of the stream before we do: wait for it, within the handshake's time.
    async fn target_of(&self, stream: StreamId, from: NodeId) -> Result<LinkTarget, String> {
        let mut streams = self.streams.subscribe();
        let find = |streams: &HashMap<Entrance, LinkTarget>| {
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

/// Where to get a stream from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Predecessor {
    pub(crate) node: NodeId,
    pub(crate) addr: SocketAddr,
    /// Own address to connect from, where one was chosen.
    pub(crate) local: Option<IpAddr>,
    pub(crate) resume_from: StreamOffset,
    /// Number of this attempt, given back with its result.
    pub(crate) attempt: u64,
}

/// Tries once to connect to the predecessor and hands the connection, or the reason why there is none, to the pump.
pub(crate) async fn connect(target: LinkTarget, predecessor: Predecessor) {
    let attempt = predecessor.attempt;
    let made = timeout(LINK_HANDSHAKE_TIMEOUT, shake_hands(&target, predecessor)).await;
    let input = match made {
        Ok(Ok((link, retained_from))) if retained_from <= predecessor.resume_from => Input::Predecessor {
            link: Box::new(link),
            attempt,
        },
        Ok(Ok((_, retained_from))) => Input::Gap {
            retained_from,
            attempt,
        },
        Ok(Err(reason)) => no_predecessor(predecessor, &reason),
        Err(_) => no_predecessor(predecessor, "no answer"),
    };
    target.shared.post(input);
}

fn no_predecessor(predecessor: Predecessor, reason: &str) -> Input {
    let reason = format!(
        "no connection to the predecessor at {}: {reason}",
        predecessor.addr
    );
    Input::NoPredecessor {
        reason,
        attempt: predecessor.attempt,
    }
}

async fn shake_hands(
    target: &LinkTarget,
    predecessor: Predecessor,
) -> Result<(Upstream, StreamOffset), String> {
    let key = target.links.of_predecessor(predecessor.node);
    let key = key.ok_or("the server has named another predecessor")?;
    let mut socket = dial(predecessor.addr, predecessor.local)
        .await
        .map_err(|error| error.to_string())?;
    let (connecting, hello) = Connecting::start(
        &key,
        target.me,
        predecessor.node,
        fresh_nonce()?,
        predecessor.resume_from,
    );
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
    if answer.retained_from <= predecessor.resume_from {
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
pub(crate) async fn dial(addr: SocketAddr, local: Option<IpAddr>) -> io::Result<TcpStream> {
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
