//! Finding the server by UDP broadcast: the node's questions and the server's answers. The server's socket
//! also hears the beacons of clones that have booted ([`crate::beacon`] sends them).
//!
//! A server answers only a probe made with the run's secret for its session, so strangers learn nothing, and
//! an answer is shorter than its question. Messages: `ka_proto::discovery`, `docs/protocol.md` "Discovery".

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use ka_proto::SessionName;
use ka_proto::auth::Secret;
use ka_proto::discovery::{BEACON_LEN, Beacon, BeaconAck, BeaconToken, Offer, PROBE_LEN, Probe};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::error::TransportError;
use crate::net::{BroadcastRoute, bind_udp, broadcast_routes};
use crate::server::ServerEvent;
use crate::stream::link::fresh_nonce;

/// Time that a node listens for answers in one try. Servers answer at once; the rest is for a busy network.
const ANSWER_TIME: Duration = Duration::from_millis(1500);
/// A probe is repeated after this long: datagrams get lost.
const REPEAT_AFTER: Duration = Duration::from_millis(400);
/// Pause after a receive error (an ICMP answer to an earlier datagram): it must not become a busy loop.
const ERROR_PAUSE: Duration = Duration::from_millis(50);
/// One byte more than the longest valid datagram, so that a longer one is seen to be too long.
const BUFFER_LEN: usize = BEACON_LEN + 1;
const _: () = assert!(PROBE_LEN < BUFFER_LEN);

/// The server's side.
#[derive(Debug)]
pub(crate) struct Responder {
    sockets: Vec<StdUdpSocket>,
    /// Answers leave from the address that nodes shall connect to.
    answer_from: Option<StdUdpSocket>,
    answers: Answers,
}

/// The answer to questions for one session.
#[derive(Debug, Clone)]
struct Answers {
    secret: Secret,
    session: SessionName,
    control_port: u16,
    beacons: Beacons,
}

/// The queue for beacons, and the token that they must have; without one, none is taken.
#[derive(Debug, Clone)]
pub(crate) struct Beacons {
    pub(crate) token: Option<BeaconToken>,
    pub(crate) events: Sender<ServerEvent>,
}

impl Responder {
    /// Binds the discovery sockets on every interface. If `listen` is one address, it binds that address and
    /// the broadcast addresses of its interface, because a socket bound to a unicast address gets no
    /// broadcasts.
    pub(crate) fn bind(
        listen: IpAddr,
        control_port: u16,
        secret: Secret,
        session: &SessionName,
        beacons: Beacons,
    ) -> Result<Self, TransportError> {
        let at = |addr: IpAddr| bind_udp(SocketAddr::new(addr, control_port));
        let answers = Answers {
            secret,
            session: session.clone(),
            control_port,
            beacons,
        };
        let responder = |sockets, answer_from| Self {
            sockets,
            answer_from,
            answers,
        };
        match listen {
            IpAddr::V4(addr) if !addr.is_unspecified() => {
                let routes =
                    broadcast_routes(Some(listen)).map_err(TransportError::system("listing interfaces"))?;
                let mut addrs: Vec<Ipv4Addr> = routes.iter().map(|route| route.broadcast).collect();
                addrs.extend([Ipv4Addr::BROADCAST, addr]);
                let sockets = addrs
                    .into_iter()
                    .map(|addr| at(addr.into()))
                    .collect::<Result<_, _>>()?;
                Ok(responder(sockets, Some(bind_udp(SocketAddr::new(listen, 0))?)))
            }
            IpAddr::V6(addr) if !addr.is_unspecified() => Ok(responder(vec![at(listen)?], None)),
            _ => Ok(responder(vec![at(Ipv4Addr::UNSPECIFIED.into())?], None)),
        }
    }

    /// Answers until the task is dropped.
    pub(crate) fn serve(self) -> Result<(), TransportError> {
        let convert =
            |socket| UdpSocket::from_std(socket).map_err(TransportError::system("opening discovery"));
        let answer_from = self.answer_from.map(convert).transpose()?.map(Arc::new);
        for socket in self.sockets {
            let socket = Arc::new(convert(socket)?);
            let answer_from = answer_from.clone().unwrap_or_else(|| Arc::clone(&socket));
            let answers = self.answers.clone();
            tokio::spawn(async move {
                loop {
                    let mut buffer = [0; BUFFER_LEN];
                    let Ok((len, from)) = socket.recv_from(&mut buffer).await else {
                        sleep(ERROR_PAUSE).await;
                        continue;
                    };
                    // Anything else is noise or a stranger, and broadcast noise is everywhere: no event.
                    let Some(answer) = answers.to(&buffer[..len], from) else {
                        continue;
                    };
                    // A node asks again when an answer is lost.
                    answer_from.send_to(&answer, from).await.ok();
                }
            });
        }
        Ok(())
    }
}

impl Answers {
    fn to(&self, datagram: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
        if let Ok(probe) = Probe::decode(datagram, &self.secret, &self.session) {
            let offer = Offer {
                control_port: self.control_port,
                nonce: probe.nonce,
            };
            return Some(offer.encode(&self.secret, &self.session).to_vec());
        }
        let token = self.beacons.token.as_ref()?;
        let beacon = Beacon::decode(datagram, token).ok()?;
        let nonce = beacon.nonce;
        let told = self.beacons.events.try_send(ServerEvent::CloneBooted {
            node: beacon.node,
            name: beacon.name.to_string(),
            mac: beacon.mac,
            from,
        });
        // A beacon that could not be passed on is not answered. The clone repeats it.
        told.ok().map(|()| BeaconAck { nonce }.encode(token).to_vec())
    }
}

/// The node's side: what to ask for and from where.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    pub(crate) secret: &'a Secret,
    pub(crate) session: &'a SessionName,
    pub(crate) listen: Option<IpAddr>,
    pub(crate) port: u16,
}

impl Question<'_> {
    /// Returns the interfaces that would be asked on.
    pub(crate) fn routes(&self) -> Vec<BroadcastRoute> {
        broadcast_routes(self.listen).unwrap_or_default()
    }

    /// Broadcasts on `routes` and returns the control address of the first server that answers, if one does
    /// in time.
    pub(crate) async fn ask(&self, routes: &[BroadcastRoute]) -> Result<Option<SocketAddr>, String> {
        let probe = Probe {
            nonce: fresh_nonce()?,
        };
        let datagram = probe.encode(self.secret, self.session);
        let mut sockets = Vec::new();
        for route in routes {
            let socket = bind_udp(SocketAddr::from((route.local, 0))).map_err(|error| error.to_string())?;
            let socket = UdpSocket::from_std(socket).map_err(|error| error.to_string())?;
            sockets.push((socket, SocketAddr::from((route.broadcast, self.port))));
        }
        let (found, mut answers) = tokio::sync::mpsc::channel(1);
        let mut listeners = tokio::task::JoinSet::new();
        let deadline = Instant::now() + ANSWER_TIME;
        for (socket, broadcast) in sockets {
            let (found, secret, session) = (found.clone(), *self.secret, self.session.clone());
            listeners.spawn(async move {
                let mut repeat_at = Instant::now();
                loop {
                    tokio::select! {
                        () = sleep_until(repeat_at) => {
                            // An interface that cannot send now may at the next repeat.
                            socket.send_to(&datagram, broadcast).await.ok();
                            repeat_at += REPEAT_AFTER;
                        }
                        answer = receive_offer(&socket, &secret, &session, &probe) => {
                            found.send(answer).await.ok();
                            return;
                        }
                    }
                }
            });
        }
        drop(found);
        // Listeners end with the set, when this function returns.
        Ok(timeout_at(deadline, answers.recv()).await.ok().flatten())
    }
}

async fn receive_offer(
    socket: &UdpSocket,
    secret: &Secret,
    session: &SessionName,
    probe: &Probe,
) -> SocketAddr {
    loop {
        let mut buffer = [0; BUFFER_LEN];
        let Ok((len, from)) = socket.recv_from(&mut buffer).await else {
            sleep(ERROR_PAUSE).await;
            continue;
        };
        if let Ok(offer) = Offer::decode(&buffer[..len], secret, session, probe) {
            return SocketAddr::new(from.ip(), offer.control_port);
        }
    }
}
