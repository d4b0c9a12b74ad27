//! Joins: nodes that are let in, that wait, that only look, and that are turned away.

use super::claims::Claim;
use super::member::{Member, MemberState};
use super::talk::Talk;
use super::{
    ChainPosition, ConnId, Duration, IpAddr, Join, NodeId, NodeInfo, Offer, Phase, Reason, Run, RunEvent,
    RunOutput, SocketAddr, ToNode, limits,
};
use crate::control::{Purpose, ToServer};
use crate::identity::Identity;

/// The round in which a node takes part.
enum Place {
    InRound,
    /// The next round, for this reason.
    NextRound(String),
}

/// A proved Join with its connection.
struct Applicant {
    conn: ConnId,
    join: Join,
    /// The server's address that the node reached.
    local: IpAddr,
    /// The address that the node comes from.
    remote: SocketAddr,
    /// The address at which the node's successor reaches it.
    addr: SocketAddr,
}

impl Applicant {
    /// Returns the applicant of a Join. A node that does not know its address leaves it open; then it is the
    /// source address of its connection.
    fn new(conn: ConnId, join: Join, local: IpAddr, remote: SocketAddr) -> Self {
        let ip = if join.data_addr.ip().is_unspecified() {
            remote.ip()
        } else {
            join.data_addr.ip()
        };
        Self {
            addr: SocketAddr::new(ip.to_canonical(), join.data_addr.port()),
            conn,
            join,
            local,
            remote,
        }
    }

    fn identity(&self) -> Identity {
        Identity {
            mac: self.join.mac,
            name: self.join.name.to_string(),
            addr: self.addr.ip(),
        }
    }

    /// True if the member has this name and listens at this address. Two nodes cannot, so it is the same node
    /// before a restart.
    fn is_again(&self, member: &Member) -> bool {
        member.info.name == self.join.name && member.info.addr == self.addr
    }
}

impl From<Claim> for Applicant {
    fn from(claim: Claim) -> Self {
        Self::new(claim.conn, claim.join, claim.local, claim.remote)
    }
}

impl Run {
    /// Handles a proved Join. `local` is the server's address that the node reached, `remote` the node's.
    pub fn handle_join(
        &mut self,
        now: Duration,
        conn: ConnId,
        join: Join,
        local: IpAddr,
        remote: SocketAddr,
    ) {
        let applicant = Applicant::new(conn, join, local, remote);
        if let Some(reason) = self.is_elsewhere(&applicant) {
            return self.refuse(&applicant, reason);
        }
        if applicant.join.session == self.config.session {
            if let Some(reason) = self.wrong_purpose(&applicant.join) {
                return self.refuse(&applicant, reason);
            }
            if applicant.join.purpose == Purpose::Look {
                return self.let_look(now, applicant);
            }
            if self.send_home(&applicant) {
                return;
            }
            if let Some(holder) = self.living_holder(now, &applicant) {
                return self.contest(now, applicant, holder);
            }
        }
        self.admit_or_refuse(now, applicant);
    }

    /// Lets a node in if no living node has its place, or turns it away.
    fn admit_or_refuse(&mut self, now: Duration, applicant: Applicant) {
        let place = match self.admit(&applicant) {
            Ok(place) => place,
            Err(reason) => return self.refuse(&applicant, reason),
        };
        match &place {
            Place::InRound => self.replace_earlier(&applicant),
            Place::NextRound(_) => self.lose_earlier(now, &applicant),
        }
        let Applicant {
            conn,
            join,
            local,
            addr,
            ..
        } = applicant;
        let (start_now, wants_release, holds_clone) = (join.start_now, join.wants_release, join.holds_clone);
        let info = NodeInfo::new(self.roster.next_id(), join, addr);
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
        self.roster.insert(member);
        if let Place::NextRound(why) = place {
            return self.tell_queued(info, why);
        }
        self.send(info.id, self.accepted(info.id));
        self.rounds.note_present(&info.identity());
        let wanted = self.config.wanted;
        self.tell_joined(info, wanted);
        let present = self.roster.present();
        if start_now || wanted.is_some_and(|wanted| present >= wanted) || self.is_complete() {
            self.start();
        }
    }

    /// Tells that a node waits for the next round.
    fn tell_queued(&mut self, node: NodeInfo, why: String) {
        let (round, reason) = (self.rounds.number() + 1, Reason::new(why));
        self.send(
            node.id,
            ToNode::Queued {
                round,
                reason: reason.clone(),
            },
        );
        self.event(RunEvent::NodeQueued { node, round, reason });
    }

    /// Returns the machine that has this name already, if it is another one. Neither of two clones of one
    /// name would be good.
    fn namesake(&self, applicant: &Applicant) -> Option<IpAddr> {
        let shared = self.config.unique_names.as_ref()?;
        if shared.iter().any(|shared| shared == applicant.join.name.as_str()) {
            return None;
        }
        let identity = applicant.identity();
        let here = self.roster.connected().map(|member| member.info.identity());
        let mut all = here.chain(self.rounds.done().iter().cloned());
        all.find(|other| other.name == identity.name && !other.is(&identity))
            .map(|other| other.addr)
    }

    /// Returns the reason if a node names another machine's address. The chain may be ordered by data
    /// addresses, and successors are sent there. So such a node would choose its place, and send others where it
    /// likes.
    fn is_elsewhere(&self, applicant: &Applicant) -> Option<String> {
        let said = applicant.join.data_addr.ip().to_canonical();
        let seen = applicant.remote.ip().to_canonical();
        if said.is_unspecified() || said == seen || self.config.any_address {
            return None;
        }
        Some(format!(
            "it says that it listens at {said} and comes from {seen}: ka-client --listen {seen} if that is its own address; \
             behind address translation, ka-server --any-address"
        ))
    }

    /// Returns the reason why a node of this purpose has no place in this session. `None` if it has one.
    fn wrong_purpose(&self, join: &Join) -> Option<String> {
        let reason = match (join.purpose, &self.config.offer) {
            (Purpose::Stream, Offer::Clone(_)) => {
                "this session clones disks: start the node without -e and --output (and look twice at its disks)"
            }
            (Purpose::Clone, Offer::Stream) => {
                "this session sends a plain stream and clones no disk: start the node with -e COMMAND or --output FILE"
            }
            (Purpose::Look, Offer::Stream | Offer::Anything) => {
                "this session sends a plain stream: there is no plan that --dry-run could show"
            }
            _ => return None,
        };
        Some(reason.to_owned())
    }

    /// True if this machine has too many places. One machine must not have all of them.
    fn has_too_many(&self, addr: SocketAddr) -> bool {
        let same = |member: &&Member| member.info.addr.ip() == addr.ip();
        self.roster.connected().filter(same).count() >= limits::MAX_NODES_PER_ADDRESS
    }

    fn admit(&self, applicant: &Applicant) -> Result<Place, String> {
        let (join, addr) = (&applicant.join, applicant.addr);
        if join.session != self.config.session {
            return Err(format!(
                "this is session {}, not {}",
                self.config.session, join.session
            ));
        }
        if let Some(other) = self.namesake(applicant) {
            return Err(format!(
                "{other} is called {} already, and no two clones may have one name: give this node another one (--name, \
                 the node list or DHCP)",
                join.name
            ));
        }
        let counted = self.roster.counted();
        match (&self.phase, self.config.wanted) {
            _ if self.roster.len() >= limits::MAX_NODES => {
                Err(format!("{} nodes are here, more cannot join", limits::MAX_NODES))
            }
            _ if self.has_too_many(addr) => Err(format!(
                "{} nodes of {} are here, more cannot join from there",
                limits::MAX_NODES_PER_ADDRESS,
                addr.ip()
            )),
            (Phase::Gathering { .. }, _) => Ok(Place::InRound),
            _ if self.rounds.may_wait() || (join.holds_clone && !self.rounds.has_ended()) => {
                Ok(Place::NextRound(format!(
                    "round {} of the run has begun with {counted} nodes",
                    self.rounds.number()
                )))
            }
            (Phase::Over | Phase::Leaving { .. }, _) => Err("the run is over".to_owned()),
            (_, Some(wanted)) if counted >= wanted as usize => Err(format!(
                "the run has begun with the {wanted} nodes that were wanted (-n {wanted})"
            )),
            _ => Err(format!(
                "the run has begun with {counted} nodes; late nodes cannot join it"
            )),
        }
    }

    fn refuse(&mut self, applicant: &Applicant, reason: String) {
        self.dismiss_connection(applicant.conn, ToNode::refused(&reason));
        self.event(RunEvent::NodeRefused {
            addr: applicant.remote,
            name: applicant.join.name.clone(),
            reason: Reason::new(reason),
        });
    }

    /// Sends the last message of a connection that is not a member's.
    fn dismiss_connection(&mut self, conn: ConnId, message: ToNode) {
        self.outputs.push_back(RunOutput::Send { conn, message });
        self.outputs.push_back(RunOutput::Close { conn });
    }

    /// Replaces the earlier node of an applicant. A node that comes again with the same name and data address
    /// is the same node after a restart. Two cannot listen at one address, and the old connection, which may
    /// be half open, has not answered ([`super::claims`]).
    fn replace_earlier(&mut self, applicant: &Applicant) {
        let old = self
            .roster
            .members()
            .find(|member| applicant.is_again(member))
            .map(|member| member.info.id);
        let Some(old) = old else { return };
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

    /// Replaces a node that takes part, as [`Self::replace_earlier`] does.
    fn lose_earlier(&mut self, now: Duration, applicant: &Applicant) {
        let old = self
            .roster
            .connected()
            .find(|member| applicant.is_again(member))
            .map(|member| member.info.id);
        if let Some(old) = old {
            let reason = Reason::new("it started again, and waits for the next round");
            self.lose_for_next_round(now, old, &reason);
        }
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

    /// Tells a node that it is done already, if it is. A node that holds its clone waits for the verdict
    /// instead.
    fn send_home(&mut self, applicant: &Applicant) -> bool {
        if applicant.join.holds_clone || !self.rounds.is_done(&applicant.identity()) {
            return false;
        }
        self.dismiss_connection(applicant.conn, ToNode::Release { delay_ms: 0 });
        self.event(RunEvent::NodeDoneAlready {
            addr: applicant.addr,
            name: applicant.join.name.clone(),
        });
        true
    }
}

/// Claims to a place that another node has (`claims.rs`).
impl Run {
    /// Returns the living node that has the place of the applicant. It has a connection, and was heard
    /// lately. Either it has this name at this address, where two cannot listen, or this name and MAC address
    /// elsewhere. A node that has been silent for as long as a link may be does not count. Then the newcomer
    /// is that node after a restart.
    fn living_holder(&self, now: Duration, applicant: &Applicant) -> Option<NodeId> {
        let (join, addr) = (&applicant.join, applicant.addr);
        let is_it = |member: &&Member| {
            let same_machine =
                join.mac.is_some() && member.info.mac == join.mac && member.info.addr.ip() != addr.ip();
            member.info.name == join.name && (member.info.addr == addr || same_machine)
        };
        let holder = self.roster.connected().find(is_it)?;
        (!self.claims.is_silent(now, holder.heard)).then_some(holder.info.id)
    }

    /// Keeps a claim to a connected node's place until that node has answered, or has not.
    fn contest(&mut self, now: Duration, applicant: Applicant, holder: NodeId) {
        let claim = Claim {
            conn: applicant.conn,
            join: applicant.join,
            local: applicant.local,
            remote: applicant.remote,
            holder,
            since: now,
        };
        if let Err(claim) = self.claims.add(claim) {
            let reason = "too many nodes claim places that others hold".to_owned();
            return self.refuse(&(*claim).into(), reason);
        }
        self.ping_node(now, holder);
    }

    /// Settles claims for a node that has answered the ping of this number. It lives, so a node that claims
    /// its place is another one.
    pub(super) fn hold_place(&mut self, holder: NodeId, number: u64) {
        for claim in self.claims.take_refuted(holder, number) {
            let reason = format!(
                "node {holder} is called {} too, has the same address or hardware address, and answers: two nodes need \
                 two names (--name)",
                claim.join.name
            );
            self.refuse(&claim.into(), reason);
        }
    }

    /// Gives the place of a holder that is gone, or has not answered in time, to its claimant.
    pub(super) fn settle_claims(&mut self, now: Duration) {
        let roster = &self.roster;
        let is_connected = |holder| roster.get(holder).is_some_and(|holder| holder.conn.is_some());
        for claim in self.claims.take_settled(now, is_connected) {
            let applicant = Applicant::from(claim);
            if !self.send_home(&applicant) {
                self.admit_or_refuse(now, applicant);
            }
        }
    }

    /// Refuses all claims, because no node is let in any more.
    pub(super) fn refuse_claims(&mut self, reason: &Reason) {
        for claim in self.claims.take_all() {
            self.refuse(&claim.into(), reason.to_string());
        }
    }
}

/// Nodes that only look (`lookers.rs`).
impl Run {
    /// Gives the specification to a node that only wants to see its plan.
    fn let_look(&mut self, now: Duration, applicant: Applicant) {
        let offer = match &self.config.offer {
            Offer::Clone(offer) if !self.rounds.has_ended() => offer.clone(),
            _ => return self.refuse(&applicant, "the run is over".to_owned()),
        };
        if self.lookers.is_full() {
            let reason = format!(
                "{} nodes look already; try again in a minute",
                limits::MAX_LOOKERS
            );
            return self.refuse(&applicant, reason);
        }
        let (conn, id) = (applicant.conn, self.roster.next_id());
        let info = NodeInfo::new(id, applicant.join, applicant.addr);
        self.lookers.add(conn, info, now + self.config.timeouts.prepare);
        for message in [self.accepted(id), ToNode::Prepare(offer)] {
            self.outputs.push_back(RunOutput::Send { conn, message });
        }
    }

    /// Handles a message of a connection that only looks. Returns false for any other connection.
    pub(super) fn handle_looker(&mut self, conn: ConnId, message: &ToServer) -> bool {
        let is_looker = self.lookers.contains(conn);
        if let Some((node, plan)) = self.lookers.take_answer(conn, message) {
            self.dismiss_connection(conn, ToNode::Release { delay_ms: 0 });
            self.event(RunEvent::NodeLooked { node, plan });
        }
        is_looker
    }

    /// Handles a broken connection. Returns false if it belongs to no looker.
    pub(super) fn looker_left(&mut self, conn: ConnId, reason: &Reason) -> bool {
        let Some(node) = self.lookers.remove(conn) else {
            return false;
        };
        let plan = Err(reason.clone());
        self.event(RunEvent::NodeLooked { node, plan });
        true
    }

    /// Pings the nodes that look, and sends away those that do not answer.
    pub(super) fn ping_lookers(&mut self, now: Duration, number: u64) {
        for conn in self.lookers.late(now) {
            self.outputs.push_back(RunOutput::Close { conn });
            self.looker_left(conn, &Reason::new("no answer"));
        }
        for conn in self.lookers.connections() {
            let message = ToNode::Ping(number);
            self.outputs.push_back(RunOutput::Send { conn, message });
        }
    }
}

impl NodeInfo {
    /// Returns the identity by which the node is known over rounds.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity {
            mac: self.mac,
            name: self.name.to_string(),
            addr: self.addr.ip(),
        }
    }

    /// Returns a member for a node that has just come.
    fn new(id: NodeId, join: Join, addr: SocketAddr) -> Self {
        Self {
            id,
            name: join.name,
            addr,
            mac: join.mac,
            position: ChainPosition(0),
            holds_clone: join.holds_clone,
            wiring: join.wiring,
        }
    }
}
