//! Gathering: who is let in, who replaces whom, and when it is enough.

use super::member::MemberState;
use super::talk::Talk;
use super::{
    ChainPosition, ConnId, Duration, IpAddr, Join, Member, NodeId, NodeInfo, Phase, Reason, Run, RunEvent,
    RunOutput, SocketAddr, ToNode, limits,
};
use crate::control::Purpose;
use crate::identity::Identity;

/// Where a node comes in.
enum Place {
    InRound,
    /// And why not in this one.
    NextRound(String),
}

impl Run {
    /// A proved Join. `local` is the server's address that the node reached, `remote` the node's.
    pub fn handle_join(
        &mut self,
        now: Duration,
        conn: ConnId,
        join: Join,
        local: IpAddr,
        remote: SocketAddr,
    ) {
        let addr = data_addr(&join, remote);
        if let Some(reason) = self.is_elsewhere(&join, remote) {
            return self.refuse(conn, &join, remote, reason);
        }
        let is_ours = join.session == self.config.session;
        if is_ours {
            if let Some(reason) = self.wrong_purpose(&join) {
                return self.refuse(conn, &join, remote, reason);
            }
            if join.purpose == Purpose::Look {
                return self.let_look(now, conn, join, remote, addr);
            }
        }
        if is_ours && !join.holds_clone && self.send_home(conn, &join, addr) {
            return;
        }
        if is_ours && self.contest(now, (conn, &join), local, remote) {
            return;
        }
        self.admit_or_refuse(now, conn, join, local, remote);
    }

    /// Where no living node has the place that it claims.
    pub(super) fn admit_or_refuse(
        &mut self,
        now: Duration,
        conn: ConnId,
        join: Join,
        local: IpAddr,
        remote: SocketAddr,
    ) {
        let addr = data_addr(&join, remote);
        let place = match self.admit(&join, addr) {
            Ok(place) => place,
            Err(reason) => return self.refuse(conn, &join, remote, reason),
        };
        match &place {
            Place::InRound => self.replace_earlier(&join, addr),
            Place::NextRound(_) => self.lose_earlier(now, &join, addr),
        }
        let (wants_release, start_now) = (join.wants_release, join.start_now);
        let holds_clone = join.holds_clone;
        self.last_node += 1;
        let id = NodeId(self.last_node);
        let info = NodeInfo::new(id, join, addr);
        let member = Member {
            info: info.clone(),
            conn: Some(conn),
            server_addr: local,
            wants_release,
            holds_clone,
            heard: now,
            state: match place {
                Place::InRound => MemberState::Waiting,
                Place::NextRound(_) => MemberState::Queued,
            },
            talk: Talk::new(now),
        };
        self.connections.insert(conn, id);
        if let Place::NextRound(why) = place {
            return self.enqueue(member, why);
        }
        self.members.insert(id, member);
        self.send(id, self.accepted(id));
        self.is_back(&info);
        let (present, wanted) = (self.present(), self.config.wanted);
        self.event(RunEvent::NodeJoined {
            node: info,
            present,
            wanted,
        });
        self.count_changed = true;
        if start_now || wanted.is_some_and(|wanted| present >= wanted) || self.is_complete() {
            self.start();
        }
    }

    /// The machine that has this name already, if it is another one: neither of two clones of one name would be good.
    fn namesake(&self, join: &Join, addr: SocketAddr) -> Option<IpAddr> {
        let shared = self.config.unique_names.as_ref()?;
        if shared.iter().any(|shared| shared == join.name.as_str()) {
            return None;
        }
        let identity = Identity {
            mac: join.mac,
            name: join.name.to_string(),
            addr: addr.ip(),
        };
        let members = self.members.values().filter(|member| member.conn.is_some());
        let here = members.map(|member| member.info.identity());
        let mut all = here.chain(self.done.iter().cloned());
        all.find(|other| other.name == identity.name && !other.is(&identity))
            .map(|other| other.addr)
    }

    /// The chain is ordered by data addresses, and successors are sent there: a node that names another machine's would
    /// choose its place, and send others where it likes.
    fn is_elsewhere(&self, join: &Join, remote: SocketAddr) -> Option<String> {
        let (said, seen) = (join.data_addr.ip().to_canonical(), remote.ip().to_canonical());
        if said.is_unspecified() || said == seen || self.config.any_address {
            return None;
        }
        Some(format!(
            "it says that it listens at {said} and comes from {seen}: ka-client --listen {seen} if that is its own address; \
             behind address translation, ka-server --any-address"
        ))
    }

    /// One machine must not have all places.
    fn has_too_many(&self, addr: SocketAddr) -> bool {
        let same = |member: &&Member| member.conn.is_some() && member.info.addr.ip() == addr.ip();
        self.members.values().filter(same).count() >= limits::MAX_NODES_PER_ADDRESS
    }

    fn admit(&self, join: &Join, addr: SocketAddr) -> Result<Place, String> {
        if join.session != self.config.session {
            return Err(format!(
                "this is session {}, not {}",
                self.config.session, join.session
            ));
        }
        if let Some(other) = self.namesake(join, addr) {
            return Err(format!(
                "{other} is called {} already, and no two clones may have one name: give this node another one (--name, \
                 the node list or DHCP)",
                join.name
            ));
        }
        match (&self.phase, self.config.wanted) {
            _ if self.members.len() >= limits::MAX_NODES => {
                Err(format!("{} nodes are here, more cannot join", limits::MAX_NODES))
            }
            _ if self.has_too_many(addr) => Err(format!(
                "{} nodes of {} are here, more cannot join from there",
                limits::MAX_NODES_PER_ADDRESS,
                addr.ip()
            )),
            (Phase::Gathering { .. }, _) => Ok(Place::InRound),
            _ if self.may_wait() || (join.holds_clone && !self.ended) => Ok(Place::NextRound(format!(
                "round {} of the run has begun with {} nodes",
                self.config.round,
                self.order.len()
            ))),
            (Phase::Over | Phase::Leaving { .. }, _) => Err("the run is over".to_owned()),
            (_, Some(wanted)) if self.order.len() >= wanted as usize => Err(format!(
                "the run has begun with the {wanted} nodes that were wanted (-n {wanted})"
            )),
            _ => Err(format!(
                "the run has begun with {} nodes; late nodes cannot join it",
                self.order.len()
            )),
        }
    }

    pub(super) fn refuse(&mut self, conn: ConnId, join: &Join, addr: SocketAddr, reason: String) {
        self.outputs.push_back(RunOutput::Send {
            conn,
            message: ToNode::refused(&reason),
        });
        self.outputs.push_back(RunOutput::Close { conn });
        let reason = Reason::new(reason);
        self.event(RunEvent::NodeRefused {
            addr,
            name: join.name.clone(),
            reason,
        });
    }

    /// A node that comes again with the same name and data address is the same node after a restart: two cannot
    /// listen at one address, and the old connection, which may be half open, has not answered ([`Self::contest`]).
    fn replace_earlier(&mut self, join: &Join, addr: SocketAddr) {
        let same = |member: &&Member| member.info.name == join.name && member.info.addr == addr;
        let Some(old) = self.members.values().find(same).map(|member| member.info.id) else {
            return;
        };
        let reason = Reason::new("a node with the same name and address has joined in its place");
        self.send(
            old,
            ToNode::Abort {
                reason: reason.clone(),
                again: false,
            },
        );
        self.close(old);
        self.leave_gathering(old, reason);
    }

    /// A node went before the start: it is forgotten, not failed.
    pub(super) fn leave_gathering(&mut self, node: NodeId, reason: Reason) {
        let Some(member) = self.members.remove(&node) else {
            return;
        };
        let present = self.present();
        self.event(RunEvent::NodeLeft {
            node: member.info,
            reason,
            present,
        });
        self.count_changed = true;
    }

    pub(super) fn accepted(&self, node: NodeId) -> ToNode {
        let millis = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        ToNode::Accepted {
            node,
            run: self.config.run,
            heartbeat_ms: millis(self.config.heartbeat),
            silence_ms: millis(self.config.silence),
        }
    }

    pub(super) fn present(&self) -> u32 {
        u32::try_from(self.members.len()).unwrap_or(u32::MAX)
    }

    /// Tells everybody how many are there, once a heartbeat: a thousand nodes that come together must not cause a
    /// million messages.
    pub(super) fn announce(&mut self) {
        if !std::mem::take(&mut self.count_changed) || !matches!(self.phase, Phase::Gathering { .. }) {
            return;
        }
        let message = ToNode::Gathering {
            present: self.present(),
            wanted: self.config.wanted,
        };
        let nodes: Vec<NodeId> = self.members.keys().copied().collect();
        for node in nodes {
            self.send(node, message.clone());
        }
    }

    /// Fixes the order: by address, then port, as numbers, so that neighbours in the chain are neighbours on the
    /// switch; those last that may have cost others the round before.
    fn start(&mut self) {
        self.order = self.members.keys().copied().collect();
        let members = &self.members;
        let accused = |addr: SocketAddr| self.accused.contains(&addr.ip());
        self.order.sort_by_key(|node| {
            let info = members.get(node).map(|member| &member.info);
            info.map(|info| (accused(info.addr), info.addr, info.id))
        });
        for (position, node) in (1..).zip(&self.order) {
            if let Some(member) = self.members.get_mut(node) {
                member.info.position = ChainPosition(position);
            }
        }
        self.phase = Phase::Idle;
        let nodes = self.nodes().into_iter().map(|(info, _)| info).collect();
        self.event(RunEvent::Gathered(nodes));
    }

    /// `--wait` is over.
    pub(super) fn gather_timeout(&mut self, now: Duration) {
        if self.waits_for_the_slow(now) {
            return;
        }
        if self.members.is_empty() {
            if self.config.round > 1 && self.config.rounds == u32::MAX {
                // Whoever comes later begins this round again.
                self.config.round -= 1;
            } else {
                self.ended = true;
            }
            self.event(RunEvent::NobodyCame);
            self.be_over(now);
        } else {
            self.start();
        }
    }
}

/// A node that does not know its address leaves it open: it is the one that its connection comes from.
pub(super) fn data_addr(join: &Join, remote: SocketAddr) -> SocketAddr {
    let ip = if join.data_addr.ip().is_unspecified() {
        remote.ip()
    } else {
        join.data_addr.ip()
    };
    SocketAddr::new(ip.to_canonical(), join.data_addr.port())
}
