//! The threads of a probe: the server's, which sends, and the node's, which listens. Each ends by itself, three
//! seconds after its beginning at the latest. [`super::probe`] has their work.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use crossbeam_channel::{Sender, unbounded};
use ka_proto::group::probe::{
    ASSUMED_LINE, Invitation, Outcome, ProbeAnswer, ProbeNews, ProbeOrder, ProberConfig,
};
use ka_proto::group::{GroupConfig, OVERHEAD, address};
use ka_proto::{NodeId, Reason, RunId};
use tokio::sync::mpsc::UnboundedSender;

use super::interface::Interface;
use super::probe;
use super::receiver::GroupReceiver;
use super::sender::GroupSender;

/// Port of a socket that only keeps the membership of a group: discard (RFC 863). Nobody sends to it.
const UNUSED_PORT: u16 = 9;

/// The probe that the server makes.
#[derive(Debug)]
pub struct Probing {
    answers: Sender<(NodeId, ProbeAnswer)>,
}

/// The news of the server's probe.
#[derive(Debug)]
pub enum ProbeStep {
    /// Send this to a node.
    Order(NodeId, ProbeOrder),
    /// The probe of this number is over, or could not be made for this reason.
    Done(u32, Result<Probed, String>),
}

/// The outcome of a probe, and the group's sender.
#[derive(Debug, Clone)]
pub struct Probed {
    /// The outcome.
    pub outcome: Outcome,
    /// The sender's socket.
    pub socket: Arc<GroupSender>,
    /// Address and port of the group.
    pub group: SocketAddrV4,
    /// Bytes of a shard, by the interface's MTU.
    pub shard_bytes: u16,
}

impl Probing {
    /// Begins to probe these nodes from the interface that has the address `local`. `number` counts the probes
    /// of a run. If an `earlier` probe from there is given, the nodes are only greeted, and the outcome is that of both.
    ///
    /// # Errors
    /// Nothing can be sent to a group from there.
    pub fn start(
        run: RunId,
        local: Ipv4Addr,
        nodes: &[NodeId],
        number: u32,
        earlier: Option<Probed>,
        steps: UnboundedSender<ProbeStep>,
    ) -> io::Result<Self> {
        let group = address::of_sender(run, NodeId::SERVER);
        let (earlier, socket) = match earlier {
            Some(probed) => (Some(probed.outcome), probed.socket),
            None => (None, Arc::new(GroupSender::open(local, group)?)),
        };
        let shard = shard_bytes(socket.largest_datagram()?)?;
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        let config = ProberConfig {
            run,
            invitation: Invitation {
                probe: number,
                group,
                sender: NodeId::SERVER,
                from: socket.local_addr()?,
                key,
            },
            datagram: usize::from(shard) + OVERHEAD,
            line: Interface::with_address(local)?.speed().unwrap_or(ASSUMED_LINE),
            earlier,
        };
        let (answers, inbox) = unbounded();
        let nodes = nodes.to_vec();
        let thread = std::thread::Builder::new().name("ka-probe".to_owned());
        // After the server's end nobody listens to the steps.
        thread.spawn(move || {
            let order = |node, order| drop(steps.send(ProbeStep::Order(node, order)));
            let done = probe::probe(&socket, config, &nodes, &inbox, order).map(|outcome| Probed {
                outcome,
                socket: Arc::clone(&socket),
                group,
                shard_bytes: shard,
            });
            steps
                .send(ProbeStep::Done(number, done.map_err(|error| error.to_string())))
                .ok();
        })?;
        Ok(Self { answers })
    }

    /// Takes a node's answer.
    pub fn answer(&self, node: NodeId, answer: ProbeAnswer) {
        // A probe that is over needs none.
        self.answers.send((node, answer)).ok();
    }
}

/// Returns the bytes of a shard for datagrams of at most so many bytes.
fn shard_bytes(largest: usize) -> io::Result<u16> {
    let shard = largest.saturating_sub(OVERHEAD).min(GroupConfig::MAX_SHARD_BYTES) & !1;
    if shard < GroupConfig::MIN_SHARD_BYTES {
        return Err(io::Error::other("the interface's MTU is too small for multicast"));
    }
    u16::try_from(shard).map_err(io::Error::other)
}

/// The node's part in the probes of its run.
#[derive(Debug, Default)]
pub struct Listening {
    orders: Option<Sender<ProbeOrder>>,
    /// Keeps the membership until the run is over: a switch may need time to learn of a new one.
    membership: Option<GroupReceiver>,
}

impl Listening {
    /// Carries out an order of the server. `local` is the own address of the control connection.
    pub fn handle_order(
        &mut self,
        run: RunId,
        local: IpAddr,
        order: ProbeOrder,
        answers: &UnboundedSender<ProbeAnswer>,
    ) {
        let ProbeOrder::Listen(invitation) = order else {
            if let Some(orders) = &self.orders {
                // A probe that is over needs none.
                orders.send(order).ok();
            }
            return;
        };
        let probe = invitation.probe;
        if let Err(error) = self.listen(run, local, invitation, answers) {
            let why = Reason::new(error.to_string());
            let news = ProbeNews::Unable { why };
            answers.send(ProbeAnswer { probe, news }).ok();
        }
    }

    fn listen(
        &mut self,
        run: RunId,
        local: IpAddr,
        invitation: Invitation,
        answers: &UnboundedSender<ProbeAnswer>,
    ) -> io::Result<()> {
        let IpAddr::V4(local) = local.to_canonical() else {
            return Err(io::Error::other("its own address is not one of IPv4"));
        };
        let kept = SocketAddrV4::new(*invitation.group.ip(), UNUSED_PORT);
        self.membership = Some(GroupReceiver::open(local, kept)?);
        let (orders, inbox) = unbounded();
        let answers = answers.clone();
        let thread = std::thread::Builder::new().name("ka-probe".to_owned());
        thread.spawn(move || {
            let answer = |answer| drop(answers.send(answer));
            probe::listen(local, run, invitation, &inbox, answer);
        })?;
        self.orders = Some(orders);
        Ok(())
    }
}
